"""A row for each likelihood: how to make it, and an oracle of its density or probabilities that is not torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from scipy.special import expit, log_softmax, logsumexp
from torch import Tensor
from torch.distributions import Distribution

from jensen.config import AutoregressiveConfig
from jensen.likelihoods import (
    AutoregressiveLikelihood,
    Bernoulli,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    Gaussian,
    GaussianLearned,
    GaussianOptimal,
    GaussianPerPixel,
    Laplace,
    Likelihood,
    StudentT,
    make_likelihood,
)

Array = np.ndarray[Any, Any]
Oracle = Callable[..., Array]

SHAPE = (2, 2, 3)  # of a datum: most take any
ONE_CHANNEL = (1, 2, 3)
NET = AutoregressiveConfig(width=6, depth=2)


@dataclass
class Case:
    """A likelihood, and what is known of it otherwise.

    Attributes:
        likelihood: one of it.
        log_prob: of values and the decoder's output, x (..., *shape) and planes (..., planes, *shape[1:]).
        cdf: of a density, likewise.
        shape: of a datum.
        values: draws data of shape (*lead, *shape) that it can be about; None: its levels, or normal ones.
        total: of a distribution of batch shape `shape`, sums or integrals of its probabilities that should be 1; None:
            over the values at each place.
        unit: whether a density is one over [0, 1] only.
        apart: whether values are independent, and the planes are `channels` parameters of each.
    """

    likelihood: Likelihood
    log_prob: Oracle
    cdf: Oracle | None = None
    shape: tuple[int, ...] = SHAPE
    values: Callable[..., Tensor] | None = None
    total: Callable[[Distribution], Tensor] | None = None
    unit: bool = False
    apart: bool = True

    def planes(self, *lead: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """A decoder's output for data of lead (*lead)."""
        return torch.randn(*lead, self.likelihood.planes(self.shape), *self.shape[1:], dtype=dtype)

    def data(self, *lead: int) -> Tensor:
        """Data of shape (*lead, *shape), float64."""
        if self.values is not None:
            return self.values(*lead)
        if self.unit:
            return torch.rand(*lead, *self.shape, dtype=torch.float64)
        if self.likelihood.levels is None:
            return torch.randn(*lead, *self.shape, dtype=torch.float64)
        return torch.randint(self.likelihood.levels, (*lead, *self.shape)).double() / (self.likelihood.levels - 1)

    def distribution(self, planes: Tensor) -> Distribution:
        return self.likelihood.of_planes(planes, self.shape)


def each(shape: tuple[int, ...], function: Oracle) -> Oracle:
    """A function of x and the parameters of each value, as one of x and the planes of a decoder."""

    def of_planes(x: Array, planes: Array) -> Array:
        lead = planes.shape[: planes.ndim - len(shape)]
        split = planes.reshape(*lead, -1, *shape)
        return np.asarray(function(x, *np.moveaxis(split, len(lead), 0)))

    return of_planes


def simple(
    likelihood: Likelihood, log_prob: Oracle, cdf: Oracle | None = None, shape: tuple[int, ...] = SHAPE, **more: Any
) -> Case:
    """One whose values have `channels` numbers each, of which the oracles are functions."""
    return Case(likelihood, each(shape, log_prob), None if cdf is None else each(shape, cdf), shape, **more)


def scipy_case(likelihood: Likelihood, frozen: Callable[..., Any], **more: Any) -> Case:
    """A density that scipy has, given the parameters of each value."""
    return simple(likelihood, lambda x, *p: frozen(*p).logpdf(x), lambda x, *p: frozen(*p).cdf(x), **more)


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
    shape = np.broadcast_shapes(x.shape, stacked.shape[1:])
    stacked = np.broadcast_to(stacked, (len(logits), *shape))
    index = np.broadcast_to(np.rint(x * (len(logits) - 1)).astype(int), shape)
    return np.asarray(np.take_along_axis(stacked, index[None], 0)[0])


def truncated_exponential(logit: Array) -> Any:
    """1 - x or x, of which scipy has the distribution: an exponential cut off at 1."""
    rate = np.abs(logit)
    return stats.truncexpon(b=rate, scale=1 / rate)


def interval_log_prob(x: Array, logit: Array) -> Array:
    return np.asarray(truncated_exponential(logit).logpdf(np.where(logit > 0, 1 - x, x)))


def interval_cdf(x: Array, logit: Array) -> Array:
    known = truncated_exponential(logit)
    return np.asarray(np.where(logit > 0, known.sf(1 - x), known.cdf(x)))


def betabinom_log_prob(levels: int) -> Oracle:
    def log_prob(x: Array, log_a: Array, log_b: Array) -> Array:
        a, b = (np.exp(7 * np.tanh(log / 7)) for log in (log_a, log_b))
        return np.asarray(stats.betabinom.logpmf(np.rint(x * (levels - 1)), levels - 1, a, b))

    return log_prob


def autoregressive(levels: int) -> Case:
    """Its oracle goes through the values one after the other, by the net's own way of drawing."""
    likelihood = make_likelihood("autoregressive", levels=levels, shape=SHAPE, autoregressive=NET)
    assert isinstance(likelihood, AutoregressiveLikelihood)
    net = likelihood.net
    with torch.no_grad():  # a net that was just made may say the same of all
        for parameter in net.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(levels)))

    @torch.no_grad()
    def log_prob(x: Array, planes: Array) -> Array:
        lead = np.broadcast_shapes(x.shape[:-3], planes.shape[:-3])
        rows = np.broadcast_to(np.rint(x * (levels - 1)).astype(int), (*lead, *SHAPE)).copy().reshape(-1, *SHAPE)
        context = torch.from_numpy(np.broadcast_to(planes, (*lead, *planes.shape[-3:])).copy())
        order = torch.from_numpy(rows).movedim(1, -1).flatten(1)  # place after place, the channels of each
        state = net.begin(len(rows), context.reshape(len(rows), *planes.shape[-3:]))
        found = []
        for value in order.T:
            found.append(log_softmax(net.logits(state).numpy(), -1)[np.arange(len(rows)), value.numpy()])
            net.feed(state, value)
        return np.moveaxis(np.stack(found, -1).reshape(-1, *SHAPE[1:], SHAPE[0]), -1, 1).reshape(*lead, *SHAPE)

    return Case(likelihood, log_prob, apart=False)


def optimal() -> Case:
    """As it is outside training, with a sigma that some training left."""
    likelihood = GaussianOptimal().eval()
    likelihood.variance.fill_(0.25)
    return scipy_case(likelihood, lambda mean: stats.norm(mean, 0.5))


CASES = {
    "bernoulli": simple(Bernoulli(), lambda x, logit: stats.bernoulli.logpmf(x, expit(logit))),
    "gaussian": scipy_case(Gaussian(0.3), lambda mean: stats.norm(mean, 0.3)),
    "gaussian-learned": scipy_case(GaussianLearned(0.7), lambda mean: stats.norm(mean, 0.7)),
    "gaussian-per-pixel": scipy_case(
        GaussianPerPixel(), lambda mean, log: stats.norm(mean, np.exp(7 * np.tanh(log / 7)))
    ),
    "gaussian-optimal": optimal(),
    "laplace": scipy_case(Laplace(0.6), lambda location: stats.laplace(location, 0.6)),
    "student-t": scipy_case(StudentT(0.8), lambda location: stats.t(5, location, 0.8)),
    "continuous-bernoulli": simple(ContinuousBernoulli(), interval_log_prob, interval_cdf, unit=True),
    "beta-binomial": simple(BetaBinomial(17), betabinom_log_prob(17)),
    "beta-binomial 256": simple(BetaBinomial(256), betabinom_log_prob(256)),
    "discretised-logistic": simple(DiscretisedLogistic(17), lambda x, mean, log: logistic_log_prob(x, mean, log, 17)),
    "discretised-logistic 2": simple(DiscretisedLogistic(2), lambda x, mean, log: logistic_log_prob(x, mean, log, 2)),
    "discretised-logistic-mixture": simple(DiscretisedLogisticMixture(17, 2), mixture_log_prob, shape=ONE_CHANNEL),
    "categorical": simple(Categorical(17), softmax_log_prob),
    "categorical 2": simple(Categorical(2), softmax_log_prob),
    "categorical 256": simple(Categorical(256), softmax_log_prob, shape=ONE_CHANNEL),
    "autoregressive": autoregressive(5),
    "autoregressive 2": autoregressive(2),
}


def grid_and_weights(case: Case, distribution: Distribution) -> tuple[Tensor, Tensor]:
    """Points (points, *shape) and weights of a rule that integrates a density at each place."""
    if case.unit:
        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(60))
        return ((nodes + 1) / 2).view(-1, 1, 1, 1), (weights / 2).view(-1, 1, 1, 1)
    # Simpson's rule after x = mean + sinh u, which reaches far into heavy tails; a kink at the mean is between panels.
    u = torch.linspace(-25, 25, 5001, dtype=torch.float64).view(-1, 1, 1, 1)
    weights = torch.full_like(u, 4.0)
    weights[::2] = 2.0
    weights[[0, -1]] = 1.0
    return distribution.mean + torch.sinh(u), weights * (0.01 / 3) * torch.cosh(u)


def conditional(distribution: Distribution, x: Tensor, levels: int) -> Tensor:
    """P(x_i = k | those before it) of each level and place, (levels, *x.shape), by trying all values at each place."""
    places = math.prod(x.shape[-3:])
    tried = x.flatten(-3).expand(levels, places, *x.shape[:-3], places).clone()
    for i in range(places):
        for k in range(levels):
            tried[k, i, ..., i] = k / (levels - 1)
    scores = distribution.log_prob(tried.view(levels, places, *x.shape)).exp().flatten(-3)
    return torch.stack([scores[:, i, ..., i] for i in range(places)], -1).view(levels, *x.shape)
