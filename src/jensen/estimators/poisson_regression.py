"""Bayesian Poisson regression."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm
from sklearn.base import RegressorMixin
from torch import Tensor

from jensen.estimators.regression import GeneralisedRegression
from jensen.estimators.rows import checked_numbers, checked_rows
from jensen.inference import Columns, ConjugateModel, evaluate
from jensen.inference.models.glm import POISSON, generalised_linear_model, laplace, log_predictive_count

__all__ = ["BayesianPoissonRegression"]

Floats = npt.NDArray[np.float64]


class BayesianPoissonRegression(RegressorMixin, GeneralisedRegression):  # type: ignore[misc]
    """Counts y ~ Poisson(exp(intercept + x . w)), with a normal posterior over the weights.

        w_d ~ N(0, 1 / alpha_d),   alpha fixed, or Gamma(relevance_concentration, relevance_rate)

    The likelihood is not conjugate: conjugate-computation variational inference (Khan & Lin 2017) linearises it at each
    step. `elbo_` is the ELBO. The intercept is that at the rows' mean; its prior is N(0, intercept_scale^2).

    Args:
        expectation: "exact": E[exp(x . w)] in closed form. "monte-carlo": over `samples` draws of w, as a model without
            a closed form needs it.
        ard: learn one prior precision for each weight; else one for all.
        precision: a fixed prior precision of all weights; None learns it. Needs ard=False.
        fit_intercept: False leaves the intercept out.
        intercept_scale: standard deviation of its prior.
        relevance_concentration, relevance_rate: of the Gamma prior of the precisions that are learned.
        method: "natural", "gradient" or "svi"; see `jensen.inference.infer`.
        rho: step size of "natural" and "svi", learning rate of "gradient"; None for the method's default.
        tol: relative change of the ELBO at which sweeps stop; draws are noise, for which it is not looked at.
        max_iter: sweeps, or passes over the data for minibatches.
        batch_size: rows of a minibatch, for "svi", and "natural" or "gradient" if given.
        samples: draws of "monte-carlo".
        total_size: for `partial_fit`: how many rows there are in all; None for an endless stream.
        random_state: of minibatches and draws.

    Attributes:
        coef_, intercept_: posterior means, (D,) and a number.
        relevance_: posterior mean of alpha, (D,): large where a column is not needed.
        posterior_: "weights": MultivariateNormal over (w, intercept); "relevance": Gamma.
    """

    def __init__(
        self,
        *,
        expectation: str = "exact",
        ard: bool = False,
        precision: float | None = None,
        fit_intercept: bool = True,
        intercept_scale: float = 10.0,
        relevance_concentration: float = 1e-6,
        relevance_rate: float = 1e-6,
        method: str = "natural",
        rho: float | str | None = None,
        tol: float = 1e-6,
        max_iter: int = 1000,
        batch_size: int | None = None,
        samples: int = 32,
        total_size: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.expectation = expectation
        self.ard = ard
        self.precision = precision
        self.fit_intercept = fit_intercept
        self.intercept_scale = intercept_scale
        self.relevance_concentration = relevance_concentration
        self.relevance_rate = relevance_rate
        self.method = method
        self.rho = rho
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.samples = samples
        self.total_size = total_size
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Counts are not negative."""
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    # --- fitting ----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (N, D) and counts y (N).

        Raises:
            ValueError: wrong shapes, NaN or infinity (row and column are named), counts that are negative or no whole
                numbers, or arguments outside their range.
        """
        x = checked_rows(self, X, reset=True)
        t = _checked_counts(y, x)
        self._remember_rows(x, 1)
        self._restart()
        data = self._columns(x, t)
        result = self._fit_rows(data)
        if self.expectation == "monte-carlo":  # the value without the noise of draws
            self.elbo_ = evaluate(self._build("exact", None), result.state, data, chunk_size=_ROWS).elbo
        return self

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Learn from a batch of rows, then the next.

        With `total_size` each batch is a step of stochastic variational inference. Without, it is an endless stream:
        the posterior of what was seen is the prior of the next batch, precisions that are learned stay as the first
        batch left them, and `elbo_` is that of the last batch. Rows are centred by the first batch.
        """
        first = not hasattr(self, "posterior_")
        x = checked_rows(self, X, reset=first)
        t = _checked_counts(y, x)
        if first:
            self._remember_rows(x, 1)
        self._continue(self._columns(x, t))
        return self

    @property
    def _exact_steps(self) -> bool:
        return False

    def _model(self, data: Columns, *, starting: bool) -> ConjugateModel:
        return self._build(self.expectation, data if starting else None)

    def _build(self, expectation: str, data: Columns | None) -> ConjugateModel:
        if expectation not in ("exact", "monte-carlo"):
            raise ValueError(f"expectation should be 'exact' or 'monte-carlo', got {expectation!r}")
        parts = (self._centring, self._prior, self._start_precision)
        first = None if data is None else laplace(POISSON, *parts, data[:_ROWS])
        exact = expectation == "exact"
        return generalised_linear_model(
            POISSON, *parts, first=first, expectation="exact" if exact else "monte-carlo", samples=self.samples
        )

    def _finish(self) -> None:
        super()._finish()
        self.coef_, self.intercept_, self.relevance_ = self.coef_[0], float(self.intercept_[0]), self.relevance_[0]

    # --- predicting -------------------------------------------------------------------------------------------------

    def predict(self, X: Any, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Mean of y (N,) at rows X, and with `return_std` its standard deviation; both averaged over q(w)."""
        mean, variance = (v[0] for v in self._predictor(X))
        rate = torch.exp(mean + 0.5 * variance)
        found: Floats = rate.numpy()
        return (found, (rate + rate**2 * torch.expm1(variance)).sqrt().numpy()) if return_std else found

    def predict_interval(self, X: Any, level: float = 0.95) -> Floats:
        """Central credible intervals (N, 2) of the rate exp(intercept + x . w), not of the counts."""
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        mean, variance = (v[0] for v in self._predictor(X))
        half = norm.ppf(0.5 + 0.5 * level) * variance.sqrt()
        interval: Floats = torch.stack([mean - half, mean + half], dim=1).exp().numpy()
        return interval

    def score_samples(self, X: Any, y: Any) -> Floats:
        """log P(y_n | x_n), nats, (N,): the rate is integrated out by quadrature."""
        mean, variance = (v[0] for v in self._predictor(X))
        scores: Floats = log_predictive_count(mean, variance, _checked_counts(y, mean)[:, 0]).numpy()
        return scores

    def sample(
        self, X: Any, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> npt.NDArray[np.int64]:
        """Draws of counts at rows X, (n_samples, N); each draw has one w for all rows."""
        generator = self._generator(random_state)
        rate = self._predictor_draws(X, n_samples, generator)[:, 0].exp()
        counts: npt.NDArray[np.int64] = torch.poisson(rate, generator=generator).long().numpy()
        return counts


def _checked_counts(y: Any, rows: Tensor) -> Tensor:
    """y as a float64 tensor (N, 1); raises ValueError naming the first row that is no count."""
    counts = checked_numbers(y, rows)
    wrong = (counts < 0) | (counts != counts.round())
    if bool(wrong.any()):
        n = int(wrong.nonzero()[0])
        raise ValueError(f"y should hold counts 0, 1, 2, ..., but has {counts[n].item():g} in row {n}")
    return counts.unsqueeze(1)


_ROWS = 10_000
"""that a start is found from, or that are evaluated at a time"""
