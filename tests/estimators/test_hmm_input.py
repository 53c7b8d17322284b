"""What the hidden Markov models' scikit-learn faces refuse, and what they say then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from jensen.estimators.hmm import BayesianCategoricalHMM, BayesianGaussianHMM


def series(length: int) -> Any:
    """One sequence of two columns."""
    return np.random.default_rng(0).normal(size=(length, 2))


@pytest.mark.parametrize(
    ("X", "lengths", "message"),
    [
        (np.full((4, 1), np.inf), None, "infinity"),
        (np.full((4, 1), np.nan), None, "every observation is missing"),
        (np.zeros((4, 1)), [2, 3], "lengths add up to 5, but there are 4"),
        (np.zeros((4, 1)), [4, 0], "sequence 1 has 0"),
        (np.zeros((4, 1)), [1.5, 2.5], "whole numbers"),
        (np.zeros((0, 1)), None, "0 sample"),
        (np.zeros(4), None, "Expected 2D array"),
        ([np.zeros((3, 1)), np.zeros((0, 1))], None, "sequence 1 has 0"),
        ([np.zeros((3, 1)), np.zeros((2, 2))], None, "sequence 1 have shape"),
        ([np.zeros((3, 1)), np.zeros((2, 1))], [3, 2], "a list of arrays has its own"),
        (np.zeros((1, 1)), None, "n_states=2 states need at least as many observations"),
        (np.array([["a"], ["b"]]), None, "could not convert"),
    ],
)
def test_data_that_make_no_sense_are_refused(X: Any, lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BayesianGaussianHMM(2).fit(X, lengths=lengths)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([0, 1, -1], "0 or more: observation 2 is -1"),
        ([0, 0.5, 1], "whole numbers: observation 1 is 0.5"),
        ([0, 1, np.inf], "observation 2 is inf"),
        ([np.nan, np.nan], "every observation is missing"),
        ([0, 5, 1], "below 3, the number of symbols: observation 1 is 5"),
        ([[0, 1], [1, 0]], r"shape \(N,\) or \(N, 1\)"),
        ([[0, 1, 0], [1, 0]], "several sequences are a list of one array each"),
        (["a", "b"], "numbers 0, 1"),
        ([], "no observation"),
        ([np.array([0, 1]), np.array([])], "sequence 1 has 0"),
        ([1], "need at least as many observations"),
    ],
)
def test_symbols_that_make_no_sense_are_refused(X: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BayesianCategoricalHMM(2, n_symbols=3).fit(X)


def test_sequences_as_data_frames_and_lists_of_rows() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is no dependency")
    arrays = [series(12), series(20)[8:]]
    expected = BayesianGaussianHMM(2, random_state=0).fit(arrays)
    frames = [pd.DataFrame(x, columns=["a", "b"]) for x in arrays]
    framed = BayesianGaussianHMM(2, random_state=0).fit(frames)
    listed = BayesianGaussianHMM(2, random_state=0).fit([x.tolist() for x in arrays])
    for model in (framed, listed):
        np.testing.assert_array_equal(model.means_, expected.means_)
        np.testing.assert_array_equal(model.transitions_, expected.transitions_)
    assert framed.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(framed.predict(frames), expected.predict(arrays))
    with pytest.raises(ValueError, match=r"columns of sequence 1 are \['b', 'a'\]"):
        BayesianGaussianHMM(2).fit([frames[0], frames[1][["b", "a"]]])
    with pytest.raises(ValueError, match="feature names"):
        framed.predict([frame[["b", "a"]] for frame in frames])
    symbols = [np.array([0, 1, 0, 0]), np.array([1, 0])]
    given = BayesianCategoricalHMM(2, random_state=0).fit(symbols)
    for forms in (
        [pd.Series(x) for x in symbols],
        [pd.DataFrame({"s": x}) for x in symbols],
        [x[:, None].tolist() for x in symbols],
    ):
        np.testing.assert_array_equal(BayesianCategoricalHMM(2, random_state=0).fit(forms).emissions_, given.emissions_)


def test_symbols_never_seen_in_training_are_refused_unless_announced() -> None:
    model = BayesianCategoricalHMM(2, random_state=0).fit([0, 1, 0, 1, 1, 0])
    with pytest.raises(ValueError, match="below 2, the number of symbols: observation 0 is 2"):
        model.score([2, 0])
    announced = BayesianCategoricalHMM(2, n_symbols=3, random_state=0).fit([0, 1, 0, 1, 1, 0])
    assert np.isfinite(announced.score([2, 0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_states": 0}, "n_states must be a whole number of at least 1, got 0"),
        ({"n_states": 2.5}, "n_states must be a whole number"),
        ({"covariance_type": "tied"}, "covariance must be 'full', 'diag' or 'spherical', got 'tied'"),
        ({"init": "best"}, "init must be 'kmeans' or 'random'"),
        ({"decoding": "map"}, "decoding must be 'viterbi' or 'marginal'"),
        ({"method": "em"}, "method must be one of"),
        ({"sticky": -1.0}, "sticky must be 0 or more"),
        ({"transition_prior": np.ones((2, 3))}, r"transition_prior must be a number or of shape \(2, 2\)"),
        ({"initial_prior": 0.0}, "initial_prior must be positive"),
        ({"mean_prior": [1.0, 2.0, 3.0]}, r"mean_prior must have shape \(2,\)"),
        ({"covariance_prior": [1.0, 2.0]}, r"covariance_prior must have shape \(2, 2\) for covariance_type='full'"),
        ({"covariance_prior": -np.eye(2)}, "scale"),
        ({"degrees_of_freedom": 0.5}, "df"),
        ({"mean_precision": 0.0}, "kappa"),
        ({"batch_size": 3}, "cavi takes whole steps"),
        ({"n_init": 0}, "n_init must be at least 1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    X = series(20)
    with pytest.raises(ValueError, match=message):
        BayesianGaussianHMM(**arguments).fit(X)


def test_lengths_given_by_position_are_not_taken_for_y() -> None:
    X = series(20)
    with pytest.raises(ValueError, match="pass lengths by name"):
        BayesianGaussianHMM(2).fit(X, [10, 10])


def test_nothing_is_predicted_before_a_fit_and_columns_must_be_the_same() -> None:
    X = series(20)
    for method in ("predict", "predict_proba", "score_samples", "score", "forecast"):
        with pytest.raises(NotFittedError):
            getattr(BayesianGaussianHMM(2), method)(X)
        with pytest.raises(NotFittedError):
            getattr(BayesianCategoricalHMM(2), method)([0, 1])
    with pytest.raises(NotFittedError):
        BayesianGaussianHMM(2).sample()
    with pytest.raises(ValueError, match="features"):
        BayesianGaussianHMM(2).fit(X).predict(np.zeros((4, 3)))
