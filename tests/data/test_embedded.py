"""The embedded sets are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import datasets

from jensen.config import DataConfig
from jensen.data.embedded import load_digits, load_iris


def test_digits() -> None:
    reference = datasets.load_digits()
    data = load_digits(DataConfig())
    values = data.values[torch.arange(1797)]
    assert values.dtype == torch.uint8
    assert np.array_equal(values[:, 0].numpy(), reference.images)
    assert data.labels is not None
    assert np.array_equal(data.labels.numpy(), reference.target)
    assert float(values.double().mean()) == pytest.approx(4.884165, abs=1e-6)  # known of this set
    assert data.levels == 17 == int(values.max()) + 1
    assert data.class_names[7] == "7"


def test_iris() -> None:
    reference = datasets.load_iris()
    data = load_iris(DataConfig(name="iris"))
    assert np.array_equal(data.values[torch.arange(150)].numpy(), reference.data.astype(np.float32))
    assert data.class_names == ("setosa", "versicolor", "virginica")
    assert data.labels is not None
    # stratified exactly: 50 of each species
    for name, each in (("train", 35), ("valid", 5), ("test", 10)):
        assert torch.bincount(data.labels[data.splits[name]]).tolist() == [each] * 3


def test_digits_splits_have_the_proportions_of_the_whole() -> None:
    data = load_digits(DataConfig(validation=0.25))
    assert data.labels is not None
    whole = torch.bincount(data.labels)
    for name, share in (("train", 0.55), ("valid", 0.25), ("test", 0.2)):
        counts = torch.bincount(data.labels[data.splits[name]])
        assert torch.all((counts - share * whole).abs() <= 1.0), name
