"""What a posterior says of each number: its mean and a central interval, exactly, for every family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from jensen.families import (
    Beta,
    Dirichlet,
    ExponentialFamily,
    Gamma,
    InverseGamma,
    MultivariateNormal,
    Normal,
    NormalGamma,
    NormalWishart,
    Wishart,
)
from jensen.families.tied_normal_wishart import TiedNormalWishart

__all__ = ["Marginal", "marginals"]

Floats = npt.NDArray[np.float64]


class Marginal(NamedTuple):
    """Numbers of one kind that a family is about, each with its mean and central interval.

    `what` says which ("mean", "standard deviation", "precision", ...) and is empty where the family is about one kind
    alone; the arrays have the shape (*batch, *numbers).
    """

    what: str
    mean: Floats
    lower: Floats
    upper: Floats


def marginals(q: ExponentialFamily[Any, Any, Any], level: float = 0.95) -> list[Marginal]:
    """Posterior means and central intervals of probability `level`, from the exact marginal distributions.

    Normal-Gamma gives its coefficients (Student-t) and the standard deviation 1 / sqrt(precision); the Wishart families
    the standard deviation of each column of the covariance (the inverse of the precision), and their means
    (Student-t). Empty for discrete families and chains, which are about no continuous number.

    Raises:
        ValueError: a level outside of (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level should be between 0 and 1, but is {level}")
    summary = _SUMMARIES.get(type(q))
    if summary is None:
        return []
    standard = type(q.standard_parameters)(*(p.detach().cpu().double().numpy() for p in q.standard_parameters))
    return summary(standard, np.array([(1 - level) / 2, (1 + level) / 2]))


def _interval(what: str, mean: Floats, quantile: Callable[[float], Floats], tails: Floats) -> Marginal:
    lower, upper = (np.broadcast_to(quantile(float(tail)), mean.shape) for tail in tails)
    return Marginal(what, np.asarray(mean, np.float64), np.asarray(lower, np.float64), np.asarray(upper, np.float64))


def _student(what: str, loc: Floats, scale: Floats, df: Floats, tails: Floats) -> Marginal:
    return _interval(what, loc, lambda tail: loc + scale * special.stdtrit(df, tail), tails)


def _deviation(what: str, concentration: Floats, rate: Floats, tails: Floats) -> Marginal:
    """t^-1/2 for t ~ Gamma(concentration, rate); its mean is infinite up to concentration 1/2."""
    concentration, rate = np.broadcast_arrays(concentration, rate)
    with np.errstate(divide="ignore"):
        log_mean = 0.5 * np.log(rate) + special.gammaln(concentration - 0.5) - special.gammaln(concentration)
    mean = np.where(concentration > 0.5, np.exp(log_mean), np.inf)
    return _interval(what, mean, lambda tail: (special.gammainccinv(concentration, tail) / rate) ** -0.5, tails)


def _normal(p: Any, tails: Floats) -> list[Marginal]:
    return [_interval("", p.loc, lambda tail: p.loc + p.scale * special.ndtri(tail), tails)]


def _multivariate_normal(p: Any, tails: Floats) -> list[Marginal]:
    scale = np.sqrt(np.diagonal(p.covariance, axis1=-2, axis2=-1))
    return [_interval("", p.loc, lambda tail: p.loc + scale * special.ndtri(tail), tails)]


def _gamma(p: Any, tails: Floats) -> list[Marginal]:
    mean = p.concentration / p.rate
    return [_interval("", mean, lambda tail: special.gammaincinv(p.concentration, tail) / p.rate, tails)]


def _inverse_gamma(p: Any, tails: Floats) -> list[Marginal]:
    with np.errstate(divide="ignore"):
        mean = np.where(p.concentration > 1, p.rate / np.maximum(p.concentration - 1, 1e-300), np.inf)
    return [_interval("", mean, lambda tail: p.rate / special.gammainccinv(p.concentration, tail), tails)]


def _dirichlet(p: Any, tails: Floats) -> list[Marginal]:
    total = p.concentration.sum(-1, keepdims=True)
    rest = np.maximum(total - p.concentration, 1e-300)
    mean = p.concentration / total
    return [_interval("", mean, lambda tail: special.betaincinv(p.concentration, rest, tail), tails)]


def _beta(p: Any, tails: Floats) -> list[Marginal]:
    mean = p.concentration1 / (p.concentration1 + p.concentration0)
    return [_interval("", mean, lambda tail: special.betaincinv(p.concentration1, p.concentration0, tail), tails)]


def _normal_gamma(p: Any, tails: Floats) -> list[Marginal]:
    variance = np.diagonal(np.linalg.inv(p.precision), axis1=-2, axis2=-1)
    scale = np.sqrt(variance * (p.rate / p.concentration)[..., None])
    return [
        _student("coefficient", p.loc, scale, 2 * p.concentration[..., None], tails),
        _deviation("noise standard deviation", p.concentration, p.rate, tails),
    ]


def _spread(df: Floats, scale: Floats, tails: Floats) -> Marginal:
    """Square roots of the diagonal of W^-1: 1 / (W^-1)_dd ~ Gamma((df - D + 1) / 2, (V^-1)_dd / 2)."""
    inverse = np.diagonal(np.linalg.inv(scale), axis1=-2, axis2=-1)
    return _deviation("standard deviation", (df[..., None] - scale.shape[-1] + 1) / 2, inverse / 2, tails)


def _wishart(p: Any, tails: Floats) -> list[Marginal]:
    return [_spread(p.df, p.scale, tails)]


def _normal_wishart(p: Any, tails: Floats) -> list[Marginal]:
    free = p.df[..., None] - p.scale.shape[-1] + 1
    inverse = np.diagonal(np.linalg.inv(p.scale), axis1=-2, axis2=-1)
    scale = np.sqrt(inverse / (p.kappa[..., None] * free))
    return [_student("mean", p.loc, scale, free, tails), _spread(p.df, p.scale, tails)]


def _tied_normal_wishart(p: Any, tails: Floats) -> list[Marginal]:
    free = p.df[..., None, None] - p.scale.shape[-1] + 1
    inverse = np.diagonal(np.linalg.inv(p.scale), axis1=-2, axis2=-1)
    scale = np.sqrt(inverse[..., None, :] / (p.kappa[..., None] * free))
    return [_student("mean", p.loc, scale, free, tails), _spread(p.df, p.scale, tails)]


_SUMMARIES: Mapping[type, Callable[[Any, Floats], list[Marginal]]] = {
    Beta: _beta,
    Dirichlet: _dirichlet,
    Gamma: _gamma,
    InverseGamma: _inverse_gamma,
    MultivariateNormal: _multivariate_normal,
    Normal: _normal,
    NormalGamma: _normal_gamma,
    NormalWishart: _normal_wishart,
    TiedNormalWishart: _tied_normal_wishart,
    Wishart: _wishart,
}
