"""Regressions whose likelihood is not conjugate, by conjugate-computation VI (Khan & Lin 2017).

The likelihood of row n depends on the weights through s = x_n . w alone, and s is normal under q. So E[log p(y_n | s)]
is a function of its mean and variance, both functions of q's mean parameters: nonlinear, but its gradient in them is
what the natural-gradient step needs. The expectation is closed (Poisson), one-dimensional quadrature (logistic), or the
average over draws of w, differentiated through them. All give the ELBO itself, not a bound on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from jensen.families import MultivariateNormal
from jensen.inference.conjugate import Columns, ConjugateModel, Latent
from jensen.inference.models.logistic_regression import predictor, weights_latent
from jensen.inference.models.quadrature import expected_softplus, log_expected_density
from jensen.inference.models.weights import Centring, WeightPrior

__all__ = ["LOGISTIC", "POISSON", "Likelihood", "generalised_linear_model", "laplace", "log_predictive_count"]

_NEWTON_STEPS, _HALVINGS, _NEWTON_TOLERANCE = 100, 50, 1e-6


@dataclass(frozen=True)
class Likelihood:
    """p(t | s) of one number t given the linear predictor s; functions act elementwise and broadcast.

    Attributes:
        log_prob: (s, t) -> log p(t | s), nats; concave in s.
        slope: (s, t) -> its first and second derivatives in s.
        expected_log_prob: (mean, variance, t) -> E[log p(t | s)], s ~ N(mean, variance).
    """

    name: str
    log_prob: Callable[[Tensor, Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    expected_log_prob: Callable[[Tensor, Tensor, Tensor], Tensor]


LOGISTIC = Likelihood(
    name="logistic",
    log_prob=lambda s, t: t * s - torch.nn.functional.softplus(s),
    slope=lambda s, t: (t - torch.sigmoid(s), -torch.sigmoid(s) * torch.sigmoid(-s)),
    expected_log_prob=lambda mean, variance, t: t * mean - expected_softplus(mean, variance),
)
POISSON = Likelihood(
    name="Poisson",
    log_prob=lambda s, t: t * s - torch.exp(s) - torch.lgamma(t + 1),
    slope=lambda s, t: (t - torch.exp(s), -torch.exp(s)),
    expected_log_prob=lambda mean, variance, t: t * mean - torch.exp(mean + 0.5 * variance) - torch.lgamma(t + 1),
)


def generalised_linear_model(
    likelihood: Likelihood,
    centring: Centring,
    prior: WeightPrior,
    start: Tensor,
    *,
    first: MultivariateNormal | None = None,
    classes: int = 1,
    expectation: Literal["exact", "monte-carlo"] = "exact",
    samples: int = 32,
) -> ConjugateModel:
    """The model; latents and data as those of `logistic_regression`, for methods "natural" and "svi".

    Args:
        likelihood: LOGISTIC, POISSON or another.
        centring, prior, start, classes: see `logistic_regression`.
        first: the first q of the weights, a batch of `classes` normals; near the optimum (`laplace`) where steps from
            afar might overshoot; default a start at zero.
        expectation: "exact" integrates over the linear predictor; "monte-carlo" averages over `samples` draws of w.
    """

    def global_terms(m: Any) -> dict[str, Tensor]:
        return dict(centring.weight_terms(prior, m, m.weights.outer.diagonal(dim1=-2, dim2=-1)))

    def local_terms(m: Any, batch: Columns) -> dict[str, Tensor]:
        mean, square = predictor(m.weights, batch.x)
        variance = (square - mean**2).clamp_min(0)
        return {"likelihood": likelihood.expected_log_prob(mean, variance, batch.t.mT).sum()}

    def sampled_terms(draws: Any, batch: Columns) -> dict[str, Tensor]:
        s = draws.weights @ batch.x.mT  # (samples, classes, N)
        return {"likelihood": likelihood.log_prob(s, batch.t.mT).sum((-2, -1))}

    exact = expectation == "exact"
    return ConjugateModel(
        latents={
            "weights": Latent(first) if first is not None else weights_latent(centring, prior, start, classes),
            **prior.latents(start.expand(classes, -1)),
        },
        global_terms=global_terms,
        local_terms=local_terms if exact else None,
        nonconjugate=frozenset({"likelihood"}) if exact else frozenset(),
        sampled_terms=None if exact else sampled_terms,
        samples=samples,
    )


def laplace(
    likelihood: Likelihood, centring: Centring, prior: WeightPrior, start: Tensor, data: Columns
) -> MultivariateNormal:
    """The normal at the posterior's mode with its curvature, one a column of `data.t`: where to start from.

    Newton's method with halved steps. Learned precisions of the weights are held at `start`.
    """
    rows, t = data.x, data.t
    first = weights_latent(centring, prior, start, t.shape[1]).start
    assert isinstance(first, MultivariateNormal)
    precision = first.natural_parameters.precision.diagonal(dim1=-2, dim2=-1)

    def log_joint(w: Tensor) -> Tensor:
        return likelihood.log_prob(w @ rows.mT, t.mT).sum(-1) - 0.5 * (precision * w**2).sum(-1)

    w = torch.zeros_like(precision)
    for _ in range(_NEWTON_STEPS):
        slope, curvature = likelihood.slope(w @ rows.mT, t.mT)
        gradient = slope @ rows - precision * w
        hessian = torch.diag_embed(precision) - (rows.mT * curvature.unsqueeze(-2)) @ rows
        step, now = torch.linalg.solve(hessian, gradient), log_joint(w)
        size = torch.ones_like(now)
        for _ in range(_HALVINGS):
            worse = ~(log_joint(w + size.unsqueeze(-1) * step) >= now)
            if not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        w = torch.where(worse.unsqueeze(-1), w, w + size.unsqueeze(-1) * step)
        if bool(((gradient * step).sum(-1) < _NEWTON_TOLERANCE).all()):
            break
    return MultivariateNormal(MultivariateNormal.Natural((hessian @ w.unsqueeze(-1)).squeeze(-1), hessian))


def log_predictive_count(mean: Tensor, variance: Tensor, count: Tensor) -> Tensor:
    """log P(count | x) of a Poisson regression, elementwise: the rate exp(s), s ~ N(mean, variance), integrated out."""
    return log_expected_density(
        lambda s: POISSON.log_prob(s, count.unsqueeze(-1)), lambda s: POISSON.slope(s, count), mean, variance
    )
