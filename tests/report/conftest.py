"""Tiny runs to report on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from jensen.config import Config, DataConfig, PriorConfig
from jensen.data import Dataset, registry
from jensen.training import Run, fit, fit_prior


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


NET = {"width": 8, "depth": 1}
ONE_BY_ONE = {"width": 8, "depth": 2}
CODES: dict[str, dict[str, Any]] = {
    "images": {},
    "levels": {"model": {"hierarchy": 2}},
    "books": {"model": {"quantiser": {"kind": "residual", "books": 2, "codes": 16, "dim": 8}}},
    "class": {"data": {"condition": "label"}},
    "half": {"data": {"condition": "upper-half"}},
    "text": {"model": {"downsampling": 4}, "data": {"name": "text"}},
    "waves": {"model": {"likelihood": "gaussian"}, "data": {"name": "waves"}},
}


def waves(config: DataConfig) -> Dataset:
    """Sines of 64 values."""
    generator, places = torch.Generator().manual_seed(0), torch.arange(150)
    turns = torch.randint(1, 5, (150, 1), generator=generator) * torch.arange(64) / 64
    values = (turns + torch.rand(150, 1, generator=generator)).mul(2 * torch.pi).sin()[:, None]
    return Dataset("waves", values, (1, 64), None, places[:100], places[100:125], places[125:])


@pytest.fixture(scope="session")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Run]]:
    """A VQ-VAE by its name in `CODES`, made when first asked for; with a learned prior, or one that is told something.

    A prior is put beside a copy, so that the runs of one model have the same weights.
    """
    folder, runs = tmp_path_factory.mktemp("codes"), dict[tuple[str, bool, str | None], Run]()

    def made(name: str, *, prior: bool = False, condition: str | None = None) -> Run:
        key = (name, prior, condition)
        if key not in runs:
            path = folder / "-".join(str(part) for part in key)
            if prior:
                runs[key] = Run.open(shutil.copytree(made(name).path, path))
                train = {"epochs": 1, "accelerator": "cpu"}
                fit_prior(runs[key], PriorConfig(net=ONE_BY_ONE, train=train, condition=condition), quiet=True)
            else:
                own = CODES[name]
                base = {"kind": "vqvae", "downsampling": 2, "quantiser": {"codes": 16, "dim": 8}, "net": NET}
                data = {"limit": 200, **own.get("data", {})}
                config = {"model": {**base, **own.get("model", {})}, "data": data}
                runs[key] = fit(Config(train={"epochs": 1, "accelerator": "cpu"}, **config), path, quiet=True)
        return runs[key]

    info = replace(registry.DATASETS["digits"].info, name="waves", shape=(1, 64), levels=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "waves", registry.Entry(info, waves))
        yield made


@pytest.fixture(scope="session")
def density(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """An autoregressive density of digits (told `condition`) or other data, made when first asked for."""
    folder, runs = tmp_path_factory.mktemp("densities"), dict[tuple[str | None, str], Run]()

    def made(condition: str | None = None, name: str = "digits") -> Run:
        key = (condition, name)
        if key not in runs:
            config = Config(
                model={"kind": "autoregressive", "autoregressive": ONE_BY_ONE},
                data={"name": name, "limit": 200, "condition": condition},
                train={"epochs": 1, "accelerator": "cpu"},
            )
            runs[key] = fit(config, folder / f"{condition}-{name}", quiet=True)
        return runs[key]

    return made


@pytest.fixture(scope="session")
def pixel_vae(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A VAE of digits whose decoder is autoregressive."""
    model = {"likelihood": "autoregressive", "autoregressive": ONE_BY_ONE}
    return tiny(tmp_path_factory.mktemp("runs") / "pixel-vae", model=model, data={"limit": 200}, train={"epochs": 1})
