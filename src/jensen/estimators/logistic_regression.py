"""Bayesian logistic regression."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from scipy.stats import norm
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor
from torch.nn.functional import logsigmoid

from jensen.estimators.regression import GeneralisedRegression
from jensen.estimators.rows import checked_rows, checked_targets
from jensen.inference import Columns, ConjugateModel, evaluate
from jensen.inference.models.glm import LOGISTIC, generalised_linear_model, laplace
from jensen.inference.models.logistic_regression import logistic_regression
from jensen.inference.models.quadrature import expected_logistic

__all__ = ["BayesianLogisticRegression"]

Floats = npt.NDArray[np.float64]

BOUNDS = {"jaakkola-jordan": "Jaakkola-Jordan", "quadrature": "ELBO", "monte-carlo": "ELBO"}


class BayesianLogisticRegression(ClassifierMixin, GeneralisedRegression):  # type: ignore[misc]
    """P(class | x) = sigmoid(intercept + x . w), with a normal posterior over the weights.

        w_d ~ N(0, 1 / alpha_d),   alpha fixed, or Gamma(relevance_concentration, relevance_rate)

    More than two classes are fitted one against the rest, with probabilities divided by their sum: that is no joint
    model of the classes, and `elbo_` is the sum of the binary bounds. The intercept is that at the rows' mean; its
    prior is N(0, intercept_scale^2).

    What is climbed is named by `bound`:

    - "jaakkola-jordan": a lower bound on the ELBO, quadratic in w, the same as that of Polya-Gamma augmentation, with
      closed updates (Jaakkola & Jordan 2000; Durante & Rigon 2019). Posterior variances come out too small.
    - "quadrature": the ELBO itself, its one-dimensional expectations integrated numerically (conjugate-computation
      variational inference, Khan & Lin 2017). Closer to the posterior, about as fast, and needs method "natural".
    - "monte-carlo": the same with expectations over `samples` draws of w, as a model without such structure needs them.

    Args:
        bound: see above.
        ard: learn one prior precision for each weight; else one for all.
        precision: a fixed prior precision of all weights; None learns it. Needs ard=False.
        fit_intercept: False leaves the intercept out.
        intercept_scale: standard deviation of its prior.
        relevance_concentration, relevance_rate: of the Gamma prior of the precisions that are learned.
        method: "cavi", "natural", "gradient", "svi" (see `jensen.inference.infer`), or "auto": "cavi" for the
            Jaakkola-Jordan bound, else "natural".
        rho: step size of "natural" and "svi", learning rate of "gradient"; None for the method's default.
        tol: relative change of the bound at which sweeps stop; draws are noise, for which it is not looked at.
        max_iter: sweeps, or passes over the data for minibatches.
        batch_size: rows of a minibatch, for "svi", and "natural" or "gradient" if given.
        samples: draws of "monte-carlo".
        total_size: for `partial_fit`: how many rows there are in all; None for an endless stream.
        random_state: of minibatches and draws.

    Attributes:
        classes_: the labels, sorted.
        coef_, intercept_: posterior means, (1, D) and (1,), or (K, D) and (K,) for K > 2 classes.
        relevance_: posterior mean of alpha, shape of `coef_`: large where a column is not needed.
        bound_: what `elbo_` and `elbo_trace_` are: "Jaakkola-Jordan", which is lower, or "ELBO".
        posterior_: "weights": MultivariateNormal over (w, intercept); "relevance": Gamma.
    """

    _extras: ClassVar[tuple[str, ...]] = (*GeneralisedRegression._extras, "_labels")

    def __init__(
        self,
        *,
        bound: str = "jaakkola-jordan",
        ard: bool = False,
        precision: float | None = None,
        fit_intercept: bool = True,
        intercept_scale: float = 10.0,
        relevance_concentration: float = 1e-6,
        relevance_rate: float = 1e-6,
        method: str = "auto",
        rho: float | str | None = None,
        tol: float = 1e-6,
        max_iter: int = 1000,
        batch_size: int | None = None,
        samples: int = 32,
        total_size: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.bound = bound
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

    # --- fitting ----------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (N, D) and labels y (N) of any type, two of them or more.

        Separable classes are no trouble: the prior keeps the weights finite. Columns without variation get the weight 0
        (with an intercept).

        Raises:
            ValueError: wrong shapes, NaN or infinity (row and column are named), one class only, labels that are
                continuous numbers, or arguments outside their range.
        """
        x = checked_rows(self, X, reset=True)
        labels = checked_targets(y, x)
        self._remember_classes(labels)
        self._remember_rows(x, self._targets)
        self._restart()
        data = self._columns(x, self._indicators(labels))
        result = self._fit_rows(data)
        if self.bound == "monte-carlo":  # the value without the noise of draws
            self.elbo_ = evaluate(self._exact_model(), result.state, data, chunk_size=_ROWS).elbo
        return self

    def partial_fit(self, X: Any, y: Any, classes: Sequence[Any] | None = None) -> Self:
        """Learn from a batch of rows, then the next.

        With `total_size` each batch is a step of stochastic variational inference. Without, it is an endless stream:
        the posterior of what was seen is the prior of the next batch, precisions that are learned stay as the first
        batch left them, and `elbo_` is that of the last batch. Rows are centred by the first batch.

        Args:
            classes: all labels there are, on the first call; default those of the first batch.

        Raises:
            ValueError: as `fit`; a label that is not among the classes.
        """
        first = not hasattr(self, "posterior_")
        x = checked_rows(self, X, reset=first)
        labels = checked_targets(y, x)
        if first:
            self._remember_classes(labels if classes is None else np.asarray(classes))
            self._remember_rows(x, self._targets)
        self._continue(self._columns(x, self._indicators(labels)))
        return self

    def _remember_classes(self, labels: npt.NDArray[Any]) -> None:
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class only ({self.classes_.tolist()[0]!r}): at least two are needed")

    @property
    def _targets(self) -> int:
        """How many binary regressions there are."""
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    @property
    def _labels(self) -> npt.NDArray[np.uint8]:
        """`classes_` of any type as bytes, for `save`."""
        text = json.dumps([str(self.classes_.dtype), self.classes_.tolist()])
        return np.frombuffer(text.encode(), dtype=np.uint8).copy()

    @_labels.setter
    def _labels(self, stored: npt.NDArray[np.uint8]) -> None:
        dtype, labels = json.loads(stored.tobytes().decode())
        self.classes_ = np.array(labels, dtype=dtype)

    def _indicators(self, labels: npt.NDArray[Any]) -> Tensor:
        """(N, targets), 1 where a row is of the class."""
        unknown = ~np.isin(labels, self.classes_)
        if unknown.any():
            row = int(np.flatnonzero(unknown)[0])
            label = labels[row : row + 1].tolist()[0]
            raise ValueError(f"y has the label {label!r} in row {row}, which is none of {self.classes_.tolist()}")
        matrix = labels[:, None] == self.classes_
        return torch.from_numpy((matrix[:, 1:] if len(self.classes_) == 2 else matrix).astype(np.float64))

    @property
    def _exact_steps(self) -> bool:
        return self.bound == "jaakkola-jordan"

    def _exact_model(self) -> ConjugateModel:
        return generalised_linear_model(
            LOGISTIC, self._centring, self._prior, self._start_precision, classes=self.n_targets_
        )

    def _model(self, data: Columns, *, starting: bool) -> ConjugateModel:
        if self.bound not in BOUNDS:
            raise ValueError(f"bound should be one of {', '.join(BOUNDS)}, got {self.bound!r}")
        parts = (self._centring, self._prior, self._start_precision)
        if self.bound == "jaakkola-jordan":
            return logistic_regression(*parts, self.n_targets_)
        return generalised_linear_model(
            LOGISTIC,
            *parts,
            first=laplace(LOGISTIC, *parts, data[:_ROWS]) if starting else None,
            classes=self.n_targets_,
            expectation="monte-carlo" if self.bound == "monte-carlo" else "exact",
            samples=self.samples,
        )

    def _finish(self) -> None:
        super()._finish()
        self.bound_ = BOUNDS[self.bound]

    # --- predicting -------------------------------------------------------------------------------------------------

    def decision_function(self, X: Any) -> Floats:
        """Log odds of the probabilities averaged over q(w): (N,) for two classes (positive speaks for the second), else
        (N, K), each class against the rest. Nearer to zero than x . coef_ where w is not well known."""
        mean, variance = self._predictor(X)
        odds = [expected_logistic(side, variance).clamp_min(_LEAST).log() for side in (mean, -mean)]
        return self._shaped(odds[0] - odds[1])

    def predict_proba(self, X: Any) -> Floats:
        """P(class | x), (N, K): the sigmoid averaged over q(w), by quadrature, not taken at the mean weights."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Floats:
        """The logarithm of `predict_proba`, finite where that rounds to 0."""
        mean, variance = self._predictor(X)
        variance = variance.expand_as(mean)
        probabilities = expected_logistic(
            self._sides(mean), variance.repeat(2, 1) if self.n_targets_ == 1 else variance
        )
        logarithms = probabilities.clamp_min(_LEAST).log().log_softmax(0)
        result: Floats = logarithms.numpy().T
        return result

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The most probable label of each row, (N,)."""
        mean, _ = self._predictor(X)
        best = (mean[0] > 0).long() if self.n_targets_ == 1 else expected_logistic(*self._predictor(X)).argmax(0)
        labels: npt.NDArray[Any] = self.classes_[best.numpy()]
        return labels

    def predict_interval(self, X: Any, level: float = 0.95) -> Floats:
        """Central credible intervals of sigmoid(x . w), the probability that a better known w would give.

        Shape (N, 2) for two classes, of the second; else (N, K, 2), before the division by their sum.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        mean, variance = self._predictor(X)
        half = norm.ppf(0.5 + 0.5 * level) * variance.sqrt()
        return np.stack([expit(self._shaped(mean - half)), expit(self._shaped(mean + half))], axis=-1)

    def score_samples(self, X: Any, y: Any) -> Floats:
        """log P(y_n | x_n), nats, (N,)."""
        logarithms = self.predict_log_proba(X)
        labels = checked_targets(y, torch.from_numpy(logarithms))
        self._indicators(labels)  # refuses unknown ones
        scores: Floats = logarithms[np.arange(len(labels)), np.searchsorted(self.classes_, labels)]
        return scores

    def sample(
        self, X: Any, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> npt.NDArray[Any]:
        """Draws of labels at rows X, (n_samples, N); each draw has one w for all rows."""
        generator = self._generator(random_state)
        predictor = self._predictor_draws(X, n_samples, generator)  # (n, targets, N)
        probabilities = torch.stack([logsigmoid(self._sides(s)).softmax(0).T for s in predictor])
        uniform = torch.rand(*probabilities.shape[:2], 1, dtype=torch.float64, generator=generator)
        below = (probabilities.cumsum(-1) < uniform).sum(-1).clamp_max(len(self.classes_) - 1)
        labels: npt.NDArray[Any] = self.classes_[below.numpy()]
        return labels

    def _sides(self, predictor: Tensor) -> Tensor:
        """(targets, N) as (K, N): of two classes each tail by itself, for 1 - p would lose one of them."""
        return torch.cat([-predictor, predictor]) if self.n_targets_ == 1 else predictor

    def _shaped(self, values: Tensor) -> Floats:
        shaped: Floats = values[0].numpy() if self.n_targets_ == 1 else values.numpy().T
        return shaped


_LEAST = 1e-300
"""probability that a quadrature may round to 0"""
_ROWS = 10_000
"""that a start is found from, or that are evaluated at a time"""
