"""Step sizes against their formulas."""

from __future__ import annotations

import pytest
import torch

from jensen.inference import Adaptive, RobbinsMonro
from jensen.inference.steps import step_size

GRADIENT = torch.tensor([3.0, 4.0], dtype=torch.float64)


def test_robbins_monro():
    rho = RobbinsMonro(tau=10.0, kappa=0.7)
    assert [rho(t, GRADIENT) for t in (0, 1, 90)] == pytest.approx([10**-0.7, 11**-0.7, 100**-0.7])


@pytest.mark.parametrize(
    ("tau", "kappa", "message"),
    [
        (1.0, 0.5, "kappa"),
        (1.0, 1.01, "kappa"),
        (0.5, 0.7, "tau"),
        (float("nan"), 0.7, "tau"),
        (1.0, float("nan"), "kappa"),
    ],
)
def test_robbins_monro_refuses(tau, kappa, message):
    with pytest.raises(ValueError, match=message):
        RobbinsMonro(tau, kappa)


@pytest.mark.parametrize(("memory", "largest"), [(0.5, 0.5), (10.0, 1.0), (10.0, 0.0)])
def test_adaptive_refuses(memory, largest):
    with pytest.raises(ValueError, match="memory must be"):
        Adaptive(memory, largest)


def test_adaptive_grows_with_agreement_and_shrinks_with_noise():
    agree, noise = Adaptive(largest=0.99), Adaptive(largest=0.99)
    generator = torch.Generator().manual_seed(0)
    for t in range(200):
        steady = agree(t, GRADIENT)
        jumpy = noise(t, torch.randn(50, generator=generator, dtype=torch.float64))
    assert steady == pytest.approx(0.99)
    assert 0 < jumpy < 0.2
    assert Adaptive(largest=0.3)(0, GRADIENT) == 0.3
    assert Adaptive()(0, torch.zeros(3)) == 0.5


def test_adaptive_by_hand():
    slow = Adaptive(memory=4.0, largest=0.5)
    slow(0, GRADIENT)  # memory 4 (1 - 0.5) + 1 = 3
    mean = GRADIENT + (torch.tensor([-3.0, -4.0], dtype=torch.float64) - GRADIENT) / 3
    assert slow(1, -GRADIENT) == pytest.approx(float(mean @ mean) / 25)


def test_step_size():
    assert step_size(0.25)(7, GRADIENT) == 0.25
    assert step_size("adaptive")(0, GRADIENT) == Adaptive().largest
    for value in (2.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match="the function gave"):
            step_size(lambda t, gradient, value=value: value)(3, GRADIENT)
    for wrong in (0.0, 1.5, -1.0, "fast"):
        with pytest.raises(ValueError, match="rho must be"):
            step_size(wrong)
