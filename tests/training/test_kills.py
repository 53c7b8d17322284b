"""Processes that are killed, told to stop, or two at a time: what they leave is whole, and training ends the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import Child, Forks

from jensen.training import Run, load_checkpoint
from jensen.training.prior_run import PriorRun

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SameRuns = Callable[[Run, Run], None]

SMALL = ("--data", "digits", "--limit", "128", "--net-width", "8", "--accelerator", "cpu")
VAE = (*SMALL, "--latent", "2", "--batch-size", "32")
KEPT = (*VAE, "--ema", "0.9", "--decay", "plateau", "--lr", "0.01", "--skip", "1.2", "--clip", "5", "--epochs", "60")
CODES = ("--model", "vqvae", "--quantiser-codes", "6", "--quantiser-dim", "4", "--downsampling", "2")
VQVAE = (*SMALL, *CODES, "--batch-size", "64", "--epochs", "1", "--transform", "binarise-static")
PRIOR = ("--net-width", "8", "--net-depth", "1", "--batch-size", "32", "--accelerator", "cpu", "--epochs")
NEVER = 1e9


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: a checkpoint a step is then cheap."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as server:
        yield server


def _wait(until: Callable[[], bool], child: Child) -> None:
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end, child.said
        time.sleep(0.0005)


class Killer:
    """Begins a command, kills it, goes on with what goes on, and so forth.

    Args:
        begin: words that begin the training, also over what a kill before the first checkpoint has left.
        go_on: words that go on with it.
        checkpoints: where these are written.
        chance: of when.
    """

    def __init__(
        self,
        forks: Forks,
        begin: Callable[[], tuple[object, ...]],
        go_on: tuple[object, ...],
        checkpoints: Path,
        chance: random.Random,
    ) -> None:
        self.forks, self.begin, self.go_on, self.checkpoints, self.chance = forks, begin, go_on, checkpoints, chance
        self.latest = checkpoints / "latest"
        self.early = 0  # kills before the first checkpoint
        self.unfinished = 0  # kills while something was being written

    def words(self) -> tuple[object, ...]:
        return self.go_on if self.latest.exists() else self.begin()

    def kill(self) -> None:
        """One kill: at any moment from the start on, soon after a checkpoint, or while one is written."""
        before = self.stamp()
        way = self.chance.random()
        if way < 0.5:
            child = self.forks.start(*self.words(), syncs=self.chance.randint(1, 40))
        else:
            child = self.forks.start(*self.words())
            if way < 0.7:
                time.sleep(self.chance.uniform(0, 0.2))
            else:
                _wait(lambda: self.stamp() != before, child)
                time.sleep(self.chance.uniform(0, 0.04))
            child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, child.said
        self.early += not self.latest.exists()
        self.unfinished += self.writing()
        if self.latest.exists():
            load_checkpoint(self.checkpoints)  # every time

    def stamp(self) -> int:
        try:
            return self.latest.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def writing(self) -> bool:
        return any(self.checkpoints.glob(".writing-*"))

    def finish(self) -> None:
        code, said = self.forks.run(*self.words(), between=NEVER)
        assert code == 0, said


def test_killed_twenty_times_it_ends_with_the_same_weights(forks: Forks, folder: Path, same_runs: SameRuns) -> None:
    path, whole = folder / "killed", folder / "whole"

    def begin() -> tuple[object, ...]:
        shutil.rmtree(path, ignore_errors=True)
        return "train", *KEPT, "--run", path

    killer = Killer(forks, begin, ("train", "--resume", path), path / "checkpoints", random.Random(0))
    for _ in range(20):
        killer.kill()
    assert not Run.open(path).finished  # every kill was of a training under way
    assert killer.unfinished >= 3
    killer.finish()
    assert forks.run("train", *KEPT, "--run", whole, between=NEVER)[0] == 0
    found, expected = Run.open(path), Run.open(whole)
    same_runs(found, expected)
    assert found.history()["epoch"] == [float(epoch) for epoch in range(1, 61)]
    assert (path / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()
    assert not list(path.rglob(".writing-*"))


def test_a_prior_killed_eight_times(forks: Forks, folder: Path, same_runs: Callable[..., None]) -> None:
    path, whole = folder / "killed", folder / "whole"
    assert forks.run("train", *VQVAE, "--run", path, between=NEVER)[0] == 0
    shutil.copytree(path, whole)
    prior = path / "prior"

    def begin() -> tuple[object, ...]:
        again = ("--replace",) if prior.exists() else ()
        return "train", "prior", "--run", path, *PRIOR, "25", *again

    killer = Killer(forks, begin, ("train", "prior", "--resume", path), prior / "checkpoints", random.Random(1))
    for _ in range(8):
        killer.kill()
    assert not PriorRun.open(prior).finished
    killer.finish()
    code, said = forks.run("train", "prior", "--run", whole, *PRIOR, "25", between=NEVER)
    assert code == 0, said
    same_runs(PriorRun.open(prior), PriorRun.open(whole / "prior"))
    assert not list(path.rglob(".writing-*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_it_says_how_to_go_on(
    number: signal.Signals, code: int, forks: Forks, folder: Path, same_runs: SameRuns
) -> None:
    path, whole, flags = folder / "asked", folder / "whole", (*VAE, "--epochs", "30")
    child = forks.start("train", *flags, "--run", path, between=NEVER)
    child.wait_for(path / "metrics.csv")
    child.send(number)
    assert child.wait() == code
    assert f"stopped. To go on: jensen train --resume {path}" in child.said
    assert "Traceback" not in child.said
    assert forks.run("train", "--resume", path, between=NEVER)[0] == 0
    assert forks.run("train", *flags, "--run", whole, between=NEVER)[0] == 0
    same_runs(Run.open(path), Run.open(whole))


def test_two_processes_do_not_train_one_run(forks: Forks, folder: Path) -> None:
    path = folder / "codes"
    assert forks.run("train", *VQVAE, "--run", path, between=NEVER)[0] == 0
    refusal = f"jensen: error: {path} is being trained by another process; wait for it or stop it\n"
    long = ("--epochs", "5000")

    first = forks.start("train", "--resume", path, "--epochs", "6000", between=NEVER)
    _wait(lambda: len((path / "metrics.csv").read_text().splitlines()) > 2, first)
    for words in (("train", "--resume", path, *long), ("train", "prior", "--run", path, *PRIOR, "25")):
        assert forks.run(*words) == (2, refusal)
    assert not (path / "prior").exists()
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL

    # what the killed one left behind is no obstacle
    learner = forks.start("train", "prior", "--run", path, *PRIOR, "5000", between=NEVER)
    learner.wait_for(path / "prior" / "metrics.csv")
    for words in (("prior", "--resume", path), ("prior", "--run", path, "--replace"), ("--resume", path, *long)):
        assert forks.run("train", *words) == (2, refusal)
    learner.send(signal.SIGTERM)
    assert learner.wait() == 143
    assert f"To go on: jensen train prior --resume {path}" in learner.said


def test_a_run_that_cannot_be_locked(forks: Forks, folder: Path) -> None:
    path = folder / "run"
    assert forks.run("train", *VAE, "--epochs", "1", "--run", path, between=NEVER)[0] == 0
    (path / ".training.lock").unlink(missing_ok=True)
    (path / ".training.lock").mkdir()
    code, said = forks.run("train", "--resume", path, "--epochs", "2", between=NEVER)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"jensen: error: {path} cannot be locked for training (")
    assert said.endswith("it has to be a folder that can be written\n")


def test_a_limit_at_any_byte_is_one_line_and_training_goes_on(forks: Forks, folder: Path, same_runs: SameRuns) -> None:
    """The system refuses what a file would have beyond so many bytes, in the middle of a write."""
    begin = ("train", *VAE, "--epochs")
    first, whole = folder / "first", folder / "whole"
    for path, epochs in ((first, "2"), (whole, "4")):
        assert forks.run(*begin, epochs, "--run", path, between=NEVER)[0] == 0
    kept = next((first / "checkpoints").glob("step-*"))
    sizes = {file.name: file.stat().st_size for file in (*kept.iterdir(), first / "metrics.csv", first / "config.yaml")}
    limits = [sizes["config.yaml"] - 1, sizes["weights.safetensors"] - 1, sizes["state.pt"] - 1]
    told = set()
    for limit in limits:
        path = folder / str(limit)
        shutil.copytree(first, path)
        code, said = forks.run("train", "--resume", path, "--epochs", "4", between=NEVER, largest=limit)
        last = said.splitlines()[-1]
        assert code == 2, said
        assert last.startswith(f"jensen: error: {'' if 'cannot write' not in last else 'cannot write a checkpoint'}")
        assert "File too large" in last or "could not be written" in last or "Error while serializing" in last
        assert "make room" in last
        assert "Traceback" not in said
        told.add(last.split(str(path))[-1].split()[0])
        load_checkpoint(path / "checkpoints")
        assert not list(path.rglob(".writing-*"))
        code, said = forks.run("train", "--resume", path, "--epochs", "4", between=NEVER)
        if code:  # what was to be changed was changed before there was no room
            code, said = forks.run("train", "--resume", path, "--epochs", "5", between=NEVER)
        assert code == 0, said
        found = Run.open(path)
        if len(found.history()["epoch"]) == 4:
            same_runs(found, Run.open(whole))
    assert told == {"/checkpoints:"}  # which is written before anything else says that there will be more epochs


QUICK = """
import sys
from jensen.cli import main
from jensen.training import loop
loop.SECONDS_BETWEEN_CHECKPOINTS = 0.0
sys.exit(main())
"""


@pytest.mark.soak
def test_killed_two_hundred_times(tmp_path: Path, same_runs: SameRuns) -> None:
    """The command line itself, each time from its start."""
    path, whole, chance = tmp_path / "killed", tmp_path / "whole", random.Random(2)
    flags = (*KEPT[:-1], "400")
    checkpoints = path / "checkpoints"
    unfinished = 0

    def start(*words: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", QUICK, "train", *map(str, words)], stderr=subprocess.DEVNULL)

    def words() -> tuple[object, ...]:
        if (checkpoints / "latest").exists():
            return "--resume", path
        shutil.rmtree(path, ignore_errors=True)
        return *flags, "--run", path

    for _ in range(200):
        before = sorted(checkpoints.glob("step-*"))
        process = start(*words())
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0, 5))
        else:
            while sorted(checkpoints.glob("step-*")) == before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        unfinished += any(checkpoints.glob(".writing-*"))
        if (checkpoints / "latest").exists():
            load_checkpoint(checkpoints)
    assert unfinished >= 20
    assert start(*words()).wait() == 0
    assert start(*flags, "--run", whole).wait() == 0
    same_runs(Run.open(path), Run.open(whole))
