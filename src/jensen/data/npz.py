"""Data sets in npz files: where they are looked for, and reading them strictly."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jensen.data.declared import reading_arrays, require_sizes
from jensen.errors import DataError

__all__ = ["cache_directory", "check_images", "check_labels", "find", "read_arrays"]

Array = npt.NDArray[Any]


def cache_directory() -> Path:
    """Where downloads and things made once are kept: JENSEN_CACHE, or the user's cache directory."""
    chosen = os.environ.get("JENSEN_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("jensen"))


def find(names: Sequence[str], directory: Path | None) -> Path | None:
    """The first file of these names in `directory`, else in the folder named by JENSEN_DATA; None if there is none.

    Raises `DataError` if either folder is named but does not exist.
    """
    environment = os.environ.get("JENSEN_DATA")
    folders = [("data.directory", directory), ("JENSEN_DATA", Path(environment) if environment else None)]
    for origin, folder in folders:
        if folder is None:
            continue
        folder = folder.expanduser()
        if not folder.is_dir():
            raise DataError(f"{origin} is {folder}, which is no folder; correct it or leave it out")
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def read_arrays(path: Path, keys: Sequence[str]) -> dict[str, Array]:
    """The arrays of these keys in an npz file; pickled objects are refused.

    Raises `DataError` that names file and key if the file is damaged or a key is missing.
    """
    with reading_arrays(_damaged(str(path)), path):
        require_sizes(path)
        archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} is no npz file, but a single array")
    arrays = {}
    with archive:
        for key in keys:
            if key not in archive.files:
                raise DataError(f"{path} has no key {key}; it has {', '.join(archive.files) or 'none'}")
            with reading_arrays(_damaged(f"key {key} of {path}"), path):
                arrays[key] = np.asarray(archive[key])
    return arrays


def _damaged(where: str) -> str:
    return f"cannot read {where}, which is damaged or no npz file of plain arrays"


def check_images(path: Path, key: str, images: Array, shape: tuple[int, ...]) -> None:
    """Raise `DataError` unless `images` is (N, *shape) uint8 with N > 0."""
    if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
        expected = ", ".join(str(n) for n in ("N", *shape))
        raise DataError(f"{path}: {key} should be ({expected}) uint8, not {images.shape} {images.dtype}")


def check_labels(path: Path, key: str, labels: Array, count: int, classes: int) -> None:
    """Raise `DataError` unless `labels` is (count,) integer in 0 .. classes - 1."""
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{path}: {key} should be (N,) integer, not {labels.shape} {labels.dtype}")
    if len(labels) != count:
        raise DataError(f"{path}: {key} has {len(labels)} labels for {count} images")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(f"{path}: {key} has labels {labels.min()} .. {labels.max()}, but there are {classes} classes")
