"""Models whose posterior is known, and fits of them made by hand: what is tested is the result, not the climb."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.gradients import ScoreFunction
from jensen.inference.climb import Ascent
from jensen.inference.fit_result import FitResult
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.supports import Variable, positive, real
from jensen.inference.target import Target
from jensen.inference.variational import mean_field
from jensen.inference.variational.base import Family

Y = torch.tensor([1.3, -0.4, 2.1, 0.7, 1.9, 0.2], dtype=torch.float64)
PRIOR_SD = 3.0


def conjugate_normal(**more: Any) -> Model:
    """mu ~ N(0, 3^2), y_i ~ N(mu, 1)."""

    def log_joint(z: Any, data: Any) -> Mapping[str, Tensor]:
        return {"prior": Normal(0.0, PRIOR_SD).log_prob(z.mu), "likelihood": Normal(z.mu, 1.0).log_prob(data.y)}

    def simulate(z: Any, data: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"y": z.mu + torch.randn(len(data.y), dtype=torch.float64, generator=generator)}

    def prior(generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"mu": PRIOR_SD * torch.randn((), dtype=torch.float64, generator=generator)}

    options = {"simulate": simulate, "prior": prior, **more}
    return Model({"mu": real()}, log_joint, plates={"rows": len(Y)}, **options)


def exact_posterior(y: Tensor = Y) -> tuple[float, float]:
    """Mean and standard deviation of mu in `conjugate_normal`."""
    precision = len(y) + PRIOR_SD**-2
    return float(y.sum()) / precision, precision**-0.5


def fitted(
    model: Model,
    data: Any = None,
    family: Callable[[Model], Family] = mean_field,
    *,
    centre: Mapping[str, Any] | None = None,
    scale: Mapping[str, Any] | float = 1.0,
    **ended: Any,
) -> FitResult:
    """A fit whose q is placed where the test wants it."""
    target, q = Target(model, data), family(model)
    place = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in (centre or {}).items()}
    scales = (
        {name: torch.as_tensor(s, dtype=torch.float64) for name, s in scale.items()}
        if isinstance(scale, Mapping)
        else scale
    )
    q.place(place, scales)
    bound = Bound(target, q, ScoreFunction())
    plain: dict[str, Any] = {"elbo": -10.0, "elbo_se": 0.1, "trace": [-30.0, -12.0, -10.5, -10.1], "converged": True}
    return FitResult(bound, Ascent(bound.flat(), **{**plain, "reason": "it was placed", **ended}), "by hand")


def exact_fit(**more: Any) -> FitResult:
    """Of `conjugate_normal`, q the posterior."""
    mean, sd = exact_posterior()
    return fitted(conjugate_normal(**more), {"y": Y}, centre={"mu": mean}, scale={"mu": sd})


def standard(variables: Mapping[str, Variable], log_density: Callable[[Any], Tensor]) -> Model:
    """A model without data."""
    return Model(variables, lambda z, data: log_density(z))


def funnel(size: int = 4) -> Model:
    """Neal's funnel: v ~ N(0, 3^2), x_i ~ N(0, exp(v))."""

    def log_density(z: Any) -> Tensor:
        return Normal(0.0, 3.0).log_prob(z.v) + Normal(0.0, torch.exp(z.v / 2)).log_prob(z.x).sum()

    return standard({"v": real(), "x": real(size)}, log_density)


def log_normal_model() -> Model:
    """log tau ~ N(0.3, 0.5^2)."""
    return standard({"tau": positive()}, lambda z: Normal(0.3, 0.5).log_prob(z.tau.log()) - z.tau.log())


def log_normal_moments(mean: float, sd: float) -> tuple[float, float]:
    """Mean and standard deviation of exp(N(mean, sd^2))."""
    centre = math.exp(mean + sd**2 / 2)
    return centre, centre * math.sqrt(math.expm1(sd**2))
