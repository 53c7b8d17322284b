"""Ways up the bound of a conjugate model: coordinate, gradient and natural-gradient ascent, stochastic inference."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from jensen.families import ExponentialFamily
from jensen.inference.ascent import gradient_ascent
from jensen.inference.checks import check_conjugate
from jensen.inference.conjugate import ConjugateModel, State
from jensen.inference.evaluation import evaluate
from jensen.inference.steps import RobbinsMonro, StepSize, step_size
from jensen.inference.stochastic import Svi, epochs
from jensen.inference.update import check_climb, fit_parameters, natural_gradient, update

__all__ = ["METHODS", "Result", "infer"]

METHODS = ("cavi", "gradient", "natural", "svi")
NOISY_DELAY = 5.0
"""tau of the steps of models with sampled terms, whose noise a constant step would keep"""
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
        data: a tensor (NumPy arrays become one), `Columns`, or anything with a length that gives batches by slices and
            index tensors; None for a model without local terms.
        method: "cavi": coordinate ascent, block by block. "natural": the same with steps of size `rho`. "gradient":
            plain gradient ascent in the families' unconstrained parameters. "svi": minibatches. The middle two take
            minibatches too, with `batch_size`.
        tol: stop when a sweep (a pass over the data) changes the ELBO by less than tol x max(1, |ELBO|).
        max_steps: sweeps, or passes over the data for the minibatch methods.
        rho: step size, a number in (0, 1], a function of (t, natural gradient), or "adaptive"; default 1 for cavi, 0.5
            for natural (falling where terms are sampled), `RobbinsMonro()` for svi. For "gradient" the learning rate,
            on the ELBO per row: a number (default 0.1; adapted on whole data) or a function of t.
        batch_size: rows of a minibatch (svi: default 256).
        chunk_size: rows whose terms are in memory at a time, for the methods on whole data.
        n_init: runs from different starts; the one with the highest ELBO is returned.
        seed: of starts, minibatches and draws; the same seed gives the same result.
        check: first check on a few rows that terms are linear where they should be.
        start: where to begin instead of the model's own start.
        callback: called with (step, ELBO, state) after every sweep or minibatch.

    Raises:
        ValueError, TypeError: an unknown method, or an argument that it does not take.
        NotConjugateError: a term is not linear in the mean parameters of a latent, or the ELBO fell.
        NonFiniteError: NaN or infinity; names the term or the latent.
    """
    if isinstance(data, np.ndarray):
        data = torch.as_tensor(data)
    _check_arguments(model, data, method, tol, max_steps, batch_size, chunk_size, n_init, rho)
    size = batch_size or (256 if method == "svi" else None)
    best: Result | None = None
    for run in range(n_init):
        generator = torch.Generator().manual_seed(seed + run)
        state = _fitting(model, start or model.start(generator), data)
        if check and run == 0 and method != "gradient":
            check_conjugate(model, None if data is None else data[:CHECKED_ROWS], state=replace(state, local={}))
        job = _Job(model, data, method, tol, max_steps, rho, generator, callback)
        with torch.no_grad():
            if size is not None:
                result = job.minibatches(state, size)
            else:
                result = job.gradient(state) if method == "gradient" else job.sweeps(state, chunk_size)
        best = result if best is None or result.elbo > best.elbo else best
    assert best is not None
    return best


def _fitting(model: ConjugateModel, state: State, data: Any) -> State:
    """A start for this model and these data: local latents of other rows begin anew."""
    missing = [n for n, latent in model.latents.items() if not latent.local and n not in state.q]
    missing += [n for n in model.parameters if n not in state.parameters]
    if missing:
        raise ValueError(f"the start lacks {', '.join(missing)}")
    rows = None if data is None else len(data)
    same = all(n in state.local and state.local[n].batch_shape[0] == rows for n in model.split(list(model.latents))[1])
    return state if same else replace(state, local={})


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
    if data is None:
        local = model.split(list(model.latents))[1]
        if local or model.local_terms or model.sampled_terms or batch_size is not None or method == "svi":
            raise ValueError("local terms, local latents and minibatches need data")
    elif not hasattr(data, "__len__") or isinstance(data, list | tuple):
        raise TypeError(
            f"data must be a tensor, Columns, or rows that index tensors can take, got {type(data).__name__}"
        )
    elif len(data) == 0:
        raise ValueError("the data have no rows")
    if chunk_size is not None and (batch_size is not None or method in ("svi", "gradient")):
        raise ValueError("chunk_size is for the sweeps of cavi and natural over whole data")


@dataclass
class _Job:
    """One run of one method."""

    model: ConjugateModel
    data: Any
    method: str
    tol: float
    max_steps: int
    rho: Any
    generator: Generator
    callback: Callback | None
    trace: list[float] = field(default_factory=list)

    def settled(self) -> bool:
        """Whether the last two values of the trace are as near to each other as `tol` asks."""
        return len(self.trace) > 1 and abs(self.trace[-1] - self.trace[-2]) <= self.tol * max(1.0, abs(self.trace[-1]))

    def record(self, step: int, elbo: float, state: State) -> bool:
        """Note a step of a method on whole data; whether it is the last. A noisy bound never settles."""
        self.trace.append(elbo)
        if self.callback:
            self.callback(step, elbo, state)
        return self.settled() and self.model.sampled_terms is None

    def end(self, state: State, steps: int, converged: bool, unit: str = "sweeps") -> Result:
        """The result."""
        return Result(
            posterior=state.q,
            local=state.local,
            parameters=state.parameters,
            elbo=self.trace[-1],
            elbo_trace=self.trace,
            converged=converged,
            reason=f"the ELBO changed by less than tol = {self.tol:g}"
            if converged
            else f"max_steps = {self.max_steps} {unit} were made",
            steps=steps,
        )

    def sweeps(self, state: State, chunk_size: int | None) -> Result:
        """Coordinate or natural-gradient ascent, block by block.

        The bound after a sweep is a by-product of the next sweep's first update, so that a sweep takes as many passes
        over the data as there are blocks (and those that hyperparameters of local terms take).
        """
        model, data = self.model, self.data
        if not state.local and data is not None:
            state = replace(state, local=model.start_local(data))
        usual = 0.5 if model.sampled_terms is None else RobbinsMonro(NOISY_DELAY)
        given = 1.0 if self.method == "cavi" else usual if self.rho is None else self.rho
        sizes = [step_size(copy.deepcopy(given)) for _ in model.order]
        before, what = -math.inf, "from the start"
        for step in range(self.max_steps + 1):
            last = step == self.max_steps
            for place, (block, size) in enumerate(zip(model.order, sizes, strict=True)):
                names = () if last else block
                found = evaluate(model, state, data, names, chunk_size=chunk_size, generator=self.generator)
                check_climb(model, before, found, what)
                before, what = found.elbo, f"in sweep {step + 1}, updating {', '.join(block)}"
                if place == 0 and step > 0 and self.record(step, found.elbo, state):
                    return self.end(state, step, True)
                if last:
                    return self.end(state, step, False)
                state = update(model, state, found, size(step, natural_gradient(state, found)))
            if model.parameters:
                state = fit_parameters(model, state, data, chunk_size=chunk_size, generator=self.generator)
                what += " and hyperparameters"
        raise AssertionError("the last sweep returns")

    def gradient(self, state: State) -> Result:
        """Plain gradient ascent on whole data."""
        if not state.local and self.data is not None:
            state = replace(state, local=self.model.start_local(self.data))
        steps = gradient_ascent(self.model, self.data, state, self.rho, self.generator)
        for step, (elbo, after) in enumerate(islice(steps, self.max_steps), start=1):
            state = after
            if self.record(step, elbo, state):
                return self.end(state, step, True)
        return self.end(state, self.max_steps, False, "steps")

    def minibatches(self, state: State, batch_size: int) -> Result:
        """Natural-gradient or plain gradient ascent on minibatches: passes over the data in random order."""
        rho = self.rho
        if rho is None:
            rho = {"svi": RobbinsMonro(), "natural": 0.5, "gradient": 0.1}[self.method]
        plain = self.method == "gradient"
        svi = Svi(self.model, len(self.data), rho=rho, plain=plain, start=state, generator=self.generator)
        converged = False
        for _ in range(self.max_steps):
            self.trace.append(epochs(svi, self.data, batch_size, self.generator, self.callback))
            converged = self.settled()
            if converged:
                break
        result = self.end(svi.state, svi.steps, converged, "passes over the data")
        result.elbo = svi.elbo(self.data, chunk_size=max(batch_size, 1024))
        return result
