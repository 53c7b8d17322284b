"""Rules for what is picked by whole numbers: indices, gather, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jensen.gradients.dependence.call import Call, Flow, Operand, dimensions, leaves, merge
from jensen.gradients.dependence.labels import labels, position

__all__ = ["embedding", "gather", "getitem", "index_select", "one_hot", "setitem", "take_along"]


def getitem(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    source, index = call.args
    return _indexed(call, source, index if isinstance(index, tuple) else (index,))


def setitem(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Numbers written through a mask of the whole tensor: elementwise; otherwise it is not known where they went."""
    target, index, value = call.args
    shapes = [(part.value if isinstance(part, Operand) else part).shape for part in leaves((target, index))]
    whole = isinstance(index, Tensor | Operand) and len(shapes) == 2 and shapes[0] == shapes[1]
    if not whole or call.leaves[1] is not index or call.tensors[1].dtype != torch.bool:
        return None
    if any(tensor.dim() for tensor in call.tensors[2:]) or isinstance(value, list | tuple):
        return None
    return [merge(operand.stretched(shapes[0]) for operand in call.operands)]


def _indexed(call: Call, source: Any, index: tuple[Any, ...]) -> Sequence[Flow] | None:
    """`source[index]`: what flows in through the elements and through whole numbers that say which."""
    flow: Flow = {}
    direct = [part for part in index if isinstance(part, Operand)]
    for operand in call.operands:
        if operand is not source and (operand not in direct or operand.value.dtype in (torch.bool, torch.uint8)):
            call.leaked |= set(operand.flow)  # a mask or a bound of a slice: the result's size depends on it
            return None
    if isinstance(source, Operand):
        for dim, names in source.by_dimension():
            place = None
            if dim is not None:
                # What an index picks along its own dimension is not known: always the first label, then no labels.
                place = position(source.labelled(dim)[_numbers(index)], source.value.shape[dim])
            flow = merge([flow, dict.fromkeys(names, place)])
    if direct and not all(_plain_part(part) for part in index):
        return None
    value = source.value if isinstance(source, Operand) else source
    places = _places(index, value.dim())
    for at, part in enumerate(index):
        if isinstance(part, Operand):
            for dim, names in part.by_dimension():
                place = None if dim is None else _picked(value, index, at, places[at], dim)
                flow = merge([flow, dict.fromkeys(names, place)])
    return [flow]


def _plain_part(part: Any) -> bool:
    """Whether it is clear how many dimensions a part of an index takes."""
    whole = isinstance(part, int) and not isinstance(part, bool)
    return whole or part is None or part is Ellipsis or isinstance(part, slice | Tensor | Operand)


def _numbers(index: tuple[Any, ...], at: int = -1, instead: Tensor | None = None) -> tuple[Any, ...]:
    """The index without latents: zeros for what they flow into, and one part replaced."""
    return tuple(
        instead if place == at else torch.zeros_like(part.value) if isinstance(part, Operand) else part
        for place, part in enumerate(index)
    )


def _picked(value: Tensor, index: tuple[Any, ...], at: int, place: int, dim: int) -> int | None:
    """Where the dimension of an index ends up: it indexes labels, and finds those of its own elements."""
    which = index[at].value
    size = which.shape[dim]
    own = torch.arange(size, device=which.device).reshape(-1, *[1] * (which.dim() - dim - 1)).expand(which.shape)
    shape = list(value.shape)
    shape[place] = size
    along = labels(size).to(value.device).reshape(-1, *[1] * (len(shape) - place - 1))
    return position(along.expand(shape)[_numbers(index, at, own)], size)


def _places(index: tuple[Any, ...], count: int) -> list[int]:
    """The dimension of the indexed tensor at which each part of an index begins."""

    def width(part: Any) -> int:
        if part is None:
            return 0
        return part.dim() if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) else 1

    rest = count - sum(width(part) for part in index if part is not Ellipsis)
    places, here = [], 0
    for part in index:
        places.append(here)
        here += rest if part is Ellipsis else width(part)
    return places


def gather(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """The index keeps its places, the source all but along the dimension that is gathered."""
    source, index = call.argument(0, "input"), call.argument(2, "index")
    dims = dimensions(call.argument(1, "dim"), max(results[0].dim(), 1))
    if call.kwargs.get("sparse_grad"):
        return None
    return _picked_along(source, index, dims, results)


def take_along(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    source, index = call.argument(0, "input"), call.argument(1, "indices")
    given = call.argument(2, "dim")
    return None if given is None else _picked_along(source, index, dimensions(given, results[0].dim()), results)


def _picked_along(source: Any, index: Any, dims: list[int] | None, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    shape = results[0].shape
    if dims is None:
        return None
    flow: Flow = {}
    if isinstance(source, Operand):
        if source.value.dim() != len(shape):
            return None
        kept = {
            n: d if d is not None and d not in dims and source.value.shape[d] != 1 else None
            for n, d in source.flow.items()
        }
        flow = merge([flow, kept])
    if isinstance(index, Operand):
        if index.value.dim() != len(shape):
            return None
        flow = merge([flow, index.stretched(shape)])
    return [flow]


def index_select(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    source, index = call.argument(0, "input"), call.argument(2, "index")
    dims = dimensions(call.argument(1, "dim"), results[0].dim())
    if dims is None or (index.value if isinstance(index, Operand) else index).dim() != 1:
        return None
    return _indexed(call, source, (*[slice(None)] * dims[0], index))


def embedding(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    index, table = call.argument(0, "input"), call.argument(1, "weight")
    return None if call.argument(3, "max_norm") is not None else _indexed(call, table, (index,))


def one_hot(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    first, classes = call.leaves[0], call.argument(1, "num_classes")
    if not isinstance(first, Operand) or not isinstance(classes, int) or classes < 0:
        call.leaked |= set(call.mixed)  # the number of classes is that of the largest value
        return None
    return [dict(first.flow)]
