"""Plain gradient ascent in the families' own parameters: what natural gradients are compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError
from jensen.families import ExponentialFamily
from jensen.inference.conjugate import ConjugateModel, Moments, State
from jensen.inference.evaluation import terms_of
from jensen.inference.steps import StepSize, learning_rate

__all__ = ["ascend", "bound", "gradient_ascent"]

GROWTH, HALVINGS = 1.25, 60


def bound(
    model: ConjugateModel, state: State, data: Any, *, scale: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """The ELBO in nats, differentiable in the parameters of every q of `state` and in the hyperparameters."""
    m = Moments({n: q.mean_parameters for n, q in (*state.q.items(), *state.local.items())} | dict(state.parameters))
    total = torch.zeros((), dtype=next(iter({**state.q, **state.local}.values())).natural_parameters[0].dtype)
    for name, q in (*state.q.items(), *state.local.items()):
        total = total + (scale if model.latents[name].local else 1.0) * model.entropy(name, q).sum()
    total = total + sum(terms_of(model, state, m, None, generator).values())
    if data is not None:
        total = total + scale * sum(terms_of(model, state, m, data, generator).values())
    return total


def _free(model: ConjugateModel, state: State) -> dict[str, tuple[Tensor, ...]]:
    """The unconstrained parameters of every q and hyperparameter."""
    free = {n: q.unconstrained() for n, q in (*state.q.items(), *state.local.items())}
    free |= {n: (p.unconstrained(state.parameters[n]),) for n, p in model.parameters.items()}
    return {n: tuple(f.detach() for f in fields) for n, fields in free.items()}


def _state(model: ConjugateModel, state: State, free: dict[str, tuple[Tensor, ...]]) -> State:
    """The inverse of `_free`."""
    parameters = {n: p.constrained(free[n][0]) for n, p in model.parameters.items()}
    q: dict[str, ExponentialFamily[Any, Any, Any]] = {
        n: q.from_unconstrained(free[n]) for n, q in (*state.q.items(), *state.local.items())
    }
    return replace(state.with_q(q), parameters=parameters)


def ascend(
    model: ConjugateModel,
    state: State,
    data: Any,
    rate: float,
    *,
    scale: float = 1.0,
    generator: Generator | None = None,
) -> tuple[float, State]:
    """One step of `rate` times the gradient of the ELBO per row; the ELBO before it (nats), and the state after."""
    free = {n: tuple(f.requires_grad_() for f in fields) for n, fields in _free(model, state).items()}
    rows = scale * len(data) if data is not None else 1.0
    with torch.enable_grad():
        value = bound(model, _state(model, state, free), data, scale=scale, generator=generator)
        flat = [f for fields in free.values() for f in fields]
        gradients = iter(torch.autograd.grad(value, flat, allow_unused=True))
    moved = {}
    for name, fields in free.items():
        steps = [(f.detach(), next(gradients)) for f in fields]
        # A parameter f moves by 1 + |f| at most: the gradient at a wild start is no guide to the far side of the space.
        moved[name] = tuple(
            f if g is None else f + ((rate / rows) * g).clamp(-1 - f.abs(), 1 + f.abs()) for f, g in steps
        )
        if not all(bool(f.isfinite().all()) for f in moved[name]):
            raise NonFiniteError(f"latent {name!r}: the gradient of the ELBO is not finite; the last q is kept")
    elbo = float(value.detach())
    if not math.isfinite(elbo):
        raise NonFiniteError(f"the ELBO is {elbo}: look for values outside of their domain in the data or the priors")
    return elbo, _state(model, state, moved)


def gradient_ascent(
    model: ConjugateModel, data: Any, state: State, rho: float | str | StepSize | None, generator: Generator
) -> Iterator[tuple[float, State]]:
    """(ELBO, state) after every step.

    A constant rate halves where the bound would fall and grows by a quarter else; a function's rates, and those of
    models with sampled terms, whose bound is noisy, are taken as they are.
    """
    rates = learning_rate(0.1 if rho is None else rho)
    if callable(rho) or model.sampled_terms is not None:
        for step in count():
            _, state = ascend(model, state, data, rates(step, torch.zeros(1)), generator=generator)
            yield float(bound(model, state, data, generator=generator)), state
    rate = rates(0, torch.zeros(1))
    now = float(bound(model, state, data))
    while True:
        for _ in range(HALVINGS):
            _, trial = ascend(model, state, data, rate)
            value = float(bound(model, trial, data))
            if value >= now:
                state, now, rate = trial, value, rate * GROWTH
                break
            rate /= 2
        yield now, state
