"""One call of a tensor operation on values that latents flow into, and what can be found out by running it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Call", "Flow", "Operand", "leaves", "map_leaves", "merge", "position"]

Flow = dict[str, int | None]
"""Latents that a tensor depends on -> the dimension along which element i depends on the latent's element i alone.

None: any element may depend on any. A latent that is not there does not enter.
"""


@dataclass(eq=False)
class Operand:
    """A tensor in a call that latents flow into; one that is given twice stands there as two."""

    value: Tensor
    flow: Flow

    @property
    def mixed(self) -> Flow:
        """The same latents, any element with any."""
        return dict.fromkeys(self.flow)


@dataclass
class Call:
    """A function and its arguments, with operands in them.

    Attributes:
        function: of torch, called on plain tensors.
        name: without the underscores of its in-place and operator forms.
        in_place: whether its form says that it writes to its first argument.
        leaked: latents that shapes, Python numbers or control flow may depend on from here on.
    """

    function: Callable[..., Any]
    name: str
    in_place: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    leaked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.leaves = list(leaves((self.args, self.kwargs)))
        self.operands = [leaf for leaf in self.leaves if isinstance(leaf, Operand)]
        self.tensors = [leaf.value if isinstance(leaf, Operand) else leaf for leaf in self.leaves]

    @property
    def mixed(self) -> Flow:
        """All latents of all operands, any element with any."""
        return merge(operand.mixed for operand in self.operands)

    def run(self, replace: Callable[[Any], Tensor]) -> Any:
        """The function's result with every tensor and operand replaced."""
        return self.function(*map_leaves(self.args, replace), **map_leaves(self.kwargs, replace))

    def plain(self) -> Any:
        """The function's result."""
        return self.run(lambda leaf: leaf.value if isinstance(leaf, Operand) else leaf)

    def argument(self, place: int, *names: str) -> Any:
        """An argument by its place or a name of it; None if it was not given."""
        if len(self.args) > place:
            return self.args[place]
        return next((self.kwargs[name] for name in names if name in self.kwargs), None)


def leaves(tree: Any) -> Iterator[Tensor | Operand]:
    """Tensors and operands in nested tuples, lists, dictionaries and slices."""
    if isinstance(tree, Tensor | Operand):
        yield tree
    elif isinstance(tree, tuple | list):
        for each in tree:
            yield from leaves(each)
    elif isinstance(tree, dict):
        for each in tree.values():
            yield from leaves(each)
    elif isinstance(tree, slice):
        yield from leaves((tree.start, tree.stop, tree.step))


def map_leaves(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same nested structure with its tensors and operands changed; named tuples keep their type."""
    if isinstance(tree, Tensor | Operand):
        return change(tree)
    if isinstance(tree, torch.Size):
        return tree
    if isinstance(tree, tuple):
        parts = [map_leaves(each, change) for each in tree]
        if type(tree) is tuple:
            return tuple(parts)
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)  # torch.return_types take one
    if isinstance(tree, list):
        return [map_leaves(each, change) for each in tree]
    if isinstance(tree, dict):
        return {key: map_leaves(each, change) for key, each in tree.items()}
    if isinstance(tree, slice):
        return slice(*map_leaves((tree.start, tree.stop, tree.step), change))
    return tree


def merge(flows: Iterable[Flow]) -> Flow:
    """What a tensor depends on that each of these flows into: aligned only where all agree on the dimension."""
    result: Flow = {}
    for flow in flows:
        for name, dim in flow.items():
            result[name] = dim if result.get(name, dim) == dim else None
    return result


def labels(size: int) -> Tensor:
    """Distinct numbers between 1 and 2 for the elements of a dimension; the same ones at every call."""
    generator = torch.Generator().manual_seed(0)
    return 1 + torch.rand(size, generator=generator, dtype=torch.float64)


def position(found: Tensor, size: int, *, exact: bool = True) -> int | None:
    """The dimension along which a tensor made of `labels(size)` still holds them in order, each at its place.

    Zero and NaN stand for what came from elsewhere. None if there is no such dimension.
    """
    found = found.to(device="cpu", dtype=torch.float64)
    elsewhere = found.isnan() | (found == 0)
    for dim in reversed(range(found.dim())):
        length = min(found.shape[dim], size)
        expected = torch.full((found.shape[dim],), torch.inf, dtype=torch.float64)
        expected[:length] = labels(size)[:length]
        expected = expected.reshape(-1, *[1] * (found.dim() - dim - 1))
        same = found == expected if exact else (found - expected).abs() < 1e-9
        if bool((same | elsewhere).all()):
            return dim
    return None
