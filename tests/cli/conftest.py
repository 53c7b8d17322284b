"""Runs to look at, trained once through the command itself, and a way to call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from jensen.cli import main


class Said(NamedTuple):
    """How a call of `jensen` ended."""

    code: int
    out: str
    err: str


Jensen = Callable[..., Said]


@pytest.fixture
def jensen(capsys: pytest.CaptureFixture[str]) -> Jensen:
    """Call `jensen` in this process."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return call


def _train(folder: Path, *arguments: str) -> Path:
    assert main(["train", "--epochs", "1", "--latent", "4", "--net-width", "16", "--run", str(folder), *arguments]) == 0
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of digits, barely trained."""
    return _train(tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain auto-encoder of digits, trained to denoise."""
    return _train(tmp_path_factory.mktemp("runs") / "plain", "--model", "autoencoder", "--corruption", "gaussian")


@pytest.fixture(scope="session")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of a table."""
    return _train(tmp_path_factory.mktemp("runs") / "iris", "--data", "iris")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder from the picture of a circle to whether it is large."""
    return _train(tmp_path_factory.mktemp("runs") / "large", "--data", "circles", "--target", "large", "--limit", "64")


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of digits that is told their class."""
    return _train(tmp_path_factory.mktemp("runs") / "labelled", "--condition", "label")


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a learned prior."""
    return _train(tmp_path_factory.mktemp("runs") / "learned", "--condition", "label", "--prior", "learned")


@pytest.fixture(scope="session")
def semi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of digits of which 50 labels are known."""
    known = ("--model", "semi-supervised", "--condition", "label", "--labelled", "50")
    return _train(tmp_path_factory.mktemp("runs") / "semi", *known, "--limit", "300")


@pytest.fixture(scope="session")
def upper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of digits that is shown their upper half."""
    return _train(tmp_path_factory.mktemp("runs") / "upper", "--condition", "upper-half", "--prior", "learned")


@pytest.fixture(scope="session")
def told_circles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of circles that is told two of their three properties."""
    few = ("--data", "circles", "--limit", "200", "--condition", "x,radius")
    return _train(tmp_path_factory.mktemp("runs") / "told-circles", *few)


@pytest.fixture(scope="session")
def told_iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of a table that is told the class."""
    return _train(tmp_path_factory.mktemp("runs") / "told-iris", "--data", "iris", "--condition", "label")


@pytest.fixture(scope="session")
def circles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two beta-VAEs of circles that differ in their seed."""
    few = ("--data", "circles", "--limit", "300", "--objective", "beta")
    folder = tmp_path_factory.mktemp("runs")
    return [_train(folder / f"seed-{seed}", *few, "--seed", str(seed)) for seed in (0, 1)]
