"""Small runs of models whose code is integers, and of priors over those codes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.autoencoders.vqvae import VQVAE
from jensen.bound import Output
from jensen.config import Config, PriorConfig
from jensen.training import Run, Trainer, fit

CPU = torch.device("cpu")
STATIC = {"data": {"transform": "binarise-static"}}
RUNS: dict[str, dict[str, Any]] = {
    "static": STATIC,
    "binarised": {},
    "told": {"data": {"transform": "binarise-static", "condition": "label"}},
    "gumbel": {**STATIC, "model": {"quantiser": {"kind": "gumbel", "codes": 6, "dim": 4}}},
    "two levels": {**STATIC, "model": {"hierarchy": 2, "downsampling": 2}},
}


def tiny_vqvae(**sections: dict[str, Any]) -> Config:
    """128 digits, four codes of six values each, two steps."""
    base: dict[str, dict[str, Any]] = {
        "data": {"limit": 128},
        "model": {
            "kind": "vqvae",
            "quantiser": {"codes": 6, "dim": 4},
            "net": {"width": 4, "depth": 1},
        },
        "train": {"epochs": 1, "batch_size": 64, "accelerator": "cpu"},
    }
    return Config(**{name: {**values, **sections.get(name, {})} for name, values in base.items()})


def tiny_prior(
    seed: int = 0, condition: str | None = None, net: dict[str, Any] | None = None, **train: Any
) -> PriorConfig:
    """Four steps an epoch, two epochs."""
    return PriorConfig(
        seed=seed,
        condition=condition,
        net={"width": 8, "depth": 1, **(net or {})},
        train={"epochs": 2, "batch_size": 32, "accelerator": "cpu", **train},
    )


class Parents:
    """Runs without a prior by their names in `RUNS`, each trained once, to be copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Path] = {}

    def copy(self, name: str, path: Path) -> Run:
        """A run of one's own."""
        if name not in self.made:
            self.made[name] = fit(tiny_vqvae(**RUNS[name]), self.folder / name, quiet=True).path
        shutil.copytree(self.made[name], path)
        return Run.open(path)


def outputs(run: Run) -> tuple[VQVAE, Output, Any]:
    """Model with its prior, and what it says of the validation data."""
    model, batch = run.model(), run.data().valid.batch(torch.arange(100))
    assert isinstance(model, VQVAE)
    with torch.no_grad():
        return model, model(batch.x, batch.target, condition=batch.condition), batch


def required(value: Tensor | None) -> Tensor:
    """A tensor that is there."""
    assert value is not None
    return value


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask the trainer to stop once `step` steps have been taken."""
    original = Trainer._step

    def patched(self: Trainer, batch: Any) -> None:
        original(self, batch)
        if self.position.step == step:
            self.stop.requested = True

    monkeypatch.setattr(Trainer, "_step", patched)
