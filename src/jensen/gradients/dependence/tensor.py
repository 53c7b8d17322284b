"""Tensors that know which latents flow into them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jensen.gradients.dependence.call import Call, Flow, Operand, leaves, map_leaves, merge
from jensen.gradients.dependence.names import METADATA, OPERATORS, SAME
from jensen.gradients.dependence.rules import flows_of, has_rule

__all__ = ["Following", "Memory", "State", "Tracked"]

FACTS = (torch.dtype, torch.device, torch.layout, torch.Size, torch.memory_format, type(None))
"""What can be returned without saying anything of values."""
VALIDATION = ("__init__", "_validate_sample", "check")
"""Where PyTorch's distributions ask whether values are valid; the answer "no" is an error, and so no other branch."""


@dataclass
class State:
    """Of one run.

    Attributes:
        names: all latents.
        leaked: those whose values left the tensors, so that anything may depend on them.
        reasons: how they did.
    """

    names: tuple[str, ...]
    leaked: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)

    def leak(self, names: Iterable[str], reason: str) -> None:
        """Whatever is computed, before too (a branch may choose between terms), counts as dependent on these."""
        new = [name for name in names if name not in self.leaked]
        if new:
            self.leaked.update(new)
            self.reasons.append(f"{', '.join(new)}: {reason}")


@dataclass
class Memory:
    """A piece of memory that was made while latents were followed, and whether other tensors may look into it too."""

    shared: bool = False


class Tracked(Tensor):
    """A tensor and the latents that flow into it.

    It has no memory of its own: whoever reaches for its values other than through PyTorch's functions (vmap, an
    extension in C++) gets an error, and not a value that is not followed.
    """

    value: Tensor
    flow: Flow
    state: State
    memory: Memory

    @staticmethod
    def __new__(cls, value: Tensor, flow: Flow, state: State, memory: Memory) -> Tracked:
        result: Tracked = torch.Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), dtype=value.dtype, device=value.device
        )
        result.value, result.flow, result.state, result.memory = value, flow, state, memory
        return result

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return follow(func, tuple(args), dict(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = [leaf for leaf in leaves((tuple(args), dict(kwargs or {}))) if isinstance(leaf, Tracked)]
        for one in found:  # the function may catch the error and go another way
            one.state.leak(one.state.names, f"{func} was called below PyTorch's functions")
        raise TypeError(f"latents cannot be followed through {func}")


class Following(TorchFunctionMode):
    """While it is on, latents are also seen where PyTorch does not ask a tensor's type: `plain[latent]`."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return follow(func, tuple(args), dict(kwargs or {}))


def follow(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function on the tracked tensors' values; its results are tracked."""
    inputs = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tracked)]
    if not inputs:
        return func(*args, **kwargs)
    state = inputs[0].state
    name, in_place = _name(func)

    def operand(leaf: Tensor) -> Any:
        return Operand(leaf.value, leaf.flow) if isinstance(leaf, Tracked) else leaf

    call = Call(func, name, in_place, map_leaves(args, operand), map_leaves(kwargs, operand))
    if name in METADATA:
        return call.plain()
    if name in ("__set__", "__delete__"):
        state.leak(state.names, "a tensor's attribute was set")
        raise TypeError("latents cannot be followed through tensors whose attributes are set")
    originals = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    before = [_version(tensor) for tensor in call.tensors]
    copies = [] if has_rule(name) else [tensor.clone() for tensor in call.tensors]  # buffers may change unsaid
    try:
        result = call.plain()
    except Exception:
        state.leak(call.mixed, f"{name.strip('_')} failed, which the function may have caught")
        raise
    outputs = [leaf for leaf in leaves(result) if isinstance(leaf, Tensor)]
    if not _says_nothing(name, result):
        state.leak(call.mixed, f"{name.strip('_')} takes values out of tensors")
    flows = flows_of(call, outputs) if outputs or name == "__setitem__" else []
    changed = [_version(tensor) != before[place] for place, tensor in enumerate(call.tensors)]
    for place, copy in enumerate(copies):
        changed[place] |= _differ(call.tensors[place], copy)
    if in_place and args and isinstance(args[0], Tensor):
        changed[0] = True
    _write(call, state, [o for o, c in zip(originals, changed, strict=True) if c], flows)
    state.leak(call.leaked, f"what {name.strip('_')} returns has a shape that depends on values")
    wrapped = iter([_wrap(out, flow, originals, state) for out, flow in zip(outputs, flows, strict=False)])
    return map_leaves(result, lambda _: next(wrapped))


def _write(call: Call, state: State, written: Sequence[Tensor], flows: Sequence[Flow]) -> None:
    """Note what was written into arguments."""
    for target in written:
        if not isinstance(target, Tracked) or target.memory.shared:
            # Others may look into the same memory, a caller's tensor or an array: who, cannot be known.
            state.leak(call.mixed, f"{call.name.strip('_')} writes into a tensor that others may read")
        if isinstance(target, Tracked):
            known = call.in_place and len(written) == 1 and len(flows) == 1  # then it is the first argument
            target.flow = dict(flows[0]) if known else merge([target.flow, call.mixed])


def _wrap(result: Tensor, flow: Flow, originals: Sequence[Tensor], state: State) -> Tensor:
    """A result as a tracked tensor; an argument that is returned stays the same object."""
    memory = Memory()
    for original in originals:
        value = original.value if isinstance(original, Tracked) else original
        if value is result:
            if isinstance(original, Tracked):
                return original
            if not flow:
                return original
        if _storage(value) == _storage(result):
            memory = original.memory if isinstance(original, Tracked) else memory
            memory.shared = True
    return Tracked(result, flow, state, memory)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _differ(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return True
    return not bool(((one == other) | ((one != one) & (other != other))).all())


def _name(func: Callable[..., Any]) -> tuple[str, bool]:
    """The name of an operation, and whether its form says that it writes to its first argument."""
    name: str = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":
        owner: Any = getattr(func, "__self__", None)
        return str(getattr(owner, "__name__", None) or owner.fget.__name__), False
    if name == "__setitem__":
        return name, True
    if name.startswith("__") and name.endswith("__"):
        core = name[2:-2]
        if core in OPERATORS:
            return core, False
        if core[:1] in ("r", "i") and core[1:] in OPERATORS:
            return core[1:], core[0] == "i"
        return name, False
    if name == "requires_grad_":
        return name, False
    if name.endswith("_") and not name.startswith("_"):
        return name.rstrip("_"), True
    return name, False


def _says_nothing(name: str, result: Any) -> bool:
    """Whether a result, but for its tensors, says nothing of values."""
    if isinstance(result, (Tensor, *FACTS)) or name in SAME:  # `x.type()` is the name of a type
        return True
    if isinstance(result, tuple | list):
        return all(_says_nothing(name, part) for part in result)
    return name == "__bool__" and _validated(sys._getframe(1))


def _validated(frame: FrameType | None) -> bool:
    """Whether the question comes from PyTorch's validation of a distribution's arguments."""
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "torch.overrides", "torch._tensor"):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name not in VALIDATION:
        return False
    return str(frame.f_globals.get("__name__")).startswith("torch.distributions.")
