"""What a file of arrays says that it holds, held against the file and the memory before any of it is unpacked."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from jensen.errors import DataError, JensenError

__all__ = [
    "memory",
    "read_header",
    "reading_arrays",
    "require_file",
    "require_likely",
    "require_sizes",
    "require_values",
]

LARGE = 2**30
"""bytes below which nobody minds what a member unpacks to"""
RATIO = 500
"""unpacked to packed bytes of a large member: deflate can 1,032, what is not made for it stays far below"""


def memory() -> int:
    """Bytes of the machine's memory; a tebibyte where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**40


def require_file(path: Path) -> None:
    """Raise `DataError` if something other than a file or folder is there: reading a pipe may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"{path} is a pipe or a device, not a file; copy what it gives into a file")


def require_likely(path: Path, info: zipfile.ZipInfo) -> None:
    """Raise `DataError` if a member of an archive unpacks to so many times its size that it was made to fill memory."""
    if info.file_size > LARGE and info.file_size > RATIO * info.compress_size:
        raise DataError(
            f"{path}: {info.filename} in it unpacks from {info.compress_size / 1e6:.1f} MB to "
            f"{info.file_size / 1e9:.1f} GB, as if made to fill memory or disk; if you trust it, save it uncompressed"
        )


def require_sizes(path: Path) -> None:
    """Raise `DataError` if the arrays of a .npy or .npz file cannot be what they say, or are more than memory holds.

    Reads headers alone. What is no such file at all passes: reading it tells.

    Raises:
        Exception: nearly any, of a damaged file; see `reading_arrays`.
    """
    require_file(path)
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                file.seek(0)
                _require_values(file, path.stat().st_size, str(path))
        return
    with zipfile.ZipFile(path) as archive:
        arrays = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        for info in arrays:
            require_likely(path, info)
        if (declared := sum(info.file_size for info in arrays)) > memory():
            raise DataError(_too_much(str(path), declared))
        for info in arrays:
            require_values(path, archive, info)


def require_values(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Raise `DataError` if an array of an archive says that it holds more than its member does.

    Raises:
        Exception: nearly any, of a damaged file; see `reading_arrays`.
    """
    with archive.open(info) as member:
        begin = member.read(6)
    if begin == np.lib.format.MAGIC_PREFIX:
        with archive.open(info) as member:
            _require_values(member, info.file_size, f"{info.filename} in {path}")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether the first index varies fastest, and type of the npy array at the beginning of `file`."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if any(length < 0 for length in shape):
        raise ValueError(f"no array has shape {shape}")
    return tuple(shape), bool(fortran), dtype


def _require_values(file: IO[bytes], size: int, where: str) -> None:
    shape, _, dtype = read_header(file)
    declared = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        return  # reading it refuses
    if declared > size - file.tell():
        raise DataError(f"{where} says that it holds {declared:,} bytes, but there are {size - file.tell():,} of them")
    if declared > memory():
        raise DataError(_too_much(where, declared))


def _too_much(where: str, declared: int) -> str:
    return f"{where} takes {declared / 1e9:.1f} GB, but this machine has {memory() / 1e9:.1f} GB of memory; take fewer"


@contextmanager
def reading_arrays(damaged: str, path: Path) -> Iterator[None]:
    """Turns what NumPy and zipfile raise of a file that they cannot read, nearly anything, into a `DataError`.

    Args:
        damaged: what is said then; the first line of the error comes after it.
        path: of the file, for what does not fit into memory.
    """
    try:
        yield
    except JensenError:
        raise
    except MemoryError:
        raise DataError(f"{path}: there is not enough memory for what it holds; take less at once") from None
    except Exception as error:
        raise DataError(f"{damaged}: {' '.join(str(error).split()) or type(error).__name__}"[:600]) from None
