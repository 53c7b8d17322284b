"""Entropy and mutual information of what takes few values, from counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

__all__ = ["entropies", "independence_bias", "mutual_information"]

Classes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def entropies(classes: Classes) -> Floats:
    """Entropy of each column of (N, F) in nats, (F,), from relative frequencies."""
    return np.array([_entropy(np.bincount(column)) for column in classes.T])


def mutual_information(a: Classes, b: Classes) -> Floats:
    """I(a_d; b_f) in nats between all columns of (N, D) and (N, F), (D, F), from relative frequencies.

    The plug-in estimate: biased upwards, see `independence_bias`.
    """
    found = np.empty((a.shape[1], b.shape[1]))
    of_a, of_b = entropies(a), entropies(b)
    sizes = b.max(0) + 1
    for d, column in enumerate(a.T):
        for f, other in enumerate(b.T):
            found[d, f] = of_a[d] + of_b[f] - _entropy(np.bincount(column * sizes[f] + other))
    return np.maximum(found, 0.0)  # rounding may take an independent pair below 0


def independence_bias(a: Classes, b: Classes) -> Floats:
    """What the estimate is on average, in nats, where columns are independent: (D, F).

    (occupied cells of a - 1) (occupied cells of b - 1) / 2N, the leading term (Miller 1955).
    """
    of_a = np.array([len(np.unique(column)) - 1 for column in a.T])
    of_b = np.array([len(np.unique(column)) - 1 for column in b.T])
    bias: Floats = of_a[:, None] * of_b[None, :] / (2.0 * len(a))
    return bias


def _entropy(counts: npt.NDArray[np.intp]) -> float:
    shares = counts / counts.sum()
    return float(-xlogy(shares, shares).sum())
