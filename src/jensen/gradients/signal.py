"""Learning signals: the part of the bound that the score of one factor is multiplied with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from jensen.gradients.posterior import FactorPosterior

__all__ = ["DependenceMap", "Relation", "Signal", "plate_dimension", "relation", "sum_draws"]

Relation = Literal["absent", "aligned", "mixed"]
DependenceMap: TypeAlias = Mapping[str, Mapping[str, str]]
"""Term -> latent -> "aligned" or "mixed"."""


def relation(dependence: DependenceMap | None, term: str, factor: FactorPosterior) -> Relation:
    """How a term depends on a factor's latents; what is unknown is "mixed".

    "aligned": along the factor's plate, element i of the term depends on element i of the latents alone.
    """
    if dependence is None or term not in dependence:
        return "mixed"
    found = {dependence[term].get(name) for name in factor.names}
    if found == {None}:
        return "absent"
    aligned = found <= {None, "aligned"} and factor.plate is not None and len(factor.elements) > 0
    return "aligned" if aligned else "mixed"


def plate_dimension(name: str, shape: torch.Size, factor: FactorPosterior) -> int:
    """The one dimension of an aligned term, of this shape without draws, that runs over the factor's plate.

    Raises:
        ValueError: no dimension is as long as the plate, or several are.
    """
    found = [place for place, size in enumerate(shape) if size == factor.elements[0]]
    if len(found) != 1:
        raise ValueError(
            f"term {name!r} of shape {tuple(shape)} should have one dimension of plate {factor.plate!r}, which has "
            f"{factor.elements[0]} rows, but has {len(found)}; plates (a minibatch's too) of equal size cannot be told "
            "apart"
        )
    return found[0]


def sum_draws(tensors: Iterable[Tensor], samples: int) -> Tensor:
    """Sum over everything but draws, (samples,); what is the same for all draws has length 1."""
    total: Tensor | None = None
    for tensor in tensors:
        each = tensor.reshape(len(tensor), -1).sum(1)
        total = each if total is None else total + each
    if total is None:
        raise ValueError("the log joint has no terms")
    return total.expand(samples)


@dataclass(frozen=True)
class Signal:
    """What the scores of q's factors are multiplied with. Nothing of it has history.

    Attributes:
        terms: of the log joint, averaged over what is enumerated, (samples or 1, *plates) each.
        dependence: which term depends on which latent.
        whole: the bound at each draw, (samples,).
    """

    terms: Mapping[str, Tensor]
    dependence: DependenceMap | None
    whole: Tensor

    def of(self, factor: FactorPosterior, own: Tensor) -> Tensor:
        """What depends on each element, and its own -log q (Ranganath, Gerrish & Blei 2014, section 3.1).

        All else has expectation zero when multiplied with the element's score, so that leaving it out takes away
        variance and nothing else.

        Args:
            factor: of q.
            own: its -log q, (samples, *elements).

        Returns:
            (samples, *elements).
        """
        signal = own.detach()
        dims = len(factor.elements)
        for name, term in self.terms.items():
            how = relation(self.dependence, name, factor)
            if how == "absent":
                continue
            values = term.detach()
            if how == "aligned":
                place = 1 + plate_dimension(name, values.shape[1:], factor)
                values = values.movedim(place, 1).reshape(len(values), factor.elements[0], -1).sum(2)
            else:
                values = values.reshape(len(values), -1).sum(1)
            signal = signal + values.reshape(*values.shape, *[1] * (dims + 1 - values.dim()))
        return signal
