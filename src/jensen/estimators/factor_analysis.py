"""The scikit-learn faces of Bayesian principal components and factor analysis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from jensen.estimators.base import VariationalEstimator
from jensen.families import MultivariateNormal, Normal
from jensen.inference import Result, State, Svi
from jensen.inference.models.factor_analysis import climb_factors, factor_model, factor_priors, start_factors
from jensen.inference.models.factor_predictive import (
    factor_log_density,
    factor_point,
    factor_sample,
    posterior_factors,
    reconstruction,
)
from jensen.inference.models.incomplete import IncompleteRows

__all__ = ["BayesianFactorAnalysis", "BayesianPCA"]

Array = npt.NDArray[np.float64]

_ROWS = 8192
"""whose moments are in memory at a time"""
_WARM_UP = 10
"""sweeps before relevance determination may switch a factor off"""


class _FactorEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, VariationalEstimator):  # type: ignore[misc]
    """What both share; they differ in whether all columns have the same noise."""

    _shared_noise: ClassVar[bool]
    _stream: Svi | None
    _fitted_rows: int = 0
    _extras: ClassVar[tuple[str, ...]] = ("centre_", "n_features_in_")

    def __init__(
        self,
        n_components: int | None = None,
        *,
        init: str = "pca",
        rotation: bool = True,
        mean_prior: npt.ArrayLike | None = None,
        mean_precision: float | None = None,
        noise_concentration: float = 1e-3,
        noise_rate: float | None = None,
        ard_concentration: float = 1e-3,
        ard_rate: float | None = None,
        method: str = "cavi",
        tol: float = 1e-7,
        max_iter: int = 1000,
        n_init: int = 1,
        batch_size: int | None = None,
        total_size: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.rotation = rotation
        self.mean_prior = mean_prior
        self.mean_precision = mean_precision
        self.noise_concentration = noise_concentration
        self.noise_rate = noise_rate
        self.ard_concentration = ard_concentration
        self.ard_rate = ard_rate
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.batch_size = batch_size
        self.total_size = total_size
        self.random_state = random_state

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Fit to the rows of `X` (N, D), NaN where a value is missing. Rows that are all missing say nothing.

        Args:
            y: ignored.

        Raises:
            ValueError: infinity, a column without any value, fewer than two rows, a wrong shape or argument.
        """
        rows = self._begin(X)
        self._stream, self._fitted_rows = None, len(rows)
        seed = self._seed()
        if self.method == "cavi":
            if self.batch_size is not None:
                raise ValueError("method='cavi' takes all data at once: batch_size is for method='svi'")
            data = rows.compressed()
            self._climb(partial(self._one_climb, data, self._start(data, seed, run)) for run in range(self.n_init))
        else:
            if self.n_init != 1:
                raise ValueError(f"n_init is for method='cavi', not for method={self.method!r}")
            model = factor_model(self._priors, self._start(rows, seed))
            self._infer(model, rows, seed=seed, n_init=1, check=False)
        return self

    def partial_fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Learn from a batch of a stream: a step of stochastic inference, or of Bayesian updating without `total_size`.

        The first batch (unless `fit` came before) sets the origin, the default priors and the start, so it should be
        large and typical. `elbo_trace_` gets an estimate a batch.
        """
        fitted = hasattr(self, "posterior_")
        if fitted and not hasattr(self, "_priors"):
            raise ValueError("a loaded model has no priors to go on from: fit again")
        rows = self._read(X) if fitted else self._begin(X)
        stream = getattr(self, "_stream", None)
        if stream is None:
            start = self._state if fitted else self._start(rows, self._seed())
            stream = self._stream = Svi(factor_model(self._priors, start), self.total_size)
            # What was fitted counts as batches that were seen: the steps go on from there.
            stream.steps = max(1, self._fitted_rows // max(1, len(rows))) if fitted else 0
            self.elbo_trace_ = []
        elbo = stream.partial_fit(rows)
        trace = [*self.elbo_trace_, elbo]
        self._keep(Result(stream.posterior, elbo, trace, False, "a stream has no end", stream.steps))
        return self

    def _begin(self, X: npt.ArrayLike) -> IncompleteRows:
        """Check everything, choose the origin and the priors."""
        self._check_arguments()
        rows = self._array(X, reset=True)
        count = (~np.isnan(rows)).sum(0)
        if not count.all():
            names = getattr(self, "feature_names_in_", np.arange(rows.shape[1]))
            raise ValueError(
                f"columns without any value: {', '.join(map(str, names[count == 0][:5]))} ({int((count == 0).sum())} "
                "in all); leave them out"
            )
        factors = min(rows.shape) if self.n_components is None else self.n_components
        if factors > rows.shape[1]:
            raise ValueError(f"n_components must be at most the number of columns, {rows.shape[1]}; got {factors}")
        self.centre_ = np.nanmean(rows, 0)
        mean = np.zeros(rows.shape[1])
        if self.mean_prior is not None:
            mean = np.broadcast_to(np.asarray(self.mean_prior, np.float64), mean.shape) - self.centre_
        data = self._rows(rows)
        self._priors = factor_priors(
            data,
            factors,
            shared_noise=self._shared_noise,
            mean=torch.as_tensor(mean),
            mean_precision=self.mean_precision,
            noise=(self.noise_concentration, self.noise_rate),
            ard=(self.ard_concentration, self.ard_rate),
        )
        return data

    def _check_arguments(self) -> None:
        if self.init not in ("pca", "random"):
            raise ValueError(f"init must be 'pca' or 'random', got {self.init!r}")
        for name in ("n_components", "n_init", "max_iter", "batch_size", "total_size"):
            value = getattr(self, name)
            optional = name in ("n_components", "batch_size", "total_size")
            if not (optional and value is None) and not (isinstance(value, Integral) and int(value) >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1{', or None' * optional}; got {value!r}")
        for name in ("mean_precision", "noise_concentration", "noise_rate", "ard_concentration", "ard_rate"):
            value = getattr(self, name)
            optional = not name.endswith("concentration")
            if not (optional and value is None) and not (isinstance(value, Real) and 0 < float(value) < np.inf):
                raise ValueError(f"{name} must be a positive number{', or None' * optional}; got {value!r}")

    def _start(self, rows: IncompleteRows, seed: int, run: int = 0) -> State:
        generator = torch.Generator().manual_seed(seed + run)
        return start_factors(rows, self._priors, generator, random=self.init == "random" or run > 0)

    def _one_climb(self, rows: IncompleteRows, start: State, callback: Any) -> Result:
        options: dict[str, Any] = {"tol": self.tol, "max_steps": self.max_iter, "rotation": self.rotation}
        return climb_factors(self._priors, start, rows, warm_up=_WARM_UP, callback=callback, **options)

    # --- what was learned -------------------------------------------------------------------------------------------

    def _keep(self, result: Result) -> None:
        """Most relevant factor first, the mean in the rows' own coordinates."""
        q: Any = dict(result.posterior)
        order = torch.argsort(q["loadings"].mean_parameters.outer.diagonal(dim1=-2, dim2=-1).sum(0), descending=True)
        linear, precision = q["loadings"].natural_parameters
        q["loadings"] = MultivariateNormal(
            MultivariateNormal.Natural(linear[:, order], precision[:, order][:, :, order])
        )
        q["ard"] = q["ard"][order]
        q["mean"] = _shifted(q["mean"], self.centre_)
        super()._keep(Result(q, result.elbo, result.elbo_trace, result.converged, result.reason, result.steps))

    def _finish(self) -> None:
        q: Any = self.posterior_
        self._state = State(q={**q, "mean": _shifted(q["mean"], -self.centre_)})
        loadings, mean, noise = factor_point(self._state)
        self.components_: Array = loadings.mT.numpy().copy()
        self.mean_: Array = mean.numpy() + self.centre_
        self.noise_variance_: Any = float(noise[0]) if self._shared_noise else noise.numpy().copy()
        squares = q["loadings"].mean_parameters.outer.diagonal(dim1=-2, dim2=-1).sum(0).numpy()
        self.relevance_: Array = squares
        self.n_relevant_ = int(((self.components_**2).sum(1) > 0.5 * squares).sum())

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def transform(self, X: npt.ArrayLike) -> Array:
        """Posterior means of the factors given what is observed of each row, (N, K); 0 where nothing is."""
        return np.concatenate([posterior_factors(self._state, b).mean_parameters.mean for b in self._batches(X)])

    def inverse_transform(self, Z: npt.ArrayLike) -> Array:
        """Rows (N, D) that factors (N, K) stand for, without noise."""
        check_is_fitted(self, "components_")
        factors = check_array(Z, dtype=np.float64)
        if factors.shape[1] != len(self.components_):
            raise ValueError(f"Z must have one column for each of {len(self.components_)} factors, got {factors.shape}")
        rows: Array = factors @ self.components_ + self.mean_
        return rows

    def impute(self, X: npt.ArrayLike) -> tuple[Array, Array]:
        """`X` with its missing values replaced by their posterior means, and standard deviations, (N, D) both.

        The standard deviation counts what is unknown of the factors, the loadings and the mean under q, and the noise
        1 / E[precision]; it is 0 where a value was given.
        """
        check_is_fitted(self, "posterior_")
        rows = self._array(X, reset=False)
        missing = np.isnan(rows)
        values, deviations = rows.copy(), np.zeros_like(rows)
        for begin in range(0, len(rows), _ROWS):
            part = slice(begin, begin + _ROWS)
            mean, variance = reconstruction(self._state, self._rows(rows[part]))
            values[part] = np.where(missing[part], mean.numpy() + self.centre_, rows[part])
            deviations[part] = np.where(missing[part], variance.sqrt().numpy(), 0.0)
        return values, deviations

    def score_samples(self, X: npt.ArrayLike) -> Array:
        """Log density of what is observed of each row, nats, (N,).

        Parameters at their posterior means (loadings, mean, noise precision), factors integrated out: what
        scikit-learn's PCA and FactorAnalysis call a score. 0 for a row of which nothing is observed.
        """
        return np.concatenate([factor_log_density(self._state, b) for b in self._batches(X)])

    def score(self, X: npt.ArrayLike, y: Any = None) -> float:
        """The mean of `score_samples`, nats a row."""
        return float(self.score_samples(X).mean())

    def get_covariance(self) -> Array:
        """Covariance (D, D) of a row, parameters at their posterior means: W W^T + noise."""
        check_is_fitted(self, "components_")
        covariance: Array = self.components_.T @ self.components_
        covariance.flat[:: len(covariance) + 1] += self.noise_variance_
        return covariance

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Array:
        """Rows (n, D) drawn from the model, parameters at their posterior means.

        Args:
            random_state: default that of the estimator.
        """
        check_is_fitted(self, "posterior_")
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        state = check_random_state(self.random_state if random_state is None else random_state)
        generator = torch.Generator().manual_seed(int(state.randint(2**31 - 1)))
        rows: Array = factor_sample(self._state, n_samples, generator).numpy() + self.centre_
        return rows

    # --- rows -------------------------------------------------------------------------------------------------------

    def _array(self, X: npt.ArrayLike, *, reset: bool) -> Array:
        options: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": False}
        rows: Array = validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1, **options)
        infinite = np.isinf(rows)
        if infinite.any():
            row, column = (int(i) for i in np.argwhere(infinite)[0])
            raise ValueError(
                f"Input X contains infinity: row {row}, column {column} (of {int(infinite.sum())} such entries); NaN "
                "marks a missing value"
            )
        return rows

    def _rows(self, rows: Array) -> IncompleteRows:
        return IncompleteRows.from_array(torch.from_numpy(rows - self.centre_))

    def _read(self, X: npt.ArrayLike) -> IncompleteRows:
        return self._rows(self._array(X, reset=False))

    def _batches(self, X: npt.ArrayLike) -> Iterator[IncompleteRows]:
        check_is_fitted(self, "posterior_")
        rows = self._array(X, reset=False)
        return (self._rows(rows[i : i + _ROWS]) for i in range(0, len(rows), _ROWS))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _shifted(q: Normal, by: Array) -> Normal:
    loc, scale = q.standard_parameters
    return Normal.from_standard(loc + torch.as_tensor(by), scale)


class BayesianPCA(_FactorEstimator):
    """Probabilistic principal components with a posterior over all parameters (Bishop 1999), missing values allowed.

    Rows are x = W z + mean + noise with standard normal factors z and the same noise in every column. Each factor's
    loadings have a precision of their own, which switches off factors that the data do not need (automatic relevance
    determination): `n_components` is an upper limit. Missing values (NaN) are integrated out: whether a value is
    missing must not depend on the value.

    Factors are determined up to their sign. After every sweep of coordinate ascent the mean of the factors is moved
    into the data's mean, and the factors are rotated to where the bound is highest (Luttinen & Ilin 2010): without that
    it creeps along a plateau for hundreds of sweeps.

    Args:
        n_components: K, at most the number of columns D; default the smaller of rows and columns.
        init: "pca" (principal axes, missing values at their column's mean) or "random".
        rotation: False leaves out the moves described above.
        mean_prior: of the mean, a number or (D,), default the columns' means.
        mean_precision: of that prior, default 1e-3 over the mean variance of the columns.
        noise_concentration, noise_rate: of the Gamma prior of the noise precision; default rate: the concentration
            times the mean variance of the columns (factor analysis: each column's own).
        ard_concentration, ard_rate: of the Gamma priors of the loadings' precisions; default rate as above (the mean).
        method: "cavi", "svi" (minibatches of `batch_size` rows), "natural" or "gradient"; only "cavi" rotates.
        tol: stop when a sweep changes the ELBO by less than tol x |ELBO|.
        max_iter: most sweeps.
        n_init: starts, all but the first random; the fit with the highest ELBO is kept.
        batch_size: rows of a minibatch.
        total_size: rows of the whole stream that `partial_fit` sees; None: an endless one, where the posterior of what
            was seen is the prior of the next batch.
        random_state: seed of starts, minibatches and samples.

    Attributes:
        posterior_: "loadings" (D multivariate normals of dimension K), "mean" (D normals), "noise" and "ard" (gammas).
        components_: E[W]^T, (K, D), most relevant factor first.
        mean_: (D,).
        noise_variance_: 1 / E[noise precision]; a number here, (D,) for `BayesianFactorAnalysis`.
        relevance_: variance that each factor gives to a row, sum_d E[w_dk^2], (K,).
        n_relevant_: how many factors are kept: those whose loadings are more signal than uncertainty, that is, whose
            squared mean is over half of E[w^2].
        elbo_, elbo_trace_, converged_, stop_reason_, n_iter_, n_features_in_: as in `VariationalEstimator`.
    """

    _shared_noise = True


class BayesianFactorAnalysis(_FactorEstimator):
    """Factor analysis: as `BayesianPCA`, but every column has noise of its own (`noise_variance_` is (D,)).

    So a change of one column's units changes its loadings and nothing else about it (but for the shared prior of the
    loadings), and what only one column shows counts as noise.
    """

    _shared_noise = False
