"""The hidden Markov models' scikit-learn faces: input, predictions, scores, streams, storage, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from jensen.estimators.hmm import BayesianCategoricalHMM, BayesianGaussianHMM
from jensen.inference.models.sequences import Sequences

MEANS = np.array([[0.0, 0.0], [6.0, 6.0], [-6.0, 6.0]])

EXPECTED_TO_FAIL = {
    "check_methods_sample_order_invariance": "the rows of X are a series: their order is what the model is about",
    "check_methods_subset_invariance": "a part of a series has other neighbours than the whole",
    "check_estimators_pickle": "its NaN stands in one column only; a missing observation is NaN in all of them",
}


def expected_failures(estimator: Any) -> dict[str, str]:
    chain = estimator.n_states > 1  # one state has no neighbours to care for
    return {name: reason for name, reason in EXPECTED_TO_FAIL.items() if chain or "invariance" not in name}


def series(seed: int, lengths: list[int], stay: float = 0.9, offset: float = 0.0) -> tuple[list[Any], list[Any]]:
    """Sequences of separated states, and their paths."""
    rng = np.random.default_rng(seed)
    sequences, paths = [], []
    for length in lengths:
        z = [int(rng.integers(3))]
        while len(z) < length:
            z.append(z[-1] if rng.random() < stay else int(rng.integers(3)))
        paths.append(np.array(z))
        sequences.append(MEANS[z] + rng.normal(size=(length, 2)) + offset)
    return sequences, paths


def letters(seed: int, lengths: list[int]) -> tuple[list[Any], list[Any]]:
    """Symbols 0 to 3 of two states that mostly take turns."""
    rng = np.random.default_rng(seed)
    table = np.array([[0.5, 0.45, 0.05, 0.0], [0.0, 0.05, 0.35, 0.6]])
    sequences, paths = [], []
    for length in lengths:
        z = (np.cumsum(rng.random(length) < 0.8) + rng.integers(2)) % 2
        paths.append(z)
        sequences.append(np.array([rng.choice(4, p=table[state]) for state in z]))
    return sequences, paths


def agreement(found: Any, truth: Any, states: int) -> float:
    """Share of equal labels, states renamed by their most frequent partner."""
    table = np.zeros((states, states))
    np.add.at(table, (found, truth), 1)
    return float(table.max(1).sum() / len(truth))


LENGTHS = [30, 1, 55, 12, 80, 2]


@parametrize_with_checks(
    [BayesianGaussianHMM(2, max_iter=5, random_state=0), BayesianGaussianHMM(1, covariance_type="diag")],
    expected_failed_checks=expected_failures,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_conventions(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("init", ["kmeans", "random"])
def test_separated_states_are_found(covariance_type: str, init: str) -> None:
    X, paths = series(0, LENGTHS)
    truth = np.concatenate(paths)
    model = BayesianGaussianHMM(3, covariance_type=covariance_type, init=init, n_init=5, random_state=0).fit(X)
    assert model.converged_
    assert agreement(model.predict(X), truth, 3) > 0.99
    order = np.argsort(model.means_[:, 0])
    np.testing.assert_allclose(model.means_[order], MEANS[[2, 0, 1]], atol=0.6)
    np.testing.assert_allclose(np.diag(model.transitions_), 0.93, atol=0.15)
    np.testing.assert_allclose(model.transitions_.sum(1), 1)
    shape = {"full": (3, 2, 2), "diag": (3, 2), "spherical": (3,)}[covariance_type]
    assert model.covariances_.shape == shape
    assert np.diff(model.elbo_trace_).min() > -1e-9 * abs(model.elbo_)


def test_letters_of_two_kinds_are_told_apart() -> None:
    X, paths = letters(0, [80, 40, 1, 60])
    model = BayesianCategoricalHMM(2, n_init=3, tol=1e-6, random_state=0).fit(X)
    assert agreement(model.predict(X), np.concatenate(paths), 2) > 0.9
    first = model.emissions_[np.argmax(model.emissions_[:, 0])]
    np.testing.assert_allclose(first, [0.5, 0.45, 0.05, 0.0], atol=0.1)


def test_a_list_and_one_array_with_lengths_are_the_same() -> None:
    X, _ = series(1, LENGTHS)
    one = BayesianGaussianHMM(2, random_state=0).fit(X)
    other = BayesianGaussianHMM(2, random_state=0).fit(np.concatenate(X), lengths=LENGTHS)
    assert one.elbo_trace_ == other.elbo_trace_
    np.testing.assert_array_equal(one.predict(X), other.predict(np.concatenate(X), LENGTHS))
    symbols, _ = letters(1, [5, 9, 1])
    a = BayesianCategoricalHMM(2, random_state=0).fit(symbols)
    b = BayesianCategoricalHMM(2, random_state=0).fit(np.concatenate(symbols)[:, None], lengths=[5, 9, 1])
    assert a.elbo_ == b.elbo_
    chained = BayesianCategoricalHMM(2, random_state=0).fit(np.concatenate(symbols))  # one sequence: another model
    assert chained.elbo_ != a.elbo_


def test_the_same_seed_gives_the_same_fit_and_more_starts_no_worse_one() -> None:
    X, _ = letters(2, [60, 30])
    one, again = (BayesianCategoricalHMM(3, tol=1e-5, random_state=4).fit(X) for _ in range(2))
    assert one.elbo_trace_ == again.elbo_trace_
    assert BayesianCategoricalHMM(3, tol=1e-5, random_state=4, n_init=4).fit(X).elbo_ >= one.elbo_


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_far_from_the_origin_nothing_is_lost(covariance_type: str, tmp_path: Path) -> None:
    near, far = (
        BayesianGaussianHMM(3, covariance_type=covariance_type, random_state=0).fit(series(3, LENGTHS, offset=o)[0])
        for o in (0.0, 2.0**23)
    )
    X = series(3, LENGTHS, offset=2.0**23)[0]
    assert far.elbo_ == pytest.approx(near.elbo_, rel=1e-8)
    np.testing.assert_allclose(far.means_ - 2.0**23, near.means_, atol=1e-6)
    np.testing.assert_allclose(far.covariances_, near.covariances_, rtol=1e-6)
    np.testing.assert_allclose(far.score(X), near.score(series(3, LENGTHS)[0]), rtol=1e-7)
    loaded = BayesianGaussianHMM.load(far.save(tmp_path / "fit"))
    np.testing.assert_allclose(loaded.score_samples(X), far.score_samples(X), rtol=1e-6)


def test_marginal_and_best_path_decoding() -> None:
    X, _ = series(4, LENGTHS, stay=0.5)
    X = [x + np.random.default_rng(0).normal(scale=3, size=x.shape) for x in X]  # states that overlap
    model = BayesianGaussianHMM(3, random_state=0).fit(X)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1)
    viterbi = model.predict(X)
    marginal = model.set_params(decoding="marginal").predict(X)
    np.testing.assert_array_equal(marginal, proba.argmax(1))
    assert (viterbi != marginal).any()
    joint = model._arguments(X, None, predictive=False)
    assert _path_score(viterbi, *joint) > _path_score(marginal, *joint)


def _path_score(path: Any, potentials: Any, initial: Any, transitions: Any, sequences: Sequences) -> float:
    total = potentials[torch.arange(len(path)), torch.as_tensor(path)].sum()
    for z in sequences.split(torch.as_tensor(path)):
        total = total + initial[z[0]] + transitions[z[:-1], z[1:]].sum()
    return float(total)


def test_the_score_is_a_density_of_sequences() -> None:
    """Symbols: it sums to one over all sequences of a length. Normal: one observation integrates to one."""
    X, _ = letters(3, [40, 20])
    model = BayesianCategoricalHMM(2, n_symbols=4, random_state=0).fit(X)
    every = np.array(np.meshgrid(*[np.arange(4)] * 3)).reshape(3, -1).T
    logs = model.score_samples(every.ravel(), lengths=[3] * len(every)).reshape(-1, 3)
    assert np.exp(logs.sum(1)).sum() == pytest.approx(1, rel=1e-12)
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())
    gaussian = BayesianGaussianHMM(2, random_state=0).fit([x[:, :1] for x in series(2, LENGTHS)[0]])
    grid = np.linspace(-400, 400, 200_001)
    density = np.exp(gaussian.score_samples(grid[:, None], lengths=np.ones(len(grid), dtype=int)))
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-4)


def test_one_state_scores_as_students_t() -> None:
    x = np.random.default_rng(0).normal(size=(20, 1))
    model = BayesianGaussianHMM(1, mean_prior=[0.0], mean_precision=0.5, covariance_prior=[[2.0]]).fit(x)
    kappa, df = 20.5, 21.0  # the prior's 0.5 and D = 1
    loc = x.sum() / kappa
    inverse_scale = 2 + (x**2).sum() - kappa * loc**2
    scale = np.sqrt(inverse_scale / df * (1 + 1 / kappa))
    expected = stats.t(df, loc, scale).logpdf([-1.0, 0.3])
    np.testing.assert_allclose(model.score_samples([[-1.0], [0.3]]), expected, rtol=1e-12)
    np.testing.assert_allclose(model.means_, [[loc]])
    np.testing.assert_allclose(model.covariances_, [[[inverse_scale / df]]])
    diagonal = clone(model).set_params(covariance_type="diag", covariance_prior=[2.0]).fit(x)
    np.testing.assert_allclose(diagonal.score_samples([[-1.0], [0.3]]), expected, rtol=1e-12)


def test_held_out_sequences_score_better_with_the_right_model() -> None:
    X, _ = series(5, [100, 60, 1, 90])
    held_out, _ = series(6, [80, 40])
    right = BayesianGaussianHMM(3, random_state=0, n_init=3).fit(X)
    few = BayesianGaussianHMM(2, random_state=0, n_init=3).fit(X)
    assert right.score(held_out) > few.score(held_out) + 0.3
    assert right.elbo_ > few.elbo_
    shuffled = np.random.default_rng(0).permutation(np.concatenate(held_out))
    assert right.score(held_out) > right.score(shuffled) + 0.3  # order carries information


def test_the_forecast_is_what_the_transitions_say() -> None:
    X, _ = series(7, [50, 50])
    model = BayesianGaussianHMM(3, random_state=0).fit(X)
    now = model.predict_proba(X)[[49, 99]]
    one = model.forecast(X)
    np.testing.assert_allclose(one.states, now @ model.transitions_, atol=1e-3)
    np.testing.assert_allclose(one.mean, one.states @ model.means_)
    far = model.forecast(X, steps=500)
    np.testing.assert_allclose(far.states[0], far.states[1], atol=1e-8)
    np.testing.assert_allclose(far.states[0] @ model.transitions_, far.states[0], atol=1e-8)
    symbols = BayesianCategoricalHMM(2, random_state=0).fit(letters(0, [30])[0])
    np.testing.assert_allclose(symbols.forecast(letters(0, [30])[0]).mean.sum(1), 1)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        model.forecast(X, steps=0)
    with pytest.raises(ValueError, match=r"steps must be a whole number of at least 1, got 1\.5"):
        model.forecast(X, steps=1.5)  # type: ignore[arg-type]


def test_samples_look_like_the_data() -> None:
    X, _ = series(8, [400, 400])
    model = BayesianGaussianHMM(3, random_state=0).fit(X)
    drawn, path = model.sample(3000)
    assert drawn.shape == (3000, 2)
    assert agreement(model.predict(drawn), path, 3) > 0.99
    for state in range(3):
        np.testing.assert_allclose(drawn[path == state].mean(0), model.means_[state], atol=0.4)
    moved = (path[1:] != path[:-1]).mean()
    assert moved == pytest.approx(1 - np.diag(model.transitions_).mean(), abs=0.04)
    symbols, path = BayesianCategoricalHMM(2, random_state=0).fit(letters(0, [200])[0]).sample(500)
    assert symbols.shape == path.shape == (500,)
    assert set(symbols) <= {0, 1, 2, 3}
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1, got 0"):
        model.sample(0)


def test_samples_by_seed() -> None:
    X, _ = series(8, [100])
    for model in (
        BayesianGaussianHMM(3, random_state=0).fit(X),
        BayesianCategoricalHMM(2, random_state=0).fit(letters(0, [50])[0]),
    ):
        first, path = model.sample(20, random_state=1)
        again, same = model.sample(20, random_state=1)
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(path, same)
        assert not np.array_equal(first, model.sample(20, random_state=2)[0])
        np.testing.assert_array_equal(model.sample(20)[0], model.sample(20, random_state=0)[0])
        state = np.random.RandomState(0)
        assert not np.array_equal(model.sample(20, state)[0], model.sample(20, state)[0])


def test_missing_observations_are_bridged() -> None:
    X, paths = series(9, [200, 150])
    holes = [x.copy() for x in X]
    for x in holes:
        x[20:24] = np.nan
        x[-2:] = np.nan
    model = BayesianGaussianHMM(3, random_state=0).fit(holes)
    assert agreement(model.predict(holes), np.concatenate(paths), 3) > 0.97
    score = model.score_samples(holes)
    np.testing.assert_allclose(score[20:24], 0, atol=1e-12)
    assert model.score(holes) == pytest.approx(score.sum() / (350 - 12))
    whole = BayesianGaussianHMM(3, random_state=0).fit(X)
    np.testing.assert_allclose(np.sort(model.means_[:, 0]), np.sort(whole.means_[:, 0]), atol=0.1)
    cut = holes[0].copy()
    cut[3, 1] = np.nan
    with pytest.raises(ValueError, match="observation 3 is NaN in some columns only"):
        model.fit(cut)
    symbols = np.concatenate(letters(0, [50])[0]).astype(float)
    symbols[[4, 5, 49]] = np.nan
    found = BayesianCategoricalHMM(2, random_state=0).fit(symbols)
    np.testing.assert_allclose(found.score_samples(symbols)[[4, 5, 49]], 0, atol=1e-12)


def test_minibatches_of_sequences() -> None:
    X, paths = series(10, [20] * 60)
    whole = BayesianGaussianHMM(3, random_state=0).fit(X)
    svi = BayesianGaussianHMM(3, method="svi", batch_size=10, max_iter=20, tol=0, random_state=0).fit(X)
    assert svi.n_iter_ == 120
    assert svi.elbo_ == pytest.approx(whole.elbo_, rel=2e-3)
    assert agreement(svi.predict(X), np.concatenate(paths), 3) > 0.99


def test_partial_fit_of_a_stream_and_of_a_known_number() -> None:
    X, paths = series(11, [40] * 30)
    for total in (None, 30):
        model = BayesianGaussianHMM(3, random_state=0)
        for start in range(0, 30, 6):
            model.partial_fit(X[start : start + 6], total_sequences=total)
        assert len(model.elbo_trace_) == 5
        assert agreement(model.predict(X), np.concatenate(paths), 3) > 0.98
        counts = model.posterior_["transitions"].standard_parameters.concentration.sum().item()
        assert counts == pytest.approx(30 * 39 + 3, rel=1e-6)  # all transitions, and the prior's
        with pytest.raises(ValueError, match="total_sequences is 7"):
            model.partial_fit(X[:2], total_sequences=7)


def test_partial_fit_goes_on_from_a_fit_or_a_file(tmp_path: Path) -> None:
    X, _ = series(12, [40] * 10)
    model = BayesianGaussianHMM(3, random_state=0).fit(X)
    loaded = BayesianGaussianHMM.load(model.save(tmp_path / "fit"))
    more, _ = series(13, [50, 20])
    for one in (model, loaded):
        one.partial_fit(more)
        counts = one.posterior_["transitions"].standard_parameters.concentration.sum().item()
        assert counts == pytest.approx(10 * 39 + 3 + 49 + 19, rel=1e-6)
    np.testing.assert_allclose(loaded.means_, model.means_, rtol=1e-9)


def test_saving_and_loading_keeps_every_answer(tmp_path: Path) -> None:
    X, _ = series(14, LENGTHS)
    symbols, _ = letters(14, [30, 10])
    for model, data in (
        (BayesianGaussianHMM(2, sticky=5.0, random_state=0), X),
        (BayesianGaussianHMM(2, covariance_type="diag", random_state=0), X),
        (BayesianGaussianHMM(2, covariance_type="spherical", random_state=0), X),
        (BayesianCategoricalHMM(2, random_state=0), symbols),
    ):
        model.fit(data)
        loaded = type(model).load(model.save(tmp_path / type(model).__name__ / str(id(model))))
        assert loaded.get_params() == model.get_params()
        np.testing.assert_allclose(loaded.score_samples(data), model.score_samples(data), rtol=1e-12)
        np.testing.assert_allclose(loaded.predict_proba(data), model.predict_proba(data), atol=1e-12)
        assert loaded.elbo_ == model.elbo_


def test_a_sticky_prior_makes_states_last() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 1)) + np.repeat([0.0, 1.5, 0.0], 50)[:, None]
    plain = BayesianGaussianHMM(2, random_state=0).fit(x)
    sticky = BayesianGaussianHMM(2, sticky=100.0, random_state=0).fit(x)
    assert np.diag(sticky.transitions_).min() > np.diag(plain.transitions_).min()
    assert (np.diff(sticky.predict(x)) != 0).sum() <= (np.diff(plain.predict(x)) != 0).sum()
    prior = sticky._priors(Sequences(torch.zeros(3, 1)))["transitions"].standard_parameters.concentration
    np.testing.assert_allclose(prior, [[100.5, 0.5], [0.5, 100.5]])


def test_a_constant_series_is_one_state_of_its_prior_width() -> None:
    x = np.full((30, 2), 7.0)
    model = BayesianGaussianHMM(2, random_state=0).fit(x)
    proba = model.predict_proba(x)
    assert np.isfinite(model.elbo_)
    assert np.ptp(proba[5:25], axis=0).max() < 0.01
    state = proba[10].argmax()
    np.testing.assert_allclose(model.means_[state], 7.0)
    constant_column = np.column_stack([np.random.default_rng(0).normal(size=40), np.zeros(40)])
    assert np.isfinite(BayesianGaussianHMM(2, random_state=0).fit(constant_column).score(constant_column))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_one_observation_and_sequences_of_length_one() -> None:
    one = BayesianGaussianHMM(1).fit([[3.0, 4.0]])
    np.testing.assert_allclose(one.means_, [[3.0, 4.0]])
    X = np.random.default_rng(0).normal(size=(25, 2)) + 5 * np.repeat([0, 1], [12, 13])[:, None]
    singles = BayesianGaussianHMM(2, random_state=0).fit(X, lengths=np.ones(25, dtype=int))
    rows = singles.posterior_["transitions"].standard_parameters.concentration
    np.testing.assert_allclose(rows, 0.5)  # no transition was seen: the prior
    assert sorted(np.bincount(singles.predict(X, np.ones(25, dtype=int)))) == [12, 13]
