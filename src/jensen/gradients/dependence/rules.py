"""Through which dimensions an operation on tensors lets latents flow: a rule for each kind of operation.

A rule gives the flow into each result; None, and every operation without a rule, stands for "any element with any".
Operations that only move elements, and those that are linear in each argument, are not described but run again on
tensors that are labelled along the dimension in question: where the labels end up is where the dimension went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from jensen.gradients.dependence.call import Call, Flow, Operand, labels, leaves, merge, position
from jensen.gradients.dependence.names import (
    ALONG,
    DYNAMIC,
    ELEMENTWISE,
    LIKE,
    MATRIX,
    MOVES,
    PRODUCTS,
    REDUCTIONS,
    SAME,
    SCATTERS,
)

__all__ = ["flows_of"]

Rule = Callable[[Call, Sequence[Tensor]], Sequence[Flow] | None]


def flows_of(call: Call, results: Sequence[Tensor]) -> Sequence[Flow]:
    """What flows into each result of a call; adds to `call.leaked` what its shapes or Python numbers depend on."""
    if call.name in DYNAMIC:
        call.leaked |= set(call.mixed)
    rule = _rule(call.name)
    if call.in_place and rule is not _elementwise and rule is not _setitem:
        rule = None  # the argument is not what it was: nothing can be found by running it again
    found = None
    if rule is not None and "out" not in call.kwargs:
        try:
            found = rule(call, results)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            found = None  # a rule that does not fit this call
    if found is None:
        # A whole number may have become a size, a count or a place: what is made with it then differs in shape.
        for operand in call.operands:
            whole = operand.value.dim() == 0 and not operand.value.is_floating_point()
            if whole and not (rule is not None and operand is call.leaves[0]):
                call.leaked |= set(operand.flow)
        found = [call.mixed for _ in results]
    return found


@cache
def _rule(name: str) -> Rule | None:
    special: dict[str, Rule] = {
        "max": _extremum,
        "min": _extremum,
        "where": _where,
        "__getitem__": _getitem,
        "__setitem__": _setitem,
        "gather": _gather,
        "take_along_dim": _take_along,
        "index_select": _index_select,
        "embedding": _embedding,
        "one_hot": _one_hot,
        "cross_entropy": _cross_entropy,
        "nll_loss": _cross_entropy,
        "linalg_solve_triangular": partial(_solved, matrix=0, right=1),
        "cholesky_solve": partial(_solved, matrix=1, right=0),
    }
    if name in special:
        return special[name]
    kinds: list[tuple[Any, Rule]] = [
        (SAME, _same),
        (LIKE, _like),
        (MOVES, _moved),
        (PRODUCTS, _product),
        (REDUCTIONS, _reduced),
        (ALONG, _along),
        (SCATTERS, _scattered),
        (MATRIX, _matrix),
        (ELEMENTWISE, _elementwise),
    ]
    for names, rule in kinds:
        if name in names:
            return rule
    return _elementwise if _pointwise(name) else None


def _pointwise(name: str) -> bool:
    """Whether PyTorch itself marks all forms of an operation as elementwise."""
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() and not name.startswith("_") else None
    if packet is None or not hasattr(packet, "overloads"):
        return False
    forms = [getattr(packet, form) for form in packet.overloads() if not form.endswith("out")]
    return bool(forms) and all(torch.Tag.pointwise in form.tags for form in forms)


# --- elements stay where they are ------------------------------------------------------------------------------------


def _stretched(operand: Operand, shape: torch.Size) -> Flow:
    """The flow of an operand that is broadcast to a shape."""
    added = len(shape) - operand.value.dim()
    sizes = operand.value.shape
    return {n: d + added if d is not None and shape[d + added] == sizes[d] else None for n, d in operand.flow.items()}


def _elementwise(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in call.tensors))
    if any(result.shape != shape for result in results):
        return None
    return [merge(_stretched(operand, shape) for operand in call.operands) for _ in results]


def _where(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    if len(call.args) + len(call.kwargs) > 1:
        return _elementwise(call, results)
    call.leaked |= set(call.mixed)  # the places of what is true: as many as there are
    return None


def _same(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Casts and copies of the first argument; of the others only the type or place is used."""
    first = call.leaves[0]
    if not isinstance(first, Operand):
        return [{} for _ in results]
    return [dict(first.flow) for result in results] if results[0].shape == first.value.shape else None


def _like(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Only the shape of the first argument is used."""
    others = [operand for operand in call.operands if operand is not call.leaves[0]]
    return None if others else [{} for _ in results]


# --- elements move ---------------------------------------------------------------------------------------------------


def _labelled(operand: Operand, dim: int | None) -> Tensor:
    """Labels along a dimension (ones without), laid out in memory like the operand."""
    value = operand.value
    result = torch.empty_like(value, dtype=torch.float64)
    if dim is None:
        return result.fill_(1)
    along = labels(value.shape[dim]).to(value.device)
    return result.copy_(along.reshape(-1, *[1] * (value.dim() - dim - 1)).expand(value.shape))


def _moved(call: Call, results: Sequence[Tensor]) -> Sequence[Flow]:
    """All tensors are data that end up elsewhere, as they are."""
    found: list[Flow] = [{} for _ in results]
    for operand in call.operands:
        for dim in set(operand.flow.values()):
            names = [name for name, place in operand.flow.items() if place == dim]
            again = call.run(_only(operand, _labelled(operand, dim), torch.nan))
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


def _product(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Sums of products, linear in each argument: labels that were summed over are not labels any more."""
    if len(results) != 1:
        return None
    flow: Flow = {}
    for operand in call.operands:
        for dim in set(operand.flow.values()):
            names = [name for name, place in operand.flow.items() if place == dim]
            flow = merge([flow, dict.fromkeys(names, None if dim is None else _through(call, operand, dim))])
    return [flow]


def _through(call: Call, operand: Operand, dim: int) -> int | None:
    def at(values: Tensor) -> Tensor:
        result: Tensor = call.run(_only(operand, values, 1.0))
        return result

    constant = at(torch.zeros_like(operand.value, dtype=torch.float64))
    average = (at(_labelled(operand, dim)) - constant) / (at(_labelled(operand, None)) - constant)
    return position(average.nan_to_num(nan=-1), operand.value.shape[dim], exact=False)


# --- elements are combined along some dimensions ---------------------------------------------------------------------


def _dims(given: Any, count: int) -> list[int] | None:
    """Dimensions as numbers from 0; None where they are not plain numbers."""
    many = given if isinstance(given, tuple | list) else [given]
    if not all(isinstance(dim, int) and not isinstance(dim, bool) for dim in many):
        return None
    return [dim % count for dim in many]


def _extremum(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    return _elementwise(call, results) if len(call.tensors) > 1 else _reduced(call, results)


def _reduced(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    first = call.leaves[0]
    if len(call.leaves) != 1 or not isinstance(first, Operand):
        return None
    sizes = first.value.shape
    dims = _dims(call.argument(REDUCTIONS.get(call.name, 1), "dim", "axis"), max(len(sizes), 1))
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


def _along(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    first = call.leaves[0]
    if len(call.leaves) != 1 or not isinstance(first, Operand):
        return None
    place, default = ALONG[call.name]
    given = call.argument(place, "dim", "axis")
    return _except(_dims(default if given is None else given, max(first.value.dim(), 1)), [first], results)


def _scattered(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    dims = _dims(call.argument(1, "dim"), max(results[0].dim(), 1))
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


# --- indices ---------------------------------------------------------------------------------------------------------


def _getitem(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    source, index = call.args
    return _indexed(call, source, index if isinstance(index, tuple) else (index,), results)


def _setitem(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """Numbers written through a mask of the whole tensor: elementwise; otherwise it is not known where they went."""
    target, index, value = call.args
    shapes = [(part.value if isinstance(part, Operand) else part).shape for part in leaves((target, index))]
    whole = isinstance(index, Tensor | Operand) and len(shapes) == 2 and shapes[0] == shapes[1]
    if not whole or call.leaves[1] is not index or call.tensors[1].dtype != torch.bool:
        return None
    if any(tensor.dim() for tensor in call.tensors[2:]) or isinstance(value, list | tuple):
        return None
    return [merge(_stretched(operand, shapes[0]) for operand in call.operands)]


def _indexed(call: Call, source: Any, index: tuple[Any, ...], results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """`source[index]`: what flows in through the elements and through whole numbers that say which."""
    flow: Flow = {}
    direct = [part for part in index if isinstance(part, Operand)]
    for operand in call.operands:
        if operand is not source and (operand not in direct or operand.value.dtype in (torch.bool, torch.uint8)):
            call.leaked |= set(operand.flow)  # a mask or a bound of a slice: the result's size depends on it
            return None
    if isinstance(source, Operand):
        for dim in set(source.flow.values()):
            names = [name for name, place in source.flow.items() if place == dim]
            place = None
            if dim is not None:
                # What an index picks along its own dimension is not known: always the first label, then no labels.
                place = position(_labelled(source, dim)[_numbers(index)], source.value.shape[dim])
            flow = merge([flow, dict.fromkeys(names, place)])
    if direct and not all(_plain_part(part) for part in index):
        return None
    value = source.value if isinstance(source, Operand) else source
    places = _places(index, value.dim())
    for at, part in enumerate(index):
        if isinstance(part, Operand):
            for dim in set(part.flow.values()):
                names = [name for name, place in part.flow.items() if place == dim]
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


def _gather(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """The index keeps its places, the source all but along the dimension that is gathered."""
    source, index = call.argument(0, "input"), call.argument(2, "index")
    dims = _dims(call.argument(1, "dim"), max(results[0].dim(), 1))
    if call.kwargs.get("sparse_grad"):
        return None
    return _picked_along(source, index, dims, results)


def _take_along(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    source, index = call.argument(0, "input"), call.argument(1, "indices")
    given = call.argument(2, "dim")
    return None if given is None else _picked_along(source, index, _dims(given, results[0].dim()), results)


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
        flow = merge([flow, _stretched(index, shape)])
    return [flow]


def _index_select(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    source, index = call.argument(0, "input"), call.argument(2, "index")
    dims = _dims(call.argument(1, "dim"), results[0].dim())
    if dims is None or (index.value if isinstance(index, Operand) else index).dim() != 1:
        return None
    return _indexed(call, source, (*[slice(None)] * dims[0], index), results)


def _embedding(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    index, table = call.argument(0, "input"), call.argument(1, "weight")
    return None if call.argument(3, "max_norm") is not None else _indexed(call, table, (index,), results)


def _one_hot(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    first, classes = call.leaves[0], call.argument(1, "num_classes")
    if not isinstance(first, Operand) or not isinstance(classes, int) or classes < 0:
        call.leaked |= set(call.mixed)  # the number of classes is that of the largest value
        return None
    return [dict(first.flow)]


# --- matrices, losses ------------------------------------------------------------------------------------------------


def _matrix(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
    """A matrix in, anything out, one by one over the leading dimensions."""
    first = call.leaves[0]
    if len(call.leaves) != 1 or not isinstance(first, Operand):
        return None
    batch = first.value.shape[:-2]
    if any(result.shape[: len(batch)] != batch for result in results):
        return None
    flow = {n: d if d is not None and d < len(batch) else None for n, d in first.flow.items()}
    return [dict(flow) for _ in results]


def _solved(call: Call, results: Sequence[Tensor], *, matrix: int, right: int) -> Sequence[Flow] | None:
    """Each column of the right-hand side on its own; of the matrix, only the leading dimensions are kept apart."""
    shape = results[0].shape
    flow: Flow = {}
    for place, lost in ((matrix, (-1, -2)), (right, (-2,))):
        operand = call.args[place]
        if isinstance(operand, Operand):
            count = operand.value.dim()
            here = {n: None if d is None or d - count in lost else d for n, d in operand.flow.items()}
            flow = merge([flow, _stretched(Operand(operand.value, here), shape)])
    return None if call.kwargs.get("left") is False or len(call.operands) > len(call.args[:2]) else [flow]


def _cross_entropy(call: Call, results: Sequence[Tensor]) -> Sequence[Flow] | None:
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
