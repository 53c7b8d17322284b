"""Pareto smoothed importance sampling: weights that correct q, and k-hat, which says whether they can.

Importance ratios p(x, z) / q(z) of draws from q may have a heavy tail. A generalised Pareto distribution is fitted to
the largest of them; its quantiles replace them, and its shape k-hat says how many moments the ratios have (1 / k).

Sources: Vehtari, Simpson, Gelman, Yao & Gabry (2024), "Pareto smoothed importance sampling", JMLR 25(72); Zhang &
Stephens (2009), "A new and efficient estimation method for the generalized Pareto distribution", Technometrics 51(3).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Smoothed", "effective_size", "fit_pareto", "khat_threshold", "pareto_smooth", "resample", "tail_length"]

Floats = npt.NDArray[np.float64]

_FEWEST = 5  # ratios in the tail; with fewer there is nothing to fit
_CONSTANT = 1e-8  # nats between the largest and the smallest log ratio of a tail that are rounding
_EQUAL = 1e-10  # nats between two log ratios that are


class Smoothed(NamedTuple):
    """What `pareto_smooth` finds.

    Attributes:
        log_weights: (S,), their exponentials sum to one.
        khat: shape of the ratios' tail. `-inf`: the largest ratios are equal, there is no tail. `inf`: no fit.
    """

    log_weights: Tensor
    khat: float


def khat_threshold(draws: int) -> float:
    """The largest k-hat at which averages over that many draws are to be trusted: min(1 - 1 / log10 S, 0.7).

    Below 0.7 more draws can help: k-hat is usable from S = 10^(1 / (1 - k)) on. Raises ValueError under 2 draws.
    """
    if draws < 2:
        raise ValueError(f"draws should be at least 2, but is {draws}")
    return min(1 - 1 / math.log10(draws), 0.7)


def tail_length(draws: int, relative_efficiency: float = 1.0) -> int:
    """How many of the largest ratios are fitted: min(0.2 S, 3 sqrt(S / r)), rounded up."""
    return math.ceil(min(0.2 * draws, 3 * math.sqrt(draws / relative_efficiency)))


def effective_size(log_weights: Tensor) -> float:
    """1 / sum w^2 of weights that sum to one, from their logarithms (S,): how many equal draws would be as good."""
    return float(torch.exp(-torch.logsumexp(2 * (log_weights - torch.logsumexp(log_weights, 0)), 0)))


def pareto_smooth(log_ratios: Tensor, relative_efficiency: float = 1.0) -> Smoothed:
    """Smoothed, truncated and normalised weights of draws from q, and k-hat.

    Args:
        log_ratios: (S,) log p(x, z_s) - log q(z_s), nats; a constant may be missing. -inf is a weight of zero.
        relative_efficiency: effective draws over draws where they come from a Markov chain; 1 for independent ones.

    Raises:
        ValueError: another shape, fewer than 2 draws, NaN or +inf, no finite ratio, an efficiency that is not positive.
    """
    ratios = _checked(log_ratios, relative_efficiency)
    # Relative to the largest, which is then 1: nothing overflows.
    log_weights = ratios - ratios.max()
    order = np.argsort(log_weights, kind="stable")
    count = tail_length(len(ratios), relative_efficiency)
    tail, cutoff = _tail(log_weights, order, count)
    khat = math.inf
    if count >= _FEWEST and -cutoff <= _CONSTANT:
        khat = -math.inf
    elif len(tail) >= _FEWEST:
        khat, sigma = fit_pareto(torch.from_numpy(np.exp(log_weights[tail]) - math.exp(cutoff)))
        if math.isfinite(khat):
            quantiles = _quantiles((np.arange(len(tail)) + 0.5) / len(tail), khat, sigma)
            # A weight beyond the largest that was seen is the fit's guess alone: truncated.
            log_weights[tail] = np.minimum(np.log(quantiles + math.exp(cutoff)), 0.0)
    weights = torch.from_numpy(log_weights)
    return Smoothed((weights - torch.logsumexp(weights, 0)).to(log_ratios.device), khat)


def _tail(log_weights: Floats, order: npt.NDArray[np.intp], count: int) -> tuple[npt.NDArray[np.intp], float]:
    """Places of the largest ratios, ascending, and the logarithm that they all exceed."""
    least = math.log(np.finfo(np.float64).tiny)  # below it there is no tail to tell from zero
    cutoff = max(float(log_weights[order[-count - 1]]), least)
    above = order[log_weights[order] > cutoff + _EQUAL]
    lower = order[log_weights[order] < cutoff - _EQUAL]
    if 0 < len(above) < _FEWEST <= count and len(lower) and cutoff > least:
        # Many ratios are equal to the one at the tail's end, those of a discrete latent: they belong to the tail.
        cutoff = max(float(log_weights[lower[-1]]), least)
        above = order[log_weights[order] > cutoff + _EQUAL]
    return above, cutoff


def _checked(log_ratios: Tensor, relative_efficiency: float) -> Floats:
    if log_ratios.ndim != 1 or len(log_ratios) < 2:
        raise ValueError(f"log_ratios should have shape (S,) with S >= 2, but has shape {tuple(log_ratios.shape)}")
    if not relative_efficiency > 0:
        raise ValueError(f"relative_efficiency should be positive, but is {relative_efficiency}")
    ratios = log_ratios.detach().to("cpu", torch.float64, copy=True).numpy()
    wrong = int((np.isnan(ratios) | (ratios == np.inf)).sum())
    if wrong:
        raise ValueError(f"log_ratios should be below infinity, but {wrong} of {len(ratios)} are NaN or +inf")
    if not np.isfinite(ratios).any():
        raise ValueError("log_ratios are all -inf: the log joint is -inf at every draw of q")
    return np.asarray(ratios, np.float64)


def fit_pareto(exceedances: Tensor) -> tuple[float, float]:
    """(k, sigma) of the generalised Pareto distribution with density (1 + k x / sigma)^(-1 / k - 1) / sigma.

    Zhang & Stephens' (2009) posterior mean over a grid of b = -k / sigma under their data-dependent prior, where the
    profile likelihood's k is mean log(1 - b x); then the weak prior of Vehtari et al. (2024) on k: ten
    observations at 1/2, (n k + 5) / (n + 10). Both are `inf` where nothing can be fitted.

    Args:
        exceedances: (n,) positive, ascending.
    """
    x = exceedances.detach().cpu().double().numpy()
    n = len(x)
    grid = 30 + math.isqrt(n)
    quartile = x[math.floor(n / 4 + 0.5) - 1]
    with np.errstate(all="ignore"):  # a tail over 300 orders of magnitude; what comes of it is looked at below
        b = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
        k = np.log1p(-b[:, None] * x).mean(axis=1)
        log_likelihood = n * (np.log(-b / k) - k - 1)
        weights = np.exp(log_likelihood - np.nanmax(log_likelihood)) if np.isfinite(log_likelihood).any() else k * 0
        weights = np.nan_to_num(weights / np.nansum(weights))
        weights[weights < 10 * np.finfo(np.float64).eps] = 0.0
        chosen = float(np.where(weights > 0, b * weights, 0.0).sum() / weights.sum())
        shape = float(np.log1p(-chosen * x).mean())
    if not (math.isfinite(shape) and shape != 0.0 and -shape / chosen > 0):
        return math.inf, math.inf
    return (n * shape + 5) / (n + 10), -shape / chosen


def _quantiles(levels: Floats, k: float, sigma: float) -> Floats:
    """Of the generalised Pareto distribution; k = 0 is the exponential distribution."""
    depth = -np.log1p(-levels)
    return np.asarray(sigma * (depth if abs(k) < 1e-15 else np.expm1(k * depth) / k), np.float64)


def resample(log_weights: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Places (draws,) among those weighted, with replacement and in random order, each as often as its weight says.

    Systematic: a place of weight w comes floor(n w) or ceil(n w) times, which adds less noise than independent choices.
    """
    weights = torch.softmax(log_weights.double().cpu(), 0)
    levels = (
        torch.arange(draws, dtype=torch.float64) + torch.rand((), dtype=torch.float64, generator=generator)
    ) / draws
    places = torch.searchsorted(weights.cumsum(0), levels).clamp(max=len(weights) - 1)
    return places[torch.randperm(draws, generator=generator)]
