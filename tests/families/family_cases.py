"""The families under test: random and extreme standard parameters of each, and what SciPy says about them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.stats as st
import torch
from torch import Generator, Tensor

from jensen import families as f

DIM = 3


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def uniform(g: Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)


def normal(g: Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def positive_definite(g: Generator, batch: tuple[int, ...]) -> Tensor:
    a = normal(g, (*batch, DIM, DIM))
    return a @ a.mT / DIM + 0.3 * torch.eye(DIM, dtype=torch.float64)


def simplex(g: Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.softmax(normal(g, shape), -1)


@dataclass(frozen=True)
class Case:
    """A family, how to draw standard parameters of a batch shape, some extreme ones, and a SciPy log density."""

    family: Any
    standard: Callable[[Generator, tuple[int, ...]], tuple[Tensor, ...]]
    extreme: list[tuple[Any, ...]] = field(default_factory=list)
    log_prob: Callable[..., float] | None = None  # of one draw and the standard parameters of one member, as numpy
    entropy: Callable[..., float] | None = None

    def make(self, seed: int = 0, batch: tuple[int, ...] = (4,)) -> Any:
        return self.family.from_standard(*self.standard(seeded(seed), batch))

    def extremes(self) -> list[Any]:
        return [self.family.from_standard(*(torch.as_tensor(p, dtype=torch.float64) for p in e)) for e in self.extreme]


SIZES = (1e-3, 1.0, 1e6)
EYE = torch.eye(DIM, dtype=torch.float64)
SKEWED = torch.diag(torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64))
CORRELATED = 0.999999 * torch.ones(DIM, DIM, dtype=torch.float64) + 1e-6 * EYE
LOC = torch.tensor([1e3, -1.0, 0.0], dtype=torch.float64)
SPREAD = torch.tensor([1e-3, 1.0, 1e6], dtype=torch.float64)


def _normal_gamma(z: Any, loc: Any, precision: Any, a: float, b: float) -> float:
    covariance = np.linalg.inv(z.precision * precision)
    return st.gamma.logpdf(z.precision, a, scale=1 / b) + st.multivariate_normal.logpdf(z.loc, loc, covariance)


def _normal_wishart(z: Any, loc: Any, kappa: float, df: float, scale: Any) -> float:
    covariance = np.linalg.inv(kappa * z.precision)
    return st.wishart.logpdf(z.precision, df, scale) + st.multivariate_normal.logpdf(z.loc, loc, covariance)


def _chain(z: Any, initial: Any, transition: Any) -> float:
    steps = [transition[t, z[t], z[t + 1]] for t in range(len(z) - 1)]
    return math.log(initial[z[0]]) + sum(map(math.log, steps))


def _chain_entropy(initial: Any, transition: Any) -> float:
    total, now = st.entropy(initial), initial
    for rows in transition:
        total += now @ st.entropy(rows, axis=-1)
        now = now @ rows
    return total


CASES = {
    "Normal": Case(
        f.Normal,
        lambda g, b: (normal(g, b), uniform(g, b, 0.2, 3)),
        [(1e3, 1e-3), (-1.0, 1e6)],
        lambda z, m, s: st.norm.logpdf(z, m, s),
        lambda m, s: st.norm.entropy(m, s),
    ),
    "MultivariateNormal": Case(
        f.MultivariateNormal,
        lambda g, b: (normal(g, (*b, DIM)), positive_definite(g, b)),
        [(LOC, SKEWED), (torch.zeros(DIM), CORRELATED)],
        lambda z, m, c: st.multivariate_normal.logpdf(z, m, c),
        lambda m, c: st.multivariate_normal.entropy(m, c),
    ),
    "Gamma": Case(
        f.Gamma,
        lambda g, b: (uniform(g, b, 0.3, 4), uniform(g, b, 0.2, 3)),
        [(a, r) for a in SIZES for r in SIZES],
        lambda z, a, r: st.gamma.logpdf(z, a, scale=1 / r),
        lambda a, r: st.gamma.entropy(a, scale=1 / r),
    ),
    "InverseGamma": Case(
        f.InverseGamma,
        lambda g, b: (uniform(g, b, 0.5, 4), uniform(g, b, 0.2, 3)),
        [(a, r) for a in SIZES for r in SIZES],
        lambda z, a, r: st.invgamma.logpdf(z, a, scale=r),
        lambda a, r: st.invgamma.entropy(a, scale=r),
    ),
    "Wishart": Case(
        f.Wishart,
        lambda g, b: (uniform(g, b, DIM, DIM + 4), positive_definite(g, b)),
        [(DIM - 1 + 1e-3, EYE), (1e6, SKEWED), (DIM, CORRELATED)],
        lambda z, n, v: st.wishart.logpdf(z, n, v),
        lambda n, v: st.wishart.entropy(n, v),
    ),
    "NormalGamma": Case(
        f.NormalGamma,
        lambda g, b: (normal(g, (*b, DIM)), positive_definite(g, b), uniform(g, b, 0.5, 4), uniform(g, b, 0.3, 3)),
        [(LOC / 1e3, EYE, 1e-3, 1e-3), (torch.zeros(DIM), CORRELATED, 1e6, 1e6)],
        _normal_gamma,
    ),
    "NormalWishart": Case(
        f.NormalWishart,
        lambda g, b: (
            normal(g, (*b, DIM)),
            uniform(g, b, 0.3, 3),
            uniform(g, b, DIM, DIM + 4),
            positive_definite(g, b),
        ),
        [(LOC / 1e3, 1e-3, DIM - 1 + 1e-3, EYE), (torch.zeros(DIM), 1e6, 1e6, CORRELATED)],
        _normal_wishart,
    ),
    "Dirichlet": Case(
        f.Dirichlet,
        lambda g, b: (uniform(g, (*b, DIM), 0.3, 4),),
        [(SPREAD,), (torch.full((DIM,), 1e-3),), (torch.full((DIM,), 1e6),)],
        lambda z, a: st.dirichlet.logpdf(z / z.sum(), a),
        lambda a: st.dirichlet.entropy(a),
    ),
    "Beta": Case(
        f.Beta,
        lambda g, b: (uniform(g, b, 0.3, 4), uniform(g, b, 0.3, 4)),
        [(1e-3, 1e-3), (1e6, 1e6), (1.0, 1e3)],
        lambda z, a, b: st.beta.logpdf(z, a, b),
        lambda a, b: st.beta.entropy(a, b),
    ),
    "Categorical": Case(
        f.Categorical,
        lambda g, b: (simplex(g, (*b, DIM)),),
        [([1e-12, 0.5, 0.5],)],
        lambda z, p: math.log(p[z]),
        lambda p: st.entropy(p),
    ),
    "Bernoulli": Case(
        f.Bernoulli,
        lambda g, b: (uniform(g, b, 0.02, 0.98),),
        [(1e-12,), (1 - 1e-7,)],
        lambda z, p: st.bernoulli.logpmf(z, p),
        lambda p: st.bernoulli.entropy(p),
    ),
    "Poisson": Case(
        f.Poisson,
        lambda g, b: (uniform(g, b, 0.2, 9),),
        [(1e-3,), (1e6,)],
        lambda z, r: st.poisson.logpmf(z, r),
        lambda r: -sum(st.poisson.pmf(k, r) * st.poisson.logpmf(k, r) for k in range(120)),
    ),
    "MarkovChain": Case(
        f.MarkovChain,
        lambda g, b: (simplex(g, (*b, DIM)), simplex(g, (*b, 3, DIM, DIM))),
        [(torch.tensor([1e-9, 1e-9, 1 - 2e-9]), (EYE + 1e-7 / 3).expand(3, DIM, DIM) / (1 + 1e-7))],
        _chain,
        _chain_entropy,
    ),
}

NAMES = list(CASES)
CONTINUOUS = [n for n, c in CASES.items() if c.family.has_rsample]


def fields_of(z: Any) -> tuple[Tensor, ...]:
    """A draw as a tuple of tensors, whether it is one or a named tuple."""
    return tuple(z) if isinstance(z, tuple) else (z,)


def minimal(q: Any) -> Tensor:
    """Natural parameters in minimal coordinates."""
    return type(q).to_minimal(q.natural_parameters)


def rebuild(q: Any, vector: Tensor) -> Any:
    """The member with these minimal coordinates, of the same shape as q."""
    if isinstance(q, f.MarkovChain):
        return f.MarkovChain(q.expand_minimal(vector))
    return type(q)(type(q).from_minimal(vector))


def statistics(q: Any, z: Any) -> Tensor:
    """Sufficient statistics of draws in minimal coordinates."""
    return type(q).minimal_mean(q.sufficient_statistics(z))
