"""What single likelihoods promise beyond the battery, and which data they are about."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from likelihood_cases import CASES, SHAPE
from scipy import stats

from jensen.errors import ConfigError
from jensen.likelihoods import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    Gaussian,
    GaussianLearned,
    Laplace,
    Likelihood,
    LogisticOnLevels,
    StudentT,
    make_likelihood,
    soft_clamp,
)


def test_gaussian_of_sigma_one_has_the_half_and_the_sign() -> None:
    x, y = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 2.5, 1.0])
    by_hand = -1.5 * math.log(2 * math.pi) - 0.5 * (1.0 + 0.25 + 9.0)
    assert Gaussian()(y).log_prob(x).sum().item() == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 3.0, 500.0])
def test_learned_sigma_starts_where_asked_and_is_best_at_the_mean_squared_error(sigma: float) -> None:
    assert GaussianLearned(sigma)(torch.zeros(2)).stddev[0].item() == pytest.approx(sigma, rel=1e-4)
    x = sigma * torch.randn(1000, dtype=torch.float64)
    likelihood = GaussianLearned(x.square().mean().sqrt().item()).double()
    likelihood(torch.zeros_like(x)).log_prob(x).mean().backward()
    assert likelihood.log_sigma.grad is not None
    assert abs(likelihood.log_sigma.grad.item()) < 1e-5


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("kind", [Gaussian, GaussianLearned, Laplace, StudentT])
def test_scales_should_be_positive(kind: type[Likelihood], sigma: float) -> None:
    with pytest.raises(ValueError, match=r"(sigma|scale) should be positive"):
        kind(sigma)


def test_learned_sigma_out_of_range() -> None:
    for kind in (GaussianLearned, Laplace, StudentT):
        with pytest.raises(ValueError, match="between"):
            kind(2000.0)


@pytest.mark.parametrize("levels", [-1, 0, 1])
@pytest.mark.parametrize("kind", [DiscretisedLogistic, DiscretisedLogisticMixture, Categorical, BetaBinomial])
def test_levels_should_be_two_at_least(kind: type[Likelihood], levels: int) -> None:
    with pytest.raises(ValueError, match="levels should be at least 2"):
        kind(levels)


def test_unknown_likelihood_and_real_numbers_for_a_discrete_one() -> None:
    with pytest.raises(ConfigError, match=r"no likelihood 'poisson'.*bernoulli"):
        make_likelihood("poisson")
    for name in (
        "discretised-logistic",
        "discretised-logistic-mixture",
        "categorical",
        "beta-binomial",
        "autoregressive",
    ):
        with pytest.raises(ConfigError, match=f"{name} needs grey levels"):
            make_likelihood(name, levels=None, shape=SHAPE)


def test_soft_clamp_is_a_scaled_tanh() -> None:
    x = torch.tensor([-100.0, -1.0, 0.0, 0.01, 100.0])
    np.testing.assert_allclose(soft_clamp(x, 7.0).numpy(), 7 * np.tanh(x.numpy() / 7), rtol=1e-6)


# Where the two sigmoids of a level agree in all their digits, and where the location lies outside [0, 1].
MEANS = [-30.0, -0.01, 0.0, 0.3, 0.5 / 255, 1.0, 1.7, 30.0]
LOG_SCALES = [-8.0, -5.0, -2.0, 0.0, 4.0]


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("log_scale", LOG_SCALES)
def test_logistic_in_single_precision_sums_to_one_with_an_exact_mean(levels: int, log_scale: float) -> None:
    mean = torch.tensor(MEANS)
    distribution = LogisticOnLevels(mean, torch.full_like(mean, log_scale), levels)
    grid = torch.arange(levels)[:, None] / (levels - 1)
    log_prob = distribution.log_prob(grid)
    assert torch.isfinite(log_prob).all()
    probabilities = log_prob.double().exp()
    torch.testing.assert_close(probabilities.sum(0), torch.ones(len(MEANS), dtype=torch.float64), rtol=0, atol=5e-4)
    enumerated = (probabilities * grid).sum(0)
    torch.testing.assert_close(distribution.mean.double(), enumerated, rtol=0, atol=5e-4)


@pytest.mark.parametrize(("mean", "log_scale"), [(0.4, -2.0), (0.9, -1.0), (-0.1, -3.0), (0.5, 1.0)])
def test_logistic_sample_frequencies(mean: float, log_scale: float) -> None:
    distribution = LogisticOnLevels(torch.tensor(mean), torch.tensor(log_scale), 9)
    draws = (distribution.sample([40_000]) * 8).round().long()
    counts = torch.bincount(draws, minlength=9).double().numpy()
    expected = (distribution.log_prob(torch.arange(9) / 8).double().exp() * 40_000).numpy()
    kept = expected > 5
    expected = np.append(expected[kept], expected[~kept].sum() + 1e-9)
    counts = np.append(counts[kept], counts[~kept].sum())
    kept = expected > 1
    assert stats.chisquare(counts[kept], expected[kept] * counts[kept].sum() / expected[kept].sum()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("likelihood", "levels", "transform"),
    [
        (Bernoulli(), None, "none"),  # a table of real numbers
        (DiscretisedLogistic(17), 256, "none"),  # grey levels of another scale
        (DiscretisedLogistic(17), 17, "dequantise"),  # grey levels that are none any more
        (DiscretisedLogisticMixture(17), 256, "none"),
        (DiscretisedLogisticMixture(17), 17, "dequantise"),
        (DiscretisedLogistic(2), 17, "none"),  # no probability, nor a usual loss
        (Categorical(2), 17, "none"),
        (Categorical(17), 2, "binarise"),
        (BetaBinomial(17), None, "none"),
        (BetaBinomial(17), 256, "none"),
        (BetaBinomial(17), 17, "dequantise"),
        (ContinuousBernoulli(), None, "none"),
        (ContinuousBernoulli(), 2, "none"),  # a density of two values has no bound
        (ContinuousBernoulli(), 256, "binarise"),
        (CASES["autoregressive"].likelihood, None, "none"),
        (CASES["autoregressive"].likelihood, 17, "none"),
        (CASES["autoregressive 2"].likelihood, 17, "none"),
    ],
)
def test_data_that_a_likelihood_is_not_about(likelihood: Likelihood, levels: int | None, transform: str) -> None:
    with pytest.raises(ConfigError, match=type(likelihood).__name__):
        likelihood.check_data(levels, transform)


@pytest.mark.parametrize(
    ("likelihood", "levels", "transform"),
    [
        (Bernoulli(), 2, "binarise"),
        (Bernoulli(), 256, "none"),  # a cross-entropy: let through, the evaluation warns
        (DiscretisedLogistic(17), 17, "none"),
        (DiscretisedLogisticMixture(17), 17, "none"),
        (Categorical(17), 17, "none"),
        (BetaBinomial(17), 17, "none"),
        (ContinuousBernoulli(), 256, "none"),
        (ContinuousBernoulli(), 2, "dequantise"),
        (Laplace(), None, "none"),
        (StudentT(), 17, "dequantise"),
        (Categorical(2), 2, "binarise"),
        (CASES["autoregressive"].likelihood, 5, "none"),
        (CASES["autoregressive 2"].likelihood, 2, "binarise-static"),
        (Gaussian(), None, "none"),
        (Gaussian(), 17, "dequantise"),
    ],
)
def test_data_that_a_likelihood_is_about(likelihood: Likelihood, levels: int | None, transform: str) -> None:
    likelihood.check_data(levels, transform)
