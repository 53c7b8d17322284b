"""Gamma functions of one and several dimensions, and the inverses that moment matching needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["inverse_digamma", "log_multigamma", "match_log_proportions", "match_log_ratio", "multidigamma", "root"]

_STEPS = 200
_RECORDED = 2  # Newton steps from the solution with gradients on: one makes the first derivative right, two the second


def _ladder(x: Tensor, dim: int) -> Tensor:
    """x, x - 1/2, ..., x - (dim - 1)/2 along a new last dimension."""
    return x.unsqueeze(-1) - 0.5 * torch.arange(dim, dtype=x.dtype, device=x.device)


def log_multigamma(x: Tensor, dim: int) -> Tensor:
    """log Gamma_D(x) less its constant D(D-1)/4 log(pi): the sum of log Gamma(x - i/2), i < D."""
    return torch.lgamma(_ladder(x, dim)).sum(-1) if dim > 1 else torch.lgamma(x)


def multidigamma(x: Tensor, dim: int) -> Tensor:
    """The derivative of `log_multigamma`."""
    return torch.digamma(_ladder(x, dim)).sum(-1) if dim > 1 else torch.digamma(x)


def root(function: Callable[[Tensor], tuple[Tensor, Tensor]], guess: Tensor, low: float, high: float) -> Tensor:
    """Elementwise zero of an increasing function by Newton's method, kept in a bracket by bisection.

    Args:
        function: gives value and derivative at a tensor.
        guess: where to start, inside (low, high).
        low: below every zero.
        high: above every zero.
    """
    x = guess
    lower, upper = torch.full_like(x, low), torch.full_like(x, high)
    for _ in range(_STEPS):
        value, slope = function(x)
        lower, upper = torch.where(value <= 0, x, lower), torch.where(value >= 0, x, upper)
        newton = x - value / slope
        inside = (newton > lower) & (newton < upper)
        new = torch.where(inside, newton, torch.where(value == 0, x, (lower + upper) / 2))
        moved = (new - x).abs()
        x = new
        if not bool((moved > 4 * torch.finfo(x.dtype).eps * (1 + x.abs())).any()):
            break
    return x


def inverse_digamma(y: Tensor) -> Tensor:
    """x > 0 with digamma(x) = y (Minka 2000, "Estimating a Dirichlet distribution", appendix C); without gradient."""
    x = torch.where(y >= -2.22, y.exp() + 0.5, -1 / (y - torch.digamma(torch.ones_like(y))))
    for _ in range(6):
        x = x - (torch.digamma(x) - y) / torch.polygamma(1, x)
    return x


def match_log_ratio(log_ratio: Tensor, dim: int = 1) -> Tensor:
    """x > (D-1)/2 with D log(x) - sum_{i<D} digamma(x - i/2) = `log_ratio`.

    The shape of a Gamma distribution (D = 1) with log E[z] - E[log z] = `log_ratio`, or half the degrees of freedom of
    a Wishart one with log det E - E[log det]. Differentiable; NaN where `log_ratio` is not positive.
    """
    edge = (dim - 1) / 2
    with torch.no_grad():
        target = log_ratio.detach()
        possible = target > 0
        target = torch.where(possible, target, 1.0)

        def decreasing(u: Tensor) -> tuple[Tensor, Tensor]:
            x = u.exp() + edge
            slope = torch.polygamma(1, _ladder(x, dim)).sum(-1) - dim / x
            return target - dim * x.log() + multidigamma(x, dim), slope * u.exp()

        # log_ratio tends to D (D+1) / (4 x) far from the edge and to 1 / (x - edge) near it
        guess = torch.log(dim * (dim + 1) / (4 * target) + 1 / (1 + target)).clamp(-60, 60)
        x = root(decreasing, guess, -80.0, 80.0).exp() + edge
        x = torch.where(possible, x, torch.nan)
    if torch.is_grad_enabled() and log_ratio.requires_grad:
        for _ in range(_RECORDED):
            slope = dim / x - torch.polygamma(1, _ladder(x, dim)).sum(-1)
            x = x + (log_ratio - dim * x.log() + multidigamma(x, dim)) / slope
    return x


def match_log_proportions(log: Tensor) -> Tensor:
    """alpha > 0, shape (*batch, K), with digamma(alpha_k) - digamma(sum alpha) = `log`_k.

    One unknown, the sum: alpha_k = inverse_digamma(log_k + digamma(sum)) must add up to it. Differentiable; NaN where
    no alpha has these expected logarithms (sum_k exp(log_k) >= 1).
    """
    count = log.shape[-1]
    with torch.no_grad():
        target = log.detach()
        slack = 1 - target.exp().sum(-1)
        possible = (slack > 0) if count > 1 else torch.zeros_like(slack, dtype=torch.bool)
        target = torch.where(possible.unsqueeze(-1), target, -1.0 - target.new_tensor(float(count)).log())

        def excess(u: Tensor) -> tuple[Tensor, Tensor]:
            total = u.exp()
            parts = inverse_digamma(target + torch.digamma(total).unsqueeze(-1))
            slope = 1 - torch.polygamma(1, total) * (1 / torch.polygamma(1, parts)).sum(-1)
            return (total - parts.sum(-1)) / total, slope + parts.sum(-1) / total - 1

        guess = torch.log((count - 1) / (2 * torch.where(possible, slack, 0.5)))
        total = root(excess, guess.clamp(-30, 50), -40.0, 60.0).exp()
        alpha = inverse_digamma(target + torch.digamma(total).unsqueeze(-1))
        alpha = torch.where(possible.unsqueeze(-1), alpha, torch.nan)
    for _ in range(_RECORDED if torch.is_grad_enabled() and log.requires_grad else 1):
        total = alpha.sum(-1, keepdim=True)
        residual = log - (torch.digamma(alpha) - torch.digamma(total))
        scale = 1 / torch.polygamma(1, alpha)  # the Hessian is diagonal less rank one (Minka 2000, eq. 18)
        shared = 1 / torch.polygamma(1, total) - scale.sum(-1, keepdim=True)
        alpha = alpha + scale * (residual + (scale * residual).sum(-1, keepdim=True) / shared)
    return alpha
