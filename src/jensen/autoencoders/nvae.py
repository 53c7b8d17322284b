"""NVAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.distributions import Normal

from jensen.autoencoders.hierarchy import Choose, DeepVAE, gaussian, repeated
from jensen.config import ModelKind
from jensen.likelihoods import soft_clamp

__all__ = ["NVAE", "residual_normal"]

MEAN_LIMIT = 5.0


def residual_normal(prior: Normal, change: Normal) -> Normal:
    """q = N(mu_p + delta mu, (sigma_p delta sigma)^2): a posterior in the units of its prior.

    Where the prior moves, the posterior moves along, and KL = (delta mu^2 / sigma_p^2 + delta sigma^2 - log delta
    sigma^2 - 1) / 2 (Vahdat & Kautz 2020, eq. 2).

    Args:
        prior: p(z_l | z_>l) = N(mu_p, sigma_p^2).
        change: delta mu as its mean and delta sigma as its standard deviation.
    """
    return Normal(prior.loc + change.loc, prior.scale * change.scale, validate_args=False)


class NVAE(DeepVAE):
    """q(z_l | x, z_>l) as a change to p(z_l | z_>l), from the features of x and the state of the walk down.

    Vahdat & Kautz 2020, "NVAE: a deep hierarchical variational autoencoder": many groups of latents on a few scales,
    cells of depthwise separable convolutions (``net`` cells, the default here), a posterior relative to the prior
    (`residual_normal`), and a penalty on the largest singular values (``spectral``). Arguments: `DeepVAE`.
    """

    kind: ModelKind = "nvae"
    merged = True
    usual_net: Literal["auto", "cells"] = "cells"

    def _inference(self, x: Tensor, condition: Tensor | None, samples: int, draw: Callable[[Normal], Tensor]) -> Choose:
        features = [repeated(each, samples) for each in self.way_up(x, condition)]
        heads = list(reversed(self.way_up.heads))

        def choose(i: int, prior: Normal, state: Tensor | None) -> tuple[Tensor, Normal]:
            change = gaussian(heads[i](features[i], state))
            change = Normal(soft_clamp(change.loc, MEAN_LIMIT), change.scale, validate_args=False)
            posterior = residual_normal(prior, change)
            return draw(posterior), posterior

        return choose
