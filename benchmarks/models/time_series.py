"""posteriordb's autoregression: y_t ~ N(alpha + sum_k beta[k] y_{t-k}, sigma), the first K values given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import HalfCauchy, Normal

from benchmarks.models.case import Case, with_rows
from jensen.inference.supports import positive, real

__all__ = ["MAKERS"]


def autoregression(z: Any, data: Any) -> dict[str, Tensor]:
    """alpha, beta ~ N(0, 10), sigma ~ HalfCauchy(2.5); `lags` holds y_{t-1}, ..., y_{t-K} in its columns."""
    weak = Normal(0.0, 10.0)
    return {
        "prior": weak.log_prob(z.alpha) + weak.log_prob(z.beta).sum() + HalfCauchy(2.5).log_prob(z.sigma),
        "likelihood": Normal(z.alpha + data.lags @ z.beta, z.sigma).log_prob(data.y),
    }


def _ar(data: Mapping[str, Any]) -> Case:
    y, order = torch.tensor(data["y"], dtype=torch.float64), int(data["K"])
    lags = torch.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], 1)
    latents = {"alpha": real(), "beta": real(order), "sigma": positive()}
    model = with_rows(latents, autoregression, len(lags))
    return Case(model, {"lags": lags, "y": y[order:]}, "autoregression")


MAKERS: dict[str, Callable[[Mapping[str, Any]], Case]] = {"arK": _ar}
