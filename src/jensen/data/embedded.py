"""Small real data sets that come with scikit-learn: no download."""

from __future__ import annotations

import numpy as np
import torch

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.info import DatasetInfo
from jensen.data.partition import random

__all__ = ["DIGITS", "IRIS", "load_digits", "load_iris"]

DIGITS = DatasetInfo(
    name="digits",
    shape=(1, 8, 8),
    sizes=(1259, 179, 359),
    levels=17,
    origin="embedded",
    megabytes=0.0,
    licence="CC BY 4.0",
    description="handwritten digits, 8x8 pixels of 17 grey levels, by 43 people",
    citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (test part)",
)

IRIS = DatasetInfo(
    name="iris",
    shape=(4,),
    sizes=(105, 15, 30),
    levels=None,
    origin="embedded",
    megabytes=0.0,
    licence="CC BY 4.0",
    description="table: sepal and petal length and width (cm) of 150 irises of three species",
    citation="R. A. Fisher, The use of multiple measurements in taxonomic problems, 1936",
)


def load_digits(config: DataConfig) -> Dataset:
    """The 1,797 digits of scikit-learn, (1, 8, 8) uint8 in 0 .. 16; splits stratified by class, 20% for test."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = np.asarray(bunch.images).astype(np.uint8)
    labels = np.asarray(bunch.target).astype(np.int64)
    return Dataset(
        name=DIGITS.name,
        values=torch.from_numpy(images)[:, None],
        shape=DIGITS.shape,
        levels=DIGITS.levels,
        **random(len(images), validation=config.validation, labels=labels),
        labels=torch.from_numpy(labels),
        class_names=tuple("0123456789"),
        description=DIGITS.description,
        licence=DIGITS.licence,
        citation=DIGITS.citation,
    )


def load_iris(config: DataConfig) -> Dataset:
    """Fisher's irises, (4,) float32 in centimetres; splits stratified by species, 20% for test."""
    from sklearn.datasets import load_iris as load

    bunch = load()
    labels = np.asarray(bunch.target).astype(np.int64)
    return Dataset(
        name=IRIS.name,
        values=torch.from_numpy(np.asarray(bunch.data, dtype=np.float32)),
        shape=IRIS.shape,
        levels=IRIS.levels,
        **random(len(labels), validation=config.validation, labels=labels),
        labels=torch.from_numpy(labels),
        class_names=tuple(str(name) for name in bunch.target_names),
        description=IRIS.description,
        licence=IRIS.licence,
        citation=IRIS.citation,
    )
