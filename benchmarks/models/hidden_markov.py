"""posteriordb's hidden Markov models: two states, summed out, weight 1 on each initial state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Dirichlet, Exponential, Normal

from benchmarks.models.case import Case, Draws
from jensen.inference.model import Model
from jensen.inference.supports import positive, simplex

__all__ = ["MAKERS", "log_paths"]


def log_paths(emissions: Tensor, transitions: Tensor) -> Tensor:
    """log sum over paths of the product of emissions and transitions, nats.

    The product of the steps' matrices is taken in pairs, so that it is log2(T) operations deep instead of T.

    Args:
        emissions: (T, K) log densities of each datum in each state.
        transitions: (K, K) log probabilities from the row's state to the column's.
    """
    steps = transitions + emissions[1:, None, :]  # (T - 1, K, K)
    while len(steps) > 1:
        pairs = len(steps) // 2
        first, second = steps[: 2 * pairs : 2], steps[1 : 2 * pairs : 2]
        product = torch.logsumexp(first[..., None] + second[:, None], 2)
        steps = torch.cat([product, steps[2 * pairs :]])
    return torch.logsumexp((emissions[0, :, None] + steps[0]).flatten(), 0)


def normal_outputs(z: Any, data: Any) -> dict[str, Tensor]:
    """y_t ~ N(mu[state], 1); 0 < mu[1] < mu[2], mu ~ N((3, 10), 1); transition rows uniform."""
    mu = z.steps.cumsum(-1)  # positive and increasing, with the Jacobian 1
    transitions = torch.stack([z.theta1, z.theta2]).log()
    return {
        "prior": Normal(data.centres, 1.0).log_prob(mu).sum(),
        "likelihood": log_paths(Normal(mu, 1.0).log_prob(data.y[:, None]), transitions),
    }


def exponential_outputs(z: Any, data: Any) -> dict[str, Tensor]:
    """u_t, v_t ~ Exponential(phi[state]), Exponential(lambda[state]), both increasing; rows ~ Dirichlet."""
    phi, rate = z.phi_steps.cumsum(-1), z.lambda_steps.cumsum(-1)
    emissions = Exponential(phi).log_prob(data.u[:, None]) + Exponential(rate).log_prob(data.v[:, None])
    rows = torch.stack([z.theta1, z.theta2])
    around = Normal(data.centres, 1.0)
    return {
        "prior": around.log_prob(phi).sum() + around.log_prob(rate).sum(),
        "rows": Dirichlet(data.alpha).log_prob(rows).sum(),
        "likelihood": log_paths(emissions, rows.log()),
    }


def _steps(levels: Tensor) -> Tensor:
    return torch.cat([levels[:, :1], levels.diff(dim=1)], 1)


def _hmm_example(data: Mapping[str, Any]) -> Case:
    y, centres = (torch.tensor(numbers, dtype=torch.float64) for numbers in (data["y"], [3.0, 10.0]))
    latents = {"theta1": simplex(2), "theta2": simplex(2), "steps": positive(2)}

    def reported(draws: Draws) -> Draws:
        return {"theta1": draws["theta1"], "theta2": draws["theta2"], "mu": draws["steps"].cumsum(1)}

    def back(draws: Draws) -> Draws:
        return {"theta1": draws["theta1"], "theta2": draws["theta2"], "steps": _steps(draws["mu"])}

    return Case(Model(latents, normal_outputs), {"y": y, "centres": centres}, "normal_outputs", reported, back)


def _hmm_drive(data: Mapping[str, Any]) -> Case:
    read = {name: torch.tensor(data[name], dtype=torch.float64) for name in ("u", "v", "alpha")}
    read["centres"] = torch.tensor([0.0, 3.0], dtype=torch.float64)
    latents = {"theta1": simplex(2), "theta2": simplex(2), "phi_steps": positive(2), "lambda_steps": positive(2)}

    def reported(draws: Draws) -> Draws:
        levels = {name: draws[f"{name}_steps"].cumsum(1) for name in ("phi", "lambda")}
        return {"theta1": draws["theta1"], "theta2": draws["theta2"], **levels}

    def back(draws: Draws) -> Draws:
        steps = {f"{name}_steps": _steps(draws[name]) for name in ("phi", "lambda")}
        return {"theta1": draws["theta1"], "theta2": draws["theta2"], **steps}

    return Case(Model(latents, exponential_outputs), read, "exponential_outputs", reported, back)


MAKERS: dict[str, Callable[[Mapping[str, Any]], Case]] = {"hmm_example": _hmm_example, "hmm_drive_0": _hmm_drive}
