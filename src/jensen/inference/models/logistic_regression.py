"""Bayesian logistic regression by the Jaakkola-Jordan bound, which is also that of Polya-Gamma augmentation.

With t in {0, 1} and s = x . w,   log p(t | s) = (t - 1/2) s - log 2cosh(s / 2).   As a function of s^2 the last term is
convex, so that a tangent bounds it from below (Jaakkola & Jordan 2000):

    log p(t | s) >= (t - 1/2) s - log 2cosh(xi / 2) - lambda(xi) (s^2 - xi^2),   lambda(xi) = tanh(xi / 2) / (4 xi)

quadratic in w: with a normal prior a normal q(w) is optimal. The best xi^2 is E[s^2], and with it in place (xi is
*profiled out*) the bound's last two parts are -log 2cosh(sqrt(E[s^2]) / 2). Augmenting each row with omega ~ PG(1, 0)
and taking q(omega) = PG(1, c) leads to the same bound and the same updates, as c^2 = E[s^2] and
E[omega] = tanh(c / 2) / (2 c) = 2 lambda(c) (Polson, Scott & Windle 2013; Durante & Rigon 2019).

The bound lies below the ELBO of the same q: `jensen.inference.models.glm` climbs that one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from jensen.families import MultivariateNormal
from jensen.inference.conjugate import Columns, ConjugateModel, Latent
from jensen.inference.models.quadrature import expected_logistic
from jensen.inference.models.weights import Centring, WeightPrior

__all__ = [
    "jaakkola_jordan_weight",
    "log_two_cosh_half_root",
    "logistic_regression",
    "predictive_probability",
    "predictor",
    "weights_latent",
]

_SERIES = 1e-3  # where the series is exact to rounding, and the formula and its derivative are too


def log_two_cosh_half_root(u: Tensor) -> Tensor:
    """log(2 cosh(sqrt(u) / 2)) for u >= 0, elementwise; its derivative is lambda(sqrt(u)), 1/8 at u = 0.

    It goes on as its tangent below zero, where no E[s^2] is but a probe of its curvature may be.
    """
    small = u < _SERIES
    near = torch.where(small, u, 0.0)
    above = near.clamp_min(0)
    series = math.log(2) + near / 8 + above**2 * (-1 / 192 + above * (1 / 2880 - above * (17 / 645120)))
    xi = torch.where(small, 1.0, u).sqrt()
    return torch.where(small, series, 0.5 * xi + torch.log1p(torch.exp(-xi)))


def jaakkola_jordan_weight(xi: Tensor) -> Tensor:
    """lambda(xi) = tanh(xi / 2) / (4 xi), 1/8 at 0; half the mean of a PG(1, xi) variable."""
    u = xi**2
    small = u < _SERIES
    near = torch.where(small, u, 0.0)
    series = 1 / 8 + near * (-1 / 96 + near * (1 / 960 - near * (17 / 161280)))
    safe = torch.where(small, 1.0, xi)
    return torch.where(small, series, torch.tanh(0.5 * safe) / (4 * safe))


def logistic_regression(centring: Centring, prior: WeightPrior, start: Tensor, classes: int = 1) -> ConjugateModel:
    """The model; latents "weights", `classes` normals of dimension `centring.size`, and perhaps "relevance".

    Data are `Columns(x=, t=)`: rows x (N, size) made by `centring.rows`, and targets t (N, classes), 0 or 1. Each class
    is a regression by itself; the bound is the sum of theirs.

    Args:
        centring: how rows are made.
        prior: of the weights; the intercept has its own, fixed in `centring`.
        start: first precisions of the weights, (D).
    """

    def global_terms(m: Any) -> dict[str, Tensor]:
        return dict(centring.weight_terms(prior, m, m.weights.outer.diagonal(dim1=-2, dim2=-1)))

    def local_terms(m: Any, batch: Columns) -> dict[str, Tensor]:
        mean, square = predictor(m.weights, batch.x)
        sign = batch.t.mT - 0.5
        return {"linear": (sign * mean).sum(), "curvature": -log_two_cosh_half_root(square).sum()}

    return ConjugateModel(
        latents={
            "weights": weights_latent(centring, prior, start, classes),
            **prior.latents(start.expand(classes, -1)),
        },
        global_terms=global_terms,
        local_terms=local_terms,
        profiled=frozenset({"curvature"}),
    )


def weights_latent(centring: Centring, prior: WeightPrior, start: Tensor, classes: int = 1) -> Latent:
    """`classes` normals that start at zero with the prior's precision."""
    first = start if prior.precision is None else torch.full_like(start, prior.precision)
    if centring.intercept:
        first = torch.cat([first, first.new_tensor([centring.precision])])
    q = MultivariateNormal.from_standard(torch.zeros_like(first), torch.diag(1 / first))
    return Latent(q.expand((classes,)))


def predictor(weights: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """(E[s], E[s^2]) of s = x . w, each of shape (classes, N), from the weights' mean parameters."""
    return weights.mean @ x.mT, ((x @ weights.outer) * x).sum(-1)


def predictive_probability(q: MultivariateNormal, x: Tensor) -> Tensor:
    """P(t = 1 | x) for each class by itself, shape (classes, N): the sigmoid averaged over q(x . w), by quadrature."""
    loc, covariance = q.standard_parameters
    return expected_logistic(loc @ x.mT, ((x @ covariance) * x).sum(-1))
