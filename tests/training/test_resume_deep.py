"""Runs of deep VAEs that were stopped and resumed end like those that never stopped, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jensen.config import Config
from jensen.training import Run, Trainer, fit, resume

Tiny = Callable[..., Config]
SameRuns = Callable[[Run, Run], None]
Case = dict[str, dict[str, Any]]

RISING = {"kind": "linear", "share": 0.6}
VECTORS = {"scales": ["3@8", "2@6"], "net": {"kind": "mlp", "width": None, "normalisation": "batch"}}
GRIDS = {"scales": ["2@4", "2@4"], "downsampling": 2, "stem": 1}
CELLS = {**GRIDS, "net": {"kind": "cells", "width": None, "depth": 1}, "spectral": 0.1}
ADAMAX = {"optimiser": "adamax", "lr": 1e-2, "decay": "cosine", "lr_min": 1e-4, "warmup_share": 0.25}
EVERYTHING: Case = {
    "model": {"kind": "nvae", **CELLS, "likelihood": "discretised-logistic-mixture"},
    "objective": {"kind": "balanced", "kl_weight": RISING},
    "train": {
        **ADAMAX,
        "ema": 0.9,
        "skip": 1.01,
        "clip": 100.0,
        "checkpointing": True,
        "precision": "bf16",
        "channels_last": True,
    },
}

CASES: dict[str, Case] = {
    "hvae": {"model": {"kind": "hvae", **VECTORS}, "objective": {"kl_weight": RISING}, "train": {"ema": 0.9}},
    "ladder": {
        "model": {"kind": "ladder", **VECTORS, "spectral": 0.1},
        "train": {"skip": 1.01, "precision": "bf16", "decay": "cosine", "lr_min": 1e-5},
    },
    "ladder, convolutions": {
        "model": {"kind": "ladder", **GRIDS, "net": {"kind": "conv", "width": None, "normalisation": "batch"}},
        "objective": {"kind": "free-bits", "samples": 2, "kl_weight": RISING},
        "train": {"ema": 0.8, "optimiser": "adamw"},
    },
    "hvae, cells": {
        "model": {"kind": "hvae", **CELLS},
        "objective": {"kind": "iwae", "samples": 2},
        "train": {**ADAMAX, "checkpointing": True},
    },
    "nvae": EVERYTHING,
}


def config_of(tiny: Tiny, case: str) -> Config:
    """As `tiny`, with what it says of the latent and the net of a VAE taken back."""
    sections = {name: dict(values) for name, values in CASES[case].items()}
    sections["model"]["latent"] = 16
    return tiny(**sections)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Callable[[str], Run]:
    """The run of each case that never stops, made once."""
    root = tmp_path_factory.mktemp("whole")
    runs: dict[str, Run] = {}

    def run(case: str) -> Run:
        if case not in runs:
            runs[case] = fit(config_of(tiny, case), root / case, quiet=True)
        return runs[case]

    return run


def stopped(config: Config, path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until `step` steps have been taken, and no further."""
    original = Trainer._step

    def patched(self: Trainer, batch: Any) -> None:
        original(self, batch)
        if self.position.step == step:
            self.stop.requested = True

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", patched)
        with pytest.raises(KeyboardInterrupt):
            fit(config, path, quiet=True)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [3, 6])
def test_a_deep_run_stopped_in_an_epoch(
    case: str,
    step: int,
    uninterrupted: Callable[[str], Run],
    tmp_path: Path,
    tiny: Tiny,
    same_runs: SameRuns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped(config_of(tiny, case), tmp_path / "parts", step, monkeypatch)
    same_runs(resume(tmp_path / "parts", quiet=True), uninterrupted(case))


@pytest.mark.parametrize("case", ["ladder", "nvae"])
def test_more_epochs_of_a_deep_run(case: str, tmp_path: Path, tiny: Tiny, same_runs: SameRuns) -> None:
    """Two epochs and then two more are four, where nothing is said in shares of the training."""
    config = config_of(tiny, case)
    steps = {"kind": "linear", "steps": 11}
    objective = type(config.objective)(**{**dict(config.objective), "kl_weight": steps})
    fixed = {"decay": "none", "lr_min": 0.0, "warmup_share": None, "warmup": 5}
    train = type(config.train)(**{**dict(config.train), **fixed})
    config = config.model_copy(update={"objective": objective, "train": train})
    longer = config.model_copy(update={"train": train.model_copy(update={"epochs": 4})})
    fit(config, tmp_path / "parts", quiet=True)
    parts = resume(tmp_path / "parts", epochs=4, quiet=True)
    same_runs(parts, fit(longer, tmp_path / "whole", quiet=True))
    assert len(parts.history()["epoch"]) == 4


def test_everything_was_at_work(uninterrupted: Callable[[str], Run]) -> None:
    """The run of which all is kept had something to keep."""
    run = uninterrupted("nvae")
    history = run.history()
    assert 0 < sum(uninterrupted("ladder").history()["train/skipped"]) < 8
    assert history["lr"][-1] < history["lr"][0]
    assert history["train/balanced_rate"][0] != pytest.approx(history["train/rate"][0], rel=1e-6)
    assert all(value > 0 for value in history["train/spectral"])
    checkpoint = next(run.checkpoints.glob("step-*"))
    vectors = [name for name in load_file(checkpoint / "weights.safetensors") if ".norms." in name]
    assert len(vectors) > 3


@pytest.mark.parametrize("case", ["ladder", "hvae, cells"])
def test_vectors_of_the_power_iteration_matter(
    case: str,
    uninterrupted: Callable[[str], Run],
    tmp_path: Path,
    tiny: Tiny,
    same_runs: SameRuns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Were they lost and drawn anew, the resumed run would be another one."""
    path = tmp_path / "parts"
    stopped(config_of(tiny, case), path, 3, monkeypatch)
    for file in path.rglob("weights.safetensors"):
        weights = load_file(file)
        for name in weights:
            if ".norms." in name:
                weights[name] = torch.nn.functional.normalize(torch.randn_like(weights[name]), dim=-1)
        save_file(weights, file)
        (file.parent / "manifest.json").unlink()  # which knows the weights as they were
    with pytest.raises(AssertionError):
        same_runs(resume(path, quiet=True), uninterrupted(case))
