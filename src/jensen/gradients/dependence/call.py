"""One call of a tensor operation on values that latents flow into, and what can be found out by running it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from jensen.gradients.dependence.labels import labels

__all__ = ["Call", "Flow", "Operand", "leaves", "map_leaves", "merge"]

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

    def stretched(self, shape: torch.Size) -> Flow:
        """The flow after broadcasting to a shape."""
        sizes, added = self.value.shape, len(shape) - self.value.dim()
        return {n: d + added if d is not None and shape[d + added] == sizes[d] else None for n, d in self.flow.items()}

    def labelled(self, dim: int | None) -> Tensor:
        """A tensor like it, with labels along a dimension (ones for None), laid out in memory in the same way."""
        result = torch.empty_like(self.value, dtype=torch.float64)
        if dim is None:
            return result.fill_(1)
        along = labels(self.value.shape[dim]).to(self.value.device)
        return result.copy_(along.reshape(-1, *[1] * (result.dim() - dim - 1)).expand(result.shape))

    def by_dimension(self) -> Iterator[tuple[int | None, list[str]]]:
        """Each dimension that latents flow along, and which."""
        for dim in set(self.flow.values()):
            yield dim, [name for name, place in self.flow.items() if place == dim]


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


def dimensions(given: Any, count: int) -> list[int] | None:
    """Dimensions of a tensor that has `count` of them, as numbers from 0; None where they are not plain numbers."""
    many = given if isinstance(given, tuple | list) else [given]
    if not all(isinstance(dim, int) and not isinstance(dim, bool) for dim in many):
        return None
    return [dim % max(count, 1) for dim in many]
