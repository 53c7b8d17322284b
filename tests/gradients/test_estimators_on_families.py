"""Every estimator on every family of black-box inference: without data the bound is -KL(q || prior), which is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradient_cases import flat_gradient, gradient_draws, worst_z
from torch import Tensor
from torch import distributions as td

from jensen.families import Beta, Dirichlet, Gamma, InverseGamma
from jensen.gradients import Enumeration, Estimator, Pathwise, Posterior, ScoreFunction
from jensen.inference.model import Model
from jensen.inference.supports import (
    Variable,
    bernoulli,
    categorical,
    poisson,
    positive,
    real,
    simplex,
    unit_interval,
)
from jensen.inference.target import Target
from jensen.inference.variational import Family, full_rank, mean_field


def number(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def native(q: Posterior) -> Any:
    """The distribution of a factor that is an exponential family."""
    return q.factors[0].q.to_torch()  # type: ignore[attr-defined]


def log_normal(q: Posterior) -> td.Distribution:
    factor: Any = q.factors[0]
    return td.LogNormal(factor.loc, factor.log_scale.exp())


def joint_normal(q: Posterior) -> td.Distribution:
    """Mean and covariance of a joint normal factor, which are linear and quadratic in its noise."""
    factor: Any = q.factors[0]
    origin = factor.from_noise(torch.zeros(1, 3, dtype=torch.float64)).point[0]
    columns = factor.from_noise(torch.eye(3, dtype=torch.float64)).point - origin
    return td.MultivariateNormal(origin, columns.T @ columns)


def gamma_of(q: Posterior) -> td.Distribution:
    """An inverse-gamma number's inverse has the same KL."""
    concentration, rate = q.factors[0].q.standard_parameters  # type: ignore[attr-defined]
    return td.Gamma(concentration, rate)


Prior = td.Distribution
Case = tuple[Variable, Any, Prior, Callable[[Posterior], Prior], Prior]
TWO = number(1.5, 3.0)
CASES: dict[str, Case] = {
    "log normal": (positive(2), mean_field, td.LogNormal(number(0.3), number(0.8)), log_normal, td.LogNormal(0.3, 0.8)),
    "gamma": (positive(2), Gamma, td.Gamma(TWO, number(2.0)), native, td.Gamma(TWO, 2.0)),
    "inverse gamma": (positive(2), InverseGamma, td.InverseGamma(TWO, number(2.0)), gamma_of, td.Gamma(TWO, 2.0)),
    "beta": (unit_interval(2), Beta, td.Beta(TWO, number(2.0)), native, td.Beta(TWO, 2.0)),
    "dirichlet": (simplex(3), Dirichlet, td.Dirichlet(number(2, 3, 4)), native, td.Dirichlet(number(2, 3, 4))),
    "full rank": (
        real(3),
        full_rank,
        td.MultivariateNormal(number(1, -1, 0.5), 0.5 + 0.5 * torch.eye(3).double()),
        joint_normal,
        td.MultivariateNormal(number(1, -1, 0.5), 0.5 + 0.5 * torch.eye(3).double()),
    ),
    "bernoulli": (bernoulli(2), None, td.Bernoulli(number(0.2, 0.9)), native, td.Bernoulli(number(0.2, 0.9))),
    "categorical": (
        categorical(3, 2),
        None,
        td.Categorical(number(0.2, 0.5, 0.3)),
        native,
        td.Categorical(number(0.2, 0.5, 0.3)),
    ),
    "poisson": (poisson(2), None, td.Poisson(number(2.0)), native, td.Poisson(number(2.0))),
}
ESTIMATORS: dict[str, Estimator] = {
    "score": ScoreFunction(rao_blackwell=True, control_variate="leave_one_out"),
    "regression": ScoreFunction(control_variate="regression"),
    "pathwise": Pathwise(),
    "landing": Pathwise(sticking_the_landing=True),
    "enumeration": Enumeration(),
}


def make(case: Case) -> tuple[Target, Family]:
    variable, choice, prior, _, _ = case
    model = Model({"z": variable}, lambda z, data: prior.log_prob(z.z).sum())
    family = (
        choice(model) if choice in (mean_field, full_rank) else mean_field(model, {"z": choice} if choice else None)
    )
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in family.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return Target(model), family


def applies(case: str, estimator: str) -> bool:
    discrete = CASES[case][0].discrete
    if estimator in ("pathwise", "landing"):
        return not discrete
    return estimator != "enumeration" or case in ("bernoulli", "categorical")


@pytest.mark.parametrize(
    ("case", "estimator"), [(case, name) for case in CASES for name in ESTIMATORS if applies(case, name)]
)
def test_the_gradient_is_that_of_the_divergence(case: str, estimator: str) -> None:
    target, family = make(CASES[case])
    _, _, _, distribution, prior = CASES[case]
    leaves = list(family.parameters())
    exact = flat_gradient(-td.kl_divergence(distribution(family()), prior).sum(), leaves)
    assert exact.abs().max() > 0.01
    draws = gradient_draws(ESTIMATORS[estimator], family, target.terms, leaves, samples=20, repeats=150)
    assert worst_z(draws, exact) < 4.2


@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case][0].discrete])
def test_without_enumeration_or_gradient_of_draws_it_is_said(case: str) -> None:
    target, family = make(CASES[case])
    with pytest.raises(TypeError, match=r"Enumeration\(\) cannot be used for z: it can take infinitely many values"):
        Enumeration().estimate(family(), target.terms, 1)
