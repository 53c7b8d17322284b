"""Ways up the bound of a conjugate model: coordinate, gradient and natural-gradient ascent, stochastic inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.families import ExponentialFamily
from jensen.inference.ascent import gradient_ascent
from jensen.inference.checks import check_conjugate
from jensen.inference.conjugate import ConjugateModel, Evaluation, State, evaluate
from jensen.inference.steps import RobbinsMonro, StepSize, step_size
from jensen.inference.stochastic import Svi, epochs
from jensen.inference.update import check_climb, fit_parameters, natural_gradient, update

__all__ = ["METHODS", "Result", "infer"]

METHODS = ("cavi", "gradient", "natural", "svi")
CHECKED_ROWS = 64
"""of the data, by which it is checked that terms are linear"""

Callback = Callable[[int, float, State], object]
"""(step, ELBO, state) -> anything; called after every sweep or minibatch."""


@dataclass
class Result:
    """What an inference found.

    Attributes:
        posterior: q of the global latents.
        local: q of the local latents, one for each row; empty for the minibatch methods.
        parameters: hyperparameters.
        elbo: of all the data, nats.
        elbo_trace: nats; after every sweep, or for minibatches the mean of the estimates of each pass over the data.
        converged: whether the relative change of the ELBO fell under `tol`.
        reason: why it stopped, in words.
        steps: sweeps, or minibatches.
    """

    posterior: Mapping[str, ExponentialFamily[Any, Any, Any]]
    elbo: float
    elbo_trace: list[float]
    converged: bool
    reason: str
    steps: int
    local: Mapping[str, ExponentialFamily[Any, Any, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """As a start of more inference."""
        return State(q=self.posterior, parameters=self.parameters, local=self.local)


def infer(
    model: ConjugateModel,
    data: Any = None,
    method: str = "cavi",
    *,
    tol: float = 1e-8,
    max_steps: int = 1000,
    rho: float | str | StepSize | None = None,
    batch_size: int | None = None,
    chunk_size: int | None = None,
    n_init: int = 1,
    seed: int = 0,
    check: bool = True,
    start: State | None = None,
    callback: Callback | None = None,
) -> Result:
    """Maximise the ELBO of a conjugate model over q (and its hyperparameters).

    Args:
        data: a tensor, `Columns`, or anything with a length that gives batches by slices and index tensors; None for a
            model without local terms.
        method: "cavi": coordinate ascent, block by block. "natural": the same with steps of size `rho`. "gradient":
            plain gradient ascent in the families' unconstrained parameters. "svi": minibatches. The middle two take
            minibatches too, with `batch_size`.
        tol: stop when a sweep (a pass over the data) changes the ELBO by less than tol x max(1, |ELBO|).
        max_steps: sweeps, or passes over the data for the minibatch methods.
        rho: step size, a number in (0, 1], a function of (t, natural gradient), or "adaptive"; default 1 for cavi, 0.5
            for natural, `RobbinsMonro()` for svi. For "gradient" the learning rate, on the ELBO per row.
        batch_size: rows of a minibatch (svi: default 256).
        chunk_size: rows whose terms are in memory at a time, for the methods on whole data.
        n_init: runs from different starts; the one with the highest ELBO is returned.
        seed: of starts, minibatches and draws; the same seed gives the same result.
        check: first check on a few rows that terms are linear where they should be.
        start: where to begin instead of the model's own start.
        callback: called with (step, ELBO, state) after every sweep or minibatch.

    Raises:
        ValueError: an unknown method, or an argument that it does not take.
        NotConjugateError: a term is not linear in the mean parameters of a latent, or the ELBO fell.
        NonFiniteError: NaN or infinity; names the term or the latent.
    """
    _check_arguments(model, data, method, tol, max_steps, batch_size, chunk_size, n_init, rho)
    size = batch_size or (256 if method == "svi" else None)
    best: Result | None = None
    for run in range(n_init):
        generator = torch.Generator().manual_seed(seed + run)
        state = start or model.start(generator)
        if check and run == 0 and method != "gradient":
            check_conjugate(model, None if data is None else data[:CHECKED_ROWS], state=state)
        with torch.no_grad():
            if size is not None:
                result = _minibatches(model, data, method, state, tol, max_steps, rho, size, generator, callback)
            elif method == "gradient":
                result = _gradient(model, data, state, tol, max_steps, rho, generator, callback)
            else:
                result = _sweeps(model, data, method, state, tol, max_steps, rho, chunk_size, generator, callback)
        best = result if best is None or result.elbo > best.elbo else best
    assert best is not None
    return best


def _check_arguments(
    model: ConjugateModel,
    data: Any,
    method: str,
    tol: float,
    max_steps: int,
    batch_size: int | None,
    chunk_size: int | None,
    n_init: int,
    rho: Any,
) -> None:
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not tol >= 0:
        raise ValueError(f"tol must be 0 or more, got {tol}")
    for name, value in (
        ("max_steps", max_steps),
        ("n_init", n_init),
        ("batch_size", batch_size),
        ("chunk_size", chunk_size),
    ):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if method == "cavi" and (rho not in (None, 1) or batch_size is not None):
        raise ValueError("cavi takes whole steps on whole data: use method='natural' for rho or batch_size")
    if method == "cavi" and not model.linear:
        raise ValueError("the model has nonconjugate or sampled terms: whole steps may overshoot; use method='natural'")
    if data is None and (batch_size is not None or method == "svi"):
        raise ValueError("minibatches need data")
    if data is not None and len(data) == 0:
        raise ValueError("the data have no rows")
    if chunk_size is not None and (batch_size is not None or method in ("svi", "gradient")):
        raise ValueError(f"chunk_size is for sweeps over whole data, not for method={method!r} with minibatches")


def _sweeps(
    model: ConjugateModel,
    data: Any,
    method: str,
    state: State,
    tol: float,
    max_steps: int,
    rho: float | str | StepSize | None,
    chunk_size: int | None,
    generator: Generator,
    callback: Callback | None,
) -> Result:
    """Coordinate or natural-gradient ascent, block by block.

    The bound after a sweep is a by-product of the next sweep's first update, so that a sweep takes as many passes over
    the data as there are blocks.
    """
    if not state.local and data is not None:
        state = replace(state, local=model.start_local(data))
    size = step_size(1.0 if method == "cavi" else 0.5 if rho is None else rho)
    trace: list[float] = []
    before = -math.inf
    what = "from the start"
    for step in range(max_steps + 1):
        for place, block in enumerate(model.order):
            found = evaluate(
                model, state, data, block if step < max_steps else (), chunk_size=chunk_size, generator=generator
            )
            check_climb(model, state, before, found, what)
            before, what = found.elbo, f"in sweep {step + 1}, updating {', '.join(block)}"
            if place == 0 and step > 0:
                trace.append(found.elbo)
                if callback:
                    callback(step, found.elbo, state)
                if len(trace) > 1 and abs(trace[-1] - trace[-2]) <= tol * max(1.0, abs(trace[-1])) and _settles(model):
                    return _result(state, trace, True, f"the ELBO changed by less than tol = {tol:g}", step)
            if step == max_steps:
                break
            state = _moved(model, state, found, size, step)
        else:
            state = fit_parameters(model, state, data, chunk_size=chunk_size)
    return _result(state, trace, False, f"max_steps = {max_steps} sweeps were made", max_steps)


def _settles(model: ConjugateModel) -> bool:
    """Whether the bound is computed without noise, so that its change means something."""
    return model.sampled_terms is None


def _moved(model: ConjugateModel, state: State, found: Evaluation, size: StepSize, step: int) -> State:
    return update(model, state, found, size(step, natural_gradient(state, found)))


def _gradient(
    model: ConjugateModel,
    data: Any,
    state: State,
    tol: float,
    max_steps: int,
    rho: Any,
    generator: Generator,
    callback: Callback | None,
) -> Result:
    """Plain gradient ascent on whole data."""
    if not state.local and data is not None:
        state = replace(state, local=model.start_local(data))
    trace: list[float] = []
    for step, (elbo, after) in enumerate(gradient_ascent(model, data, state, rho, generator), start=1):
        state = after
        trace.append(elbo)
        if callback:
            callback(step, elbo, state)
        if len(trace) > 1 and abs(trace[-1] - trace[-2]) <= tol * max(1.0, abs(trace[-1])) and _settles(model):
            return _result(state, trace, True, f"the ELBO changed by less than tol = {tol:g}", step)
        if step == max_steps:
            break
    return _result(state, trace, False, f"max_steps = {max_steps} steps were made", max_steps)


def _minibatches(
    model: ConjugateModel,
    data: Any,
    method: str,
    state: State,
    tol: float,
    max_steps: int,
    rho: Any,
    batch_size: int,
    generator: Generator,
    callback: Callback | None,
) -> Result:
    """Natural-gradient or plain gradient ascent on minibatches: passes over the data in random order."""
    if rho is None:
        rho = RobbinsMonro() if method == "svi" else 0.5 if method == "natural" else None
    svi = Svi(model, total_size=len(data), rho=rho, plain=method == "gradient", start=state, generator=generator)
    trace: list[float] = []
    reason, converged = f"max_steps = {max_steps} passes over the data were made", False
    for _ in range(max_steps):
        trace.append(epochs(svi, data, batch_size, generator, callback))
        if len(trace) > 1 and abs(trace[-1] - trace[-2]) <= tol * max(1.0, abs(trace[-1])):
            reason, converged = f"the mean of the ELBO's estimates changed by less than tol = {tol:g} in a pass", True
            break
    result = _result(svi.state, trace, converged, reason, svi.steps)
    result.elbo = svi.elbo(data, chunk_size=max(batch_size, 1024))
    return result


def _result(state: State, trace: list[float], converged: bool, reason: str, steps: int) -> Result:
    return Result(
        posterior=state.q,
        local=state.local,
        parameters=state.parameters,
        elbo=trace[-1],
        elbo_trace=trace,
        converged=converged,
        reason=reason,
        steps=steps,
    )
