"""Binary images kept as packed bits, in memory or in a memory-mapped file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.errors import DataError

__all__ = ["PackedImages", "pack", "unpack"]

Bytes = npt.NDArray[np.uint8]


def pack(images: npt.NDArray[np.generic]) -> Bytes:
    """Images of 0 and not 0, (B, ...), as bits, (B, ceil(values / 8)): value i is bit i mod 8 of byte i // 8."""
    return np.packbits(images.reshape(len(images), -1) != 0, axis=1, bitorder="little")


def unpack(bits: Bytes, shape: tuple[int, ...]) -> Tensor:
    """The images of `pack`, (B, *shape) uint8 of 0 and 1."""
    images = np.unpackbits(bits, axis=1, count=math.prod(shape), bitorder="little")
    return torch.from_numpy(images).view(len(bits), *shape)


class PackedImages:
    """A source of binary images: `bits` (N, ceil(values / 8)) uint8 made by `pack`, perhaps memory-mapped."""

    def __init__(self, bits: Bytes, shape: tuple[int, ...]) -> None:
        self.bits, self.shape = bits, shape

    @classmethod
    def open(cls, path: Path, size: int, shape: tuple[int, ...]) -> PackedImages:
        """Map an npy file of `size` packed images; raises `DataError` if it is not that."""
        width = -(-math.prod(shape) // 8)
        try:
            bits = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"cannot read {path}: {error}; delete it, it will be made again") from None
        if not isinstance(bits, np.ndarray) or bits.shape != (size, width) or bits.dtype != np.uint8:
            raise DataError(f"{path} should hold ({size}, {width}) uint8; delete it, it will be made again")
        return cls(bits, shape)

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        return unpack(self.bits[index.cpu().numpy()], self.shape)
