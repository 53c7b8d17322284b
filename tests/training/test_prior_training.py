"""A prior of a run's codes is trained, stopped and resumed like any model."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from code_runs import Parents, outputs, stop_after, tiny_prior

from jensen.autoencoders.vqvae import VQVAE
from jensen.config import Config
from jensen.data import load_data
from jensen.errors import CheckpointError, ConfigError, NonFiniteError
from jensen.training import PriorRun, Run, StalePriorWarning, fit_prior, list_runs, resume, resume_prior

SameRuns = Callable[[Any, Any], None]


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Parents:
    return Parents(tmp_path_factory.mktemp("parents"))


@pytest.fixture
def copied(parents: Parents, tmp_path: Path) -> Callable[..., Run]:
    """A run of one's own."""
    return lambda name="static", to="run": parents.copy(name, tmp_path / to)


def test_what_is_written_and_put_in_place(copied: Callable[..., Run]) -> None:
    run = copied()
    assert run.prior is None
    uniform = outputs(run)[1]
    assert float(uniform.rate().mean()) == pytest.approx(4 * math.log(6), rel=1e-5)
    (run.path / "evaluation.json").write_text("{}")
    found = fit_prior(run, tiny_prior(lr=0.01), quiet=True)
    assert not (run.path / "evaluation.json").exists()  # it was of uniform codes
    names = {str(path.relative_to(found.path)) for path in found.path.rglob("*") if path.is_file()}
    step = "checkpoints/step-00000008"
    weights = {f"{step}/{name}" for name in ("weights.safetensors", "best.safetensors", "state.pt", "manifest.json")}
    assert names == {"config.yaml", "data.yaml", "codes.yaml", "metrics.csv", "checkpoints/latest", *weights}
    assert found.finished
    assert (found.facts.shape, found.facts.levels, found.facts.condition_shape) == ((4,), 6, None)
    assert (found.codes.shapes, found.codes.levels) == (((1, 2, 2),), 6)
    opened = Run.open(run.path).prior
    assert opened == found
    model, output, _ = outputs(run)
    assert model.code_prior is not None
    assert not model.training
    assert torch.equal(output.log_likelihood(), uniform.log_likelihood())
    assert output.rate().mean() < uniform.rate().mean()


def test_the_score_is_the_rate_that_the_model_then_has(copied: Callable[..., Run]) -> None:
    run = copied("told")
    history = fit_prior(run, tiny_prior(lr=0.01), quiet=True).history()
    assert history["epoch"] == [1, 2]
    model, valid = run.model(), run.data().valid
    batch = valid.batch(torch.arange(len(valid)))
    with torch.no_grad():
        rate = float(model(batch.x, condition=batch.condition).rate().mean())
    best = max(history["valid/log_likelihood"])
    assert -best == pytest.approx(rate, rel=1e-5)
    assert history["valid/score"] == history["valid/log_likelihood"]
    for split in ("train", "valid"):
        for nats, bits in zip(history[f"{split}/log_likelihood"], history[f"{split}/bits_per_code"], strict=True):
            assert bits == pytest.approx(-nats / 4 / math.log(2), rel=1e-5)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "once": ("static", {}),
    "anew": ("binarised", {"condition": "label"}),
    "drawn": ("gumbel", {}),
    "two levels": ("two levels", {"ema": 0.9, "clip": 0.1, "warmup": 3, "decay": "none"}),
    "dropout": ("told", {"net": {"kind": "transformer", "heads": 2, "dropout": 0.2}}),
    "bf16": ("binarised", {"precision": "bf16"}),
}


@pytest.mark.parametrize("case", CASES)
def test_stopped_and_resumed(
    case: str, copied: Callable[..., Run], same_runs: SameRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, choices = CASES[case]
    whole = fit_prior(copied(name, "whole"), tiny_prior(**choices), quiet=True)
    run = copied(name, "parts")
    for step in (3, 4, 6):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(KeyboardInterrupt):
                fit_prior(run, tiny_prior(**choices), quiet=True) if step == 3 else resume_prior(run, quiet=True)
        assert not PriorRun.open(run.path / "prior").finished
    same_runs(resume_prior(run, quiet=True), whole)


def test_more_epochs(copied: Callable[..., Run], same_runs: SameRuns) -> None:
    whole = fit_prior(copied(to="whole"), tiny_prior(epochs=4, decay="none"), quiet=True)
    run = copied(to="parts")
    fit_prior(run.path, tiny_prior(decay="none"), quiet=True)
    for epochs, said in ((None, r"is finished \(2 epochs\)"), (1, "2 epochs already")):
        with pytest.raises(CheckpointError, match=said):
            resume_prior(run.path, epochs=epochs, quiet=True)
    same_runs(resume_prior(run.path, epochs=4, quiet=True), whole)
    assert PriorRun.open(run.path / "prior").config == whole.config


def test_a_stop_says_how_to_go_on_and_what_there_is_until_then(
    copied: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            fit_prior(run, tiny_prior())
    assert f"jensen train prior --resume {run.path}\n" in capsys.readouterr().err
    with pytest.warns(StalePriorWarning, match="no epoch behind it"):
        assert isinstance(model := run.model(), VQVAE)
    assert model.code_prior is None
    resume_prior(run, quiet=True)
    assert isinstance(model := run.model(), VQVAE)
    assert model.code_prior is not None


SLOW = """
import sys, time
from jensen.config import PriorConfig
from jensen.training import Trainer, fit_prior
original = Trainer._step
def step(self, batch):
    original(self, batch)
    print(self.position.step, flush=True)
    time.sleep(0.03)
Trainer._step = step
fit_prior(sys.argv[1], PriorConfig(**eval(sys.argv[2])), quiet=True)
"""


def test_control_c_and_another_process(copied: Callable[..., Run], same_runs: SameRuns) -> None:
    run = copied()
    config = tiny_prior(epochs=12)
    command = [sys.executable, "-c", SLOW, str(run.path), repr(config.model_dump())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, bufsize=1
    )
    assert process.stdout is not None
    assert any(int(line) >= 6 for line in process.stdout), process.communicate()[1]
    before = {path: path.read_bytes() for path in run.path.rglob("*.yaml")}
    with pytest.raises(CheckpointError, match="being trained by another process"):
        fit_prior(run, config, replace=True, quiet=True)
    with pytest.raises(CheckpointError, match="being trained by another process"):
        resume(run.path, epochs=3, quiet=True)  # the codes would change under it
    assert {path: path.read_bytes() for path in run.path.rglob("*.yaml")} == before
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    stopped = PriorRun.open(run.path / "prior")
    assert 6 <= int(next(stopped.checkpoints.glob("step-*")).name[5:]) < 48
    same_runs(resume_prior(run, quiet=True), fit_prior(copied(to="whole"), config, quiet=True))


def test_only_of_integer_codes_and_only_once(copied: Callable[..., Run], tmp_path: Path) -> None:
    vae = Run.create(tmp_path / "vae", config := Config(), load_data(config.data))
    with pytest.raises(ConfigError, match=r"integer codes, those of model vqvae, but \S+ is a vae"):
        fit_prior(vae, quiet=True)
    with pytest.raises(ConfigError, match="is a vae"):
        resume_prior(vae, quiet=True)
    run = copied()
    with pytest.raises(CheckpointError, match=r"has no prior: jensen train prior --run"):
        resume_prior(run, quiet=True)
    with pytest.raises(CheckpointError, match=r"no prior over codes: jensen train prior --run"):
        run.model(prior=True)
    fit_prior(run, tiny_prior(), quiet=True)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"has a prior already: .* --resume \S+, or train anew with --replace"):
        fit_prior(run, tiny_prior(), quiet=True)
    for wrong in (tiny_prior(condition="colour"), tiny_prior(warmup=1000), tiny_prior(batch_size=9, devices=2)):
        with pytest.raises(ConfigError):
            fit_prior(run, wrong, replace=True, quiet=True)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    other = fit_prior(run, tiny_prior(1), replace=True, quiet=True)
    assert other.config.seed == 1
    assert {path.name for path in run.path.iterdir()} >= {"prior"}
    assert list(run.path.glob(".writing-*")) == []


def test_what_is_no_prior_is_let_alone(copied: Callable[..., Run]) -> None:
    run = copied()
    (run.path / "prior").mkdir()
    (run.path / "prior" / "notes.txt").write_text("mine")
    assert run.prior is None
    for replace in (False, True):
        with pytest.raises(ConfigError, match="is in the way, and no prior"):
            fit_prior(run, tiny_prior(), replace=replace, quiet=True)
    assert (run.path / "prior" / "notes.txt").read_text() == "mine"


def test_a_prior_is_no_run(copied: Callable[..., Run]) -> None:
    run = copied()
    fit_prior(run, tiny_prior(), quiet=True)
    assert [found.path for found in list_runs(run.path.parent)] == [run.path]
    assert list_runs(run.path) == []
    with pytest.raises(CheckpointError, match=f"is the prior over the codes of a run: name the run, {run.path}"):
        Run.open(run.path / "prior")


def test_a_far_too_large_rate_leaves_a_good_checkpoint(copied: Callable[..., Run]) -> None:
    run = copied()
    with pytest.raises(NonFiniteError, match="good checkpoint is kept"):
        fit_prior(run, tiny_prior(lr=1e30, clip=None), quiet=True)
    prior = PriorRun.open(run.path / "prior")
    assert not prior.finished
    assert all(bool(torch.isfinite(part).all()) for part in prior.model().parameters())


TOGETHER = """
import sys
from pathlib import Path
from jensen.config import PriorConfig
from jensen.training import fit_prior
assert fit_prior(sys.argv[2], PriorConfig.from_yaml(Path(sys.argv[1])), replace=True, quiet=True).finished
"""


def test_two_processes_make_one_prior(copied: Callable[..., Run], tmp_path: Path) -> None:
    run = copied("binarised")
    fit_prior(run, tiny_prior(), quiet=True)  # to be replaced
    config = tiny_prior(condition="label", devices=2, strategy="ddp")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    (tmp_path / "script.py").write_text(TOGETHER)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "config.yaml"), str(run.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    prior = run.prior
    assert prior is not None
    assert prior.config == config
    assert prior.history()["step"] == [4, 8]  # 128 examples, 16 a step and process
    assert run.model(prior=True).sample(1, condition=torch.tensor([3])).shape == (1, 1, 8, 8)
