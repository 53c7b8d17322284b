"""Data sets by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from jensen.config import DataConfig
from jensen.data import embedded
from jensen.data.dataset import Dataset
from jensen.data.info import DatasetInfo
from jensen.data.prepared import Data, prepare
from jensen.errors import ConfigError

__all__ = ["list_datasets", "load_data"]

Loader = Callable[[DataConfig], Dataset]

DATASETS: dict[str, tuple[DatasetInfo, Loader]] = {
    info.name: (info, load)
    for info, load in (
        (embedded.DIGITS, embedded.load_digits),
        (embedded.IRIS, embedded.load_iris),
    )
}


def list_datasets() -> tuple[DatasetInfo, ...]:
    """What `load_data` knows, without loading anything."""
    return tuple(info for info, _ in DATASETS.values())


def load_data(
    data: str | DataConfig = "digits", *, splits: Mapping[str, Tensor] | None = None, **overrides: Any
) -> Data:
    """The named data set, ready for training; `overrides` are fields of `DataConfig`.

    `splits`: positions saved from `Data.splits`, to see the very same examples again.

    >>> load_data("digits", transform="none").shape
    (1, 8, 8)

    Raises `ConfigError` for an unknown name or settings that do not fit the data, `DataError` for data that cannot
    be found or read.
    """
    settings = {"name": data} if isinstance(data, str) else data.model_dump()
    config = DataConfig(**(settings | overrides))
    _, load = DATASETS[known(config.name)]
    return prepare(load(config), config, splits=splits)


def known(name: str) -> str:
    """`name` if it is a data set; else raises `ConfigError` with the choices and the likeliest one."""
    if name in DATASETS:
        return name
    close = difflib.get_close_matches(name, DATASETS, n=1)
    guess = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"data.name: no data set {name!r}{guess} (choices: {', '.join(DATASETS)})")
