"""Unsupervised disentanglement ranking (Duan et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import Lasso
from torch import Tensor

from jensen.metrics.disentanglement.labelled import as_array, checked_codes
from jensen.metrics.disentanglement.score import Score

__all__ = ["relative_strength", "udr"]

Floats = npt.NDArray[np.float64]
INFORMATIVE = 0.01  # nats: codes of less KL count as collapsed, as in the authors' code
ALPHA = 0.1  # of the lasso, on standardised codes, as there


def udr(
    codes: Sequence[Tensor | npt.NDArray[np.generic]],
    kl_per_dimension: Sequence[Tensor | npt.NDArray[np.generic] | Sequence[float]],
    *,
    seed: int = 0,
    method: Literal["lasso", "spearman"] = "lasso",
    threshold: float = INFORMATIVE,
) -> list[Score]:
    """How far each of several models agrees with the others, code by code; needs no labels. One score a model.

    Duan et al. 2020. Models trained alike but for the seed find the same codes, up to order and sign, if they
    disentangle, and others else. Between two models, R is the similarity of each code of one with each of the other:
    the size of the coefficients of a lasso (alpha 0.1) from one model's standardised codes to the other's, or the size
    of Spearman's rank correlation. With collapsed codes left out, the pair's score is the sum over codes of both models
    of (largest R)^2 / (sum of R), divided by their number; a model's score is the median over the others.

    1 is best by Spearman and 1 - alpha = 0.9 by lasso, whose penalty shrinks the coefficient of a perfect match; both
    only as far as codes are uncorrelated. The score of a pair where either model has no informative code is 0. (The
    authors' code averages the two models' means, which differs where they have unequally many informative codes.)

    Args:
        codes: of each of at least two models, posterior means of the same N examples in the same order, (N, D_m).
        kl_per_dimension: of each model, mean KL(q || p) of each code in nats, (D_m,).
        seed: takes no part; nothing is random here.
        method: the similarity.
        threshold: codes with a KL of no more nats than this count as collapsed.

    Returns:
        details: pairs (models,), the scores with each other model, NaN for itself; informative (D_m,) bool.

    Raises:
        ValueError: fewer than two models, different examples, KLs of another length, NaN, or no such method.
    """
    if method not in ("lasso", "spearman"):
        raise ValueError(f"UDR: method should be lasso or spearman, got {method!r}")
    standard, kept = _checked(codes, kl_per_dimension, threshold, ranks=method == "spearman")
    count = len(standard)
    pairs = np.full((count, count), np.nan)
    for i in range(count):
        for j in range(count):
            if i != j:
                # A collapsed code is to explain nothing either: it leaves before the fit.
                one, other = standard[j][:, kept[j]], standard[i][:, kept[i]]
                pairs[i, j] = relative_strength(_similarity(one, other, method)) if one.size and other.size else 0.0
    return [
        Score(float(np.median(np.delete(pairs[i], i))), {"pairs": pairs[i], "informative": kept[i]})
        for i in range(count)
    ]


def relative_strength(similarity: Floats) -> float:
    """Score of a pair of models from the similarities of their codes, (D_1, D_2) and not negative."""
    total = 0.0
    for axis in (0, 1):
        sums = similarity.sum(axis)
        total += float((similarity.max(axis) ** 2 / np.where(sums > 0, sums, 1.0)).sum())
    return total / sum(similarity.shape)


def _similarity(one: Floats, other: Floats, method: str) -> Floats:
    if method == "spearman":  # the columns are ranks, standardised
        found: Floats = np.abs(one.T @ other) / len(one)
    else:
        fitted = Lasso(alpha=ALPHA).fit(one, other)
        found = np.abs(fitted.coef_.reshape(other.shape[1], one.shape[1]).T)
    return found


def _checked(
    codes: Sequence[Tensor | npt.NDArray[np.generic]],
    kl_per_dimension: Sequence[Tensor | npt.NDArray[np.generic] | Sequence[float]],
    threshold: float,
    ranks: bool,
) -> tuple[list[Floats], list[npt.NDArray[np.bool_]]]:
    """Standardised codes (or ranks) of each model, and which are informative."""
    if len(codes) < 2 or len(codes) != len(kl_per_dimension):
        raise ValueError(
            f"UDR compares models: give codes and KLs of at least two, got {len(codes)} and {len(kl_per_dimension)}"
        )
    arrays = [checked_codes(c, f"UDR, model {m}") for m, c in enumerate(codes)]
    if len({len(z) for z in arrays}) > 1 or len(arrays[0]) < 2:
        raise ValueError(f"UDR: all models should encode the same two or more examples, got {[len(z) for z in arrays]}")
    standard, kept = [], []
    for m, (z, kl) in enumerate(zip(arrays, kl_per_dimension, strict=True)):
        nats = as_array(kl if isinstance(kl, Tensor | np.ndarray) else np.asarray(kl)).astype(np.float64)
        if nats.shape != (z.shape[1],) or np.isnan(nats).any():
            raise ValueError(f"UDR: model {m} has {z.shape[1]} codes, its KLs should be as many numbers, got {nats}")
        values = rankdata(z, axis=0) if ranks else z
        spread = values.std(0)
        spread[np.ptp(values, axis=0) == 0] = 0.0
        standard.append((values - values.mean(0)) / np.where(spread > 0, spread, 1.0))
        kept.append((nats > threshold) & (spread > 0))
    return standard, kept
