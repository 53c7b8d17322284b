"""Laplace, Student's t, continuous Bernoulli and beta-binomial beyond the battery: optima, limits, precision."""

from __future__ import annotations

import math

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from scipy import optimize, stats

from jensen.likelihoods import BetaBinomialOnLevels, ContinuousBernoulliOnInterval, Laplace, StudentT

LOGITS = [-1e4, -400.0, -30.0, -0.51, -0.49, -1e-3, -1e-7, 0.0, 1e-12, 1e-5, 0.02, 0.4999, 0.5001, 3.0, 90.0, 1e4]


def exact(logit: float, x: float) -> tuple[float, float]:
    """log p(x) and E[x] of the continuous Bernoulli, in 60 digits."""
    with mpmath.workdps(60):
        if logit == 0:
            return 0.0, 0.5
        rate = mpmath.mpf(logit)
        log_p = rate * mpmath.mpf(x) - mpmath.log(mpmath.expm1(rate) / rate)
        return float(log_p), float(1 / (1 - mpmath.exp(-rate)) - 1 / rate)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("x", [0.0, 0.25, 0.5, 1.0])
def test_continuous_bernoulli_has_all_its_digits(x: float, dtype: torch.dtype) -> None:
    logits = torch.tensor(LOGITS, dtype=dtype).requires_grad_()
    distribution = ContinuousBernoulliOnInterval(logits)
    log_prob = distribution.log_prob(torch.tensor(x, dtype=dtype))
    (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
    known = np.array([exact(float(logit), x) for logit in logits])
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(log_prob.detach().numpy(), known[:, 0], rtol=20 * eps, atol=20 * eps)
    np.testing.assert_allclose(distribution.mean.detach().numpy(), known[:, 1], atol=20 * eps)
    np.testing.assert_allclose(gradient.numpy(), x - known[:, 1], atol=20 * eps)


def test_continuous_bernoulli_has_second_derivatives() -> None:
    logits = torch.tensor([-3.0, -0.2, 0.0, 0.3, 8.0], dtype=torch.float64).requires_grad_()
    x = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda own: ContinuousBernoulliOnInterval(own).log_prob(x), (logits,))


@pytest.mark.parametrize("x", [-0.01, 1.01])
def test_continuous_bernoulli_outside_its_interval(x: float) -> None:
    with pytest.raises(ValueError, match=rf"should lie in \[0, 1\], but one is {x}"):
        ContinuousBernoulliOnInterval(torch.zeros(2)).log_prob(torch.tensor([0.5, x]))


def test_best_scale_of_laplace_is_the_mean_absolute_error() -> None:
    x = torch.randn(500, dtype=torch.float64)
    likelihood = Laplace(float(x.abs().mean())).double()
    likelihood(torch.zeros_like(x)).log_prob(x).mean().backward()
    assert likelihood.log_scale.grad is not None
    assert abs(float(likelihood.log_scale.grad)) < 1e-6


def test_student_t_learns_scale_and_degrees_of_freedom_of_data() -> None:
    """By L-BFGS to the maximum that scipy finds by itself."""
    x = torch.from_numpy(stats.t(3.5, 0, 0.6).rvs(2000, random_state=1))
    likelihood = StudentT().double()
    optimiser = torch.optim.LBFGS(likelihood.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -likelihood(torch.zeros_like(x)).log_prob(x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    best = optimize.minimize(
        lambda p: -stats.t.logpdf(x.numpy(), np.exp(p[0]), 0, np.exp(p[1])).mean(), [1.0, 0.0], method="Nelder-Mead"
    )
    assert float(likelihood.freedom) == pytest.approx(math.exp(best.x[0]), rel=2e-3)
    assert float(likelihood.distribution(x).scale[0]) == pytest.approx(math.exp(best.x[1]), rel=2e-3)


def test_outliers_pull_less_under_heavy_tails() -> None:
    y = torch.zeros(3).requires_grad_()
    x = torch.tensor([1.0, 10.0, 1000.0])
    (laplace,) = torch.autograd.grad(Laplace()(y).log_prob(x).sum(), y)
    (student,) = torch.autograd.grad(StudentT()(y).log_prob(x).sum(), y)
    torch.testing.assert_close(laplace, torch.ones(3))
    np.testing.assert_allclose(student.numpy(), 6 * x / (5 + x**2), rtol=1e-5)  # (n + 1) r / (n + r^2)


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_beta_binomial_from_the_flattest_to_the_sharpest(levels: int) -> None:
    """Against `math.lgamma` in 40 digits."""
    ends = torch.tensor([math.exp(-7), 0.3, 1.0, 40.0, math.exp(7)], dtype=torch.float64)
    alpha, beta = torch.cartesian_prod(ends, ends).T
    n = levels - 1
    for k in {0, 1, n // 3, n}:
        found = BetaBinomialOnLevels(alpha, beta, levels).log_prob(torch.tensor(k / n, dtype=torch.float64))
        with mpmath.workdps(40):
            expected = [
                float(
                    mpmath.log(mpmath.binomial(n, k))
                    + mpmath.log(mpmath.beta(k + a, n - k + b))
                    - mpmath.log(mpmath.beta(a, b))
                )
                for a, b in zip(alpha.tolist(), beta.tolist(), strict=True)
            ]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-8)
    single = BetaBinomialOnLevels(alpha.float(), beta.float(), levels).log_prob(torch.tensor(1.0))
    wide = BetaBinomialOnLevels(alpha.float().double(), beta.float().double(), levels).log_prob(
        torch.tensor(1.0).double()
    )
    np.testing.assert_allclose(single.numpy(), wide.numpy(), rtol=1e-6)


def test_beta_binomial_of_ones_is_uniform() -> None:
    one = torch.ones((), dtype=torch.float64)
    grid = torch.arange(256, dtype=torch.float64) / 255
    np.testing.assert_allclose(BetaBinomialOnLevels(one, one, 256).log_prob(grid).numpy(), -math.log(256), rtol=1e-9)


def test_beta_binomial_draws_of_tiny_parameters_are_at_the_ends() -> None:
    """Where draws of gamma variables underflow."""
    tiny = torch.full((20_000,), math.exp(-7))
    draws = BetaBinomialOnLevels(tiny, 3 * tiny, 256).sample()
    inner = ((draws > 0) & (draws < 1)).float().mean()
    assert inner < 0.01
    assert float(draws.mean()) == pytest.approx(0.25, abs=0.015)
