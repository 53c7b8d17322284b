"""BayesianLogisticRegression: scikit-learn's checks, probabilities that know how little was seen, odd and bad input."""

from __future__ import annotations

import pickle
import runpy
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from jensen.estimators.logistic_regression import BayesianLogisticRegression

REFERENCES = Path(__file__).parents[1] / "references"
EXPECTED_FAILURES = {
    "check_methods_subset_invariance": "score_samples needs y: it is a conditional probability",
    "check_methods_sample_order_invariance": "score_samples needs y: it is a conditional probability",
}
BOUNDS = ["jaakkola-jordan", "quadrature"]

every_bound = pytest.mark.parametrize("bound", BOUNDS)


def quick(**settings: Any) -> BayesianLogisticRegression:
    return BayesianLogisticRegression(**{"precision": 1.0, "random_state": 0, **settings})


@pytest.mark.filterwarnings("ignore")
@every_bound
def test_scikit_learn_checks(bound: str) -> None:
    passed = 0
    for estimator, check in estimator_checks_generator(quick(bound=bound, tol=1e-4)):
        name = check.func.__name__
        try:
            check(estimator)
        except SkipTest:
            continue
        except Exception as error:
            if name not in EXPECTED_FAILURES:
                raise AssertionError(name) from error
        else:
            passed += 1
    assert passed > 40


def problem(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal([3.0, 0.0, -1.0], size=(n, 3))
    return x, np.where(rng.random(n) < expit((x - [3, 0, -1]) @ [2.0, -1.0, 0.0]), "yes", "no")


@every_bound
def test_means_and_predictions_are_those_of_nuts(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REFERENCES)
    x, t, new, new_t = runpy.run_path(str(REFERENCES / "regressions.py"))["breast_cancer"]()
    stored = np.load(REFERENCES / "regressions.npz")
    model = quick(bound=bound, tol=1e-10).fit(x, t)
    mean, sd = stored["logistic_mean"], stored["logistic_sd"]
    intercept = model.intercept_[0] + x.mean(0) @ model.coef_[0]  # that at the rows' centre
    near = 0.05 if bound == "quadrature" else 0.2
    assert (np.abs([*model.coef_[0], intercept] - mean) < near * sd).all()
    # each within 0.02 (0.2) nats, all together within 0.01
    difference = model.score_samples(new, new_t) - stored["logistic_log_density"]
    assert np.abs(difference).max() < near
    assert abs(difference.mean()) < 0.01
    assert model.bound_ == ("ELBO" if bound == "quadrature" else "Jaakkola-Jordan")


def test_the_bounds_are_in_order_and_the_drawn_one_is_the_elbo() -> None:
    x, y = problem()
    low, best = (quick(bound=bound, tol=1e-12).fit(x, y) for bound in BOUNDS)
    drawn = quick(bound="monte-carlo", max_iter=100).fit(x, y)
    assert low.elbo_ < best.elbo_ - 0.2
    assert best.elbo_ - 0.2 < drawn.elbo_ <= best.elbo_ + 1e-9
    np.testing.assert_allclose(drawn.coef_, best.coef_, atol=0.1)
    assert not drawn.converged_


def test_a_tight_prior_and_much_data_is_penalised_maximum_likelihood() -> None:
    x, y = problem(4000)
    model = quick(bound="quadrature", intercept_scale=1e4).fit(x, y)
    peer = LogisticRegression(C=1.0, tol=1e-10).fit(x, y)
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=0.01)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, atol=0.03)
    assert (model.predict(x) == peer.predict(x)).mean() > 0.998


@every_bound
def test_probabilities_are_averaged_over_the_weights(bound: str) -> None:
    x, y = problem(30)
    model = quick(bound=bound).fit(x, y)
    far = model.coef_ * [[30.0], [300.0]] + x.mean(0)
    p = model.predict_proba(np.vstack([x, far]))
    np.testing.assert_allclose(p.sum(1), 1)
    plug_in = expit(np.vstack([x, far]) @ model.coef_[0] + model.intercept_)
    assert (np.abs(p[:, 1] - 0.5) <= np.abs(plug_in - 0.5) + 1e-9).all()  # more modest everywhere
    assert plug_in[-1] > 1 - 1e-12
    draws = model.sample(x[:6], 20_000)
    np.testing.assert_allclose((draws == "yes").mean(0), p[:6, 1], atol=0.015)
    low, high = model.predict_interval(x).T
    assert ((low < expit(x @ model.coef_[0] + model.intercept_)) & (high > p[: len(x), 1]).astype(bool)).mean() > 0.9
    assert (low < high).all()


def test_it_is_calibrated_where_a_plug_in_is_sure_of_itself() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y, few = x[order], y[order], slice(0, 60)
    model = make_pipeline(StandardScaler(), quick()).fit(x[few], y[few])
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=1e4, max_iter=10_000)).fit(x[few], y[few])
    truth = y[60:]
    scores = [np.log(m.predict_proba(x[60:])[np.arange(len(truth)), truth].clip(1e-300)).mean() for m in (model, peer)]
    assert scores[0] > -0.12
    assert scores[0] > scores[1] + 0.05


@pytest.mark.parametrize("labels", [["no", "yes"], [0, 1], [-1.0, 1.0], [False, True], [7, 3]])
def test_labels_of_any_type_survive_a_round_to_disk(labels: list[Any], tmp_path: Path) -> None:
    x, y = problem()
    given = np.array(labels)[(y == "yes").astype(int)]
    model = quick().fit(x, given)
    loaded = BayesianLogisticRegression.load(model.save(tmp_path))
    np.testing.assert_array_equal(loaded.classes_, np.unique(given))
    assert loaded.classes_.dtype == given.dtype
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    assert model.predict(x).dtype == given.dtype


def test_more_than_two_classes() -> None:
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = BayesianLogisticRegression(ard=True, tol=1e-5).fit(x, names)
    assert model.coef_.shape == model.relevance_.shape == (3, 4)
    assert model.score(x, names) > 0.93
    p = model.predict_proba(x)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_array_equal(model.predict(x), model.classes_[p.argmax(1)])
    assert model.predict_interval(x).shape == (150, 3, 2)
    assert set(model.sample(x, 3).ravel()) <= set(names)
    np.testing.assert_allclose(np.exp(model.score_samples(x, names)), p[np.arange(150), y])


def test_separable_classes_stay_finite() -> None:
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    for settings in ({}, {"precision": None}, {"precision": None, "ard": True}, {"bound": "quadrature"}):
        model = quick(tol=1e-6, **settings).fit(x, [0, 0, 1, 1])
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.elbo_)
        p = model.predict_proba([[-1.0], [0.0], [1.0]])[:, 1]
        assert p[0] < 0.5 < p[2]
        assert p[1] == pytest.approx(0.5, abs=1e-6)


def test_relevance_drives_what_is_not_needed_to_zero() -> None:
    x, y = problem(400)
    noise = np.random.default_rng(1).normal(size=(400, 3))
    model = BayesianLogisticRegression(ard=True, tol=1e-9).fit(np.hstack([x, noise]), y)
    assert model.relevance_[0, 2:].min() > 20 * model.relevance_[0, :2].max()
    assert np.abs(model.coef_[0, 2:]).max() < 0.1


def test_streams_and_known_totals(tmp_path: Path) -> None:
    x, y = problem(600)
    whole = quick(tol=1e-10).fit(x, y)
    stream, known = quick(), quick(total_size=600, rho=0.3)
    for start in range(0, 600, 100):
        stream.partial_fit(x[start : start + 100], y[start : start + 100], classes=["no", "yes"])
    for start in list(range(0, 600, 100)) * 8:
        known.partial_fit(x[start : start + 100], y[start : start + 100])
    sd = whole.posterior_["weights"].standard_parameters.covariance[0].diagonal()[:3].sqrt()
    assert (np.abs(stream.coef_ - whole.coef_) < 0.5 * sd.numpy()).all()
    assert (np.abs(known.coef_ - whole.coef_) < 0.5 * sd.numpy()).all()
    assert len(known.elbo_trace_) == known.n_iter_ == 48
    # estimates from one batch each, of the q before the batch: over a pass they average to a little less
    assert np.mean(known.elbo_trace_[-6:]) == pytest.approx(whole.elbo_, rel=0.02)
    # kept and taken up again
    first = quick()
    for start in range(0, 300, 100):
        first.partial_fit(x[start : start + 100], y[start : start + 100])
    again = BayesianLogisticRegression.load(first.save(tmp_path))
    for start in range(300, 600, 100):
        again.partial_fit(x[start : start + 100], y[start : start + 100])
    np.testing.assert_allclose(again.coef_, stream.coef_, rtol=1e-6)
    with pytest.raises(ValueError, match=r"label 'maybe' in row 1, which is none of \['no', 'yes'\]"):
        again.partial_fit(x[:2], ["yes", "maybe"])


def test_constant_columns_and_a_place_far_from_the_origin() -> None:
    x, y = problem()
    near = quick().fit(x, y)
    odd = quick().fit(np.column_stack([x + 1e6, np.full(80, 5.0)]), y)
    assert odd.coef_[0, 3] == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(odd.coef_[0, :3], near.coef_[0], rtol=1e-6)
    wide = quick().fit(np.random.default_rng(0).normal(size=(8, 30)), [0, 1] * 4)
    assert np.isfinite(wide.coef_).all()


def spoiled(value: float) -> np.ndarray:
    x, _ = problem()
    x[7, 2] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (spoiled(np.nan), problem()[1], "X has NaN in row 7, column 2"),
        (spoiled(np.inf), problem()[1], "X has infinity in row 7, column 2"),
        (problem()[0], ["yes"] * 80, "y holds one class only"),
        (problem()[0][:1], problem()[1][:1], "y holds one class only"),
        (problem()[0], np.linspace(0, 1, 80), "Unknown label type: continuous"),
        (problem()[0], problem()[1][:-1], "inconsistent numbers"),
        (problem()[0], None, "requires y to be passed"),
    ],
)
def test_bad_input_is_refused_with_its_place(x: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick().fit(x, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bound": "laplace"}, "bound should be one of jaakkola-jordan, quadrature, monte-carlo, got 'laplace'"),
        ({"ard": True}, "precision must be None"),
        ({"precision": -1.0}, "precision must be positive"),
        ({"intercept_scale": 0.0}, "intercept_scale must be positive"),
        ({"bound": "quadrature", "method": "cavi"}, "use method='natural'"),
        ({"bound": "monte-carlo", "samples": 0}, "samples must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**arguments).fit(*problem())


def test_it_is_pickled_cloned_and_not_fitted_at_first() -> None:
    x, y = problem()
    with pytest.raises(NotFittedError):
        quick().predict(x)
    model = quick().partial_fit(x, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), model.predict_proba(x))
    assert not hasattr(clone(model), "classes_")
    with pytest.raises(ValueError, match="level must be between"):
        model.predict_interval(x, 1.0)
