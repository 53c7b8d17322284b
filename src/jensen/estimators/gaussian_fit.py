"""The smallest inference there is, as an estimator: the Gaussian of some data, approached from another one."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import DensityMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from jensen.estimators.base import VariationalEstimator
from jensen.families import MultivariateNormal
from jensen.inference import Result, State, evaluate
from jensen.inference.models.gaussian_fit import gaussian_fit, joint_parameters

__all__ = ["GaussianFit"]

Array = npt.NDArray[np.float64]


class GaussianFit(DensityMixin, VariationalEstimator):  # type: ignore[misc]
    """q climbs ELBO = -KL(q || p) to p = N(mean, covariance) of the rows, and leaves its path to look at.

    A full q reaches p and ELBO 0. A mean-field q reaches the right means and variances that are too small, 1 / L_ii
    with the precision L of p (Bishop 2006, 10.1.2). "cavi" and "natural" do not mind the columns' units; plain
    "gradient" ascent does.

    Args:
        form: of q: "mean-field" (independent columns) or "full".
        method: "cavi", "natural" (steps of size `rho`) or "gradient".
        rho: step size of "natural", learning rate of "gradient"; None for the method's default.
        distance: where q begins: so many standard deviations from p's mean, in every column.
        width: standard deviations of the first q, in units of p's.
        tol: stop when a step changes the ELBO by less than tol x max(1, |ELBO|).
        max_iter: most steps.

    Attributes:
        mean_, covariance_: of q, (D,) and (D, D).
        target_mean_, target_covariance_: of p.
        path_mean_, path_covariance_, path_elbo_: of q at every step, the start included.
        posterior_: "z" (MultivariateNormal), or for mean-field "z1" ... "zD" (Normal).
    """

    _extras: ClassVar[tuple[str, ...]] = (
        "target_mean_", "target_covariance_", "path_mean_", "path_covariance_", "path_elbo_", "n_features_in_"
    )  # fmt: skip

    def __init__(
        self,
        *,
        form: Literal["mean-field", "full"] = "mean-field",
        method: Literal["cavi", "natural", "gradient"] = "natural",
        rho: float | None = None,
        distance: float = 4.0,
        width: float = 0.4,
        tol: float = 1e-8,
        max_iter: int = 1000,
    ) -> None:
        self.form = form
        self.method = method
        self.rho = rho
        self.distance = distance
        self.width = width
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Climb to the Gaussian with the rows' mean and covariance, X (N, D).

        Raises:
            ValueError: NaN or infinity, fewer rows than columns + 1, constant or linearly dependent columns.
        """
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if not (np.isfinite(self.distance) and 0 < self.width < np.inf):
            raise ValueError(
                f"distance must be finite and width positive, got distance={self.distance!r}, width={self.width!r}"
            )
        if self.method not in ("cavi", "natural", "gradient"):
            raise ValueError(f"method must be 'cavi', 'natural' or 'gradient', got {self.method!r}")
        self.target_mean_, self.target_covariance_ = rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False))
        _check_covariance(self.target_covariance_, len(rows))
        scales = np.sqrt(np.diag(self.target_covariance_))
        model = gaussian_fit(
            _normal(self.target_mean_, self.target_covariance_),
            _normal(self.target_mean_ - self.distance * scales, np.diag((self.width * scales) ** 2)),
            self.form,
        )
        start = model.start()
        self._path = [(*joint_parameters(start), evaluate(model, start).elbo)]
        outer = self.on_step

        def follow(step: int, elbo: float, state: State) -> None:
            self._path.append((*joint_parameters(state), elbo))
            if outer is not None:
                outer(step, elbo, state)

        self.on_step = follow
        try:
            self._infer(model, None, seed=0, rho=self.rho)
        finally:
            del self.on_step
            if outer is not None and outer is not type(self).on_step:
                self.on_step = outer
        return self

    def _keep(self, result: Result) -> None:
        loc, covariance, elbo = zip(*self._path, strict=True)
        self.path_mean_, self.path_covariance_ = torch.stack(loc).numpy(), torch.stack(covariance).numpy()
        self.path_elbo_ = np.array(elbo)
        super()._keep(result)

    def _finish(self) -> None:
        loc, covariance = joint_parameters(State(q=self.posterior_))
        self.mean_, self.covariance_ = loc.numpy(), covariance.numpy()

    def score_samples(self, X: npt.ArrayLike) -> Array:
        """Log density of each row under q, nats, (N,)."""
        check_is_fitted(self, "posterior_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        density: Array = _normal(self.mean_, self.covariance_).log_prob(torch.from_numpy(rows)).numpy()
        return density

    def score(self, X: npt.ArrayLike, y: Any = None) -> float:
        """The mean of `score_samples`, nats a row."""
        return float(self.score_samples(X).mean())


def _normal(loc: Array, covariance: Array) -> MultivariateNormal:
    return MultivariateNormal.from_standard(torch.as_tensor(loc), torch.as_tensor(covariance))


def _check_covariance(covariance: Array, rows: int) -> None:
    """Raise ValueError unless it is positive definite beyond rounding."""
    variances = np.diag(covariance)
    constant = np.flatnonzero(variances <= 0)
    if len(constant):
        raise ValueError(f"column {constant[0]} is constant: a Gaussian needs columns that vary")
    scales = np.sqrt(variances)
    if rows <= len(variances) or np.linalg.eigvalsh(covariance / np.outer(scales, scales)).min() < 1e-12:
        raise ValueError(
            f"the covariance of {rows} rows is singular: columns depend linearly on others, or there are too few rows"
        )
