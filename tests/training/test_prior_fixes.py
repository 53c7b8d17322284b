"""What a prior is refused, and what is said of one that is missing a part or out of date."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jensen.autoencoders.vqvae import VQVAE
from jensen.config import Config, PriorConfig
from jensen.data import Dataset
from jensen.errors import CheckpointError, ConfigError
from jensen.training import Run, StalePriorWarning, fit, fit_prior, resume, resume_prior
from jensen.training import prior as prior_module
from jensen.training.folder import forget_evaluation

TRAIN = {"epochs": 1, "batch_size": 64, "accelerator": "cpu"}


def small_prior(condition: str | None = None) -> PriorConfig:
    """Two steps."""
    return PriorConfig(condition=condition, net={"width": 8, "depth": 1}, train=TRAIN)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VQ-VAE of digits with four codes of six values, and a prior that is told the label."""
    model = {"kind": "vqvae", "quantiser": {"codes": 6, "dim": 4}, "net": {"width": 4, "depth": 1}}
    config = Config(data={"limit": 128, "transform": "binarise-static"}, model=model, train=TRAIN)
    path = tmp_path_factory.mktemp("runs") / "run"
    fit_prior(fit(config, path, quiet=True), small_prior("label"), quiet=True)
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A run of one's own."""
    shutil.copytree(trained, tmp_path / "run")
    return Run.open(tmp_path / "run")


def contents(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("upper-half", r"upper-half is an image or a part of one, .* --condition upper-half$"),
        ("all-but-lower-left", "is an image or a part of one"),
        ("colour", r"digits has no 'colour' \(choices: label\)$"),
        ("lable", r"digits has no 'lable'; did you mean label\? \(choices: label\)$"),
    ],
)
def test_what_a_prior_alone_cannot_be_told_deletes_nothing(run: Run, condition: str, message: str) -> None:
    before = contents(run.path)
    with pytest.raises(ConfigError, match=f"^condition: .*{message}"):
        fit_prior(run, small_prior(condition), replace=True, quiet=True)
    assert contents(run.path) == before


def test_another_image_is_refused_too(run: Run) -> None:
    pictures = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    places, size = torch.arange(4), torch.zeros(4, 1)
    parts = (places[:2], places[2:3], places[3:])
    dataset = Dataset("pairs", pictures, (1, 8, 8), 256, *parts, targets={"size": size}, conditions={"other": pictures})
    prior_module._check_condition(run, "size", dataset)
    with pytest.raises(ConfigError, match="other is an image or a part of one"):
        prior_module._check_condition(run, "other", dataset)
    with pytest.raises(ConfigError, match=r"\(choices: size\)"):
        prior_module._check_condition(run, "otter", dataset)


def test_only_what_is_used_is_encoded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = VQVAE.levels

    def levels(self: VQVAE, x: torch.Tensor, *rest: object) -> object:
        seen.append(len(x))
        return original(self, x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(VQVAE, "levels", levels)
    fit_prior(run, small_prior(), replace=True, quiet=True)
    data = run.data()
    assert len(data.test) > 0
    assert sum(seen) == len(data.train) + len(data.valid)


def checkpoints(path: Path) -> None:
    shutil.rmtree(path / "checkpoints")


def facts(path: Path) -> None:
    (path / "data.yaml").unlink()


def weights(path: Path) -> None:
    (file,) = path.glob("checkpoints/*/best.safetensors")
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("spoil", [checkpoints, facts, weights])
def test_damage_names_the_command_that_helps(run: Run, spoil: Callable[[Path], None]) -> None:
    assert run.told == "label"
    spoil(run.path / "prior")
    again = f"jensen train prior --run {run.path} --replace"
    assert run.prior_command == f"{again} --condition label"
    opened = Run.open(run.path)
    assert opened.prior_in_place is None  # and no exception
    assert (opened.facts.condition_shape, opened.condition) == (None, None)
    for call in (
        run.model,
        lambda: run.model(prior=True),
        lambda: resume_prior(run, epochs=2, quiet=True),
    ):
        with pytest.raises(CheckpointError, match=again) as found:
            call()
        assert "Delete" not in str(found.value)
    with pytest.raises(ConfigError, match=f"has a prior already, but .*: {again} --condition label$"):
        fit_prior(run, small_prior(), quiet=True)
    fit_prior(run, small_prior("label"), replace=True, quiet=True)
    assert Run.open(run.path).prior_command is None
    assert Run.open(run.path).told == "label"


def test_which_command_puts_a_prior_in_place(run: Run) -> None:
    run = resume(run.path, epochs=2, quiet=True)
    again = f"jensen train prior --run {run.path} --replace"
    assert run.prior_command == f"{again} --condition label"
    with pytest.raises(ConfigError, match=f"but .* was fitted to the codes of other weights of the model: {again}"):
        fit_prior(run, small_prior(), quiet=True)
    fit_prior(run, small_prior("label"), replace=True, quiet=True)
    (run.path / "prior" / "metrics.csv").unlink()  # as of one that was stopped in its first epoch
    assert run.prior_command == f"jensen train prior --resume {run.path}"
    checkpoints(run.path / "prior")  # or before its first checkpoint
    assert run.prior_command == f"{again} --condition label"
    with pytest.warns(StalePriorWarning, match=f"no epoch behind it yet: {again}"):
        run.model()
    (run.path / "prior" / "config.yaml").write_text("net: {")
    assert run.prior_command == again
    shutil.rmtree(run.path / "prior")
    assert run.prior_command == f"jensen train prior --run {run.path}"


def test_what_is_dropped_is_named(tmp_path: Path) -> None:
    assert forget_evaluation(tmp_path) is None
    file = tmp_path / "evaluation.json"
    sections = {"elbo": -3.0, "quality": {"weights": {"step": 2}}, "code_usage": {"weights": {"step": 2}}}
    for text, named in ((json.dumps(sections), "bound, quality, code_usage"), ("{damaged", "bound"), ("[]", "bound")):
        file.write_text(text)
        assert forget_evaluation(tmp_path) == f"dropped {file} ({named}): jensen evaluate {tmp_path} measures anew"
        assert not file.exists()
