"""How many nats a general compressor needs for an image: a measure of its complexity that knows no data set."""

from __future__ import annotations

import math
import zlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["MOST_LEVELS", "code_length"]

MOST_LEVELS = 256
"""values of a byte"""
EFFORT = 9
"""of zlib, the most"""

Bytes = npt.NDArray[np.uint8]


def code_length(values: Tensor, levels: int) -> Tensor:
    """Length in nats of a lossless code of each image or signal, (N,) float64: 8 ln 2 a byte.

    The code is that of PNG without the frame of its file: rows of bytes (channels interleaved; bits packed where there
    are two levels), one of the five filters of the PNG specification, then zlib. The filter is one for the whole image,
    the one with the shortest result, so that the code is what some PNG file holds. Like every prefix code it is the
    negative logarithm of a distribution over all images, one that is trained on none (Serrà et al. 2020, "Input
    complexity and out-of-distribution detection with likelihood-based generative models").

    Args:
        values: levels 0 .. levels - 1 as integers, (N, channels, height, width) or (N, channels, length).
        levels: 2 to 256.

    Raises:
        ValueError: values of another shape, type or range.
    """
    if values.ndim not in (3, 4) or values.is_floating_point() or not 2 <= levels <= MOST_LEVELS:
        raise ValueError(
            f"code_length takes integers (N, channels, height, width) or (N, channels, length) of 2 to {MOST_LEVELS} "
            f"levels, got {tuple(values.shape)} {values.dtype} of {levels} levels"
        )
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < levels:
        raise ValueError(f"levels should be in 0 .. {levels - 1}, got {int(values.min())} .. {int(values.max())}")
    images = values.cpu().numpy().astype(np.uint8)
    images = images[:, :, None] if values.ndim == 3 else images
    return torch.tensor([_bytes(image, levels) * 8 * math.log(2) for image in images], dtype=torch.float64)


def _bytes(image: Bytes, levels: int) -> int:
    """Of the shortest code of one image (channels, height, width)."""
    rows, step = _rows(image, levels)
    return min(len(zlib.compress(filtered.tobytes(), EFFORT)) for filtered in _filtered(rows, step))


def _rows(image: Bytes, levels: int) -> tuple[Bytes, int]:
    """The image as rows of bytes, (height, bytes), and how many bytes one pixel is from the next."""
    channels, height, width = image.shape
    rows = np.ascontiguousarray(image.transpose(1, 2, 0)).reshape(height, width * channels)
    return (np.packbits(rows, axis=1), 1) if levels == 2 else (rows, channels)


def _filtered(rows: Bytes, step: int) -> list[Bytes]:
    """The rows under each filter of PNG: the filter's number before each row, then differences modulo 256."""
    now = rows.astype(np.int16)
    left, up, corner = np.zeros_like(now), np.zeros_like(now), np.zeros_like(now)
    left[:, step:], up[1:], corner[1:, step:] = now[:, :-step], now[:-1], now[:-1, :-step]
    guess = left + up - corner
    a, b, c = np.abs(guess - left), np.abs(guess - up), np.abs(guess - corner)
    paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))
    predicted = (np.zeros_like(now), left, up, (left + up) // 2, paeth)
    return [np.insert((now - by).astype(np.uint8), 0, kind, axis=1) for kind, by in enumerate(predicted)]
