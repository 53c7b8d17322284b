"""posteriordb's eight schools: y_j ~ N(theta_j, sigma_j), theta_j ~ N(mu, tau), mu ~ N(0, 5), tau ~ HalfCauchy(5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import HalfCauchy, Normal

from benchmarks.models.case import Case, Draws
from jensen.inference.model import Model
from jensen.inference.supports import positive, real

__all__ = ["MAKERS"]


def centred(z: Any, data: Any) -> dict[str, Tensor]:
    """The effects are the latents: a funnel where tau is small."""
    return {
        "prior": Normal(0.0, 5.0).log_prob(z.mu) + HalfCauchy(5.0).log_prob(z.tau),
        "effects": Normal(z.mu, z.tau).log_prob(z.theta),
        "likelihood": Normal(z.theta, data.sigma).log_prob(data.y),
    }


def non_centred(z: Any, data: Any) -> dict[str, Tensor]:
    """The effects' standard scores are the latents: theta = mu + tau eta."""
    return {
        "prior": Normal(0.0, 5.0).log_prob(z.mu) + HalfCauchy(5.0).log_prob(z.tau),
        "scores": Normal(0.0, 1.0).log_prob(z.eta),
        "likelihood": Normal(z.mu + z.tau * z.eta, data.sigma).log_prob(data.y),
    }


def _effects(draws: Draws) -> Draws:
    mu, tau = draws["mu"], draws["tau"]
    return {"theta": mu[:, None] + tau[:, None] * draws["eta"], "mu": mu, "tau": tau}


def _scores(draws: Draws) -> Draws:
    mu, tau = draws["mu"], draws["tau"]
    return {"mu": mu, "tau": tau, "eta": (draws["theta"] - mu[:, None]) / tau[:, None]}


def _data(data: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.tensor(data[name], dtype=torch.float64) for name in ("y", "sigma")}


def _centred(data: Mapping[str, Any]) -> Case:
    latents = {"mu": real(), "tau": positive(), "theta": real(plate="schools")}
    return Case(Model(latents, centred, plates={"schools": int(data["J"])}), _data(data), "centred")


def _non_centred(data: Mapping[str, Any]) -> Case:
    latents = {"mu": real(), "tau": positive(), "eta": real(plate="schools")}
    model = Model(latents, non_centred, plates={"schools": int(data["J"])})
    return Case(model, _data(data), "non_centred", _effects, _scores)


MAKERS: dict[str, Callable[[Mapping[str, Any]], Case]] = {
    "eight_schools_centered": _centred,
    "eight_schools_noncentered": _non_centred,
}
