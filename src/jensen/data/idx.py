"""The IDX format of MNIST and its like."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jensen.errors import DataError

__all__ = ["read_idx"]

UINT8 = 0x08


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The uint8 array of `dimensions` dimensions in a gzipped IDX file.

    The file is two zero bytes, the type (8: uint8), the number of dimensions, each length as four big-endian bytes,
    and the values in row-major order. Raises `DataError` naming the file for anything else, too short and too long
    included.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}; delete it and try again") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, UINT8, dimensions)):
        raise DataError(
            f"{path} is no IDX file of uint8 in {dimensions} dimensions (it begins with {content[:4].hex()}); "
            "delete it and try again"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} should hold {math.prod(shape)} values of shape {shape}, but holds {len(content) - header}; "
            "delete it and try again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
