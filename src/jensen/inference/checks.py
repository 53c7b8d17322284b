"""Whether a model's terms are linear in each latent's mean parameters, as its updates take for granted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.errors import NotConjugateError
from jensen.inference.conjugate import ConjugateModel, Moments, State
from jensen.inference.evaluation import terms_of

__all__ = ["check_conjugate"]

CHANGE = 1e-2
"""relative size of the change of the mean parameters"""
DIRECTIONS = 3


def check_conjugate(model: ConjugateModel, batch: Any = None, *, state: State | None = None, seed: int = 0) -> None:
    """Check that each term is linear in the mean parameters of every block of latents (second derivative zero).

    The mean parameters of a block are moved a little in a random direction; the gradient of a linear term stays the
    same. Terms declared as `profiled` must be convex along that direction; those declared as `nonconjugate`, and
    sampled ones, are not checked.

    Args:
        batch: some rows of the data.
        state: where to check; default the model's start.

    Raises:
        NotConjugateError: names the term and the latent (or the latents of a block that are not linear jointly).
    """
    generator = torch.Generator().manual_seed(seed)
    state = state or model.start(generator)
    if batch is not None and not all(
        len(q.batch_shape) and q.batch_shape[0] == len(batch) for q in state.local.values()
    ):
        state = replace(state, local={})
    if batch is not None and not state.local:
        state = replace(state, local=model.start_local(batch))
    for block in model.order:
        for names in [[name] for name in block] + ([block] if len(block) > 1 else []):
            for _ in range(DIRECTIONS):
                direction = _direction(state, names, generator)
                for rows in (None, batch) if batch is not None else (None,):
                    _check_block(replace(model, sampled_terms=None), state, rows, names, direction)


def _direction(state: State, names: Sequence[str], generator: Generator) -> dict[str, list[Tensor]]:
    """A random change of the mean parameters of these latents, in proportion to them."""
    direction = {}
    for name in names:
        q = state.local[name] if name in state.local else state.q[name]
        changes = []
        for field in q.mean_parameters:
            noise = (2 * torch.rand(field.shape, generator=generator, dtype=field.dtype) - 1).to(field.device)
            change = CHANGE * noise * (field.abs() + field.abs().mean().clamp(min=0.1))
            changes.append(change)
        direction[name] = list(q.symmetrised(changes))
    return direction


def _check_block(
    model: ConjugateModel, state: State, batch: Any, names: Sequence[str], direction: dict[str, list[Tensor]]
) -> None:
    slopes = [_slopes(model, state, batch, names, direction, step) for step in (-1.0, 0.0, 1.0)]
    along = torch.cat([d.flatten() for name in names for d in direction[name]])
    tolerance = 4 * torch.finfo(along.dtype).eps ** (2 / 3)  # 1.5e-10 in float64
    for term in slopes[1]:
        if term in model.nonconjugate:
            continue
        who = f"latent {names[0]!r}" if len(names) == 1 else f"latents {', '.join(map(repr, names))} jointly"
        if term in model.profiled:
            curvature = (slopes[2][term] - slopes[0][term]) @ along
            # A direction may leave the mean parameters' domain: it then says nothing.
            if bool(curvature < -tolerance * (slopes[1][term].abs() @ along.abs())):
                raise NotConjugateError(
                    f"the term {term!r} is declared as profiled but is not convex in the mean parameters of {who}"
                )
            continue
        sizes = torch.stack([s[term].abs().max() for s in slopes]).max()
        change = (slopes[2][term] - slopes[0][term]).abs().max()
        if bool(change > tolerance * sizes):
            raise NotConjugateError(
                f"the term {term!r} is not linear in the mean parameters of {who}, so that its gradient is not the "
                "natural parameter of the optimal q. Write it with expectations (E[z z^T] is not E[z] E[z]^T), or "
                "declare it: profiled where a local latent was maximised out, nonconjugate to linearise it"
                + (", or put the latents into separate blocks" if len(names) > 1 else "")
            )


def _slopes(
    model: ConjugateModel,
    state: State,
    batch: Any,
    names: Sequence[str],
    direction: dict[str, list[Tensor]],
    step: float,
) -> dict[str, Tensor]:
    """The gradient of each term at mean parameters + step x direction."""
    m = Moments({n: q.mean_parameters for n, q in (*state.q.items(), *state.local.items())} | dict(state.parameters))
    leaves: list[Tensor] = []
    for name in names:
        fields = [(f + step * d).detach().requires_grad_() for f, d in zip(m[name], direction[name], strict=True)]
        leaves += fields
        m[name] = type(m[name])(*fields)
    slopes = {}
    with torch.enable_grad():
        for name, term in terms_of(model, state, m, batch, None).items():
            gradients: Sequence[Tensor | None] = [None] * len(leaves)
            if term.requires_grad:
                gradients = torch.autograd.grad(term, leaves, allow_unused=True, retain_graph=True)
            slopes[name] = torch.cat(
                [(torch.zeros_like(f) if g is None else g).flatten() for f, g in zip(leaves, gradients, strict=True)]
            )
    return slopes
