"""Packing is lossless and a packed file is checked when it is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jensen.data.packed import PackedImages, pack, unpack
from jensen.errors import DataError


def images(shape: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).integers(0, 2, (9, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 3, 3), (7,)])
def test_round_trip(shape: tuple[int, ...]) -> None:
    original = images(shape)
    bits = pack(original)
    assert bits.shape == (9, -(-original[0].size // 8))
    assert torch.equal(unpack(bits, shape), torch.from_numpy(original))


def test_bit_order() -> None:
    assert pack(np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1]])).tolist() == [[2, 1]]


def test_open(tmp_path: Path) -> None:
    original = images((1, 4, 4))
    path = tmp_path / "packed.npy"
    np.save(path, pack(original))
    source = PackedImages.open(path, 9, (1, 4, 4))
    assert len(source) == 9
    index = torch.tensor([8, 0, 0, 3])
    assert torch.equal(source[index], torch.from_numpy(original[index.numpy()]))


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "packed.npy"
    np.save(path, pack(images((1, 4, 4))))
    with pytest.raises(DataError, match=r"packed.npy should hold \(10, 2\) uint8; delete it"):
        PackedImages.open(path, 10, (1, 4, 4))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"cannot read .*packed.npy.*delete it"):
        PackedImages.open(path, 9, (1, 4, 4))
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot read"):
        PackedImages.open(path, 9, (1, 4, 4))
