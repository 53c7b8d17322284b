"""The aggregate posterior q(z) = sum_n w_n q(z | x_n): its log density and those of its dimensions, at many points.

Both total correlation and mutual information are made from it. What is large, the log densities of B points under N
components in D dimensions, is never held whole: it is made and summed in tiles that stay in the processor's cache,
and made again where a gradient is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution, Normal
from torch.utils.checkpoint import checkpoint

__all__ = ["log_aggregate"]

VALUES_AT_ONCE = {"cpu": 2**17, "cuda": 2**24}  # log densities in a tile: half a MB on a core, 64 MB on a GPU
COMPONENTS_AT_ONCE = 2048  # in a tile on the CPU: rows that long are summed at full speed
LOG_2 = math.log(2.0)


def log_aggregate(
    z: Tensor, posterior: Distribution, log_weights: Tensor | None = None, *, dims: int = 1
) -> tuple[Tensor, Tensor]:
    """log q(z) and log q(z_d) in nats under a mixture of N factorised distributions.

        q(z_b) = sum_n w_bn prod_d q_n(z_bd),    q(z_bd) = sum_n w_bn q_n(z_bd)

    Stable for any log densities (sums are shifted by their largest term), differentiable once with respect to z, the
    parameters of the components and the weights, and in memory that does not grow with B x N x D. Everything is in
    float32 or wider. For `Normal` the gradient is written out; anything else is recomputed in the backward pass.

    Args:
        z: points, (..., B, *dims).
        posterior: the components, factorised (no event shape), batch shape (*components, *dims); N counts them all.
        log_weights: log w_bn, broadcastable to (B, N); the rows need not sum to one. None: 1/N.
        dims: how many dimensions a latent has: 1 for a vector of D, 3 for (channel, height, width).

    Returns:
        log q(z), (..., B), and log q(z_d), (..., B, *dims).

    Raises:
        ValueError: shapes do not fit, or the posterior is not factorised.
    """
    batch, shape = posterior.batch_shape, posterior.batch_shape[len(posterior.batch_shape) - dims :]
    if len(posterior.event_shape) or len(batch) <= dims or math.prod(batch) == 0:
        raise ValueError(
            f"the posterior should be factorised over the last {dims} of its batch dimensions and have components "
            f"before them, got batch shape {tuple(batch)} and event shape {tuple(posterior.event_shape)}"
        )
    if z.ndim <= dims or z.shape[z.ndim - dims :] != shape:
        raise ValueError(f"z should have shape (..., batch, {', '.join(map(str, shape))}), got {tuple(z.shape)}")
    lead = z.shape[: z.ndim - dims]
    components = math.prod(batch[: len(batch) - dims])
    weights = None if log_weights is None else _rows(_wide(log_weights) / LOG_2, lead, components)
    if type(posterior) is Normal:
        kind = torch.promote_types(torch.promote_types(z.dtype, posterior.loc.dtype), torch.float32)
        loc, scale = (values.to(kind).reshape(components, -1) for values in (posterior.loc, posterior.scale))
        points = z.to(kind).reshape(-1, loc.shape[1])
        joint, marginal = _NormalMixture.apply(points, loc, scale, weights)  # type: ignore[no-untyped-call]
    else:
        joint, marginal = _any_mixture(z.reshape(-1, *shape), posterior, weights, dims)
    if weights is None:
        joint, marginal = joint - math.log(components), marginal - math.log(components)
    return joint.view(lead), marginal.reshape(*lead, *shape)


def _rows(log_weights: Tensor, lead: torch.Size, components: int) -> Tensor:
    """Log weights of every point, (product of lead, components), not copied where all points have the same."""
    try:
        expanded = log_weights.expand(lead[-1], components)
    except RuntimeError:
        raise ValueError(
            f"log_weights should be broadcastable to {(lead[-1], components)}, got {tuple(log_weights.shape)}"
        ) from None
    if len(lead) == 1:
        return expanded
    if log_weights.ndim < 2 or len(log_weights) == 1:
        return log_weights.expand(math.prod(lead), components)
    return expanded.expand(*lead, components).reshape(-1, components)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _tiles(rows: int, components: int, dims: int, device: torch.device) -> Iterator[tuple[slice, list[slice]]]:
    """Some rows with, for each, all components in pieces."""
    values = VALUES_AT_ONCE.get(device.type, VALUES_AT_ONCE["cuda"])
    if device.type == "cpu":
        values *= torch.get_num_threads()
    width = min(components, COMPONENTS_AT_ONCE if device.type == "cpu" else max(1, values // dims))
    height = max(1, values // (width * dims))
    height = -(-rows // -(-rows // height)) if rows else 1  # tiles of like size, without a sliver at the end
    pieces = [slice(start, start + width) for start in range(0, components, width)]
    for start in range(0, rows, height):
        yield slice(start, start + height), pieces


class _NormalMixture(torch.autograd.Function):
    """log sum_n w_bn prod_d N(z_bd; mu_nd, sigma_nd^2), (B,), and the same of each dimension, (B, D).

    z (B, D), loc and scale (N, D), weights log2 w_bn (B, N), or None for ones. Inside, dimensions lead and components
    come last, (D, B, N), and logarithms are to base 2, since exp2 is several times faster than exp on a CPU:
    log2 density = peak - u^2 with u = (z - mu) rate and rate = sqrt(log2(e) / 2) / sigma.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, loc: Tensor, scale: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        points, centres = z.t().contiguous(), loc.t().contiguous()
        rate = (math.sqrt(0.5 / LOG_2) / scale).t().contiguous()
        peak = rate.log2() - 0.5 * math.log2(math.pi / LOG_2)
        points, centres, rate, peak = points.unsqueeze(2), centres.unsqueeze(1), rate.unsqueeze(1), peak.unsqueeze(1)
        joint = z.new_empty(z.shape[0])
        marginal = z.new_empty(z.shape[1], z.shape[0])
        for rows, pieces in _tiles(z.shape[0], loc.shape[0], z.shape[1], z.device):
            for i, piece in enumerate(pieces):
                _, each, whole = _tile(points, centres, rate, peak, weights, rows, piece)
                some, one = _log2_sum(each), _log2_sum(whole)
                marginal[:, rows] = torch.logaddexp2(marginal[:, rows], some) if i else some
                joint[rows] = torch.logaddexp2(joint[rows], one) if i else one
        ctx.save_for_backward(points, centres, rate, peak, weights, joint, marginal)
        return joint * LOG_2, marginal.t() * LOG_2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, joint_grad: Tensor, marginal_grad: Tensor) -> tuple[Tensor | None, ...]:
        points, centres, rate, peak, weights, joint, marginal = ctx.saved_tensors
        joint, joint_grad = joint.unsqueeze(1), joint_grad.unsqueeze(1)
        marginal, marginal_grad = marginal.unsqueeze(2), marginal_grad.t().contiguous().unsqueeze(2)
        z_grad = torch.zeros_like(points[..., 0])
        loc_grad, scale_grad = torch.zeros_like(centres[:, 0]), torch.zeros_like(centres[:, 0])
        weights_grad = weights.new_empty(weights.shape) if ctx.needs_input_grad[3] else None
        for rows, pieces in _tiles(points.shape[1], centres.shape[2], len(points), points.device):
            for piece in pieces:
                u, each, whole = _tile(points, centres, rate, peak, weights, rows, piece)
                # Gradient with respect to each log density: what its component answers for, of both sums.
                shares = each.sub_(marginal[:, rows]).exp2_().mul_(marginal_grad[:, rows])
                whole = whole.sub_(joint[rows]).exp2_().mul_(joint_grad[rows])
                if weights_grad is not None:
                    weights_grad[rows, piece] = shares.sum(0).add_(whole).mul_(LOG_2)
                shares += whole
                scale_grad[:, piece] -= shares.sum(1)
                shares *= u
                loc_grad[:, piece] += shares.sum(1)
                scale_grad[:, piece] += shares.mul(u).sum(1).mul_(2 * LOG_2)
                z_grad[:, rows] -= shares.mul_(rate[..., piece]).sum(2)
        rate = rate[:, 0]
        loc_grad *= rate * (2 * LOG_2)
        scale_grad *= rate * math.sqrt(2 * LOG_2)
        return z_grad.mul_(2 * LOG_2).t(), loc_grad.t(), scale_grad.t(), weights_grad


def _tile(
    points: Tensor, centres: Tensor, rate: Tensor, peak: Tensor, weights: Tensor | None, rows: slice, piece: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """u and the weighted log2 density of each dimension, (D, rows, piece), and of the whole point, (rows, piece)."""
    u = (points[:, rows] - centres[..., piece]).mul_(rate[..., piece])
    each = torch.addcmul(peak[..., piece], u, u, value=-1)
    whole = each.sum(0)
    if weights is not None:
        own = weights[rows, piece]
        whole += own
        each += own
    return u, each, whole


def _log2_sum(terms: Tensor) -> Tensor:
    """log2 of the sum of 2 ** terms over the last dimension; destroys `terms`."""
    # Where every term is -inf, the shift must not be, lest -inf - -inf make a NaN.
    largest = terms.amax(-1, keepdim=True).clamp_(min=torch.finfo(terms.dtype).min)
    return terms.sub_(largest).exp2_().sum(-1).log2_().add_(largest.squeeze(-1))


def _any_mixture(z: Tensor, posterior: Distribution, weights: Tensor | None, dims: int) -> tuple[Tensor, Tensor]:
    """The same for any factorised distribution, some rows at a time, which are computed again in the backward pass."""
    shape, components = z.shape[1:], posterior.batch_shape[: len(posterior.batch_shape) - dims]
    values = VALUES_AT_ONCE.get(z.device.type, VALUES_AT_ONCE["cuda"])
    height = max(1, values // math.prod(posterior.batch_shape))

    def some(points: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
        each = _wide(posterior.log_prob(points.reshape(-1, *(1 for _ in components), *shape)))
        each = each.reshape(len(points), math.prod(components), -1)
        whole = each.sum(2)
        if own is not None:
            each, whole = each + own.unsqueeze(2) * LOG_2, whole + own * LOG_2
        return torch.logsumexp(whole, 1), torch.logsumexp(each, 1)

    parts = [
        checkpoint(some, points, own, use_reentrant=False, preserve_rng_state=False)
        for points, own in zip(
            z.split(height), [None] * len(z) if weights is None else weights.split(height), strict=False
        )
    ]
    joint, marginal = zip(*parts, strict=True)
    return torch.cat(joint), torch.cat(marginal)
