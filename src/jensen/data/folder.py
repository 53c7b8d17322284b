"""A folder of images as a data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.given_splits import SPLIT_NAMES, complete
from jensen.data.image_cache import Asked, Decoded, decoded
from jensen.data.memory_map import Form, as_source, pieces
from jensen.data.picture import find_images, parse_size
from jensen.errors import DataError

__all__ = ["asked_of", "images_in", "load_folder", "two_values"]

LISTED = 12
"""files that a message names"""


def load_folder(path: Path, config: DataConfig) -> Dataset:
    """All images in a folder and its sub-folders, (channels, height, width) uint8.

    Classes are the names of the first sub-folders of which there are several. Where these are called train and valid
    or test they are the splits, and the folders in them the classes. Images in which only two grey levels occur have
    two levels, others 256.

    Raises:
        ConfigError: `config.size` is no size, or a split would be empty.
        DataError: there is no image, one cannot be read (unless `config.skip_bad`), or sizes differ and `config.size`
            says nothing.
    """
    found = images_in(path)
    images = decoded(path, found, asked_of(config), skip_bad=config.skip_bad)
    if images.bad and not config.skip_bad:
        raise DataError(
            f"{path}: {len(images.bad)} of {len(found):,} images cannot be read: {listed(images.bad)}; repair or "
            "remove them, or leave them out with --skip-bad"
        )
    if not images.names:
        raise DataError(f"{path}: none of its {len(found):,} images can be read: {listed(images.bad)}")
    plan = arranged(images.names)
    one = two_values([images.images])
    shape = images.images.shape[1:]
    labels = None if plan.labels is None else torch.tensor(plan.labels)
    order = np.asarray(plan.order)
    sizes: dict[str, int] = dict(Counter(plan.splits))
    parts = complete(sizes, validation=config.validation, labels=labels)
    # Positions of `complete` are in the order of the splits; stored rows are in the order of the names.
    stored = {name: torch.from_numpy(order[part.numpy()]) for name, part in parts.items() if isinstance(part, Tensor)}
    if labels is not None:
        labels = torch.empty_like(labels).index_copy_(0, torch.from_numpy(order), labels)
    return Dataset(
        name=config.title,
        values=as_source([images.images], Form(shape, np.uint8, one=one)),
        shape=shape,
        levels=256 if one is None else 2,
        train=stored["train"],
        valid=stored["valid"],
        test=stored["test"],
        labels=labels,
        class_names=plan.classes,
        suits="discretised-logistic" if one is None else None,
        description=_described(images, plan, config),
    )


def images_in(path: Path) -> list[tuple[str, os.stat_result]]:
    """What `find_images` finds; raises `DataError` where that is nothing."""
    found, others = find_images(path)
    if not found:
        there = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(4)) or "nothing"
        raise DataError(f"{path}: there are no images in this folder ({there}); give one with .png, .jpg, .webp, ...")
    return found


def asked_of(config: DataConfig) -> Asked:
    """How the images of a folder are wanted; raises `ConfigError` where `config.size` is none."""
    channels = {"auto": None, "grey": 1, "rgb": 3}[config.colour]
    return Asked(None if config.size is None else parse_size(config.size), config.fit, channels)


def listed(bad: Mapping[str, str]) -> str:
    """The first files that cannot be read, each with the reason."""
    more = f" and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
    return "; ".join(f"{name} ({why})" for name, why in list(bad.items())[:LISTED]) + more


@dataclass(frozen=True)
class Plan:
    """Splits and classes of images by their paths."""

    order: list[int]
    """places among the names: all of train, then of valid, then of test"""
    splits: list[str]
    """of each in that order"""
    labels: list[int] | None
    """class of each in that order"""
    classes: tuple[str, ...] = ()
    given: bool = False
    """whether the splits are folders"""


def arranged(names: Sequence[str]) -> Plan:
    """What the paths of images say. Raises `DataError` if there are folders for splits, but none for training."""
    folders = [name.split("/")[:-1] for name in names]
    depth = _shared(folders)
    first = [tuple(parts[depth : depth + 1]) for parts in folders]
    kinds = {SPLIT_NAMES.get(parts[0].lower(), "") if parts else "" for parts in first}
    given = len(kinds) > 1 and "" not in kinds
    if given and "train" not in kinds:
        raise DataError(
            f"there are folders for {' and '.join(sorted(kinds))}, but none called train; add or rename one"
        )
    splits = [SPLIT_NAMES[parts[0].lower()] for parts in first] if given else ["train"] * len(names)
    depth += given
    owners = [parts[depth] if len(parts) > depth else None for parts in folders]
    rank = {"train": 0, "valid": 1, "test": 2}
    order = sorted(range(len(names)), key=lambda place: (rank[splits[place]], place))
    classes = tuple(sorted({owner for owner in owners if owner is not None}))
    if len(classes) < 2 or None in owners:
        return Plan(order, [splits[place] for place in order], None, given=given)
    places = {name: place for place, name in enumerate(classes)}
    labels = [places[str(owners[place])] for place in order]
    return Plan(order, [splits[place] for place in order], labels, classes, given)


def _shared(folders: Sequence[list[str]]) -> int:
    """How many folders all paths begin with."""
    low, high = min(folders), max(folders)  # whatever these two share, those between them do
    return next(
        (i for i, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), min(len(low), len(high))
    )


def two_values(parts: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> int | None:
    """The higher one where exactly two values occur in these uint8 arrays; None: more or fewer do."""
    low, high = 255, 0
    for part in parts:
        for _, rows in pieces(part):
            low, high = min(low, int(rows.min())), max(high, int(rows.max()))
            if bool(((rows != low) & (rows != high)).any()):
                return None
    # A piece that lay between bounds that moved later has been seen against its own.
    ends = {low, high}
    return high if len(ends) == 2 and all(_within(part, low, high) for part in parts) else None


def _within(part: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], low: int, high: int) -> bool:
    return not any(bool(((rows != low) & (rows != high)).any()) for _, rows in pieces(part))


def _described(images: Decoded, plan: Plan, config: DataConfig) -> str:
    """What was found and what was made of it, in one line."""
    count = len(images.names)
    if len(images.sizes) == 1:
        found = f"{images.sizes[0][0]} x {images.sizes[0][1]} pixels"
    else:
        narrow, low = (min(size[i] for size in images.sizes) for i in (0, 1))
        wide, high = (max(size[i] for size in images.sizes) for i in (0, 1))
        found = f"{len(images.sizes)} sizes from {narrow} x {low} to {wide} x {high} pixels"
    said = [f"{count:,} images, {found}"]
    if config.size is not None:
        height, width = images.images.shape[2:]
        said.append(f"brought to {width} x {height} ({config.fit})")
    if images.transparent:
        said.append(f"{images.transparent:,} with transparency, put on black")
    if plan.given:
        kept = Counter(plan.splits)
        said.append("splits by folder: " + ", ".join(f"{kept[name]:,} {name}" for name in kept))
    if images.bad:
        said.append(f"{len(images.bad)} unreadable left out: {listed(images.bad)}")
    return "; ".join(said)
