"""What a fitted factor model says of rows with missing values: their factors, what is missing, their density."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from jensen.families import MultivariateNormal
from jensen.families.linear import half_log_determinant, inverse_factor, outer, times
from jensen.inference.conjugate import State
from jensen.inference.models.factor_analysis import evidence, factors_of
from jensen.inference.models.incomplete import IncompleteRows

__all__ = ["FactorPoint", "factor_log_density", "factor_point", "factor_sample", "posterior_factors", "reconstruction"]


class FactorPoint(NamedTuple):
    """The model with its parameters at their posterior means: x ~ N(W z + mean, diag(noise)), z ~ N(0, I)."""

    loadings: Tensor
    """(D, K)"""
    mean: Tensor
    """(D,)"""
    noise: Tensor
    """variances 1 / E[tau], (D,)"""


def factor_point(state: State) -> FactorPoint:
    """The posterior means of loadings and mean, and the reciprocal of that of the noise precision."""
    q: Any = state.q
    loadings = q["loadings"].mean_parameters.mean
    noise = 1 / q["noise"].mean_parameters.mean
    return FactorPoint(loadings, q["mean"].mean_parameters.mean, noise.expand(len(loadings)))


def posterior_factors(state: State, rows: IncompleteRows) -> MultivariateNormal:
    """The optimal q(z_n) given what is observed of each row; the prior where nothing is."""
    q: Any = state.q
    loadings, mean = q["loadings"].mean_parameters, q["mean"].mean_parameters.mean
    precision = q["noise"].mean_parameters.mean.expand(rows.x.shape[1])
    linear, quadratic = evidence(loadings.mean, loadings.outer, mean, precision, rows)
    return MultivariateNormal(MultivariateNormal.Natural(linear, quadratic[rows.pattern]))


def reconstruction(state: State, rows: IncompleteRows) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance of every value of every row, (R, D) each, given what is observed of the row.

    The variance is that of w_d . z_n + mu_d under q, loadings and mean included, plus the noise 1 / E[tau_d].
    """
    q: Any = state.q
    loadings, mean = q["loadings"], q["mean"].standard_parameters
    loc, covariance = loadings.standard_parameters
    factors = factors_of(state, rows)
    signal = factors.mean @ loc.mT + mean.loc
    by_pattern = factors.covariance.flatten(1) @ loadings.mean_parameters.outer.flatten(1).mT
    uncertain = outer(factors.mean).flatten(1) @ covariance.flatten(1).mT
    return signal, by_pattern[rows.pattern] + uncertain + mean.scale.square() + factor_point(state).noise


def factor_log_density(state: State, rows: IncompleteRows) -> Tensor:
    """log N(x; mean, W W^T + noise) of what is observed of each row, at `factor_point`; nats, (R,).

    By the matrix inversion and determinant lemmas: K x K matrices alone. 0 for a row of which nothing is observed.
    """
    loadings, mean, noise = factor_point(state)
    linear, quadratic = evidence(loadings, outer(loadings), mean, 1 / noise, rows)
    factor = inverse_factor(quadratic)
    explained = times(factor[rows.pattern], linear).square().sum(-1)
    residual = (rows.x - mean) * rows.there
    constant = -0.5 * rows.observed @ (math.log(2 * math.pi) + noise.log()) + half_log_determinant(factor)
    return constant[rows.pattern] - 0.5 * (residual.square() / noise).sum(-1) + 0.5 * explained


def factor_sample(state: State, count: int, generator: Generator | None = None) -> Tensor:
    """Rows drawn from the model at `factor_point`, (count, D)."""
    loadings, mean, noise = factor_point(state)
    options: dict[str, Any] = {"dtype": loadings.dtype, "device": loadings.device, "generator": generator}
    z = torch.randn(count, loadings.shape[1], **options)
    return z @ loadings.mT + mean + noise.sqrt() * torch.randn(count, len(mean), **options)
