"""A model with a codebook that was stopped in an epoch ends like one that never stopped, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from code_runs import stop_after, tiny_vqvae

from jensen.autoencoders.vqvae import VQVAE
from jensen.config import Config
from jensen.training import Run, fit, resume

SameRuns = Callable[[Run, Run], None]
# 64 codes for the 128 features of a batch: in every step some are used too little, and are moved.
CODES = {"codes": 64, "dim": 4, "revival": 0.5}
CASES: dict[str, dict[str, Any]] = {
    "moving averages": {"model": {"quantiser": CODES}},
    "averaged weights": {"model": {"quantiser": CODES}, "train": {"ema": 0.9}},
    "by loss": {"model": {"quantiser": {**CODES, "codebook": "loss"}}},
    "books": {"model": {"quantiser": {**CODES, "kind": "residual", "books": 2, "cosine": True}}},
    "two levels": {"model": {"quantiser": CODES, "hierarchy": 2, "downsampling": 2}, "train": {"ema": 0.9}},
}


def config(case: str, **quantiser: Any) -> Config:
    """Four steps an epoch, two epochs; the first step starts the codebook."""
    sections = CASES[case]
    model = {"kind": "vqvae", "net": {"width": 4, "depth": 1}, **sections["model"]}
    train = {"epochs": 2, "batch_size": 32, "accelerator": "cpu", **sections.get("train", {})}
    return tiny_vqvae(model={**model, "quantiser": {**model["quantiser"], **quantiser}}, train=train)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run of each case that never stops, made once."""
    root, runs = tmp_path_factory.mktemp("whole"), dict[str, Run]()

    def run(case: str) -> Run:
        if case not in runs:
            runs[case] = fit(config(case), root / case, quiet=True)
        return runs[case]

    return run


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("steps", [(1,), (2, 3, 6)], ids=["once", "again and again"])
def test_stopped_in_an_epoch(
    case: str,
    steps: tuple[int, ...],
    uninterrupted: Callable[[str], Run],
    tmp_path: Path,
    same_runs: SameRuns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "parts"
    for step in steps:
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(KeyboardInterrupt):
                resume(path, quiet=True) if path.exists() else fit(config(case), path, quiet=True)
        assert not Run.open(path).finished
    same_runs(resume(path, quiet=True), uninterrupted(case))


@pytest.mark.parametrize("case", ["moving averages", "by loss"])
def test_codes_are_moved_in_these_runs(case: str, uninterrupted: Callable[[str], Run], tmp_path: Path) -> None:
    """What is resumed above has a history to get wrong: without revival, or another start, it ends elsewhere."""

    def codebook(run: Run) -> torch.Tensor:
        model = run.model("last")
        assert isinstance(model, VQVAE)
        return model.state_dict()["quantiser.quantisers.0.codebook.embedding"]

    found = codebook(uninterrupted(case))
    for name, others in (("still", {"revival": 0.0}), ("random", {"initial": "random"})):
        other = codebook(fit(config(case, **others), tmp_path / name, quiet=True))
        assert float(((found - other).abs().amax(1) > 1e-3).float().mean()) > 0.2, name
