"""Codes of real numbers in few bits: equal steps in each dimension, and how many bytes they take on disk."""

from __future__ import annotations

import lzma
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Quantised", "packed", "quantise", "smallest"]

MOST_BITS = 16
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9}]


@dataclass(frozen=True)
class Quantised:
    """Codes on equal steps between the least and the largest of each dimension."""

    levels: Tensor
    """(N, *dims) int64 in 0 .. 2^bits - 1"""
    low: Tensor
    """what level 0 stands for, (*dims,) float32"""
    step: Tensor
    """between two levels, (*dims,) float32; 0 where a dimension has one value"""
    bits: int

    @property
    def scale_bytes(self) -> int:
        """Bytes of `low` and `step`, without which levels mean nothing."""
        return self.low.nbytes + self.step.nbytes

    def restored(self) -> Tensor:
        """The codes again, (N, *dims) float32: at most half a step from what they were."""
        return (self.low.double() + self.levels * self.step.double()).float()


def quantise(codes: Tensor, bits: int) -> Quantised:
    """Codes (N, *dims) in so many bits a number.

    The range of each dimension is that of these very codes, so that nothing is clipped.

    Raises:
        ValueError: bits not from 1 to 16, no codes, or some that are not finite.
    """
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits should be from 1 to {MOST_BITS}, got {bits}")
    if codes.ndim < 2 or len(codes) == 0 or not bool(torch.isfinite(codes).all()):
        raise ValueError(f"need finite codes (N, *dims), got shape {tuple(codes.shape)}")
    most = 2**bits - 1
    low = codes.amin(0).float()
    step = ((codes.double().amax(0) - low.double()) / most).float()
    unit = torch.where(step > 0, step, torch.ones_like(step)).double()
    levels = ((codes.double() - low.double()) / unit).round().long().clamp_(0, most)
    return Quantised(levels, low, step, bits)


def packed(levels: Tensor, bits: int) -> bytes:
    """Integers in 0 .. 2^bits - 1 one after the other, `bits` bits each, the highest first, the last byte filled up."""
    numbers = levels.flatten().numpy().astype(np.uint16)
    places = np.arange(bits - 1, -1, -1, dtype=np.uint16)
    return np.packbits((numbers[:, None] >> places) & 1).tobytes()


def smallest(levels: Tensor, bits: int) -> tuple[int, str]:
    """Bytes of integers (N, *dims) in 0 .. 2^bits - 1 by the best of a few ways, and its name.

    packed: `bits` bits each. zlib, lzma: these compressors on one or two bytes each, dimension by dimension, as
    neighbours are then of one distribution; bare streams, without a container.
    """
    kind: type[np.unsignedinteger] = np.uint8 if bits <= 8 else np.uint16
    rows: npt.NDArray[np.unsignedinteger] = levels.flatten(1).mT.contiguous().numpy().astype(kind)
    raw = rows.tobytes()
    sizes = {
        "packed": -(-levels.numel() * bits // 8),
        "zlib": len(zlib.compress(raw, 9)),
        "lzma": len(lzma.compress(raw, lzma.FORMAT_RAW, filters=XZ)),
    }
    name = min(sizes, key=lambda way: sizes[way])
    return sizes[name], name
