"""Tiny runs to report on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jensen.config import Config
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
