"""BayesianMixture against scikit-learn, Gibbs draws, itself in other coordinates, and bad input."""

from __future__ import annotations

import pickle
from itertools import permutations
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from scipy.special import digamma, gammaln
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import BayesianGaussianMixture
from sklearn.utils.estimator_checks import estimator_checks_generator

from jensen.errors import CheckpointError
from jensen.estimators.mixture import BayesianMixture

COVARIANCES = ["full", "diag", "spherical", "tied"]
WEIGHTS = ["dirichlet", "process"]
REFERENCES = Path(__file__).parents[1] / "references"

every_covariance = pytest.mark.parametrize("covariance", COVARIANCES)
every_weight_prior = pytest.mark.parametrize("weights", WEIGHTS)


def clusters(seed: int = 0, n: int = 300, dim: int = 3, count: int = 3, spread: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = spread * rng.normal(size=(count, dim))
    return 7 + centres[rng.integers(count, size=n)] + rng.normal(size=(n, dim)) * np.linspace(0.5, 2, dim)


def separated(n: int = 300) -> np.ndarray:
    """Three clusters that no start confuses, of different size."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 10.0, 0.0], [10.0, 0.0, 5.0], [-10.0, -10.0, 15.0]])
    return 7 + centres[rng.choice(3, p=[0.2, 0.5, 0.3], size=n)] + rng.normal(size=(n, 3)) * [0.5, 1.0, 2.0]


def quiet(**settings: Any) -> BayesianMixture:
    return BayesianMixture(**{"random_state": 0, **settings})


# --- scikit-learn -----------------------------------------------------------------------------------------------------


class Corrected(BayesianGaussianMixture):  # type: ignore[misc]
    """scikit-learn's, but the last stick is 1, and the expected log determinant is that of the model's own precision.

    For "diag" and "spherical" it takes the log determinant of a D x D Wishart matrix, where the precisions are D
    independent Gammas, or one.
    """

    def _estimate_log_weights(self, **options: Any) -> np.ndarray:
        log = super()._estimate_log_weights(**options)
        if self.weight_concentration_prior_type == "dirichlet_process":
            a, b = self.weight_concentration_
            log[-1] -= digamma(a[-1]) - digamma(a[-1] + b[-1])
        return log

    def _estimate_log_prob(self, X: np.ndarray, **options: Any) -> np.ndarray:
        log = super()._estimate_log_prob(X, **options)
        nu, dim = self.degrees_of_freedom_, X.shape[1]
        wishart = digamma((nu - np.arange(dim)[:, None]) / 2).sum(0)
        if self.covariance_type == "diag":
            log += 0.5 * (dim * digamma(nu / 2) - wishart)
        elif self.covariance_type == "spherical":
            log += 0.5 * (dim * (digamma(nu * dim / 2) - np.log(dim)) - wishart)
        return log


def peer(kind: type[BayesianGaussianMixture], covariance: str, weights: str, sweeps: int) -> BayesianGaussianMixture:
    names = {"dirichlet": "dirichlet_distribution", "process": "dirichlet_process"}
    return kind(
        n_components=3,
        covariance_type=covariance,
        weight_concentration_prior_type=names[weights],
        weight_concentration_prior=0.3,
        mean_precision_prior=0.5,
        reg_covar=0,
        tol=0,
        max_iter=sweeps,
        random_state=0,
    )


def ours_like(x: np.ndarray, covariance: str, weights: str, sweeps: int) -> BayesianMixture:
    """With the priors and the first responsibilities of `peer`, which counts rows as N / K for "tied"."""
    tied = {"degrees_of_freedom": 3 * x.shape[1], "covariance_prior": 3 * np.cov(x.T)} if covariance == "tied" else {}
    labels = KMeans(3, n_init=1, random_state=np.random.RandomState(0)).fit(x).labels_
    model = quiet(
        n_components=3,
        covariance_type=covariance,
        weight_prior=weights,
        weight_concentration=0.3,
        mean_precision=0.5,
        max_iter=sweeps,
        tol=0,
        **tied,
    )
    return model.fit(x, responsibilities=np.eye(3)[labels])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("sweeps", [1, 7])
@every_covariance
@every_weight_prior
def test_parameters_are_scikit_learns_after_the_same_sweeps(covariance: str, weights: str, sweeps: int) -> None:
    """Unchanged scikit-learn where the models agree, else with its two deviations corrected (see `Corrected`)."""
    x = clusters()
    if weights == "process":  # by size, so that ours does not number them anew
        sizes = np.bincount(KMeans(3, n_init=1, random_state=np.random.RandomState(0)).fit(x).labels_)
        x = x if (np.diff(sizes) <= 0).all() else clusters(seed=5)
    kind = BayesianGaussianMixture if weights == "dirichlet" and covariance in ("full", "tied") else Corrected
    theirs = peer(kind, covariance, weights, sweeps).fit(x)
    ours = ours_like(x, covariance, weights, sweeps)
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-9)
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.mean_precision_, theirs.mean_precision_, rtol=1e-9)
    if covariance != "tied":
        np.testing.assert_allclose(ours.degrees_of_freedom_, theirs.degrees_of_freedom_, rtol=1e-9)
    if weights == "dirichlet":
        np.testing.assert_allclose(ours.weights_, theirs.weights_, rtol=1e-9)
    else:
        a, b = ours.posterior_["weights"].standard_parameters
        np.testing.assert_allclose(a.numpy(), theirs.weight_concentration_[0][:-1], rtol=1e-9)
        np.testing.assert_allclose(b.numpy(), theirs.weight_concentration_[1][:-1], rtol=1e-9)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=1e-6, atol=1e-9)


def test_the_bound_is_scikit_learns_with_its_constants() -> None:
    """lower_bound_ + log C(alpha0) + K log B(W0, nu0) + K D/2 log kappa0 - N D/2 log 2 pi, at convergence."""
    x = clusters()
    (n, dim), count, nu = x.shape, 3, 3
    theirs = peer(BayesianGaussianMixture, "full", "dirichlet", 500).fit(x)
    ours = ours_like(x, "full", "dirichlet", 500)
    log_c = gammaln(count * 0.3) - count * gammaln(0.3)
    log_b = nu / 2 * np.linalg.slogdet(np.cov(x.T))[1] - nu * dim / 2 * np.log(2)
    log_b -= gammaln((nu - np.arange(dim)) / 2).sum()
    constants = log_c + count * (log_b + dim / 2 * np.log(0.5)) - n * dim / 2 * np.log(2 * np.pi)
    assert ours.elbo_ == pytest.approx(theirs.lower_bound_ + constants, rel=1e-10)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_checks() -> None:
    estimator = BayesianMixture(max_iter=100)
    failed = []
    for model, check in estimator_checks_generator(estimator):
        try:
            check(model)
        except SkipTest:
            continue
        except Exception as error:
            failed.append((getattr(check, "func", check).__name__, str(error)[:300]))
    assert not failed


# --- exact answers ----------------------------------------------------------------------------------------------------


def test_the_predictive_density_is_that_of_long_gibbs_draws() -> None:
    """Of separated clusters: where they overlap much, q is narrower than the posterior."""
    stored = np.load(REFERENCES / "mixture_gibbs.npz")
    model = quiet(
        n_components=3,
        weight_concentration=float(stored["alpha"]),
        mean_prior=stored["prior_mean"],
        mean_precision=float(stored["kappa"]),
        degrees_of_freedom=float(stored["nu"]),
        covariance_prior=stored["inverse_scale"],
        n_init=3,
    ).fit(stored["x"])
    found, expected = np.exp(model.score_samples(stored["grid"])), stored["density"]
    large = expected > 0.01 * expected.max()
    assert large.sum() > 90
    error = 5 * stored["standard_error"] + 0.02 * expected
    assert (np.abs(found - expected) < error)[large].all()
    assert np.abs(found - expected).sum() < 0.002 * expected.sum()


# --- coordinates ------------------------------------------------------------------------------------------------------


@every_covariance
@every_weight_prior
def test_far_from_the_origin_the_posterior_is_the_same_shifted(covariance: str, weights: str) -> None:
    """Rows at 10^6, where x x^T has 4 digits left of the covariance: 10^-8, as exact as the rows themselves."""
    x = separated()
    x = np.round(x * 2**20) / 2**20  # so that adding 2^20 rounds nothing
    offset = 2.0**20
    near, far = (quiet(n_components=3, covariance_type=covariance, weight_prior=weights, tol=1e-9) for _ in range(2))
    near.fit(x)
    far.fit(x + offset)
    np.testing.assert_allclose(far.means_ - offset, near.means_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(far.covariances_, near.covariances_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(far.weights_, near.weights_, rtol=1e-8)
    assert far.elbo_ == pytest.approx(near.elbo_, rel=1e-10)
    np.testing.assert_allclose(far.score_samples(x + offset), near.score_samples(x), rtol=0, atol=1e-8)
    np.testing.assert_allclose(far.predict_proba(x + offset), near.predict_proba(x), rtol=0, atol=1e-8)


@every_covariance
def test_the_bound_and_the_density_are_those_of_the_rows_as_given(covariance: str) -> None:
    """In other units the density of a row changes by the Jacobian, and so does the bound; nothing else does."""
    x = separated()
    unit = np.full(3, 1000.0) if covariance == "spherical" else np.array([1000.0, 1e-3, 7.0])
    one, other = (quiet(n_components=3, covariance_type=covariance).fit(rows) for rows in (x, x * unit))
    jacobian = np.log(unit).sum()
    assert other.elbo_ == pytest.approx(one.elbo_ - len(x) * jacobian, rel=1e-9)
    np.testing.assert_allclose(other.means_, one.means_ * unit, rtol=1e-7)
    np.testing.assert_allclose(other.score_samples(x * unit), one.score_samples(x) - jacobian, rtol=0, atol=1e-7)


@every_covariance
def test_the_posterior_families_are_in_the_rows_coordinates(covariance: str) -> None:
    model = quiet(n_components=3, covariance_type=covariance).fit(clusters())
    loc = model.posterior_["components"].standard_parameters.loc.numpy()
    np.testing.assert_allclose(loc.reshape(3, 3), model.means_, rtol=1e-9)
    mean = model.posterior_["components"].mean_parameters.precision.numpy()
    precision = {"full": np.linalg.inv, "tied": np.linalg.inv}.get(covariance, lambda c: 1 / c)(model.covariances_)
    np.testing.assert_allclose(mean, precision, rtol=1e-8, atol=1e-10)


def test_numbers_near_the_limits_of_float64() -> None:
    x = separated()
    usual = quiet(n_components=3).fit(x)
    for factor in (1e150, 1e-150):
        model = quiet(n_components=3).fit(x * factor)
        np.testing.assert_allclose(model.means_ / factor, usual.means_, rtol=1e-9)
        np.testing.assert_allclose(model.covariances_ / factor / factor, usual.covariances_, rtol=1e-9, atol=1e-12)


# --- behaviour --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_fit_and_more_starts_no_worse_one() -> None:
    x = clusters(seed=3, count=6, spread=2.0)
    one, two = (quiet(n_components=6, init="random").fit(x) for _ in range(2))
    np.testing.assert_array_equal(one.means_, two.means_)
    assert one.elbo_trace_ == two.elbo_trace_
    best = quiet(n_components=6, init="random", n_init=8).fit(x)
    assert best.elbo_ > one.elbo_
    other = quiet(n_components=6, init="random", random_state=4).fit(x)
    assert not np.array_equal(other.means_, one.means_)


@every_covariance
def test_samples_have_the_density_of_the_rows(covariance: str) -> None:
    x = separated(n=2000)
    w = {"diag": np.ones(3), "spherical": 1.0}.get(covariance, np.eye(3))
    model = quiet(n_components=3, covariance_type=covariance, covariance_prior=w, mean_precision=1e-3).fit(x)
    draws, labels = model.sample(20_000)
    assert draws.shape == (20_000, 3)
    assert set(labels) == {0, 1, 2}
    np.testing.assert_array_equal(draws, model.sample(20_000)[0])
    assert not np.array_equal(draws, model.sample(20_000, random_state=1)[0])
    np.testing.assert_allclose(draws.mean(0), x.mean(0), atol=0.1)
    if covariance == "full":
        np.testing.assert_allclose(np.cov(draws.T), np.cov(x.T), rtol=0.1, atol=0.2)
    assert model.score(draws) == pytest.approx(model.score(x), abs=0.1)


def test_a_process_leaves_old_faithful_two_components(data_directory: Path) -> None:
    x = np.loadtxt(data_directory / "old_faithful.csv", delimiter=",", skiprows=1)
    model = quiet(n_components=10, weight_prior="process", weight_concentration=0.1, max_iter=5000).fit(x)
    assert model.converged_
    assert (np.diff(model.elbo_trace_) >= -1e-9 * abs(model.elbo_)).all()
    assert (model.weights_ > 0.02).tolist() == [True] * 2 + [False] * 8
    np.testing.assert_allclose(model.means_[:2], [[4.29, 80.0], [2.05, 54.6]], atol=0.3)
    assert np.bincount(model.predict(x), minlength=10)[:2].sum() == len(x)


def test_a_process_numbers_components_by_size() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 1, size=(n, 2)) for c, n in ((0, 30), (10, 200), (20, 90))])
    r = np.repeat(np.eye(3), [30, 200, 90], axis=0)
    model = quiet(n_components=3, weight_prior="process").fit(x, responsibilities=r)
    assert (np.diff(model.weights_) <= 0).all()
    np.testing.assert_allclose(model.means_[:, 0], [10, 20, 0], atol=0.5)
    assert (np.diff(model.elbo_trace_) >= -1e-9).all()
    assert model.n_iter_ == len(model.elbo_trace_)


@every_covariance
@every_weight_prior
def test_minibatches_reach_the_fit_on_all_rows(covariance: str, weights: str) -> None:
    x = separated(n=1500)
    whole = quiet(n_components=3, covariance_type=covariance, weight_prior=weights).fit(x)
    settings = {"n_components": 3, "covariance_type": covariance, "weight_prior": weights}
    svi = quiet(**settings, method="svi", batch_size=150, max_iter=5, tol=0).fit(x)
    stream = quiet(**settings, total_size=len(x))
    for _ in range(2):
        for rows in np.split(x, 10):
            stream.partial_fit(rows)
    endless = quiet(**settings)
    for rows in np.split(x, 10):
        endless.partial_fit(rows)
    order = np.argsort(whole.means_[:, 0])
    for model in (svi, stream, endless):
        here = np.argsort(model.means_[:, 0])
        np.testing.assert_allclose(model.means_[here], whole.means_[order], atol=0.15)
        np.testing.assert_allclose(model.weights_[here], whole.weights_[order], atol=0.02)
    assert svi.elbo_ == pytest.approx(whole.elbo_, rel=1e-3)
    assert len(stream.elbo_trace_) == stream.n_iter_ == 20


@every_covariance
def test_an_endless_stream_of_one_component_is_exact(covariance: str) -> None:
    """Nothing is approximated there: batch after batch leads to the posterior of all."""
    x = clusters()
    w = {"diag": np.ones(3), "spherical": 1.0}.get(covariance, np.eye(3))
    settings: dict[str, Any] = {"covariance_type": covariance, "mean_prior": np.zeros(3), "covariance_prior": w}
    whole, stream = quiet(**settings).fit(x), quiet(**settings)
    for rows in np.split(x, 5):
        stream.partial_fit(rows)
    np.testing.assert_allclose(stream.means_, whole.means_, rtol=1e-9)
    np.testing.assert_allclose(stream.covariances_, whole.covariances_, rtol=1e-8)
    continued = quiet(**settings).fit(x[:100]).partial_fit(x[100:])
    np.testing.assert_allclose(continued.means_, whole.means_, rtol=1e-9)
    np.testing.assert_allclose(continued.degrees_of_freedom_, whole.degrees_of_freedom_, rtol=1e-9)


@pytest.mark.parametrize(
    "options", [{"chunk_size": 7}, {"cache_features": True}, {"chunk_size": 7, "cache_features": True}]
)
def test_chunks_and_caches_change_nothing(options: dict[str, Any]) -> None:
    x = clusters()
    one, other = quiet(n_components=3).fit(x), quiet(n_components=3, **options).fit(x)
    np.testing.assert_allclose(other.means_, one.means_, rtol=1e-9)
    np.testing.assert_allclose(other.predict_proba(x), one.predict_proba(x), rtol=0, atol=1e-9)


@every_covariance
@every_weight_prior
def test_save_and_load(covariance: str, weights: str, tmp_path: Path) -> None:
    x = clusters() + 1e6
    model = quiet(n_components=3, covariance_type=covariance, weight_prior=weights).fit(x)
    model.save(tmp_path / "model")
    again = BayesianMixture.load(tmp_path / "model")
    np.testing.assert_allclose(again.score_samples(x), model.score_samples(x), rtol=0, atol=1e-9)
    np.testing.assert_allclose(again.predict_proba(x), model.predict_proba(x), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(again.sample(5)[1], model.sample(5)[1])
    assert again.elbo_trace_ == model.elbo_trace_
    more = again.partial_fit(x[:50])
    assert more.mean_precision_.sum() == pytest.approx(model.mean_precision_.sum() + 50)
    assert again.get_params() == model.get_params()
    again = BayesianMixture.load(tmp_path / "model").set_params(total_size=100)
    with pytest.raises(ValueError, match="total_size must be None"):
        again.partial_fit(x)
    (tmp_path / "model" / "posterior.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError):
        BayesianMixture.load(tmp_path / "model")


def test_pickle_and_clone() -> None:
    x = clusters()
    model = quiet(n_components=3, total_size=600).fit(x).partial_fit(x)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(x), model.score_samples(x))
    np.testing.assert_array_equal(again.partial_fit(x).means_, model.partial_fit(x).means_)
    assert not hasattr(clone(model), "means_")


def test_iris_with_a_covariance_of_its_own_for_each_species() -> None:
    data = load_iris()
    model = quiet(n_components=3, covariance_prior=np.diag(np.full(4, 0.1)), n_init=3).fit(data.data)
    labels = model.predict(data.data)
    agreement = max((np.array(order)[labels] == data.target).mean() for order in permutations(range(3)))
    assert agreement > 0.95


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_entries_that_are_no_numbers_are_located(value: float, word: str) -> None:
    x = clusters()
    model = quiet(n_components=2).fit(x)
    x[17, 2] = value
    for call in (quiet().fit, quiet().partial_fit, model.predict, model.score_samples):
        with pytest.raises(ValueError, match=f"contains {word}: row 17, column 2"):
            call(x)


def test_a_fit_that_is_refused_leaves_the_old_one() -> None:
    x = clusters()
    model = quiet(n_components=2).fit(x)
    before = model.score_samples(x)
    with pytest.raises(ValueError, match="columns without variation"):
        model.fit(np.full((20, 3), 5.0))
    np.testing.assert_array_equal(model.score_samples(x), before)


def test_wrong_shapes() -> None:
    model = quiet(n_components=2).fit(clusters())
    with pytest.raises(ValueError, match="2D array"):
        quiet().fit(np.zeros(5))
    with pytest.raises(ValueError, match="expecting 3 features"):
        model.predict(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="expecting 3 features"):
        model.partial_fit(np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        quiet().fit(np.zeros((0, 2)))
    with pytest.raises(NotFittedError):
        quiet().predict(clusters())
    with pytest.raises(ValueError, match=r"shape \(rows, components\) = \(300, 2\)"):
        quiet(n_components=2).fit(clusters(), responsibilities=np.ones((300, 3)) / 3)
    with pytest.raises(ValueError, match="row 0 is"):
        quiet(n_components=2).fit(clusters(), responsibilities=np.ones((300, 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "n_components must be a whole number"),
        ({"n_components": 2.5}, "n_components must be a whole number"),
        ({"covariance_type": "banded"}, "covariance_type must be one of full, diag"),
        ({"weight_prior": "uniform"}, "weight_prior must be one of"),
        ({"init": "zeros"}, "init must be one of"),
        ({"weight_concentration": -1.0}, "weight_concentration must be a positive number"),
        ({"mean_precision": 0}, "mean_precision must be a positive number"),
        ({"mean_prior": [0.0]}, "mean_prior must have one finite entry a column, 3"),
        ({"mean_prior": [0.0, np.nan, 0.0]}, "mean_prior must have one finite entry"),
        ({"degrees_of_freedom": 1.5}, "above D - 1 = 2"),
        ({"degrees_of_freedom": np.nan}, "degrees_of_freedom must be a positive number"),
        ({"covariance_prior": np.eye(2)}, r"of shape \(3, 3\)"),
        ({"covariance_prior": np.ones((3, 3))}, "symmetric and positive definite"),
        ({"covariance_prior": np.triu(np.ones((3, 3)))}, "symmetric and positive definite"),
        ({"covariance_type": "diag", "covariance_prior": [1.0, 0.0, 1.0]}, "must be positive"),
        ({"covariance_type": "spherical", "covariance_prior": -1.0}, "must be positive"),
        ({"covariance_type": "spherical", "covariance_prior": np.ones(3)}, r"of shape \(\)"),
        ({"method": "em"}, "method must be one of"),
        ({"method": "svi", "batch_size": 0}, "batch_size must be a whole number"),
        ({"chunk_size": -5}, "chunk_size must be a whole number"),
        ({"total_size": 0}, "total_size must be a whole number"),
        ({"tol": -1.0}, "tol must be 0 or more"),
    ],
)
def test_wrong_arguments_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quiet(**settings).fit(clusters())


def test_given_responsibilities_are_one_start() -> None:
    with pytest.raises(ValueError, match="n_init must be 1"):
        quiet(n_components=1, n_init=2).fit(clusters(), responsibilities=np.ones((300, 1)))


@every_covariance
def test_one_row_needs_a_prior_and_then_updates_it(covariance: str) -> None:
    row = np.array([[1.0, 2.0]])
    with pytest.raises(ValueError, match="one row"):
        quiet(covariance_type=covariance).fit(row)
    w = {"diag": np.ones(2), "spherical": 1.0}.get(covariance, np.eye(2))
    model = quiet(covariance_type=covariance, covariance_prior=w, mean_prior=[0.0, 0.0]).fit(row)
    np.testing.assert_allclose(model.means_, row / 2)
    np.testing.assert_allclose(model.mean_precision_, [2.0])


@every_covariance
@every_weight_prior
def test_more_components_than_rows_keep_their_prior(covariance: str, weights: str) -> None:
    x = clusters(n=6, dim=2)
    model = quiet(n_components=15, covariance_type=covariance, weight_prior=weights).fit(x)
    assert np.isfinite(model.elbo_)
    counts = model.mean_precision_ - 1.0
    assert counts.sum() == pytest.approx(6)
    assert (np.diff(model.elbo_trace_) >= -1e-9 * abs(model.elbo_)).all()
    empty = counts < 1e-6
    assert empty.sum() >= (9 if weights == "dirichlet" else 1)
    np.testing.assert_allclose(model.means_[empty], np.broadcast_to(x.mean(0), (empty.sum(), 2)), atol=1e-5)


@every_covariance
def test_constant_and_dependent_columns(covariance: str) -> None:
    x = clusters()
    constant = np.column_stack([x, np.full(len(x), 3.0)])
    w = {"diag": np.ones(4), "spherical": 1.0}.get(covariance, np.eye(4))
    if covariance == "spherical":
        assert np.isfinite(quiet(n_components=2, covariance_type=covariance).fit(constant).elbo_)
        with pytest.raises(ValueError, match=r"columns without variation \(0, 1\)"):
            quiet(covariance_type=covariance).fit(np.ones((5, 2)))
    else:
        with pytest.raises(ValueError, match=r"columns without variation \(3\)"):
            quiet(covariance_type=covariance).fit(constant)
    model = quiet(n_components=2, covariance_type=covariance, covariance_prior=w).fit(constant)
    np.testing.assert_allclose(model.means_[:, 3], 3.0)
    dependent = np.column_stack([x, x @ [1.0, 2.0, -1.0]])
    if covariance in ("full", "tied"):
        with pytest.raises(ValueError, match="singular: columns are linearly dependent"):
            quiet(covariance_type=covariance).fit(dependent)
    assert np.isfinite(quiet(covariance_type=covariance, covariance_prior=w).fit(dependent).elbo_)


@every_covariance
def test_rows_that_are_all_alike_but_two(covariance: str) -> None:
    x = np.concatenate([np.zeros((50, 2)), [[1.0, 0.0], [0.0, 1.0]]])
    model = quiet(n_components=4, covariance_type=covariance).fit(x)
    assert np.isfinite(model.elbo_)
    assert (np.diff(model.elbo_trace_) >= -1e-9 * abs(model.elbo_)).all()
    assert np.isfinite(model.score_samples(x)).all()


def test_a_fit_that_is_cut_short_says_so() -> None:
    with pytest.warns(ConvergenceWarning, match="has not converged"):
        model = quiet(n_components=3, max_iter=1).fit(clusters())
    assert not model.converged_
    assert "max_steps = 1" in model.stop_reason_


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical", "tied"])
def test_counts_are_the_sums_of_responsibilities(covariance: Any) -> None:
    """At a fixed point the posterior's counts are those that its own responsibilities give."""
    rows = np.random.default_rng(3).normal(size=(120, 2)) + np.repeat([[0, 0], [8, 8]], 60, axis=0)
    model = BayesianMixture(4, covariance_type=covariance, weight_prior="process", tol=1e-12, random_state=0).fit(rows)
    np.testing.assert_allclose(model.counts_, model.predict_proba(rows).sum(0), atol=1e-3)
    assert model.counts_.sum() == pytest.approx(len(rows))
