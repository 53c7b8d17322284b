"""Intervals hold the share of the family's own draws that they promise; means are those of the draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from jensen.families import (
    Beta,
    Categorical,
    Dirichlet,
    ExponentialFamily,
    Gamma,
    InverseGamma,
    MultivariateNormal,
    Normal,
    NormalGamma,
    NormalWishart,
    Wishart,
)
from jensen.families.tied_normal_wishart import TiedNormalWishart
from jensen.inference.summary import marginals

DRAWS = 40_000
LEVEL = 0.8
SCALE = torch.tensor([[[1.5, 0.4], [0.4, 0.5]], [[0.3, -0.1], [-0.1, 0.9]]], dtype=torch.float64)
TWO = torch.tensor([3.5, 6.0], dtype=torch.float64)
LOC = torch.tensor([[1.0, -2.0], [0.0, 5.0]], dtype=torch.float64)


def deviations(precision: torch.Tensor) -> torch.Tensor:
    return torch.linalg.inv(precision).diagonal(dim1=-2, dim2=-1).sqrt()


CASES: dict[str, tuple[ExponentialFamily[Any, Any, Any], dict[str, Callable[[Any], torch.Tensor]]]] = {
    "normal": (Normal.from_standard(LOC, torch.tensor(2.0, dtype=torch.float64)), {"": lambda z: z}),
    "multivariate normal": (MultivariateNormal.from_standard(LOC, SCALE), {"": lambda z: z}),
    "gamma": (Gamma.from_standard(TWO, TWO.flip(0)), {"": lambda z: z}),
    "inverse gamma": (InverseGamma.from_standard(TWO, TWO), {"": lambda z: z}),
    "dirichlet": (Dirichlet.from_standard(torch.tensor([[0.5, 2.0, 3.0], [9.0, 1.0, 0.2]])), {"": lambda z: z}),
    "beta": (Beta.from_standard(TWO, TWO / 5), {"": lambda z: z}),
    "normal-gamma": (
        NormalGamma.from_standard(LOC, SCALE, TWO, TWO.flip(0)),
        {"coefficient": lambda z: z.loc, "noise standard deviation": lambda z: z.precision.rsqrt()},
    ),
    "wishart": (Wishart.from_standard(TWO + 2, SCALE), {"standard deviation": deviations}),
    "normal-wishart": (
        NormalWishart.from_standard(LOC, TWO / 3, TWO + 2, SCALE),
        {"mean": lambda z: z.loc, "standard deviation": lambda z: deviations(z.precision)},
    ),
    "tied normal-wishart": (
        TiedNormalWishart.from_standard(LOC, TWO / 3, torch.tensor(6.0, dtype=torch.float64), SCALE[0]),
        {"mean": lambda z: z.loc, "standard deviation": lambda z: deviations(z.precision)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_intervals_hold_the_share_of_draws_that_they_promise(name: str) -> None:
    q, parts = CASES[name]
    draws = q.sample((DRAWS,), torch.Generator().manual_seed(5))
    found = marginals(q, LEVEL)
    assert [marginal.what for marginal in found] == list(parts)
    for marginal in found:
        values = parts[marginal.what](draws).numpy()
        assert values.shape[1:] == marginal.mean.shape == marginal.lower.shape == marginal.upper.shape
        error = np.sqrt(0.1 * 0.9 / DRAWS)
        np.testing.assert_allclose((values < marginal.lower).mean(0), 0.1, atol=4.5 * error)
        np.testing.assert_allclose((values > marginal.upper).mean(0), 0.1, atol=4.5 * error)
        spread = values.std(0) / np.sqrt(DRAWS)
        np.testing.assert_array_less(np.abs(values.mean(0) - marginal.mean), 5 * spread + 1e-12)


def test_against_scipy() -> None:
    q = NormalGamma.from_standard(LOC[0], SCALE[0], 2.5, 3.0)
    coefficient, noise = marginals(q, 0.95)
    sd = np.sqrt(3.0 / 2.5 * np.diag(np.linalg.inv(SCALE[0].numpy())))
    np.testing.assert_allclose(coefficient.upper, stats.t.ppf(0.975, 5.0, LOC[0].numpy(), sd))
    np.testing.assert_allclose(noise.lower, stats.gamma.ppf(0.975, 2.5, scale=1 / 3) ** -0.5)
    (share,) = marginals(Dirichlet.from_standard(torch.tensor([2.0, 3.0, 5.0])), 0.5)
    np.testing.assert_allclose(share.lower, stats.beta.ppf(0.25, [2, 3, 5], [8, 7, 5]), rtol=1e-6)
    np.testing.assert_allclose(share.mean, [0.2, 0.3, 0.5], rtol=1e-6)


def test_a_mean_that_does_not_exist_is_infinite() -> None:
    assert np.isinf(marginals(InverseGamma.from_standard(0.9, 1.0))[0].mean)
    assert np.isinf(marginals(NormalGamma.from_standard(LOC[0], SCALE[0], 0.4, 1.0))[1].mean)
    assert np.isfinite(marginals(InverseGamma.from_standard(0.9, 1.0))[0].upper)


def test_discrete_families_have_no_intervals() -> None:
    assert marginals(Categorical.from_standard(torch.tensor([0.5, 0.5]))) == []


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, float("nan")])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match="level should be between 0 and 1"):
        marginals(Gamma.from_standard(1.0, 1.0), level)
