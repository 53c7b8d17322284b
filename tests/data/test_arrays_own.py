"""What arrays in a file are taken as, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jensen.config import DataConfig
from jensen.data import Dataset, load_data
from jensen.data.arrays import load_arrays
from jensen.errors import DataError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 6, 8), dtype=np.uint8)
ALL = torch.arange(40)


def loaded(folder: Path, config: dict[str, Any] | None = None, **arrays: Any) -> Dataset:
    np.savez(folder / "own.npz", **arrays)
    return load_arrays(folder / "own.npz", DataConfig(name="own.npz", **(config or {})))


@pytest.mark.parametrize(
    ("array", "shape", "levels", "suits"),
    [
        (BYTES, (1, 6, 8), 256, "discretised-logistic"),
        (BYTES[..., None], (1, 6, 8), 256, "discretised-logistic"),
        (BYTES[:, None], (1, 6, 8), 256, "discretised-logistic"),
        (np.stack([BYTES] * 3, -1), (3, 6, 8), 256, "discretised-logistic"),
        (np.stack([BYTES] * 3, 1), (3, 6, 8), 256, "discretised-logistic"),
        (np.where(BYTES > 99, 255, 0).astype(np.uint8), (1, 6, 8), 2, None),
        (BYTES > 99, (1, 6, 8), 2, None),
        (BYTES / 255, (1, 6, 8), None, None),
        (BYTES / 255 - 0.5, (6, 8), None, None),
        (BYTES[:, :1] / 255, (1, 8), None, None),
        (BYTES.astype(np.int64), (6, 8), None, None),
        (BYTES[:, 0], (8,), None, None),
        (BYTES[:, 0].astype(np.float64), (8,), None, None),
        (BYTES[:, 0] > 99, (8,), 2, None),
    ],
)
def test_what_an_array_is(
    tmp_path: Path, array: np.ndarray[Any, Any], shape: tuple[int, ...], levels: int | None, suits: str | None
) -> None:
    dataset = loaded(tmp_path, x=array)
    assert (dataset.shape, dataset.levels, dataset.suits) == (shape, levels, suits)
    values = dataset.values[ALL].double().numpy()
    expected = array
    if len(shape) == 3:
        expected = array.reshape(40, 1, 6, 8) if shape[0] == 1 else np.stack([BYTES] * 3, 1)
    expected = expected != 0 if levels == 2 else expected
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_the_layout_may_be_said(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"layout": "signal"}, x=BYTES).shape == (6, 8)
    assert loaded(tmp_path, {"layout": "signal"}, x=BYTES).levels == 256
    assert loaded(tmp_path, {"layout": "image"}, x=BYTES[:, :1] / 255).shape == (1, 1, 8)
    with pytest.raises(DataError, match=r"examples of shape \(8,\), which are no image"):
        loaded(tmp_path, {"layout": "image"}, x=BYTES[:, 0])


def test_a_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", BYTES)
    data = load_data(str(tmp_path / "a.npy"), transform="none")
    assert data.dataset.name == "a"
    assert sorted(torch.cat(list(data.splits.values())).tolist()) == list(range(40))
    np.testing.assert_allclose(
        data.test.batch(torch.tensor([0])).x[0, 0], BYTES[data.splits["test"][0]] / 255, rtol=1e-6
    )


@pytest.mark.parametrize("key", ["images", "values", "x", "X", "data", "anything"])
def test_keys_of_examples(tmp_path: Path, key: str) -> None:
    assert len(loaded(tmp_path, **{key: BYTES})) == 40


def test_classes_by_number_and_name(tmp_path: Path) -> None:
    y = np.arange(40) % 4
    dataset = loaded(tmp_path, x=BYTES, y=y * 10)
    assert dataset.class_names == ("0", "10", "20", "30")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == y.tolist()
    assert dataset.labels[dataset.test].bincount().tolist() == [2, 2, 2, 2]
    names = np.array(["d", "a", "c", "b"])
    dataset = loaded(tmp_path, x=BYTES, labels=names[y])
    assert dataset.labels is not None
    assert [dataset.class_names[place] for place in dataset.labels] == names[y].tolist()
    assert loaded(tmp_path, x=BYTES, label=y, class_names=names).class_names == ("d", "a", "c", "b")
    with pytest.raises(DataError, match=r"label has classes 0 \.\. 3, but class_names has 2"):
        loaded(tmp_path, x=BYTES, label=y, class_names=names[:2])
    with pytest.raises(DataError, match=r"y has shape \(39,\), but should have one class"):
        loaded(tmp_path, x=BYTES, y=y[:39])
    with pytest.raises(DataError, match="y, labels: which are the classes"):
        loaded(tmp_path, x=BYTES, y=y, labels=y)


def test_numbers_that_are_no_classes_are_a_property(tmp_path: Path) -> None:
    y = RNG.normal(size=40)
    dataset = loaded(tmp_path, x=BYTES, y=y)
    assert dataset.labels is None
    np.testing.assert_allclose(dataset.targets["y"][:, 0], y, rtol=1e-6)


def test_splits_of_the_file(tmp_path: Path) -> None:
    y = np.arange(40) % 4
    arrays = {"x_train": BYTES[:30], "y_train": y[:30], "x_test": BYTES[30:], "y_test": y[30:]}
    dataset = loaded(tmp_path, **arrays, extra=y)
    assert dataset.test.tolist() == list(range(30, 40))
    assert sorted([*dataset.train.tolist(), *dataset.valid.tolist()]) == list(range(30))
    assert len(dataset.valid) == 3
    assert "not looked at: extra" in dataset.description
    np.testing.assert_array_equal(dataset.values[ALL][:, 0], BYTES)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == y.tolist()
    dataset = loaded(tmp_path, x_train=BYTES[:25], x_val=BYTES[25:30], x_test=BYTES[30:])
    assert dataset.valid.tolist() == list(range(25, 30))
    with pytest.raises(DataError, match="give them for all splits, or for none"):
        loaded(tmp_path, x_train=BYTES[:30], y_train=y[:30], x_test=BYTES[30:])
    with pytest.raises(DataError, match=r"x_train has examples of \(6, 8\) uint8, but x_test of \(6, 8\) float64"):
        loaded(tmp_path, x_train=BYTES[:30], x_test=BYTES[30:] / 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": np.where(BYTES[3, 1, 2] == BYTES, np.nan, 1.0)},
            r"x of .* values that are NaN or infinite, the first at",
        ),
        ({"x": np.full((40, 8), np.inf)}, r"has 320 values .* index \(0, 0\).*may be a \.csv file"),
        ({"x": np.full((40, 8), 1e300)}, r"has 320 values that are NaN or infinite"),
        ({"x": BYTES[..., None] * 1.0}, r"values from 0 to 255, but images should be uint8 .* as uint8"),
        ({"x": BYTES[..., None].astype(np.int32)}, "holds int32, but images should be uint8"),
        ({"x": np.zeros(40)}, r"has shape \(40,\); give it as"),
        ({"x": np.zeros((0, 8))}, r"has shape \(0, 8\)"),
        ({"x": np.zeros((2, 2, 2, 2, 2))}, "has 5 axes"),
        ({"x": np.array(["a"] * 40)[:, None]}, "holds <U1, not numbers"),
        ({"x": np.zeros((40, 8), complex)}, "holds complex128, not numbers"),
        ({"x": BYTES, "images": BYTES}, "holds x, images: which are the examples"),
        ({"a": BYTES, "b": BYTES}, "holds a, b: which are the examples"),
        ({"x": np.array([{}] * 40, dtype=object)}, "x of .* pickled objects"),
    ],
)
def test_what_is_wrong(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        loaded(tmp_path, **arrays)
    assert "own.npz" in str(caught.value)


def test_the_first_gap_is_named(tmp_path: Path) -> None:
    x = np.zeros((40, 3, 5))
    x[7, 2, 1] = x[9, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"has 2 values that are NaN or infinite, the first at index \(7, 2, 1\)"):
        loaded(tmp_path, x=x)
