"""Rules for operations by their kind: elementwise ones, moves, products, reductions, ...

Operations that only move elements, and those that are linear in each argument, are not described but run again on
tensors that are labelled along the dimension in question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jensen.gradients.dependence.call import Call, Flow, Operand, dimensions, merge
from jensen.gradients.dependence.labels import position
from jensen.gradients.dependence.names import ALONG, REDUCTIONS

__all__ = [
    "along",
    "cross_entropy",
    "elementwise",
    "extremum",
    "like",
    "matrix",
    "moved",
    "product",
    "reduced",
    "same",
    "scattered",
    "solved",
    "where",
]


# --- elements stay where they are ------------------------------------------------------------------------------------


def elementwise(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in call.tensors))
    if any(result.shape != shape for result in results):
        return None
    return [merge(operand.stretched(shape) for operand in call.operands) for _ in results]


def where(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    if len(call.args) + len(call.kwargs) > 1:
        return elementwise(call, results)
    call.leaked |= set(call.mixed)  # the places of what is true: as many as there are
    return None


def same(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Casts and copies of the first argument; of the others only the type or place is used."""
    first = call.leaves[0]
    if not isinstance(first, Operand):
        return [{} for _ in results]
    return [dict(first.flow) for result in results] if results[0].shape == first.value.shape else None


def like(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Only the shape of the first argument is used."""
    others = [operand for operand in call.operands if operand is not call.leaves[0]]
    return None if others else [{} for _ in results]


# --- elements move ---------------------------------------------------------------------------------------------------


def moved(call: Call, results: Sequence[Tensor]) -> Sequence[Flow]:
    """All tensors are data that end up elsewhere, as they are."""
    found: list[Flow] = [{} for _ in results]
    for operand in call.operands:
        for dim, names in operand.by_dimension():
            again = call.run(_only(operand, operand.labelled(dim), torch.nan))
            for at, one in enumerate([again] if isinstance(again, Tensor) else again):
                if bool((one.isnan() | (one == 0)).all()):
                    continue  # nothing of it is in this result
                place = None if dim is None else position(one, operand.value.shape[dim])
                found[at] = merge([found[at], dict.fromkeys(names, place)])
    return found


def _only(operand: Operand, values: Tensor, rest: float) -> Callable[[Any], Tensor]:
    """Puts values in an operand's place and one number in that of all other tensors."""

    def replaced(leaf: Any) -> Tensor:
        if leaf is operand:
            return values
        return torch.full_like(leaf.value if isinstance(leaf, Operand) else leaf, rest, dtype=torch.float64)

    return replaced


def product(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Sums of products, linear in each argument: labels that were summed over are not labels any more."""
    if len(results) != 1:
        return None
    flow: Flow = {}
    for operand in call.operands:
        for dim, names in operand.by_dimension():
            flow = merge([flow, dict.fromkeys(names, None if dim is None else _through(call, operand, dim))])
    return [flow]


def _through(call: Call, operand: Operand, dim: int) -> int | None:
    def at(values: Tensor) -> Tensor:
        result: Tensor = call.run(_only(operand, values, 1.0))
        return result

    constant = at(torch.zeros_like(operand.value, dtype=torch.float64))
    average = (at(operand.labelled(dim)) - constant) / (at(operand.labelled(None)) - constant)
    return position(average.nan_to_num(nan=-1), operand.value.shape[dim], exact=False)


# --- elements are combined along some dimensions ---------------------------------------------------------------------


def extremum(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    return elementwise(call, results) if len(call.tensors) > 1 else reduced(call, results)


def reduced(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    first = call.leaves[0]
    if len(call.leaves) != 1 or not isinstance(first, Operand):
        return None
    sizes = first.value.shape
    dims = dimensions(call.argument(REDUCTIONS.get(call.name, 1), "dim", "axis"), max(len(sizes), 1))
    if not dims:
        return None
    kept = [dim for dim in range(len(sizes)) if dim not in dims]
    if all(result.shape == torch.Size(sizes[dim] for dim in kept) for result in results):
        places = {dim: place for place, dim in enumerate(kept)}
    elif all(result.shape == torch.Size(1 if d in dims else n for d, n in enumerate(sizes)) for result in results):
        places = {dim: dim for dim in kept}
    else:
        return None
    return [{n: None if d is None else places.get(d) for n, d in first.flow.items()} for _ in results]


def along(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    first = call.leaves[0]
    if len(call.leaves) != 1 or not isinstance(first, Operand):
        return None
    place, default = ALONG[call.name]
    given = call.argument(place, "dim", "axis")
    return _except(dimensions(default if given is None else given, max(first.value.dim(), 1)), [first], results)


def scattered(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    dims = dimensions(call.argument(1, "dim"), max(results[0].dim(), 1))
    return _except(
        dims, [o for o in call.operands if o.value.dim()], results, [o for o in call.operands if not o.value.dim()]
    )


def _except(
    dims: list[int] | None, operands: Sequence[Operand], results: Sequence[Tensor], others: Sequence[Operand] = ()
) -> Sequence[Flow] | None:
    """All but these dimensions stay as they are."""
    count = results[0].dim()
    if dims is None or any(o.value.dim() != count for o in operands) or any(r.dim() != count for r in results):
        return None
    flow = merge(
        [
            *({n: d if d is not None and d not in dims else None for n, d in o.flow.items()} for o in operands),
            *(operand.mixed for operand in others),
        ]
    )
    return [dict(flow) for _ in results]


# --- matrices, losses ------------------------------------------------------------------------------------------------


def matrix(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """A matrix in, anything out, one by one over the leading dimensions."""
    first = call.leaves[0]
    if len(call.leaves) != 1 or not isinstance(first, Operand):
        return None
    batch = first.value.shape[:-2]
    if any(result.shape[: len(batch)] != batch for result in results):
        return None
    flow = {n: d if d is not None and d < len(batch) else None for n, d in first.flow.items()}
    return [dict(flow) for _ in results]


def solved(call: Call, results: Sequence[Tensor], *, matrix: int, right: int) -> Sequence[Flow] | None:
    """Each column of the right-hand side on its own; of the matrix, only the leading dimensions are kept apart."""
    if len(call.leaves) != 2 or call.kwargs.get("left") is False:
        return None
    flow: Flow = {}
    for place, lost in ((matrix, (-1, -2)), (right, (-2,))):
        operand = call.args[place]
        if isinstance(operand, Operand):
            count = operand.value.dim()
            kept = {n: None if d is None or d - count in lost else d for n, d in operand.flow.items()}
            flow = merge([flow, Operand(operand.value, kept).stretched(results[0].shape)])
    return [flow]


def cross_entropy(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Without a reduction: the dimension of classes, the second, disappears."""
    scores, target = call.argument(0, "input"), call.argument(1, "target")
    count = (scores.value if isinstance(scores, Operand) else scores).dim()
    if call.kwargs.get("reduction") != "none" or count < 2 or results[0].dim() != count - 1:
        return None
    flow: Flow = {}
    for operand in call.operands:
        if operand is not scores and operand is not target:
            flow = merge([flow, operand.mixed])
        elif operand.value.dim() == count:
            places = {0: 0} | {dim: dim - 1 for dim in range(2, count)}
            flow = merge([flow, {n: None if d is None else places.get(d) for n, d in operand.flow.items()}])
        else:
            flow = merge([flow, operand.flow])
    return [flow]
