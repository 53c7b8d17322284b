"""Posteriors on generated data: two regressions, a hierarchy, item responses, a Gaussian process classifier.

Data come from `numpy.random.RandomState`, whose stream NumPy has frozen: the stored references stay true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Bernoulli, HalfNormal, InverseGamma, LogNormal, Normal, Poisson

from benchmarks.models.case import Case, Draws, with_rows
from benchmarks.models.gaussian_process import kernel
from jensen.inference.model import Model
from jensen.inference.supports import positive, real

__all__ = ["MAKERS"]

JITTER = 1e-6
"""on the diagonal of the classifier's covariance; part of the model"""


def logistic(z: Any, data: Any) -> dict[str, Tensor]:
    """y ~ Bernoulli(logit = X beta), beta ~ N(0, 2.5)."""
    return {
        "prior": Normal(0.0, 2.5).log_prob(z.beta).sum(),
        "likelihood": Bernoulli(logits=data.x @ z.beta).log_prob(data.y),
    }


def poisson(z: Any, data: Any) -> dict[str, Tensor]:
    """y ~ Poisson(exp(X beta)), beta ~ N(0, 2.5)."""
    return {
        "prior": Normal(0.0, 2.5).log_prob(z.beta).sum(),
        "likelihood": Poisson((data.x @ z.beta).exp()).log_prob(data.y),
    }


def hierarchical_logistic(z: Any, data: Any) -> dict[str, Tensor]:
    """y ~ Bernoulli(logit = mu + tau eta[group] + X beta); mu, beta ~ N(0, 2.5), tau ~ HalfNormal(1)."""
    weak = Normal(0.0, 2.5)
    return {
        "prior": weak.log_prob(z.mu) + weak.log_prob(z.beta).sum() + HalfNormal(1.0).log_prob(z.tau),
        "groups": Normal(0.0, 1.0).log_prob(z.eta),
        "likelihood": Bernoulli(logits=z.mu + z.tau * z.eta[data.group] + data.x @ z.beta).log_prob(data.y),
    }


def item_response(z: Any, data: Any) -> dict[str, Tensor]:
    """Two-parameter logistic: y[p, i] ~ Bernoulli(logit = slope[i] (ability[p] - difficulty[i])).

    ability ~ N(0, 1), difficulty ~ N(0, 1.5), log slope ~ N(0, 0.5).
    """
    logits = z.slope * (z.ability[:, None] - z.difficulty)
    return {
        "items": Normal(0.0, 1.5).log_prob(z.difficulty) + LogNormal(0.0, 0.5).log_prob(z.slope),
        "abilities": Normal(0.0, 1.0).log_prob(z.ability),
        "likelihood": Bernoulli(logits=logits).log_prob(data.y),
    }


def factor(x: Tensor, rho: Tensor, alpha: Tensor) -> Tensor:
    """Lower Cholesky factor of the function's covariance at x, (N, N)."""
    lower: Tensor = torch.linalg.cholesky(kernel(x, rho, alpha) + JITTER * torch.eye(len(x), dtype=x.dtype))
    return lower


def process_classifier(z: Any, data: Any) -> dict[str, Tensor]:
    """y ~ Bernoulli(logit = f(x)), f ~ GP(kernel); rho ~ InverseGamma(5, 5), alpha ~ HalfNormal(2)."""
    return {
        "prior": InverseGamma(torch.tensor(5.0, dtype=data.x.dtype), 5.0).log_prob(z.rho)
        + HalfNormal(2.0).log_prob(z.alpha),
        "scores": Normal(0.0, 1.0).log_prob(z.eta),
        "likelihood": Bernoulli(logits=factor(data.x, z.rho, z.alpha) @ z.eta).log_prob(data.y),
    }


def _logistic() -> Case:
    rng = np.random.RandomState(1)
    x = _design(rng, 300, 5, correlation=0.5)
    y = rng.uniform(size=300) < _sigmoid(x @ np.array([-0.5, 1.0, -1.5, 0.5, 0.0, 2.0]))
    return _regression(x, y, logistic)


def _poisson() -> Case:
    rng = np.random.RandomState(2)
    x = _design(rng, 200, 4, correlation=0.3)
    return _regression(x, rng.poisson(np.exp(x @ np.array([1.0, 0.5, -0.4, 0.3, 0.0]))), poisson)


def _hierarchical_logistic() -> Case:
    rng = np.random.RandomState(3)
    groups, rows = 20, 400
    group = np.repeat(np.arange(groups), rows // groups)
    x = rng.normal(size=(rows, 2))
    logits = -0.3 + 0.8 * rng.normal(size=groups)[group] + x @ np.array([1.0, -0.5])
    data = {"x": _double(x), "group": torch.from_numpy(group), "y": _double(rng.uniform(size=rows) < _sigmoid(logits))}
    latents = {"mu": real(), "tau": positive(), "beta": real(2), "eta": real(plate="groups")}

    def reported(draws: Draws) -> Draws:
        effects = draws["tau"][:, None] * draws["eta"]
        return {"mu": draws["mu"], "tau": draws["tau"], "beta": draws["beta"], "effect": effects}

    def back(draws: Draws) -> Draws:
        scores = draws["effect"] / draws["tau"][:, None]
        return {"mu": draws["mu"], "tau": draws["tau"], "beta": draws["beta"], "eta": scores}

    model = Model(latents, hierarchical_logistic, plates={"rows": rows, "groups": groups})
    return Case(model, data, "hierarchical_logistic", reported, back)


def _item_response() -> Case:
    rng = np.random.RandomState(4)
    people, items = 100, 20
    slope, difficulty = np.exp(0.4 * rng.normal(size=items)), rng.normal(size=items)
    logits = slope * (rng.normal(size=(people, 1)) - difficulty)
    latents = {"ability": real(plate="people"), "difficulty": real(plate="items"), "slope": positive(plate="items")}
    model = Model(latents, item_response, plates={"people": people, "items": items})
    return Case(model, {"y": _double(rng.uniform(size=(people, items)) < _sigmoid(logits))}, "item_response")


def _process_classifier() -> Case:
    rng = np.random.RandomState(5)
    x = np.sort(rng.uniform(-3.0, 3.0, size=60))
    y = rng.uniform(size=60) < _sigmoid(3.0 * np.sin(2.0 * x))
    data = {"x": _double(x), "y": _double(y)}
    latents = {"rho": positive(), "alpha": positive(), "eta": real(plate="points")}
    factors = torch.func.vmap(lambda rho, alpha: factor(data["x"], rho, alpha))

    def reported(draws: Draws) -> Draws:
        rho, alpha = draws["rho"], draws["alpha"]
        return {"rho": rho, "alpha": alpha, "f": (factors(rho, alpha) @ draws["eta"][..., None])[..., 0]}

    def back(draws: Draws) -> Draws:
        rho, alpha, f = draws["rho"], draws["alpha"], draws["f"][..., None]
        scores = torch.linalg.solve_triangular(factors(rho, alpha), f, upper=False)
        return {"rho": rho, "alpha": alpha, "eta": scores[..., 0]}

    return Case(Model(latents, process_classifier, plates={"points": 60}), data, "process_classifier", reported, back)


def _regression(x: Any, y: Any, log_joint: Callable[[Any, Any], dict[str, Tensor]]) -> Case:
    model = with_rows({"beta": real(x.shape[1])}, log_joint, len(x))
    return Case(model, {"x": _double(x), "y": _double(y)}, log_joint.__name__)


def _design(rng: np.random.RandomState, rows: int, columns: int, correlation: float) -> Any:
    """A constant column, then normal ones that share a part."""
    shared = rng.normal(size=(rows, 1))
    own = rng.normal(size=(rows, columns))
    return np.hstack([np.ones((rows, 1)), np.sqrt(correlation) * shared + np.sqrt(1.0 - correlation) * own])


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def _double(x: Any) -> Tensor:
    return torch.from_numpy(np.asarray(x, dtype=np.float64))


MAKERS: dict[str, Callable[[], Case]] = {
    "logistic": _logistic,
    "poisson": _poisson,
    "hierarchical_logistic": _hierarchical_logistic,
    "item_response": _item_response,
    "process_classifier": _process_classifier,
}
