"""One Gaussian fitted to that of some data: ends where theory says, keeps its path, comes back from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from scipy import stats
from sklearn.utils.estimator_checks import estimator_checks_generator

from jensen.estimators.gaussian_fit import GaussianFit

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.multivariate_normal([3.0, -1.0, 100.0], [[2, 1.2, 0], [1.2, 1, 0.1], [0, 0.1, 9]], size=200)


@pytest.mark.parametrize("method", ["cavi", "natural"])
def test_a_full_q_reaches_the_data(method: Any) -> None:
    model = GaussianFit(form="full", method=method, tol=1e-12).fit(ROWS)
    np.testing.assert_allclose(model.mean_, ROWS.mean(0), atol=1e-4)
    np.testing.assert_allclose(model.covariance_, np.cov(ROWS.T), atol=1e-4)
    assert model.elbo_ == pytest.approx(0, abs=1e-8)
    assert model.converged_


@pytest.mark.parametrize("method", ["cavi", "natural"])
def test_a_mean_field_q_has_the_means_and_too_small_variances(method: Any) -> None:
    model = GaussianFit(method=method, tol=1e-13).fit(ROWS)
    precision = np.linalg.inv(np.cov(ROWS.T))
    np.testing.assert_allclose(model.mean_, ROWS.mean(0), atol=1e-4)
    np.testing.assert_allclose(model.covariance_, np.diag(1 / np.diag(precision)), rtol=1e-4)
    # KL between the two normals, by hand
    expected = -0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert model.elbo_ == pytest.approx(expected, abs=1e-6)


def test_gradient_ascent_climbs_too() -> None:
    model = GaussianFit(method="gradient", rho=0.05, max_iter=400).fit(ROWS[:, :2])
    assert (np.diff(model.path_elbo_) > -1e-9).all()
    np.testing.assert_allclose(model.mean_, ROWS[:, :2].mean(0), atol=0.05)


def test_the_path_begins_at_the_start_and_ends_at_the_posterior() -> None:
    model = GaussianFit(distance=2.0, width=0.5).fit(ROWS)
    scales = ROWS.std(0, ddof=1)
    np.testing.assert_allclose(model.path_mean_[0], ROWS.mean(0) - 2 * scales)
    np.testing.assert_allclose(model.path_covariance_[0], np.diag((0.5 * scales) ** 2))
    np.testing.assert_array_equal(model.path_mean_[-1], model.mean_)
    np.testing.assert_array_equal(model.path_covariance_[-1], model.covariance_)
    assert len(model.path_mean_) == len(model.path_covariance_) == len(model.path_elbo_) == model.n_iter_ + 1
    np.testing.assert_array_equal(model.path_elbo_[1:], model.elbo_trace_)
    p = stats.multivariate_normal(ROWS.mean(0), np.cov(ROWS.T))
    draws = np.random.default_rng(1).normal(model.path_mean_[0], 0.5 * scales, size=(40_000, 3))
    log_ratio = stats.norm.logpdf(draws, model.path_mean_[0], 0.5 * scales).sum(1) - p.logpdf(draws)
    assert -model.path_elbo_[0] == pytest.approx(log_ratio.mean(), abs=5 * log_ratio.std() / 200)


def test_units_do_not_matter_to_the_natural_gradient_but_to_the_plain_one() -> None:
    units = np.array([1.0, 1000.0, 0.01])
    natural = [GaussianFit().fit(x).path_elbo_ for x in (ROWS, ROWS * units)]
    np.testing.assert_allclose(natural[0], natural[1], rtol=1e-6, atol=1e-8)
    plain = [GaussianFit(method="gradient", rho=1e-3, max_iter=5).fit(x).path_elbo_ for x in (ROWS, ROWS * [1, 1, 0.1])]
    assert not np.allclose(plain[0], plain[1], rtol=1e-2)


def test_density_and_disk(tmp_path: Path) -> None:
    model = GaussianFit(form="full").fit(ROWS)
    expected = stats.multivariate_normal(model.mean_, model.covariance_).logpdf(ROWS)
    np.testing.assert_allclose(model.score_samples(ROWS), expected)
    assert model.score(ROWS) == pytest.approx(expected.mean())
    loaded = GaussianFit.load(model.save(tmp_path))
    np.testing.assert_array_equal(loaded.score_samples(ROWS), model.score_samples(ROWS))
    np.testing.assert_array_equal(loaded.path_mean_, model.path_mean_)


def test_the_hook_is_called_and_left_as_it_was() -> None:
    steps: list[int] = []
    model = GaussianFit()
    model.on_step = lambda step, elbo, state: steps.append(step)
    hook = model.on_step
    model.fit(ROWS)
    assert steps == list(range(1, model.n_iter_ + 1))
    assert model.on_step is hook
    plain = GaussianFit().fit(ROWS)
    assert "on_step" not in vars(plain)


def test_ctrl_c_keeps_the_path_so_far() -> None:
    def stop(step: int, *_: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    model = GaussianFit()
    model.on_step = stop
    with pytest.raises(KeyboardInterrupt):
        model.fit(ROWS)
    assert model.n_iter_ == 3
    np.testing.assert_array_equal(model.path_mean_[-1], model.mean_)
    assert len(model.path_mean_) == 4


@pytest.mark.parametrize(
    ("arguments", "rows", "message"),
    [
        ({}, [[1.0, 2.0]], "minimum of 2"),
        ({}, [[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]], "column 0 is constant"),
        ({}, [[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]], "singular"),
        ({}, [[1.0, 2.0], [2.0, 5.0]], "singular"),
        ({}, [[1.0, np.nan], [2.0, 5.0]], "NaN"),
        ({"form": "half"}, ROWS, "form must be"),
        ({"method": "svi"}, ROWS, "method must be"),
        ({"width": 0.0}, ROWS, "width positive, got"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments: dict[str, Any], rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianFit(**arguments).fit(rows)


def test_scikit_learn_accepts_it() -> None:
    failed: dict[str, str] = {}
    for estimator, check in estimator_checks_generator(GaussianFit(form="full", max_iter=200)):
        try:
            check(estimator)
        except SkipTest:
            continue
        except Exception as error:
            failed[getattr(check, "func", check).__name__] = str(error)
    assert not failed
