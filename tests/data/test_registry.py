"""Data sets by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from jensen.config import DataConfig
from jensen.data import fetch, list_datasets, load_data
from jensen.errors import ConfigError

HERE = ("digits", "iris", "circles", "dsprites", "text")


def test_list() -> None:
    infos = {info.name: info for info in list_datasets()}
    downloaded = ["mnist", "fashion-mnist", "omniglot", "cifar10"]
    assert list(infos) == ["digits", "iris", "circles", "dsprites", *downloaded, "cifar10-subset", "text"]
    for info in infos.values():
        assert info.licence
        assert info.description
        assert "\n" not in info.description
        assert (info.origin == "download") == (info.megabytes > 0)


@pytest.mark.parametrize("name", HERE)
def test_the_list_tells_the_truth(name: str) -> None:
    info = next(info for info in list_datasets() if info.name == name)
    data = load_data(name)
    assert data.dataset.name == name
    assert data.shape == info.shape
    assert data.dataset.levels == info.levels
    assert (len(data.train), len(data.valid), len(data.test)) == info.sizes
    assert data.dataset.description == info.description
    assert data.dataset.citation == info.citation


@pytest.mark.parametrize("name", HERE)
def test_batches_of_every_set(name: str) -> None:
    data = load_data(name)
    for split in (data.train, data.valid, data.test):
        batch = next(split.batches(5, shuffle=torch.Generator().manual_seed(0)))
        assert batch.x.shape == (5, *data.shape)
        assert batch.target is batch.x
        if batch.label is None:
            assert name == "text"
        else:
            assert int(batch.label.max()) < len(data.class_names)
        assert bool(batch.x.isfinite().all())


@pytest.mark.parametrize("name", HERE)
def test_the_same_splits_in_every_load(name: str) -> None:
    first, second = load_data(name).splits, load_data(name).splits
    assert all(torch.equal(first[part], second[part]) for part in first)
    whole = torch.cat(list(first.values()))
    assert len(whole.unique()) == len(whole)


def test_ways_to_say_it() -> None:
    by_config = load_data(DataConfig(name="digits", transform="none", limit=10))
    by_name = load_data("digits", transform="none", limit=10)
    both = load_data(DataConfig(name="digits", limit=99), transform="none", limit=10)
    assert by_config.config == by_name.config == both.config
    assert len(both.train) == 10
    assert load_data().dataset.name == "digits"


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ("mnits", {}, r"no data set 'mnits'; did you mean mnist\? \(choices: digits, iris"),
        ("zzz", {}, r"no data set 'zzz' \(choices"),
        ("digits", {"transfrom": "none"}, "unknown key transfrom"),
        ("digits", {"transform": "invert"}, "transform"),
        ("digits", {"validation": 0.9}, "data.validation"),
        ("digits", {"limit": 0}, "limit"),
    ],
)
def test_mistakes(arguments: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data(arguments, **settings)


def test_fetch_of_what_needs_none() -> None:
    assert fetch("digits") == fetch("circles") == []
    with pytest.raises(ConfigError, match="no data set"):
        fetch("nothing")


def test_heavy_imports_are_lazy() -> None:
    code = "import sys, jensen.data; print([m for m in ('matplotlib', 'sklearn', 'pooch', 'PIL') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
