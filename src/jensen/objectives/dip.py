"""DIP-VAE."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from jensen.bound import Output
from jensen.objectives.base import Context, check_weight
from jensen.objectives.codes import continuous_levels, flat, full_precision, weights_of
from jensen.objectives.elbo import Elbo, Price

__all__ = ["Dip"]


class Dip(Elbo):
    """KL plus squared distances of the codes' covariance from the identity (Kumar et al. 2018, DIP-VAE, eqs. 6 and 7).

    The price is KL + off_diagonal sum_{i != j} cov_ij^2 + diagonal sum_i (cov_ii - 1)^2, in type `i` with the
    covariance over the batch of the posterior means, in type `ii` with the covariance of z itself, which is the same
    plus the mean posterior variances. It is the covariance of the batch, divided by its size and not by one less; of
    this device where there are several. Each level of a model with several has its own. Logged are the two penalties,
    weighted: `dip_off_diagonal` and `dip_diagonal`.

    In these terms the sweeps of disentanglement_lib (Locatello et al. 2019) are off_diagonal 1, 2, 5, 10, 20 or 50,
    with diagonal ten times that for type i, and the same for type ii. pythae has no DIP-VAE.

    Args:
        dip: which of the two.
        off_diagonal: weight of squared covariances.
        diagonal: weight of squared (variance - 1).
        **elbo: arguments of `Elbo`.

    Raises:
        ValueError: there is no such type, or a weight is negative or not finite.
    """

    def __init__(
        self, dip: Literal["i", "ii"] = "ii", off_diagonal: float = 10.0, diagonal: float = 10.0, **elbo: Any
    ) -> None:
        super().__init__(**elbo)
        if dip not in ("i", "ii"):
            raise ValueError(f"dip should be i or ii, got {dip!r}")
        self.of_means = dip == "i"
        self.off_diagonal = check_weight("off_diagonal", off_diagonal)
        self.diagonal = check_weight("diagonal", diagonal)

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        off_diagonal = diagonal = rate.new_zeros(())
        for covariance in self.covariances(output):
            variance = covariance.diagonal()
            off_diagonal = off_diagonal + covariance.square().sum() - variance.square().sum()
            diagonal = diagonal + (variance - 1).square().sum()
        off_diagonal, diagonal = self.off_diagonal * off_diagonal, self.diagonal * diagonal
        terms = {"dip_off_diagonal": off_diagonal, "dip_diagonal": diagonal}
        return Price(rate + off_diagonal + diagonal, terms)

    def covariances(self, output: Output) -> list[Tensor]:
        """The covariance over the batch of the codes of each level, (D, D)."""
        found = []
        for level in continuous_levels(output):
            assert level.posterior is not None
            means = flat(level.posterior.mean)
            shares = weights_of(output, means).unsqueeze(-1) / means.shape[1]
            centred = means - (shares * means).sum((0, 1))
            with full_precision(means):
                covariance = (shares * centred).flatten(0, 1).mT @ centred.flatten(0, 1)
            if not self.of_means:
                covariance = covariance + torch.diag((shares * flat(level.posterior.variance)).sum((0, 1)))
            found.append(covariance)
        return found
