"""posteriordb's Gaussian process regression: its three hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Gamma, HalfNormal, MultivariateNormal

from benchmarks.models.case import Case
from jensen.inference.model import Model
from jensen.inference.supports import positive

__all__ = ["MAKERS", "kernel"]


def kernel(x: Tensor, rho: Tensor, alpha: Tensor) -> Tensor:
    """alpha^2 exp(-(x - x')^2 / (2 rho^2)) between all pairs, (N, N)."""
    return alpha**2 * torch.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2)


def process(z: Any, data: Any) -> dict[str, Tensor]:
    """y ~ N(0, kernel + sigma I); sigma is the noise's variance."""
    covariance = kernel(data.x, z.rho, z.alpha) + z.sigma * torch.eye(len(data.x), dtype=data.x.dtype)
    prior = (
        Gamma(torch.tensor(25.0, dtype=data.x.dtype), 4.0).log_prob(z.rho)
        + HalfNormal(2.0).log_prob(z.alpha)
        + HalfNormal(1.0).log_prob(z.sigma)
    )
    outputs = MultivariateNormal(torch.zeros_like(data.y), scale_tril=torch.linalg.cholesky(covariance))
    return {"prior": prior, "likelihood": outputs.log_prob(data.y)}


def _gp_regr(data: Mapping[str, Any]) -> Case:
    read = {name: torch.tensor(data[name], dtype=torch.float64) for name in ("x", "y")}
    return Case(Model({"rho": positive(), "alpha": positive(), "sigma": positive()}, process), read, "process")


MAKERS: dict[str, Callable[[Mapping[str, Any]], Case]] = {"gp_regr": _gp_regr}
