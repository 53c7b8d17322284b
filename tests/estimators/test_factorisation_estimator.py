"""The scikit-learn faces of matrix factorisation: held-out ratings, thinned counts, streams, bad input, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from jensen.estimators.factorisation import GaussianFactorisation, PoissonFactorisation


def ratings(users: int = 200, items: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected ratings, observed ones (NaN elsewhere), held-out ones (NaN elsewhere)."""
    rng = np.random.default_rng(seed)
    expected = rng.normal(size=(users, 2)) @ rng.normal(size=(2, items))
    expected += rng.normal(size=(users, 1)) + rng.normal(size=items) + 3
    rated = expected + 0.3 * rng.normal(size=expected.shape)
    share = rng.random(expected.shape)
    return expected, np.where(share < 0.3, rated, np.nan), np.where(share > 0.8, rated, np.nan)


def counts(users: int = 150, items: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rates, counts to fit, held-out counts: every token is held out with probability 0.2."""
    rng = np.random.default_rng(seed)
    rates = rng.gamma(0.5, 1, (users, 3)) @ rng.gamma(0.5, 1, (3, items))
    drawn = rng.poisson(rates)
    kept = rng.binomial(drawn, 0.8)
    return rates, kept, drawn - kept


@pytest.fixture(scope="module")
def gaussian() -> GaussianFactorisation:
    return GaussianFactorisation(4, random_state=0).fit(ratings()[1])


@pytest.fixture(scope="module")
def poisson() -> PoissonFactorisation:
    return PoissonFactorisation(4, random_state=0).fit(counts()[1])


def test_held_out_ratings(gaussian: GaussianFactorisation) -> None:
    expected, _, held_out = ratings()
    pairs = np.argwhere(~np.isnan(held_out))
    predicted, deviation = gaussian.predict(pairs, return_std=True)
    errors = predicted - expected[pairs[:, 0], pairs[:, 1]]
    assert gaussian.rmse(held_out) < 0.4  # noise alone makes 0.3
    assert np.std(errors / deviation) == pytest.approx(1, abs=0.25)
    values = held_out[pairs[:, 0], pairs[:, 1]]
    spread = np.sqrt(deviation**2 + gaussian.noise_variance_)
    assert gaussian.score(held_out) == pytest.approx(stats.norm(predicted, spread).logpdf(values).mean(), rel=1e-9)
    assert gaussian.noise_variance_ == pytest.approx(0.09, rel=0.15)
    assert gaussian.relevance_[1] > 50 * gaussian.relevance_[2]


def test_held_out_counts(poisson: PoissonFactorisation) -> None:
    rates, kept, held_out = counts()
    exact = stats.poisson(0.2 * rates).logpmf(held_out).sum(1).mean()
    flat = stats.poisson(0.25 * kept.mean()).logpmf(held_out).sum(1).mean()
    score = poisson.score(held_out, exposure=0.25)
    assert flat + 0.8 * (exact - flat) < score < exact
    estimate = 0.25 * poisson.predict(np.argwhere(kept >= 0)).reshape(kept.shape)
    assert score == pytest.approx(stats.poisson(estimate).logpmf(held_out).sum(1).mean(), rel=1e-9)
    assert poisson.relevance_.sum() == pytest.approx(1)
    assert (np.diff(poisson.relevance_) <= 0).all()


def test_users_folded_in_are_those_of_fit(gaussian: GaussianFactorisation, poisson: PoissonFactorisation) -> None:
    for model, x in ((gaussian, ratings()[1][5:9]), (poisson, counts()[1][5:45])):
        pairs = (np.repeat(np.arange(5, 5 + len(x)), x.shape[1]), np.tile(np.arange(x.shape[1]), len(x)))
        complete, known = model.complete(x).ravel(), model.predict(pairs)
        if model is gaussian:
            np.testing.assert_allclose(model.transform(x), model.user_factors_[5:9])
            np.testing.assert_allclose(complete, known)
        else:  # a user's factors may have more than one optimum
            assert np.corrcoef(complete, known)[0, 1] > 0.99
            assert complete.sum() == pytest.approx(known.sum(), rel=0.02)


def test_recommendations(gaussian: GaussianFactorisation) -> None:
    _, x, _ = ratings()
    everything = gaussian.complete(x[:1])[0]
    best, expected = gaussian.recommend(0, 5)
    np.testing.assert_array_equal(best, np.argsort(-everything)[:5])
    np.testing.assert_allclose(expected, everything[best])
    for seen in (x, np.flatnonzero(~np.isnan(x[0]))):
        fresh, _ = gaussian.recommend(0, 60, seen=seen)
        assert not set(fresh) & set(np.flatnonzero(~np.isnan(x[0])))
        assert len(fresh) == np.isnan(x[0]).sum()


def test_what_was_seen_in_other_forms_and_what_is_refused(gaussian: GaussianFactorisation) -> None:
    rest = np.arange(2, 60)
    mask = np.arange(60) < 2
    triples = (np.array([1, 1, 3]), np.array([0, 1, 5]), np.array([2.0, 3.0, 4.0]))
    for seen in ([0, 1], {0, 1}, frozenset({0, 1}), range(2), mask, mask.tolist(), triples):
        assert sorted(gaussian.recommend(1, 60, seen=seen)[0]) == rest.tolist()
    for nothing in ([], set(), np.zeros(60, dtype=bool), np.full((200, 60), np.nan)):
        assert len(gaussian.recommend(1, 60, seen=nothing)[0]) == 60
    for wrong, message in (
        ([999], "unknown item 999 in seen: fit knew items 0 to 59"),
        ([-1], "unknown item -1"),
        ([True, False], "boolean mask of all 60 items"),
        ([0.5], "seen must be numbers of items"),
        ({"a"}, "seen must be numbers of items"),
        (3, "seen must be numbers of items"),
        (np.ones((3, 60)), "3 users, but fit knew 200"),
    ):
        with pytest.raises(ValueError, match=message):
            gaussian.recommend(1, seen=wrong)
    with pytest.raises(ValueError, match="user must be a whole number"):
        gaussian.recommend("1")  # type: ignore[arg-type]
    with pytest.raises(NotFittedError):
        GaussianFactorisation().recommend(0)


def test_users_and_items_without_ratings_have_the_priors_factors() -> None:
    _, x, _ = ratings(60, 20)
    x[3], x[:, 7] = np.nan, np.nan
    model = GaussianFactorisation(2, random_state=0).fit(x)
    np.testing.assert_allclose(model.user_factors_[3], 0, atol=1e-12)
    np.testing.assert_allclose(model.item_bias_[7], 0, atol=0.3)
    np.testing.assert_allclose(model.item_factors_[7], 0, atol=1e-3)
    numbers = np.nan_to_num(counts(40, 15)[1])
    numbers[4] = 0
    poisson = PoissonFactorisation(2, random_state=0).fit(numbers)
    assert np.isfinite(poisson.predict([(4, 0)])).all()
    assert poisson.complete(numbers)[4].sum() < 0.2 * poisson.complete(numbers).sum(1).mean()
    # nobody in the batch has ratings
    np.testing.assert_allclose(model.complete(np.full((2, 20), np.nan)), [model.offset_ + model.item_bias_] * 2)
    np.testing.assert_allclose(model.transform(sp.csr_matrix((1, 20))), 0, atol=1e-12)
    np.testing.assert_allclose(poisson.complete(np.zeros((1, 15))), poisson.complete(numbers)[4:5], rtol=1e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_all_forms_of_ratings_give_the_same_fit() -> None:
    _, x, _ = ratings(40, 15)
    rows, columns = np.nonzero(~np.isnan(x))
    triples = (rows, columns, x[rows, columns])
    sparse = sp.csr_matrix((triples[2], (rows, columns)), shape=x.shape)
    fits = [
        GaussianFactorisation(2, random_state=0, max_iter=8).fit(form) for form in (x, triples, sparse, sparse.tocoo())
    ]
    for fit in fits[1:]:
        np.testing.assert_allclose(fit.item_factors_, fits[0].item_factors_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_list_of_three_rows_is_three_users() -> None:
    rows = [[5, 3, 1, 2], [4, 2, 1, 1], [1, 1, 5, 4]]
    options: dict[str, Any] = {"n_factors": 1, "random_state": 0, "max_iter": 5}
    for make in (PoissonFactorisation, GaussianFactorisation):
        given, array = make(**options).fit(rows), make(**options).fit(np.array(rows, dtype=float))
        assert given.user_factors_.shape == (3, 1)
        np.testing.assert_array_equal(given.item_factors_, array.item_factors_)
        assert given.transform(rows).shape == (3, 1)
    assert PoissonFactorisation(**options).fit(tuple(rows)).user_factors_.shape == (6, 1)  # users up to number 5


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scores_are_of_the_users_that_were_fitted(
    gaussian: GaussianFactorisation, poisson: PoissonFactorisation
) -> None:
    _, _, held_out = ratings()
    rows, columns = np.nonzero(~np.isnan(held_out[:50]))
    few = held_out.copy()
    few[50:] = np.nan
    assert gaussian.score((rows, columns, few[rows, columns])) == pytest.approx(gaussian.score(few), rel=1e-12)
    with pytest.raises(ValueError, match=r"50 users, but fit knew 200.*Hold out ratings and not users"):
        gaussian.score(held_out[:50])
    with pytest.raises(ValueError, match="50 users, but fit knew 200"):
        gaussian.rmse(held_out[:50])
    with pytest.raises(ValueError, match="nothing is observed"):
        gaussian.score(np.full((200, 60), np.nan))
    held = counts()[2]
    only = np.zeros_like(held)
    only[:20] = held[:20]
    triples = (*np.nonzero(only), only[np.nonzero(only)])
    assert poisson.score(triples, exposure=0.25) == pytest.approx(poisson.score(only, exposure=0.25), rel=1e-12)
    assert poisson.score(np.zeros((150, 60))) == pytest.approx(
        -(poisson.user_factors_ @ poisson.item_factors_.T).sum(1).mean(), rel=1e-9
    )
    with pytest.raises(ValueError, match="20 users, but fit knew 150"):
        poisson.score(held[:20])
    with pytest.raises(ValueError, match="but fit knew"):
        cross_val_score(PoissonFactorisation(2, max_iter=3), counts(30, 10)[1], cv=3, error_score="raise")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("method", ["cavi", "svi"])
def test_an_interrupted_fit_knows_its_users(method: str) -> None:
    def interrupt(step: int, elbo: float, state: Any) -> None:
        if step == 6:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"method": method, "batch_size": 15 if method == "svi" else None, "random_state": 0}
    for model, x in (
        (GaussianFactorisation(2, **options), ratings(30, 10)[1]),
        (PoissonFactorisation(2, rate_shape=None, **options), counts(30, 10)[1]),
    ):
        model.on_step = interrupt
        with pytest.raises(KeyboardInterrupt):
            model.fit(x)
        assert model.stop_reason_ == "interrupted"
        assert len(model.elbo_trace_) == 6
        pairs = (np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30))
        np.testing.assert_allclose(model.predict(pairs), model.complete(x).ravel(), rtol=1e-5)


def test_minibatches() -> None:
    _, x, held_out = ratings()
    model = GaussianFactorisation(3, method="svi", batch_size=50, max_iter=15, random_state=0).fit(x)
    assert model.rmse(held_out) < 0.45
    _, kept, held = counts(60, 40)
    options: dict[str, Any] = {"method": "svi", "batch_size": 30, "max_iter": 6, "rate_shape": None, "random_state": 0}
    poisson = PoissonFactorisation(3, **options).fit(kept)
    whole = PoissonFactorisation(3, rate_shape=None, tol=1e-4, random_state=0).fit(kept)
    assert poisson.score(held, exposure=0.25) == pytest.approx(whole.score(held, exposure=0.25), rel=0.03)


@pytest.mark.parametrize("total", [None, 200])
def test_streams(total: int | None) -> None:
    expected, x, _ = ratings()
    model = GaussianFactorisation(3, total_size=total, random_state=0)
    for begin in range(0, 200, 50):
        model.partial_fit(x[begin : begin + 50])
    assert len(model.elbo_trace_) == 4
    gone = np.isnan(x)
    assert np.sqrt(((model.complete(x) - expected)[gone] ** 2).mean()) < 0.5 * np.std(expected)
    with pytest.raises(ValueError, match="keeps no users"):
        model.predict([(0, 0)])
    poisson = PoissonFactorisation(3, total_size=total, random_state=0)
    rates, kept, _ = counts()
    for begin in range(0, 150, 50):
        poisson.partial_fit(kept[begin : begin + 50])
    assert np.corrcoef(poisson.complete(kept).ravel(), rates.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("total", [None, 300])
def test_a_stream_goes_on_from_a_fit(total: int | None, tmp_path: Path) -> None:
    expected, x, _ = ratings(300, 40)
    gone = np.isnan(x)
    options: dict[str, Any] = {"total_size": total, "random_state": 0}
    model = GaussianFactorisation(3, **options).fit(x[:250])
    loaded = GaussianFactorisation.load(model.save(tmp_path / "gaussian"))
    before = np.sqrt(((model.complete(x) - expected)[gone] ** 2).mean())
    offset, bias = model.offset_, model.item_bias_
    alone = GaussianFactorisation(3, **options).partial_fit(x[250:])
    for stream in (model, loaded):
        stream.partial_fit(x[250:275]).partial_fit(x[275:])
        assert len(stream.elbo_trace_) == 2
        assert stream.n_iter_ == 12  # 250 users are 10 batches of 25
        assert stream.offset_ == offset
        after = np.sqrt(((stream.complete(x) - expected)[gone] ** 2).mean())
        assert after < 1.05 * before
        assert after < 0.7 * np.sqrt(((alone.complete(x) - expected)[gone] ** 2).mean())
        assert 0 < np.abs(stream.item_bias_ - bias).max() < 0.5
    np.testing.assert_allclose(loaded.item_factors_, model.item_factors_, atol=1e-8)
    again = GaussianFactorisation.load(model.save(tmp_path / "stream")).partial_fit(x[:25])
    assert again.n_iter_ == 13
    assert len(again.elbo_trace_) == 3


@pytest.mark.parametrize("total", [None, 75])
def test_a_stream_of_counts_goes_on_from_a_fit(total: int | None, tmp_path: Path) -> None:
    rates, kept, _ = counts(75, 25)
    options: dict[str, Any] = {"total_size": total, "rate_shape": None, "tol": 1e-4, "random_state": 0}
    model = PoissonFactorisation(3, **options).fit(kept[:60])
    loaded = PoissonFactorisation.load(model.save(tmp_path / "poisson"))
    fitted = model.item_factors_.ravel()
    alone = PoissonFactorisation(3, **options).partial_fit(kept[60:])
    assert np.corrcoef(alone.item_factors_.ravel(), fitted)[0, 1] < 0.8
    before = np.corrcoef(model.complete(kept).ravel(), rates.ravel())[0, 1]
    for stream in (model, loaded):
        stream.partial_fit(kept[60:])
        assert stream.n_iter_ == 5
        after = np.corrcoef(stream.complete(kept).ravel(), rates.ravel())[0, 1]
        assert after > before - 0.02
        assert np.corrcoef(stream.item_factors_.ravel(), fitted)[0, 1] > 0.9
    np.testing.assert_allclose(loaded.item_factors_, model.item_factors_, rtol=1e-6)
    with pytest.raises(ValueError, match="n_factors is 2, but the posterior to go on from has 3 factors"):
        PoissonFactorisation.load(loaded.save(tmp_path / "other")).set_params(n_factors=2).partial_fit(kept)
    with pytest.raises(ValueError, match="features"):
        PoissonFactorisation.load(tmp_path / "other").partial_fit(kept[:, :5])


def test_saved_and_loaded(gaussian: GaussianFactorisation, poisson: PoissonFactorisation, tmp_path: Path) -> None:
    for model, x in ((gaussian, ratings()[1]), (poisson, counts()[1])):
        loaded = type(model).load(model.save(tmp_path / type(model).__name__))
        np.testing.assert_array_equal(loaded.predict([(0, 1), (3, 2)]), model.predict([(0, 1), (3, 2)]))
        np.testing.assert_allclose(loaded.transform(x), model.transform(x), rtol=1e-6)
        assert loaded.elbo_ == model.elbo_


def test_seeds_repeat_and_restarts_keep_the_best() -> None:
    _, x, _ = ratings(40, 15)
    options: dict[str, Any] = {"random_state": 1, "tol": 1e-4}
    one, other = (GaussianFactorisation(3, n_init=2, **options).fit(x) for _ in range(2))
    np.testing.assert_array_equal(one.item_factors_, other.item_factors_)
    assert one.elbo_ >= GaussianFactorisation(3, **options).fit(x).elbo_ - 1e-9


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(200, 0)], "unknown user 200: fit knew users 0 to 199"),
        ([(0, 60)], "unknown item 60"),
        ([(-1, 0)], "unknown user -1"),
        ([(0.5, 0)], "whole numbers"),
        ([0, 1, 2], "pairs must be"),
        (([0, 1], [2]), "pairs must be"),
    ],
)
def test_unknown_pairs(gaussian: GaussianFactorisation, pairs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian.predict(pairs)


def test_more_that_is_refused(gaussian: GaussianFactorisation) -> None:
    x = np.ones((4, 3))
    for arguments, message in (
        ({"n_factors": 0}, "n_factors"),
        ({"prior_rate": -1.0}, "prior_rate"),
        ({"batch_size": 2}, "batch_size"),
        ({"method": "als"}, "method"),
        ({"n_users": 2}, "4 users, but there are 2"),
    ):
        with pytest.raises(ValueError, match=message):
            GaussianFactorisation(**{"n_factors": 2, **arguments}).fit(x)  # type: ignore[arg-type]
    for numbers, message in (
        (-x, "Negative values"),
        (0 * x, "nothing is observed|no positive count"),
        (x / 2, "whole numbers"),
        (np.zeros((0, 3)), "0 sample"),
    ):
        with pytest.raises(ValueError, match=message):
            PoissonFactorisation(2).fit(numbers)
    with pytest.raises(ValueError, match="user_shape"):
        PoissonFactorisation(2, user_shape=0.0).fit(x)
    with pytest.raises(ValueError, match="201 users, but fit knew 200"):
        gaussian.score(np.ones((201, 60)))
    with pytest.raises(ValueError, match="n must be"):
        gaussian.recommend(0, 0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_one_rating_more_factors_than_items_and_equal_ratings() -> None:
    alone = GaussianFactorisation(2, random_state=0).fit(np.array([[4.0]]))
    assert alone.predict([(0, 0)])[0] == pytest.approx(4)
    wide = GaussianFactorisation(5, random_state=0, max_iter=40).fit(ratings(20, 3)[1])
    assert (np.diff(wide.elbo_trace_) > -1e-8).all()
    equal = GaussianFactorisation(2, random_state=0, max_iter=40).fit(np.full((6, 4), 2.5))
    np.testing.assert_allclose(equal.predict([(0, 0), (5, 3)]), 2.5, atol=0.01)
    one = PoissonFactorisation(3, random_state=0).fit(np.array([[3]]))
    assert 0 < one.predict([(0, 0)])[0] < 6
