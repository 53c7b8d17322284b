"""The maximum mean discrepancy against closed forms, sums by hand, and its objective."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace

from jensen.bound import Level
from jensen.objectives import Context, Mmd
from jensen.objectives.mmd import _squared_distances, mmd

Kernel = Literal["imq", "rbf"]


def kernel_by_hand(kernel: Kernel, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    squared, dims = float(((x - y) ** 2).sum()), len(x)
    if kernel == "rbf":
        return math.exp(-squared / (2 * dims))
    scales = [2 * dims * s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    return sum(scale / (scale + squared) for scale in scales) / 7


def by_hand(kernel: Kernel, z: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """The unbiased estimate, pair by pair."""
    n = len(z)
    total = 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total += kernel_by_hand(kernel, z[i], z[j]) + kernel_by_hand(kernel, y[i], y[j])
                total -= kernel_by_hand(kernel, z[i], y[j]) + kernel_by_hand(kernel, y[i], z[j])
    return total / (n * (n - 1))


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_pair_by_pair(kernel: Kernel) -> None:
    z, y = torch.randn(3, 6, 4).double() + 0.5, torch.randn(3, 6, 4).double()
    expected = np.mean([by_hand(kernel, z[i].numpy(), y[i].numpy()) for i in range(3)])
    assert mmd(z, y, kernel).item() == pytest.approx(expected, rel=1e-9)


def estimates(draw: Callable[[], tuple[Tensor, Tensor]], kernel: Kernel, times: int = 60) -> tuple[float, float]:
    """Mean and standard error of repeated estimates."""
    found = torch.stack([mmd(*draw(), kernel) for _ in range(times)])
    return found.mean().item(), found.std().item() / math.sqrt(times)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mean_zero_where_the_two_are_the_same(kernel: Kernel) -> None:
    mean, error = estimates(lambda: (torch.randn(100, 8, 3), torch.randn(100, 8, 3)), kernel)
    assert abs(mean) < 4 * error
    assert error < 1e-3


def test_mean_zero_where_both_know_the_same_condition() -> None:
    """Draws z_i and y_i around a centre of their own: dependent, but of the same marginal distribution."""

    def draw() -> tuple[Tensor, Tensor]:
        centre = 2 * torch.randn(100, 8, 3)
        return centre + 0.1 * torch.randn(100, 8, 3), centre + 0.1 * torch.randn(100, 8, 3)

    mean, error = estimates(draw, "rbf")
    assert abs(mean) < 4 * error
    assert mmd(*(2 * [torch.randn(2, 8, 3)])).item() == pytest.approx(0.0, abs=1e-6)


def gaussian_overlap(shift: np.ndarray[Any, Any], variance: np.ndarray[Any, Any]) -> float:
    """E exp(-|d|^2 / 2 D) for d of independent normal dimensions with mean `shift` and `variance`."""
    width = len(shift)
    factors = np.sqrt(width / (width + variance)) * np.exp(-(shift**2) / (2 * (width + variance)))
    return float(factors.prod())


def test_closed_form_between_two_gaussians() -> None:
    mean, sigma = np.array([0.5, -1.0, 0.0]), np.array([0.3, 1.0, 1.7])
    nothing, one = np.zeros(3), np.ones(3)
    exact = gaussian_overlap(nothing, 2 * sigma**2) + gaussian_overlap(nothing, 2 * one)
    exact -= 2 * gaussian_overlap(mean, sigma**2 + 1)
    loc, scale = torch.from_numpy(mean), torch.from_numpy(sigma)

    def draw() -> tuple[Tensor, Tensor]:
        shape = (100, 16, 3)
        return loc + scale * torch.randn(shape).double(), torch.randn(shape).double()

    found, error = estimates(draw, "rbf")
    assert abs(found - exact) < 4 * error
    assert error < 0.02 * exact


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_weighted_samples(kernel: Kernel) -> None:
    """Weights of 0 and 1 pick a sample of each datum; others mix all that may be picked."""
    z, y = torch.randn(2, 3, 2).double(), torch.randn(2, 3, 2).double()
    chances = torch.tensor([[0.2, 0.7, 0.5], [0.8, 0.3, 0.5]], dtype=torch.float64)
    expected = 0.0
    for code in range(8):
        # Pairs of different data pick independently, so that the mean over all picks is the weighted sum of pairs.
        picked = torch.tensor([[code >> i & 1 for i in range(3)]])
        chance = chances.gather(0, picked).prod()
        one = [values.gather(0, picked.unsqueeze(-1).expand(1, 3, 2)) for values in (z, y)]
        weights = torch.zeros(2, 3).double().scatter_(0, picked, 1.0)
        torch.testing.assert_close(mmd(z, y, kernel, weights), mmd(one[0], one[1], kernel))
        expected += (chance * mmd(one[0], one[1], kernel)).item()
    assert mmd(z, y, kernel, chances).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("alpha", "weight"), [(0.0, 1000.0), (-0.5, 3.0), (1.0, 10.0), (0.0, 1.0)])
def test_weights_of_the_two_terms(alpha: float, weight: float, made: Callable[..., Any]) -> None:
    output, _ = made(2)
    generator = torch.Generator().manual_seed(3)
    loss = Mmd(alpha, weight)(output, Context(generator=generator))
    y = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = mmd(output.levels[0].z, y)
    assert loss.terms["mmd"].item() == pytest.approx(found.item(), rel=1e-9)
    price = (1 - alpha) * output.rate().mean() + (alpha + weight - 1) * found
    torch.testing.assert_close(loss.value, -output.log_likelihood().mean() + price)


def test_draws_are_of_the_prior_that_the_level_has(forms: dict[str, Callable[[], Any]]) -> None:
    """A prior that is the posterior of each datum makes both aggregates the same; one far away does not."""
    output, _ = forms["learned prior"]()
    (level,) = output.levels
    same = replace(output, levels=(Level(level.z, level.posterior, level.posterior),))
    found = []
    for _ in range(300):
        z = level.posterior.sample()
        found.append(Mmd()(replace(same, levels=(replace(same.levels[0], z=z),))).terms["mmd"])
    values = torch.stack(found)
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(300)
    assert values.std() < 0.1
    far = replace(level, prior=type(level.prior)(level.prior.loc + 50, level.prior.scale))
    assert Mmd()(replace(output, levels=(far,))).terms["mmd"].item() > 0.5


def test_a_prior_without_a_generator_of_its_own(made: Callable[..., Any]) -> None:
    output, _ = made(2)
    zero = torch.zeros((), dtype=torch.float64)
    level = replace(output.levels[0], prior=Laplace(zero + 40, zero + 1))
    loss = Mmd(kl="monte-carlo")(replace(output, levels=(level,)))
    assert loss.terms["mmd"].item() > 0.5
    assert torch.isfinite(loss.value)


def test_autocast_does_not_round_the_distances() -> None:
    z, y = torch.randn(1, 64, 10), torch.randn(1, 64, 10)
    expected = mmd(z, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(mmd(z, y), expected)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_far_from_the_origin_no_digits_are_lost(kernel: Kernel) -> None:
    z, y = 0.3 * torch.randn(1, 128, 10), 0.3 * torch.randn(1, 128, 10) + 0.1
    near = (z.double() + 300).requires_grad_()
    exact = mmd(near, y.double() + 300, kernel)
    far = near.detach().float().requires_grad_()
    found = mmd(far, (y.double() + 300).float(), kernel)
    assert found.item() == pytest.approx(exact.item(), rel=2e-3)
    gradients = [torch.autograd.grad(value, at)[0].double() for value, at in ((found, far), (exact, near))]
    assert (gradients[0] - gradients[1]).norm() < 2e-3 * gradients[1].norm()


def test_squared_distances_are_never_negative() -> None:
    """As rounding would have those of two equal points."""
    points = torch.randn(200, 10).repeat(2, 1)
    found = _squared_distances(points)
    assert found.min() == 0
    torch.testing.assert_close(found, torch.cdist(points, points).square(), rtol=1e-4, atol=1e-4)


def test_a_learned_prior_is_moved_by_its_draws(forms: dict[str, Callable[[], Any]]) -> None:
    """alpha 1 leaves no KL: what reaches the prior's parameters comes by its draws alone."""
    output, leaves = forms["learned prior"]()
    names = ["p_loc", "p_log_scale"]
    generator = torch.Generator().manual_seed(3)
    loss = Mmd(1.0, 10.0)(output, Context(generator=generator))
    found = torch.autograd.grad(loss.value, [leaves[name] for name in names])
    noise = torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    draws = leaves["p_loc"] + leaves["p_log_scale"].exp() * noise
    expected = torch.autograd.grad(10 * mmd(output.levels[0].z.detach(), draws), [leaves[name] for name in names])
    for one, other in zip(found, expected, strict=True):
        assert (one != 0).any()
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel": "linear"}, "kernel should be imq or rbf, got 'linear'"),
        ({"alpha": 1.1}, "alpha should be at most 1"),
        ({"alpha": float("nan")}, "alpha should be at most 1"),
        ({"mmd_weight": float("inf")}, "mmd_weight should be 0 or more and finite"),
        ({"alpha": -5.0, "mmd_weight": 2.0}, r"alpha \+ mmd_weight should be at least 1"),
        ({"alpha": -math.inf}, r"alpha \+ mmd_weight should be at least 1"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mmd(**wrong)
