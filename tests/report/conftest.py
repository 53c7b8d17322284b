"""Tiny runs to report on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jensen.config import Config, DataConfig
from jensen.data import Dataset, registry
from jensen.training import Run, fit


def tiny(path: Path, **sections: dict[str, Any]) -> Run:
    """A run of two short epochs."""
    train = {"epochs": 2, "accelerator": "cpu", **sections.pop("train", {})}
    model = {"latent": 3, "net": {"width": 16}, **sections.pop("model", {})}
    return fit(Config(train=train, model=model, **sections), path, quiet=True)


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of digits."""
    return tiny(tmp_path_factory.mktemp("runs") / "vae")


@pytest.fixture(scope="session")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A plain auto-encoder of digits that learns to denoise."""
    path = tmp_path_factory.mktemp("runs") / "denoiser"
    return tiny(path, model={"kind": "autoencoder"}, data={"corruption": "masking"})


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of iris."""
    return tiny(tmp_path_factory.mktemp("runs") / "table", data={"name": "iris"})


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An encoder-decoder that tells whether a circle is large."""
    path = tmp_path_factory.mktemp("runs") / "predictor"
    data = {"name": "circles", "target": "large", "limit": 200}
    return tiny(path, model={"kind": "autoencoder"}, data=data, train={"epochs": 1})


@pytest.fixture(scope="session")
def told_class(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of digits that is told their class, with a learned prior."""
    path = tmp_path_factory.mktemp("runs") / "told-class"
    return tiny(path, data={"condition": "label"}, model={"prior": "learned"})


@pytest.fixture(scope="session")
def told_half(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of digits that is shown their left half."""
    return tiny(tmp_path_factory.mktemp("runs") / "told-half", data={"condition": "left-half"})


@pytest.fixture(scope="session")
def told_properties(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A beta-VAE of circles that is told two properties."""
    path = tmp_path_factory.mktemp("runs") / "told-properties"
    data = {"name": "circles", "condition": "x,radius", "limit": 200}
    return tiny(path, data=data, objective={"kind": "beta", "beta": 2.0})


@pytest.fixture(scope="session")
def told_table(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of iris that is told the class."""
    return tiny(tmp_path_factory.mktemp("runs") / "told-table", data={"name": "iris", "condition": "label"})


@pytest.fixture(scope="session")
def semi(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of digits of which 40 labels are known."""
    path = tmp_path_factory.mktemp("runs") / "semi"
    data = {"condition": "label", "labelled": 40, "limit": 200}
    return tiny(path, data=data, model={"kind": "semi-supervised"})


@pytest.fixture
def told_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A VAE of digits that is told each of them mirrored."""
    entry = registry.DATASETS["digits"]

    def load(config: DataConfig) -> Dataset:
        digits = entry.load(config)
        assert isinstance(digits.values, torch.Tensor)
        return replace(digits, name="pairs", conditions={"mirrored": digits.values.flip(3)})

    monkeypatch.setitem(registry.DATASETS, "pairs", registry.Entry(replace(entry.info, name="pairs"), load))
    return tiny(tmp_path / "told-image", data={"name": "pairs", "condition": "mirrored", "limit": 100})
