"""CIFAR-10: 32x32 colour images of ten classes, and a small part of it that has been through JPEG."""

from __future__ import annotations

import math
import tarfile
import zlib
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

__all__ = ["CIFAR", "SUBSET", "fetch_cifar", "fetch_subset", "load_cifar", "load_subset"]

FILE = "cifar10.npz"
SUBSET_FILES = ("cifar10-subset.npz", "cifar10_jpeg75_subset.npz")
KEYS = ("x_train", "y_train", "x_test", "y_test")
OFFER = f"{FILE} ({', '.join(KEYS)})"
SIDES = (32, 32, 3)
FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
PER_FILE = 10_000
"""images in a file of the archive"""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CITATION = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

CIFAR = DatasetInfo(
    name="cifar10",
    shape=(3, 32, 32),
    sizes=(45_000, 5_000, 10_000),
    levels=256,
    origin="download",
    megabytes=170.1,
    licence="none stated",
    description="photographs of animals and vehicles in colour, 32x32 pixels",
    citation=CITATION,
)

SUBSET = DatasetInfo(
    name="cifar10-subset",
    shape=(3, 32, 32),
    sizes=(2_700, 300, 1_000),
    levels=256,
    origin="file",
    megabytes=0.0,
    licence="none stated",
    description="3,000 + 1,000 images of CIFAR-10 decoded from JPEG files: not to be set against published results",
    citation=CITATION,
)

Bytes = npt.NDArray[np.uint8]


def load_cifar(config: DataConfig) -> Dataset:
    """60,000 images, (3, 32, 32) uint8; the official test set, the last official training images for validation."""
    path = find((FILE,), config.directory) or fetch_cifar()[0]
    return _load(CIFAR, path, config)


def load_subset(config: DataConfig) -> Dataset:
    """4,000 images, (3, 32, 32) uint8, with as many of each class; splits as for CIFAR-10. There is no download."""
    return _load(SUBSET, _subset(config.directory), config)


def fetch_cifar() -> list[Path]:
    """Download the binary archive if need be and keep its arrays instead; returns the npz file in the cache."""
    path = cache_directory() / FILE
    if not path.is_file():
        (archive,) = download(CIFAR.name, OFFER)
        arrays = _arrays(archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        # photographs hardly shrink: stored as they are, they need not be unpacked each time
        write_atomically(path, lambda temporary: np.savez(temporary, allow_pickle=False, **arrays))
        archive.unlink()
    return [path]


def fetch_subset() -> list[Path]:
    """The file where it is; raises `DataError` if it is not there, for it cannot be downloaded."""
    return [_subset(None)]


def _subset(directory: Path | None) -> Path:
    path = find(SUBSET_FILES, directory)
    if path is None:
        raise DataError(
            f"{SUBSET.name} is not downloaded: put {' or '.join(SUBSET_FILES)} ({', '.join(KEYS)}) into a folder and "
            f"name it with JENSEN_DATA or data.directory, or use {CIFAR.name}"
        )
    return path


def _load(info: DatasetInfo, path: Path, config: DataConfig) -> Dataset:
    arrays = read_arrays(path, KEYS)
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        check_images(path, f"x_{part}", images, SIDES)
        check_labels(path, f"y_{part}", labels, len(images), len(CLASSES))
    train, test = len(arrays["x_train"]), len(arrays["x_test"])
    values = torch.empty(train + test, *info.shape, dtype=torch.uint8)
    for place, part in ((0, "train"), (train, "test")):
        images = arrays.pop(f"x_{part}")
        values[place : place + len(images)] = torch.from_numpy(images).permute(0, 3, 1, 2)
    return Dataset(
        name=info.name,
        values=values,
        shape=info.shape,
        levels=info.levels,
        **official(train, test, validation=config.validation),
        labels=torch.from_numpy(np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int64)),
        class_names=CLASSES,
        description=info.description,
        licence=info.licence,
        citation=info.citation,
    )


def _arrays(archive: Path) -> dict[str, Bytes]:
    """Images (N, 32, 32, 3) and labels (N,) of the official binary archive."""
    files = _members(archive)
    arrays = {}
    for part, names in (("train", TRAIN_FILES), ("test", TEST_FILES)):
        # an image is its label, then 32 x 32 bytes of red, of green and of blue
        rows = np.concatenate([np.frombuffer(files[name], dtype=np.uint8) for name in names])
        rows = rows.reshape(-1, 1 + math.prod(SIDES))
        labels = rows[:, 0].copy()
        check_labels(archive, f"y_{part}", labels, len(labels), len(CLASSES))
        arrays[f"x_{part}"] = np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        arrays[f"y_{part}"] = labels
    return arrays


def _members(archive: Path) -> dict[str, bytes]:
    """Content of the six files of images by name. Nothing is unpacked: other members are passed over, links too."""
    size = PER_FILE * (1 + math.prod(SIDES))
    names = {f"{FOLDER}/{name}": name for name in (*TRAIN_FILES, *TEST_FILES)}
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name in names and member.isreg() else None
                if content is None:
                    continue
                if member.size != size:
                    raise DataError(
                        f"{archive}: {member.name} has {member.size:,} bytes, not {size:,}; delete it and try again"
                    )
                files[names[member.name]] = content.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"cannot read {archive}: {error}; delete it and try again") from None
    missing = [name for name in names.values() if name not in files]
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}; delete it and try again")
    return files
