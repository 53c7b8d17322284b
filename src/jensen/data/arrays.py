"""Arrays in a .npy or .npz file as a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.config import DataConfig, LikelihoodName
from jensen.data.dataset import Dataset
from jensen.data.folder import two_values
from jensen.data.given_splits import complete
from jensen.data.memory_map import Form, Header, as_source, headers, open_array, pieces
from jensen.data.npz import read_arrays
from jensen.errors import DataError

__all__ = ["Found", "find_arrays", "load_arrays"]

Array = npt.NDArray[Any]

VALUES = ("images", "values", "x", "data")
"""keys of examples that are all in one array, in any case"""
LABELS = ("labels", "label", "y")
SPLITS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
"""x_train and y_train, ..."""
SPARSE = ("indptr", "indices", "counts", "vocab")
COLOURS = (1, 3, 4)
"""channels that a last axis may be, as pictures are usually stored"""
PROPORTION = 4
"""a float in [0, 1] of two axes is a picture if neither is longer than so many times the other"""


class Found(NamedTuple):
    """Which arrays of a file are what."""

    values: dict[str, str]
    """key of the examples by split; all in "train" where the file has no splits"""
    labels: dict[str, str]
    """key of their classes by split; empty: there are none"""
    names: str | None
    """key of the names of classes"""
    others: tuple[str, ...]
    """keys of what is not looked at"""


def load_arrays(path: Path, config: DataConfig) -> Dataset:
    """Images, signals or a table from arrays, as their type and shape say, or `config.layout`.

    Images are uint8 or bool, (N, H, W) or four axes, or floats in [0, 1] of such shapes; signals are other arrays
    (N, channels, length), tables (N, columns). Images of 256 grey levels and signals of bytes have levels; what takes
    two values has two; all else is real numbers. With `x_test` the split is that of the file, otherwise random.
    Large arrays stay in their file (`MemoryMap`).

    Raises:
        ConfigError: a split would be empty.
        DataError: the file is damaged, its arrays do not fit each other, it is not clear which are meant, or values
            are NaN, infinite, or out of range.
    """
    told = headers(path)
    if set(SPARSE) <= set(told):
        from jensen.data.documents import load_documents

        return load_documents(path, config)
    found = find_arrays(path, told)
    parts = {split: _opened(path, key, told[key]) for split, key in found.values.items()}
    _require_alike(path, found, told)
    keys = {split: f"{key} of {path}" if key else str(path) for split, key in found.values.items()}
    low, high = _range(parts, keys)
    form, levels, suits, said = _understood(list(parts.values()), low, high, config, next(iter(keys.values())))
    labels, names, targets = _labels(path, found, {split: len(part) for split, part in parts.items()})
    if found.others:
        said += f"; not looked at: {', '.join(found.others)}"
    return Dataset(
        name=config.title,
        values=as_source(list(parts.values()), form),
        shape=form.shape,
        levels=levels,
        **complete({split: len(part) for split, part in parts.items()}, validation=config.validation, labels=labels),
        labels=labels,
        class_names=names,
        targets=targets,
        suits=suits,
        description=said,
    )


def find_arrays(path: Path, told: Mapping[str, Header]) -> Found:
    """Which array is what, by its key. Raises `DataError` where that is not clear."""
    if list(told) == [""]:
        return Found({"train": ""}, {}, None, ())
    by_name = {key.lower(): key for key in told}
    values = _by_split("x", by_name)
    labels = _by_split("y", by_name)
    if "train" not in values:
        plain = [key for key in told if key.lower() in VALUES]
        if not plain and len(told) == 1:
            plain = list(told)
        if len(plain) != 1:
            raise DataError(
                f"{path} holds {', '.join(plain or told) or 'nothing'}: which are the examples? Call them x, or "
                "x_train and x_test, and only one of them so"
            )
        values, labels = {"train": plain[0]}, {}
        classes = [key for key in told if key.lower() in LABELS]
        if len(classes) > 1:
            raise DataError(f"{path} holds {', '.join(classes)}: which are the classes? Call only one of them y")
        labels = dict.fromkeys(["train"][: len(classes)], classes[0] if classes else "")
    if labels and set(labels) != set(values):
        raise DataError(
            f"{path} has {', '.join(values.values())}, but of classes {', '.join(labels.values())}; give them for all "
            "splits, or for none"
        )
    names = by_name.get("class_names")
    used = {*values.values(), *labels.values(), names}
    return Found(values, labels, names, tuple(key for key in told if key not in used))


def _by_split(name: str, by_name: Mapping[str, str]) -> dict[str, str]:
    """Keys such as x_train of the splits that there are."""
    found = {}
    for split, words in SPLITS.items():
        for word in words:
            if f"{name}_{word}" in by_name:
                found[split] = by_name[f"{name}_{word}"]
    return found


def _opened(path: Path, key: str, header: Header) -> Array:
    where = f"{key} of {path}" if key else str(path)
    if header.dtype.kind not in "biuf":
        raise DataError(f"{where} holds {header.dtype}, not numbers")
    if len(header.shape) < 2 or 0 in header.shape:
        wanted = "(examples, columns), (examples, channels, length) or (examples, height, width)"
        raise DataError(f"{where} has shape {header.shape}; give it as {wanted}, none of them 0")
    return open_array(path, key)


def _require_alike(path: Path, found: Found, told: Mapping[str, Header]) -> None:
    first, *others = (told[key] for key in found.values.values())
    for split, other in zip(list(found.values)[1:], others, strict=True):
        if other.shape[1:] != first.shape[1:] or other.dtype != first.dtype:
            raise DataError(
                f"{path}: {found.values['train']} has examples of {first.shape[1:]} {first.dtype}, but "
                f"{found.values[split]} of {other.shape[1:]} {other.dtype}; they should be alike"
            )


def _range(parts: Mapping[str, Array], keys: Mapping[str, str]) -> tuple[float, float]:
    """The lowest and highest value; (0, 0) of integers and booleans, for which nothing depends on it.

    Raises `DataError` where values are NaN or infinite, also as float32.
    """
    low, high = np.inf, -np.inf
    for split, part in parts.items():
        if part.dtype.kind != "f":
            return 0.0, 0.0
        bad = 0
        first: tuple[int, ...] = ()
        for start, rows in pieces(part):
            with np.errstate(over="ignore"):
                values = rows.astype(np.float32, copy=False)
            # NaN and infinity survive in the extremes, so that what is good is gone through once
            least, most = float(values.min()), float(values.max())
            if np.isfinite(least) and np.isfinite(most):
                low, high = min(low, least), max(high, most)
                continue
            wrong = ~np.isfinite(values)
            if not bad:
                place = np.argwhere(wrong)[0]
                first = (start + int(place[0]), *map(int, place[1:]))
            bad += int(wrong.sum())
        if bad:
            gaps = "; a table with gaps may be a .csv file" if part.ndim == 2 else ""
            raise DataError(
                f"{keys[split]} has {bad:,} values that are NaN or infinite, the first at index {first}; remove or "
                f"replace them{gaps}"
            )
    return low, high


def _understood(
    parts: Sequence[Array], low: float, high: float, config: DataConfig, where: str
) -> tuple[Form, int | None, LikelihoodName | None, str]:
    """How rows become examples, their levels, the likelihood that suits them, and all of it in words."""
    dtype, shape = parts[0].dtype, parts[0].shape[1:]
    unit = dtype.kind == "f" and low >= 0 and high <= 1
    layout = _layout(shape, dtype, unit, config.layout, where)
    if layout == "image" and dtype.kind == "f" and not unit:
        grey = "they look like grey levels, so save them as uint8" if low >= 0 and high <= 255 else "scale them"
        raise DataError(
            f"{where} has values from {low:g} to {high:g}, but images should be uint8 or in [0, 1]: {grey}, or say "
            "--layout signal"
        )
    if layout == "image" and dtype.kind in "iu" and dtype != np.uint8:
        raise DataError(f"{where} holds {dtype}, but images should be uint8, bool, or floats in [0, 1]; convert them")
    last = layout == "image" and len(shape) == 3 and shape[-1] in COLOURS and shape[0] not in COLOURS
    if layout == "image" and len(shape) == 2:
        shape = (1, *shape)
    example = (shape[2], *shape[:2]) if last else shape
    order = f", channels {'last' if last else 'first'}" if len(parts[0].shape) == 4 else ""
    levels, one = None, None
    if dtype == np.bool_:
        levels = 2
    elif dtype == np.uint8 and layout != "table":
        one = two_values(parts)
        levels = 256 if one is None else 2
    form = Form(example, np.float32 if levels is None else np.uint8, channels_last=last, one=one)
    kind = {"image": "images", "signal": "signals", "table": "rows"}[layout]
    said = f"{sum(map(len, parts)):,} {kind}, from {dtype} {parts[0].shape[1:]}{order}"
    return form, levels, "discretised-logistic" if levels == 256 else None, said


def _layout(shape: tuple[int, ...], dtype: np.dtype[Any], unit: bool, asked: str, where: str) -> str:
    """image, signal or table: as asked, if the shape allows it, else as the rules say. Raises `DataError`."""
    possible = {1: ("table",), 2: ("image", "signal"), 3: ("image",)}.get(len(shape))
    if possible is None:
        raise DataError(f"{where} has {len(shape) + 1} axes; tables have 2, signals 3, images 3 or 4")
    if asked != "auto":
        if asked not in possible:
            raise DataError(f"{where} has examples of shape {shape}, which are no {asked} (--layout): {possible[0]}")
        return asked
    if len(possible) == 1:
        return possible[0]
    picture = unit and max(shape) <= PROPORTION * min(shape)
    return "image" if picture or dtype in (np.uint8, np.bool_) else "signal"


def _labels(
    path: Path, found: Found, sizes: Mapping[str, int]
) -> tuple[Tensor | None, tuple[str, ...], dict[str, Tensor]]:
    """Classes (N,) and their names; or, of numbers that are no classes, a property to predict (N, 1)."""
    if not found.labels:
        return None, (), {}
    keys = [found.labels[split] for split in sizes]
    stored = read_arrays(path, [*keys, *([found.names] if found.names else [])])
    for split, key in zip(sizes, keys, strict=True):
        if stored[key].shape not in ((sizes[split],), (sizes[split], 1)):
            raise DataError(
                f"{path}: {key} has shape {stored[key].shape}, but should have one class for each of the "
                f"{sizes[split]:,} examples of {found.values[split]} (of one-hot rows their argmax)"
            )
    every = np.concatenate([stored[key].reshape(-1) for key in keys])
    if every.dtype.kind not in "biufUS":
        raise DataError(f"{path}: {keys[0]} holds {every.dtype}; classes should be whole numbers or words")
    if every.dtype.kind == "f":
        if not np.isfinite(every).all():
            raise DataError(f"{path}: {keys[0]} has NaN or infinite values; remove those examples")
        if (every != np.round(every)).any():
            return None, (), {"y": torch.from_numpy(every.astype(np.float32))[:, None]}
        every = every.astype(np.int64)
    if found.names is not None and every.dtype.kind in "biu":
        names = tuple(map(str, stored[found.names].reshape(-1).tolist()))
        if int(every.min()) < 0 or int(every.max()) >= len(names):
            raise DataError(
                f"{path}: {keys[0]} has classes {every.min()} .. {every.max()}, but {found.names} has {len(names)}"
            )
        return torch.from_numpy(every.astype(np.int64)), names, {}
    values, places = np.unique(every, return_inverse=True)
    words = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.tolist())
    return torch.from_numpy(places.astype(np.int64).reshape(-1)), tuple(words), {}
