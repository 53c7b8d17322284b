"""The posteriors as a user of NumPyro writes them: the same latents, by name and support, as in this project's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro.distributions import constraints

from benchmarks.models.generated import JITTER

__all__ = ["MODELS"]


def flat(x: Any, y: Any) -> None:
    """Linear regression without priors."""
    beta = numpyro.sample("beta", dist.ImproperUniform(constraints.real, (), (x.shape[1],)))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def half_cauchy(x: Any, y: Any) -> None:
    """beta flat, sigma ~ HalfCauchy(2.5)."""
    beta = numpyro.sample("beta", dist.ImproperUniform(constraints.real, (), (x.shape[1],)))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def shrunken(x: Any, y: Any) -> None:
    """beta ~ N(0, 10), sigma ~ HalfNormal(10)."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(10.0))
    numpyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def informed(x: Any, y: Any, pmualpha: Any, psalpha: Any, pmubeta: Any, psbeta: Any) -> None:
    """Priors that come with the data, sigma flat."""
    alpha = numpyro.sample("alpha", dist.Normal(pmualpha, psalpha))
    beta = numpyro.sample("beta", dist.Normal(pmubeta, psbeta))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)


def autoregression(lags: Any, y: Any) -> None:
    """AR(K) given its first K values."""
    alpha = numpyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 10.0).expand([lags.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    numpyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)


def centred(y: Any, sigma: Any) -> None:
    """Eight schools, effects as latents."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def non_centred(y: Any, sigma: Any) -> None:
    """Eight schools, standard scores as latents."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(y)):
        eta = numpyro.sample("eta", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)


def process(x: Any, y: Any) -> None:
    """Gaussian process regression."""
    rho = numpyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    covariance = _kernel(x, rho, alpha) + sigma * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance), obs=y)


def normal_outputs(y: Any, centres: Any) -> None:
    """Two-state hidden Markov model, normal outputs."""
    rows = [numpyro.sample(name, dist.Dirichlet(jnp.ones(2))) for name in ("theta1", "theta2")]
    mu = jnp.cumsum(numpyro.sample("steps", dist.ImproperUniform(constraints.positive, (), (2,))))
    numpyro.factor("mu", dist.Normal(centres, 1.0).log_prob(mu).sum())
    numpyro.factor("y", _log_paths(dist.Normal(mu, 1.0).log_prob(y[:, None]), jnp.log(jnp.stack(rows))))


def exponential_outputs(u: Any, v: Any, alpha: Any, centres: Any) -> None:
    """Two-state hidden Markov model, two exponential outputs."""
    rows = [numpyro.sample(f"theta{k + 1}", dist.Dirichlet(alpha[k])) for k in range(2)]
    levels = []
    for name in ("phi", "lambda"):
        steps = numpyro.sample(f"{name}_steps", dist.ImproperUniform(constraints.positive, (), (2,)))
        levels.append(jnp.cumsum(steps))
        numpyro.factor(name, dist.Normal(centres, 1.0).log_prob(levels[-1]).sum())
    emissions = dist.Exponential(levels[0]).log_prob(u[:, None]) + dist.Exponential(levels[1]).log_prob(v[:, None])
    numpyro.factor("uv", _log_paths(emissions, jnp.log(jnp.stack(rows))))


def logistic(x: Any, y: Any) -> None:
    """Logistic regression."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand([x.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=x @ beta), obs=y)


def poisson(x: Any, y: Any) -> None:
    """Poisson regression."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand([x.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Poisson(jnp.exp(x @ beta)), obs=y)


def hierarchical_logistic(x: Any, group: Any, y: Any) -> None:
    """Logistic regression with group effects."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.5))
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    beta = numpyro.sample("beta", dist.Normal(0.0, 2.5).expand([x.shape[1]]).to_event(1))
    with numpyro.plate("groups", 1 + int(group.max())):
        eta = numpyro.sample("eta", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Bernoulli(logits=mu + tau * eta[group] + x @ beta), obs=y)


def item_response(y: Any) -> None:
    """Two-parameter logistic item responses."""
    people, items = y.shape
    with numpyro.plate("people", people):
        ability = numpyro.sample("ability", dist.Normal(0.0, 1.0))
    with numpyro.plate("items", items):
        difficulty = numpyro.sample("difficulty", dist.Normal(0.0, 1.5))
        slope = numpyro.sample("slope", dist.LogNormal(0.0, 0.5))
    numpyro.sample("y", dist.Bernoulli(logits=slope * (ability[:, None] - difficulty)), obs=y)


def process_classifier(x: Any, y: Any) -> None:
    """Gaussian process classification."""
    rho = numpyro.sample("rho", dist.InverseGamma(5.0, 5.0))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2.0))
    with numpyro.plate("points", len(x)):
        eta = numpyro.sample("eta", dist.Normal(0.0, 1.0))
    factor = jnp.linalg.cholesky(_kernel(x, rho, alpha) + JITTER * jnp.eye(len(x)))
    numpyro.sample("y", dist.Bernoulli(logits=factor @ eta), obs=y)


def _kernel(x: Any, rho: Any, alpha: Any) -> Any:
    return alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2)


def _log_paths(emissions: Any, transitions: Any) -> Any:
    def step(log_alpha: Any, emission: Any) -> tuple[Any, None]:
        return logsumexp(log_alpha[:, None] + transitions, axis=0) + emission, None

    return logsumexp(jax.lax.scan(step, emissions[0], emissions[1:])[0])


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
        normal_outputs,
        exponential_outputs,
        logistic,
        poisson,
        hierarchical_logistic,
        item_response,
        process_classifier,
    )
}
