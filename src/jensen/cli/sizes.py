"""What `jensen encode` prints: what codes save, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.stored import scales_of
from jensen.cli.words import right, symbols_of

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run

__all__ = ["quality_rows", "size_rows"]

MOST_SHAPES = 6
"""Of arrays, told one by one."""
COMPARED = 1_000
"""Images whose structural similarity is measured: a second."""


def _bytes(run: Run, values: Tensor) -> int:
    """Bytes that a value is usually kept in: one of a pixel, as few as its levels take of a signal, else four."""
    if values.ndim == 4:
        return 1
    levels = run.own_facts.levels if values.ndim == 3 and run.config.data.target is None else None
    return 4 if levels is None else 1 if levels <= 256 else 2


def size_rows(
    run: Run, values: Tensor, arrays: Mapping[str, Any], beside: Mapping[str, Any], path: Path
) -> list[tuple[str, str, str]]:
    """Bytes in and out of the values (B, *shape), kept as `arrays` in the file, with what is kept `beside` them."""
    width = _bytes(run, values)
    scales = scales_of(arrays)
    codes = {name: array for name, array in arrays.items() if name not in scales}
    before, after = values.numel() * width, sum(array.nbytes for array in codes.values())
    shape = " x ".join(str(size) for size in values.shape[1:])
    each = " and ".join(" x ".join(str(size) for size in array.shape[1:]) for array in codes.values())
    if len(codes) > MOST_SHAPES:
        each = f"{sum(math.prod(array.shape[1:]) for array in codes.values()):,} numbers in {len(codes)} levels"
    (first, *_) = codes.values()
    unit = "code" if first.dtype.kind in "iu" and not scales else "number"
    rows = [
        ("in", f"{before:,} bytes", f"{len(values)} of {shape}, {8 * width} bits a value"),
        ("out", f"{after:,} bytes", f"{len(values)} of {each}, {8 * first.itemsize} bits a {unit}"),
    ]
    parts = ["out"]
    if scales:
        more = sum(array.nbytes for array in scales.values())
        rows.append(("scales", f"{more:,} bytes", "of each dimension, without which 8 bits mean nothing"))
        parts, after = [*parts, "scales"], after + more
    alone = ("codes alone", f"{before / after:.2f}", f"in / {_sum(parts)}, for whoever has the condition already")
    if beside:
        more = sum(array.nbytes for array in beside.values())
        rows.append(("condition", f"{more:,} bytes", "what the model was told (or guessed), which decoding needs"))
        parts, after = [*parts, "condition"], after + more
    rows.append(("file", f"{path.stat().st_size:,} bytes", "with its header"))
    rows.append(("ratio", f"{before / after:.2f}", f"in / {_sum(parts)}"))
    return [*rows, alone] if beside else rows


def _sum(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"


def quality_rows(run: Run, values: Tensor, restored: Tensor) -> list[tuple[str, str, str]]:
    """How near the restored values, (B, *target_shape), are to those that were kept."""
    from jensen.metrics.image_quality import has_scikit_image, psnr, ssim

    if symbols := symbols_of(run):
        return [("right", f"{right(values, restored, symbols):.2%}", "of the symbols are restored as they were")]
    if values.ndim == 4 or run.own_facts.levels is not None:
        what = "images" if values.ndim == 4 else "signals"
        rows = [("PSNR", f"{psnr(values, restored):.2f} dB", f"of the restored {what}")]
        if values.ndim == 4 and min(values.shape[2:]) >= 3 and has_scikit_image():
            first = slice(COMPARED)
            words = "structural similarity" + (f", of the first {COMPARED:,}" if len(values) > COMPARED else "")
            rows.append(("SSIM", f"{ssim(values[first], restored[first]):.3f}", words))
        return rows
    if run.own_facts.vocabulary:  # what is decoded is no document, but what to expect of one
        return []
    error = math.sqrt((values - restored).square().mean().item())
    return [("error", f"{error:.4f}", "root mean square, in standard deviations of the training data")]
