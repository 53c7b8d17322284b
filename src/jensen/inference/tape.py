"""A function of one tensor as the list of its elementary operations, run again without the Python that led to them.

Small models spend most of their time in Python: distributions, modules and transforms, not arithmetic. What they
compute is the same at every point, so it is written down once. A function under `torch.func.vmap` has no choice but to
be such: control flow on values is an error there (but for the checks of `torch.distributions`, which are left out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["NotRecordable", "Tape"]


class NotRecordable(Exception):
    """The function draws random numbers, changes tensors that are not its own, or returns none of its own."""


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the compiler is imported, which takes longer than many a fit

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


class _Slot:
    """Where an argument is found."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Tape:
    """A function recorded at x, for tensors of the shape of x.

    Args:
        function: x -> tensors, deterministic, without control flow that depends on x; may differentiate inside.
        x: where it is recorded.

    Attributes:
        outputs: the function's values at x.
        operations: how many there are.

    Raises:
        NotRecordable: see there.
    """

    def __init__(self, function: Callable[[Tensor], Sequence[Tensor]], x: Tensor) -> None:
        given = x.detach().clone()
        recorder = _Recorder()
        with recorder:
            outputs = function(given)
        self.shape = x.shape
        self.outputs = tuple(outputs)
        self._slots: dict[int, int] = {id(given): 0}
        self._count = 1
        self._steps: list[tuple[Any, list[Any], list[tuple[int, int]], dict[str, Any], list[int]]] = []
        # Everything stays alive in `recorder` while it is sorted out, so that ids are unique.
        for func, args, kwargs, result in recorder.calls:
            self._add(func, args, kwargs, result)
        missing = [o for o in self.outputs if id(o) not in self._slots]
        if missing:
            raise NotRecordable("an output does not depend on the input")
        self._results = [self._slots[id(o)] for o in self.outputs]
        self._drop_unused()
        self._slots.clear()
        self.operations = len(self._steps)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The function's values at x."""
        store: list[Any] = [None] * self._count
        store[0] = x
        with torch.no_grad():
            for run, args, places, kwargs, outs in self._steps:
                for position, index in places:
                    args[position] = store[index]
                result = run(*args, **kwargs) if places or not args else run(*self._filled(args, store), **kwargs)
                if isinstance(result, Tensor):
                    store[outs[0]] = result
                else:  # several, or a list of one
                    for out, each in zip(outs, result, strict=True):
                        store[out] = each
        return [store[index] for index in self._results]

    def _filled(self, args: list[Any], store: list[Any]) -> list[Any]:
        """Arguments with lists of tensors in them."""

        def fill(value: Any) -> Any:
            if isinstance(value, _Slot):
                return store[value.index]
            return [fill(v) for v in value] if isinstance(value, list | tuple) else value

        return [fill(value) for value in args]

    def _add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        slotted = [self._slotted(a) for a in args]
        keyed = {name: self._slotted(value) for name, value in kwargs.items()}
        depends = any(_has_slot(a) for a in (*slotted, *keyed.values()))
        if torch.Tag.nondeterministic_seeded in func.tags or func._schema.is_mutable:
            raise NotRecordable(f"{func} is random or changes its arguments")
        if not depends:  # what does not depend on x is a constant
            return
        outs = [result] if isinstance(result, Tensor) else list(result) if isinstance(result, tuple | list) else []
        if not outs or any(not isinstance(o, Tensor) for o in outs):
            return  # a check: nothing that is computed comes of it
        if any(_has_slot(value) for value in keyed.values()):
            raise NotRecordable(f"{func} takes a keyword that depends on the input")
        if func is torch.ops.aten.detach.default:  # nothing is differentiated on a tape
            self._slots[id(result)] = slotted[0].index
            return
        numbers = []
        for out in outs:
            self._slots[id(out)] = self._count
            numbers.append(self._count)
            self._count += 1
        plain = not any(isinstance(a, list) and _has_slot(a) for a in slotted)
        places = [(i, a.index) for i, a in enumerate(slotted) if isinstance(a, _Slot)] if plain else []
        self._steps.append((func._op, slotted, places, keyed, numbers))

    def _slotted(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            index = self._slots.get(id(value))
            return value if index is None else _Slot(index)
        if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
            return [self._slotted(v) for v in value]
        return value

    def _drop_unused(self) -> None:
        wanted = set(self._results)
        kept = []
        for step in reversed(self._steps):
            if wanted.isdisjoint(step[4]):
                continue
            kept.append(step)
            wanted.update(_indices(step[1]))
        self._steps = kept[::-1]


def _has_slot(value: Any) -> bool:
    return isinstance(value, _Slot) or (isinstance(value, list) and any(_has_slot(v) for v in value))


def _indices(value: Any) -> list[int]:
    if isinstance(value, _Slot):
        return [value.index]
    return [i for v in value for i in _indices(v)] if isinstance(value, list) else []
