"""Draws pushed through the model: log likelihoods of single rows, simulated data, the prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.inference.evaluated import chunk_of
from jensen.inference.model import Batch, Model, Values
from jensen.inference.target import Target

__all__ = ["NoPointwise", "log_likelihood", "prior_draws", "simulated"]


class NoPointwise(ValueError):
    """The log joint has no likelihood of single rows."""


@torch.no_grad()
def log_likelihood(
    target: Target, values: Mapping[str, Tensor], names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Terms of the log joint along a plate, (S, rows, ...) each, nats.

    Args:
        values: draws, (S, *shape) each.
        names: of terms; by default those along a plate whose values depend on the data.

    Raises:
        NoPointwise: no term reads the data along a plate.
        ValueError: an unknown term, or one without plates.
    """
    draws = len(next(iter(values.values())))
    size = chunk_of(target, draws)
    first = target.terms({n: v[:1] for n, v in values.items()})
    chosen = _readers(target, values, first) if names is None else list(names)
    for name in chosen:
        if name not in first:
            raise ValueError(f"the log joint has no term {name!r}; its terms are {', '.join(first)}")
        if first[name].dim() < 2:
            raise ValueError(
                f"term {name!r} is summed up: for pointwise log likelihoods return it unsummed over a declared plate"
            )
    if not chosen:
        raise NoPointwise(
            f"no term of the log joint ({', '.join(first)}) is a likelihood of single rows: return it unsummed over a "
            'plate, Model(..., plates={"rows": N}), or name it in terms='
        )
    pieces = [target.terms({n: v[s : s + size] for n, v in values.items()}) for s in range(0, draws, size)]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in chosen}


def _readers(target: Target, values: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> list[str]:
    """Terms along a plate that change when the data's rows are put in another order.

    A prior of the rows' own latents does not: it reads no data, or the same for every row.
    """
    along = [name for name, term in terms.items() if term.dim() > 1]
    if len(along) < 2:
        return along
    one = {name: value[:1] for name, value in values.items()}
    moved = target.terms(one, _reversed(target))
    return [name for name in along if not torch.equal(moved[name], terms[name])] or along


def _reversed(target: Target) -> Any:
    """The data with entries along plates in the opposite order, as if they belonged to other rows."""
    sizes = set(target.model.plates.values())

    def turned(entry: Any) -> Any:
        if not isinstance(entry, Tensor):
            return entry
        places = [place for place, n in enumerate(entry.shape[:1]) if n in sizes]
        return entry.flip(places) if places else entry

    if isinstance(target.data, Tensor):
        return turned(target.data)
    whole = target.whole
    return Batch({name: turned(entry) for name, entry in whole.items()}, whole.index)


@torch.no_grad()
def simulated(target: Target, values: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """What the model's `simulate` makes of each draw, (S, ...) by name.

    Raises:
        ValueError: the model has none, or it gives different names or shapes for different draws.
        TypeError: it gives no tensors by name.
    """
    simulate = target.model.simulate
    if simulate is None:
        raise ValueError(
            "the model has no sampler of data: Model(..., simulate=lambda z, data, generator: {'y': ...}), new data "
            "from one draw of the latents"
        )
    theta = dict(target.theta.named_parameters()) if target.theta is not None else {}
    named = theta if isinstance(target.model.parameters, Mapping) else {}
    generator = Generator().manual_seed(seed)
    draws = len(next(iter(values.values())))
    return _collected(
        "simulate",
        draws,
        lambda s: simulate(Values({**{n: v[s] for n, v in values.items()}, **named}), target.whole, generator),
    )


@torch.no_grad()
def prior_draws(model: Model, draws: int, seed: int) -> dict[str, Tensor]:
    """Draws of all latents from the model's `prior`, (draws, *shape) by name.

    Raises:
        ValueError: the model has none, or it misses a latent or gives one of another shape.
    """
    prior = model.prior
    if prior is None:
        raise ValueError("the model has no sampler of its prior: Model(..., prior=lambda generator: {'mu': ...})")
    generator = Generator().manual_seed(seed)
    found = _collected("prior", draws, lambda _: prior(generator))
    for name, variable in model.latents.items():
        shape = variable.full_shape(model.plates)
        if name not in found:
            raise ValueError(f"prior gave no draw of latent {name!r}, only of {', '.join(found)}")
        if found[name].shape[1:] != shape:
            raise ValueError(f"prior gave {name!r} of shape {tuple(found[name].shape[1:])}, not {tuple(shape)}")
    return {name: found[name] for name in model.latents}


def _collected(what: str, draws: int, one: Callable[[int], Any]) -> dict[str, Tensor]:
    rows: list[dict[str, Tensor]] = []
    for s in range(draws):
        given = one(s)
        if not isinstance(given, Mapping) or not given:
            raise TypeError(f"{what} should give tensors by name, but gave {type(given).__name__}")
        rows.append({name: torch.as_tensor(value) for name, value in given.items()})
        shapes = [{name: tuple(value.shape) for name, value in row.items()} for row in (rows[0], rows[-1])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{what} gave {shapes[1]} for draw {s}, but {shapes[0]} for the first")
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
