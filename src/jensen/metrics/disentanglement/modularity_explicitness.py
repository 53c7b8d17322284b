"""Modularity and explicitness (Ridgeway and Mozer 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from jensen.metrics.disentanglement.labelled import Labelled, equal_width_bins, labelled, split
from jensen.metrics.disentanglement.mutual_information import independence_bias, mutual_information
from jensen.metrics.disentanglement.score import Score

__all__ = ["explicitness", "modularity", "modularity_of"]

Floats = npt.NDArray[np.float64]


def modularity(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    bins: int = 20,
    discrete: Sequence[bool] | None = None,
) -> Score:
    """Whether each code tells of one factor only: 1 is best, 0 is worst.

    Ridgeway and Mozer 2018: with m_df = I(z_d; v_f), 1 - sum over all but the best factor of m_df^2 /
    (m_d,best^2 (F - 1)), a mean over codes. A code that tells of nothing counts 0, as in disentanglement_lib; but the
    histogram's bias hides that it tells of nothing, and gives it some number in between, so
    `details["of_informative_codes"]` is the mean over codes that know more than twice that bias of some factor.

    Args:
        codes: posterior means, (N, D).
        factors: (N, F), F at least 2, see `labelled` for which count as discrete.
        seed: takes no part; nothing is random here.
        bins: of each code and of each continuous factor.
        discrete: which factors are discrete.

    Returns:
        details: per_code (D,), informative (D,) bool, of_informative_codes, mutual_information (D, F) in nats.

    Raises:
        ValueError: see `labelled`.
    """
    data = labelled(codes, factors, metric="modularity", discrete=discrete, bins=bins, least_factors=2)
    binned = equal_width_bins(data.codes, bins)
    information = mutual_information(binned, data.classes)
    informative = (information > 2 * independence_bias(binned, data.classes)).any(1)
    per_code = modularity_of(information)
    details = {
        "per_code": per_code,
        "informative": informative,
        "of_informative_codes": float(per_code[informative].mean()) if informative.any() else 0.0,
        "mutual_information": information,
    }
    return Score(float(per_code.mean()), details)


def modularity_of(information: Floats) -> Floats:
    """Modularity of each code, (D,), from mutual information with the factors, (D, F)."""
    squares = information**2
    best = squares.max(1)
    others = squares.sum(1) - best
    share = others / np.where(best > 0, best * (information.shape[1] - 1), 1.0)
    return np.where(best > 0, 1.0 - share, 0.0)


def explicitness(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    bins: int = 20,
    discrete: Sequence[bool] | None = None,
) -> Score:
    """Whether all codes together tell each factor by a linear classifier: 1 is best, 0.5 is chance.

    Ridgeway and Mozer 2018: area under the ROC curve of each class against the rest, a mean over the
    factor's classes and then over factors. The classifier is a multinomial logistic regression on standardised codes,
    learned from two thirds of the examples and scored on the others. It says nothing of disentanglement.

    Args:
        codes: posterior means, (N, D).
        factors: (N, F), see `labelled` for which count as discrete; continuous ones are put into `bins` bins.
        seed: of the division into two thirds and one third.
        bins: of each continuous factor.
        discrete: which factors are discrete.

    Returns:
        details: per_factor (F,).

    Raises:
        ValueError: see `labelled`; or a factor of which only one value is left after the division.
    """
    data = labelled(codes, factors, metric="explicitness", discrete=discrete, bins=bins, least_examples=30)
    spread = data.codes.std(0)
    standard = (data.codes - data.codes.mean(0)) / np.where(spread > 0, spread, 1.0)
    data = Labelled(standard, data.values, data.classes, data.discrete)
    train, test = split(data, np.random.default_rng(seed))
    per_factor = np.array([_area_of_factor(train, test, f) for f in range(data.factors)])
    return Score(float(per_factor.mean()), {"per_factor": per_factor})


def _area_of_factor(train: Labelled, test: Labelled, f: int) -> float:
    if len(np.unique(train.classes[:, f])) < 2 or len(np.unique(test.classes[:, f])) < 2:
        raise ValueError(f"explicitness: almost all examples have the same value of factor {f}: encode more")
    machine = LogisticRegression(max_iter=1000, tol=1e-3).fit(train.codes, train.classes[:, f])
    areas = area_under_curve(machine.predict_proba(test.codes), test.classes[:, f, None] == machine.classes_[None])
    return float(np.nanmean(areas))


def area_under_curve(scores: Floats, positive: npt.NDArray[np.bool_]) -> Floats:
    """Area under the ROC curve of each column of (N, K), ties counting half; NaN where all or none are positive."""
    ranks = rankdata(scores, axis=0)
    count = positive.sum(0).astype(np.float64)
    pairs = count * (len(scores) - count)
    wins = np.where(positive, ranks, 0.0).sum(0) - count * (count + 1) / 2
    return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1.0), np.nan)
