"""NVAE: a posterior in the units of its prior."""

from __future__ import annotations

import pytest
import torch
from deep_cases import NETS, binary, lively, made
from torch import nn
from torch.distributions import Normal, kl_divergence

from jensen.autoencoders import residual_normal
from jensen.bound import Level


def test_kl_of_a_residual_normal() -> None:
    """(delta mu^2 / sigma_p^2 + delta sigma^2 - log delta sigma^2 - 1) / 2, in the paper's equation 2."""
    mean, shift = torch.randn(2, 1, 4, 50, dtype=torch.float64)
    sd, ratio = torch.randn(2, 1, 4, 50, dtype=torch.float64).mul(2).exp()
    prior = Normal(mean, sd)
    posterior = residual_normal(prior, Normal(shift, ratio))
    expected = (shift**2 / sd**2 + ratio**2 - torch.log(ratio**2) - 1) / 2
    torch.testing.assert_close(kl_divergence(posterior, prior), expected)
    torch.testing.assert_close(Level(posterior.sample(), posterior, prior).kl(), expected)
    torch.testing.assert_close(posterior.mean, mean + shift)
    torch.testing.assert_close(posterior.stddev, sd * ratio)


def test_no_change_is_the_prior() -> None:
    prior = Normal(torch.randn(5), torch.rand(5) + 0.1)
    same = residual_normal(prior, Normal(torch.zeros(5), torch.ones(5)))
    assert torch.equal(kl_divergence(same, prior), torch.zeros(5))


@pytest.mark.parametrize("net", NETS)
def test_posterior_moves_with_its_prior_and_at_most_so_far(net: str) -> None:
    model, x = lively(made("nvae", net), 0.8), binary(2)
    with torch.no_grad():
        for head in model.way_up.heads:
            head.out.apply(lambda layer: layer.weight.mul_(100.0) if isinstance(layer, nn.Linear | nn.Conv2d) else None)
        output = model(x, samples=3)
    furthest = 0.0
    for level in output.levels:
        assert level.posterior is not None
        assert level.prior is not None
        change = (level.posterior.mean - level.prior.mean).abs()
        ratio = (level.posterior.stddev / level.prior.stddev).log().abs()
        assert change.max() <= 5 + 1e-9
        assert ratio.max() <= 5 + 1e-9
        furthest = max(furthest, change.max().item())
    assert furthest > 4


@pytest.mark.parametrize("net", NETS)
def test_features_are_of_the_data_alone_and_the_posterior_of_the_levels_above_too(net: str) -> None:
    model, x = lively(made("nvae", net), 0.8), binary(2)
    output = model(x, samples=3)
    top, *below = output.levels
    assert top.posterior is not None
    torch.testing.assert_close(top.posterior.mean[0], top.posterior.mean[2])
    for level in below:
        assert level.posterior is not None
        assert level.prior is not None
        change = level.posterior.mean - level.prior.mean
        assert not torch.allclose(change[0], change[2])  # the state is merged into the features


def test_head_of_the_top_level_has_no_state_to_merge() -> None:
    heads = made("nvae", "cells").way_up.heads
    assert [head.merge is None for head in heads] == [False, False, True]


@pytest.mark.parametrize(("shape", "cells"), [((1, 6, 7), True), ((3, 32, 32), True), ((5,), False), ((1, 20), False)])
def test_cells_are_the_usual_nets_of_images(shape: tuple[int, ...], cells: bool) -> None:
    model = made("nvae", "auto", shape)
    assert model.config is not None
    assert model.config.net.kind == ("cells" if cells else "mlp")
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == cells
