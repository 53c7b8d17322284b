"""One battery for all likelihoods, against scipy, enumeration, quadrature and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, log_softmax, logsumexp
from torch import Tensor
from torch.distributions import Distribution

from jensen.config import LIKELIHOODS, AutoregressiveConfig
from jensen.errors import ConfigError
from jensen.likelihoods import (
    AutoregressiveLikelihood,
    Bernoulli,
    Categorical,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    Gaussian,
    GaussianLearned,
    GaussianPerPixel,
    Likelihood,
    LogisticOnLevels,
    make_likelihood,
    soft_clamp,
)

Array = np.ndarray[Any, Any]


SHAPE = (2, 2, 3)  # of a datum: every likelihood but the autoregressive one takes any
ONE_CHANNEL = (1, 2, 3)
NET = AutoregressiveConfig(width=6, depth=2)


class Case(NamedTuple):
    likelihood: Likelihood
    log_prob: Callable[..., Array]
    planes: tuple[int, ...] = SHAPE  # of a datum whose planes are its parameters one by one


def logistic_log_prob(x: Array, mean: Array, log_scale: Array, levels: int) -> Array:
    """By cumulative distribution functions of scipy, from whichever tail is smaller."""
    scale, half = np.exp(6 * np.tanh(log_scale / 6) - 2), 0.5 / (levels - 1)
    upper = np.where(x > 1 - half, np.inf, x + half)
    lower = np.where(x < half, -np.inf, x - half)
    left = stats.logistic.cdf(upper, mean, scale) - stats.logistic.cdf(lower, mean, scale)
    right = stats.logistic.sf(lower, mean, scale) - stats.logistic.sf(upper, mean, scale)
    return np.asarray(np.log(np.where(x > mean, right, left)))


def mixture_log_prob(x: Array, *parameters: Array) -> Array:
    """Of two components over 17 levels, where the channels of a pixel share nothing."""
    weights, means, logs = (np.stack(parameters[i : i + 2]) for i in (0, 2, 4))
    means = means + np.linspace(0, 1, 2).reshape(-1, *[1] * (means.ndim - 1))
    parts = log_softmax(weights, 0) + logistic_log_prob(x, means, logs, 17)
    return np.asarray(logsumexp(parts, 0))


def softmax_log_prob(x: Array, *logits: Array) -> Array:
    """Of K logits each: the one of the level that x is, after scipy's normalisation."""
    stacked = log_softmax(np.stack(logits), 0)
    index = np.rint(x * (len(logits) - 1)).astype(int)
    return np.asarray(np.take_along_axis(stacked, np.broadcast_to(index, stacked.shape[1:])[None], 0)[0])


def autoregressive(levels: int) -> Case:
    """Its oracle goes through the values one after the other, by the net's own way of drawing."""
    likelihood = make_likelihood("autoregressive", levels=levels, shape=SHAPE, autoregressive=NET)
    assert isinstance(likelihood, AutoregressiveLikelihood)
    net = likelihood.net
    with torch.no_grad():  # a net that was just made may say the same of all
        for parameter in net.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(levels)))

    @torch.no_grad()
    def log_prob(x: Array, *planes: Array) -> Array:
        rows = np.broadcast_to(np.rint(x * (levels - 1)).astype(int), planes[0].shape).reshape(-1, *SHAPE)
        context = np.stack(planes, -4).reshape(len(rows), -1, *SHAPE[1:])
        order = torch.from_numpy(rows).movedim(1, -1).flatten(1)  # place after place, the channels of each
        state = net.begin(len(rows), torch.from_numpy(context))
        found = []
        for value in order.T:
            found.append(log_softmax(net.logits(state).numpy(), -1)[np.arange(len(rows)), value.numpy()])
            net.feed(state, value)
        return np.moveaxis(np.stack(found, -1).reshape(-1, *SHAPE[1:], SHAPE[0]), -1, 1).reshape(planes[0].shape)

    return Case(likelihood, log_prob)


CASES = {
    "bernoulli": Case(Bernoulli(), lambda x, logit: stats.bernoulli.logpmf(x, expit(logit))),
    "gaussian": Case(Gaussian(0.3), lambda x, mean: stats.norm.logpdf(x, mean, 0.3)),
    "gaussian-learned": Case(GaussianLearned(0.7), lambda x, mean: stats.norm.logpdf(x, mean, 0.7)),
    "gaussian-per-pixel": Case(
        GaussianPerPixel(), lambda x, mean, log: stats.norm.logpdf(x, mean, np.exp(7 * np.tanh(log / 7)))
    ),
    "discretised-logistic": Case(DiscretisedLogistic(17), lambda x, mean, log: logistic_log_prob(x, mean, log, 17)),
    "discretised-logistic 2": Case(DiscretisedLogistic(2), lambda x, mean, log: logistic_log_prob(x, mean, log, 2)),
    "discretised-logistic-mixture": Case(DiscretisedLogisticMixture(17, 2), mixture_log_prob, ONE_CHANNEL),
    "categorical": Case(Categorical(17), softmax_log_prob),
    "categorical 2": Case(Categorical(2), softmax_log_prob),
    "autoregressive": autoregressive(5),
    "autoregressive 2": autoregressive(2),
}
NAMES = list(CASES)


def parameters(likelihood: Likelihood, *shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype) for _ in range(likelihood.channels)]


def values(likelihood: Likelihood, *shape: int) -> Tensor:
    if likelihood.levels is None:
        return torch.randn(shape, dtype=torch.float64)
    return torch.randint(likelihood.levels, shape).double() / (likelihood.levels - 1)


def test_every_name_of_the_configuration_is_here() -> None:
    assert set(LIKELIHOODS) <= set(CASES)
    for name in LIKELIHOODS:
        assert type(make_likelihood(name, levels=17, shape=SHAPE)) is type(CASES[name].likelihood)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_is_that_of_scipy(name: str) -> None:
    likelihood, expected, _ = CASES[name]
    x, p = values(likelihood, 1, 4, *SHAPE), parameters(likelihood, 2, 4, *SHAPE)
    found = likelihood.double()(*p).log_prob(x)
    assert found.shape == (2, 4, *SHAPE)
    np.testing.assert_allclose(
        found.detach().numpy(), expected(x.numpy(), *(q.numpy() for q in p)), rtol=1e-7, atol=1e-9
    )
    single = likelihood.float()(*(q.float() for q in p)).log_prob(x.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), found.detach().numpy(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_planes_of_a_decoder_are_the_parameters(name: str) -> None:
    """First the planes of parameter one, then those of the next: the same as parameter by parameter."""
    likelihood, _, shape = CASES[name]
    likelihood.double()
    x, p = values(likelihood, 1, 3, *shape), parameters(likelihood, 2, 3, *shape)
    assert likelihood.planes(shape) == likelihood.channels * shape[0]
    found = likelihood.of_planes(torch.cat(p, -3), shape)
    expected = likelihood(*p)
    torch.testing.assert_close(found.log_prob(x), expected.log_prob(x))
    if getattr(found, "has_mean", True):
        torch.testing.assert_close(found.mean, expected.mean)
    assert found.sample((4,)).shape == (4, 2, 3, *shape)
    single = likelihood.float().of_planes(torch.cat(p, -3).bfloat16(), shape)
    assert single.log_prob(x.float()).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_gradients_against_finite_differences(name: str) -> None:
    likelihood = CASES[name].likelihood.double()
    x, p = values(likelihood, 2, *SHAPE), parameters(likelihood, 2, *SHAPE)
    learned = list(likelihood.parameters())
    p = [q.requires_grad_() for q in p]
    if isinstance(likelihood, AutoregressiveLikelihood):  # too many weights for one at a time
        direction = [torch.randn_like(q) for q in (*p, *learned)]
        check_along(lambda: likelihood(*p).log_prob(x).square().sum(), [*p, *learned], direction)
        return
    assert torch.autograd.gradcheck(lambda *q: likelihood(*q[: len(p)]).log_prob(x), [*p, *learned])


def check_along(function: Callable[[], Tensor], inputs: list[Tensor], direction: list[Tensor]) -> None:
    """The gradient along a line, against a central difference; its step is short, as the net has kinks (ReLU)."""
    gradients = torch.autograd.grad(function(), inputs)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))

    @torch.no_grad()
    def at(step: float) -> float:
        for value, d in zip(inputs, direction, strict=True):
            value += step * d
        result = float(function())
        for value, d in zip(inputs, direction, strict=True):
            value -= step * d
        return result

    assert slope == pytest.approx((at(1e-6) - at(-1e-6)) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_add_up_to_one(name: str) -> None:
    """Over the values of each place of a datum, whatever the others are."""
    likelihood = CASES[name].likelihood.double()
    p, places = parameters(likelihood, *SHAPE), math.prod(SHAPE)
    distribution = likelihood(*p)
    if likelihood.levels is None:
        assert not likelihood.discrete
        centre, spread = distribution.mean, distribution.stddev.expand(SHAPE)
        grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None, None, None] * spread + centre
        total = torch.trapezoid(distribution.log_prob(grid).exp(), grid, dim=0)
    else:
        assert likelihood.discrete
        total = conditional(distribution, values(likelihood, *SHAPE), likelihood.levels).sum(0)
    torch.testing.assert_close(total.flatten(), torch.ones(places, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def conditional(distribution: Distribution, x: Tensor, levels: int) -> Tensor:
    """P(x_i = k | those before it) of each level and place, (levels, *x.shape), by trying all values at each place."""
    places = math.prod(SHAPE)
    tried = x.flatten(-3).expand(levels, places, *x.shape[:-3], places).clone()
    for i in range(places):
        for k in range(levels):
            tried[k, i, ..., i] = k / (levels - 1)
    scores = distribution.log_prob(tried.view(levels, places, *x.shape)).exp().flatten(-3)
    return torch.stack([scores[:, i, ..., i] for i in range(places)], -1).view(levels, *x.shape)


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_mean(name: str) -> None:
    likelihood = CASES[name].likelihood.double()
    distribution = likelihood(*parameters(likelihood, *SHAPE))
    with_mean = getattr(distribution, "has_mean", True)
    draws = distribution.sample(torch.Size([20_000 if with_mean else 2000]))
    assert draws.shape[1:] == SHAPE
    assert not draws.requires_grad
    if with_mean:
        mean = distribution.mean
    else:
        # What is drawn has the mean of the means that its places have, given what was drawn before them.
        with pytest.raises(NotImplementedError, match="no mean in closed form"):
            _ = distribution.mean
        assert likelihood.levels is not None
        steps = torch.arange(likelihood.levels, dtype=torch.float64) / (likelihood.levels - 1)
        with torch.no_grad():
            chances = conditional(distribution, draws, likelihood.levels)
        mean = torch.einsum("k,k...->...", steps, chances).mean(0)
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - mean).abs() <= 5 * error + 5 / len(draws)).all()  # 5 / n: of rare levels
    if likelihood.levels is not None:
        assert set((draws * (likelihood.levels - 1)).unique().tolist()) <= set(range(likelihood.levels))


@pytest.mark.parametrize("name", NAMES)
def test_extreme_decoder_outputs_stay_finite(name: str) -> None:
    likelihood = CASES[name].likelihood.float()
    extremes = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4])
    if likelihood.channels <= 3:  # all at each place
        every = torch.cartesian_prod(*[extremes] * likelihood.channels).view(-1, likelihood.channels)
        p = [column.view(-1, 1, 1, 1).expand(-1, *SHAPE).clone() for column in every.T]
    else:
        p = [extremes[torch.randint(5, (100, *SHAPE))] for _ in range(likelihood.channels)]
    p = [q.requires_grad_() for q in p]
    for x in (0.0, 1.0):
        log_prob = likelihood(*p).log_prob(torch.tensor(x))
        assert torch.isfinite(log_prob).all()
        for gradient in torch.autograd.grad(log_prob.sum(), p):
            assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_scored_in_single(name: str) -> None:
    likelihood = CASES[name].likelihood.float()
    p = parameters(likelihood, 3, *SHAPE, dtype=torch.bfloat16)
    x = values(likelihood, 3, *SHAPE).float()
    found = likelihood(*p).log_prob(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, likelihood(*(q.float() for q in p)).log_prob(x))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_number_of_parameters(name: str) -> None:
    likelihood = CASES[name].likelihood
    for wrong in (0, likelihood.channels + 1):
        with pytest.raises(ValueError, match=f"takes {likelihood.channels} parameter.*{wrong} were given"):
            likelihood(*[torch.zeros(SHAPE)] * wrong)


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
@pytest.mark.parametrize("kind", [Gaussian, GaussianLearned])
def test_sigma_should_be_positive(kind: type[Likelihood], sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma should be positive"):
        kind(sigma)  # type: ignore[call-arg]


def test_learned_sigma_out_of_range() -> None:
    with pytest.raises(ValueError, match="between"):
        GaussianLearned(2000.0)


@pytest.mark.parametrize("levels", [-1, 0, 1])
@pytest.mark.parametrize("kind", [DiscretisedLogistic, DiscretisedLogisticMixture, Categorical])
def test_levels_should_be_two_at_least(kind: type[Likelihood], levels: int) -> None:
    with pytest.raises(ValueError, match="levels should be at least 2"):
        kind(levels)  # type: ignore[call-arg]


def test_unknown_likelihood_and_real_numbers_for_a_discrete_one() -> None:
    with pytest.raises(ConfigError, match=r"no likelihood 'poisson'.*bernoulli"):
        make_likelihood("poisson")
    for name in ("discretised-logistic", "discretised-logistic-mixture", "categorical", "autoregressive"):
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
        (Categorical(2), 2, "binarise"),
        (CASES["autoregressive"].likelihood, 5, "none"),
        (CASES["autoregressive 2"].likelihood, 2, "binarise-static"),
        (Gaussian(), None, "none"),
        (Gaussian(), 17, "dequantise"),
    ],
)
def test_data_that_a_likelihood_is_about(likelihood: Likelihood, levels: int | None, transform: str) -> None:
    likelihood.check_data(levels, transform)
