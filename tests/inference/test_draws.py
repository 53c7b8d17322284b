"""Fixed draws: their moments, that they grow, and what they leave of the bound."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jensen.inference.draws import Draws, matched, pairs
from jensen.inference.minimise import minimise


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize("size", [1, 3, 8])
def test_mean_and_covariance_are_exact_where_there_are_enough(size: int) -> None:
    noise = Draws(size, generator(1)).matched(2 * size + 6)
    assert noise.shape == (2 * size + 6, size)
    torch.testing.assert_close(noise.mean(0), torch.zeros(size, dtype=torch.float64), atol=1e-14, rtol=0)
    torch.testing.assert_close(noise.T @ noise / len(noise), torch.eye(size, dtype=torch.float64), atol=1e-13, rtol=0)


def test_variances_are_exact_where_there_are_few() -> None:
    noise = Draws(20, generator(2)).matched(8)
    torch.testing.assert_close(noise.mean(0), torch.zeros(20, dtype=torch.float64), atol=1e-14, rtol=0)
    torch.testing.assert_close(noise.square().mean(0), torch.ones(20, dtype=torch.float64))


def test_growing_keeps_what_was_there() -> None:
    draws = Draws(4, generator(3))
    few = draws.plain(10)
    many = draws.plain(50)
    torch.testing.assert_close(many[:10], few, atol=0, rtol=0)
    torch.testing.assert_close(few[1::2], -few[::2], atol=0, rtol=0)
    torch.testing.assert_close(Draws(4, generator(3)).plain(50), many, atol=0, rtol=0)
    # Matching changes many draws little: they already nearly have the normal's moments.
    big = draws.plain(20_000)
    assert float((draws.matched(20_000) - big).abs().mean()) < 0.02
    assert float((draws.matched(10) - few).abs().mean()) > 0.1


def test_odd_numbers_are_rounded_up() -> None:
    assert Draws(2, generator(0)).plain(7).shape == (8, 2)


def test_sets_are_matched_each_by_itself() -> None:
    halves = normal(3, 12, 5, seed=4)
    together = matched(halves)
    for k in range(3):
        torch.testing.assert_close(together[k], matched(halves[k]))
    assert pairs(together).shape == (3, 24, 5)
    torch.testing.assert_close(pairs(together)[1, 0], -pairs(together)[1, 1])


def test_matched_draws_are_normal() -> None:
    """Each coordinate's distribution over many seeds, by its quantiles; and the fourth moment's known bias.

    Columns of an H x D orthonormal frame: E x^4 = 3 H / (H + 2) for a coordinate scaled to variance 1.
    """
    values = torch.cat([matched(normal(16, 4, seed=s)).flatten() for s in range(400)])
    assert float(values.pow(4).mean()) == pytest.approx(3 * 16 / 18, rel=0.02)
    quantiles = torch.quantile(values, torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64))
    expected = [-1.2816, -0.6745, 0.0, 0.6745, 1.2816]
    assert quantiles.tolist() == pytest.approx(expected, abs=0.05)


def shortfall(size: int, noise: Tensor) -> float:
    """Nats by which the mean-field optimum at these draws misses the best ELBO of a standard normal posterior."""

    def bound(x: Tensor) -> Tensor:
        u = x[:, None, :size] + x[:, None, size:].exp() * noise
        return 0.5 * u.square().sum(-1).mean(-1) - x[:, size:].sum(-1)

    x = minimise(bound, torch.zeros(1, 2 * size, dtype=torch.float64), tolerance=1e-10).x[0]
    scale = x[size:].exp()
    return float((0.5 * (x[:size].square() + scale.square() - 1) - x[size:]).sum())


@pytest.mark.parametrize(("size", "plain"), [(10, 0.40), (20, 0.79)])
def test_thirty_plain_draws_overfit_and_matched_ones_do_not(size: int, plain: float) -> None:
    seeds = range(40)
    average = sum(shortfall(size, normal(30, size, seed=s)) for s in seeds) / len(seeds)
    assert average == pytest.approx(plain, rel=0.15)
    assert max(shortfall(size, Draws(size, generator(s)).matched(30)) for s in range(5)) < 1e-9


def test_quadratics_are_integrated_exactly() -> None:
    matrix, vector = normal(6, 6, seed=5), normal(6, seed=6)
    noise = Draws(6, generator(7)).matched(12)
    values = torch.einsum("mi,ij,mj->m", noise, matrix, noise) + noise @ vector + 2
    assert float(values.mean()) == pytest.approx(float(matrix.trace()) + 2, abs=1e-12)


def test_smooth_functions_are_integrated_better_than_by_chance() -> None:
    """E exp(a^T x) = exp(|a|^2 / 2): root mean square error over seeds against that of plain draws."""
    direction = torch.full((4,), 0.5, dtype=torch.float64)
    truth = math.exp(0.5)

    def error(noise: Tensor) -> float:
        return float((noise @ direction).exp().mean()) - truth

    seeds = range(200)
    plain = math.sqrt(sum(error(normal(32, 4, seed=s)) ** 2 for s in seeds) / len(seeds))
    ours = math.sqrt(sum(error(Draws(4, generator(s)).matched(32)) ** 2 for s in seeds) / len(seeds))
    assert ours < 0.25 * plain


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one dimension"):
        Draws(0, generator(0))
    with pytest.raises(ValueError, match="no draws"):
        matched(torch.zeros(0, 3))
