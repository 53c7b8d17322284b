"""The separated attribute predictability score (Kumar et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.svm import LinearSVC
from torch import Tensor

from jensen.metrics.disentanglement.labelled import Labelled, labelled, split
from jensen.metrics.disentanglement.score import Score

__all__ = ["sap"]

CELLS = 128  # places that a threshold may take: quantiles of the code

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


def sap(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    discrete: Sequence[bool] | None = None,
    classifier: Literal["thresholds", "svm"] = "thresholds",
) -> Score:
    """How much better the best single code predicts a factor than the second best: 1 is best, 0 is worst.

    Kumar, Sattigeri and Balakrishnan 2018, section 3. A continuous factor is predicted by a line: R^2. A discrete one
    by thresholds on the code, as many as it has classes less one, that maximise the balanced accuracy of two thirds of
    the examples; scored is the balanced accuracy of the others. A useless code has 1 / classes, so that a perfect
    representation has 1 - 1 / classes there.

    disentanglement_lib has a linear SVM (C = 0.01, plain accuracy, one class against the rest) in place of thresholds:
    classifier="svm". It cannot single out a class in the middle of a code's range, and depends on the code's scale.

    Args:
        codes: posterior means, (N, D), D at least 2.
        factors: (N, F), see `labelled` for which count as discrete.
        seed: of the division into two thirds and one third.
        discrete: which factors are discrete.
        classifier: for discrete factors.

    Returns:
        details: predictability (D, F), gaps (F,).

    Raises:
        ValueError: see `labelled`; or no such classifier.
    """
    if classifier not in ("thresholds", "svm"):
        raise ValueError(f"SAP: classifier should be thresholds or svm, got {classifier!r}")
    data = labelled(codes, factors, metric="SAP", discrete=discrete, least_codes=2, least_examples=30)
    train, test = split(data, np.random.default_rng(seed))
    predictability = np.empty((data.codes.shape[1], data.factors))
    for f in range(data.factors):
        if not data.discrete[f]:
            predictability[:, f] = _squared_correlation(data.codes, data.values[:, f])
        else:
            score = _thresholds if classifier == "thresholds" else _svm
            predictability[:, f] = [score(train, test, d, f) for d in range(data.codes.shape[1])]
    ordered = np.sort(predictability, axis=0)
    gaps = ordered[-1] - ordered[-2]
    return Score(float(gaps.mean()), {"predictability": predictability, "gaps": gaps})


def _squared_correlation(codes: Floats, values: Floats) -> Floats:
    """R^2 of a line through one code, (D,)."""
    z, v = codes - codes.mean(0), values - values.mean()
    spread = (z**2).sum(0) * (v**2).sum()
    return np.where(spread > 0, (v @ z) ** 2 / np.where(spread > 0, spread, 1.0), 0.0)


def _svm(train: Labelled, test: Labelled, d: int, f: int) -> float:
    machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
    machine.fit(train.codes[:, d : d + 1], train.classes[:, f])
    return float(machine.score(test.codes[:, d : d + 1], test.classes[:, f]))


def _thresholds(train: Labelled, test: Labelled, d: int, f: int) -> float:
    edges = _edges(train.codes[:, d])
    count = int(train.classes[:, f].max()) + 1
    table = np.zeros((len(edges) + 1, count))
    np.add.at(table, (np.searchsorted(edges, train.codes[:, d]), train.classes[:, f]), 1.0)
    prediction = best_intervals(table / np.maximum(table.sum(0), 1.0))
    guess, truth = prediction[np.searchsorted(edges, test.codes[:, d])], test.classes[:, f]
    return float(np.mean([(guess[truth == k] == k).mean() for k in np.unique(truth)]))


def _edges(code: Floats) -> Floats:
    """Where a threshold may lie: between neighbouring values, or at quantiles where there are many."""
    distinct = np.unique(code)
    if len(distinct) > CELLS:
        distinct = np.unique(np.quantile(code, np.linspace(0, 1, CELLS + 1)))
        return distinct[1:-1]
    return (distinct[1:] + distinct[:-1]) / 2


def best_intervals(weights: Floats) -> Classes:
    """A class for each of B cells in a row, in at most K runs, that gains the most weight: (B, K) to (B,).

    Exact, by dynamic programming over where a run ends: B^2 K operations.
    """
    cells, count = weights.shape
    sums = np.concatenate([np.zeros((1, count)), weights.cumsum(0)])
    differences = sums[None] - sums[:, None]  # (start, end, K)
    gain, label = differences.max(2), differences.argmax(2)
    gain[np.tril_indices(cells + 1, -1)] = -np.inf  # a run does not end before it starts; an empty one gains nothing
    best = gain[0]
    starts = []
    for _ in range(1, count):
        candidates = best[:, None] + gain
        starts.append(candidates.argmax(0))
        best = candidates.max(0)
    found = np.empty(cells, dtype=np.int64)
    end = cells
    for start in [*(s for s in reversed(starts)), np.zeros(cells + 1, dtype=np.int64)]:
        found[start[end] : end] = label[start[end], end]
        end = int(start[end])
    return found
