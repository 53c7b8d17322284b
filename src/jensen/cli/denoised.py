"""How well a run denoises, beside classical filters on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jensen.cli.inputs import IMAGES
from jensen.cli.screen import hint, progress, say, table
from jensen.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.data import Batch, Split
    from jensen.metrics.denoising import Denoised, Filter

__all__ = ["image_files", "print_comparison"]

TUNED = 50
"""validation images that settings of filters are chosen on, at most"""
TUNED_VALUES = 100_000
"""values of these, at most, where images are large: seconds, not minutes"""
FEWEST = 8


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files, and for each folder among them the images directly in it, by name.

    Raises:
        DataError: a folder without images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        shown = [each for each in path.iterdir() if not each.name.startswith(".")]
        inside = sorted(each for each in shown if each.suffix.lower() in IMAGES)
        if not inside:
            deeper = "; its sub-folders are not looked into: give them" if any(each.is_dir() for each in shown) else ""
            raise DataError(f"{path} is a folder without images ({', '.join(IMAGES)}){deeper}")
        found.extend(inside)
    return found


def print_comparison(batch: Batch, made: Tensor, valid: Split, model: str) -> None:
    """PSNR and SSIM on a batch of test images: corrupted, filtered, and as a model made them."""
    from jensen.metrics.denoising import compare_denoised
    from jensen.metrics.image_quality import has_scikit_image

    filters, count = _filters(valid)
    ways = {"corrupted": ("as the model sees them", batch.x)}
    ways |= {way.name: (way.settings, way.apply(batch.x)) for way in filters}
    rows = compare_denoised(batch.target, {**ways, model: ("", made)})
    table([_row(row) for row in rows], ["", "PSNR, dB", "SSIM", "settings"])
    say(f"settings of filters are those of the best PSNR on {count} validation images, corrupted alike")
    if not has_scikit_image():
        hint("SSIM and non-local means need scikit-image: pip install 'jensen[compare]'")


def _filters(valid: Split) -> tuple[list[Filter], int]:
    """Filters at their best on validation images, and on how many."""
    import torch

    from jensen.metrics.denoising import tuned_filters

    fits = max(FEWEST, min(TUNED, TUNED_VALUES // math.prod(valid.shape)))
    batch = valid.batch(torch.arange(min(fits, len(valid))))
    known = {"gaussian": {"sigma": valid.strength}, "blur": {"blurred": valid.strength}}.get(valid.corruption, {})
    with progress(f"filters: settings, on {len(batch.x)} validation images"):
        return tuned_filters(batch.target, batch.x, **known), len(batch.x)


def _row(way: Denoised) -> tuple[str, str, str, str]:
    return way.method, f"{way.psnr:.2f}", "" if way.ssim is None else f"{way.ssim:.3f}", way.settings
