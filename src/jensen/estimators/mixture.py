"""The scikit-learn face of the Bayesian Gaussian mixture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from jensen.estimators.base import VariationalEstimator
from jensen.estimators.mixture_checks import (
    as_responsibilities,
    check_choices,
    check_finite,
    covariance_prior_of,
    degrees_of_freedom_of,
    mean_prior_of,
    positive,
    units_of,
)
from jensen.inference import Result, State, Svi, infer
from jensen.inference.models.mixture import (
    MixturePrior,
    coefficients,
    expected_log_weights,
    mixture_model,
    mixture_prior,
    updated,
)
from jensen.inference.models.mixture_kernels import Points, evidence_and_statistics, log_joint, statistics
from jensen.inference.models.mixture_predictive import (
    StudentMixture,
    components_from,
    expected_covariances,
    expected_means,
    expected_weights,
    mean_precisions_and_degrees,
    placed,
    predictive,
)
from jensen.inference.models.mixture_start import Init, MixtureStart

__all__ = ["BayesianMixture"]

Array = npt.NDArray[np.float64]

_ROWS = 65_536
_RENUMBERINGS = 10
_FIRST_SWEEPS = 20


class BayesianMixture(DensityMixin, VariationalEstimator):  # type: ignore[misc]
    """A Gaussian mixture with a posterior over its weights, means and covariances (Bishop 2006, section 10.2).

    Weights have a Dirichlet prior, or that of a Dirichlet process truncated at `n_components` (Blei & Jordan 2006),
    whose last stick is fixed to 1 and whose components are numbered by size. Components have the joint conjugate prior
    of mean and precision, so that the density of a new row is a mixture of Student-t densities, exactly. Empty
    components keep their prior: `n_components` is an upper limit, and may be larger than the number of rows. Default
    priors are scikit-learn's; where components are much narrower than the data as a whole, a smaller `covariance_prior`
    and `mean_precision` widen them less.

    Rows are shifted by their mean and divided by powers of two, which rounds nothing, before products of columns are
    formed, so that data far from the origin lose no digits; ELBO and posterior are those of the rows as given.

    Args:
        n_components: K.
        covariance_type: "full", "diag", "spherical", or "tied" (one covariance for all components).
        weight_prior: "dirichlet" or "process".
        weight_concentration: of each weight of the Dirichlet, default 1 / K; or of the process, default 1.
        mean_prior: (D,), default the mean of the rows.
        mean_precision: how many rows the prior mean is worth.
        degrees_of_freedom: how many rows the prior covariance is worth, default D; above D - 1 for "full" and "tied".
        covariance_prior: the inverse scale W of the precision's Wishart prior, whose mean is degrees_of_freedom W^-1;
            (D, D) for "full" and "tied", its diagonal (D,) for "diag", a number for "spherical". Default: the sample
            covariance (its diagonal, the diagonal's mean), which must not be singular then.
        init: "kmeans", or "random" (the nearest of K random rows).
        n_init: starts; the fit with the highest ELBO is kept. For a "process" they have K, K/2, K/4, ..., 1 clusters in
            turn, so that a few of them find how many are needed.
        method: "cavi", "natural", "gradient", or "svi" (minibatches of `batch_size` rows): see
            `jensen.inference.infer`.
        tol: stop when a sweep changes the ELBO by less than tol x |ELBO|.
        max_iter: most sweeps.
        batch_size: rows of a minibatch.
        chunk_size: rows whose responsibilities are in memory at a time; default: what fits into a processor's cache.
        cache_features: keep the N x P products of columns between sweeps: a little faster, much more memory.
        total_size: number of rows of the whole stream that `partial_fit` sees; None: an endless one, where the
            posterior of what was seen is the prior of the next batch.
        random_state: seed of starts, minibatches and samples.

    Attributes:
        posterior_: "weights" (Dirichlet, or Beta sticks) and "components" (see
            `jensen.inference.models.mixture.MixturePrior`), in the rows' own coordinates. Natural parameters hold
            squares of means: for data 10^4 times as far from the origin as they are wide these lose 8 digits. The
            arrays below, and all methods, do not.
        weights_: E[pi], (K,).
        means_: E[mu], (K, D).
        covariances_: E[precision]^-1; (K, D, D), (D, D) for "tied", (K, D) for "diag", (K,) for "spherical".
        mean_precision_: kappa, (K,).
        degrees_of_freedom_: nu, (K,), a number for "tied".
        centre_, scale_: (D,), the coordinates (x - centre_) / scale_ of the computation.
        elbo_, elbo_trace_, converged_, stop_reason_, n_iter_, n_features_in_: as in `VariationalEstimator`.
    """

    _extras: ClassVar[tuple[str, ...]] = (
        "means_",
        "covariances_",
        "mean_precision_",
        "degrees_of_freedom_",
        "centre_",
        "scale_",
        "n_features_in_",
    )

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: Literal["full", "diag", "spherical", "tied"] = "full",
        weight_prior: Literal["dirichlet", "process"] = "dirichlet",
        weight_concentration: float | None = None,
        mean_prior: npt.ArrayLike | None = None,
        mean_precision: float = 1.0,
        degrees_of_freedom: float | None = None,
        covariance_prior: npt.ArrayLike | None = None,
        init: Init = "kmeans",
        n_init: int = 1,
        method: str = "cavi",
        tol: float = 1e-7,
        max_iter: int = 1000,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        cache_features: bool = False,
        total_size: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.weight_prior = weight_prior
        self.weight_concentration = weight_concentration
        self.mean_prior = mean_prior
        self.mean_precision = mean_precision
        self.degrees_of_freedom = degrees_of_freedom
        self.covariance_prior = covariance_prior
        self.init = init
        self.n_init = n_init
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.cache_features = cache_features
        self.total_size = total_size
        self.random_state = random_state

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, X: npt.ArrayLike, y: Any = None, *, responsibilities: npt.ArrayLike | None = None) -> Self:
        """Fit to the rows of `X` (N, D).

        Args:
            y: ignored.
            responsibilities: (N, K), rows on the simplex: where to begin instead of `init`.

        Raises:
            ValueError: NaN or infinity (the row and column are named), a wrong shape or argument, constant or linearly
                dependent columns without a `covariance_prior`.
        """
        points = self._begin(X)
        self._stream: Svi | None = None
        start = self._starts(points)
        options: dict[str, Any] = {"chunk_size": None}
        if responsibilities is not None:
            if self.n_init != 1:
                raise ValueError(f"given responsibilities are one start: n_init must be 1, got {self.n_init}")
            given = as_responsibilities(responsibilities, (len(points), self.n_components))
            start = self._updated(statistics(given, points, self.n_components), points)
        result = self._infer(mixture_model(self._prior, start), points, seed=self._seed(), **options)
        if self.weight_prior == "process" and self.method == "cavi":
            self._number_by_size(points, result)
        return self

    def partial_fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Learn from one batch of a stream: a step of stochastic inference, or Bayesian updating (see `total_size`).

        The first batch (unless `fit` came before) sets centre, scale and default priors, and a few sweeps over it from
        each of `n_init` starts give the start, so it should be large and typical. `elbo_trace_` gets an estimate a
        batch.

        Raises:
            ValueError: as `fit`; or `total_size` is given after `load`, which does not bring the prior back.
        """
        stream: Svi | None = getattr(self, "_stream", None)
        before = [] if stream is None else self.elbo_trace_
        if stream is None:
            stream = self._begin_stream(X)
        elbo = stream.partial_fit(self._points(self._rows(X, reset=False)))
        self._stream = stream
        self._keep(Result(stream.posterior, elbo, [*before, elbo], False, "a stream has no end", stream.steps))
        return self

    def _begin(self, X: npt.ArrayLike) -> Points:
        """Check everything, choose coordinates and the prior."""
        check_choices(self)
        rows = self._rows(X, reset=True)
        centre, scale = units_of(rows, one_unit=self.covariance_type == "spherical")
        points = self._points(rows, centre, scale)
        default = 1.0 / self.n_components if self.weight_prior == "dirichlet" else 1.0
        concentration = default if self.weight_concentration is None else self.weight_concentration
        prior = mixture_prior(
            self.covariance_type,
            self.n_components,
            weight_prior=self.weight_prior,
            concentration=positive("weight_concentration", concentration),
            mean=mean_prior_of(self.mean_prior, points.x, centre, scale),
            mean_precision=positive("mean_precision", self.mean_precision),
            degrees_of_freedom=degrees_of_freedom_of(self.degrees_of_freedom, self.covariance_type, rows.shape[1]),
            covariance_prior=covariance_prior_of(self.covariance_prior, self.covariance_type, points.x, scale),
        )
        self._prior, self.centre_, self.scale_ = prior, centre, scale
        return points

    def _starts(self, points: Points) -> dict[str, Any]:
        """First q, as functions of a generator."""
        drawn = MixtureStart(self._prior, points, self.n_components, self.init, self.weight_prior == "process")
        return {"weights": drawn.weights, "components": drawn.components}

    def _begin_stream(self, X: npt.ArrayLike) -> Svi:
        if not hasattr(self, "means_"):
            points = self._begin(X)
            begin = mixture_model(self._prior, self._starts(points))
            first = infer(begin, points, seed=self._seed(), n_init=self.n_init, max_steps=_FIRST_SWEEPS)
            start: dict[str, Any] = dict(first.posterior)
        else:  # on with what is known already
            start = dict(self._posterior)
            if self.total_size is not None and not hasattr(self, "_prior"):
                raise ValueError("a loaded model knows its posterior but not its prior: total_size must be None")
            if self.total_size is None:
                self._prior = MixturePrior(self.covariance_type, start["weights"], start["components"])
        svi = Svi(mixture_model(self._prior, start), self.total_size)
        if hasattr(self, "means_"):  # the rows that it holds count as batches that were seen: steps go on from there
            svi.steps = max(1, round(float(self.counts_.sum()) / len(X)))  # type: ignore[arg-type]
        return svi

    def _updated(self, sums: Tensor, points: Points) -> dict[str, Any]:
        return updated(self._prior, sums, points.scatter if self.covariance_type == "tied" else None)

    def _number_by_size(self, points: Points, result: Result) -> None:
        """Number components by size, where sticks expect it, and climb on: the bound is higher then."""
        for _ in range(_RENUMBERINGS):
            _, sums = evidence_and_statistics(self._coefficients, points)
            order = torch.argsort(sums[:, 0], descending=True, stable=True)
            left = self.max_iter - result.steps
            if bool((order == torch.arange(len(order))).all()) or left < 1:
                return
            state = State(q=self._updated(sums[order], points))
            more = self._infer(
                mixture_model(self._prior, state.q), points, seed=0, n_init=1, max_steps=left, chunk_size=None
            )
            trace = [*result.elbo_trace, *more.elbo_trace]
            result = replace(more, elbo_trace=trace, steps=result.steps + more.steps)
            self._keep(result)

    # --- what was learned -------------------------------------------------------------------------------------------

    def _keep(self, result: Result) -> None:
        """Set the arrays, and put the posterior into the rows' own coordinates."""
        components: Any = result.posterior["components"]
        centre, scale = torch.as_tensor(self.centre_), torch.as_tensor(self.scale_)
        here = placed(components, centre, scale)
        self.means_ = (expected_means(self.covariance_type, components) * scale + centre).numpy()
        self.covariances_ = expected_covariances(self.covariance_type, components).numpy() * self._square_units()
        kappa, nu = mean_precisions_and_degrees(self.covariance_type, components)
        self.mean_precision_, self.degrees_of_freedom_ = kappa.numpy(), nu.numpy() if nu.dim() else nu.item()
        super()._keep(replace(result, posterior={"weights": result.posterior["weights"], "components": here}))

    def _finish(self) -> None:
        """The posterior in the coordinates of the computation, from arrays that have lost nothing."""
        weights: Any = self.posterior_["weights"]
        components = components_from(
            self.covariance_type,
            torch.as_tensor((self.means_ - self.centre_) / self.scale_),
            torch.as_tensor(self.covariances_ / self._square_units()),
            torch.as_tensor(self.mean_precision_),
            torch.as_tensor(self.degrees_of_freedom_, dtype=torch.float64),
        )
        self._posterior = {"weights": weights, "components": components}
        self.weights_ = expected_weights(weights).numpy()
        log_weights = expected_log_weights(weights.mean_parameters)
        self._coefficients = coefficients(self.covariance_type, log_weights, components.mean_parameters)
        self._predictive: StudentMixture = predictive(self.covariance_type, weights, components)

    def _square_units(self) -> Any:
        """What a covariance in the coordinates of the computation is multiplied by."""
        if self.covariance_type in ("full", "tied"):
            return np.outer(self.scale_, self.scale_)
        return self.scale_**2 if self.covariance_type == "diag" else self.scale_[0] ** 2

    @property
    def counts_(self) -> Array:
        """Expected number of rows in each component, (K,): kappa - kappa_0; what E[pi] owes to the prior left out."""
        check_is_fitted(self, "means_")
        counts: Array = self.mean_precision_ - self.mean_precision
        return counts

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Responsibilities (N, K): the optimal q(z) of each row, as in the bound; rows sum to one."""
        parts = [log_joint(self._coefficients, part).softmax(-1) for part in self._batches(X)]
        return torch.cat(parts).numpy()

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The component with the largest responsibility for each row, (N,)."""
        parts = [log_joint(self._coefficients, part).argmax(-1) for part in self._batches(X)]
        return torch.cat(parts).numpy()

    def fit_predict(self, X: npt.ArrayLike, y: Any = None) -> npt.NDArray[np.int64]:
        """`fit`, then `predict` of the same rows."""
        return self.fit(X).predict(X)

    def score_samples(self, X: npt.ArrayLike) -> Array:
        """Log density of each row under the posterior predictive, a mixture of Student-t densities; nats, (N,)."""
        parts = [self._predictive.log_prob(part.x) - part.log_scale for part in self._batches(X)]
        return torch.cat(parts).numpy()

    def score(self, X: npt.ArrayLike, y: Any = None) -> float:
        """The mean of `score_samples`, nats a row."""
        return float(self.score_samples(X).mean())

    def sample(
        self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> tuple[Array, npt.NDArray[np.int64]]:
        """Rows (n, D) drawn from the posterior predictive, and their components (n,).

        Args:
            random_state: default that of the estimator.
        """
        check_is_fitted(self, "means_")
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        state = check_random_state(self.random_state if random_state is None else random_state)
        generator = torch.Generator().manual_seed(int(state.randint(2**31 - 1)))
        draws, labels = self._predictive.sample(n_samples, generator)
        return draws.numpy() * self.scale_ + self.centre_, labels.numpy()

    # --- rows -------------------------------------------------------------------------------------------------------

    def _rows(self, X: npt.ArrayLike, *, reset: bool) -> Array:
        rows: Array = validate_data(self, X, dtype=np.float64, ensure_all_finite=False, reset=reset)
        check_finite(rows)
        return rows

    def _points(self, rows: Array, centre: Array | None = None, scale: Array | None = None) -> Points:
        """Rows in the coordinates of the computation, by default those of the fit."""
        scale = self.scale_ if scale is None else scale
        x = torch.from_numpy((rows - (self.centre_ if centre is None else centre)) / scale)
        log_scale = float(np.log(scale).sum())
        return Points(x, self.covariance_type, self.chunk_size, cache=self.cache_features, log_scale=log_scale)

    def _batches(self, X: npt.ArrayLike) -> Iterator[Points]:
        check_is_fitted(self, "means_")
        rows = self._rows(X, reset=False)
        return (self._points(rows[i : i + _ROWS]) for i in range(0, len(rows), _ROWS))
