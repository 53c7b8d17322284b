"""The Ladder VAE: its merging of two Gaussians, and what its posterior sees."""

from __future__ import annotations

import pytest
import torch
from deep_cases import NETS, binary, lively, made
from torch import Tensor
from torch.distributions import Normal

from jensen.autoencoders import precision_weighted


@pytest.mark.parametrize(
    ("mean", "sd", "other_mean", "other_sd"),
    [(0.0, 1.0, 0.0, 1.0), (1.0, 0.5, -2.0, 2.0), (3.0, 0.1, 2.5, 0.2), (-1.0, 4.0, 7.0, 0.3), (0.2, 0.05, 0.3, 3.0)],
)
def test_merged_is_the_normalised_product_of_densities(
    mean: float, sd: float, other_mean: float, other_sd: float
) -> None:
    one, other = (Normal(*torch.tensor(pair, dtype=torch.float64)) for pair in ((mean, sd), (other_mean, other_sd)))
    z = torch.linspace(-60.0, 60.0, 240_001, dtype=torch.float64)
    product = (one.log_prob(z) + other.log_prob(z)).exp()
    product = product / torch.trapezoid(product, z)
    merged = precision_weighted(one, other)
    torch.testing.assert_close(merged.log_prob(z).exp(), product, rtol=1e-8, atol=1e-10)
    centre = torch.trapezoid(product * z, z)
    torch.testing.assert_close(merged.mean, centre)
    torch.testing.assert_close(merged.variance, torch.trapezoid(product * (z - centre) ** 2, z))


def test_merged_at_scales_over_six_orders_of_magnitude() -> None:
    scales = torch.logspace(-3, 3, 13, dtype=torch.float64)
    first, second = (grid.flatten() for grid in torch.meshgrid(scales, scales, indexing="ij"))
    mean, other = torch.randn(2, len(first), dtype=torch.float64)
    merged = precision_weighted(Normal(mean, first), Normal(other, second))
    # On a grid in units of the narrower of the two, around its mean and that of the product.
    unit = torch.minimum(first, second)
    centre = torch.where(first < second, mean, other)
    shift = (merged.mean - centre) / unit
    assert bool((shift.abs() < 1e4).all())
    u = torch.linspace(-12.0, 12.0, 4001, dtype=torch.float64)[:, None]
    z = merged.mean + u * unit
    log_product = Normal(mean, first).log_prob(z) + Normal(other, second).log_prob(z)
    log_product = log_product - torch.logsumexp(log_product, 0) - torch.log(unit * (u[1] - u[0]))
    likely = log_product > -30
    torch.testing.assert_close(merged.log_prob(z)[likely], log_product[likely], rtol=1e-6, atol=1e-6)
    assert bool((merged.stddev < unit).all())
    small = precision_weighted(Normal(mean.float(), first.float()), Normal(other.float(), second.float()))
    torch.testing.assert_close(small.stddev.double(), merged.stddev, rtol=1e-5, atol=0.0)


def test_equal_gaussians_halve_the_variance_not_the_deviation() -> None:
    merged = precision_weighted(
        Normal(torch.zeros(1), torch.full((1,), 2.0)), Normal(torch.ones(1), torch.full((1,), 2.0))
    )
    assert merged.variance.item() == pytest.approx(2.0)
    assert merged.mean.item() == pytest.approx(0.5)


def test_gradients_of_the_merging() -> None:
    values = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(4)]

    def merged(mean: Tensor, log_sd: Tensor, other: Tensor, other_log_sd: Tensor) -> tuple[Tensor, Tensor]:
        q = precision_weighted(Normal(mean, log_sd.exp()), Normal(other, other_log_sd.exp()))
        return q.mean, q.stddev

    assert torch.autograd.gradcheck(merged, values)


@pytest.mark.parametrize("net", NETS)
def test_evidence_is_of_the_data_alone_and_the_posterior_of_the_levels_above_too(net: str) -> None:
    model, x = lively(made("ladder", net), 0.8), binary(2)
    output = model(x, samples=3)
    top, *below = [level.posterior for level in output.levels if level.posterior is not None]
    torch.testing.assert_close(top.mean[0], top.mean[2])
    for i, posterior in enumerate(below, 1):
        assert not torch.allclose(posterior.mean[0], posterior.mean[2])
        # What the data say follows from the posterior and its prior, and is the same for all draws.
        prior = output.levels[i].prior
        assert prior is not None
        assert bool((posterior.stddev < prior.stddev).all())
        precision = posterior.variance.reciprocal() - prior.variance.reciprocal()
        mean = (posterior.mean / posterior.variance - prior.mean / prior.variance) / precision
        for said in (precision, mean):
            torch.testing.assert_close(said[0], said[2], rtol=1e-4, atol=1e-4)
            assert not torch.allclose(said[0, 0], said[0, 1])


@pytest.mark.parametrize(
    ("kind", "net", "sees"),
    [("ladder", "mlp", False), ("hvae", "mlp", False), ("ladder", "conv", True), ("nvae", "cells", True)],
)
def test_the_lowest_prior_sees_the_next_level_alone_or_all(kind: str, net: str, sees: bool) -> None:
    """Fully connected p(z_1 | z_2) knows z_3 through z_2 only; with convolutions the state goes down all the way."""
    model = lively(made(kind, net), 0.8)
    codes = [torch.randn(1, *shape, dtype=torch.float64, requires_grad=True) for shape in model.level_shapes]
    levels, _ = model.way_down.walk(1, lambda i, *_: (codes[i], None))
    assert levels[2].prior is not None
    of_top, of_next, of_own = torch.autograd.grad(levels[2].prior.mean.square().sum(), codes, allow_unused=True)
    assert of_next is not None
    assert of_next.abs().sum() > 0
    assert of_own is None
    assert (of_top is not None and bool(of_top.abs().sum() > 0)) == sees
