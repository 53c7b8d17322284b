"""The beta-VAE score (Higgins et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from jensen.metrics.disentanglement.groups import Groups
from jensen.metrics.disentanglement.labelled import Labelled, labelled, split
from jensen.metrics.disentanglement.score import Score

__all__ = ["beta_vae_score"]


def beta_vae_score(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    bins: int = 20,
    discrete: Sequence[bool] | None = None,
    pairs: int = 64,
    train: int = 10_000,
    evaluation: int = 5_000,
) -> Score:
    """How well a linear classifier tells which factor pairs of examples share: 1 is best, 1 / F is chance.

    Higgins et al. 2017: a factor is drawn, then `pairs` pairs of examples that agree in it; the mean of |z_1 - z_2|
    over the pairs is one point, the factor its class. A multinomial logistic regression learns from `train` points and
    is scored on `evaluation` others. Codes are divided by their standard deviation before, so that the classifier's
    penalty does not depend on their scale. The score is lenient: codes rotated among each other may still reach 1.

    The pairs come from the examples given (see `Groups`; disentanglement_lib has a generator of new ones), two thirds
    of them for learning and one third for scoring; with a continuous factor, two examples agree that share a bin.

    Args:
        codes: posterior means, (N, D).
        factors: (N, F), F at least 2, see `labelled` for which count as discrete.
        seed: of the draws.
        bins: of each continuous factor.
        discrete: which factors are discrete.
        pairs: averaged in one point.
        train: points to learn from.
        evaluation: points to score on.

    Returns:
        details: train_accuracy, chance, confusion (F, F), a row for each true factor with shares that sum to 1.

    Raises:
        ValueError: see `labelled` and `Groups`; or too few pairs or points.
    """
    if pairs < 1 or train < 1 or evaluation < 1:
        raise ValueError(f"beta-VAE score: need pairs, train and evaluation >= 1, got {pairs}, {train}, {evaluation}")
    data = labelled(
        codes, factors, metric="beta-VAE score", discrete=discrete, bins=bins, least_factors=2, least_examples=30
    )
    spread = data.codes.std(0)
    data = Labelled(data.codes / np.where(spread > 0, spread, 1.0), data.values, data.classes, data.discrete)
    rng = np.random.default_rng(seed)
    known, held_out = split(data, rng)
    points, truth = _points(known, pairs, train, rng)
    new, held = _points(held_out, pairs, evaluation, rng)
    if len(np.unique(truth)) < 2:
        raise ValueError(f"beta-VAE score: all {train} points are of one factor; ask for more (train)")
    machine = LogisticRegression(max_iter=1000).fit(points, truth)
    guess = machine.predict(new)
    confusion = np.zeros((data.factors, data.factors))
    np.add.at(confusion, (held, guess), 1.0)
    confusion /= np.maximum(confusion.sum(1, keepdims=True), 1.0)
    details = {
        "train_accuracy": float(machine.score(points, truth)),
        "chance": 1.0 / data.factors,
        "confusion": confusion,
    }
    return Score(float((guess == held).mean()), details)


def _points(
    data: Labelled, pairs: int, n: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Mean differences, (n, D), and which factor the pairs share, (n,)."""
    groups = Groups(data.classes, "beta-VAE score")
    points, truth = np.empty((n, data.codes.shape[1])), np.empty(n, dtype=np.int64)
    for factor, which in groups.factor_of_each(n, rng, pairs):
        one, other = groups.pairs(factor, len(which), pairs, rng)
        points[which] = np.abs(data.codes[one] - data.codes[other]).mean(1)
        truth[which] = factor
    return points, truth
