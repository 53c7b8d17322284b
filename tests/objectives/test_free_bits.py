"""Free bits by hand: a floor under each dimension's mean KL, and no pull below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.config import NetConfig
from jensen.objectives import Context, Elbo, FreeBits


def kl_by_hand(loc: Tensor, log_scale: Tensor) -> np.ndarray[Any, Any]:
    """KL(N(loc, scale^2) || N(0, 1)) of each number."""
    mean, log_sigma = loc.detach().numpy(), log_scale.detach().numpy()
    found: np.ndarray[Any, Any] = 0.5 * (mean**2 + np.exp(2 * log_sigma) - 1 - 2 * log_sigma)
    return found


@pytest.mark.parametrize("free", [0.0, 0.6, 50.0])
def test_by_hand(free: float, made: Callable[..., Any]) -> None:
    output, leaves = made(2, 8, (4,))
    loss = FreeBits(free)(output)
    means = kl_by_hand(leaves["q_loc"], leaves["q_log_scale"])[0].mean(0)
    if free == 0.6:
        assert means.min() < free < means.max()
    price = np.maximum(free, means).sum()
    assert loss.value.item() == pytest.approx(-output.log_likelihood().mean().item() + price, rel=1e-9)
    assert loss.terms["unused_free_bits"].item() == pytest.approx(price - means.sum(), rel=1e-9, abs=1e-12)


def test_a_dimension_below_its_floor_is_not_pulled(made: Callable[..., Any]) -> None:
    output, leaves = made(1, 8, (4,))
    means = kl_by_hand(leaves["q_loc"], leaves["q_log_scale"])[0].mean(0)
    free = float(np.sort(means)[1:3].mean())
    gradients = [
        torch.autograd.grad(objective(output).value, leaves["q_loc"], retain_graph=True)[0]
        for objective in (FreeBits(free), Elbo())
    ]
    above = torch.from_numpy(means > free)
    assert above.sum() == 2
    assert (gradients[0][..., ~above] == 0).all()
    torch.testing.assert_close(gradients[0][..., above], gradients[1][..., above])


def test_levels_have_floors_of_their_own(forms: dict[str, Callable[[], Any]]) -> None:
    output, _ = forms["two levels, three samples"]()
    means = torch.cat([level.kl().mean((0, 1)) for level in output.levels])
    assert len(means) == 5
    expected = -output.log_likelihood().mean() + means.clamp(min=0.8).sum()
    torch.testing.assert_close(FreeBits(0.8)(output).value, expected)


def test_enumerated_samples_count_by_their_weight(forms: dict[str, Callable[[], Any]]) -> None:
    output, _ = forms["enumerated"]()
    y, z = output.levels
    weights = output.log_weights.exp()
    means = (weights.unsqueeze(-1) * z.kl()).sum(0).mean(0)
    expected = -output.average(output.log_likelihood()) + means.clamp(min=0.5).sum() + y.kl()[0].mean()
    torch.testing.assert_close(FreeBits(0.5)(output).value, expected)


@pytest.mark.parametrize("known", [1, 6])
def test_sampled_kl_with_known_labels(known: int) -> None:
    """Classes that a label rules out have a log q(y | x) of -inf."""
    model = SemiSupervisedVAE((5,), 3, net=NetConfig(width=8), likelihood="gaussian", condition_shape=(4,))
    condition = torch.eye(4)[torch.arange(6) % 4]
    condition[known:] = 0
    loss = FreeBits(0.5, kl="monte-carlo")(model(torch.randn(6, 5), condition=condition))
    assert torch.isfinite(loss.value)
    assert all(torch.isfinite(term) for term in loss.terms.values())
    gradients = torch.autograd.grad(loss.value, list(model.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_floor_is_under_the_mean_over_all_devices(made: Callable[..., Any]) -> None:
    (first, _), (second, _) = made(batch=4), made(batch=4)
    rates = [output.levels[0].kl().mean((0, 1)).detach() for output in (first, second)]
    loss = FreeBits(0.9)(first, Context(gather=lambda values: torch.stack(rates).unsqueeze(1)))
    expected = ((rates[0] + rates[1]) / 2).clamp(min=0.9).sum()
    torch.testing.assert_close(loss.value + first.log_likelihood().mean(), expected)


def test_sampled_kl(made: Callable[..., Any]) -> None:
    output, _ = made(3)
    (level,) = output.levels
    means = (level.log_q() - level.log_p()).mean((0, 1))
    loss = FreeBits(0.7, kl="monte-carlo")(output)
    torch.testing.assert_close(loss.value + output.log_likelihood().mean(), means.clamp(min=0.7).sum())


@pytest.mark.parametrize("free", [-0.1, float("inf")])
def test_wrong_free_bits(free: float) -> None:
    with pytest.raises(ValueError, match="free_bits should be 0 or more and finite"):
        FreeBits(free)
