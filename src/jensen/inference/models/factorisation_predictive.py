"""What a fitted factorisation says of pairs of users and items."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.inference.models.ratings import Ratings

__all__ = ["PairMoments", "gaussian_log_density", "gaussian_pairs", "poisson_log_likelihood", "poisson_pairs"]


class PairMoments(NamedTuple):
    """Posterior mean and variance of what is expected of each pair, without a rating's own noise; shape (pairs,)."""

    mean: Tensor
    variance: Tensor


def gaussian_pairs(
    users: MultivariateNormal, items: MultivariateNormal, item_bias: Normal, offset: float
) -> PairMoments:
    """Moments of offset + a + b + u . v under q, one user and one item a pair; users have their bias a at the end."""
    user_loc, user_covariance = users.standard_parameters
    loc, covariance = items.standard_parameters
    bias = item_bias.standard_parameters
    u, a = user_loc[:, :-1], user_loc[:, -1]
    mean = offset + a + bias.loc + (u * loc).sum(-1)
    spread = torch.nn.functional.pad(loc, (0, 1), value=1.0)
    variance = bias.scale.square() + torch.einsum("ni,nij,nj->n", spread, user_covariance, spread)
    second = user_covariance[:, :-1, :-1] + u.unsqueeze(-1) * u.unsqueeze(-2)
    return PairMoments(mean, variance + (second * covariance).sum((-1, -2)))


def gaussian_log_density(moments: PairMoments, noise: Gamma, values: Tensor) -> Tensor:
    """log N(value; mean, variance + 1 / E[tau]) of each pair, nats: the predictive density with its moments matched."""
    variance = moments.variance + 1 / noise.mean_parameters.mean
    return -0.5 * ((values - moments.mean).square() / variance + variance.log() + math.log(2 * math.pi))


def poisson_pairs(users: Gamma, items: Gamma) -> PairMoments:
    """Moments of u . v under q, one user and one item a pair, (pairs, K) each."""
    (a, b), (c, d) = users.standard_parameters, items.standard_parameters
    u, v = a / b, c / d
    variance = u.square() * (v / d) + (u / b) * v.square() + (u / b) * (v / d)
    return PairMoments((u * v).sum(-1), variance.sum(-1))


def poisson_log_likelihood(users: Gamma, items: Gamma, counts: Ratings, exposure: float) -> Tensor:
    """sum_j log Poisson(y_ij | exposure x E[u_i . v_j]) of each user, all items counted, nats.

    Pairs without a count enter through the total rate alone, a product of sums.
    """
    u, v = users.mean_parameters.mean, items.mean_parameters.mean
    rates = exposure * (u.index_select(0, counts.users) * v.index_select(0, counts.items)).sum(-1)
    entries = torch.xlogy(counts.values, rates) - torch.lgamma(counts.values + 1)
    result: Tensor = (-exposure * (u @ v.sum(0))).index_add(0, counts.users, entries)
    return result
