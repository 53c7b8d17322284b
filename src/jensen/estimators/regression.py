"""What logistic and Poisson regression share: rows, priors, the fit, and learning from streams."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from jensen.estimators.base import VariationalEstimator
from jensen.estimators.rows import checked_rows
from jensen.inference import Columns, ConjugateModel, Result, RobbinsMonro, State, Svi
from jensen.inference.models.weights import Centring, WeightPrior

__all__ = ["GeneralisedRegression"]

Floats = npt.NDArray[np.float64]


class GeneralisedRegression(VariationalEstimator):
    """A regression whose weights have normal posteriors q(w), one for each column of targets.

    A subclass has the constructor arguments that are read here, and says what its model is (`_model`).
    """

    _extras: ClassVar[tuple[str, ...]] = ("n_features_in_", "centre_", "start_precision_", "n_targets_")

    ard: bool
    precision: float | None
    fit_intercept: bool
    intercept_scale: float
    relevance_concentration: float
    relevance_rate: float
    method: str
    rho: float | str | None
    batch_size: int | None
    total_size: int | None
    coef_: Any
    intercept_: Any
    relevance_: Any

    @abstractmethod
    def _model(self, data: Columns, *, starting: bool) -> ConjugateModel:
        """The model of data made by `_columns`; `starting`: they are all that its first q may be taken from."""

    @property
    @abstractmethod
    def _exact_steps(self) -> bool:
        """Whether whole steps cannot overshoot: the terms are conjugate."""

    # --- fitting ----------------------------------------------------------------------------------------------------

    def _remember_rows(self, x: Tensor, targets: int) -> None:
        """Where the rows' centre is and what scales their columns have."""
        self.centre_ = Centring.of(x, intercept=self.fit_intercept, scale=self.intercept_scale).centre.numpy()
        information = (x - torch.from_numpy(self.centre_)).square().mean(0)
        self.start_precision_ = torch.where(information > 0, information, 1.0).numpy()
        self.n_targets_ = targets

    @property
    def _centring(self) -> Centring:
        centre = torch.as_tensor(self.centre_, dtype=torch.float64)
        return Centring(centre, self.fit_intercept, float(self.intercept_scale) ** -2)

    @property
    def _start_precision(self) -> Tensor:
        return torch.as_tensor(self.start_precision_, dtype=torch.float64)

    @property
    def _prior(self) -> WeightPrior:
        return WeightPrior(self.ard, self.precision, self.relevance_concentration, self.relevance_rate)

    def _columns(self, x: Tensor, t: Tensor) -> Columns:
        """Rows as the model sees them, and targets (N, targets)."""
        return Columns(x=self._centring.rows(x), t=t)

    @property
    def _method(self) -> str:
        """`method`, with "auto" resolved."""
        if self.method != "auto":
            return self.method
        return "cavi" if self._exact_steps else "natural"

    def _fit_rows(self, data: Columns) -> Result:
        rho: Any = self.rho
        stochastic = self._method == "svi" or self.batch_size is not None
        if rho is None and self._method in ("natural", "svi") and not self._exact_steps and stochastic:
            rho = RobbinsMonro(tau=_CAREFUL_DELAY)
        options: dict[str, Any] = {"method": self._method, "rho": rho}
        if not stochastic and self._method in ("cavi", "natural"):
            options["chunk_size"] = _CHUNK
        return self._infer(self._model(data, starting=True), data, seed=self._seed(), **options)

    def _continue(self, data: Columns) -> None:
        """One batch of a stream: see `partial_fit`."""
        started = hasattr(self, "posterior_")
        svi = getattr(self, "_svi", None)
        if svi is None:
            rho = None  # a stream without a total takes whole steps
            if self.total_size is not None:
                rho = RobbinsMonro(tau=1.0 if self._exact_steps else _CAREFUL_DELAY) if self.rho is None else self.rho
            start = State(q=self.posterior_) if started else None
            svi = Svi(self._model(data, starting=not started), self.total_size, rho=rho, start=start)
            svi.steps = self.n_iter_ if started else 0
        elbo = svi.partial_fit(data)
        self._svi = svi
        trace = [*(self.elbo_trace_ if started else []), elbo]
        self._keep(Result(svi.posterior, elbo, trace, False, "fitted in part", svi.steps))

    def _restart(self) -> None:
        """Forget the stream that `partial_fit` was in."""
        self.__dict__.pop("_svi", None)

    # --- what follows from the posterior ----------------------------------------------------------------------------

    def _finish(self) -> None:
        loc, _ = self.posterior_["weights"].standard_parameters
        weights, intercept = self._centring.original(loc)
        self.coef_, self.intercept_ = weights.numpy(), intercept.numpy()
        learned = self.posterior_.get("relevance")
        alpha = loc.new_tensor(self.precision or 0.0) if learned is None else learned.mean_parameters.mean
        self.relevance_ = alpha.expand(weights.shape).clone().numpy()

    def _predictor(self, X: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance under q of the linear predictor of rows X, each (targets, N)."""
        check_is_fitted(self, "posterior_")
        rows = self._centring.rows(checked_rows(self, X))
        loc, covariance = self.posterior_["weights"].standard_parameters
        return loc @ rows.mT, ((rows @ covariance) * rows).sum(-1).clamp_min(0)

    def _predictor_draws(self, X: Any, count: int, generator: Generator) -> Tensor:
        """Draws of the linear predictor, (count, targets, N)."""
        check_is_fitted(self, "posterior_")
        rows = self._centring.rows(checked_rows(self, X))
        draws: Tensor = self.posterior_["weights"].sample((count,), generator) @ rows.mT
        return draws

    def _generator(self, random_state: int | np.random.RandomState | None) -> Generator:
        given = getattr(self, "random_state", None) if random_state is None else random_state
        return torch.Generator().manual_seed(int(check_random_state(given).randint(2**31 - 1)))


_CHUNK = 32_768
"""rows whose terms are held in memory at a time: quadrature has dozens of nodes for each"""
_CAREFUL_DELAY = 5.0
"""of the steps where terms are not linear: the first ones are then well below 1"""
