"""Which term of a log joint depends on which latent, found by following the latents through one run of it.

The graph that autograd records does not say it: comparisons, casts and `mu[z.long()]` leave no trace there, and an
estimator that leaves out a term that a latent enters is biased without a sign. Here each tensor carries the latents
that flow into it. What is not understood counts as dependent: the answer may say too much, but not too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from jensen.gradients.dependence.call import Flow
from jensen.gradients.dependence.tensor import Following, Memory, State, Tracked

__all__ = ["Dependence", "Kind", "trace"]

Kind = Literal["aligned", "mixed"]


@dataclass(frozen=True)
class Dependence(Mapping[str, Mapping[str, Kind]]):
    """Which term depends on which latent: a mapping of `terms`.

    Attributes:
        terms: term -> latent -> "aligned" or "mixed". A latent that is missing does not enter the term. "aligned": the
            term has a dimension that runs over the latent's plate, and its element i along it depends on the latent's
            element i alone. "mixed": any element may depend on any.
        reasons: why latents count as dependent everywhere, in words; empty where all could be followed.
    """

    terms: Mapping[str, Mapping[str, Kind]]
    reasons: Sequence[str] = ()

    def __getitem__(self, term: str) -> Mapping[str, Kind]:
        return self.terms[term]

    def __iter__(self) -> Iterator[str]:
        return iter(self.terms)

    def __len__(self) -> int:
        return len(self.terms)


def trace(
    fn: Callable[[Mapping[str, Tensor], Any], Tensor | Mapping[str, Any]],
    values: Mapping[str, Tensor],
    batch: Any,
    plates: Mapping[str, int],
    latent_plates: Mapping[str, str | None],
) -> Dependence:
    """Run a log joint once and follow its latents.

    Control flow that depends on values is seen where values leave the tensors (`if`, `float`, `.item()`, sizes). What
    cannot be seen is an operation that fails at other draws only, if the function catches the error.

    Args:
        fn: (values, batch) -> terms by name, or one tensor (the term "log_joint").
        values: one draw of each latent; those on a plate have it as their first dimension.
        batch: the data, given on to `fn`.
        plates: their sizes in this batch. A term's dimension runs over the plate of its size.
        latent_plates: the plate of each latent, None for those without.

    Raises:
        Exception: only what `fn` raises on ordinary tensors as well.
    """
    state = State(tuple(values))
    starts: dict[str, Flow] = {
        name: {name: 0 if _on_plate(value, latent_plates.get(name), plates) else None} for name, value in values.items()
    }
    try:
        with torch.no_grad(), Following(state):
            tracked = {n: Tracked(v.detach().clone(), starts[n], state, Memory()) for n, v in values.items()}
            found = _named(fn(tracked, batch))
    except Exception as error:  # whatever a user's function meets here: on ordinary tensors it must still run
        state.leak(values, f"{type(error).__name__} while it was followed: {error}")
        with torch.no_grad():
            found = _named(fn({name: value.detach().clone() for name, value in values.items()}, batch))
    terms = {name: _kinds(term, state, plates, latent_plates) for name, term in found.items()}
    return Dependence(terms, tuple(state.reasons))


def _on_plate(value: Tensor, plate: str | None, plates: Mapping[str, int]) -> bool:
    return plate is not None and value.dim() > 0 and len(value) == plates.get(plate)


def _named(terms: Any) -> dict[str, Any]:
    return dict(terms) if isinstance(terms, Mapping) else {"log_joint": terms}


def _kinds(
    term: Any, state: State, plates: Mapping[str, int], latent_plates: Mapping[str, str | None]
) -> dict[str, Kind]:
    flow: Flow = dict(term.flow) if isinstance(term, Tracked) else {}
    flow |= dict.fromkeys(state.leaked)
    shape = list(term.value.shape) if isinstance(term, Tracked) else []
    found: dict[str, Kind] = {}
    for name in state.names:
        if name in flow:
            dim, size = flow[name], plates.get(latent_plates.get(name) or "")
            # The plate's dimension is recognised by its size: with another as long, nobody can tell them apart.
            aligned = dim is not None and shape[dim] == size and shape.count(size) == 1
            found[name] = "aligned" if aligned else "mixed"
    return found
