"""Parameters that are refused, and the words: which one, its first offending index, what was given and is wanted."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from family_cases import CASES

from jensen.families import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    InverseGamma,
    MultivariateNormal,
    Normal,
    NormalGamma,
    NormalWishart,
    Poisson,
    Wishart,
)

F64 = torch.float64


def t(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


EYE = torch.eye(3, dtype=F64)
ZERO = torch.zeros(3, dtype=F64)
INDEFINITE = torch.stack([EYE, torch.diag(t([1.0, -1.0, 1.0]))])
ASYMMETRIC = EYE + t([[0, 0.5, 0], [0, 0, 0], [0, 0, 0]])
NAN, INF = math.nan, math.inf

STANDARD = [
    (Normal, (0.0, t([1.0, -2.0])), "Normal: scale[1] is -2; it must be greater than 0"),
    (Normal, (0.0, 0.0), "Normal: scale is 0; it must be greater than 0"),
    (Normal, (t([[0.0, NAN]]), 1.0), "Normal: loc[0, 1] is nan; it must be finite"),
    (Normal, (0.0, INF), "Normal: scale is inf; it must be finite"),
    (Normal, (t([1.0, 2.0]), t([1.0, 2.0, 3.0])), "Normal: batch shapes do not broadcast: loc (2,), scale (3,)"),
    (MultivariateNormal, (0.0, EYE), "MultivariateNormal: loc must be a vector for each distribution, got shape ()"),
    (MultivariateNormal, (ZERO, ZERO), "covariance must be a matrix for each distribution, got shape (3,)"),
    (MultivariateNormal, (ZERO, EYE[:2, :2]), "parameters of different dimension: loc (3,), covariance (2, 2)"),
    (MultivariateNormal, (ZERO, EYE[:2]), "parameters of different dimension: loc (3,), covariance (2, 3)"),
    (MultivariateNormal, (ZERO, INDEFINITE), "covariance[1], of shape (3, 3), must be positive definite"),
    (MultivariateNormal, (ZERO, ASYMMETRIC), "covariance, of shape (3, 3), must be symmetric"),
    (MultivariateNormal, (t([0, INF, 0]), EYE), "loc[1] is inf; it must be finite"),
    (MultivariateNormal, (t([]), t([[]])[:0]), "loc must have at least one element"),
    (Gamma, (t([1.0, 0.0]), 1.0), "Gamma: concentration[1] is 0; it must be greater than 0"),
    (Gamma, (1.0, t([[1.0], [-3.0]])), "Gamma: rate[1, 0] is -3; it must be greater than 0"),
    (InverseGamma, (-1.0, 1.0), "InverseGamma: concentration is -1; it must be greater than 0"),
    (InverseGamma, (1.0, NAN), "InverseGamma: rate is nan; it must be finite"),
    (Wishart, (t([4, 9, 2]), EYE), "Wishart: df[2] is 2; it must be greater than D - 1 = 2"),
    (Wishart, (t([4, NAN]), EYE), "Wishart: df[1] is nan; it must be finite"),
    (Wishart, (4.0, INDEFINITE), "Wishart: scale[1], of shape (3, 3), must be positive definite"),
    (Wishart, (4.0, 1.0), "Wishart: scale must be a matrix for each distribution, got shape ()"),
    (
        NormalGamma,
        (ZERO, INDEFINITE, 1.0, 1.0),
        "NormalGamma: precision[1], of shape (3, 3), must be positive definite",
    ),
    (NormalGamma, (ZERO, EYE, 1.0, t([1.0, 0.0])), "NormalGamma: rate[1] is 0; it must be greater than 0"),
    (NormalGamma, (ZERO, EYE, -1.0, 1.0), "NormalGamma: concentration is -1; it must be greater than 0"),
    (NormalWishart, (ZERO, 0.0, 4.0, EYE), "NormalWishart: kappa is 0; it must be greater than 0"),
    (NormalWishart, (ZERO, 1.0, 2.0, EYE), "NormalWishart: df is 2; it must be greater than D - 1 = 2"),
    (NormalWishart, (ZERO, 1.0, 4.0, ASYMMETRIC), "NormalWishart: scale, of shape (3, 3), must be symmetric"),
    (Dirichlet, (t([[1.0, 1.0], [1.0, -1.0]]),), "Dirichlet: concentration[1, 1] is -1; it must be greater than 0"),
    (Dirichlet, (1.0,), "Dirichlet: concentration must be a vector for each distribution, got shape ()"),
    (Beta, (1.0, t([1.0, INF])), "Beta: concentration0[1] is inf; it must be finite"),
    (Beta, (-1.0, 1.0), "Beta: concentration1 is -1; it must be greater than 0"),
    (
        Categorical,
        (t([[0.5, 0.5], [0.5, 0.6]]),),
        "probs[1], of shape (2,), must be on the simplex (not negative, sum 1)",
    ),
    (Categorical, (t([-0.5, 1.5]),), "probs, of shape (2,), must be on the simplex (not negative, sum 1)"),
    (Bernoulli, (t([0.5, 1.0]),), "Bernoulli: probs[1] is 1; it must be greater than 0 and less than 1"),
    (Bernoulli, (0.0,), "Bernoulli: probs is 0; it must be greater than 0 and less than 1"),
    (Poisson, (t([1.0, -1.0]),), "Poisson: rate[1] is -1; it must be greater than 0"),
]

NATURAL = [
    (
        Normal,
        (0.0, t([1.0, -1.0])),
        "Normal: natural parameters outside their domain: scale[1] is nan; it must be finite",
    ),
    (MultivariateNormal, (ZERO, ASYMMETRIC), "precision, of shape (3, 3), must be symmetric"),
    (
        MultivariateNormal,
        (ZERO, INDEFINITE),
        "natural parameters outside their domain: covariance[1], of shape (3, 3), must be positive definite",
    ),
    (Gamma, (t([0.0, -1.0]), -1.0), "outside their domain: concentration[1] is 0; it must be greater than 0"),
    (Gamma, (NAN, -1.0), "Gamma: concentration_minus_one is nan; it must be finite"),
    (InverseGamma, (0.0, -1.0), "outside their domain: concentration is -1; it must be greater than 0"),
    (Wishart, (EYE, -2.0), "outside their domain: df is 2; it must be greater than D - 1 = 2"),
    (Wishart, (INDEFINITE, 1.0), "outside their domain: scale[1], of shape (3, 3), must be positive definite"),
    (NormalGamma, (ZERO + 9, EYE, 1.0, 1.0), "outside their domain: rate is -120.5; it must be greater than 0"),
    (
        NormalWishart,
        (ZERO + 9, 1.0, EYE, 1.0),
        "outside their domain: scale, of shape (3, 3), must be positive definite",
    ),
    (
        NormalGamma,
        (ZERO, INDEFINITE, 1.0, 1.0),
        "outside their domain: precision[1], of shape (3, 3), must be positive definite",
    ),
    (Dirichlet, (t([0.0, -1.5]),), "outside their domain: concentration[1] is -0.5; it must be greater than 0"),
    (Dirichlet, (1.0,), "concentration_minus_one must be a vector for each distribution"),
    (Beta, (-1.0, 0.0), "outside their domain: concentration1 is 0; it must be greater than 0"),
    (Categorical, (t([0.0, NAN]),), "logits[1] is nan; it must be finite"),
    (Categorical, (t([-INF, -INF]),), "logits of -inf alone leave no category"),
    (Categorical, (t([0.0, INF]),), "logits[1] is inf; it must be finite"),
    (Bernoulli, (INF,), "Bernoulli: logits is inf; it must be finite"),
    (Poisson, (NAN,), "Poisson: log_rate is nan; it must be finite"),
]

MEAN = [
    (Normal, (1.0, -0.4), "Normal: scale is nan; it must be finite"),
    (MultivariateNormal, (ZERO + 1, -0.5 * EYE), "covariance, of shape (3, 3), must be positive definite"),
    (Gamma, (t([0.0, 0.1]), t([2.0, 1.0])), "no member has these mean parameters: concentration[1] is nan"),
    (InverseGamma, (0.0, 1.0), "no member has these mean parameters"),
    (Wishart, (-0.5 * EYE, 0.1), "no member has these mean parameters"),
    (Wishart, (-0.5 * ASYMMETRIC, -1.0), "minus_half_precision, of shape (3, 3), must be symmetric"),
    (NormalGamma, (ZERO, -0.5 * EYE, -1.0, 0.5), "no member has these mean parameters"),
    (NormalWishart, (ZERO, 0.5, -0.5 * EYE, -1.0), "kappa is -3; it must be greater than 0"),
    (Dirichlet, (t([0.5, 0.5]).log(),), "no member has these mean parameters"),
    (Beta, (math.log(0.6), math.log(0.6)), "no member has these mean parameters"),
    (Categorical, (t([0.5, 0.6]),), "on the simplex"),
    (Bernoulli, (1.5,), "probs is 1.5; it must be greater than 0 and less than 1"),
    (Poisson, (0.0,), "rate is 0; it must be greater than 0"),
]


def check(make: Any, given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        make(*given)
    assert message in str(caught.value)


@pytest.mark.parametrize(("family", "given", "message"), STANDARD)
def test_standard_parameters(family: Any, given: tuple[Any, ...], message: str) -> None:
    check(family.from_standard, given, message)


@pytest.mark.parametrize(("family", "given", "message"), NATURAL)
def test_natural_parameters(family: Any, given: tuple[Any, ...], message: str) -> None:
    check(family.from_natural, given, message)
    if "outside their domain" in message:
        assert not family(family.Natural(*(torch.as_tensor(g, dtype=F64) for g in given))).is_valid()


@pytest.mark.parametrize(("family", "given", "message"), MEAN)
def test_mean_parameters(family: Any, given: tuple[Any, ...], message: str) -> None:
    check(family.from_mean_parameters, given, message)


def test_the_families_above_are_all_of_them() -> None:
    for table in (STANDARD, NATURAL, MEAN):
        assert {family.__name__ for family, _, _ in table} == set(CASES) - {"MarkovChain"}


def test_a_family_outside_its_domain_is_not_an_exception() -> None:
    """A step that left the domain must be seen by `is_valid`, not raise: the engine backs off."""
    q = MultivariateNormal(MultivariateNormal.Natural(ZERO, INDEFINITE))
    assert not q.is_valid()
    assert q.log_partition().isnan().tolist() == [False, True]
    assert q[0].is_valid()
