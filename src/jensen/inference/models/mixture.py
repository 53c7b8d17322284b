"""Gaussian mixtures with conjugate priors: the model, its start, its components' parameters.

    pi ~ Dirichlet(alpha / each)       or   v_k ~ Beta(1, gamma), pi_k = v_k prod_{j<k} (1 - v_j)   (Dirichlet process)
    z_n ~ pi,   x_n | z_n = k ~ N(mu_k, Lambda_k^-1)

The assignments z are maximised out: with q of the weights and components fixed, the bound's part of a row is
log sum_k exp E_q[log pi_k + log N(x_n | mu_k, Lambda_k^-1)], and its gradient in the mean parameters holds the
responsibilities' sums. Weights and components are then jointly linear: one pass over the data updates both.
The Dirichlet process is truncated at K components by fixing the last stick to 1 (Blei & Jordan 2006).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from jensen.families import Beta, Dirichlet, NormalGamma, NormalWishart
from jensen.families.base import symmetric
from jensen.families.tied_normal_wishart import TiedNormalWishart
from jensen.inference.conjugate import ConjugateModel, Latent, Moments
from jensen.inference.models.mixture_kernels import Covariance, Points, log_evidence

__all__ = [
    "Components",
    "MixturePrior",
    "Weights",
    "coefficients",
    "expected_log_weights",
    "mixture_model",
    "mixture_prior",
    "updated",
]

Components: TypeAlias = NormalWishart | NormalGamma | TiedNormalWishart
Weights: TypeAlias = Dirichlet | Beta
WeightPrior: TypeAlias = Literal["dirichlet", "process"]

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class MixturePrior:
    """Priors of a mixture of K Gaussians in D dimensions.

    Args:
        covariance: "full": a Normal-Wishart a component, batch (K,). "diag": a Normal-Gamma a component and column,
            batch (K, D), events of one dimension. "spherical": a Normal-Gamma a component, batch (K,), its precision
            matrix a multiple of the identity, which every update keeps. "tied": one `TiedNormalWishart`.
        weights: a Dirichlet, or the K - 1 sticks of a truncated Dirichlet process.
        components: see `covariance`.
    """

    covariance: Covariance
    weights: Weights
    components: Components


def mixture_prior(
    covariance: Covariance,
    count: int,
    *,
    weight_prior: WeightPrior = "dirichlet",
    concentration: float,
    mean: Tensor,
    mean_precision: float,
    degrees_of_freedom: float,
    covariance_prior: Tensor,
) -> MixturePrior:
    """Priors from the numbers that people know, the same for all `count` components.

    Args:
        concentration: of each weight, or gamma of the Dirichlet process.
        mean: of the components' means, (D,).
        mean_precision: kappa: how many observations the prior mean is worth.
        degrees_of_freedom: nu: how many observations the prior covariance is worth; above D - 1 for "full" and "tied".
            For "diag" each precision is Gamma(nu / 2, w / 2); for "spherical" it is Gamma(nu D / 2, D w / 2).
        covariance_prior: the Wishart's inverse scale, (D, D); its diagonal w, (D,), for "diag"; w, (), for "spherical".
            In all cases nu / w, as matrix or number, is the prior mean of the precision.

    Raises:
        ValueError: a parameter outside of its domain; names it.
    """
    dim = len(mean)
    if count < 1:
        raise ValueError(f"a mixture needs at least 1 component, got {count}")
    weights: Weights
    if weight_prior == "dirichlet":
        weights = Dirichlet.from_standard(mean.new_full((count,), float(concentration)))
    elif weight_prior == "process":
        sticks = mean.new_ones(count - 1)
        weights = Beta.from_standard(sticks, float(concentration) * sticks)
    else:
        raise ValueError(f"weight_prior must be 'dirichlet' or 'process', got {weight_prior!r}")
    kappa, nu = mean.new_tensor(float(mean_precision)), mean.new_tensor(float(degrees_of_freedom))
    components: Components
    if covariance == "full":
        inverse = torch.linalg.inv(covariance_prior)
        components = NormalWishart.from_standard(mean, kappa, nu, symmetric(inverse)).expand((count,))
    elif covariance == "tied":
        inverse = symmetric(torch.linalg.inv(covariance_prior))
        components = TiedNormalWishart.from_standard(mean.expand(count, dim), kappa.expand(count), nu, inverse)
    elif covariance == "diag":
        precision = kappa.expand(dim, 1, 1)
        per_column = NormalGamma.from_standard(mean.unsqueeze(-1), precision, nu / 2, covariance_prior / 2)
        components = per_column.expand((count, dim))
    elif covariance == "spherical":
        precision = kappa * torch.eye(dim).to(mean)
        each = NormalGamma.from_standard(mean, precision, nu * dim / 2, dim * covariance_prior / 2)
        components = each.expand((count,))
    else:
        raise ValueError(f"covariance must be 'full', 'diag', 'spherical' or 'tied', got {covariance!r}")
    return MixturePrior(covariance, weights, components)


def mixture_model(prior: MixturePrior, start: Mapping[str, Any]) -> ConjugateModel:
    """The model of `Points` (made with the same `covariance`), with latents `weights` and `components`.

    Args:
        start: their first q, families or functions of a generator: see `updated`.
    """
    latents = {
        "weights": Latent(start["weights"], prior=prior.weights),
        "components": Latent(start["components"], prior=prior.components),
    }

    return ConjugateModel(
        latents,
        local_terms=_Terms(prior.covariance),
        blocks=[["weights", "components"]],
        profiled=frozenset({"mixture"}),
    )


@dataclass(frozen=True)
class _Terms:
    """The bound's terms of a batch; an object, because a function inside a function cannot be pickled."""

    covariance: Covariance

    def __call__(self, m: Moments, points: Points) -> dict[str, Tensor]:
        found = coefficients(self.covariance, expected_log_weights(m.weights), m.components)
        result = {"mixture": log_evidence(found, points) - len(points) * points.log_scale}
        if self.covariance == "tied":  # the quadratic part that all components share
            result["scatter"] = (m.components.minus_half_precision * points.scatter).sum()
        return result


def expected_log_weights(weights: Any) -> Tensor:
    """E[log pi], shape (K,), from the mean parameters of a Dirichlet or of K - 1 sticks."""
    if isinstance(weights, Dirichlet.Mean):
        log: Tensor = weights.log
        return log
    end = weights.log.new_zeros(1)  # the last stick is 1; before the first nothing is broken off
    return torch.cat([weights.log, end]) + torch.cat([end, weights.log_complement.cumsum(-1)])


def coefficients(covariance: Covariance, log_weights: Tensor, components: Any) -> Tensor:
    """E_q[log pi_k + log N(x | mu_k, Lambda_k^-1)] in terms of the features of x, (K, P): linear in both arguments.

    Args:
        log_weights: E[log pi], (K,).
        components: mean parameters. For "tied" the quadratic part, the same for all components, is left out.
    """
    m = components
    if covariance == "full":
        dim = m.precision_mean.shape[-1]
        constant = m.half_log_det + m.minus_half_quadratic
        rows, columns = torch.triu_indices(dim, dim, device=log_weights.device)
        # a product x_i x_j stands for both (i, j) and (j, i)
        twice = torch.where(rows == columns, 1.0, 2.0).to(log_weights)
        parts = [m.precision_mean, m.minus_half_precision[:, rows, columns] * twice]
    elif covariance == "tied":
        means = m.precision_mean.unflatten(-1, (len(log_weights), -1))
        dim, constant, parts = means.shape[-1], m.half_log_det + m.minus_half_quadratic, [means]
    elif covariance == "diag":
        dim = m.log_precision.shape[-1]
        constant = (0.5 * m.log_precision + m.minus_half_precision_outer[..., 0, 0]).sum(-1)
        parts = [m.precision_mean[..., 0], 0.5 * m.minus_precision]
    else:
        dim = m.precision_mean.shape[-1]
        trace = m.minus_half_precision_outer.diagonal(dim1=-2, dim2=-1).sum(-1)
        constant = 0.5 * dim * m.log_precision + trace
        parts = [m.precision_mean, 0.5 * m.minus_precision.unsqueeze(-1)]
    constant = constant + log_weights - 0.5 * dim * _LOG_2PI
    return torch.cat([constant.unsqueeze(-1), *parts], dim=-1)


def updated(prior: MixturePrior, sums: Tensor, scatter: Tensor | None = None) -> dict[str, Any]:
    """The optimal q of weights and components given the responsibilities' sums: prior plus statistics.

    Args:
        sums: sum_n r_nk T(x_n), (K, P).
        scatter: sum_n x_n x_n^T, (D, D), for "tied".
    """
    families: dict[str, Any] = {"weights": prior.weights, "components": prior.components}
    with torch.enable_grad():
        m = {n: f.Mean(*(v.detach().requires_grad_() for v in f.mean_parameters)) for n, f in families.items()}
        total = (coefficients(prior.covariance, expected_log_weights(m["weights"]), m["components"]) * sums).sum()
        if prior.covariance == "tied":
            total = total + (m["components"].minus_half_precision * scatter).sum()
        leaves = [v for mean in m.values() for v in mean]
        gradients = iter(torch.autograd.grad(total, leaves, allow_unused=True))
    result = {}
    for name, family in families.items():
        found = (next(gradients) for _ in family.natural_parameters)
        natural = [
            eta + (0 if g is None else symmetric(g) if e == 2 else g)
            for eta, g, e in zip(family.natural_parameters, found, family.event_dims, strict=True)
        ]
        result[name] = type(family)(family.Natural(*natural))
    return result
