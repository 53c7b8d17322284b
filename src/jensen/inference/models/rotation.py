"""Parameter expansion for models with products of two Gaussian factors: the rotation that the likelihood cannot see.

Coordinate ascent turns the factors only little by little, along a plateau of the bound; the rotation goes there at
once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.families.linear import times
from jensen.inference.conjugate import ConjugateModel, State
from jensen.inference.evaluation import evaluate
from jensen.inference.methods import Result
from jensen.inference.update import check_climb

__all__ = [
    "FactorMoments",
    "Rotated",
    "RotationGain",
    "best_rotation",
    "best_shift",
    "climb",
    "rotate",
    "shifted",
]

Array: TypeAlias = npt.NDArray[np.float64]

_STEPS = 10
"""of L-BFGS: each sweep goes on where the last one stopped"""


class FactorMoments(NamedTuple):
    """Sums of E[z] over the data."""

    total: Tensor
    """over all, (K,)"""
    by_column: Tensor
    """over the rows in which each column is observed, (D, K)"""
    rows: Tensor
    """how many there are"""
    observed: Tensor
    """number of rows in which each column is observed, (D,)"""


class Rotated(NamedTuple):
    """What a rotation changes besides the factors themselves."""

    loadings: MultivariateNormal
    ard: Gamma
    rotation: Tensor


@dataclass(frozen=True)
class RotationGain:
    """What of the bound depends on R if z becomes R z, w becomes R^-T w, and q(ard) follows, in nats.

    The likelihood sees w . z alone, so what is left are the priors and entropies (Luttinen & Ilin 2010, section 3):
    -tr(R S_z R^T) / 2 + (N - D) log |det R| - sum_k a_k log b_k(R), with b_k(R) = b_0 + (R^-T S_w R^-1)_kk / 2.

    Attributes:
        factors: S_z, the sum of E[z z^T] over the data, (K, K).
        count: N, how many z there are.
        loadings: S_w, the sum of E[w w^T] over the D rows of the loadings, (K, K).
        rows: D.
        concentration: a, of q(ard), (K,).
        rate: b_0, of ARD's prior, (K,).
    """

    factors: Array
    count: float
    loadings: Array
    rows: int
    concentration: Array
    rate: Array

    def __call__(self, rotation: Array) -> tuple[float, Array]:
        """The gain at R, and its gradient, (K, K); minus infinity where R is singular."""
        try:
            inverse = np.linalg.inv(rotation)
        except np.linalg.LinAlgError:
            return -np.inf, np.zeros_like(rotation)
        turned = inverse.T @ self.loadings @ inverse
        rate = self.rate + 0.5 * turned.diagonal()
        stretched = rotation @ self.factors
        free = self.count - self.rows
        value = -0.5 * (stretched * rotation).sum() + free * np.linalg.slogdet(rotation)[1]
        gradient = -stretched + free * inverse.T + (turned * (self.concentration / rate)) @ inverse.T
        return float(value - (self.concentration * np.log(rate)).sum()), gradient

    def seen_from(self, rotation: Array) -> RotationGain:
        """The same for rotations that are applied after this one, less a constant."""
        inverse = np.linalg.inv(rotation)
        return replace(self, factors=rotation @ self.factors @ rotation.T, loadings=inverse.T @ self.loadings @ inverse)


def best_rotation(gain: RotationGain) -> Array:
    """The R that maximises the gain.

    Where ARD's prior vanishes it makes the second moment of the factors the identity and that of the loadings diagonal:
    the sum over k of log (R^-T S_w R^-1)_kk is smallest where that matrix is diagonal (Hadamard), and what remains
    grows until R S_z R^T = N I. Columns then come out in order of size. From there, or from no rotation if that is
    better, a few steps of L-BFGS account for the prior.
    """
    identity = np.eye(len(gain.factors))
    try:
        factor = np.linalg.cholesky(gain.factors / gain.count)
        _, vectors = np.linalg.eigh(factor.T @ gain.loadings @ factor)
        rotation = vectors[:, ::-1].T @ np.linalg.inv(factor)
        seen = gain.seen_from(rotation)
        back = np.linalg.inv(rotation)
    except np.linalg.LinAlgError:
        return identity
    none = seen(back)[0]
    start = identity if seen(identity)[0] > none else back

    def loss(flat: Array) -> tuple[float, Array]:
        value, gradient = seen(flat.reshape(identity.shape))
        return -value / gain.count, -gradient.ravel() / gain.count

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    after = max((start, found.reshape(identity.shape)), key=lambda r: seen(r)[0])
    return after @ rotation if seen(after)[0] > none else identity


def rotate(loadings: MultivariateNormal, factors: Tensor, count: Tensor, ard: Gamma) -> Rotated:
    """Rotate q(loadings) by `best_rotation` and give ARD its optimal q.

    Args:
        loadings: one K-vector for each of D rows.
        factors: sum of E[z z^T] over the data, (K, K).
        count: how many z there are.
        ard: prior of the precisions.
    """
    rows = loadings.batch_shape[0]
    concentration, rate = (p.expand(len(factors)) for p in ard.standard_parameters)
    concentration = concentration + 0.5 * rows
    gain = RotationGain(
        factors.numpy(force=True),
        float(count),
        loadings.mean_parameters.outer.sum(0).numpy(force=True),
        rows,
        concentration.numpy(force=True),
        rate.numpy(force=True),
    )
    rotation = torch.from_numpy(best_rotation(gain)).to(factors)
    precision_mean, precision = loadings.natural_parameters
    natural = MultivariateNormal.Natural(precision_mean @ rotation.mT, rotation @ precision @ rotation.mT)
    turned = MultivariateNormal(natural)
    squares = turned.mean_parameters.outer.sum(0).diagonal()
    return Rotated(turned, Gamma(Gamma.Natural(concentration - 1, -(rate + 0.5 * squares))), rotation)


def best_shift(
    loc: Tensor,
    covariance: Tensor,
    precision: Tensor,
    mean: Normal,
    mean_prior: Normal,
    moments: FactorMoments,
    factor_precision: Tensor,
) -> Tensor:
    """The c, (K,), that is best if each z becomes z - c and E[mu] becomes E[mu] + E[W] c.

    The bound is quadratic in c: from the prior of z, that of mu, and the fit, in which (W - E[W]) c is left over. Where
    values are missing, coordinate ascent lets the means of z and mu find each other only slowly.

    Args:
        loc: E[W], (D, K).
        covariance: of each w_d, (D, K, K).
        precision: E[tau], of the noise of each column, (D,).
        mean: q(mu_d), (D,).
        mean_prior: its prior.
        moments: of q(z).
        factor_precision: of the prior of z, (K,).
    """
    prior = mean_prior.natural_parameters
    spread = precision[:, None, None] * covariance
    curvature = torch.diag(moments.rows * factor_precision) + (moments.observed[:, None, None] * spread).sum(0)
    curvature = curvature + (loc * prior.precision.unsqueeze(-1)).mT @ loc
    slope = factor_precision * moments.total + times(spread, moments.by_column).sum(0)
    slope = slope + (prior.precision_mean - prior.precision * mean.mean_parameters.mean) @ loc
    shift: Tensor = torch.linalg.solve(curvature, slope)
    return shift


def shifted(mean: Normal, by: Tensor) -> Normal:
    """The same with another location."""
    precision_mean, precision = mean.natural_parameters
    return Normal(Normal.Natural(precision_mean + precision * by, precision))


def climb(
    model: ConjugateModel,
    start: State,
    data: Any,
    sweep: Callable[[State], State],
    expand: Callable[[State], State] | None,
    *,
    tol: float,
    max_steps: int,
    warm_up: int = 0,
    chunk_size: int | None = None,
    callback: Callable[[int, float, State], object] | None = None,
) -> Result:
    """Coordinate ascent with a parameter expansion after every sweep, until the ELBO settles.

    Args:
        model: whose bound is climbed; it has a latent "ard".
        sweep: all updates of a sweep.
        expand: a move that cannot lower the bound, made after each of them; None: none.
        tol: relative change of the ELBO in a sweep at which it stops.
        warm_up: so many sweeps first leave "ard" as it is and do not expand. From a random start both can switch a
            factor off before it has found its place, for good (as far as local optima go).
        callback: called with (sweep, ELBO, state).

    Raises:
        ValueError: `tol` or `max_steps` out of range.
        NonFiniteError: a term of the bound is NaN or infinite.
        NotConjugateError: the bound fell.
    """
    if not (tol >= 0 and max_steps >= 1):
        raise ValueError(f"tol must be 0 or more and max_steps at least 1, got {tol} and {max_steps}")
    state, before, trace = start, -math.inf, list[float]()
    with torch.no_grad():
        for step in range(1, max_steps + 1):
            after = sweep(state)
            if step <= warm_up:
                after = after.with_q({"ard": state.q["ard"]})
            elif expand is not None:
                after = expand(after)
            state = after
            found = evaluate(model, state, data, chunk_size=chunk_size)
            check_climb(model, before, found, f"in sweep {step}")
            trace.append(found.elbo)
            if callback:
                callback(step, found.elbo, state)
            if step > warm_up and abs(found.elbo - before) <= tol * max(1.0, abs(found.elbo)):
                return Result(state.q, found.elbo, trace, True, f"the ELBO changed by less than tol = {tol:g}", step)
            before = found.elbo
    return Result(state.q, before, trace, False, f"max_steps = {max_steps} sweeps were made", max_steps)
