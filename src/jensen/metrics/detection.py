"""How well a score tells anomalies from the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Detection", "detection", "isolation_forest_scores", "pca_scores", "roc"]

Floats = npt.NDArray[np.float64]
EXPLAINED = 0.95
"""share of the training data's variance that the components of `pca_scores` explain"""


@dataclass(frozen=True)
class Detection:
    """How well a score tells anomalies from the rest.

    Attributes:
        auroc: area under the ROC curve: the chance that an anomaly scores above another datum, ties counting half; 0.5
            says nothing, below 0.5 the score is the wrong way round.
        auroc_error: its standard error, by Hanley & McNeil 1982, "The meaning and use of the area under a receiver
            operating characteristic (ROC) curve", for exponential scores.
        average_precision: precision averaged over the anomalies found, in the order of the score; chance is the share
            of anomalies.
        anomalies: how many there are.
        others: how many data are none.
    """

    auroc: float
    auroc_error: float
    average_precision: float
    anomalies: int
    others: int


def detection(scores: Tensor, anomalous: Tensor) -> Detection:
    """AUROC and average precision of scores (N,), higher being more anomalous, where it is known what is, (N,) bool.

    Raises:
        ValueError: shapes differ, a score is NaN, or all or none are anomalous.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    ranks, truth = _checked(scores, anomalous)
    area = float(roc_auc_score(truth, ranks))
    anomalies, others = int(truth.sum()), int((~truth).sum())
    both, neither = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (anomalies - 1) * (both - area**2) + (others - 1) * (neither - area**2)
    error = math.sqrt(max(0.0, variance) / (anomalies * others))
    return Detection(area, error, float(average_precision_score(truth, ranks)), anomalies, others)


def roc(scores: Tensor, anomalous: Tensor) -> tuple[Floats, Floats]:
    """The ROC curve: the share of others and of anomalies above each threshold, from (0, 0) to (1, 1).

    Raises:
        ValueError: as `detection`.
    """
    from sklearn.metrics import roc_curve

    ranks, truth = _checked(scores, anomalous)
    false, true, _ = roc_curve(truth, ranks)
    return false, true


def _checked(scores: Tensor, anomalous: Tensor) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Ranks of the scores, which say the same and are finite, and what is anomalous."""
    from scipy.stats import rankdata

    if scores.ndim != 1 or scores.shape != anomalous.shape or anomalous.dtype != torch.bool:
        raise ValueError(
            f"scores and anomalous should be (N,), the latter truth values; got {tuple(scores.shape)} and "
            f"{tuple(anomalous.shape)} {anomalous.dtype}"
        )
    if bool(scores.isnan().any()):
        raise ValueError(f"score {int(scores.isnan().nonzero()[0])} is NaN")
    if bool(anomalous.all()) or not bool(anomalous.any()):
        raise ValueError(f"there should be anomalies and others, but {int(anomalous.sum())} of {len(scores)} are")
    ranks: Floats = rankdata(scores.double().cpu().numpy())
    return ranks, anomalous.cpu().numpy()


def isolation_forest_scores(train: Tensor, data: Tensor, seed: int = 0) -> Tensor:
    """Scores (N,) of an isolation forest (Liu, Ting & Zhou 2008) with scikit-learn's settings: 100 trees of 256 data.

    Args:
        train: what it is fitted to, (M, *shape); NaN is replaced by the column's mean.
        data: what is scored, (N, *shape).
        seed: of the trees.
    """
    from sklearn.ensemble import IsolationForest

    rows, others = _filled(train, data)
    forest = IsolationForest(n_estimators=100, random_state=seed).fit(rows)
    return torch.from_numpy(-forest.score_samples(others))


def pca_scores(train: Tensor, data: Tensor) -> Tensor:
    """Squared reconstruction error (N,) by the principal components that explain 95 % of the training variance.

    Arguments: `isolation_forest_scores`.
    """
    from sklearn.decomposition import PCA

    rows, others = _filled(train, data)
    pca = PCA(EXPLAINED, svd_solver="full").fit(rows)
    made = pca.inverse_transform(pca.transform(others))
    return torch.from_numpy(((others - made) ** 2).sum(1))


def _filled(train: Tensor, data: Tensor) -> tuple[Any, Any]:
    """Both as rows of known values, float64."""
    from sklearn.impute import SimpleImputer

    rows, others = train.flatten(1).double().cpu().numpy(), data.flatten(1).double().cpu().numpy()
    filler = SimpleImputer(keep_empty_features=True).fit(rows)
    return filler.transform(rows), filler.transform(others)
