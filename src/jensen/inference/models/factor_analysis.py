"""Probabilistic PCA and factor analysis with relevance determination, from rows of which values may be missing.

    x_nd ~ N(w_d . z_n + mu_d, 1 / tau_d),  z_n ~ N(0, I),  w_dk ~ N(0, 1 / alpha_k),
    mu_d ~ N(m_d, 1 / beta_d),  tau ~ Gamma (one: PCA; one for each column: factor analysis),  alpha_k ~ Gamma

(Bishop 1999, "Variational principal components"; Ilin & Raiko 2010 for missing values). The posterior is
prod_d q(w_d) q(mu_d) q(tau) q(alpha) prod_n q(z_n). The q(z_n) have a closed form and are at their optimum at every
moment, so that no state of theirs is kept; rows with the same columns observed share their covariance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.families.linear import from_factor, half_log_determinant, inverse_factor, outer, times
from jensen.inference.conjugate import ConjugateModel, Latent, State
from jensen.inference.methods import Result
from jensen.inference.models.incomplete import IncompleteRows
from jensen.inference.models.rotation import FactorMoments, best_shift, climb, rotate, shifted

__all__ = [
    "FactorPriors",
    "Factors",
    "climb_factors",
    "evidence",
    "expanded",
    "factor_model",
    "factor_priors",
    "factors_of",
    "start_factors",
    "sweep",
]

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class FactorPriors:
    """Priors of D columns and K factors.

    Attributes:
        mean: of mu, batch shape (D,).
        noise: of the noise precision; batch shape () for one that all columns share, or (D,).
        ard: of the precision of each factor's loadings, batch shape (K,).
    """

    mean: Normal
    noise: Gamma
    ard: Gamma


class Factors(NamedTuple):
    """The optimal q(z) of some rows, as far as others need it.

    Attributes:
        mean: E[z], (R, K).
        covariance: of each pattern's z, (G, K, K).
        second: sum over each pattern's rows of E[z z^T], (G, K, K).
    """

    mean: Tensor
    covariance: Tensor
    second: Tensor


def factor_priors(
    rows: IncompleteRows,
    factors: int,
    *,
    shared_noise: bool,
    mean: Tensor | float = 0.0,
    mean_precision: float | None = None,
    noise: tuple[float, float | None] = (1e-3, None),
    ard: tuple[float, float | None] = (1e-3, None),
) -> FactorPriors:
    """Priors in the units of the data, so that a change of units changes nothing but units.

    Args:
        rows: centred.
        factors: K.
        shared_noise: one noise precision for all columns.
        mean: of mu, a number or (D,).
        mean_precision: of mu; default 1e-3 over the columns' mean variance.
        noise: concentration and rate of the noise precision; default rate: the concentration times the mean variance of
            the columns, or each column's own where noise is not shared.
        ard: the same of the loadings' precision; default rate: the concentration times the mean variance.
    """
    count, _, _, square = rows.sums
    variance = square / count.clamp(min=1)
    varied = variance > 0
    typical = variance[varied].mean() if bool(varied.any()) else torch.ones_like(variance[0])
    own = typical if shared_noise else torch.where(varied, variance, typical)
    precision = 1e-3 / typical if mean_precision is None else mean_precision
    location = torch.as_tensor(mean, dtype=variance.dtype, device=variance.device).expand_as(variance)
    full = variance.new_ones(factors)
    return FactorPriors(
        mean=Normal.from_standard(location, variance.new_tensor(float(precision)).rsqrt()),
        noise=Gamma.from_standard(torch.full_like(own, noise[0]), noise[0] * own if noise[1] is None else noise[1]),
        ard=Gamma.from_standard(ard[0] * full, (ard[0] * typical if ard[1] is None else ard[1]) * full),
    )


# --- the model -------------------------------------------------------------------------------------------------------


def factor_model(priors: FactorPriors, start: State) -> ConjugateModel:
    """The model for the engine; its data are `IncompleteRows`, its latents loadings, mean, noise and ard.

    Args:
        start: q of the four, as from `start_factors`.
    """
    return ConjugateModel(
        latents={
            "loadings": Latent(start.q["loadings"]),
            "mean": Latent(start.q["mean"], prior=priors.mean),
            "noise": Latent(start.q["noise"], prior=priors.noise),
            "ard": Latent(start.q["ard"], prior=priors.ard),
        },
        local_terms=_local_terms,
        global_terms=loadings_prior,
        profiled=frozenset({"factors"}),
    )


def loadings_prior(m: Any) -> dict[str, Tensor]:
    """E[log p(W | alpha)] in nats."""
    squares = m.loadings.outer.diagonal(dim1=-2, dim2=-1)
    return {"loadings": 0.5 * (m.ard.log - m.ard.mean * squares - _LOG_2PI).sum()}


def _local_terms(m: Any, rows: IncompleteRows) -> dict[str, Tensor]:
    """E[log p(x | z, ...)] + E[log p(z) / q(z)], maximised over q(z): its part without z, and z's log-partition.

    With `weight` s and `count` c of the rows, each product of data is one of `IncompleteRows.sums`.
    """
    precision = m.noise.mean.expand(rows.x.shape[1])
    count, weight, x, square = rows.sums
    residual = square - 2 * m.mean.mean * x + m.mean.square * weight
    fit = 0.5 * (count * (m.noise.log - _LOG_2PI) - precision * residual).sum()
    linear, quadratic = evidence(m.loadings.mean, m.loadings.outer, m.mean.mean, precision, rows)
    with torch.no_grad():
        factor, factors = _posterior(linear, quadratic, rows)
        constant = 0.5 * rows.count.sum() * linear.shape[1] + (rows.total * half_log_determinant(factor)).sum()
    # <eta, E[T]> + H with E[T] fixed at its optimum: the log-partition and, by the envelope theorem, its gradient
    return {"fit": fit, "factors": (linear * factors.mean).sum() - 0.5 * (quadratic * factors.second).sum() + constant}


def evidence(
    loadings: Tensor, second: Tensor, mean: Tensor, precision: Tensor, rows: IncompleteRows
) -> tuple[Tensor, Tensor]:
    """Natural parameters of q(z): precision x mean (R, K) of each row, and the precision (G, K, K) of each pattern.

    Args:
        loadings: E[W], (D, K).
        second: E[w w^T] of its rows, (D, K, K).
        mean: E[mu], (D,).
        precision: E[tau], (D,).
    """
    count = loadings.shape[1]
    linear = ((rows.x - rows.there * (rows.weight.unsqueeze(-1) * mean)) * precision) @ loadings
    quadratic = (rows.observed @ (precision.unsqueeze(-1) * second.flatten(1))).unflatten(1, (count, count))
    return linear, quadratic + torch.eye(count, dtype=linear.dtype, device=linear.device)


def _posterior(linear: Tensor, quadratic: Tensor, rows: IncompleteRows) -> tuple[Tensor, Factors]:
    """q(z) from its natural parameters: the factor of its covariances, and its moments."""
    factor = inverse_factor(quadratic)
    covariance = from_factor(factor)
    patterns = len(covariance)
    mean = linear @ covariance[0] if patterns == 1 else times(covariance[rows.pattern], linear)
    second = covariance * rows.total[:, None, None]
    products = mean.mT @ mean if patterns == 1 else torch.zeros_like(second).index_add(0, rows.pattern, outer(mean))
    return factor, Factors(mean, covariance, second + products)


def factors_of(state: State, rows: IncompleteRows) -> Factors:
    """The optimal q(z) of these rows."""
    q = state.q
    loadings, mean, noise = (q[n].mean_parameters for n in ("loadings", "mean", "noise"))
    precision = noise.mean.expand(rows.x.shape[1])
    return _posterior(*evidence(loadings.mean, loadings.outer, mean.mean, precision, rows), rows)[1]


# --- the way up ------------------------------------------------------------------------------------------------------


def sweep(priors: FactorPriors, state: State, rows: IncompleteRows) -> State:
    """The engine's updates of loadings, mean, noise and ard in this order, in closed form."""
    q: dict[str, Any] = dict(state.q)
    sums, columns = rows.sums, rows.x.shape[1]
    precision = q["noise"].mean_parameters.mean.expand(columns)

    def present() -> tuple[Factors, Tensor, Tensor]:
        """q(z), and by column the sums of E[z z^T] and of E[z] (x - mean)."""
        factors = factors_of(State(q=q), rows)
        residual = rows.x - rows.there * (rows.weight.unsqueeze(-1) * q["mean"].mean_parameters.mean)
        second = (rows.observed.mT @ factors.second.flatten(1)).unflatten(1, factors.second.shape[1:])
        return factors, second, residual.mT @ factors.mean

    _, second, products = present()
    relevance = torch.diag_embed(q["ard"].mean_parameters.mean)
    scale = precision.unsqueeze(-1)
    natural = MultivariateNormal.Natural(scale * products, relevance + scale.unsqueeze(-1) * second)
    q["loadings"] = MultivariateNormal(natural)

    loadings = q["loadings"].mean_parameters
    factors = factors_of(State(q=q), rows)
    explained = ((rows.there.mT @ (rows.weight.unsqueeze(-1) * factors.mean)) * loadings.mean).sum(-1)
    prior = priors.mean.natural_parameters
    q["mean"] = Normal(
        Normal.Natural(
            prior.precision_mean + precision * (sums.x - explained), prior.precision + precision * sums.weight
        )
    )

    _, second, products = present()
    mean = q["mean"].mean_parameters
    error = sums.square - 2 * mean.mean * sums.x + mean.square * sums.weight
    error = error - 2 * (products * loadings.mean).sum(-1) + (second * loadings.outer).sum((-1, -2))
    q["noise"] = _gamma(priors.noise, sums.data, error)
    squares = loadings.outer.diagonal(dim1=-2, dim2=-1).sum(0)
    q["ard"] = _gamma(priors.ard, torch.full_like(squares, columns), squares)
    return State(q=q)


def _gamma(prior: Gamma, count: Tensor, squares: Tensor) -> Gamma:
    """The posterior of a precision after `count` numbers with this sum of squares."""
    shape = prior.batch_shape
    concentration, rate = prior.natural_parameters
    return Gamma(Gamma.Natural(concentration + 0.5 * count.sum_to_size(shape), rate - 0.5 * squares.sum_to_size(shape)))


def expanded(priors: FactorPriors, state: State, rows: IncompleteRows) -> State:
    """The state after moving the factors' mean into the data's, and the best rotation; its bound is not lower."""
    q: Any = state.q
    factors = factors_of(state, rows)
    weighted = rows.weight.unsqueeze(-1) * factors.mean
    moments = FactorMoments(weighted.sum(0), rows.there.mT @ weighted, rows.count.sum(), rows.sums.weight)
    precision = q["noise"].mean_parameters.mean.expand(rows.x.shape[1])
    loc, covariance = q["loadings"].standard_parameters
    unit = torch.ones_like(moments.total)
    shift = best_shift(loc, covariance, precision, q["mean"], priors.mean, moments, unit)
    cross = moments.total.unsqueeze(-1) * shift
    second = factors.second.sum(0) - cross - cross.mT + moments.rows * outer(shift)
    turned = rotate(q["loadings"], second, moments.rows, priors.ard)
    mean = shifted(q["mean"], loc @ shift)
    return state.with_q({"loadings": turned.loadings, "ard": turned.ard, "mean": mean})


def climb_factors(
    priors: FactorPriors,
    start: State,
    rows: IncompleteRows,
    *,
    tol: float = 1e-8,
    max_steps: int = 1000,
    rotation: bool = True,
    warm_up: int = 0,
    callback: Callable[[int, float, State], object] | None = None,
) -> Result:
    """Coordinate ascent on all data (`compressed()` ones give the same result sooner); see `climb`.

    Args:
        rotation: False leaves out the moves of `expanded`.
    """
    return climb(
        factor_model(priors, start),
        start,
        rows,
        lambda state: sweep(priors, state, rows),
        (lambda state: expanded(priors, state, rows)) if rotation else None,
        tol=tol,
        max_steps=max_steps,
        warm_up=warm_up,
        callback=callback,
    )


def start_factors(
    rows: IncompleteRows, priors: FactorPriors, generator: Generator | None = None, *, random: bool = False
) -> State:
    """A first q: principal axes (missing values at their column's mean), or random loadings of the data's size.

    Never zero loadings: there the bound is stationary, and coordinate ascent would stay.

    Args:
        rows: centred.
        generator: of random loadings.
    """
    count, factors = rows.sums.data, priors.ard.batch_shape[0]
    variance = rows.sums.square / count.clamp(min=1)
    typical = variance.mean() if bool(variance.any()) else torch.ones_like(variance[0])
    total = rows.count.sum()
    if random:
        loc = torch.randn(len(variance), factors, dtype=variance.dtype, generator=generator).to(variance.device)
        loc = loc * (variance.clamp(min=1e-12 * typical) / factors).sqrt().unsqueeze(-1)
    else:
        _, values, vectors = torch.linalg.svd(rows.x, full_matrices=False)
        loc = vectors.mT[:, :factors] * (values[:factors] / total.sqrt())
        loc = torch.nn.functional.pad(loc, (0, factors - loc.shape[1]))
    left = (variance - loc.square().sum(-1)).clamp(min=1e-3 * typical)
    spread = (left / total).clamp(min=1e-8 * typical)
    identity = torch.eye(factors, dtype=loc.dtype, device=loc.device)
    loadings = MultivariateNormal.from_standard(loc, spread[:, None, None] * identity)
    squares = loadings.mean_parameters.outer.diagonal(dim1=-2, dim2=-1).sum(0)
    return State(
        q={
            "loadings": loadings,
            "mean": Normal.from_standard(torch.zeros_like(left), spread.sqrt()),
            "noise": _gamma(priors.noise, count, count * left),
            "ard": _gamma(priors.ard, torch.full_like(squares, len(variance)), squares),
        }
    )
