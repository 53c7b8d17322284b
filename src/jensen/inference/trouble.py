"""What is wrong with a log joint, in words: whose shapes, which term, which number of the data."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["cut_short", "draw_by_draw", "entries", "hint", "not_a_term", "not_finite", "shapes", "unfinished"]


def shapes(values: Mapping[str, Any]) -> str:
    """`mu (), y (8,)`; the kind of what is no tensor."""
    found = (f"{n} {tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__}" for n, v in values.items())
    return ", ".join(found) or "none"


def entries(data: Any) -> dict[str, Any]:
    """The entries of data; a tensor is called "data"."""
    return {"data": data} if isinstance(data, Tensor) else dict(data)


def not_a_term(name: str, value: Any) -> str:
    """Of what the log joint returned."""
    return f"term {name!r} of the log joint is a {type(value).__name__}: a log density is a tensor or a number"


def unfinished(data: Any) -> str:
    """Where data hold NaN or infinity: the first place of each entry; empty where they do not."""
    parts = []
    for name, entry in entries(data).items():
        if isinstance(entry, Tensor) and entry.is_floating_point() and not bool(entry.isfinite().all()):
            place = _place(~entry.isfinite())
            what = "" if isinstance(data, Tensor) else f" {name!r}"
            parts.append(f"; data{what} {_have(data)} {float(entry[place])} at {list(place)}: leave out, or model it")
    return "".join(parts)


def _have(data: Any) -> str:
    return "have" if isinstance(data, Tensor) else "has"


def _place(bad: Tensor) -> tuple[int, ...]:
    return tuple(bad.nonzero()[0].tolist())


def not_finite(bad: Sequence[str], found: Mapping[str, Tensor], data: Any) -> str:
    """Terms, (draws, *plates) each, that are not finite, and where; and what in the data may be the cause."""
    words = []
    for name in bad:
        first = found[name][0]
        wrong = ~first.isfinite()
        place = _place(wrong)
        where = f" at {list(place)}" if place else ""
        words.append(f"term {name!r} is {float(first[place])}{where}")
    return "the log joint is not finite at the start: " + ", ".join(words) + unfinished(data)


def hint(error: BaseException, data: Any, parameters: Any = None) -> str:
    """What to do about an error of the log joint that torch's own words do not say; empty where they do.

    Args:
        error: with its traceback.
        data: of the model.
        parameters: of the model, by name.
    """
    text = str(error)
    if "numpy()" in text:
        return "; the log joint must stay in torch (torch.log, not numpy.log): it is differentiated through its draws"
    if not _OF_DTYPES.search(text):
        return ""
    module = _single_module(error)
    if module is not None:
        return f"; latents are float64, but {module[0]} has parameters of {module[1]}: call {module[2]}.double()"
    wrong = _singles(error, data, parameters)
    if wrong:
        return f"; latents are float64, but {', '.join(wrong)}: give .double()"
    whole = _wholes(data) if _OF_WHOLES.search(text) else []
    if whole:
        one = whole[0].split()[1] if " is " in whole[0] else "data"
        return f"; {', '.join(whole)}: where a floating number is meant, give {one}.double()"
    return "; latents are float64: give .double() to what is to be combined with them"


_OF_DTYPES = re.compile(r"dtype|scalar type|same type|output type|type \((torch\.)?\w+\)", re.IGNORECASE)
_OF_WHOLES = re.compile(r"\b(long|int|short|byte|char|bool|u?int\d+)\b", re.IGNORECASE)


def _of(name: str, entry: Tensor, data: Any) -> str:
    dtype = str(entry.dtype).removeprefix("torch.")
    return f"the data are {dtype}" if isinstance(data, Tensor) else f"data {name} is {dtype}"


def _single(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _singles(error: BaseException, data: Any, parameters: Any) -> list[str]:
    """Data, parameters and what the log joint knows from outside, that are floating but not of double precision."""
    found = [_of(n, v, data) for n, v in entries(data).items() if _single(v)]
    named = parameters if isinstance(parameters, Mapping) else {}
    found += [f"parameter {n} is {str(v.dtype).removeprefix('torch.')}" for n, v in named.items() if _single(v)]
    frames = _own_frames(error)
    outside = {} if not frames else _outside(frames[-1])
    found += [f"{n} is {str(v.dtype).removeprefix('torch.')}" for n, v in outside.items() if _single(v)]
    return found


def _wholes(data: Any) -> list[str]:
    """Data that are whole numbers or truth values."""
    return [
        _of(n, v, data)
        for n, v in entries(data).items()
        if isinstance(v, Tensor) and not (v.is_floating_point() or v.is_complex())
    ]


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _elsewhere(frame: FrameType) -> bool:
    """Whether a frame is of this library or of torch."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("jensen", "torch")


def _own_frames(error: BaseException) -> list[FrameType]:
    """Of the user's functions, the log joint's first."""
    return [frame for frame in _frames(error) if not _elsewhere(frame)]


def _outside(frame: FrameType) -> dict[str, Any]:
    """What a function uses that is neither its argument nor made by it."""
    code = frame.f_code
    free = {n: frame.f_locals[n] for n in code.co_freevars if n in frame.f_locals}
    return {**{n: frame.f_globals[n] for n in code.co_names if n in frame.f_globals}, **free}


def _single_module(error: BaseException) -> tuple[str, str, str] | None:
    """The module not of double precision that an error went through: in words, its type, and how it is called."""
    frames = _frames(error)
    start = next((k for k, frame in enumerate(frames) if not _elsewhere(frame)), len(frames))
    caller: FrameType | None = None
    for frame in frames[start:]:
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and caller is not None:
            single = next((p for p in module.parameters() if _single(p)), None)
            if single is not None:
                known = {**caller.f_globals, **caller.f_locals}
                name = next((n for n, v in known.items() if v is module and n != "self"), "")
                kind = type(module).__name__
                words = f"module {name} ({kind})" if name else f"a module ({kind})"
                return words, str(single.dtype).removeprefix("torch."), name or "it"
        if not _elsewhere(frame):
            caller = frame
    return None


def cut_short(model_latents: Mapping[str, Any], plate: str, size: int, rows: int, batch: Any) -> str:
    """What to do where the log joint runs on all rows but not on a minibatch of `size` of them."""
    alike = [n for n, v in model_latents.items() if v.plate is None and v.shape[:1] == (rows,)]
    words = f"while the log joint was run on a minibatch, {size} of the {rows} rows: data {shapes(entries(batch))}; "
    if alike:
        declared = f"declare {alike[0]!r} with plate={plate!r} if it has one of each row, or "
        return f"{words}latent {alike[0]!r} is not cut with them: {declared}take z.{alike[0]}[data.index]"
    return words + f"what has {rows} rows and is no entry of the data must be cut too: take [data.index] of it"


def draw_by_draw(error: BaseException) -> str:
    """Why `torch.func.vmap` refused a log joint that runs one draw at a time."""
    text = str(error)
    if "control flow" in text:
        reason = "it branches on the value of a draw, for which torch.where is made"
    elif ".item()" in text:
        reason = "it takes a plain number, .item() or float(), of a draw, through which no gradient passes"
    elif "data pointer" in text or "numpy" in text:
        reason = "it leaves torch"
    else:
        reason = text.partition("\n")[0].partition(". ")[0][:120].rstrip(".") or type(error).__name__
    return f"the log joint cannot be vectorised ({reason}): it is run draw by draw, slowly"
