"""Data sets by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from jensen.config import DataConfig
from jensen.data import cifar, circles, dsprites, embedded, manual, mnist, omniglot
from jensen.data.dataset import Dataset
from jensen.data.info import DatasetInfo
from jensen.data.own import is_own, load_own, refuse_keys
from jensen.data.prepared import Data, prepare
from jensen.errors import ConfigError

__all__ = ["fetch", "list_datasets", "load_data"]


class Entry(NamedTuple):
    """How to get a data set."""

    info: DatasetInfo
    load: Callable[[DataConfig], Dataset]
    fetch: Callable[[], list[Path]] | None = None


DATASETS: dict[str, Entry] = {
    entry.info.name: entry
    for entry in (
        Entry(embedded.DIGITS, embedded.load_digits),
        Entry(embedded.IRIS, embedded.load_iris),
        Entry(circles.CIRCLES, circles.load_circles),
        Entry(dsprites.DSPRITES, dsprites.load_dsprites, dsprites.fetch_dsprites),
        Entry(mnist.MNIST, mnist.load_mnist, mnist.fetch_mnist),
        Entry(mnist.FASHION, mnist.load_fashion, mnist.fetch_fashion),
        Entry(omniglot.OMNIGLOT, omniglot.load_omniglot, omniglot.fetch_omniglot),
        Entry(cifar.CIFAR, cifar.load_cifar, cifar.fetch_cifar),
        Entry(cifar.SUBSET, cifar.load_subset, cifar.fetch_subset),
        Entry(manual.TEXT, manual.load_text),
    )
}


def list_datasets() -> tuple[DatasetInfo, ...]:
    """What `load_data` knows, without loading anything."""
    return tuple(entry.info for entry in DATASETS.values())


def load_data(
    data: str | DataConfig = "digits", *, splits: Mapping[str, Tensor] | None = None, **overrides: Any
) -> Data:
    """The named data set, or that of a path, ready for training; `overrides` are fields of `DataConfig`.

    `splits`: positions saved from `Data.splits`, to see the very same examples again.

    >>> load_data("digits", transform="none").shape
    (1, 8, 8)

    Raises `ConfigError` for an unknown name or settings that do not fit the data, `DataError` for data that cannot
    be found or read.
    """
    settings = {"name": data} if isinstance(data, str) else data.model_dump()
    config = DataConfig(**(settings | overrides))
    if not is_own(config.name):
        refuse_keys(config)
    load = load_own if is_own(config.name) else _entry(config.name).load
    return prepare(load(config), config, splits=splits)


def fetch(name: str) -> list[Path]:
    """Download a data set into the cache (dsprites: draw it there), unless it is there; returns the files.

    An empty list means that this data set needs none. Raises `ConfigError` for an unknown name, `DataError` if the
    download fails or there is none and the file is not at hand.
    """
    get = _entry(name).fetch
    return [] if get is None else get()


def _entry(name: str) -> Entry:
    """The data set of this name; raises `ConfigError` with the choices and the likeliest one if there is none."""
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name, DATASETS, n=1)
    guess = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"data.name: no data set {name!r}{guess} (choices: {', '.join(DATASETS)})")
