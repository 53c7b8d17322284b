"""From a data set and a configuration to three splits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from jensen.config import DataConfig
from jensen.data import Data, Dataset, load_data, prepare
from jensen.errors import ConfigError, DataError


def table(constant: bool = False) -> Dataset:
    values = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]) + 7.0
    if constant:
        values[:, 1] = 4.0
    return Dataset(
        name="numbers",
        values=values,
        shape=(3,),
        levels=None,
        train=torch.arange(40),
        valid=torch.arange(40, 50),
        test=torch.arange(50, 60),
    )


def everything(split: Any) -> torch.Tensor:
    return torch.as_tensor(split.batch(torch.arange(len(split))).x)


def test_tables_are_standardised_by_the_training_split() -> None:
    data = prepare(table())
    train = everything(data.train).double()
    assert torch.allclose(train.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(train.std(0, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-4)
    stored = table().values[torch.arange(60)].double()
    expected = (stored[50:] - stored[:40].mean(0)) / stored[:40].std(0, correction=0)
    assert torch.allclose(everything(data.test).double(), expected, atol=1e-4)
    assert data.levels is None
    assert data.transform == "none"


def test_a_constant_column_becomes_zero() -> None:
    assert torch.equal(everything(prepare(table(constant=True)).train)[:, 1], torch.zeros(40))


@pytest.mark.parametrize(
    ("transform", "resolved", "levels"),
    [
        ("auto", "binarise", 2),
        ("none", "none", 17),
        ("binarise", "binarise", 2),
        ("binarise-static", "binarise-static", 2),
        ("dequantise", "dequantise", 17),
    ],
)
def test_levels_follow_the_transform(transform: str, resolved: str, levels: int) -> None:
    data = load_data("digits", transform=transform)
    assert data.transform == resolved
    assert data.levels == data.train.levels == levels
    x = everything(data.train)
    assert x.dtype == torch.float32
    distinct = len(x.unique())
    assert distinct == levels if transform != "dequantise" else distinct > 1000


def test_a_predicted_property_needs_no_noise_in_the_picture() -> None:
    data = load_data("circles", target="large")
    assert data.transform == "none"
    assert data.levels == 2
    assert data.target_shape == (1,)
    assert data.shape == (1, 28, 28)
    assert load_data("circles", target="radius").levels is None
    assert load_data("circles", target="radius", transform="binarise").transform == "binarise"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("circles", {"target": "colour"}, r"data.target: circles has no 'colour'; choices: x, y, radius, large"),
        ("digits", {"target": "large"}, "no properties to predict"),
        ("circles", {"target": "x", "corruption": "masking"}, "exclude each other"),
        ("iris", {"transform": "binarise"}, "needs images with grey levels"),
        ("iris", {"transform": "dequantise"}, "needs images with grey levels"),
        ("iris", {"corruption": "salt-and-pepper"}, "is for images"),
    ],
)
def test_impossible_settings(name: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(name, **settings)


def test_a_corrupted_table_is_not_clipped() -> None:
    torch.manual_seed(0)
    batch = prepare(table(), DataConfig(corruption="gaussian", corruption_strength=0.1)).train.batch(torch.arange(40))
    assert batch.x.min() < -1.0
    assert batch.x.max() > 1.0
    assert abs(float((batch.x - batch.target).std()) - 0.1) < 0.03


def test_limit_cuts_training_and_validation_but_not_test() -> None:
    whole, cut = load_data("digits"), load_data("digits", limit=100)
    assert torch.equal(cut.splits["train"], whole.splits["train"][:100])
    assert torch.equal(cut.splits["valid"], whole.splits["valid"][:100])
    assert torch.equal(cut.splits["test"], whole.splits["test"])
    assert len(load_data("digits", limit=10**6).train) == len(whole.train)


def test_saved_splits_come_back() -> None:
    saved = load_data("digits", limit=50, validation=0.3).splits
    back = load_data("digits", splits=saved)
    assert all(torch.equal(back.splits[name], saved[name]) for name in ("train", "valid", "test"))
    # as they come out of an npz file
    arrays: Any = {name: index.numpy() for name, index in saved.items()}
    assert torch.equal(load_data("digits", splits=arrays).splits["train"], saved["train"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": torch.tensor([0, 5000])}, "positions 0 .. 5000, but there are 1797"),
        ({"train": torch.tensor([0, 0])}, "more than once"),
        ({"train": torch.tensor([0.5])}, "int64"),
        ({"extra": torch.tensor([1])}, "splits should be train, valid and test"),
    ],
)
def test_wrong_saved_splits(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data("digits", splits=load_data("digits").splits | change)


def test_static_binarisation_is_the_same_in_every_load() -> None:
    first, second = (everything(load_data("digits", transform="binarise-static").test) for _ in range(2))
    assert torch.equal(first, second)
    grey = everything(load_data("digits", transform="none").test)
    assert not bool(((grey == 0) & (first == 1)).any())
    assert not bool(((grey == 1) & (first == 0)).any())
    assert abs(float((first - grey).mean())) < 0.01


def test_data_on_the_cpu_is_shared_between_splits() -> None:
    data = load_data("digits").to("cpu")
    assert isinstance(data, Data)
    assert data.train.values is data.valid.values is data.test.values


def test_describe() -> None:
    rows = dict(load_data("circles", limit=10).describe())
    assert rows["training"] == "10 examples"
    assert rows["example"] == "image 1 x 28 x 28, 256 grey levels"
    assert rows["targets"] == "x, y, radius, large"
    assert rows["transform"] == "binarise"
    rows = dict(load_data("iris").describe())
    assert rows["example"] == "table 4, continuous"
    assert "targets" not in rows


def test_prepare_without_a_configuration() -> None:
    data = prepare(table())
    assert data.config == DataConfig(name="numbers")
    assert repr(data) == "Data(numbers: 40 + 10 + 10 examples of shape (3,), transform none)"
