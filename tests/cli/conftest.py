"""Runs to look at, trained once through the command itself, and a way to call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
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


DISCRETE = ("--quantiser-codes", "16", "--quantiser-dim", "4", "--downsampling", "2", "--transform", "none")
SMALL_PRIOR = ("--net-width", "8", "--net-depth", "2", "--epochs", "1", "--batch-size", "512")


def _train_codes(folder: Path, *arguments: str) -> Path:
    flags = ("--model", "vqvae", *DISCRETE, "--likelihood", "discretised-logistic", "--net-width", "8")
    assert main(["train", "--epochs", "1", "--run", str(folder), *flags, *arguments]) == 0
    return folder


def _with_prior(run: Path, folder: Path, *arguments: str) -> Path:
    copytree(run, folder)
    assert main(["train", "prior", "--run", str(folder), *SMALL_PRIOR, *arguments]) == 0
    return folder


@pytest.fixture(scope="session")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE of digits, 4 x 4 codes of 16, without a prior."""
    return _train_codes(tmp_path_factory.mktemp("runs") / "codes")


@pytest.fixture(scope="session")
def drawing(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a learned prior."""
    return _with_prior(codes, tmp_path_factory.mktemp("runs") / "drawing")


@pytest.fixture(scope="session")
def drawing_classes(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a prior that is told the class."""
    return _with_prior(codes, tmp_path_factory.mktemp("runs") / "drawing-classes", "--condition", "label")


@pytest.fixture(scope="session")
def two_levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE of digits with two levels of codes, of 300."""
    two = ("--hierarchy", "2", "--quantiser-codes", "300", "--limit", "200")
    folder = tmp_path_factory.mktemp("runs") / "two-levels"
    flags = ("--model", "vqvae", "--downsampling", "2", "--quantiser-dim", "4", "--net-width", "8")
    assert main(["train", "--epochs", "1", "--run", str(folder), *flags, *two]) == 0
    return folder


@pytest.fixture(scope="session")
def told_codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE of digits, several books, that is told the class, as is its prior."""
    books = ("--quantiser", "residual", "--quantiser-books", "2", "--condition", "label")
    run = _train_codes(tmp_path_factory.mktemp("runs") / "base", *books)
    return _with_prior(run, tmp_path_factory.mktemp("runs") / "told-codes")


@pytest.fixture(scope="session")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PixelCNN of digits that is told the class."""
    folder = tmp_path_factory.mktemp("runs") / "pixels"
    net = ("--autoregressive-width", "8", "--autoregressive-depth", "2", "--condition", "label")
    few = ("--model", "autoregressive", "--epochs", "1", "--limit", "300", *net)
    assert main(["train", "--run", str(folder), *few]) == 0
    return folder


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE of text with a transformer as its prior."""
    folder = tmp_path_factory.mktemp("runs") / "text"
    net = ("--quantiser", "finite-scalar", "--quantiser-values", "5,4", "--likelihood", "categorical")
    few = ("--model", "vqvae", "--data", "text", "--limit", "200", "--net-width", "8", "--epochs", "1", *net)
    assert main(["train", "--run", str(folder), *few]) == 0
    assert main(["train", "prior", "--run", str(folder), *SMALL_PRIOR, "--net", "transformer"]) == 0
    return folder


@pytest.fixture(scope="session")
def circles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two beta-VAEs of circles that differ in their seed."""
    few = ("--data", "circles", "--limit", "300", "--objective", "beta")
    folder = tmp_path_factory.mktemp("runs")
    return [_train(folder / f"seed-{seed}", *few, "--seed", str(seed)) for seed in (0, 1)]
