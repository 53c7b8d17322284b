"""Distributions over vectors whose numbers depend on each other, with a term of log p(z) for each number.

What a `Level` holds is a term for each dimension. Here the terms sum to log p(z), so that everything made of sums (the
bound, importance weights) is exact. What looks at one dimension by itself is not about these distributions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints, register_kl

__all__ = ["Chained", "FullNormal", "NormalMixture"]

VALUES_AT_ONCE = 2**24
"""log densities of components that are held together where no gradient is asked for: 64 MB"""


class Chained(Distribution):
    """Base of these distributions: batch shape (..., D), no event shape, and no dimension independent of the others."""


class FullNormal(Chained):
    """N(mu, L L^T), a normal distribution of vectors with a full covariance.

    Args:
        loc: mu, (..., D).
        tril: L, (..., D, D), lower triangular with a positive diagonal.
    """

    arg_constraints = {"loc": constraints.real, "tril": constraints.real}  # noqa: RUF012  (the base declares it so)
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Tensor, tril: Tensor) -> None:
        self.loc, self.tril = loc, tril
        super().__init__(loc.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Of each number by itself, (..., D)."""
        variance: Tensor = self.tril.square().sum(-1)
        return variance

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        away: Tensor = (self.tril @ noise.unsqueeze(-1)).squeeze(-1)
        return self.loc + away

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z_d | z_<d) in nats, (..., D): that of the d-th number of L^-1 (z - mu), less log L_dd."""
        away = (value - self.loc).unsqueeze(-1)
        noise: Tensor = torch.linalg.solve_triangular(self.tril, away, upper=False).squeeze(-1)
        log_diagonal = self.tril.diagonal(dim1=-2, dim2=-1).log()
        return -0.5 * noise.square() - log_diagonal - 0.5 * math.log(2 * math.pi)

    def unsqueeze(self) -> FullNormal:
        """The same with a leading dimension of size 1."""
        return FullNormal(self.loc.unsqueeze(0), self.tril.unsqueeze(0))


@register_kl(FullNormal, Normal)  # type: ignore[untyped-decorator]
def _kl_full_factorised(q: FullNormal, p: Normal) -> Tensor:
    """Terms that sum to KL(q || p) for p independent in each dimension, (..., D).

    For p = N(0, I), 1/2 (tr L L^T + mu^T mu - D) - log det L, one row of L at a time.
    """
    log_diagonal = q.tril.diagonal(dim1=-2, dim2=-1).log()
    second = q.variance + (q.loc - p.loc).square()
    return p.scale.log() - log_diagonal + 0.5 * second / p.scale.square() - 0.5


class NormalMixture(Chained):
    """sum_k w_k p_k(z), over K components that are `Normal` (independent dimensions) or `FullNormal`.

    Args:
        log_weights: log w, (K,), which sum to one.
        components: batch shape (K, D).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (the base class declares it so)
    support = constraints.real

    def __init__(self, log_weights: Tensor, components: Normal | FullNormal) -> None:
        self.log_weights, self.components = log_weights, components
        super().__init__(components.batch_shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.log_weights.exp() @ self.components.mean

    @property
    def variance(self) -> Tensor:
        weights = self.log_weights.exp()
        return weights @ (self.components.variance + self.components.mean.square()) - self.mean.square()

    def log_prob(self, value: Tensor) -> Tensor:
        """Terms that sum to log p(z) in nats, (..., D).

        With r_k(z) the probability that component k has made z, log p(z) = sum_k r_k (log p_k(z) + log w_k - log r_k).
        The term of z_d is that of p_k(z_d) in it, and an equal share of what is of no dimension. Their sum is to be
        differentiated; the gradient of a term by itself is no more than its share of that.
        """
        if torch.is_grad_enabled():
            return self._log_prob(value)
        rows = value.reshape(-1, value.shape[-1])
        at_once = max(1, VALUES_AT_ONCE // self.components.batch_shape.numel())
        return torch.cat([self._log_prob(part) for part in rows.split(at_once)]).view(value.shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        if isinstance(self.components, FullNormal):
            each = self.components.log_prob(value.unsqueeze(-2))  # (..., K, D)
            joint = each.sum(-1) + self.log_weights
        else:
            each = None
            scale = self.components.scale
            away = (value.unsqueeze(-2) - self.components.loc) * scale.reciprocal()
            constant = scale.log().sum(-1) + 0.5 * math.log(2 * math.pi) * scale.shape[-1]
            joint = self.log_weights - constant - 0.5 * away.square().sum(-1)
        whole = joint.logsumexp(-1, keepdim=True) / value.shape[-1]
        with torch.no_grad():
            of_each = self._expected_terms(value, joint.softmax(-1), each)
            of_each -= of_each.mean(-1, keepdim=True)
        return whole + of_each

    def _expected_terms(self, value: Tensor, chances: Tensor, each: Tensor | None) -> Tensor:
        """sum_k r_k log p_k(z_d) but for a constant, (..., D), from r, (..., K)."""
        if each is not None:
            return (chances.unsqueeze(-1) * each).sum(-2)
        loc, scale = self.components.mean, self.components.stddev
        precision = scale.square().reciprocal()
        spread = value.square() * (chances @ precision) - 2 * value * (chances @ (loc * precision))
        return -0.5 * (spread + chances @ (loc.square() * precision)) - chances @ scale.log()

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), temperature: float = 1.0) -> Tensor:
        """Draws (*sample_shape, D); `temperature` scales the spread within a component."""
        count = math.prod(sample_shape)
        chosen = torch.multinomial(self.log_weights.exp(), count, replacement=True)
        mean = self.components.mean[chosen]
        if isinstance(self.components, FullNormal):
            drawn = FullNormal(mean, self.components.tril[chosen]).rsample()
        else:
            drawn = Normal(mean, self.components.scale[chosen], validate_args=False).sample()
        return (mean + temperature * (drawn - mean)).view(*sample_shape, *self.batch_shape)
