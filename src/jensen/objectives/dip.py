"""DIP-VAE."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from jensen.bound import Output
from jensen.objectives.base import Context, check_weight
from jensen.objectives.codes import check_independent, continuous_levels, flat, full_precision, weights_of
from jensen.objectives.elbo import Elbo, Price

__all__ = ["Dip"]


class Dip(Elbo):
    """KL plus squared distances of the codes' covariance from the prior's (Kumar et al. 2018, DIP-VAE, eqs. 6 and 7).

    The price is KL + off_diagonal sum_{i != j} (cov_ij - t_ij)^2 + diagonal sum_i (cov_ii - t_ii)^2, in type `i` with
    the covariance over the batch of the posterior means, in type `ii` with the covariance of z itself, which is the
    same plus the mean posterior variances. It is the covariance of the batch, divided by its size and not by one less;
    of this device where there are several. Each level of a model with several has its own. Logged are the two
    penalties, weighted: `dip_off_diagonal` and `dip_diagonal`.

    The target t is the covariance of z under the prior: the identity for N(0, I), which is the case of the paper. A
    learned prior p(z | c) has it over the conditions c of the batch: the covariance of its means plus, on the diagonal,
    its mean variances. Both types are then as they are for N(0, I). In type ii a posterior that is the prior costs
    nothing. In type i the means alone are to have all the variance that z has under the prior, so that a posterior that
    is the prior costs nothing off the diagonal, and on it the squares of the prior's mean variances (1 a dimension for
    N(0, I)). A learned prior is moved by the penalties as the posterior is.

    In these terms the sweeps of disentanglement_lib (Locatello et al. 2019) are off_diagonal 1, 2, 5, 10, 20 or 50,
    with diagonal ten times that for type i, and the same for type ii. pythae has no DIP-VAE.

    Args:
        dip: which of the two.
        off_diagonal: weight of squared covariances.
        diagonal: weight of squared differences of variances.
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
        check_independent(output.levels)
        off_diagonal = diagonal = rate.new_zeros(())
        for covariance, target in zip(self.covariances(output), self.targets(output), strict=True):
            distance = covariance - target
            on = torch.eye(len(distance), dtype=torch.bool, device=distance.device)
            off_diagonal = off_diagonal + distance.masked_fill(on, 0.0).square().sum()
            diagonal = diagonal + distance.diagonal().square().sum()
        off_diagonal, diagonal = self.off_diagonal * off_diagonal, self.diagonal * diagonal
        terms = {"dip_off_diagonal": off_diagonal, "dip_diagonal": diagonal}
        return Price(rate + off_diagonal + diagonal, terms)

    def covariances(self, output: Output) -> list[Tensor]:
        """The covariance over the batch of the codes of each level, of their means in type i, (D, D)."""
        found = []
        for level in continuous_levels(output):
            assert level.posterior is not None
            among, within = _covariance(output, level.posterior, level.z)
            found.append(among if self.of_means else among + torch.diag(within))
        return found

    def targets(self, output: Output) -> list[Tensor]:
        """The covariance of each level's z under its prior and the conditions of the batch, (D, D)."""
        found = []
        for level in continuous_levels(output):
            if level.prior is None:
                raise ValueError("this objective compares codes with their prior, but a level of the model has none")
            among, within = _covariance(output, level.prior, level.z)
            found.append(among + torch.diag(within))
        return found


def _covariance(output: Output, distribution: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
    """Of what is drawn over the batch: the covariance of the means, (D, D), and the mean variances, (D,)."""
    dims = z.shape[2:]
    mean, variance = (
        flat(values.expand(torch.broadcast_shapes(values.shape, (1, 1, *dims))))
        for values in (distribution.mean, distribution.variance)
    )
    if mean.shape[:2] == (1, 1):  # the same for all
        return mean.new_zeros(mean.shape[-1], mean.shape[-1]), variance[0, 0]
    mean, variance = (values.expand(-1, z.shape[1], -1) for values in (mean, variance))
    shares = weights_of(output, mean).unsqueeze(-1) / z.shape[1]
    centred = mean - (shares * mean).sum((0, 1))
    with full_precision(mean):
        covariance = (shares * centred).flatten(0, 1).mT @ centred.flatten(0, 1)
    return covariance, (shares * variance).sum((0, 1))
