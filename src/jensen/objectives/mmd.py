"""InfoVAE with the maximum mean discrepancy."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.bound import Level, Output
from jensen.objectives.base import Context, check_weight
from jensen.objectives.codes import check_independent, continuous_levels, flat, full_precision
from jensen.objectives.elbo import Elbo, Price

__all__ = ["Mmd", "mmd"]

WIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the inverse multiquadratics, beside the squared distance 2D of two draws from a standard normal prior."""


class Mmd(Elbo):
    """(1 - alpha) KL(q(z | x) || p(z)) + (alpha + mmd_weight - 1) MMD^2(q(z), p(z)) (Zhao et al. 2019, InfoVAE, eq. 6).

    q(z) is the aggregate posterior: alpha = 1 leaves the single posteriors alone and asks only that all together look
    like the prior (the Wasserstein auto-encoder), alpha = 0 and mmd_weight = 1 is the ELBO. MMD^2 is estimated without
    bias from the batch and as many draws of the prior (see `mmd`), so that it can be negative; a batch of one example
    says nothing of it and counts 0. Levels of a model are summed. Logged is `mmd`, unweighted.

    Args:
        alpha: at most 1; 1 - alpha is the weight of the KL.
        mmd_weight: lambda of the paper; alpha + lambda is at least 1.
        kernel: `imq`, the mean of inverse multiquadratics s 2D / (s 2D + |x - y|^2) of seven widths s, for codes of D
            numbers (Tolstikhin et al. 2018, Wasserstein auto-encoders, who take the sum), or `rbf`, the Gaussian
            exp(-|x - y|^2 / 2D).
        **elbo: arguments of `Elbo`.

    Raises:
        ValueError: there is no such kernel, a number is not finite, or one of the two weights is negative.
    """

    def __init__(
        self, alpha: float = 0.0, mmd_weight: float = 1000.0, kernel: Literal["imq", "rbf"] = "imq", **elbo: Any
    ) -> None:
        super().__init__(**elbo)
        if kernel not in ("imq", "rbf"):
            raise ValueError(f"kernel should be imq or rbf, got {kernel!r}")
        if not alpha <= 1:
            raise ValueError(f"alpha should be at most 1, or the KL would be sought, got {alpha}")
        if not alpha + check_weight("mmd_weight", mmd_weight) >= 1:
            raise ValueError(
                f"alpha + mmd_weight should be at least 1, or the MMD would be sought, got {alpha} + {mmd_weight}"
            )
        self.alpha = alpha
        self.mmd_weight = mmd_weight
        self.kernel: Literal["imq", "rbf"] = kernel

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        check_independent(output.levels)
        found = rate.new_zeros(())
        for level in continuous_levels(output):
            weights = None if output.log_weights is None else output.log_weights.exp()
            found = found + mmd(flat(level.z), _prior_draws(level, context.generator), self.kernel, weights)
        value = (1 - self.alpha) * rate + (self.alpha + self.mmd_weight - 1) * found
        return Price(value, {"mmd": found})


def mmd(z: Tensor, other: Tensor, kernel: Literal["imq", "rbf"] = "imq", weights: Tensor | None = None) -> Tensor:
    """MMD^2 between the distributions that `z` and `other` are draws of, a scalar (Gretton et al. 2012, eq. 4).

    The mean over pairs i != j of the batch of k(z_i, z_j) + k(y_i, y_j) - k(z_i, y_j) - k(y_i, z_j): unbiased even
    where z_i and y_i depend on each other, as where both know the same condition. Samples of one datum are not compared
    with one another.

    Args:
        z: (samples, batch, D), with a gradient.
        other: draws y of what z is compared with, of the same shape.
        kernel: see `Mmd`.
        weights: what each sample counts, (samples, batch), one a batch element in all, where samples enumerate; None:
            they are draws.
    """
    samples, batch, dims = z.shape
    if batch < 2:
        return z.new_zeros(())
    if weights is None:
        both = torch.cat([z, other], 1)  # (samples, 2 x batch, D)
        signs = z.new_ones(2 * batch)
        signs[batch:] = -1
        own = torch.arange(batch, device=z.device).repeat(2)
    else:
        both = torch.cat([z.flatten(0, 1), other.flatten(0, 1)]).unsqueeze(0)
        signs = torch.cat([weights.flatten(), -weights.flatten()])
        own = torch.arange(batch, device=z.device).repeat(2 * samples)
    values = _kernel(_squared_distances(both), kernel, dims)
    values = values.masked_fill(own.unsqueeze(0) == own.unsqueeze(1), 0.0)
    with full_precision(z):
        return ((values @ signs) * signs).sum(-1).mean() / (batch * (batch - 1))


def _kernel(squared: Tensor, kernel: Literal["imq", "rbf"], dims: int) -> Tensor:
    if kernel == "rbf":
        return torch.exp(squared / (-2.0 * dims))
    total = torch.zeros_like(squared)
    for width in WIDTHS:
        scale = 2.0 * dims * width
        total = total + scale / (scale + squared)
    return total / len(WIDTHS)


def _squared_distances(values: Tensor) -> Tensor:
    """Between all pairs of (..., n, D), (..., n, n)."""
    values = values - values.detach().mean(-2, keepdim=True)  # or squares of what is far away lose the differences
    with full_precision(values):
        squares = values.square().sum(-1)
        found = squares.unsqueeze(-1) + squares.unsqueeze(-2) - 2 * (values @ values.mT)
    return found.clamp(min=0)


def _prior_draws(level: Level, generator: torch.Generator | None) -> Tensor:
    """One draw of the level's prior beside each z, (samples, batch, D)."""
    prior = level.prior
    if prior is None:
        raise ValueError("this objective compares codes with their prior, but a level of the model has none")
    shape = level.z.shape
    if isinstance(prior, Normal):  # the only one whose draws can come from a generator of their own
        noise = torch.randn(shape, generator=generator, device=level.z.device, dtype=prior.loc.dtype)
        return flat(prior.loc + prior.scale * noise)
    fixed = prior.expand(shape)
    return flat(fixed.rsample() if fixed.has_rsample else fixed.sample())
