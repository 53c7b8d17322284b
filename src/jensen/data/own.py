"""Data of your own: which file or folder is meant, who reads it, and whether it is still the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.declared import require_file
from jensen.errors import ConfigError, DataError

__all__ = ["fingerprint", "is_own", "load_own", "own_path", "refuse_keys"]

ARRAYS = (".npz", ".npy")
TABLES = (".csv", ".tsv", ".parquet")
KEYS = {
    "layout": "arrays",
    **dict.fromkeys(("size", "fit", "colour", "skip_bad"), "a folder of images"),
    **dict.fromkeys(("class_column", "categorical", "counts", "ignore", "missing"), "a table"),
}
"""Keys of `DataConfig` that are about one kind of own data."""
PIECE = 2**20
PIECES = 64


def is_own(name: str) -> bool:
    """Whether `DataConfig.name` is a path: it has a slash, or the suffix of a file that can be read, or it is there.

    The name of a data set goes before a file or folder called alike, which ``./NAME`` means.
    """
    if "/" in name or "\\" in name or Path(name).suffix.lower() in ARRAYS + TABLES:
        return True
    from jensen.data.registry import DATASETS  # which reads own data by this module

    return name not in DATASETS and Path(name).exists()


def own_path(config: DataConfig) -> Path:
    """Where the data are: at their path, or, if they have moved, under their own name in `directory`.

    Raises:
        DataError: nothing is there.
    """
    path = Path(config.name).expanduser()
    if config.directory is not None:
        moved = config.directory.expanduser() / path.name
        path = moved if moved.exists() else path
    if not path.exists():
        where = "" if config.directory is None else f", nor {path.name} in {config.directory}"
        raise DataError(
            f"{path} does not exist{where}; give a folder of images, or a file {', '.join(ARRAYS + TABLES)}"
        )
    require_file(path)
    return path


def load_own(config: DataConfig) -> Dataset:
    """A folder of images, arrays, or a table, as a data set.

    Raises:
        ConfigError: a key that is about another kind of data is set, or has an impossible value.
        DataError: it cannot be found, read or used.
    """
    path = own_path(config)
    suffix = path.suffix.lower()
    if path.is_dir():
        from jensen.data.folder import load_folder

        refuse_keys(config, "a folder of images")
        return load_folder(path, config)
    if suffix in TABLES:
        from jensen.data.table import load_table

        refuse_keys(config, "a table")
        return load_table(path, config)
    if suffix in ARRAYS:
        from jensen.data.arrays import load_arrays

        refuse_keys(config, "arrays")
        return load_arrays(path, config)
    raise DataError(f"{path}: cannot read this kind of file; give {', '.join(ARRAYS + TABLES)}, or a folder of images")


def refuse_keys(config: DataConfig, kind: str | None = None) -> None:
    """Raise `ConfigError` if a key is set that is about own data of another kind; None: about any own data."""
    for key, own in KEYS.items():
        if own != kind and getattr(config, key) != DataConfig.model_fields[key].default:
            what = "is a data set by name" if kind is None else f"is {kind}"
            raise ConfigError(f"data.{key} is for {own} of your own, but {config.name} {what}; leave it out")


def fingerprint(config: DataConfig) -> str:
    """A line that changes when own data do: number or size of files, and a hash.

    Of a folder the paths and sizes of its images are hashed; of a file its content, of a large one 64 pieces. Times of
    change do not count, so that a copy is the same.

    Raises:
        DataError: nothing is there.
    """
    path = own_path(config)
    hashed = hashlib.sha256()
    if path.is_dir():
        from jensen.data.picture import find_images

        found, _ = find_images(path)
        for name, told in found:
            hashed.update(f"{name}\0{told.st_size}\0".encode("utf-8", "surrogatepass"))
        return f"{len(found):,} images, {hashed.hexdigest()[:16]}"
    size = path.stat().st_size
    steps = (
        range(0, size, PIECE) if size <= PIECES * PIECE else range(0, size - PIECE + 1, (size - PIECE) // (PIECES - 1))
    )
    with path.open("rb") as file:
        for start in steps:
            file.seek(start)
            hashed.update(file.read(PIECE))
    return f"{size:,} bytes, {hashed.hexdigest()[:16]}"
