"""Disentanglement, completeness and informativeness (Eastwood and Williams 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import Tensor

from jensen.metrics.disentanglement.labelled import Labelled, labelled, split
from jensen.metrics.disentanglement.score import Score

__all__ = ["completeness", "dci", "disentanglement"]

Floats = npt.NDArray[np.float64]


def dci(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    discrete: Sequence[bool] | None = None,
    trees: int = 20,
    leaf: float = 0.01,
) -> Score:
    """Whether each code serves one factor (the value), each factor one code, and codes tell the factors: 1 is best.

    Eastwood and Williams 2018, section 2, from the importance R of each code for predicting each factor:

        disentanglement = sum_d rho_d (1 - H_F(R_d. / sum R_d.)),  rho_d the code's share of all importance
        completeness    = sum_f rho_f (1 - H_D(R_.f / sum R_.f)),  entropies to the base F and D

    and informativeness, how well a third of the examples, held out, is predicted: accuracy of discrete and R^2 (at
    least 0) of continuous factors, a mean over factors. The authors report a prediction error instead.

    The predictor is a random forest of `trees` trees that look at all codes at each split, and the importance is its
    decrease in impurity. The numbers depend on the learner, so compare only what one learner gave: trees grown to
    single examples spend splits, and importance, on noise. Take 10,000 examples of five factors of 40 equally spaced
    values on [0, 1], each with a code that is its value plus Gaussian noise of standard deviation 0.1: D is 0.58 with
    leaves of 1% and 0.006 with leaf=0, at accuracies of 0.12 and 0.10. disentanglement_lib's gradient boosting, some
    three minutes a factor, gives about 0.25 there.

    Args:
        codes: posterior means, (N, D).
        factors: (N, F), F at least 2, see `labelled` for which count as discrete.
        seed: of the forests, and of the division into two thirds and one third.
        discrete: which factors are discrete.
        trees: of each forest.
        leaf: least share of the examples in a leaf.

    Returns:
        details: completeness, informativeness, importance (D, F), disentanglement_per_code (D,),
        completeness_per_factor and informativeness_per_factor (F,).

    Raises:
        ValueError: see `labelled`; or no trees, or a leaf outside [0, 0.5].
    """
    if trees < 1:
        raise ValueError(f"DCI: trees should be at least 1, got {trees}")
    if not 0 <= leaf <= 0.5:
        raise ValueError(f"DCI: leaf should be a share in [0, 0.5], got {leaf}")
    data = labelled(codes, factors, metric="DCI", discrete=discrete, least_factors=2, least_examples=30)
    train, test = split(data, np.random.default_rng(seed))
    found = [_forest(train, test, f, trees, leaf, seed) for f in range(data.factors)]
    importance = np.stack([column for column, _ in found], 1)
    informativeness = np.array([score for _, score in found])
    value, per_code = disentanglement(importance)
    complete, per_factor = completeness(importance)
    details = {
        "completeness": complete,
        "informativeness": float(informativeness.mean()),
        "importance": importance,
        "disentanglement_per_code": per_code,
        "completeness_per_factor": per_factor,
        "informativeness_per_factor": informativeness,
    }
    return Score(value, details)


def disentanglement(importance: Floats) -> tuple[float, Floats]:
    """The score of an importance matrix (D, F), F at least 2, and that of each code, (D,); 0 where nothing matters."""
    per_code = 1.0 - _entropy_of_rows(importance) / np.log(importance.shape[1])
    return _weighted(per_code, importance.sum(1)), per_code


def completeness(importance: Floats) -> tuple[float, Floats]:
    """The score of an importance matrix (D, F) and that of each factor, (F,); 0 where nothing matters."""
    codes = importance.shape[0]
    # A single code is all that there is for every factor that it serves: log 1 = 0 in both places.
    per_factor = 1.0 - _entropy_of_rows(importance.T) / np.log(max(codes, 2))
    return _weighted(per_factor, importance.sum(0)), per_factor


def _entropy_of_rows(matrix: Floats) -> Floats:
    """In nats; a row of zeros counts as uniform."""
    total = matrix.sum(1, keepdims=True)
    shares = np.where(total > 0, matrix / np.where(total > 0, total, 1.0), 1.0 / matrix.shape[1])
    entropy: Floats = -xlogy(shares, shares).sum(1)
    return entropy


def _weighted(scores: Floats, weights: Floats) -> float:
    return float(scores @ weights / weights.sum()) if weights.sum() > 0 else 0.0


def _forest(train: Labelled, test: Labelled, f: int, trees: int, leaf: float, seed: int) -> tuple[Floats, float]:
    # Never more than half of an even share of a class, which a leaf has to fit.
    classes = len(np.unique(train.classes[:, f])) if train.discrete[f] else 1
    share = max(1, min(int(len(train) * leaf), len(train) // (2 * classes)))
    if train.discrete[f]:
        forest = RandomForestClassifier(trees, max_features=None, min_samples_leaf=share, random_state=seed)
        forest.fit(train.codes, train.classes[:, f])
        score = forest.score(test.codes, test.classes[:, f])
    else:
        forest = RandomForestRegressor(trees, max_features=None, min_samples_leaf=share, random_state=seed)
        forest.fit(train.codes, train.values[:, f])
        score = max(0.0, forest.score(test.codes, test.values[:, f]))
    return np.asarray(forest.feature_importances_, dtype=np.float64), float(score)
