"""Data of your own: which file or folder is meant, and who reads it."""

from __future__ import annotations

from pathlib import Path

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.errors import DataError

__all__ = ["is_own", "load_own", "own_path"]

ARRAYS = (".npz", ".npy")
TABLES = (".csv", ".tsv", ".parquet")


def is_own(name: str) -> bool:
    """Whether `DataConfig.name` is a path: it has a slash, or the suffix of a file that can be read."""
    return "/" in name or "\\" in name or Path(name).suffix.lower() in ARRAYS + TABLES


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
    return path


def load_own(config: DataConfig) -> Dataset:
    """A folder of images, arrays, or a table, as a data set.

    Raises:
        DataError: it cannot be found, read or used.
    """
    path = own_path(config)
    suffix = path.suffix.lower()
    if path.is_dir():
        from jensen.data.folder import load_folder

        return load_folder(path, config)
    if suffix in TABLES:
        from jensen.data.table import load_table

        return load_table(path, config)
    if suffix in ARRAYS:
        from jensen.data.arrays import load_arrays

        return load_arrays(path, config)
    raise DataError(f"{path}: cannot read this kind of file; give {', '.join(ARRAYS + TABLES)}, or a folder of images")
