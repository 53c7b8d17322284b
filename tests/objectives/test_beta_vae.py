"""beta-VAE: sums, not means, so that beta means the same whatever the batch and the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from jensen.bound import Level, Output
from jensen.objectives import Beta, Elbo


def images(batch: int, side: int) -> Output:
    """Pictures in black and white and codes of two numbers."""
    q = Normal(torch.randn(1, batch, 2), torch.rand(1, batch, 2) + 0.2)
    target = (torch.rand(1, batch, 1, side, side) < 0.5).float()
    p = Bernoulli(logits=torch.randn(1, batch, 1, side, side))
    return Output(target, p, (Level(q.rsample(), q, Normal(torch.tensor(0.0), torch.tensor(1.0))),))


def repeated(output: Output, times: int) -> Output:
    """The same examples, `times` over, in one batch."""
    (level,) = output.levels
    q, p = level.posterior, output.likelihood
    assert isinstance(q, Normal)
    assert isinstance(p, Bernoulli)
    again = Normal(q.loc.repeat(1, times, 1), q.scale.repeat(1, times, 1))
    place = (1, times, 1, 1, 1)
    return Output(
        output.target.repeat(place),
        Bernoulli(logits=p.logits.repeat(place)),
        (Level(level.z.repeat(1, times, 1), again, level.prior),),
    )


def tiled(output: Output, times: int) -> Output:
    """Each image and its likelihood `times` x `times` over, the code as before."""
    p = output.likelihood
    assert isinstance(p, Bernoulli)
    tile = (1, 1, 1, times, times)
    return Output(output.target.repeat(tile), Bernoulli(logits=p.logits.repeat(tile)), output.levels)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0, 16.0])
def test_the_loss_does_not_depend_on_the_size_of_the_batch(beta: float) -> None:
    output = images(4, 6)
    one = Beta(beta)(output)
    for times in (2, 7):
        torch.testing.assert_close(Beta(beta)(repeated(output, times)).value, one.value)


@pytest.mark.parametrize("times", [2, 3])
def test_beta_weighs_the_same_against_an_image_of_any_size(times: int) -> None:
    """Four times the pixels are four times the distortion, and the price of the code stays: beta is per nat."""
    output = images(4, 5)
    small, large = Beta(4.0)(output), Beta(4.0)(tiled(output, times))
    price = 4.0 * output.rate().mean()
    torch.testing.assert_close(large.value - price, times**2 * (small.value - price))
    torch.testing.assert_close(large.terms["rate"], small.terms["rate"])


def test_beta_one_is_the_elbo_in_value_and_gradient(made: Callable[..., Any]) -> None:
    output, leaves = made(3)
    one, elbo = Beta(1.0, samples=3)(output), Elbo(3)(output)
    torch.testing.assert_close(one.value, elbo.value)
    gradients = [torch.autograd.grad(loss.value, list(leaves.values()), retain_graph=True) for loss in (one, elbo)]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_beta_two_by_hand(made: Callable[..., Any]) -> None:
    output, leaves = made()
    loss = Beta(2.0)(output)
    mean, log_sigma = leaves["q_loc"], leaves["q_log_scale"]
    kl = 0.5 * (mean**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(-1).mean()
    assert loss.value.item() == pytest.approx((-output.log_likelihood().mean() + 2 * kl).item(), rel=1e-9)
    assert loss.terms["rate"].item() == pytest.approx(kl.item(), rel=1e-9)


def test_the_normalised_beta_is_said() -> None:
    assert Beta(4.0).describe(10, 64 * 64) == "beta 4; normalised (x 10 latents / 4096 values of a datum): 0.009766"
    assert Elbo().describe(10, 64 * 64) == ""


@pytest.mark.parametrize("beta", [-1.0, float("inf"), float("nan")])
def test_wrong_betas(beta: float) -> None:
    with pytest.raises(ValueError, match="beta should be 0 or more and finite"):
        Beta(beta)
