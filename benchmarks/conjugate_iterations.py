"""Iterations to tolerance of coordinate, natural-gradient and plain gradient ascent, on the same models and starts.

A part of `benchmarks.conjugate`. All three maximise the same bound from the same q. A coordinate or natural-gradient
iteration is a sweep over the blocks, a gradient iteration a step in all parameters; the step size of the plain gradient
doubles and halves by itself so that the bound never falls, and the evaluations that this takes are not counted.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor

from benchmarks.report import Row, row_of
from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.inference import Columns, ConjugateModel, Latent, State, infer
from jensen.inference.models.gaussian_fit import gaussian_fit
from jensen.inference.models.linear_regression import RegressionStatistics, linear_regression
from jensen.inference.models.logistic_regression import logistic_regression
from jensen.inference.models.weights import Centring, WeightPrior

__all__ = ["rows"]

TOLERANCE = 1e-3  # nats under the optimum
RHO = 0.9
LIMIT, QUICK_LIMIT = 1_000, 100


@dataclass(frozen=True)
class Case:
    """A model with its data, and what it is."""

    name: str
    model: ConjugateModel
    data: Any


def rows(quick: bool) -> tuple[list[Row], list[str]]:
    """Coordinate against natural-gradient ascent, and that against plain gradients, on four models."""
    limit = QUICK_LIMIT if quick else LIMIT
    found, notes = [], []
    for make in (gaussians, mean_and_precision, relevance, classification):
        case = make()
        optimum = infer(case.model, case.data, tol=1e-14, max_steps=LIMIT).elbo
        coordinate = iterations(case, "cavi", None, optimum, limit)
        natural = iterations(case, "natural", RHO, optimum, limit)
        gradient = iterations(case, "gradient", None, optimum, limit)
        unit = "iterations"
        found.append(
            row_of(f"coordinate, {case.name}", coordinate, natural, "natural", unit, target=1.0, higher_is_better=False)
        )
        note = "" if gradient < limit else f"the gradient was stopped after {limit:,} iterations"
        found.append(
            row_of(
                f"natural, {case.name}",
                natural,
                gradient,
                "gradient",
                unit,
                target=1.0,
                higher_is_better=False,
                note=note,
            )
        )
    notes.append(
        f"Iterations until the bound is within {TOLERANCE:g} nats of its optimum, from the same start. Natural"
        f" gradient: constant rho = {RHO}. Plain gradient: its step size adapts, and trial steps that would lower the"
        " bound are not counted."
    )
    return found, notes


def iterations(case: Case, method: str, rho: float | None, optimum: float, limit: int) -> int:
    """Until the bound is within TOLERANCE of the optimum; `limit` if it is not by then."""
    reached: list[int] = []

    def watch(step: int, elbo: float, state: State) -> None:
        if elbo > optimum - TOLERANCE:
            reached.append(step)
            raise _ReachedError

    with suppress(_ReachedError):
        infer(case.model, case.data, method=method, rho=rho, tol=0, max_steps=limit, callback=watch)
    return reached[0] if reached else limit


class _ReachedError(Exception):
    """The tolerance is reached."""


def gaussians() -> Case:
    """The article's example, in five dimensions: a product of normals fitted to a normal with correlations."""
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(5, 5, dtype=torch.float64, generator=generator)
    scales = torch.tensor([0.1, 0.3, 1.0, 3.0, 10.0], dtype=torch.float64)
    covariance = scales[:, None] * (factor @ factor.mT + torch.eye(5, dtype=torch.float64)) * scales
    target = MultivariateNormal.from_standard(scales * torch.arange(5.0, dtype=torch.float64), covariance)
    start = MultivariateNormal.from_standard(torch.zeros(5, dtype=torch.float64), torch.eye(5, dtype=torch.float64))
    return Case("two Gaussians (D 5)", gaussian_fit(target, start, "mean-field"), None)


def mean_and_precision() -> Case:
    """1,000 numbers with unknown mean and precision."""
    x = 3 + 2 * torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def terms(m: Any, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square
        expected: Tensor = (0.5 * (m.tau.log - math.log(2 * math.pi)) - 0.5 * m.tau.mean * square).sum()
        return expected

    latents = {
        "mu": Latent(Normal.from_standard(-5.0, 1.0), prior=Normal.from_standard(0.0, 10.0)),
        "tau": Latent(Gamma.from_standard(1.0, 1.0), prior=Gamma.from_standard(0.1, 0.1)),
    }
    return Case("mean and precision (N 1,000)", ConjugateModel(latents, terms), x)


def relevance() -> Case:
    """Linear regression with relevance determination on scikit-learn's diabetes data, standardised."""
    x, y = (torch.from_numpy(part) for part in load_diabetes(return_X_y=True))
    x, y = x / x.std(0), (y - y.mean()) / y.std()
    model = linear_regression(RegressionStatistics.of(x, y), WeightPrior(concentration=1e-2, rate=1e-2))
    return Case("ARD regression (diabetes)", model, None)


def classification() -> Case:
    """Logistic regression by the Jaakkola-Jordan bound on scikit-learn's breast cancer data, standardised."""
    x, t = (torch.from_numpy(part).double() for part in load_breast_cancer(return_X_y=True))
    centring = Centring.of(x := (x - x.mean(0)) / x.std(0), intercept=True, scale=10.0)
    prior = WeightPrior(ard=False, precision=1.0)
    model = logistic_regression(centring, prior, torch.ones(x.shape[1], dtype=torch.float64))
    return Case("logistic regression (breast cancer)", model, Columns(x=centring.rows(x), t=t[:, None]))
