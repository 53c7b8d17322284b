"""One measure for all: ELBOs under our log joint at the same 10,000 draws, errors against the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.models.case import Case, Draws, Reference
from jensen.inference.target import Target

__all__ = ["Accuracy", "Judge"]

SEED = 104_729
CHUNK = 1_000
LOG_TWO_PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Accuracy:
    """Of reported parameters against their reference.

    Attributes:
        error, worst_error: |posterior mean - reference| in reference sds, mean and maximum over parameters.
        sd_ratio, lowest_ratio, highest_ratio: sd over reference sd: median, minimum and maximum over parameters.
    """

    error: float
    worst_error: float
    sd_ratio: float
    lowest_ratio: float
    highest_ratio: float


class Judge:
    """Of approximations to one posterior.

    Args:
        case: model and data.
        reference: what is true.
        draws: of each approximation.
    """

    def __init__(self, case: Case, reference: Reference, draws: int = 10_000) -> None:
        self.case, self.reference = case, reference
        self.target = Target(case.model, case.data)
        self.size = self.target.coordinates.size
        generator = torch.Generator().manual_seed(SEED)
        self.noise = torch.randn(draws, self.size, dtype=torch.float64, generator=generator)

    def vectors(self, sites: Mapping[str, tuple[Any, Any]]) -> tuple[Tensor, Tensor]:
        """Means and standard deviations by latent as two vectors, (D,), in our order of coordinates."""
        slices = self.target.coordinates.slices
        if set(slices) != set(sites):
            raise ValueError(f"latents are {sorted(slices)}, but the approximation has {sorted(sites)}")
        both = torch.zeros(2, self.size, dtype=torch.float64)
        for name, where in slices.items():
            for row, numbers in zip(both, sites[name], strict=True):
                row[where] = torch.as_tensor(numbers, dtype=torch.float64).reshape(-1)
        return both[0], both[1]

    @torch.no_grad()
    def elbo(self, loc: Tensor, scale: Tensor) -> float:
        """ELBO in nats of independent normals on the real scale; -inf where it is not finite."""
        points = loc + scale * self.noise
        log_joint = torch.cat([self.target.log_density(part) for part in points.split(CHUNK)])
        entropy = scale.log().sum() + 0.5 * self.size * (1.0 + LOG_TWO_PI)
        return finite(float(log_joint.mean() + entropy))

    def normal_draws(self, loc: Tensor, scale: Tensor) -> Draws:
        """Latents on their supports, draws of independent normals on the real scale."""
        return self.target.coordinates.constrain(loc + scale * self.noise)[0]

    def moments(self, draws: Draws) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the reported parameters, in the reference's order."""
        found = self.case.reported(draws)
        table = torch.stack([found[name] for name in self.reference.names], 1)
        return table.mean(0), table.std(0)

    def accuracy(self, draws: Draws) -> Accuracy:
        """Of draws of the latents."""
        return self.compared(*self.moments(draws))

    def compared(self, means: Tensor, sds: Tensor) -> Accuracy:
        """Of means and standard deviations of the reported parameters."""
        errors = ((means - self.reference.means) / self.reference.sds).abs()
        ratios = sds / self.reference.sds
        summary = (errors.mean(), errors.max(), ratios.median(), ratios.min(), ratios.max())
        return Accuracy(*(float(number) for number in summary))

    def apart(self, one: Draws, other: Draws) -> float:
        """Largest difference of two approximations' means, in reference sds."""
        return float(((self.moments(one)[0] - self.moments(other)[0]) / self.reference.sds).abs().max())


def finite(elbo: float) -> float:
    """-inf for what is no number: an approximation without an ELBO is worst."""
    return elbo if math.isfinite(elbo) else -math.inf
