"""Signals, (channels, length), and values on many levels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.config import DataConfig
from jensen.data import Data, Dataset, prepare
from jensen.data.transform import Transform, dequantise, static_binarise
from jensen.errors import ConfigError, DataError

PARTS: dict[str, Any] = {"train": torch.arange(12), "valid": torch.arange(12, 16), "test": torch.arange(16, 20)}


def signal(values: Tensor | None = None, levels: int | None = None, **more: Any) -> Dataset:
    """Twenty signals of two channels and five times, the second channel far from 0 and of another scale."""
    if values is None:
        values = torch.randn(20, 2, 5, generator=torch.Generator().manual_seed(0))
        values = values * torch.tensor([[0.5], [30.0]]) + torch.tensor([[0.0], [400.0]])
    settings: dict[str, Any] = {"name": "wave", "values": values, "shape": tuple(values.shape[1:]), "levels": levels}
    return Dataset(**settings, **PARTS, **more)


def codes(levels: int, dtype: torch.dtype) -> Tensor:
    """Twenty signals of one channel that have the lowest and the highest level."""
    values = torch.randint(0, levels, (20, 1, 6), generator=torch.Generator().manual_seed(1)).to(dtype)
    values[0, 0, :2] = torch.tensor([0, levels - 1]).to(dtype)
    return values


def everything(split: Any) -> Tensor:
    return torch.as_tensor(split.batch(torch.arange(len(split))).x)


def test_a_continuous_signal_is_standardised_channel_by_channel() -> None:
    dataset = signal()
    assert dataset.kind == "signal"
    data = prepare(dataset)
    stored = dataset.values[torch.arange(20)].double()
    for channel in range(2):
        training = stored[:12, channel]
        mean = training.sum() / 60
        sd = ((training - mean) ** 2).sum().div(60).sqrt()
        for split, part in (("train", slice(0, 12)), ("test", slice(16, 20))):
            seen = everything(getattr(data, split))[:, channel].double()
            assert torch.allclose(seen, (stored[part, channel] - mean) / sd, atol=2e-5)
    assert everything(data.train).shape == (12, 2, 5)
    assert data.transform == "none"
    assert data.levels is None


def test_a_channel_that_never_changes_becomes_zero() -> None:
    values = torch.randn(20, 2, 5, generator=torch.Generator().manual_seed(0))
    values[:, 1] = 3.5
    assert torch.equal(everything(prepare(signal(values)).test)[:, 1], torch.zeros(4, 5))


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [(97, torch.uint8), (256, torch.int16), (8_192, torch.int16), (8_192, torch.int32), (65_536, torch.int32)],
)
def test_every_level_comes_back_from_the_unit_interval(levels: int, dtype: torch.dtype) -> None:
    every = torch.arange(levels).to(dtype)
    unit = Transform("none", levels)(every)
    assert unit.dtype == torch.float32
    assert (float(unit[0]), float(unit[-1])) == (0.0, 1.0)
    assert torch.equal((unit * (levels - 1)).round().to(dtype), every)
    assert torch.allclose(unit.double(), torch.arange(levels).double() / (levels - 1), rtol=1e-7, atol=0.0)

    dataset = signal(codes(levels, dtype), levels)
    data = prepare(dataset)
    assert (data.transform, data.levels) == ("none", levels)
    seen = everything(data.train)
    assert torch.equal((seen * (levels - 1)).round().to(dtype), dataset.values[torch.arange(12)])


@pytest.mark.parametrize("levels", [257, 1_000, 8_192, 65_535, 65_536])
def test_dequantise_keeps_every_one_of_many_levels_in_its_bin(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.arange(levels, dtype=torch.int32)
    x = dequantise(values.repeat(50, 1), levels, torch.Generator().manual_seed(0))
    u = x.double() * levels - values
    assert bool((u < 1).all())
    assert float(u.min()) >= -levels * 2.0**-24  # division rounds
    assert float(u.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.002)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, 1.0 - 2.0**-24))
    x = dequantise(values, levels)
    assert float(x.max()) < 1.0
    assert torch.equal((x.double() * levels).floor().to(torch.int32), values)


def test_static_bits_of_large_levels_have_the_right_chances() -> None:
    values = torch.tensor([0, 1_000, 6_000, 8_191], dtype=torch.int16).repeat(40_000, 1)
    bits = static_binarise(values, 8_192)[torch.arange(40_000)]
    assert bits.dtype == torch.uint8
    share, p = bits.double().mean(0), torch.tensor([0.0, 1_000 / 8_191, 6_000 / 8_191, 1.0]).double()
    assert bool(((share - p).abs() <= 4.5 * (p * (1 - p) / 40_000).sqrt()).all())


@pytest.mark.parametrize(
    ("values", "levels", "message"),
    [
        (torch.full((20, 1, 2), 97, dtype=torch.int16), 97, r"wave: level 97 in data of 97 levels \(0 \.\. 96\)"),
        (torch.full((20, 1, 2), -1, dtype=torch.int16), 97, "wave: level -1 in data of 97 levels"),
        (torch.full((20, 1, 2), 70_000, dtype=torch.int32), 70_001, "levels should be 2 to 65,536, .* not 70001"),
        (torch.zeros(20, 1, 2, dtype=torch.uint8), 1, "levels should be 2 to 65,536"),
        (torch.zeros(20, 1, 2, dtype=torch.int64), 97, "torch.uint8 or torch.int16 or torch.int32, not torch.int64"),
        (torch.zeros(20, 1, 2), 97, "not torch.float32"),
        (torch.zeros(20, 1, 2, dtype=torch.int16), None, "should be torch.float32, not torch.int16"),
        (torch.zeros(20, 1, 0, dtype=torch.uint8), 97, r"examples of shape \(1, 0\) are empty"),
    ],
)
def test_values_that_are_refused(values: Tensor, levels: int | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        signal(values, levels)


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (("a", "b"), "should be 3 different ones, one a level, but there are 2"),
        (("a", "b", "a"), "there are 3, 2 of them different"),
    ],
)
def test_symbols_that_are_refused(symbols: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        signal(codes(3, torch.uint8), 3, symbols=symbols)
    with pytest.raises(DataError, match="symbols should be None"):
        signal(symbols=symbols)


def letters(**more: Any) -> Dataset:
    return signal(codes(3, torch.uint8), 3, symbols=("a", "b", "\n"), **more)


@pytest.mark.parametrize(
    "settings",
    [
        {"transform": "binarise"},
        {"transform": "binarise-static"},
        {"transform": "dequantise"},
        {"corruption": "gaussian"},
        {"corruption": "salt-and-pepper"},
        {"corruption": "masking"},
    ],
)
def test_symbols_have_no_magnitude(settings: dict[str, Any]) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"data.{key}: {value} has no meaning here: the values of wave are symbols"):
        prepare(letters(), DataConfig(**settings))
    prepare(signal(codes(3, torch.uint8), 3), DataConfig(**settings))  # magnitudes bear it


def test_symbols_are_left_as_they_are() -> None:
    assert prepare(letters()).transform == "none"
    assert prepare(letters()).symbols == ("a", "b", "\n")
    table = Dataset("row", codes(3, torch.uint8)[:, 0], (6,), 3, **PARTS, symbols=("a", "b", "c"))
    assert prepare(table).transform == "none"


def test_corruption_keeps_signals_on_levels_in_the_unit_interval() -> None:
    torch.manual_seed(0)
    config = DataConfig(corruption="gaussian", corruption_strength=0.5)
    bounded = everything(prepare(signal(codes(256, torch.uint8), 256), config).train)
    assert (float(bounded.min()), float(bounded.max())) == (0.0, 1.0)
    free = everything(prepare(signal(), config).train)
    assert float(free.min()) < -1.0
    with pytest.raises(ConfigError, match="salt-and-pepper is for images"):
        prepare(signal(), DataConfig(corruption="salt-and-pepper"))


def test_conditions_of_signals() -> None:
    labels = torch.arange(20) % 3
    pitch = torch.arange(20.0)
    dataset = signal(labels=labels, class_names=("a", "b", "c"), conditions={"pitch": pitch})
    told = prepare(dataset, DataConfig(condition="label")).test.batch(torch.arange(4)).condition
    assert told is not None
    assert torch.equal(told.argmax(1), labels[16:])
    told = prepare(dataset, DataConfig(condition="pitch")).test.batch(torch.arange(4)).condition
    assert told is not None
    train = pitch[:12]
    assert torch.allclose(told[:, 0], (pitch[16:] - train.mean()) / train.std(correction=0), atol=1e-5)
    with pytest.raises(ConfigError, match="left-half is a part of an image, but wave is a signal"):
        prepare(dataset, DataConfig(condition="left-half"))


def test_targets_limits_and_saved_splits_of_signals() -> None:
    dataset = signal(codes(256, torch.int16), 256, targets={"loud": (torch.arange(20.0) % 2)[:, None]})
    data = prepare(dataset, DataConfig(target="loud", limit=3))
    assert (data.target_shape, data.levels, len(data.train), len(data.valid)) == ((1,), 2, 3, 3)
    back = prepare(dataset, splits=data.splits)
    assert torch.equal(everything(back.train), everything(data.train))


def described(data: Data) -> dict[str, str]:
    return dict(data.describe())


def test_signals_described() -> None:
    assert described(prepare(signal()))["example"] == "signal 2 x 5, continuous"
    assert described(prepare(signal(codes(8_192, torch.int16), 8_192)))["example"] == "signal 1 x 6, 8,192 levels"
    rows = described(prepare(letters()))
    assert rows["example"] == "signal 1 x 6, 3 symbols"
    assert rows["symbols"] == r"a b \n"
    first = "".join(("a", "b", r"\n")[level] for level in codes(3, torch.uint8)[0, 0].tolist())
    assert rows["first"] == first
    assert "first" not in described(prepare(signal()))
