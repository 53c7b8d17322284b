"""Every kind of factor of q, with parameters away from their start, for tests that all of them must pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from jensen import families as f
from jensen.gradients.posterior import Draw
from jensen.inference import supports as s
from jensen.inference.model import Batch
from jensen.inference.supports import Variable
from jensen.inference.variational.amortised import AmortisedNormal
from jensen.inference.variational.base import Factor
from jensen.inference.variational.exponential import ExponentialFactor, discrete_factor
from jensen.inference.variational.flow import FlowFactor
from jensen.inference.variational.full_rank import FullRankNormal
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.inference.variational.low_rank import LowRankNormal

ROWS = 4
SIZES = {"rows": ROWS, "groups": 3}

MIXED: dict[str, Variable] = {"a": s.real(2), "b": s.positive(), "c": s.simplex(3)}
LOCAL: dict[str, Variable] = {"v": s.real(2, plate="rows"), "w": s.positive(plate="rows")}
ONE_EACH: dict[str, Variable] = {
    "real": s.real(2),
    "positive": s.positive(2),
    "unit_interval": s.unit_interval(2),
    "bounded": s.bounded(-1.0, 3.0, 2),
    "simplex": s.simplex(2, 4),
    "ordered": s.ordered(3),
    "correlation_cholesky": s.correlation_cholesky(3),
}


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


DATA = Batch({"x": torch.randn(ROWS, 3, dtype=torch.float64, generator=seeded(5))}, torch.arange(ROWS))


def encoder() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 6)).double()


@dataclass(frozen=True)
class Case:
    """A factor, the latents that it is of, and what it can do."""

    build: Callable[[], Factor]
    variables: Mapping[str, Variable]
    native: bool = False  # its density is on the latents' own support
    entropy: bool = True
    mean: bool = True
    rowwise: bool = False

    def make(self, seed: int = 0, spread: float = 0.3) -> Factor:
        factor = self.build()
        generator = seeded(seed)
        with torch.no_grad():
            for name, parameter in factor.named_parameters():
                if not parameter.requires_grad:
                    continue
                unit = 30 if "change" in name else 1  # a flow's weights are counted in small units
                parameter.add_(unit * spread * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator))
        return factor

    @property
    def discrete(self) -> bool:
        return any(v.discrete for v in self.variables.values())

    def coordinates(self, draw: Draw) -> Tensor:
        """Real coordinates of draws, (samples, D), by the supports' own transforms, in the order of the factor."""
        parts = [v.transform.inv(draw.values[n]) for n, v in self.variables.items()]
        return self.flat([part.unsqueeze(-1) if part.dim() == 1 else part for part in parts])

    def flat(self, coordinates: list[Tensor]) -> Tensor:
        """(samples, D) of each latent's, (samples, *shape): row by row where rows are vectors of their own."""
        if not self.rowwise:
            return torch.cat([c.reshape(len(c), -1) for c in coordinates], 1)
        return torch.cat([c.reshape(len(c), ROWS, -1) for c in coordinates], 2).flatten(1)


def _diagonal(name: str) -> Case:
    variables = {"z": ONE_EACH[name]}
    return Case(lambda: DiagonalNormal("z", variables["z"], SIZES), variables)


def _exponential(family: type, variable: Variable) -> Case:
    return Case(lambda: ExponentialFactor("z", variable, SIZES, family), {"z": variable}, native=True)


def _discrete(variable: Variable) -> Case:
    return Case(lambda: discrete_factor("z", variable, SIZES), {"z": variable}, native=True)


CASES: dict[str, Case] = {
    **{f"diagonal, {name}": _diagonal(name) for name in ONE_EACH},
    "diagonal, rows": Case(lambda: DiagonalNormal("w", LOCAL["w"], SIZES), {"w": LOCAL["w"]}),
    "Normal": _exponential(f.Normal, s.real(3)),
    "Gamma": _exponential(f.Gamma, s.positive(2)),
    "Gamma, rows": _exponential(f.Gamma, s.positive(2, plate="rows")),
    "InverseGamma": _exponential(f.InverseGamma, s.positive(2)),
    "Beta": _exponential(f.Beta, s.unit_interval(2)),
    "Dirichlet": _exponential(f.Dirichlet, s.simplex(2, 4)),
    "Bernoulli": _discrete(s.bernoulli(3)),
    "Categorical": _discrete(s.categorical(4, 2)),
    "Categorical, rows": _discrete(s.categorical(3, plate="rows")),
    "Poisson": _discrete(s.poisson(2)),
    "full rank": Case(lambda: FullRankNormal(MIXED, SIZES), MIXED),
    "full rank, rows joined": Case(lambda: FullRankNormal(LOCAL, SIZES), LOCAL),
    "full rank, rowwise": Case(lambda: FullRankNormal(LOCAL, SIZES, rowwise=True), LOCAL, rowwise=True),
    "low rank": Case(lambda: LowRankNormal(MIXED, SIZES, 2), MIXED),
    "low rank, rowwise": Case(lambda: LowRankNormal(LOCAL, SIZES, 1, rowwise=True), LOCAL, rowwise=True),
    "flow": Case(lambda: FlowFactor(MIXED, SIZES, 2, (6,), 4), MIXED, entropy=False, mean=False),
    "flow, one coordinate": Case(
        lambda: FlowFactor({"b": MIXED["b"]}, SIZES, 2), {"b": MIXED["b"]}, entropy=False, mean=False
    ),
    "amortised": Case(lambda: AmortisedNormal(LOCAL, SIZES, encoder(), "x"), LOCAL, mean=False, rowwise=True),
}
CONTINUOUS = [name for name, case in CASES.items() if not case.discrete]
DISCRETE = [name for name, case in CASES.items() if case.discrete]
