"""How the codes of real numbers are kept in a file: in 32, 16 or 8 bits a number, the last with a scale beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Precision", "chosen_precision", "kept_as", "numbers", "scales_of"]

Precision = Literal["float32", "float16", "int8"]
LOW, STEP = "_low", "_step"


def chosen_precision(half: bool, int8: bool) -> Precision:
    """What the flags say. Raises `JensenError` for both."""
    if half and int8:
        raise JensenError("--half keeps 16 bits a number and --int8 keeps 8: give one of them")
    return "float16" if half else "int8" if int8 else "float32"


def kept_as(name: str, codes: Tensor, precision: Precision) -> dict[str, Any]:
    """Codes (B, *dims) as arrays for a file: `name`, and of 8 bits also `name`_low and `name`_step, (*dims,) float32.

    A number k of 8 bits stands for low + k x step, 0 and 255 for the least and largest of its dimension among these
    codes: it is restored to half a step.

    Raises:
        JensenError: codes beyond what 16 bits can hold.
    """
    import torch

    from jensen.metrics.quantised import quantise

    if precision == "int8":
        kept = quantise(codes, 8)
        levels = kept.levels.numpy().astype("uint8")
        return {name: levels, name + LOW: kept.low.numpy(), name + STEP: kept.step.numpy()}
    stored = codes.half() if precision == "float16" else codes.float()
    if not torch.isfinite(stored).all():
        raise JensenError("the codes do not fit 16 bits; leave --half away, or keep them with --int8")
    return {name: stored.numpy()}


def scales_of(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arrays that are scales of others."""
    return {
        name: array
        for name, array in arrays.items()
        if any(name.endswith(end) and name.removesuffix(end) in arrays for end in (LOW, STEP))
    }


def numbers(arrays: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Arrays of a file, codes of 8 bits as the float32 that they stand for, without the scales.

    Raises:
        DataError: codes of 8 bits without their scales, or with some that do not fit them.
    """
    scales = scales_of(arrays)
    found = {name: array for name, array in arrays.items() if name not in scales}
    for name in {scale.removesuffix(LOW).removesuffix(STEP) for scale in scales} | _bare(found):
        missing = [name + end for end in (LOW, STEP) if name + end not in scales]
        if missing:
            raise DataError(
                f"{path} holds {name} in 8 bits without {' and '.join(missing)}, which --int8 writes beside "
                "them: codes of another run, of whole numbers, or a file that was cut?"
            )
        found[name] = _restored(name, arrays, path)
    return found


def _bare(arrays: Mapping[str, Any]) -> set[str]:
    """Codes that are kept in 8 bits."""
    return {name for name in arrays if arrays[name].dtype == "uint8" and (name == "codes" or name.startswith("level_"))}


def _restored(name: str, arrays: Mapping[str, Any], path: Path) -> Any:
    import numpy as np
    import torch

    from jensen.metrics.quantised import Quantised

    levels, low, step = arrays[name], arrays[name + LOW], arrays[name + STEP]
    if levels.dtype != np.uint8:
        raise DataError(f"{path}: {name} has scales beside it but holds {levels.dtype}, not 8 bits: from another file?")
    for end, scale in ((LOW, low), (STEP, step)):
        if scale.dtype.kind != "f" or scale.shape != levels.shape[1:]:
            raise DataError(
                f"{path}: {name + end} is {scale.dtype} of shape {scale.shape}, but {name} needs one number for each "
                f"of {levels.shape[1:]}: from another file?"
            )
    if not (np.isfinite(low).all() and np.isfinite(step).all() and (step >= 0).all()):
        raise DataError(f"{path}: the scales of {name} are not finite, or steps are negative: the file is damaged")
    least, each = (torch.from_numpy(scale.astype(np.float32)) for scale in (low, step))
    return Quantised(torch.from_numpy(levels.astype(np.int64)), least, each, bits=8).restored().numpy()
