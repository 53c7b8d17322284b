"""Omniglot: handwritten characters of fifty alphabets, reduced to 28x28 grey images."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.download import download
from jensen.data.info import DatasetInfo
from jensen.data.npz import cache_directory, check_images, check_labels, find, read_arrays
from jensen.data.partition import official
from jensen.errors import DataError
from jensen.files import write_atomically

__all__ = ["OMNIGLOT", "fetch_omniglot", "load_omniglot", "reduce"]

FILE = "omniglot_28.npz"
OFFER = f"{FILE} (x_train, x_test, alphabet_train, alphabet_test, alphabet_names)"
KEYS = ("x_train", "x_test", "alphabet_train", "alphabet_test", "alphabet_names")
PNG = re.compile(r"images_(?:background|evaluation)/([^/]+)/character\d+/(\d{4})_(\d{2})\.png")
LARGE, SMALL = 105, 28
TRAIN_DRAWINGS = 15
CHARACTERS, DRAWINGS = 1623, 20
CHUNK = 2000

OMNIGLOT = DatasetInfo(
    name="omniglot",
    shape=(1, SMALL, SMALL),
    sizes=(21_911, 2_434, 8_115),
    levels=256,
    origin="download",
    megabytes=15.9,
    licence="MIT",
    description="1,623 handwritten characters of 50 alphabets, 28x28 by area average (not the split of the IWAE paper)",
    citation="B. Lake, R. Salakhutdinov, J. Tenenbaum, Human-level concept learning..., Science 350, 2015",
)


def load_omniglot(config: DataConfig) -> Dataset:
    """32,460 characters, (1, 28, 28) uint8, 0 is paper; labels are alphabets.

    Of each character, drawings 0 to 14 are training and 15 to 19 test images. Validation is a random share of the
    training images, since they are ordered by alphabet.
    """
    path = find((FILE, "omniglot.npz"), config.directory) or fetch_omniglot()[0]
    arrays = read_arrays(path, KEYS)
    names = tuple(str(name) for name in arrays["alphabet_names"])
    for part in ("train", "test"):
        images = arrays[f"x_{part}"]
        check_images(path, f"x_{part}", images, (SMALL, SMALL))
        check_labels(path, f"alphabet_{part}", arrays[f"alphabet_{part}"], len(images), len(names))
    alphabets = np.concatenate([arrays["alphabet_train"], arrays["alphabet_test"]]).astype(np.int64)
    return Dataset(
        name=OMNIGLOT.name,
        values=torch.from_numpy(np.concatenate([arrays["x_train"], arrays["x_test"]]))[:, None],
        shape=OMNIGLOT.shape,
        levels=OMNIGLOT.levels,
        **official(len(arrays["x_train"]), len(arrays["x_test"]), validation=config.validation, shuffled=True),
        labels=torch.from_numpy(alphabets),
        class_names=names,
        description=OMNIGLOT.description,
        licence=OMNIGLOT.licence,
        citation=OMNIGLOT.citation,
    )


def fetch_omniglot() -> list[Path]:
    """Download the official archives if need be and reduce them; returns the npz file in the cache."""
    path = cache_directory() / FILE
    if not path.is_file():
        arrays = _arrays(*_drawings(download(OMNIGLOT.name, OFFER)))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: np.savez_compressed(temporary, allow_pickle=False, **arrays))
    return [path]


def reduce(ink: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Binary images (B, 105, 105), 1 is ink, to (B, 28, 28) uint8: the inked share of each pixel's area times 255.

    In integers: 105 / 28 = 15 / 4, so a small pixel is 15 x 15 quarters of large ones, and 255 / 15^2 = 17 / 15 of
    the inked count is never half-way between two grey levels.
    """
    quarters = np.minimum.outer(4 * np.arange(1, LARGE + 1), 15 * np.arange(1, SMALL + 1))
    quarters -= np.maximum.outer(4 * np.arange(LARGE), 15 * np.arange(SMALL))
    weights = np.maximum(quarters, 0).astype(np.float32)
    quarters_inked = np.einsum("bij,ik,jl->bkl", ink.astype(np.float32), weights, weights, optimize=True)
    grey: npt.NDArray[np.uint8] = np.floor_divide(34 * quarters_inked.astype(np.int32) + 15, 30).astype(np.uint8)
    return grey


def _drawings(archives: list[Path]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """All drawings of the official archives, (1623 * 20, 28, 28) by character and drawing, and alphabet of each."""
    small = np.zeros((CHARACTERS * DRAWINGS, SMALL, SMALL), dtype=np.uint8)
    alphabets = [""] * len(small)
    for path in archives:
        drawings = _inked(path)
        while part := list(islice(drawings, CHUNK)):
            places, names, ink = zip(*part, strict=True)
            small[list(places)] = reduce(np.stack(ink))
            for place, name in zip(places, names, strict=True):
                alphabets[place] = name
    if "" in alphabets:
        missing = alphabets.index("")
        raise DataError(
            f"{' and '.join(str(path) for path in archives)} lack drawing {missing % DRAWINGS + 1} of character "
            f"{missing // DRAWINGS + 1}; delete them and try again"
        )
    return small, alphabets


def _inked(path: Path) -> Iterator[tuple[int, str, npt.NDArray[np.uint8]]]:
    """Each drawing of an official archive: its place, its alphabet, and its ink (105, 105), 1 where the pen was."""
    from PIL import Image, UnidentifiedImageError

    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                match = PNG.fullmatch(name)
                if match is None:
                    continue
                character, drawing = int(match[2]) - 1, int(match[3]) - 1
                with archive.open(name) as file, Image.open(file, formats=("PNG",)) as image:
                    paper = np.asarray(image.convert("1"))
                known = 0 <= character < CHARACTERS and 0 <= drawing < DRAWINGS
                if not known or paper.shape != (LARGE, LARGE):
                    raise DataError(f"{path}: {name} {paper.shape} is no drawing of Omniglot; delete the archive")
                yield character * DRAWINGS + drawing, match[1], (~paper).astype(np.uint8)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, UnidentifiedImageError) as error:
        raise DataError(f"cannot read {path}: {error}; delete it and try again") from None


def _arrays(small: npt.NDArray[np.uint8], alphabets: list[str]) -> dict[str, npt.NDArray[np.generic]]:
    names = list(dict.fromkeys(alphabets))  # in the order of the character numbers
    rows = np.arange(len(small))
    columns: dict[str, npt.NDArray[np.generic]] = {
        "x": small,
        "alphabet": np.array([names.index(name) for name in alphabets], dtype=np.uint8),
        "character": (rows // DRAWINGS).astype(np.uint16),
        "drawer": (rows % DRAWINGS).astype(np.uint8),
    }
    train = rows % DRAWINGS < TRAIN_DRAWINGS
    arrays = {f"{key}_train": column[train] for key, column in columns.items()}
    arrays |= {f"{key}_test": column[~train] for key, column in columns.items()}
    return {**arrays, "alphabet_names": np.array(names)}
