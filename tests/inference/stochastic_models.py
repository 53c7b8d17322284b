"""Small models with known posteriors for tests of stochastic ascent."""

from __future__ import annotations

import math

import torch
from torch.distributions import Normal

from jensen.gradients import Estimator, Pathwise
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.supports import real
from jensen.inference.target import Target
from jensen.inference.variational import mean_field

MEANS = torch.tensor([1e4, 1e4, 5.0, -3e-3, 100.0, 1.0], dtype=torch.float64)
SCALES = torch.tensor([1e4, 1.0, 1e-3, 1e-3, 10.0, 1e2], dtype=torch.float64)


def bound_of(model: Model, data=None, family=mean_field, estimator: Estimator | None = None) -> Bound:
    return Bound(Target(model, data), family(model), Pathwise() if estimator is None else estimator)


def badly_scaled() -> Bound:
    return bound_of(Model({"x": real(6)}, lambda z, data: Normal(MEANS, SCALES).log_prob(z.x).sum()))


def unknown_mean(rows: int = 100) -> tuple[Model, dict[str, torch.Tensor], float, float, float]:
    """y ~ N(mu, 1), mu ~ N(0, 10): the model, its data, the exact posterior's mean and sd, the log evidence."""
    y = 3 + torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def log_joint(z, data):
        return {"prior": Normal(0.0, 10.0).log_prob(z.mu), "likelihood": Normal(z.mu, 1.0).log_prob(data.y)}

    precision = rows + 0.01
    # y ~ N(0, I + 100 1 1^T), whose determinant is 1 + 100 N and whose inverse I - 1 1^T / precision
    square = y.square().sum() - y.sum() ** 2 / precision
    evidence = -0.5 * (square + rows * math.log(2 * math.pi) + math.log1p(100 * rows))
    model = Model({"mu": real()}, log_joint, plates={"rows": rows})
    return model, {"y": y}, float(y.sum()) / precision, precision**-0.5, float(evidence)
