"""What a run directory holds, and what happens when a part of it is damaged."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from jensen.config import Config
from jensen.data import load_data
from jensen.errors import CheckpointError, ConfigError, JensenError
from jensen.training import Run, fit, list_runs, resume
from jensen.training import run as run_module
from jensen.training.run import DataFacts

Tiny = Callable[..., Config]


def test_contents(run: Run) -> None:
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    step = "checkpoints/step-00000008"
    assert names == {
        "config.yaml",
        "data.yaml",
        "splits.npz",
        "metrics.csv",
        ".training.lock",
        "checkpoints/latest",
        *(f"{step}/{name}" for name in ("weights.safetensors", "best.safetensors", "state.pt", "manifest.json")),
    }
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert config["model"]["likelihood"] == "bernoulli"  # no auto is left
    assert config["data"]["transform"] == "binarise"
    assert config["model"]["net"]["kind"] == "mlp"
    facts = yaml.safe_load((run.path / "data.yaml").read_text())
    assert (facts["shape"], facts["target_shape"], facts["levels"]) == ([1, 8, 8], [1, 8, 8], 2)
    assert facts["class_names"] == list("0123456789")
    assert run.finished


def test_history_is_the_table(run: Run) -> None:
    with (run.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    history = run.history()
    assert [int(row["epoch"]) for row in rows] == history["epoch"] == [1, 2]
    assert history["step"] == [4, 8]
    assert history["lr"] == [1e-3, 1e-3]
    assert {"train/loss", "train/elbo", "train/rate", "train/distortion", "valid/elbo"} <= history.keys()
    for kind in ("train", "valid"):
        parts = zip(history[f"{kind}/elbo"], history[f"{kind}/distortion"], history[f"{kind}/rate"], strict=True)
        for elbo, distortion, rate in parts:
            assert elbo == pytest.approx(-distortion - rate, rel=1e-6)
    assert history["images_per_second"] == pytest.approx([128 / s for s in history["epoch_seconds"]])
    assert history["seconds"] == pytest.approx(np.cumsum(history["epoch_seconds"]).tolist())


def test_the_same_examples_again(run: Run) -> None:
    data, fresh = run.data(), load_data(run.config.data)
    for name, index in fresh.splits.items():
        assert torch.equal(data.splits[name], index)
    assert len(data.train) == 128


def test_model_needs_no_data(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise AssertionError("the data were asked for")

    monkeypatch.setattr(run_module, "load_data", gone)
    (run.path / "splits.npz").unlink()
    model = Run.open(str(run.path)).model()
    assert not model.training
    assert model.sample(3).shape == (3, 1, 8, 8)


def test_a_taken_directory_is_refused(run: Run, tmp_path: Path, tiny: Tiny) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"holds a run already: continue it with --resume"):
        fit(tiny(), run.path, quiet=True)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty directory"):
        fit(tiny(), other, quiet=True)
    with pytest.raises(ConfigError, match="not an empty directory"):
        fit(tiny(), other / "thesis.tex", quiet=True)
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


def test_an_impossible_configuration_leaves_no_directory(tmp_path: Path, tiny: Tiny) -> None:
    wrong = tiny(data={"name": "iris"}, model={"likelihood": "bernoulli"})
    with pytest.raises(ConfigError):
        fit(wrong, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"name": "iris", "limit": None}},
        {"model": {"likelihood": "discretised-logistic"}},
        {"model": {"likelihood": "gaussian", "sigma": 0.2}},
        {"data": {"transform": "binarise-static"}},
        {"model": {"kind": "autoencoder"}, "data": {"corruption": "gaussian"}},
    ],
)
def test_other_data_and_likelihoods(sections: dict[str, Any], tmp_path: Path, tiny: Tiny) -> None:
    run = fit(tiny(**sections), tmp_path / "run", quiet=True)
    x = run.data().test.batch(torch.arange(5)).x
    model = run.model()
    assert model.reconstruct(x).shape == x.shape
    assert resume(run.path, epochs=3, quiet=True).history()["epoch"] == [1, 2, 3]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_truncated_configuration_is_refused(share: float, run: Run) -> None:
    file = run.path / "config.yaml"
    text = file.read_text()
    file.write_text(text[: int(share * len(text))])
    with pytest.raises(CheckpointError, match=r"config\.yaml: "):
        Run.open(run.path)
    assert list_runs(run.path.parent) == []


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\xfe\x00", b"- 1\n", b"shape: [1, 8, 8]\n", b"shape: 3\n", b"FACTScondition_shape: 3\n"]
)
def test_damaged_facts(damage: bytes, run: Run) -> None:
    file = run.path / "data.yaml"
    file.write_bytes(damage.replace(b"FACTS", file.read_bytes()))
    with pytest.raises(CheckpointError, match=r"data\.yaml is missing or damaged"):
        run.model()


@pytest.mark.parametrize("condition", ["label", "x,radius", "upper-left", None])
def test_facts_say_what_the_model_is_told(condition: str | None, tmp_path: Path) -> None:
    data = load_data("circles", condition=condition, limit=50)
    written = DataFacts.of(data)
    written.write(tmp_path / "data.yaml")
    facts = DataFacts.read(tmp_path / "data.yaml")
    assert facts == written  # to the last digit
    assert facts.condition_shape == data.condition_shape
    assert facts.condition_names == data.condition_names
    if condition == "x,radius":
        columns = torch.cat([data.dataset.targets[name][data.splits["train"]] for name in ("x", "radius")], 1).double()
        assert facts.condition_mean == pytest.approx(columns.mean(0).tolist(), rel=1e-12)
        assert facts.condition_sd == pytest.approx(columns.std(0, correction=0).tolist(), rel=1e-12)
    else:
        assert facts.condition_mean == facts.condition_sd == ()


def test_facts_of_a_run_from_before_there_were_conditions(run: Run) -> None:
    kept = {"shape", "target_shape", "levels", "class_names"}
    file = run.path / "data.yaml"
    facts = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({key: value for key, value in facts.items() if key in kept}))
    assert run.facts == DataFacts((1, 8, 8), (1, 8, 8), 2, tuple("0123456789"))
    assert run.facts.condition_shape is None
    assert run.model().sample(2).shape == (2, 1, 8, 8)


def test_the_same_labels_are_known_again(tmp_path: Path) -> None:
    config = Config(
        data={"limit": 200, "condition": "label", "labelled": 30, "labelled_share": 0.5},
        model={"kind": "semi-supervised"},
    )
    data = load_data(config.data)
    again = Run.create(tmp_path / "run", config, data).data(transform="none")
    places = torch.arange(200)
    told, told_again = (part.train.batch(places).condition for part in (data, again))
    assert told is not None
    assert told_again is not None
    assert int(told.sum()) == 30
    assert torch.equal(told, told_again)
    assert again.train.epoch_length == data.train.epoch_length == 340


@pytest.mark.parametrize("kept", [0, 3, 0.5, 0.9])
def test_truncated_splits(kept: float, run: Run) -> None:
    file = run.path / "splits.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"splits\.npz is missing or damaged"):
        run.data()


@pytest.mark.parametrize("wrong", ["missing", "out of range", "overlap", "lacks a part", "no archive"])
def test_impossible_splits(wrong: str, run: Run) -> None:
    file = run.path / "splits.npz"
    with np.load(file) as saved:
        splits = dict(saved)
    if wrong == "missing":
        file.unlink()
    elif wrong == "no archive":
        with file.open("wb") as handle:
            np.save(handle, splits["train"])
    else:
        if wrong == "out of range":
            splits["train"][0] = 10**6
        elif wrong == "overlap":
            splits["valid"][0] = splits["train"][0]
        else:
            del splits["test"]
        np.savez(file, **splits)
    with pytest.raises(JensenError):
        run.data()


@pytest.mark.parametrize("damage", ["cut", "words", "bytes"])
def test_damaged_metrics(damage: str, run: Run) -> None:
    file = run.path / "metrics.csv"
    text = file.read_text()
    changed = {
        "cut": text[:-60].encode(),
        "words": text.replace("8,0.001", "8,x").encode(),
        "bytes": b"a,b\n\xff\xfe,2",
    }
    file.write_bytes(changed[damage])
    with pytest.raises(CheckpointError, match=r"metrics\.csv is damaged .* resuming the run writes it anew"):
        run.history()
    assert resume(run.path, epochs=3, quiet=True).history()["epoch"] == [1, 2, 3]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        Run.open(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is no run"):
        Run.open(tmp_path)


def test_list_of_runs(run: Run) -> None:
    root = run.path.parent
    (root / "broken").mkdir()
    (root / "broken" / "config.yaml").write_text("{")
    (root / "empty").mkdir()
    assert [found.path for found in list_runs(root)] == [run.path]
    assert list_runs(root / "none") == []


def test_finished_only_with_a_checkpoint_that_says_so(run: Run) -> None:
    (run.checkpoints / "latest").unlink()
    assert not run.finished


def test_one_trainer_at_a_time(run: Run) -> None:
    with run.training_alone(), pytest.raises(CheckpointError, match="being trained by another process"):
        resume(run.path, epochs=run.config.train.epochs + 1, quiet=True)
    resume(run.path, epochs=run.config.train.epochs + 1, quiet=True)  # the lock is free again


def test_an_evaluation_does_not_outlive_its_weights(run: Run) -> None:
    (run.path / "evaluation.json").write_text("{}", encoding="utf-8")
    resume(run.path, epochs=run.config.train.epochs + 1, quiet=True)
    assert not (run.path / "evaluation.json").exists()
