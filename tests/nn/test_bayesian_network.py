"""The bound of a network with Bayesian layers: against the evidence of a linear model, and over minibatches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from jensen.autoencoders import VAE
from jensen.nn.bayesian import BayesianConv2d, BayesianLinear
from jensen.nn.bayesian_network import bayesian_elbo, kl_divergence, posterior_mean
from jensen.nn.variational_dropout import VariationalDropout, VariationalDropoutLinear
from jensen.objectives import Elbo

NOISE, PRIOR = 0.5, 1.5


def exact_regression() -> tuple[BayesianLinear, Tensor, Tensor]:
    """A linear model whose design has orthogonal columns: its true posterior is diagonal, and is what q is set to."""
    x = torch.linalg.qr(torch.randn(12, 3, dtype=torch.float64)).Q * torch.tensor([1.0, 2.0, 3.0])
    y = x @ torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64) + NOISE * torch.randn(12, dtype=torch.float64)
    precision = x.square().sum(0) / NOISE**2 + PRIOR**-2
    layer = BayesianLinear(3, 1, bias=False, prior_scale=PRIOR).double()
    with torch.no_grad():
        layer.weight_loc.copy_((x.T @ y / NOISE**2 / precision)[None])
        layer.weight_log_scale.copy_(-0.5 * precision.log()[None])
    return layer, x, y


def log_likelihood(layer: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    residual = (y - layer(x).squeeze(-1)) / NOISE
    return -0.5 * residual.square() - math.log(NOISE) - 0.5 * math.log(2 * math.pi)


def test_bound_at_the_true_posterior_is_the_evidence() -> None:
    layer, x, y = exact_regression()
    covariance = PRIOR**2 * x @ x.T + NOISE**2 * torch.eye(12, dtype=torch.float64)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(12, dtype=torch.float64), covariance).log_prob(y)
    draws = log_likelihood(layer, x.expand(5_000, 12, 3), y)
    bound = bayesian_elbo(draws, layer, 12)
    error = draws.sum(1).std().item() / math.sqrt(5_000)
    assert 12 * bound.elbo.item() == pytest.approx(evidence.item(), abs=4 * error)
    assert error < 0.05
    assert bound.elbo.item() == pytest.approx((bound.log_likelihood - bound.rate).item(), rel=1e-12)
    assert 12 * bound.rate.item() == pytest.approx(layer.kl_divergence().item(), rel=1e-12)


def test_minibatches_average_to_the_whole() -> None:
    layer, x, y = exact_regression()
    with posterior_mean(layer):
        whole = bayesian_elbo(log_likelihood(layer, x, y), layer, 12)
        parts = [
            bayesian_elbo(log_likelihood(layer, *part), layer, 12) for part in zip(x.split(4), y.split(4), strict=True)
        ]
    for name in ("elbo", "log_likelihood", "rate"):
        mean = sum(getattr(part, name).item() for part in parts) / 3
        assert mean == pytest.approx(getattr(whole, name).item(), rel=1e-12)


def test_training_finds_the_posterior() -> None:
    """From elsewhere, by minibatches of the bound: to the exact means and standard deviations."""
    exact, x, y = exact_regression()
    layer = BayesianLinear(3, 1, bias=False, prior_scale=PRIOR, initial_scale=0.5).double()
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.998)
    for step in range(2_500):
        rows = torch.arange(12).roll(4 * step)[:4]
        optimiser.zero_grad()
        (-bayesian_elbo(log_likelihood(layer, x[rows], y[rows]), layer, 12).elbo).backward()
        optimiser.step()
        schedule.step()
    scale = exact.posterior().weight_scale
    assert ((layer.weight_loc - exact.weight_loc) / scale).abs().max() < 0.1
    assert (layer.weight_log_scale - exact.weight_log_scale).abs().max() < 0.1


def network() -> nn.Sequential:
    return nn.Sequential(
        BayesianConv2d(1, 2, 3),
        nn.Flatten(),
        VariationalDropout(8),
        BayesianLinear(8, 4),
        VariationalDropoutLinear(4, 2),
    )


def test_kl_of_a_network_is_the_sum_over_layers() -> None:
    net = network()
    expected = sum(net[i].kl_divergence().item() for i in (0, 2, 3, 4))
    assert kl_divergence(net).item() == pytest.approx(expected, rel=1e-6)
    assert kl_divergence(net[3]).item() == net[3].kl_divergence().item()


def test_a_layer_used_twice_pays_once() -> None:
    layer = BayesianLinear(3, 3)
    assert kl_divergence(nn.Sequential(layer, nn.Tanh(), layer)).item() == layer.kl_divergence().item()


def test_mean_weights() -> None:
    net, x = network(), torch.randn(2, 1, 4, 4)
    convolved = nn.functional.conv2d(x, net[0].weight_loc, net[0].bias_loc).flatten(1)
    hidden = nn.functional.linear(convolved, net[3].weight_loc, net[3].bias_loc)
    expected = nn.functional.linear(hidden, net[4].weight, net[4].bias)
    assert not torch.allclose(net(x), expected)
    with posterior_mean(net):
        torch.testing.assert_close(net(x), expected)
        with posterior_mean(net[3]):
            pass
        torch.testing.assert_close(net(x), expected)  # the inner one leaves what it found
    assert not torch.allclose(net(x), expected)


def test_noise_returns_after_an_error() -> None:
    layer = BayesianLinear(2, 2)
    with pytest.raises(RuntimeError, match="in between"), posterior_mean(layer):
        raise RuntimeError("in between")
    assert layer.noisy


def test_weights_of_a_decoder_in_the_bound_of_an_auto_encoder() -> None:
    """The KL over N is a penalty in nats per example, and the layers take (samples x batch) rows."""
    model = VAE((4,), latent=2, likelihood="gaussian", decoder=BayesianLinear(2, 4))
    output = model(torch.rand(6, 4), samples=3)
    weights = kl_divergence(model) / 50
    loss = Elbo()(replace(output, penalties={"weights": weights}))
    torch.testing.assert_close(loss.value, Elbo()(output).value + weights)
    torch.testing.assert_close(loss.terms["weights"], weights.detach())


def test_bad_input() -> None:
    layer, plain = BayesianLinear(2, 1), nn.Sequential(nn.Linear(2, 1))
    for refused in (kl_divergence, lambda module: posterior_mean(module).__enter__()):
        with pytest.raises(ValueError, match="Sequential has no Bayesian layer"):
            refused(plain)
    for values in (torch.tensor(1.0), torch.zeros(2, 3, 4), torch.zeros(0)):
        with pytest.raises(ValueError, match="one number an example"):
            bayesian_elbo(values, layer, 10)
    with pytest.raises(ValueError, match="10 is less than the batch's 32"):
        bayesian_elbo(torch.zeros(5, 32), layer, 10)
