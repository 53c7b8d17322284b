"""The one update, on whole data or a minibatch, and the hyperparameters' step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError, NotConjugateError
from jensen.inference.conjugate import ConjugateModel, Moments, State
from jensen.inference.evaluation import Evaluation, evaluate, terms_of

__all__ = ["check_climb", "fit_local", "fit_parameters", "natural_gradient", "update"]

HALVINGS = 40
"""of a step that leaves the natural domain"""
NOISY_STEPS = 30
"""of local latents whose terms are sampled"""


def update(model: ConjugateModel, state: State, found: Evaluation, rho: float) -> State:
    """eta <- (1 - rho) eta + rho target, for every latent that `found` has a target of.

    Where terms are not linear a target may lie outside the natural domain: the step is then halved until it does not.

    Raises:
        NonFiniteError: a target is NaN or infinite; names the latent and the parameter.
        NotConjugateError: a step of a model that calls itself conjugate leaves the natural domain.
    """
    changed = {}
    for name, target in found.targets.items():
        q = state.local[name] if name in state.local else state.q[name]
        for field, value in zip(q.natural_parameters._fields, target, strict=True):
            if not bool(value.isfinite().all()):
                index = tuple((~value.isfinite()).nonzero()[0].tolist())
                raise NonFiniteError(
                    f"latent {name!r}: the update's {field}{list(index) or ''} is {value[index].item()}; "
                    "the last q is kept"
                )
        moved = q.moved(target, rho)
        step = rho
        while not model.linear and not moved.is_valid():
            step /= 2
            if step < rho * 0.5**HALVINGS:
                raise NonFiniteError(f"latent {name!r}: no step towards the update stays in the natural domain")
            moved = q.moved(target, step)
        fault = moved.fault_in(moved.standard_parameters) if model.linear and name in state.q else None
        if fault or not bool(moved.log_partition().isfinite().all()):
            fault = fault or moved.fault_in(moved.standard_parameters)
            raise NotConjugateError(
                f"latent {name!r}: the update is no {type(q).__name__}: {fault}. A term is not linear in its mean "
                "parameters, has the wrong sign, or the prior is missing; check_conjugate() tells which term"
            )
        changed[name] = moved
    return state.with_q(changed)


def natural_gradient(state: State, found: Evaluation) -> Tensor:
    """target - eta of all latents that `found` has a target of, as one vector."""
    parts = []
    for name, target in found.targets.items():
        q = state.local[name] if name in state.local else state.q[name]
        parts += [(t - e).flatten() for t, e in zip(target, q.natural_parameters, strict=True)]
    return torch.cat(parts) if parts else torch.zeros(1)


def check_climb(model: ConjugateModel, before: float, found: Evaluation, what: str) -> None:
    """Raise NotConjugateError if the bound fell from `before` by more than rounding."""
    if model.linear and found.elbo < before - 2 * found.rounding:
        raise NotConjugateError(
            f"the ELBO fell from {before:.10g} to {found.elbo:.10g} {what}: a term is not linear in the mean "
            "parameters of what was updated there, or latents were put into one block in which terms are not linear "
            "jointly (check_conjugate() tells which); or it is rounding: centre the data"
        )


def fit_local(
    model: ConjugateModel, state: State, batch: Any, *, tol: float, max_steps: int, generator: Generator | None = None
) -> State:
    """The optimal q of the local latents of these rows, the global ones fixed: sweeps until the bound settles.

    One sweep is enough for a single block of linear terms. Sampled terms have no bound that settles: a fixed number of
    sweeps with falling steps instead.
    """
    state = replace(state, local=model.start_local(batch))
    blocks = [local for local in (model.split(block)[1] for block in model.order) if local]
    exact = model.linear and not model.profiled and len(blocks) == 1
    noisy = model.sampled_terms is not None
    before = -math.inf
    for step in range((min(max_steps, NOISY_STEPS) if noisy else max_steps) if blocks else 0):
        for place, block in enumerate(blocks):
            found = evaluate(model, state, batch, block, generator=generator)
            if place == 0 and not noisy and found.elbo - before <= tol * max(1.0, abs(found.elbo)):
                return state
            before = found.elbo if place == 0 else before
            state = update(model, state, found, 1 / (step + 1) if noisy else 1.0 if model.linear else 0.5)
        if exact:
            return state
    return state


def fit_parameters(
    model: ConjugateModel,
    state: State,
    data: Any,
    *,
    scale: float = 1.0,
    rho: float = 1.0,
    chunk_size: int | None = None,
    steps: int = 10,
    generator: Generator | None = None,
) -> State:
    """The hyperparameters' step of variational EM: L-BFGS on the bound with q fixed, kept only where it climbs.

    Args:
        scale: how often each row counts.
        rho: how far to go towards what was found, in unconstrained coordinates; 1 but for minibatches.
        steps: iterations of L-BFGS.
        generator: of the draws of sampled terms, the same ones at each evaluation.
    """
    names = list(model.parameters)
    if not names:
        return state
    old = {n: p.unconstrained(state.parameters[n]).detach() for n, p in model.parameters.items()}
    free = {n: value.clone().requires_grad_() for n, value in old.items()}
    seed = int(torch.randint(2**62, (), generator=generator)) if model.sampled_terms is not None else 0
    first: list[float] = []
    best = (-math.inf, old)
    part, fixed, rows = _what_depends(model, state, data, generator)
    optimiser = torch.optim.LBFGS(list(free.values()), max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> float:
        nonlocal best
        values = {n: p.constrained(free[n]) for n, p in model.parameters.items()}
        here = replace(fixed, parameters={n: v.detach() for n, v in values.items()})
        draws = torch.Generator().manual_seed(seed)
        try:
            found = evaluate(part, here, rows, names, scale=scale, chunk_size=chunk_size, generator=draws)
        except (NonFiniteError, ValueError):  # a trial step of the line search too far out
            if not first:
                raise
            for f in free.values():
                f.grad = torch.zeros_like(f)
            return abs(first[0]) * 1e3 + 1e6
        first.append(found.elbo)
        if found.elbo > best[0]:
            best = (found.elbo, {n: f.detach().clone() for n, f in free.items()})
        for n, f in free.items():
            (f.grad,) = torch.autograd.grad(values[n], f, -found.gradients[n])
        return -found.elbo

    optimiser.step(closure)
    moved = {n: torch.lerp(old[n], best[1][n], rho) for n in names}
    return replace(state, parameters={n: p.constrained(moved[n]) for n, p in model.parameters.items()})


def _what_depends(
    model: ConjugateModel, state: State, data: Any, generator: Generator | None
) -> tuple[ConjugateModel, State, Any]:
    """The part of the model that hyperparameters are in: without the rows if no term of theirs has one."""
    if data is None:
        return model, state, data
    hyper = {n: v.detach().requires_grad_() for n, v in state.parameters.items()}
    few = replace(state, local={n: q[:1] for n, q in state.local.items()})
    m = Moments({n: q.mean_parameters for n, q in (*few.q.items(), *few.local.items())} | hyper)
    with torch.enable_grad():
        terms = terms_of(model, few, m, data[:1], generator)
    if any(t.requires_grad for t in terms.values()):
        return model, state, data
    return replace(model, local_terms=None, sampled_terms=None), replace(state, local={}), None
