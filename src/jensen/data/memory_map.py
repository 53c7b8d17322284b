"""Arrays in files as a source of examples: rows are read when they are asked for, so that data may exceed memory."""

from __future__ import annotations

import hashlib
import math
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch import Tensor

from jensen.data.dataset import Source
from jensen.data.declared import read_header, reading_arrays, require_file, require_likely, require_values
from jensen.data.npz import cache_directory
from jensen.errors import DataError
from jensen.files import write_atomically

__all__ = ["IN_MEMORY", "Form", "Header", "MemoryMap", "as_source", "headers", "open_array", "pieces", "require_room"]

Array = npt.NDArray[Any]

IN_MEMORY = 512 * 2**20
"""bytes that a data set may take to be held in memory as a tensor; larger ones stay in their file"""
PIECE = 4_000_000
"""values looked at together"""


@dataclass(frozen=True)
class Header:
    """What an array in a file is."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """That its values take."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Form:
    """From rows as they are in a file to examples of `shape`."""

    shape: tuple[int, ...]
    dtype: type[np.uint8] | type[np.float32]
    channels_last: bool = False
    one: int | None = None
    """of two-valued uint8: the value that stands for 1, the other one being 0"""

    def __call__(self, rows: Array) -> Array:
        """(B, ...) to (B, *shape), of `dtype`, contiguous."""
        if self.channels_last:
            rows = rows.transpose(0, 3, 1, 2)
        rows = rows if self.one is None else rows == self.one
        return np.ascontiguousarray(rows, dtype=self.dtype).reshape(len(rows), *self.shape)

    @property
    def bytes(self) -> int:
        """Of one example."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class MemoryMap:
    """A source of the rows of several arrays one after the other, which are perhaps memory-mapped files.

    Rows of a batch are read in the order of the file. It does not move to a device: batches do.
    """

    def __init__(self, parts: Sequence[Array], form: Form) -> None:
        # np.asarray: slices of np.memmap itself cost some microseconds more
        self.parts, self.form = [np.asarray(part) for part in parts], form
        self.starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: Tensor, /) -> Tensor:
        places = index.cpu().numpy()
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(self):
            raise IndexError(f"rows {places.min()} .. {places.max()} of {len(self)}")
        order = np.argsort(places, kind="stable")
        rising = places[order]
        rows = np.empty((len(places), *self.form.shape), self.form.dtype)
        for part, start in zip(self.parts, self.starts[:-1], strict=True):
            first, last = np.searchsorted(rising, (start, start + len(part)))
            if first < last:
                rows[order[first:last]] = self.form(part[rising[first:last] - start])
        return torch.from_numpy(rows)


def as_source(parts: Sequence[Array], form: Form, *, in_memory: int | None = None) -> Source:
    """The examples as a tensor where they take at most `in_memory` bytes (None: `IN_MEMORY`), else a `MemoryMap`."""
    mapped = MemoryMap(parts, form)
    if len(mapped) * form.bytes > (IN_MEMORY if in_memory is None else in_memory):
        return mapped
    return torch.from_numpy(np.concatenate([form(np.asarray(part)) for part in parts]))


def pieces(array: Array, values: int = PIECE) -> Iterator[tuple[int, Array]]:
    """Rows from the first to the last, about so many `values` at a time, each piece after the number of its first."""
    at_once = max(1, values // max(1, math.prod(array.shape[1:])))
    plain = np.asarray(array)
    for first in range(0, len(plain), at_once):
        yield first, plain[first : first + at_once]


def headers(path: Path) -> dict[str, Header]:
    """Each array of a .npz file, or the one of a .npy file (under the key ""), without reading its values.

    Raises:
        DataError: it is damaged, or holds pickled objects.
    """
    require_file(path)
    found = {}
    with reading_arrays(_damaged(path), path):
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return {"": _header(file, str(path))[0]}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as member:
                        found[name.removesuffix(".npy")] = _header(member, f"{name.removesuffix('.npy')} of {path}")[0]
    return found


def open_array(path: Path, key: str, *, in_memory: int | None = None) -> Array:
    """An array of a file: read where it is small, memory-mapped where it takes more than `in_memory` bytes.

    An array that is compressed in its .npz file is unpacked for that into the cache, once.

    Raises:
        DataError: it is damaged, holds pickled objects, or there is no room to unpack it.
    """
    with reading_arrays(_damaged(path), path):
        if path.suffix.lower() == ".npy":
            mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
            return mapped
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{key}.npy")
            require_likely(path, info)
            if info.file_size <= (IN_MEMORY if in_memory is None else in_memory):
                require_values(path, archive, info)
                with archive.open(info) as member:
                    array: Array = np.lib.format.read_array(member, allow_pickle=False)
                    while member.read(2**16):  # to the end, where the checksum is
                        pass
                return array
        if info.compress_type == zipfile.ZIP_STORED:
            return _member(path, info)
        unpacked: Array = np.load(_unpacked(path, info), mmap_mode="r", allow_pickle=False)
        return unpacked


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise `DataError` unless the disk of `folder` (made if need be) has so many bytes left."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{what} takes {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; make room, or name "
            "another folder with JENSEN_CACHE"
        )


def _header(file: IO[bytes], where: str) -> tuple[Header, bool]:
    """Of an npy file at its beginning, and whether its first index varies fastest."""
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise DataError(f"{where} holds pickled objects, which are not read: save an array of numbers")
    return Header(shape, dtype), fortran


def _member(path: Path, info: zipfile.ZipInfo) -> Array:
    """An uncompressed array of a .npz file, memory-mapped where it lies in it."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        local = file.read(30)  # of fixed length, followed by name and extra field, which have theirs in it
        if local[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile(f"no member at {info.header_offset}")
        file.seek(int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little"), 1)
        header, fortran = _header(file, f"{info.filename} of {path}")
        offset = file.tell()
    order: Literal["C", "F"] = "F" if fortran else "C"
    mapped: Array = np.memmap(path, dtype=header.dtype, mode="r", offset=offset, shape=header.shape, order=order)
    return mapped


def _unpacked(path: Path, info: zipfile.ZipInfo) -> Path:
    """An array of a compressed .npz file as a .npy file in the cache."""
    told = path.stat()
    name = hashlib.sha256(f"{path.resolve()}|{info.filename}".encode()).hexdigest()[:16]
    state = hashlib.sha256(f"{told.st_size}|{told.st_mtime_ns}|{info.CRC}".encode()).hexdigest()[:16]
    folder = cache_directory() / "arrays"
    target = folder / f"{name}-{state}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        if not target.is_file():
            require_room(folder, info.file_size, f"unpacking {info.filename} of {path}")

            def write(temporary: Path) -> None:
                with zipfile.ZipFile(path) as archive, archive.open(info) as packed, temporary.open("wb") as file:
                    shutil.copyfileobj(packed, file, 2**20)

            write_atomically(target, write)
            for old in folder.glob(f"{name}-*.npy"):  # of the file as it was before
                if old != target:
                    old.unlink(missing_ok=True)
    return target


def _damaged(path: Path) -> str:
    return f"cannot read {path}, which is damaged or no file of plain arrays"
