"""Small runs, and what it means that two of them are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jensen.config import Config
from jensen.training import Run, load_checkpoint

TIMES = {"seconds", "epoch_seconds", "images_per_second"}
TINY: dict[str, dict[str, Any]] = {
    "data": {"limit": 128},
    "model": {"latent": 2, "net": {"width": 8}},
    "objective": {},
    "train": {"epochs": 2, "batch_size": 32, "accelerator": "cpu"},
}


def tiny_config(seed: int = 0, **sections: dict[str, Any]) -> Config:
    """A VAE on 128 digits, four steps an epoch, two epochs; `sections` change or add keys."""
    merged = {name: {**values, **sections.pop(name, {})} for name, values in TINY.items()}
    assert not sections
    return Config(seed=seed, **merged)


def require_same(found: object, expected: object, where: str) -> None:
    """Equal to the last bit, times aside."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys(), where
        for key in expected.keys() - TIMES:
            require_same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        assert isinstance(found, list | tuple)
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            require_same(a, b, f"{where}/{i}")
    elif isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


def require_same_runs(found: Run, expected: Run) -> None:
    """Weights, their average, the best ones, optimiser, learning rate, random state and metrics."""
    paths = [next(run.checkpoints.glob("step-*")) for run in (found, expected)]
    files = [{file.name for file in path.iterdir()} for path in paths]
    assert files[0] == files[1]
    for name in files[0] - {"state.pt", "manifest.json"}:
        require_same(*(load_file(path / name) for path in paths), name)
    states = [load_checkpoint(run.checkpoints).state for run in (found, expected)]
    require_same(states[0], states[1], "state")
    require_same(found.history(), expected.history(), "history")
    assert found.finished == expected.finished


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Config]:
    return tiny_config


@pytest.fixture(scope="session")
def same_runs() -> Callable[[Run, Run], None]:
    return require_same_runs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished small run."""
    from jensen.training import fit

    return fit(tiny_config(), tmp_path / "run", quiet=True)
