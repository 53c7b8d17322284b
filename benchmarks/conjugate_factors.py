"""Seconds a sweep of principal component analysis against bayespy: complete data, missing values, with rotations.

Same data, priors and start; both in float64, in turn. A sweep of bayespy updates each node once, its factors among
them; ours has the factors at their optimum before every other update, so that the bounds differ on the way. With
rotations both arrive within these sweeps. The note of each row gives both bounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.report import Row, row_of
from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.inference import State
from jensen.inference.models.factor_analysis import FactorPriors, climb_factors
from jensen.inference.models.incomplete import IncompleteRows

__all__ = ["rows"]

MEAN_PRECISION, CONCENTRATION, RATE = 1e-2, 1e-3, 1e-3


@dataclass(frozen=True)
class Problem:
    """Data of K true factors (NaN where missing), and the loadings to start from."""

    x: npt.NDArray[np.float64]
    loadings: npt.NDArray[np.float64]

    @classmethod
    def make(cls, n: int, d: int, k: int, missing: float) -> Problem:
        """Generated with seed 0."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(n, k)) @ rng.normal(size=(k, d)) + 0.5 * rng.normal(size=(n, d))
        x[rng.random(x.shape) < missing] = np.nan
        return cls(x, rng.normal(size=(d, k)))


def peer(problem: Problem, sweeps: int, rotation: bool) -> tuple[float, float]:
    """Seconds a sweep and the bound at the end of bayespy's."""
    from bayespy.inference import VB
    from bayespy.inference.vmp.transformations import RotateGaussianARD, RotationOptimizer
    from bayespy.nodes import Add, GaussianARD, SumMultiply
    from bayespy.nodes import Gamma as GammaNode

    (n, d), k = problem.x.shape, problem.loadings.shape[1]
    factors = GaussianARD(0, 1, plates=(1, n), shape=(k,))
    ard = GammaNode(CONCENTRATION, RATE, plates=(k,))
    loadings = GaussianARD(0, ard, plates=(d, 1), shape=(k,))
    mean = GaussianARD(0, MEAN_PRECISION, plates=(d, 1))
    noise = GammaNode(CONCENTRATION, RATE)
    data = GaussianARD(Add(SumMultiply("d,d->", loadings, factors), mean), noise)
    there = ~np.isnan(problem.x).T
    data.observe(np.nan_to_num(problem.x).T, **({} if there.all() else {"mask": there}))
    inference = VB(data, factors, loadings, mean, noise, ard)
    loadings.initialize_from_parameters(problem.loadings[:, None, :], np.full((d, 1, k), 4.0))
    mean.initialize_from_parameters(np.zeros((d, 1)), np.ones((d, 1)))
    if rotation:
        optimiser = RotationOptimizer(RotateGaussianARD(loadings, ard), RotateGaussianARD(factors), k)
        inference.set_callback(optimiser.rotate)
    begin = time.perf_counter()
    for _ in range(sweeps):
        inference.update(verbose=False)
    return (time.perf_counter() - begin) / sweeps, float(inference.compute_lowerbound())


def ours(problem: Problem, sweeps: int, rotation: bool) -> tuple[float, float]:
    """The same of ours; putting rows together counts as part of the first sweep."""
    (_, d), k = problem.x.shape, problem.loadings.shape[1]
    zeros = torch.zeros(d, dtype=torch.float64)
    one = Gamma.from_standard(CONCENTRATION, RATE)
    priors = FactorPriors(Normal.from_standard(zeros, MEAN_PRECISION**-0.5), one, one.expand((k,)))
    covariance = 0.25 * torch.eye(k, dtype=torch.float64).expand(d, k, k)
    q: dict[str, Any] = {
        "loadings": MultivariateNormal.from_standard(torch.as_tensor(problem.loadings), covariance),
        "mean": Normal.from_standard(zeros, 1.0),
        "noise": priors.noise,
        "ard": priors.ard,
    }
    begin = time.perf_counter()
    data = IncompleteRows.from_array(torch.as_tensor(problem.x)).compressed()
    found = climb_factors(priors, State(q=q), data, tol=0, max_steps=sweeps, rotation=rotation)
    return (time.perf_counter() - begin) / found.steps, found.elbo


def rows(quick: bool) -> tuple[list[Row], list[str]]:
    """Rows for the report, and remarks."""
    sweeps, repeats = (5, 1) if quick else (40, 5)
    cases = [(500, 20, 5, 0.0)] if quick else [(2_000, 20, 5, 0.0), (20_000, 20, 5, 0.0), (2_000, 20, 5, 0.2)]
    result = [_row(case, rotation, sweeps, repeats) for case in cases for rotation in (False, True)]
    return result, ["PCA: float64, the same data, priors and start; ours with the time of putting rows together."]


def _row(case: tuple[int, int, int, float], rotation: bool, sweeps: int, repeats: int) -> Row:
    n, d, k, missing = case
    problem = Problem.make(*case)
    contenders: dict[str, Callable[..., tuple[float, float]]] = {"ours": ours, "peer": peer}
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    bounds = {}
    for repeat in range(repeats):
        for name in sorted(contenders, reverse=repeat % 2 == 1):
            seconds, bounds[name] = contenders[name](problem, sweeps, rotation)
            times[name].append(seconds)
    gaps = f", {missing:.0%} missing" if missing else ""
    return row_of(
        f"PCA sweep, N {n:,}, D {d}, K {k}{gaps}{', rotation' * rotation}",
        1e3 * statistics.median(times["ours"]),
        1e3 * statistics.median(times["peer"]),
        "bayespy",
        "ms",
        higher_is_better=False,
        note=f"ELBO after {sweeps} sweeps: ours {bounds['ours']:.3f}, bayespy {bounds['peer']:.3f}",
    )
