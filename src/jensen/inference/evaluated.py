"""Draws of q with their log densities: what diagnostics and reweighting are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jensen.gradients.posterior import Posterior
from jensen.inference.model import Values
from jensen.inference.target import Target, unvalidated

__all__ = ["Evaluated", "chunk_of", "draws_for", "each_draw", "evaluate_draws"]

_NUMBERS = 20_000_000  # float64, that one evaluation of the log joint may hold
_MOST, _USUAL, _FEWEST = 20_000, 1_000, 300  # draws of a diagnosis
_WORK, _DRAWN = 20_000_000, 4_000_000  # rows of data that all its draws may be evaluated at, numbers they may hold


class Evaluated(NamedTuple):
    """Draws of all latents.

    Attributes:
        values: on the supports, (S, *shape) each.
        log_joint: log p(x, z_s), (S,), nats.
        log_q: (S,), nats.
    """

    values: dict[str, Tensor]
    log_joint: Tensor
    log_q: Tensor

    @property
    def log_ratios(self) -> Tensor:
        """log p(x, z_s) - log q(z_s), (S,)."""
        return self.log_joint - self.log_q


def _latents(target: Target) -> int:
    return sum(v.full_shape(target.model.plates).numel() for v in target.model.latents.values())


def _entries(target: Target) -> list[Tensor]:
    data = [target.data] if isinstance(target.data, Tensor) else list(target.data.values())
    return [entry for entry in data if isinstance(entry, Tensor)]


def _per_draw(target: Target) -> int:
    """Numbers that the log joint of one draw is about: those of the largest data entry, or the latents'."""
    return max([*(entry.numel() for entry in _entries(target)), _latents(target), 1])


def chunk_of(target: Target, draws: int) -> int:
    """How many draws of the log joint are evaluated together."""
    return max(1, min(draws, _NUMBERS // _per_draw(target)))


def draws_for(target: Target) -> int:
    """Draws of a diagnosis: 20,000, since k-hat of 4,000 still varies by 0.1; fewer of large data or many latents."""
    rows = [len(entry) for entry in _entries(target) if entry.dim()]
    return min(_MOST, max(_USUAL, _WORK // max([*rows, 1])), max(_FEWEST, _DRAWN // _latents(target)))


@torch.no_grad()
def evaluate_draws(target: Target, q: Posterior, draws: int, generator: torch.Generator) -> Evaluated:
    """Draw from q and evaluate both densities, some draws at a time."""
    found = [factor.sample(draws, generator) for factor in q.factors]
    log_q: Tensor | float = 0.0
    for factor, draw in zip(q.factors, found, strict=True):
        log_q = log_q + factor.log_prob(draw).reshape(draws, -1).sum(1)
    assert isinstance(log_q, Tensor)
    values = Posterior.values(found)
    size = chunk_of(target, draws)
    with unvalidated():
        parts = [target.log_prob({n: v[s : s + size] for n, v in values.items()}) for s in range(0, draws, size)]
    return Evaluated(values, torch.cat(parts), log_q)


@torch.no_grad()
def each_draw(function: Callable[[Values], Any], values: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """A function of one draw at each of them: (S, ...) by name, or under "" where it gives a tensor.

    Runs vectorised, or draw by draw where the function does not allow it.

    Raises:
        TypeError: it gives neither a tensor nor a mapping of tensors.
    """
    draws = len(next(iter(values.values())))

    def named(one: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = function(Values(one))
        found = dict(given) if isinstance(given, Mapping) else {"": given}
        wrong = next((v for v in found.values() if not isinstance(v, Tensor | float | int)), None)
        if wrong is not None or not found:
            raise TypeError(f"the function should give a tensor or tensors by name, but gave {type(wrong).__name__}")
        return {name: torch.as_tensor(value) for name, value in found.items()}

    try:
        pieces = [
            torch.func.vmap(named)({n: v[s : s + size] for n, v in values.items()}) for s in range(0, draws, size)
        ]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
    except RuntimeError:  # an operation without a batching rule, or control flow on a value
        rows = [named({n: v[s] for n, v in values.items()}) for s in range(draws)]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
