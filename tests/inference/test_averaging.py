"""Averages of iterates: against hand formulas, ArviZ, the theory of autoregressions, and closed-form divergences."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from jensen.gradients.posterior import Posterior
from jensen.inference.averaging import (
    Iterates,
    effective_size,
    noise,
    remaining,
    split_rhat,
    stationary,
    symmetrised_kl,
)
from jensen.inference.supports import real
from jensen.inference.variational.gaussian import DiagonalNormalPosterior


def autoregression(n: int, phi: float, coordinates: int, seed: int = 0) -> torch.Tensor:
    """x_t = phi x_{t-1} + noise, begun in its stationary distribution."""
    generator = torch.Generator().manual_seed(seed)
    shocks = torch.randn(n, coordinates, dtype=torch.float64, generator=generator)
    shocks[0] /= math.sqrt(1 - phi**2)
    for t in range(1, n):
        shocks[t] += phi * shocks[t - 1]
    return shocks


def normal(loc: list[float], scale: list[float]) -> Posterior:
    loc_, scale_ = (torch.tensor(v, dtype=torch.float64) for v in (loc, scale))
    return Posterior([DiagonalNormalPosterior("x", real(len(loc)), loc_, scale_.log())])


# --- iterates ---------------------------------------------------------------------------------------------------------


def test_blocks_are_means_of_iterates_also_after_they_were_merged():
    draws = autoregression(95, 0.3, 2)
    iterates = Iterates(2, length=5, capacity=8, like=draws)
    for draw in draws:
        iterates.add(draw)
    # 5 -> 10 after 40 iterates, -> 20 after 80; the last 15 do not fill a block
    assert iterates.length == 20
    expected = torch.stack([draws[start : start + 20].mean(0) for start in range(0, 80, 20)])
    torch.testing.assert_close(iterates.means, expected)


def test_large_iterates_get_fewer_blocks():
    like = torch.zeros((), dtype=torch.float64)
    small, large = Iterates(10, like=like, length=1), Iterates(400_000, like=like, length=1)
    for _ in range(255):
        small.add(torch.zeros(10))
    for _ in range(40):
        large.add(torch.zeros(400_000))
    assert small.length == 1
    assert large.length == 2


@pytest.mark.parametrize(("length", "capacity"), [(0, 8), (1, 7), (1, 0)])
def test_iterates_refuses(length, capacity):
    with pytest.raises(ValueError, match="capacity must be even"):
        Iterates(2, length=length, capacity=capacity, like=torch.zeros(()))


# --- R-hat and effective sample size ----------------------------------------------------------------------------------


def test_split_rhat_by_hand():
    draws = torch.tensor([1.0, 2.0, 3.0, 99.0, 5.0, 7.0, 6.0], dtype=torch.float64).unsqueeze(1)
    # halves 1 2 3 and 5 7 6, both of variance 1 and means 2 and 6; B / n = 8, so (2/3 + 8) / 1
    assert split_rhat(draws).item() == pytest.approx(math.sqrt(2 / 3 + 8))
    # twice the variance within, by a negligible standard deviation of 1
    assert split_rhat(draws, 1.0).item() == pytest.approx(math.sqrt(2 / 3 + 8 / 2))


def test_split_rhat_of_what_does_not_vary():
    draws = torch.zeros(10, 2, dtype=torch.float64)
    draws[5:, 1] = 1.0
    assert split_rhat(draws).tolist() == [1.0, math.inf]


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, -0.5])
@pytest.mark.parametrize("n", [100, 401])
def test_rhat_and_effective_size_are_those_of_arviz(n, phi):
    arviz = pytest.importorskip("arviz")
    draws = autoregression(n, phi, 3, seed=n)
    half = n // 2
    chains = torch.stack([draws[:half], draws[-half:]]).numpy()
    for k in range(3):
        assert split_rhat(draws)[k].item() == pytest.approx(float(arviz.rhat(chains[..., k], method="identity")))
        assert effective_size(draws)[k].item() == pytest.approx(float(arviz.ess(chains[..., k], method="identity")))


@pytest.mark.parametrize("phi", [0.0, 0.7, 0.9])
def test_effective_size_of_an_autoregression(phi):
    n = 4000
    found = effective_size(autoregression(n, phi, 50)).mean().item()
    assert found == pytest.approx(n * (1 - phi) / (1 + phi), rel=0.1)


@pytest.mark.parametrize("function", [split_rhat, effective_size])
def test_too_few_draws(function):
    with pytest.raises(ValueError, match="at least"):
        function(torch.zeros(3, 2))


# --- the window -------------------------------------------------------------------------------------------------------


def test_window_leaves_the_way_to_the_optimum_out():
    draws = autoregression(200, 0.2, 4)
    draws[:50] += torch.linspace(30, 0, 50, dtype=torch.float64).unsqueeze(1)
    window = stationary(draws)
    assert window.start >= 50
    assert window.rhat < 1.1
    assert split_rhat(draws).max() > 1.1
    assert 50 < window.size < 200


@pytest.mark.parametrize("seed", range(20))
def test_a_trend_or_a_random_walk_is_not_stationary(seed):
    generator = torch.Generator().manual_seed(seed)
    shocks = torch.randn(200, 5, dtype=torch.float64, generator=generator)
    trend = shocks + torch.linspace(0, 10, 200, dtype=torch.float64).unsqueeze(1)
    assert stationary(trend).rhat > 1.1
    walk = stationary(shocks.cumsum(0))
    assert walk.rhat > 1.1 or walk.size < 12


def test_one_moving_coordinate_among_few_is_seen():
    draws = autoregression(200, 0.0, 20)
    draws[:, 7] += torch.linspace(0, 8, 200, dtype=torch.float64)
    assert stationary(draws).rhat > 1.1


def test_what_moves_negligibly_counts_as_stationary():
    draws = autoregression(100, 0.0, 2)
    draws[:, 0] = 1e-6 * 0.9 ** torch.arange(100, dtype=torch.float64)  # converges without noise
    assert stationary(draws).rhat > 1.1
    window = stationary(draws, torch.tensor([1e-3, 0.0], dtype=torch.float64))
    assert window.rhat < 1.1
    assert window.size > 25


def test_no_window_in_too_few_blocks_and_nan_is_not_stationary():
    assert stationary(torch.zeros(16, 1, dtype=torch.float64)) is None
    draws = autoregression(60, 0.0, 2)
    draws[55] = math.nan
    assert stationary(draws).rhat == math.inf


# --- divergences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.05, 1.0])
def test_symmetrised_kl_of_normals(shift):
    p, q = normal([0.0, 1.0], [1.0, 2.0]), normal([shift, 1.0], [1.0, 2.0 * (1 + shift / 5)])
    distributions = [torch.distributions.Normal(f.loc, f.log_scale.exp()) for each in (p, q) for f in each.factors]
    kl = torch.distributions.kl_divergence
    exact = float((kl(*distributions) + kl(*distributions[::-1])).sum())
    found = float(symmetrised_kl(p, q, 20_000, torch.Generator().manual_seed(0), [1.0]))
    assert found == pytest.approx(exact, rel=0.1)
    weighted = float(symmetrised_kl(p, q, 20_000, torch.Generator().manual_seed(0), [3.0]))
    assert weighted == pytest.approx(3 * found)


def test_symmetrised_kl_to_itself_is_zero():
    p = normal([0.0, 1.0], [1.0, 2.0])
    assert float(symmetrised_kl(p, p, 10, torch.Generator().manual_seed(0), [1.0])) == 0


def test_noise_of_an_average():
    """Means of 400 iterates of variance v about the optimum are v / 400 off, and symmetrised KL is (shift / sd)^2."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(40):
        iterates = 0.5 * torch.randn(400, 5, dtype=torch.float64, generator=generator)
        parts = [normal(part.mean(0).tolist(), [1.0] * 5) for part in iterates.split(100)]
        found.append(noise(normal(iterates.mean(0).tolist(), [1.0] * 5), parts, 500, generator, [1.0]))
    assert sum(found) / len(found) == pytest.approx(5 * 0.25 / 400, rel=0.15)


@pytest.mark.parametrize("order", [0.5, 0.75, 1.0])
def test_remaining_of_a_power_law(order):
    """Averages at 3 g^order: what is left is known."""
    rates = [0.1, 0.025, 0.00625]
    away = [3 * rate**order for rate in rates]
    changes = [(a - b) ** 2 for a, b in pairwise(away)]
    left, kappa = remaining(changes, rates)
    assert kappa == pytest.approx(order)
    assert left == pytest.approx(away[-1] ** 2)


def test_remaining_of_one_change_is_cautious():
    left, kappa = remaining([0.3], [0.1, 0.025])
    assert kappa == 0.5
    assert left == pytest.approx(0.3)  # sqrt(4) - 1 = 1
