"""Our fits of one posterior: accuracy, honesty and seconds."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.models.case import Case, Draws
from benchmarks.posteriordb_best import Normal, polish
from benchmarks.posteriordb_judge import CHUNK, Accuracy, Judge, finite
from jensen.inference.fit import fit
from jensen.inference.fit_result import FitResult
from jensen.inference.linear_response import response_of

__all__ = ["FAMILIES", "NEAR", "ours", "warm_up"]

FAMILIES = ("mean_field", "full_rank")
NEAR = 0.1
"""nats: ELBOs that count as equal; also the sds within which means must agree with those at the best ELBO"""
REPEATS = 3
FULL = 60  # coordinates up to which full rank is tried: parameters grow with their square
LONG = 10.0  # seconds: a fit that takes longer is timed once


@dataclass(frozen=True)
class Fit:
    """What is kept of a fit; seconds that passed, and that the processor worked for it, medians of repeats."""

    result: FitResult
    seconds: float
    cpu_seconds: float
    elbo: float
    draws: Draws


def ours(case: Case, judge: Judge, family: str, starts: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Fit with the defaults and measure.

    Args:
        case: model and data.
        judge: of it.
        family: the name of one of ours.
        starts: means and sds on the real scale from which the best ELBO is also sought.

    Returns:
        Numbers by name, or `failed` alone.
    """
    if family == "full_rank" and judge.size > FULL:
        return {"failed": f"not run: a full covariance of {judge.size} coordinates"}
    try:
        made = _fit(case, judge, family)
    except Exception as error:  # every posterior is a row: a failure is one too
        return {"failed": f"{type(error).__name__}: {error}"}
    result, ascent = made.result, made.result.ascent
    start = time.perf_counter()
    diagnosis = result.pareto_k
    record = {
        "seconds": made.seconds,
        "cpu_seconds": made.cpu_seconds,
        "diagnosis_seconds": time.perf_counter() - start,
        "elbo": made.elbo,
        "k_hat": diagnosis.value,
        "usable": diagnosis.usable,
        "evaluations": ascent.evaluations,
        "converged": result.converged,
        "reason": result.reason,
        "starts": len(ascent.starts),
        **asdict(judge.accuracy(made.draws)),
    }
    corrected = None if ascent.response is None else _linear_response(judge, made)
    if corrected is not None:
        record["linear_response"] = asdict(corrected)
    if diagnosis.usable:
        record["reweighted"] = asdict(judge.accuracy(result.sample(len(judge.noise), seed=1, reweighted=True)))
    return record | _truth(judge, made, family, starts)


def warm_up() -> None:
    """A small fit, so that what Python and torch do once is not timed."""
    from jensen.inference.model import Model
    from jensen.inference.supports import positive

    for family in FAMILIES:
        fit(Model({"x": positive()}, lambda z, _: 3.0 * z.x.log() - z.x), family=family).summary()


def _fit(case: Case, judge: Judge, family: str) -> Fit:
    seconds: list[float] = []
    of_cpu: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < LONG:
        start, cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say is in the result, which is recorded
            result = fit(case.model, dict(case.data), family=family)
        seconds.append(time.perf_counter() - start)
        of_cpu.append(time.process_time() - cpu)
    flat = result.bound.flat()
    with torch.no_grad():
        elbos = [result.bound.per_draw(flat, part) for part in judge.noise.split(CHUNK)]
    draws = result.sample(len(judge.noise), seed=1)
    spent = statistics.median(seconds), statistics.median(of_cpu)
    return Fit(result, *spent, finite(float(torch.cat(elbos).mean())), draws)


def _linear_response(judge: Judge, made: Fit) -> Accuracy | None:
    """q's means with standard deviations of the reported parameters by linear response."""
    result = made.result

    def reported(values: Mapping[str, Tensor]) -> Tensor:
        found = judge.case.reported(dict(values))
        return torch.stack([found[name] for name in judge.reference.names], 1)

    found = response_of(result.bound, result.bound.flat(), result.ascent.response, reported)
    return None if found is None else judge.compared(judge.moments(made.draws)[0], found.diagonal().clamp(min=0).sqrt())


def _truth(judge: Judge, made: Fit, family: str, starts: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Whether the ELBO is the best that is known, and the means are those there."""
    u = judge.target.coordinates.unconstrain(made.draws)
    tried = {"ours": (u.mean(0), u.std(0)), **starts}
    found: list[Normal] = []
    for loc, scale in tried.values():
        if bool(loc.isfinite().all() & scale.isfinite().all() & (scale > 0).all()):
            climbed = polish(judge, loc, scale, dense=family == "full_rank")
            found += [climbed] if climbed is not None else []
    if not found:
        return {"best_elbo": None, "gap": None, "apart": None, "true": None}
    best = max(found, key=lambda normal: normal.elbo)
    gap, apart = best.elbo - made.elbo, None
    if gap > 0.0:  # else ours is itself the best that is known
        points = best.loc + judge.noise @ best.factor.mT
        apart = judge.apart(made.draws, judge.target.coordinates.constrain(points)[0])
    true = gap <= NEAR and (apart is None or apart <= NEAR)
    return {"best_elbo": best.elbo, "gap": gap, "apart": apart, "true": true}
