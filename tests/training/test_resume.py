"""A run that was stopped and resumed ends like one that never stopped, bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jensen.config import Config
from jensen.errors import CheckpointError
from jensen.training import Run, Trainer, fit, resume

Tiny = Callable[..., Config]
SameRuns = Callable[[Run, Run], None]

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "vae": {},
    "everything kept": {"train": {"ema": 0.9, "clip": 1.0, "warmup": 3, "optimiser": "adamw", "weight_decay": 0.1}},
    "batch normalisation": {"model": {"net": {"kind": "conv", "width": 4, "normalisation": "batch"}}},
    "ema of batch normalisation": {
        "model": {"net": {"width": 8, "normalisation": "batch"}},
        "train": {"ema": 0.8, "optimiser": "adamax"},
    },
    "plateau": {"train": {"decay": "plateau", "plateau_patience": 1, "lr": 0.5, "patience": 50}},
    "steps left out": {"train": {"skip": 1.05, "clip": 5.0, "ema": 0.9, "decay": "plateau"}},
    "iwae": {"objective": {"kind": "iwae", "samples": 3}},
    "kl warm-up": {"objective": {"kl": "monte-carlo", "kl_weight": {"kind": "linear", "steps": 11}}},
    "capacity": {"objective": {"kind": "capacity", "max_capacity": 3.0, "capacity_steps": 7}},
    "total correlation": {"objective": {"kind": "total-correlation", "samples": 2}},
    "discriminator": {
        "objective": {"kind": "factor", "discriminator_width": 8, "discriminator_depth": 2, "discriminator_lr": 0.01},
        "train": {"ema": 0.9, "clip": 1.0, "warmup": 3},
    },
    "draws of the prior": {"objective": {"kind": "mmd", "kl_weight": {"kind": "cyclical", "steps": 6, "cycles": 2}}},
    "denoising": {"model": {"kind": "autoencoder"}, "data": {"corruption": "salt-and-pepper"}},
    "sigma of the batch": {"model": {"likelihood": "gaussian-optimal"}, "train": {"ema": 0.9}},
    "dequantised": {"data": {"transform": "dequantise"}, "model": {"likelihood": "gaussian-learned"}},
    "bf16": {"train": {"precision": "bf16", "channels_last": True}, "model": {"net": {"kind": "conv", "width": 4}}},
}


@pytest.mark.parametrize("case", CASES)
def test_more_epochs(case: str, tmp_path: Path, tiny: Tiny, same_runs: SameRuns) -> None:
    sections = CASES[case]
    train = sections.get("train", {})
    whole = fit(tiny(**{**sections, "train": {**train, "epochs": 4}}), tmp_path / "whole", quiet=True)
    fit(tiny(**sections), tmp_path / "parts", quiet=True)
    parts = resume(tmp_path / "parts", epochs=4, quiet=True)
    same_runs(parts, whole)
    assert len(parts.history()["epoch"]) == 4
    assert Run.open(parts.path).config == whole.config


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Callable[[str], Run]:
    """The run of each case that never stops, made once."""
    root = tmp_path_factory.mktemp("whole")
    runs: dict[str, Run] = {}

    def run(case: str) -> Run:
        if case not in runs:
            runs[case] = fit(tiny(**CASES[case]), root / case, quiet=True)
        return runs[case]

    return run


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask the trainer to stop once `step` steps have been taken."""
    original = Trainer._step

    def patched(self: Trainer, batch: Any) -> None:
        original(self, batch)
        if self.position.step == step:
            self.stop.requested = True

    monkeypatch.setattr(Trainer, "_step", patched)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [1, 4, 6])
def test_stopped_in_an_epoch(
    case: str,
    step: int,
    uninterrupted: Callable[[str], Run],
    tmp_path: Path,
    tiny: Tiny,
    same_runs: SameRuns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(**CASES[case]), tmp_path / "parts", quiet=True)
    assert not Run.open(tmp_path / "parts").finished
    same_runs(resume(tmp_path / "parts", quiet=True), uninterrupted(case))


def test_stopped_again_and_again(
    tmp_path: Path, tiny: Tiny, same_runs: SameRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(train={"ema": 0.9})
    whole = fit(config, tmp_path / "whole", quiet=True)
    for step in range(1, 9):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(KeyboardInterrupt):
                resume(tmp_path / "parts", quiet=True) if step > 1 else fit(config, tmp_path / "parts", quiet=True)
    same_runs(resume(tmp_path / "parts", quiet=True), whole)


def test_the_stop_says_how_to_go_on(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(), tmp_path / "run")
    assert f"jensen train --resume {tmp_path / 'run'}" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["nothing", "unnamed", "half"])
def test_killed_before_its_first_checkpoint(
    left: str, tmp_path: Path, tiny: Tiny, same_runs: SameRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings are there, and nothing else or what was being written: it begins, as it would have."""
    config = tiny(model={"prior": "vampprior", "components": 3}, train={"ema": 0.9})
    whole = fit(config, tmp_path / "whole", quiet=True)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", lambda _: None)
        fit(config, tmp_path / "parts", quiet=True)
    names = {"nothing": "", "unnamed": "step-00000000", "half": ".writing-x"}
    (tmp_path / "parts" / "checkpoints" / names[left]).mkdir(parents=True)
    same_runs(resume(tmp_path / "parts", quiet=True), whole)


def test_a_lost_checkpoint_is_no_beginning(tmp_path: Path, tiny: Tiny) -> None:
    run = fit(tiny(), tmp_path / "run", quiet=True)
    shutil.rmtree(run.checkpoints)
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        resume(run.path, epochs=9, quiet=True)


def test_nothing_left_to_do(run: Run) -> None:
    with pytest.raises(CheckpointError, match=r"is finished \(2 epochs\)"):
        resume(run.path, quiet=True)
    for epochs in (1, 2):
        with pytest.raises(CheckpointError, match="2 epochs"):
            resume(run.path, epochs=epochs, quiet=True)
    with pytest.raises(CheckpointError, match="does not exist"):
        resume(run.path / "none", quiet=True)


def test_seeds(tmp_path: Path, tiny: Tiny, same_runs: SameRuns) -> None:
    runs = [fit(tiny(seed), tmp_path / str(i), quiet=True) for i, seed in enumerate((5, 5, 6))]
    same_runs(runs[0], runs[1])
    with pytest.raises(AssertionError):
        same_runs(runs[0], runs[2])


SLOW = """
import sys, time
from pathlib import Path
from jensen.config import Config
from jensen.training import Trainer, fit, loop, resume
path = Path(sys.argv[1])
loop.SECONDS_BETWEEN_CHECKPOINTS = float(sys.argv[2])
original = Trainer._step
def step(self, batch):
    original(self, batch)
    print(self.position.step, flush=True)
    time.sleep(0.004)
Trainer._step = step
if (path / "config.yaml").exists():
    resume(path, quiet=True)
else:
    fit(Config.from_yaml(path.with_suffix(".yaml")), path, quiet=True)
"""


def start(path: Path, between: float = 1e9) -> subprocess.Popen[str]:
    """Train in another process, four milliseconds a step at least, with so many seconds between checkpoints."""
    command = [sys.executable, "-c", SLOW, str(path), str(between)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, bufsize=1
    )


def read_until(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= step:
            return
    raise AssertionError(process.communicate()[1])


def long_config(tiny: Tiny, path: Path) -> Config:
    config = tiny(train={"epochs": 25, "ema": 0.9})  # a hundred steps
    path.with_suffix(".yaml").write_text(config.to_yaml())
    return config


def test_control_c(tmp_path: Path, tiny: Tiny, same_runs: SameRuns) -> None:
    path = tmp_path / "parts"
    config = long_config(tiny, path)
    process = start(path)
    read_until(process, 10)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert process.returncode != 0
    stopped = Run.open(path)
    assert 10 <= int(next(stopped.checkpoints.glob("step-*")).name[5:]) < 100
    same_runs(resume(path, quiet=True), fit(config, tmp_path / "whole", quiet=True))


def kill_until_done(path: Path, chance: random.Random, at_most: int) -> int:
    """Kill training without warning after random steps and times, again and again; the number of kills."""
    kills = 0
    while True:
        process = start(path, between=0.0)
        done = int(next(iter(process.stdout)))  # type: ignore[arg-type]
        if kills == at_most:
            assert process.communicate(timeout=120) is not None
            assert process.returncode == 0
            return kills
        target = done + chance.randrange(1, 30)
        try:
            read_until(process, target)
        except AssertionError:
            return kills
        time.sleep(chance.random() * 0.02)
        process.kill()
        process.communicate()
        kills += 1


@pytest.mark.soak  # test_kills.py does this twenty times for less
def test_kill_without_warning(tmp_path: Path, tiny: Tiny, same_runs: SameRuns) -> None:
    path = tmp_path / "parts"
    config = long_config(tiny, path)
    assert kill_until_done(path, random.Random(0), at_most=1) == 1
    parts = Run.open(path)
    same_runs(parts, fit(config, tmp_path / "whole", quiet=True))
    assert sorted(file.name for file in path.rglob(".writing-*")) == []


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_many_kills(seed: int, tmp_path: Path, tiny: Tiny, same_runs: SameRuns) -> None:
    path = tmp_path / "parts"
    config = long_config(tiny, path)
    kill_until_done(path, random.Random(seed), at_most=8)
    same_runs(Run.open(path), fit(config, tmp_path / "whole", quiet=True))
