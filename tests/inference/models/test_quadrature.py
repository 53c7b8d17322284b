"""Normal expectations of logistic functions and of Poisson densities, against SciPy's integration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import simpson
from scipy.stats import nbinom, norm, poisson
from torch import Tensor

from jensen.inference.models.glm import POISSON, log_predictive_count
from jensen.inference.models.quadrature import expected_logistic, expected_softplus, log_expected_density

MEANS = [-40.0, -5.0, -1.0, 0.0, 0.3, 2.0, 6.0, 30.0]


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("sd", "error"), [(1e-4, 1e-12), (0.3, 1e-12), (1.0, 1e-11), (3.0, 2e-9), (5.0, 5e-6), (30.0, 5e-3)]
)
@pytest.mark.parametrize("mean", MEANS)
def test_against_simpsons_rule(mean: float, sd: float, error: float) -> None:
    grid = np.linspace(mean - 12 * sd, mean + 12 * sd, 20_001)
    density = norm.pdf(grid, mean, sd)
    softplus = simpson(np.logaddexp(0, grid) * density, x=grid)
    logistic = simpson(np.exp(-np.logaddexp(0, -grid)) * density, x=grid)
    assert expected_softplus(number(mean), number(sd**2)).item() == pytest.approx(softplus, abs=error)
    assert expected_logistic(number(mean), number(sd**2)).item() == pytest.approx(logistic, abs=error)


def test_the_limit_of_no_variance_and_its_gradients() -> None:
    mean, variance = number(0.7).requires_grad_(), number(0.0).requires_grad_()
    value = expected_softplus(mean, variance)
    assert value.item() == pytest.approx(np.logaddexp(0, 0.7), abs=1e-12)
    (slope,) = torch.autograd.grad(value, mean)
    assert slope.item() == pytest.approx(1 / (1 + np.exp(-0.7)), abs=1e-10)
    assert expected_logistic(number(0.7), number(0.0)).item() == pytest.approx(1 / (1 + np.exp(-0.7)), abs=1e-14)


@pytest.mark.parametrize("sd", [0.2, 1.0, 3.0])
def test_gradients_are_those_of_bonnet_and_price(sd: float) -> None:
    """d/dmean E[f] = E[f'] and d/dvariance E[f] = E[f''] / 2."""
    mean, variance = number(-0.4).requires_grad_(), number(sd**2).requires_grad_()
    first, second = torch.autograd.grad(expected_softplus(mean, variance), (mean, variance))
    grid = np.linspace(-0.4 - 12 * sd, -0.4 + 12 * sd, 20_001)
    density, sigmoid = norm.pdf(grid, -0.4, sd), 1 / (1 + np.exp(-grid))
    assert first.item() == pytest.approx(simpson(sigmoid * density, x=grid), abs=1e-8)
    assert second.item() == pytest.approx(0.5 * simpson(sigmoid * (1 - sigmoid) * density, x=grid), abs=1e-8)


@pytest.mark.parametrize("count", [0, 1, 7, 300, 20_000])
@pytest.mark.parametrize(("mean", "sd"), [(1.0, 0.3), (5.0, 0.05), (2.0, 2.0), (9.9, 1.0)])
def test_predictive_counts(count: int, mean: float, sd: float) -> None:
    grid = np.linspace(mean - 14 * sd, mean + 14 * sd, 200_001)
    log_terms = poisson.logpmf(count, np.exp(grid)) + norm.logpdf(grid, mean, sd)
    top = log_terms.max()
    expected = top + np.log(simpson(np.exp(log_terms - top), x=grid))
    found = log_predictive_count(number(mean), number(sd**2), number(float(count))).item()
    if np.argmax(log_terms) in (0, len(grid) - 1):  # beyond the grid that is compared with
        assert found < -50
    else:
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_predictive_counts_add_up_and_are_wider_than_poisson() -> None:
    counts = torch.arange(0, 400, dtype=torch.float64)
    mean, variance = number(2.0).expand(400), number(0.25).expand(400)
    p = log_predictive_count(mean, variance, counts).exp()
    rate = np.exp(2.0 + 0.125)
    assert p.sum().item() == pytest.approx(1, abs=1e-4)
    assert (p * counts).sum().item() == pytest.approx(rate, rel=1e-3)
    spread = rate + rate**2 * (np.exp(0.25) - 1)
    assert (p * (counts - rate) ** 2).sum().item() == pytest.approx(spread, rel=1e-3)
    assert nbinom.var(rate**2 / (spread - rate), rate / spread) == pytest.approx(spread)


def test_the_slope_of_a_likelihood_is_its_derivative() -> None:
    s, t = number(0.8).requires_grad_(), number(3.0)
    (first,) = torch.autograd.grad(POISSON.log_prob(s, t), s, create_graph=True)
    (second,) = torch.autograd.grad(first, s)
    given = POISSON.slope(s.detach(), t)
    assert (first.item(), second.item()) == (pytest.approx(given[0].item()), pytest.approx(given[1].item()))


@pytest.mark.parametrize(
    ("mean", "variance", "count"),
    [
        (80.0, 400.0, 0),
        (70.0, 100.0, 3),
        (100.0, 2500.0, 5),
        (-100.0, 2500.0, 1000),
        (-100.0, 900.0, 50),
        (2.0, 0.3, 4),
    ],
)
def test_counts_far_from_what_was_expected(mean: float, variance: float, count: int) -> None:
    """Against a sum over a fine grid around the mode."""

    def log_density(a: Tensor) -> Tensor:
        return count * a - a.exp() - math.lgamma(count + 1)

    def slope(a: Tensor) -> tuple[Tensor, Tensor]:
        return count - a.exp(), -a.exp()

    q = torch.tensor([mean], dtype=torch.float64), torch.tensor([variance], dtype=torch.float64)
    found = log_expected_density(log_density, slope, *q)
    grid = torch.linspace(mean - 12 * variance**0.5, mean + 12 * variance**0.5, 2_000_001, dtype=torch.float64)
    log_weights = torch.distributions.Normal(q[0], q[1].sqrt()).log_prob(grid) + math.log(float(grid[1] - grid[0]))
    exact = torch.logsumexp(log_density(grid) + log_weights, 0)
    assert float(found) == pytest.approx(float(exact), abs=0.02)
