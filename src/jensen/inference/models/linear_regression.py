"""Bayesian linear regression with automatic relevance determination, on sufficient statistics.

    y_n = intercept + x_n . w + noise,   noise ~ N(0, 1 / tau),   tau ~ Gamma(a, b),
    w_d | tau, alpha_d ~ N(0, 1 / (tau alpha_d)),   alpha_d ~ Gamma(c, d)

with q(w, tau) a normal-gamma, jointly, times q(alpha) (Drugowitsch 2013, arXiv:1310.5438). The intercept has a flat
prior and is integrated out: that centres X and y and takes away one degree of freedom. Where the weights' precision is
fixed nothing is approximated: the bound is the evidence, and one sweep finds it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jensen.families import NormalGamma
from jensen.inference.conjugate import Columns, ConjugateModel, Latent
from jensen.inference.models.weights import WeightPrior

__all__ = ["NoisePrior", "RegressionStatistics", "StudentT", "centred", "linear_regression", "predictive"]

_LOG_2PI = math.log(2 * math.pi)
_ROWS = 65_536
_ROUNDING = 1e-14


@dataclass(frozen=True)
class NoisePrior:
    """tau ~ Gamma(concentration, rate), the precision of the noise. Raises ValueError unless both are positive."""

    concentration: float = 1e-6
    rate: float = 1e-6

    def __post_init__(self) -> None:
        for name, value in (("concentration", self.concentration), ("rate", self.rate)):
            if not (0 < value < math.inf):
                raise ValueError(f"the noise's prior: {name} must be positive and finite, got {value}")

    def above_rounding(self, sum_of_squares: Tensor) -> NoisePrior:
        """The same, its rate not below the rounding of y's sum of squares: an exact fit must not look like less."""
        return replace(self, rate=max(self.rate, _ROUNDING * float(sum_of_squares)))


@dataclass(frozen=True)
class RegressionStatistics:
    """All that a linear regression needs of its data: their number, means, and second moments about the means.

    Moments about the mean of each part, joined exactly (Chan, Golub & LeVeque 1983), lose no digits on data far from
    the origin. Statistics of two parts of the data add up: `a + b`.

    Attributes:
        count: N.
        x_mean: (D).
        y_mean: ().
        xx: sum of (x - mean)(x - mean)^T, (D, D).
        xy: sum of (x - mean)(y - mean), (D).
        yy: sum of (y - mean)^2, ().
    """

    count: int
    x_mean: Tensor
    y_mean: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, chunk_size: int = _ROWS) -> RegressionStatistics:
        """From rows x (N, D) and y (N), `chunk_size` rows at a time."""
        parts = (cls._of(x[i : i + chunk_size], y[i : i + chunk_size]) for i in range(0, len(y), chunk_size))
        total = next(parts)
        for part in parts:
            total = total + part
        return total

    @classmethod
    def _of(cls, x: Tensor, y: Tensor) -> RegressionStatistics:
        x_mean, y_mean = x.mean(0), y.mean()
        x, y = x - x_mean, y - y_mean
        return cls(len(y), x_mean, y_mean, x.mT @ x, x.mT @ y, y @ y)

    def __add__(self, other: RegressionStatistics) -> RegressionStatistics:
        count = self.count + other.count
        share = other.count / count
        dx, dy = other.x_mean - self.x_mean, other.y_mean - self.y_mean
        between = self.count * share
        return RegressionStatistics(
            count,
            self.x_mean + share * dx,
            self.y_mean + share * dy,
            self.xx + other.xx + between * torch.outer(dx, dx),
            self.xy + other.xy + between * dx * dy,
            self.yy + other.yy + between * dy**2,
        )

    def about_origin(self) -> RegressionStatistics:
        """The same with moments about zero instead of the means: a regression without intercept."""
        n, x, y = self.count, self.x_mean, self.y_mean
        xx, xy, yy = self.xx + n * torch.outer(x, x), self.xy + n * x * y, self.yy + n * y**2
        return RegressionStatistics(n, torch.zeros_like(x), torch.zeros_like(y), xx, xy, yy)


def linear_regression(
    statistics: RegressionStatistics,
    prior: WeightPrior | None = None,
    noise: NoisePrior | None = None,
    *,
    intercept: bool = True,
    rows: bool = False,
) -> ConjugateModel:
    """The model; latents "weights" (normal-gamma over (w, tau)) and, where it is learned, "relevance" (Gamma).

    Args:
        statistics: of all data. A sweep costs O(D^3), whatever N.
        prior: of the weights; default ARD.
        noise: prior of the noise's precision; its rate is raised to the rounding of y's sum of squares, 1e-14 of it.
        intercept: integrate out an intercept with a flat prior. Its prior has no constant: the bound then counts the
            intercept's density as 1 everywhere.
        rows: take the likelihood from rows of `Columns(x=, y=)`, centred by `statistics` (see `centred`), instead of
            from the statistics: the same bound, for minibatches.
    """
    prior, noise = prior or WeightPrior(), noise or NoisePrior()
    s = statistics if intercept else statistics.about_origin()
    noise = noise.above_rounding(s.yy)

    def global_terms(m: Any) -> dict[str, Tensor]:
        w = m.weights
        square = w.precision_outer.diagonal(dim1=-2, dim2=-1)
        terms = {"prior of the weights": prior.expected_log_density(m, square, w.log_precision)}
        terms["prior of the noise"] = _expected_log_gamma(noise, w)
        if not rows:
            terms["likelihood"] = _expected_log_likelihood(w, s.count, s.xx, s.xy, s.yy)
        if intercept:
            terms["intercept"] = -0.5 * (w.log_precision - _LOG_2PI + math.log(s.count))
        return terms

    def local_terms(m: Any, batch: Columns) -> Tensor:
        x, y = batch.x, batch.y
        return _expected_log_likelihood(m.weights, len(y), x.mT @ x, x.mT @ y, y @ y)

    return ConjugateModel(
        latents={"weights": Latent(_start(s, noise)), **prior.latents(_unit_information(s))},
        global_terms=global_terms,
        local_terms=local_terms if rows else None,
    )


def centred(statistics: RegressionStatistics, x: Tensor, y: Tensor, *, intercept: bool = True) -> Columns:
    """Rows as `linear_regression(..., rows=True)` takes them."""
    return Columns(x=x - statistics.x_mean, y=y - statistics.y_mean) if intercept else Columns(x=x, y=y)


def _expected_log_likelihood(w: Any, count: int, xx: Tensor, xy: Tensor, yy: Tensor) -> Tensor:
    """E[sum_n log N(y_n; x_n . w, 1 / tau)], nats."""
    quadratic = yy * w.precision - 2 * xy @ w.precision_mean + (xx * w.precision_outer).sum()
    expected: Tensor = 0.5 * (count * (w.log_precision - _LOG_2PI) - quadratic)
    return expected


def _expected_log_gamma(noise: NoisePrior, w: Any) -> Tensor:
    """E[log Gamma(tau; a, b)], nats."""
    a, b = noise.concentration, noise.rate
    expected: Tensor = (a - 1) * w.log_precision - b * w.precision + (a * math.log(b) - math.lgamma(a))
    return expected


def _unit_information(s: RegressionStatistics) -> Tensor:
    """First precisions of the weights: what one typical row says of each, 1 for a column without variation."""
    information = s.xx.diagonal() / s.count
    return torch.where(information > 0, information, 1.0)


def _start(s: RegressionStatistics, noise: NoisePrior) -> NormalGamma:
    """q(w, tau) before the first update, which replaces it: no weights, all variation noise."""
    concentration = noise.concentration + 0.5 * s.count
    rate = noise.rate + 0.5 * s.yy
    precision = torch.diag(_unit_information(s))
    return NormalGamma.from_standard(torch.zeros_like(s.xy), precision, rate.new_tensor(concentration), rate)


@dataclass(frozen=True)
class StudentT:
    """Student-t distributions: location and scale of shape (N), degrees of freedom ()."""

    df: Tensor
    loc: Tensor
    scale: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        """Log density in nats, shape (N)."""
        result: Tensor = torch.distributions.StudentT(self.df, self.loc, self.scale).log_prob(y)
        return result

    @property
    def stddev(self) -> Tensor:
        """Standard deviation, infinite up to two degrees of freedom."""
        return torch.where(self.df > 2, self.scale * (self.df / (self.df - 2).clamp_min(1e-300)).sqrt(), math.inf)


def predictive(
    q: NormalGamma, statistics: RegressionStatistics, x: Tensor, *, intercept: bool = True, noise: bool = True
) -> StudentT:
    """p(y | x, data) under q: w, tau and the intercept are integrated out exactly.

    Args:
        q: the posterior of (w, tau).
        statistics: those of the data that q was fitted to.
        x: rows (N, D), not centred.
        noise: False leaves out the noise: the distribution of the regression line itself.
    """
    loc, precision, concentration, rate = q.standard_parameters
    x = x - statistics.x_mean if intercept else x
    factor = torch.linalg.cholesky(precision)
    leverage = torch.linalg.solve_triangular(factor, x.mT, upper=False).square().sum(0)
    variance = leverage + noise + (1 / statistics.count if intercept else 0.0)
    centre = x @ loc + (statistics.y_mean if intercept else 0.0)
    return StudentT(2 * concentration, centre, (rate / concentration * variance).sqrt())
