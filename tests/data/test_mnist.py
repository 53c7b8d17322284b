"""MNIST and Fashion-MNIST from npz files: small ones made here, and the real one where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jensen.data import load_data
from jensen.errors import DataError


def save(path: Path, **changes: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8),
        "y_train": (np.arange(20) % 10).astype(np.uint8),
        "x_test": rng.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "y_test": np.arange(10, dtype=np.uint8),
    }
    arrays |= changes
    np.savez(path, allow_pickle=False, **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("name", "file"),
    [("mnist", "mnist.npz"), ("fashion-mnist", "fashion-mnist.npz"), ("fashion-mnist", "fashion_mnist.npz")],
)
def test_from_a_folder(name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / file)
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    data = load_data(name, transform="none")
    assert data.shape == (1, 28, 28)
    assert data.levels == 256
    assert len(data.class_names) == 10
    assert data.splits["train"].tolist() == list(range(18))
    assert data.splits["valid"].tolist() == [18, 19]
    assert data.splits["test"].tolist() == list(range(20, 30))
    with np.load(tmp_path / file) as archive:
        images = torch.from_numpy(archive["x_test"]).float() / 255
    batch = data.test.batch(torch.arange(10))
    assert torch.equal(batch.x[:, 0], images)
    assert batch.label is not None
    assert batch.label.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, "mnist.npz has no key x_test"),
        ({"y_train": np.zeros(19, np.uint8)}, "mnist.npz: y_train has 19 labels for 20 images"),
        ({"y_test": np.full(10, 10, np.uint8)}, "mnist.npz: y_test has labels 10"),
        ({"x_train": np.zeros((20, 28, 28), np.float64)}, r"mnist.npz: x_train should be \(N, 28, 28\) uint8"),
        ({"x_test": np.zeros((10, 32, 32), np.uint8)}, r"mnist.npz: x_test should be"),
    ],
)
def test_wrong_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save(tmp_path / "mnist.npz", **changes)
    with pytest.raises(DataError, match=message):
        load_data("mnist", directory=tmp_path)


def test_the_real_mnist(real_data: Path) -> None:
    data = load_data("mnist", directory=real_data, transform="none", validation=1 / 6)
    assert (len(data.train), len(data.valid), len(data.test)) == (50_000, 10_000, 10_000)
    values = data.dataset.values[torch.arange(60_000)]
    histogram = torch.bincount(values.flatten().int(), minlength=256).double()
    level = torch.arange(256).double() / 255
    mean = float((histogram * level).sum() / histogram.sum())
    sd = float((histogram * (level - mean) ** 2).sum() / histogram.sum()) ** 0.5
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert sd == pytest.approx(0.3081, abs=5e-5)
    assert data.test.labels is not None
    # counts of the official test labels
    assert torch.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_binarised_mnist_has_the_mean_of_its_grey_levels(real_data: Path) -> None:
    torch.manual_seed(0)
    some = torch.arange(4000)
    grey = load_data("mnist", directory=real_data, transform="none").train.batch(some).x.double()
    for transform in ("binarise", "binarise-static"):
        drawn = load_data("mnist", directory=real_data, transform=transform).train.batch(some).x.double()
        error = (grey * (1 - grey)).sum().sqrt() / grey.numel()
        assert abs(float(drawn.mean() - grey.mean())) < 4 * float(error)
        # every image for itself: 784 independent draws
        variance = (grey * (1 - grey)).sum(dim=(1, 2, 3))
        z = ((drawn - grey).sum(dim=(1, 2, 3)) / variance.sqrt())[variance > 0]
        assert 0.95 < float(z.std()) < 1.05
