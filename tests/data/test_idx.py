"""The IDX format, strictly."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from jensen.data.idx import read_idx
from jensen.errors import DataError

HEADER = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def test_reads_by_hand(tmp_path: Path) -> None:
    array = read_idx(write(tmp_path / "a.gz", HEADER + bytes(range(6))), 2)
    assert array.dtype == np.uint8
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + bytes(5), r"a.gz should hold 6 values of shape \(2, 3\), but holds 5"),
        (HEADER + bytes(7), "but holds 7"),
        (bytes([0, 0, 9]) + HEADER[3:] + bytes(6), "is no IDX file of uint8 in 2 dimensions .*00000902"),
        (bytes([0, 0, 8, 3]) + HEADER[4:] + bytes(10), "2 dimensions"),
        (bytes([1, 0, 8, 2]) + HEADER[4:] + bytes(6), "no IDX file"),
        (HEADER[:7], "no IDX file"),
        (b"", "no IDX file"),
    ],
)
def test_wrong_content(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_idx(write(tmp_path / "a.gz", content), 2)


def test_wrong_compression(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gz", HEADER + np.random.default_rng(0).bytes(6))
    whole = path.read_bytes()
    for damaged in (whole[:-9], b"plain text", whole[:14] + bytes([whole[14] ^ 255]) + whole[15:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a.gz.*delete it and try again"):
            read_idx(path, 2)
    with pytest.raises(DataError, match="nowhere"):
        read_idx(tmp_path / "nowhere", 2)
