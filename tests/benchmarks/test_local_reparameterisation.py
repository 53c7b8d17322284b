"""The variances of the benchmark: their estimate, and the gradients that they are of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from benchmarks.local_reparameterisation import NO_NOISE, choose, gradient, network, spread

from jensen.nn.bayesian_network import posterior_mean


def test_variance_is_averaged_over_weights() -> None:
    draws = torch.randn(4_000, 3, 2) * torch.tensor([1.0, 2.0])
    found = spread(draws)
    assert found.value == pytest.approx((1 + 4) / 2, abs=4 * found.error)
    # Var of the mean over 6 weights of z^2 s^2: 3 weights each of variance 2 and 2 x 16, over 36, over the draws.
    assert found.error == pytest.approx((3 * (2 + 32) / 36 / 4_000) ** 0.5, rel=0.1)
    assert spread(torch.tensor([[1.0], [3.0]])).value == pytest.approx(2.0)


def test_gradient_is_that_of_all_data() -> None:
    net, x, y = network(5), torch.rand(250, 784), torch.randint(0, 10, (250,))
    weights = [net[-1].weight, net[0].weight]
    found = gradient(net, x, y, 1_000, NO_NOISE, weights)
    with posterior_mean(net):
        expected = torch.autograd.grad(-4 * F.cross_entropy(net(x), y, reduction="sum"), weights)
    torch.testing.assert_close(found, expected)


def test_parts_of_separate_weights_add_up() -> None:
    """250 data are three parts; at next to no noise every estimator gives the gradient without it."""
    net, x, y = network(5).double(), torch.rand(250, 784, dtype=torch.float64), torch.randint(0, 10, (250,))
    with torch.no_grad():
        for layer in net[::2]:
            layer.alpha_logit.fill_(-40.0)
    weights = [net[-1].weight, net[0].weight]
    exact = gradient(net, x, y, 1_000, NO_NOISE, weights)
    for name in ("local", "separate", "shared", "flipout"):
        found = gradient(net, x, y, 1_000, name, weights)
        assert {layer.estimator for layer in net[::2]} == {name}
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="estimator should be one of"):
        choose(net, "none")
