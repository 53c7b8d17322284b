"""MNIST and Fashion-MNIST: 28x28 grey images of ten classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.download import download
from jensen.data.idx import read_idx
from jensen.data.info import DatasetInfo
from jensen.data.npz import check_images, check_labels, find, read_arrays
from jensen.data.partition import official

__all__ = ["FASHION", "MNIST", "fetch_fashion", "fetch_mnist", "load_fashion", "load_mnist"]

KEYS = ("x_train", "y_train", "x_test", "y_test")
OFFER = "{0}.npz (x_train, y_train, x_test, y_test)"
SIDES = (28, 28)

MNIST = DatasetInfo(
    name="mnist",
    shape=(1, *SIDES),
    sizes=(54_000, 6_000, 10_000),
    levels=256,
    origin="download",
    megabytes=11.6,
    licence="CC BY-SA 3.0",
    description="handwritten digits, 28x28 pixels",
    citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning..., Proc. IEEE, 1998",
)

FASHION = DatasetInfo(
    name="fashion-mnist",
    shape=(1, *SIDES),
    sizes=(54_000, 6_000, 10_000),
    levels=256,
    origin="download",
    megabytes=30.9,
    licence="MIT",
    description="articles of clothing, 28x28 pixels",
    citation="H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset, arXiv:1708.07747, 2017",
)

GARMENTS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load_mnist(config: DataConfig) -> Dataset:
    """70,000 digits, (1, 28, 28) uint8; the official test set, the last official training images for validation."""
    return _load(MNIST, config, tuple("0123456789"))


def load_fashion(config: DataConfig) -> Dataset:
    """70,000 garments, (1, 28, 28) uint8; splits as for MNIST."""
    return _load(FASHION, config, GARMENTS)


def fetch_mnist() -> list[Path]:
    """Download what is not in the cache; returns the files there."""
    return download(MNIST.name, OFFER.format(MNIST.name))


def fetch_fashion() -> list[Path]:
    """Download what is not in the cache; returns the files there."""
    return download(FASHION.name, OFFER.format(FASHION.name))


def _load(info: DatasetInfo, config: DataConfig, class_names: tuple[str, ...]) -> Dataset:
    path = find((f"{info.name}.npz", f"{info.name.replace('-', '_')}.npz"), config.directory)
    if path is not None:
        arrays = read_arrays(path, KEYS)
        origins = [path] * 4
    else:
        origins = download(info.name, OFFER.format(info.name))
        arrays = {key: read_idx(file, 3 if key[0] == "x" else 1) for key, file in zip(KEYS, origins, strict=True)}
    for part, first in (("train", 0), ("test", 2)):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        check_images(origins[first], f"x_{part}", images, SIDES)
        check_labels(origins[first + 1], f"y_{part}", labels, len(images), len(class_names))
    train, test = len(arrays["x_train"]), len(arrays["x_test"])
    return Dataset(
        name=info.name,
        values=torch.from_numpy(_joined(arrays["x_train"], arrays["x_test"]))[:, None],
        shape=info.shape,
        levels=info.levels,
        **official(train, test, validation=config.validation),
        labels=torch.from_numpy(_joined(arrays["y_train"], arrays["y_test"]).astype(np.int64)),
        class_names=class_names,
        description=info.description,
        licence=info.licence,
        citation=info.citation,
    )


def _joined(*parts: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    return np.concatenate(parts)
