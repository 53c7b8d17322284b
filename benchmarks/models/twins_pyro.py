"""The posteriors as a user of Pyro writes them: the same latents, by name and support, as in this project's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch

from benchmarks.models.gaussian_process import kernel
from benchmarks.models.generated import factor
from benchmarks.models.hidden_markov import log_paths

__all__ = ["MODELS"]


def flat(x: Any, y: Any) -> None:
    """Linear regression without priors."""
    beta = _flat("beta", x.shape[1])
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0).mask(False))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def half_cauchy(x: Any, y: Any) -> None:
    """beta flat, sigma ~ HalfCauchy(2.5)."""
    beta = _flat("beta", x.shape[1])
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def shrunken(x: Any, y: Any) -> None:
    """beta ~ N(0, 10), sigma ~ HalfNormal(10)."""
    beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def informed(x: Any, y: Any, pmualpha: Any, psalpha: Any, pmubeta: Any, psbeta: Any) -> None:
    """Priors that come with the data, sigma flat."""
    alpha = pyro.sample("alpha", dist.Normal(pmualpha, psalpha))
    beta = pyro.sample("beta", dist.Normal(pmubeta, psbeta))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0).mask(False))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(alpha + beta * x, sigma), obs=y)


def autoregression(lags: Any, y: Any) -> None:
    """AR(K) given its first K values."""
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([lags.shape[1]]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("times", len(y)):
        pyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)


def centred(y: Any, sigma: Any) -> None:
    """Eight schools, effects as latents."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def non_centred(y: Any, sigma: Any) -> None:
    """Eight schools, standard scores as latents."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(y)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)


def process(x: Any, y: Any) -> None:
    """Gaussian process regression."""
    rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    covariance = kernel(x, rho, alpha) + sigma * torch.eye(len(x), dtype=x.dtype)
    pyro.sample("y", dist.MultivariateNormal(torch.zeros_like(y), covariance), obs=y)


def normal_outputs(y: Any, centres: Any) -> None:
    """Two-state hidden Markov model, normal outputs."""
    ones = torch.ones(2, dtype=y.dtype)
    rows = [pyro.sample(name, dist.Dirichlet(ones)) for name in ("theta1", "theta2")]
    mu = _flat("steps", 2, positive=True).cumsum(-1)
    pyro.factor("mu", dist.Normal(centres, 1.0).log_prob(mu).sum())
    pyro.factor("y", log_paths(dist.Normal(mu, 1.0).log_prob(y[:, None]), torch.stack(rows).log()))


def exponential_outputs(u: Any, v: Any, alpha: Any, centres: Any) -> None:
    """Two-state hidden Markov model, two exponential outputs."""
    rows = [pyro.sample(f"theta{k + 1}", dist.Dirichlet(alpha[k])) for k in range(2)]
    levels = []
    for name in ("phi", "lambda"):
        levels.append(_flat(f"{name}_steps", 2, positive=True).cumsum(-1))
        pyro.factor(name, dist.Normal(centres, 1.0).log_prob(levels[-1]).sum())
    emissions = dist.Exponential(levels[0]).log_prob(u[:, None]) + dist.Exponential(levels[1]).log_prob(v[:, None])
    pyro.factor("uv", log_paths(emissions, torch.stack(rows).log()))


def logistic(x: Any, y: Any) -> None:
    """Logistic regression."""
    beta = pyro.sample("beta", dist.Normal(0.0, 2.5).expand([x.shape[1]]).to_event(1))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=x @ beta), obs=y)


def poisson(x: Any, y: Any) -> None:
    """Poisson regression."""
    beta = pyro.sample("beta", dist.Normal(0.0, 2.5).expand([x.shape[1]]).to_event(1))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Poisson((x @ beta).exp()), obs=y)


def hierarchical_logistic(x: Any, group: Any, y: Any) -> None:
    """Logistic regression with group effects."""
    mu = pyro.sample("mu", dist.Normal(0.0, 2.5))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    beta = pyro.sample("beta", dist.Normal(0.0, 2.5).expand([x.shape[1]]).to_event(1))
    with pyro.plate("groups", 1 + int(group.max())):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=mu + tau * eta[group] + x @ beta), obs=y)


def item_response(y: Any) -> None:
    """Two-parameter logistic item responses."""
    people, items = pyro.plate("people", len(y), dim=-2), pyro.plate("items", y.shape[1], dim=-1)
    with pyro.plate("abilities", len(y)):
        ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
    with pyro.plate("questions", y.shape[1]):
        difficulty = pyro.sample("difficulty", dist.Normal(0.0, 1.5))
        slope = pyro.sample("slope", dist.LogNormal(0.0, 0.5))
    with people, items:
        pyro.sample("y", dist.Bernoulli(logits=slope * (ability[:, None] - difficulty)), obs=y)


def process_classifier(x: Any, y: Any) -> None:
    """Gaussian process classification."""
    rho = pyro.sample("rho", dist.InverseGamma(5.0, 5.0))
    alpha = pyro.sample("alpha", dist.HalfNormal(2.0))
    with pyro.plate("points", len(x)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Bernoulli(logits=factor(x, rho, alpha) @ eta), obs=y)


def _flat(name: str, size: int, positive: bool = False) -> Any:
    """A latent vector without a prior; the masked distribution only says where it lives."""
    prior = dist.HalfNormal(1.0) if positive else dist.Normal(0.0, 1.0)
    return pyro.sample(name, prior.expand([size]).to_event(1).mask(False))


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
