"""What every estimator does alike: pickles in a stream, keeps names of columns, warns, goes on from a fit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from jensen.errors import NonFiniteError
from jensen.estimators import (
    BayesianCategoricalHMM,
    BayesianFactorAnalysis,
    BayesianGaussianHMM,
    BayesianLogisticRegression,
    BayesianMixture,
    BayesianPCA,
    BayesianPoissonRegression,
    GaussianFactorisation,
    PoissonFactorisation,
    TopicModel,
)

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 3)) + np.repeat([[0.0, 0, 0], [6, 6, 6]], 30, axis=0)
COUNTS = RNG.poisson(3.0, size=(40, 6)).astype(float)


@pytest.mark.parametrize(
    ("estimator", "data"),
    [
        (BayesianGaussianHMM(2, random_state=0), (ROWS,)),
        (BayesianCategoricalHMM(2, random_state=0), (np.tile([0, 1, 1, 0, 2], 12),)),
        (GaussianFactorisation(2, random_state=0), (COUNTS,)),
        (PoissonFactorisation(2, random_state=0), (COUNTS,)),
        (BayesianMixture(2, random_state=0), (ROWS,)),
        (BayesianPCA(2, random_state=0), (ROWS,)),
        (TopicModel(2, random_state=0, total_size=40), (COUNTS,)),
        (BayesianLogisticRegression(), (ROWS, np.repeat([0, 1], 30))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pickles_in_the_middle_of_a_stream(estimator: Any, data: Any) -> None:
    estimator.partial_fit(*data)
    again = pickle.loads(pickle.dumps(estimator))
    for name, q in estimator.posterior_.items():
        for a, b in zip(q.natural_parameters, again.posterior_[name].natural_parameters, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_names_of_columns_are_kept_on_disk(tmp_path: Any) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency")
    frame = pandas.DataFrame(ROWS, columns=["a", "b", "c"])
    fitted = BayesianMixture(2, random_state=0).fit(frame)
    fitted.save(tmp_path / "mixture")
    loaded = BayesianMixture.load(tmp_path / "mixture")
    np.testing.assert_array_equal(loaded.predict(frame), fitted.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame[["c", "b", "a"]])


@pytest.mark.parametrize(
    ("estimator", "data"),
    [
        (BayesianPoissonRegression(max_iter=2), (ROWS, RNG.poisson(2.0, 60))),
        (BayesianLogisticRegression(bound="quadrature", max_iter=2), (ROWS, RNG.integers(0, 2, 60))),
        (TopicModel(3, max_iter=2, tol=0, random_state=0), (COUNTS,)),
        (BayesianMixture(3, method="natural", max_iter=3, random_state=0), (ROWS,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fit_that_has_not_converged_warns(estimator: Any, data: Any) -> None:
    with pytest.warns(ConvergenceWarning, match="has not converged: max_steps"):
        estimator.fit(*data)
    assert not estimator.converged_


@pytest.mark.parametrize(
    "estimator", [BayesianMixture(2, total_size=60, random_state=0), BayesianPCA(2, total_size=60)]
)
def test_a_stream_goes_on_from_a_fit(estimator: Any) -> None:
    """A few of the same rows again, each counted total_size / B times, move what all of them taught but little."""
    estimator.fit(ROWS)
    before = estimator.score(ROWS)
    estimator.partial_fit(ROWS[::20])
    assert estimator.score(ROWS) == pytest.approx(before, abs=0.5)


def test_the_best_is_kept_where_a_bound_stops_being_finite() -> None:
    model = BayesianMixture(2, random_state=0)

    def stop(step: int, elbo: float, state: Any) -> None:
        if step == 2:
            raise NonFiniteError("no more")

    model.on_step = stop
    with pytest.raises(NonFiniteError, match="no more"):
        model.set_params(init="random", tol=0).fit(ROWS)
    assert model.stop_reason_ == "interrupted"
    assert model.predict(ROWS).shape == (60,)


def test_factor_analysis_refuses_restarts_that_it_would_not_make() -> None:
    with pytest.raises(ValueError, match="n_init is for method='cavi'"):
        BayesianFactorAnalysis(1, method="natural", n_init=3).fit(ROWS)


def test_both_tails_of_a_logistic_regression_are_scored() -> None:
    x = np.linspace(-3, 3, 300)[:, None]
    y = (x[:, 0] + 0.3 * np.random.default_rng(1).normal(size=300) > 0).astype(int)
    model = BayesianLogisticRegression(precision=0.01).fit(x, y)
    far = model.score_samples(np.array([[20.0], [-20.0]]), np.array([0, 1]))
    assert np.isfinite(far).all()
    assert far[0] == pytest.approx(far[1], rel=0.2)
    np.testing.assert_allclose(model.predict_proba(x).sum(1), 1.0, atol=1e-12)


def test_monte_carlo_logistic_regression_keeps_its_domain() -> None:
    """Enough noisy steps to leave the domain, if they did not fall."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import StandardScaler

    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x)[::3, :12]
    model = BayesianLogisticRegression(bound="monte-carlo", max_iter=300, random_state=0).fit(x, y[::3])
    assert model.score_samples(x, y[::3]).mean() > -0.15
