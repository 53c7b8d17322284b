"""The Gaussian likelihood whose sigma is the best one for a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from jensen.bound import Output
from jensen.likelihoods import GaussianOptimal, NormalOfBatch


def residuals(*shape: int, scale: float = 0.3) -> tuple[Tensor, Tensor]:
    mean = torch.randn(*shape, dtype=torch.float64)
    return mean, mean[:1] + scale * torch.randn(1, *shape[1:], dtype=torch.float64)


def test_sigma_of_a_batch_is_the_most_likely_one() -> None:
    mean, x = residuals(2, 5, 3)
    found = GaussianOptimal().double()(mean.requires_grad_()).log_prob(x)

    def score(sigma: float) -> float:
        return float(stats.norm.logpdf(x.numpy(), mean.detach().numpy(), sigma).sum())

    best = math.sqrt(float((x - mean).detach().square().mean()))
    assert found.sum().item() == pytest.approx(score(best), rel=1e-12)
    assert score(best) > max(score(0.99 * best), score(1.01 * best))
    np.testing.assert_allclose(found.detach().numpy(), stats.norm.logpdf(x.numpy(), mean.detach().numpy(), best))


def test_gradient_is_that_of_half_the_logarithm_of_the_error() -> None:
    """Of -(N / 2) log MSE, sigma included, by autograd and by a difference."""
    mean, x = residuals(2, 5, 3)
    mean.requires_grad_()
    (found,) = torch.autograd.grad(GaussianOptimal().double()(mean).log_prob(x).sum(), mean)
    whole = -0.5 * mean.numel() * torch.log((x - mean).square().mean())
    (expected,) = torch.autograd.grad(whole, mean)
    torch.testing.assert_close(found, expected)


def test_missing_values_and_weights_do_not_count() -> None:
    mean, x = residuals(3, 4, 5)
    weights = (torch.rand(1, 4, 5) < 0.5).double() * torch.tensor([0.2, 0.5, 0.3]).double().view(3, 1, 1)
    likelihood = GaussianOptimal().double()
    distribution = likelihood(mean.requires_grad_())
    assert isinstance(distribution, NormalOfBatch)
    distribution.counting(weights).log_prob(x)
    expected = float((weights * (x - mean).detach().square()).sum() / weights.sum())
    assert float(likelihood.variance) == pytest.approx(expected, rel=1e-12)


def test_a_batch_without_values_changes_nothing() -> None:
    likelihood = GaussianOptimal()
    likelihood.variance.fill_(0.5)
    distribution = likelihood(torch.zeros(1, 2, 3))
    assert isinstance(distribution, NormalOfBatch)
    found = distribution.counting(torch.zeros(1, 2, 3)).log_prob(torch.ones(1, 2, 3))
    assert float(found[0, 0, 0]) == pytest.approx(stats.norm.logpdf(1.0, 0.0, math.sqrt(0.5)), rel=1e-6)
    assert float(likelihood.variance) == 0.5
    assert int(likelihood.steps) == 0
    likelihood(torch.zeros(2)).log_prob(torch.tensor([math.nan, 1.0]))
    assert float(likelihood.variance) == 0.5  # one bad batch does not stay for ever


def test_what_is_stored_is_the_mean_of_the_last_steps() -> None:
    likelihood, errors = GaussianOptimal(), []
    for step in range(1, 61):
        likelihood(torch.zeros(4)).log_prob(torch.full((4,), 0.1 * step))
        errors.append((0.1 * step) ** 2)
        if step <= 20:  # of all so far
            assert float(likelihood.variance) == pytest.approx(np.mean(errors), rel=1e-4)
    weights = 0.95 ** np.arange(40)[::-1] * 0.05
    expected = 0.95**40 * np.mean(errors[:20]) + (weights * errors[20:]).sum()
    assert float(likelihood.variance) == pytest.approx(expected, rel=1e-4)


def test_outside_training_each_value_has_a_density_of_its_own() -> None:
    likelihood = GaussianOptimal()
    likelihood(torch.zeros(50)).log_prob(0.3 * torch.randn(50))
    before = likelihood.variance.clone()
    mean, x = torch.randn(3, 4), torch.randn(3, 4)
    with torch.no_grad():  # in training mode too, where nothing is learned
        looked = likelihood(mean).log_prob(x)
    likelihood.eval()
    found = likelihood(mean).log_prob(x)
    torch.testing.assert_close(found, looked)
    torch.testing.assert_close(found[1:], likelihood(mean[1:]).log_prob(x[1:]))
    np.testing.assert_allclose(found.numpy(), stats.norm.logpdf(x, mean, float(before.sqrt())), rtol=1e-5)
    assert torch.equal(likelihood.variance, before)


@pytest.mark.parametrize("error", [0.0, 1e6])
def test_sigma_stays_within_bounds(error: float) -> None:
    likelihood = GaussianOptimal()
    mean = torch.zeros(4).requires_grad_()
    log_prob = likelihood(mean).log_prob(torch.full((4,), error))
    (gradient,) = torch.autograd.grad(log_prob.sum(), mean)
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(gradient).all()
    assert math.exp(-7.001) < float(likelihood.sigma) < math.exp(7.001)


def test_missing_values_of_an_output_do_not_count() -> None:
    mean, x = residuals(2, 4, 5)
    mask = torch.rand(1, 4, 5) < 0.5
    likelihood = GaussianOptimal().double()
    output = Output(x.masked_fill(~mask, math.nan), likelihood(mean), (), mask=mask.double())
    found = output.log_likelihood()
    variance = (x - mean).square()[mask.expand(2, 4, 5)].mean()
    torch.testing.assert_close(likelihood.variance, variance.to(likelihood.variance))
    expected = torch.distributions.Normal(mean, variance.sqrt()).log_prob(x) * mask
    torch.testing.assert_close(found, expected.sum(-1))
