"""Bayesian linear regression with automatic relevance determination."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student_t
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from jensen.estimators.base import VariationalEstimator
from jensen.estimators.rows import checked_numbers, checked_rows
from jensen.families import NormalGamma
from jensen.inference import State
from jensen.inference.models.linear_regression import (
    NoisePrior,
    RegressionStatistics,
    StudentT,
    centred,
    linear_regression,
    predictive,
)
from jensen.inference.models.weights import WeightPrior

__all__ = ["BayesianLinearRegression"]

Floats = npt.NDArray[np.float64]


class BayesianLinearRegression(RegressorMixin, VariationalEstimator):  # type: ignore[misc]
    """y = intercept + X w + noise, with a distribution over weights and noise instead of one best guess.

        tau ~ Gamma(noise_concentration, noise_rate), the noise's precision,
        w_d | tau, alpha_d ~ N(0, 1 / (tau alpha_d)),
        alpha_d ~ Gamma(relevance_concentration, relevance_rate),   and q(w, tau) q(alpha)

    (Drugowitsch 2013, arXiv:1310.5438). Weights that the data do not speak for are driven to zero by a large alpha.
    With a fixed `precision` the posterior and `elbo_`, then the log evidence, are exact. The intercept has a flat prior
    and is integrated out; `elbo_` counts its density as 1. Priors are in the units of X and y: the vague defaults suit
    most.

    The data enter by their means and second moments, gathered once: sweeps cost nothing in N, and `partial_fit` adds
    new rows to them, so that it ends where `fit` on all rows would.

    Args:
        ard: learn one prior precision for each weight; else one for all.
        precision: a fixed prior precision of all weights, relative to the noise's; None learns it. Needs ard=False.
        fit_intercept: False sends the plane through the origin.
        noise_concentration, noise_rate: of the Gamma prior of tau.
        relevance_concentration, relevance_rate: of the Gamma prior of the precisions that are learned.
        method: "cavi", "natural", "gradient" or "svi"; see `jensen.inference.infer`.
        rho: step size of "natural" and "svi", learning rate of "gradient"; None for the method's default.
        tol: relative change of the ELBO at which sweeps stop.
        max_iter: sweeps, or passes over the data for minibatches.
        batch_size: rows of a minibatch, for "svi", and "natural" or "gradient" if given; `fit` alone.
        random_state: of minibatches.

    Attributes:
        coef_: posterior mean of w, (D,).
        intercept_: posterior mean of the intercept.
        covariance_: posterior covariance of w, (D, D); infinite where tau is all but unknown.
        relevance_: posterior mean of alpha, (D,): large where a column is not needed.
        noise_: E[tau]^(-1/2), the noise's standard deviation.
        posterior_: "weights": NormalGamma over (w, tau); "relevance": Gamma.
        n_samples_seen_: rows.
    """

    _extras: ClassVar[tuple[str, ...]] = (
        "n_samples_seen_",
        "n_features_in_",
        "x_mean_",
        "y_mean_",
        "xx_",
        "xy_",
        "yy_",
    )

    def __init__(
        self,
        *,
        ard: bool = True,
        precision: float | None = None,
        fit_intercept: bool = True,
        noise_concentration: float = 1e-6,
        noise_rate: float = 1e-6,
        relevance_concentration: float = 1e-6,
        relevance_rate: float = 1e-6,
        method: str = "cavi",
        rho: float | str | None = None,
        tol: float = 1e-8,
        max_iter: int = 5000,
        batch_size: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.ard = ard
        self.precision = precision
        self.fit_intercept = fit_intercept
        self.noise_concentration = noise_concentration
        self.noise_rate = noise_rate
        self.relevance_concentration = relevance_concentration
        self.relevance_rate = relevance_rate
        self.method = method
        self.rho = rho
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state

    # --- fitting ----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (N, D) and targets y (N).

        Columns without variation get the weight 0 (with an intercept); collinear ones share theirs; more columns than
        rows are fine. One row says where the intercept is and nothing else: intervals are then as good as infinite.
        Where X determines y exactly the noise is not taken to be smaller than rounding: 1e-7 of y's spread with an
        intercept, of its root mean square without: centre a y that is far from zero where `fit_intercept` is False.

        Raises:
            ValueError: wrong shapes, NaN or infinity (row and column are named), or arguments outside their range.
        """
        x = checked_rows(self, X, reset=True)
        target = checked_numbers(y, x)
        statistics = RegressionStatistics.of(x, target)
        rows = self.method == "svi" or self.batch_size is not None
        self._remember(statistics)
        data = centred(statistics, x, target, intercept=self.fit_intercept) if rows else None
        model = linear_regression(statistics, *self._priors(), intercept=self.fit_intercept, rows=rows)
        self._infer(model, data, seed=self._seed(), rho=self.rho)
        return self

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from more rows: as `fit` on all rows seen since the first call (or since `fit`), whatever their order.

        Sweeps start from the posterior before, and use `method` "cavi" on the statistics of all rows.
        """
        first = not hasattr(self, "posterior_")
        x = checked_rows(self, X, reset=first)
        statistics = RegressionStatistics.of(x, checked_numbers(y, x))
        statistics = statistics if first else self._statistics + statistics
        self._remember(statistics)
        model = linear_regression(statistics, *self._priors(), intercept=self.fit_intercept)
        start = None if first else State(q=self.posterior_)
        self._infer(model, None, seed=0, method="cavi", batch_size=None, start=start)
        return self

    def _priors(self) -> tuple[WeightPrior, NoisePrior]:
        weights = WeightPrior(self.ard, self.precision, self.relevance_concentration, self.relevance_rate)
        return weights, NoisePrior(self.noise_concentration, self.noise_rate)

    def _remember(self, s: RegressionStatistics) -> None:
        self.n_samples_seen_ = s.count
        self.x_mean_, self.y_mean_ = s.x_mean.numpy(), float(s.y_mean)
        self.xx_, self.xy_, self.yy_ = s.xx.numpy(), s.xy.numpy(), float(s.yy)

    @property
    def _statistics(self) -> RegressionStatistics:
        arrays = (self.x_mean_, self.y_mean_, self.xx_, self.xy_, self.yy_)
        return RegressionStatistics(
            self.n_samples_seen_, *(torch.as_tensor(array, dtype=torch.float64) for array in arrays)
        )

    def _finish(self) -> None:
        q = self.posterior_["weights"]
        loc, precision, concentration, rate = q.standard_parameters
        self.coef_ = loc.numpy()
        self.intercept_ = float(self.y_mean_ - self.x_mean_ @ self.coef_) if self.fit_intercept else 0.0
        known = bool(concentration > 1)
        spread = rate / (concentration - 1) * torch.linalg.inv(precision)
        self.covariance_ = spread.numpy() if known else np.full_like(self.xx_, np.inf)
        self.noise_ = float((rate / concentration).sqrt())
        learned = self.posterior_.get("relevance")
        alpha = loc.new_tensor(self.precision or 0.0) if learned is None else learned.mean_parameters.mean
        self.relevance_ = alpha.expand(len(loc)).clone().numpy()

    # --- predicting -------------------------------------------------------------------------------------------------

    def _predictive(self, X: Any, *, noise: bool = True) -> StudentT:
        check_is_fitted(self, "posterior_")
        x = checked_rows(self, X)
        q = self.posterior_["weights"]
        assert isinstance(q, NormalGamma)
        return predictive(q, self._statistics, x, intercept=self.fit_intercept, noise=noise)

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Mean of y (N,) at rows X (N, D), and with `return_std` its standard deviation, the noise included (N,)."""
        found = self._predictive(X)
        mean: Floats = found.loc.numpy()
        return (mean, found.stddev.numpy()) if return_std else mean

    def predict_interval(self, X: Any, level: float = 0.95, *, noise: bool = True) -> Floats:
        """Central intervals (N, 2) that hold y with probability `level`: quantiles of the Student-t predictive.

        Args:
            noise: False for the interval of the regression line, without the noise of a new observation.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        found = self._predictive(X, noise=noise)
        half = student_t.ppf(0.5 + 0.5 * level, float(found.df)) * found.scale.numpy()
        return np.stack([found.loc.numpy() - half, found.loc.numpy() + half], axis=1)

    def score_samples(self, X: Any, y: Any) -> Floats:
        """Log predictive density of each y given its row, nats, (N,)."""
        found = self._predictive(X)
        target = checked_numbers(y, found.loc)
        density: Floats = found.log_prob(target).numpy()
        return density

    def sample(self, X: Any, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Floats:
        """Draws of y at rows X, (n_samples, N); each draw has one plane and one noise level for all rows."""
        check_is_fitted(self, "posterior_")
        x = checked_rows(self, X)
        seed = check_random_state(self.random_state if random_state is None else random_state).randint(2**31 - 1)
        generator = torch.Generator().manual_seed(int(seed))
        w, tau = self.posterior_["weights"].sample((n_samples,), generator)

        def noise(*shape: int) -> Tensor:
            errors: Tensor = torch.randn(*shape, dtype=torch.float64, generator=generator) * tau.rsqrt().unsqueeze(-1)
            return errors

        s = self._statistics
        y = w @ (x - s.x_mean if self.fit_intercept else x).mT + noise(n_samples, len(x))
        if self.fit_intercept:
            y = y + s.y_mean + noise(n_samples, 1) / np.sqrt(s.count)
        draws: Floats = y.numpy()
        return draws
