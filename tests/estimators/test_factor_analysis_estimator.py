"""The scikit-learn faces of PCA and factor analysis: scikit-learn's own scores, gaps in the data, bad input, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from jensen.errors import CheckpointError
from jensen.estimators.factor_analysis import BayesianFactorAnalysis, BayesianPCA

BOTH = [BayesianPCA, BayesianFactorAnalysis]


def data(n: int = 300, d: int = 6, k: int = 2, noise: float = 0.5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 1.5 * rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) + noise * rng.normal(size=(n, d)) + 5


def with_gaps(x: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


@parametrize_with_checks([BayesianPCA(max_iter=30), BayesianFactorAnalysis(max_iter=30)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_large_data_agree_with_scikit_learn() -> None:
    x = data(20_000, 8, 3)
    ours = BayesianPCA(3, random_state=0).fit(x)
    theirs = PCA(3).fit(x)
    assert ours.score(x) == pytest.approx(theirs.score(x), abs=1e-4)
    np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance(), rtol=2e-3, atol=2e-2)
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, rel=1e-3)
    x = x * np.linspace(0.5, 2, 8) + np.random.default_rng(5).normal(size=x.shape) * np.linspace(0.1, 1, 8)
    ours_too = BayesianFactorAnalysis(3, random_state=0).fit(x)
    theirs_too = FactorAnalysis(3, tol=1e-8, max_iter=5000).fit(x)
    assert ours_too.score(x) == pytest.approx(theirs_too.score(x), abs=1e-3)
    np.testing.assert_allclose(ours_too.noise_variance_, theirs_too.noise_variance_, rtol=0.03)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_needless_factors_are_switched_off(cls: Any, share: float) -> None:
    model = cls(5, random_state=0, tol=1e-9, max_iter=3000).fit(with_gaps(data(), share))
    assert model.n_relevant_ == 2
    assert (np.diff(model.relevance_) <= 0).all()
    assert model.relevance_[1] > 50 * model.relevance_[2]


@pytest.mark.parametrize("cls", BOTH)
def test_imputed_values_are_near_and_their_spread_is_honest(cls: Any) -> None:
    x = data(800)
    gaps = with_gaps(x, 0.25)
    gone = np.isnan(gaps)
    model = cls(3, random_state=0).fit(gaps)
    filled, deviation = model.impute(gaps)
    np.testing.assert_array_equal(filled[~gone], x[~gone])
    assert (deviation[~gone] == 0).all()
    z = (filled - x)[gone] / deviation[gone]
    assert np.std(z) == pytest.approx(1, abs=0.12)
    assert (np.abs(z) < 1.96).mean() == pytest.approx(0.95, abs=0.02)
    guess = np.broadcast_to(np.nanmean(gaps, 0), x.shape)
    assert np.sqrt(((filled - x)[gone] ** 2).mean()) < 0.6 * np.sqrt(((guess - x)[gone] ** 2).mean())


def test_scores_of_incomplete_rows_are_marginal_densities() -> None:
    model = BayesianFactorAnalysis(2, random_state=0).fit(data())
    x = with_gaps(data(5, seed=3), 0.3)
    x[4] = np.nan
    for row, score in zip(x, model.score_samples(x), strict=True):
        seen = ~np.isnan(row)
        exact = 0.0
        if seen.any():
            exact = stats.multivariate_normal(model.mean_[seen], model.get_covariance()[np.ix_(seen, seen)]).logpdf(
                row[seen]
            )
        assert score == pytest.approx(exact, rel=1e-8)
    np.testing.assert_array_equal(model.transform(x)[4], 0)
    np.testing.assert_allclose(model.impute(x)[0][4], model.mean_)


def test_transform_and_back() -> None:
    x = data(noise=0.05)
    model = BayesianPCA(2, random_state=0).fit(x)
    np.testing.assert_allclose(model.inverse_transform(model.transform(x)), x, atol=0.3)
    assert list(model.get_feature_names_out()) == ["bayesianpca0", "bayesianpca1"]
    with pytest.raises(ValueError, match="2 factors"):
        model.inverse_transform(np.zeros((3, 5)))


def test_samples_look_like_the_data() -> None:
    x = data(3000)
    model = BayesianPCA(2, random_state=0).fit(x)
    drawn = model.sample(20_000, random_state=1)
    np.testing.assert_allclose(drawn.mean(0), x.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), rtol=0.1, atol=0.2)
    np.testing.assert_array_equal(model.sample(3, random_state=7), model.sample(3, random_state=7))
    with pytest.raises(ValueError, match="n_samples"):
        model.sample(0)


def test_far_from_the_origin() -> None:
    x = data()
    near, far = (BayesianPCA(2, random_state=0).fit(x + shift) for shift in (0.0, 1e6))
    assert far.elbo_ == pytest.approx(near.elbo_, abs=1e-4)
    np.testing.assert_allclose(np.abs(far.components_), np.abs(near.components_), atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(3, 8), (8, 3), (2, 1), (2, 2)])
@pytest.mark.parametrize("cls", BOTH)
def test_few_rows_or_columns(cls: Any, n: int, d: int) -> None:
    model = cls(random_state=0, max_iter=3000, tol=1e-6).fit(data(n, d))
    assert model.components_.shape == (min(n, d), d)
    assert np.isfinite(model.score(data(n, d)))
    assert (np.diff(model.elbo_trace_) > -1e-8).all()


@pytest.mark.parametrize("cls", BOTH)
def test_constant_columns_and_rows_without_values(cls: Any) -> None:
    x = with_gaps(data(60), 0.1)
    x[:, 2] = 7.0
    x[10] = np.nan
    model = cls(3, random_state=0, max_iter=3000).fit(x)
    filled, deviation = model.impute(x)
    assert np.isfinite(filled).all()
    assert filled[10, 2] == pytest.approx(7, abs=0.1)
    if cls is BayesianFactorAnalysis:
        assert deviation[10, 2] < 0.3 * deviation[10, 0]
    everything = cls(2, random_state=0).fit(np.ones((5, 3)))
    np.testing.assert_allclose(everything.mean_, 1)


@pytest.mark.parametrize("method", ["svi", "natural"])
def test_other_ways_up(method: str) -> None:
    x = data(200)
    best = BayesianPCA(2, random_state=0).fit(x)
    batch = 50 if method == "svi" else None
    model = BayesianPCA(2, method=method, batch_size=batch, max_iter=60, tol=1e-5, random_state=0)
    model.fit(x)
    assert model.score(x) == pytest.approx(best.score(x), abs=0.05)


@pytest.mark.parametrize("total", [None, 600])
def test_streams(total: int | None) -> None:
    x = with_gaps(data(600), 0.1)
    best = BayesianPCA(2, random_state=0).fit(x)
    stream = BayesianPCA(2, total_size=total, random_state=0)
    for begin in range(0, 600, 100):
        stream.partial_fit(x[begin : begin + 100])
    assert len(stream.elbo_trace_) == 6
    assert stream.score(x) == pytest.approx(best.score(x), abs=0.1)
    more = BayesianPCA(2, random_state=0).fit(x[:300])
    before = more.posterior_["noise"].standard_parameters.concentration
    more.partial_fit(x[300:])
    assert more.posterior_["noise"].standard_parameters.concentration > before  # what was learned is kept


def test_restarts_keep_the_best_and_seeds_repeat() -> None:
    x = with_gaps(data(50), 0.3)
    one, other = (BayesianPCA(4, init="random", n_init=3, random_state=3).fit(x) for _ in range(2))
    np.testing.assert_array_equal(one.components_, other.components_)
    assert one.elbo_ >= BayesianPCA(4, init="random", random_state=3).fit(x).elbo_ - 1e-9


def test_saved_and_loaded(tmp_path: Path) -> None:
    x = with_gaps(data(), 0.2)
    model = BayesianFactorAnalysis(3, random_state=0).fit(x)
    loaded = BayesianFactorAnalysis.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.impute(x)[0], model.impute(x)[0])
    np.testing.assert_array_equal(loaded.score_samples(x), model.score_samples(x))
    assert loaded.elbo_ == model.elbo_
    with pytest.raises(ValueError, match="loaded"):
        loaded.partial_fit(x)
    with pytest.raises(CheckpointError, match="BayesianFactorAnalysis"):
        BayesianPCA.load(tmp_path / "model")
    with pytest.raises(NotFittedError):
        BayesianPCA().save(tmp_path / "other")


def test_interrupted_fits_keep_what_they_have() -> None:
    def stop(step: int, elbo: float, state: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt

    model = BayesianPCA(3, random_state=0)
    model.on_step = stop
    with pytest.raises(KeyboardInterrupt):
        model.fit(data())
    assert model.n_iter_ == 4
    assert np.isfinite(model.score(data()))
    assert not model.converged_


def test_too_few_sweeps_warn() -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        BayesianPCA(3, max_iter=2, random_state=0).fit(data())


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda x: np.where(x > 7, np.inf, x), {}, "infinity: row"),
        (lambda x: np.column_stack([x, np.full(len(x), np.nan)]), {}, "without any value: 6"),
        (lambda x: x[:1], {}, "minimum of 2"),
        (lambda x: x[:0], {}, "0 sample"),
        (lambda x: x[:, 0], {}, "1D array"),
        (lambda x: x, {"n_components": 7}, "at most the number of columns, 6"),
        (lambda x: x, {"n_components": 0}, "n_components"),
        (lambda x: x, {"init": "zeros"}, "init"),
        (lambda x: x, {"noise_rate": -1.0}, "noise_rate"),
        (lambda x: x, {"ard_concentration": None}, "ard_concentration"),
        (lambda x: x, {"batch_size": 10}, "batch_size"),
        (lambda x: x, {"method": "em"}, "method"),
        (lambda x: x, {"tol": -1.0}, "tol"),
    ],
)
def test_what_is_refused(change: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BayesianPCA(**arguments).fit(change(data(50)))


def test_prior_mean_counts() -> None:
    x = data(20)
    strong = BayesianPCA(2, mean_prior=-3.0, mean_precision=1e6, random_state=0, max_iter=2000).fit(x)
    np.testing.assert_allclose(strong.mean_, -3, atol=0.05)
