"""The posteriors as a user of PyMC writes them, but for the hidden Markov models: same latents by name and support.

Each function is called inside a `pymc.Model`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from benchmarks.models.generated import JITTER

__all__ = ["MODELS"]


def flat(x: Any, y: Any) -> None:
    """Linear regression without priors."""
    beta, sigma = pm.Flat("beta", shape=x.shape[1]), pm.HalfFlat("sigma")
    pm.Normal("y", pt.dot(x, beta), sigma, observed=y)


def half_cauchy(x: Any, y: Any) -> None:
    """beta flat, sigma ~ HalfCauchy(2.5)."""
    beta, sigma = pm.Flat("beta", shape=x.shape[1]), pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", pt.dot(x, beta), sigma, observed=y)


def shrunken(x: Any, y: Any) -> None:
    """beta ~ N(0, 10), sigma ~ HalfNormal(10)."""
    beta, sigma = pm.Normal("beta", 0.0, 10.0, shape=x.shape[1]), pm.HalfNormal("sigma", 10.0)
    pm.Normal("y", pt.dot(x, beta), sigma, observed=y)


def informed(x: Any, y: Any, pmualpha: Any, psalpha: Any, pmubeta: Any, psbeta: Any) -> None:
    """Priors that come with the data, sigma flat."""
    alpha, beta = pm.Normal("alpha", pmualpha, psalpha), pm.Normal("beta", pmubeta, psbeta)
    pm.Normal("y", alpha + beta * x, pm.HalfFlat("sigma"), observed=y)


def autoregression(lags: Any, y: Any) -> None:
    """AR(K) given its first K values."""
    alpha, beta = pm.Normal("alpha", 0.0, 10.0), pm.Normal("beta", 0.0, 10.0, shape=lags.shape[1])
    pm.Normal("y", alpha + pt.dot(lags, beta), pm.HalfCauchy("sigma", 2.5), observed=y)


def centred(y: Any, sigma: Any) -> None:
    """Eight schools, effects as latents."""
    mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
    pm.Normal("y", pm.Normal("theta", mu, tau, shape=len(y)), sigma, observed=y)


def non_centred(y: Any, sigma: Any) -> None:
    """Eight schools, standard scores as latents."""
    mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
    pm.Normal("y", mu + tau * pm.Normal("eta", 0.0, 1.0, shape=len(y)), sigma, observed=y)


def process(x: Any, y: Any) -> None:
    """Gaussian process regression."""
    rho, alpha = pm.Gamma("rho", alpha=25.0, beta=4.0), pm.HalfNormal("alpha", 2.0)
    covariance = _kernel(x, rho, alpha) + pm.HalfNormal("sigma", 1.0) * np.eye(len(x))
    pm.MvNormal("y", np.zeros(len(x)), cov=covariance, observed=y)


def logistic(x: Any, y: Any) -> None:
    """Logistic regression."""
    beta = pm.Normal("beta", 0.0, 2.5, shape=x.shape[1])
    pm.Bernoulli("y", logit_p=pt.dot(x, beta), observed=y)


def poisson(x: Any, y: Any) -> None:
    """Poisson regression."""
    beta = pm.Normal("beta", 0.0, 2.5, shape=x.shape[1])
    pm.Poisson("y", pt.exp(pt.dot(x, beta)), observed=y)


def hierarchical_logistic(x: Any, group: Any, y: Any) -> None:
    """Logistic regression with group effects."""
    mu, tau = pm.Normal("mu", 0.0, 2.5), pm.HalfNormal("tau", 1.0)
    beta, eta = pm.Normal("beta", 0.0, 2.5, shape=x.shape[1]), pm.Normal("eta", 0.0, 1.0, shape=1 + int(group.max()))
    pm.Bernoulli("y", logit_p=mu + tau * eta[group] + pt.dot(x, beta), observed=y)


def item_response(y: Any) -> None:
    """Two-parameter logistic item responses."""
    ability = pm.Normal("ability", 0.0, 1.0, shape=len(y))
    difficulty = pm.Normal("difficulty", 0.0, 1.5, shape=y.shape[1])
    slope = pm.LogNormal("slope", 0.0, 0.5, shape=y.shape[1])
    pm.Bernoulli("y", logit_p=slope * (ability[:, None] - difficulty), observed=y)


def process_classifier(x: Any, y: Any) -> None:
    """Gaussian process classification."""
    rho, alpha = pm.InverseGamma("rho", alpha=5.0, beta=5.0), pm.HalfNormal("alpha", 2.0)
    eta = pm.Normal("eta", 0.0, 1.0, shape=len(x))
    factor = pt.linalg.cholesky(_kernel(x, rho, alpha) + JITTER * np.eye(len(x)))
    pm.Bernoulli("y", logit_p=pt.dot(factor, eta), observed=y)


def _kernel(x: Any, rho: Any, alpha: Any) -> Any:
    return alpha**2 * pt.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2)


MODELS: dict[str, Callable[..., None]] = {
    model.__name__: model
    for model in (
        flat,
        half_cauchy,
        shrunken,
        informed,
        autoregression,
        centred,
        non_centred,
        process,
        logistic,
        poisson,
        hierarchical_logistic,
        item_response,
        process_classifier,
    )
}
