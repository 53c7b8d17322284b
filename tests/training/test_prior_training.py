"""A prior of a run's codes is trained, stopped and resumed like any model, and put in place where it fits."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jensen.autoencoders.vqvae import VQVAE
from jensen.bound import Output
from jensen.config import Config, PriorConfig
from jensen.data import load_data
from jensen.errors import CheckpointError, ConfigError, NonFiniteError
from jensen.training import (
    PriorRun,
    Run,
    StalePriorWarning,
    Trainer,
    fit,
    fit_prior,
    list_runs,
    resume,
    resume_prior,
)
from jensen.training.codes import CodeSplit, code_data
from jensen.training.prior_run import digest

SameRuns = Callable[[Any, Any], None]
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


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs without a prior, each trained once; to be copied."""
    root, made = tmp_path_factory.mktemp("parents"), {}

    def parent(name: str) -> Path:
        if name not in made:
            made[name] = fit(tiny_vqvae(**RUNS[name]), root / name, quiet=True).path
        return made[name]

    return parent


@pytest.fixture
def copied(parents: Callable[[str], Path], tmp_path: Path) -> Callable[..., Run]:
    """A run of one's own."""

    def copy(name: str = "static", to: str = "run") -> Run:
        shutil.copytree(parents(name), tmp_path / to)
        return Run.open(tmp_path / to)

    return copy


def outputs(run: Run) -> tuple[VQVAE, Output, Any]:
    """Model with its prior, and what it says of the validation data."""
    model, batch = run.model(), run.data().valid.batch(torch.arange(100))
    assert isinstance(model, VQVAE)
    with torch.no_grad():
        return model, model(batch.x, batch.target, condition=batch.condition), batch


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
    weights = {f"{step}/{name}" for name in ("weights.safetensors", "best.safetensors", "state.pt")}
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


@pytest.mark.parametrize("name", ["static", "told", "two levels"])
def test_codes_as_data(name: str, copied: Callable[..., Run]) -> None:
    run = copied(name)
    model, images = run.model(), run.data()
    assert isinstance(model, VQVAE)
    codes = code_data(model, images, CPU)
    assert not isinstance(codes.train, CodeSplit)  # made once
    assert (codes.shape, codes.levels, codes.transform) == ((model.latent,), 6, "none")
    for part, own in ((codes.train, images.train), (codes.valid, images.valid), (codes.test, images.test)):
        places = torch.tensor([len(own) - 1, 0, 7])
        batch, seen = part.batch(places), own.batch(places)
        expected = model.encode(seen.x, seen.condition)
        assert batch.x.dtype == torch.float32
        assert torch.equal((batch.x * 5).round().long(), expected)
        assert batch.target is batch.x
        assert torch.equal(_required(batch.label), _required(seen.label))
        if name == "told":
            assert torch.equal(_required(batch.condition), _required(seen.condition))
    seen_levels: list[tuple[int, int]] = []
    code_data(model, images, CPU, lambda done, total: seen_levels.append((done, total)))
    assert seen_levels[-1] == (len(images.train) + len(images.valid) + len(images.test),) * 2


def _required(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


@pytest.mark.parametrize("name", ["binarised", "gumbel"])
def test_codes_are_made_anew_where_they_are_drawn(name: str, copied: Callable[..., Run]) -> None:
    run = copied(name)
    model = run.model()
    assert isinstance(model, VQVAE)
    codes = code_data(model, run.data(), CPU).to(CPU)
    assert isinstance(codes.train, CodeSplit)
    draws = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        draws.append(next(codes.train.batches(64, shuffle=torch.Generator().manual_seed(0))))
    assert torch.equal(draws[0].x, draws[2].x)
    assert not torch.equal(draws[0].x, draws[1].x)
    assert torch.equal(draws[0].index, draws[1].index)
    if name == "gumbel":  # draws from q, and not its likeliest codes
        x = run.data().train.batch(torch.zeros(2000, dtype=torch.long)).x
        torch.manual_seed(0)
        with torch.no_grad():
            level = model.levels(x[:1])[0][0]
        many = codes.train.batch(torch.zeros(2000, dtype=torch.long)).x.mul(5).round().long()
        shares = torch.nn.functional.one_hot(many, 6).float().mean(0)
        posterior: Any = level.posterior
        torch.testing.assert_close(shares, posterior.probs.reshape(4, 6), atol=0.05, rtol=0)


def test_a_dataset_of_codes_made_once_or_anew_is_the_same(copied: Callable[..., Run]) -> None:
    run = copied("told")
    model, images = run.model(), run.data()
    assert isinstance(model, VQVAE)
    once = code_data(model, images, CPU).train
    model.stochastic = True  # as if it were
    anew = code_data(model, images, CPU).train
    assert isinstance(anew, CodeSplit)
    places = torch.tensor([3, 1, 100])
    for a, b in zip(once.batch(places), anew.batch(places), strict=True):
        assert (a is None and b is None) or torch.equal(_required(a), _required(b))


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


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = Trainer._step

    def patched(self: Trainer, batch: Any) -> None:
        original(self, batch)
        if self.position.step == step:
            self.stop.requested = True

    monkeypatch.setattr(Trainer, "_step", patched)


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


def test_a_prior_of_other_weights_is_left_out(copied: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = copied()
    fit_prior(run, tiny_prior(condition="label"), quiet=True)
    assert run.told == "label"
    capsys.readouterr()
    run = resume(run.path, epochs=3)
    assert f"until jensen train prior --run {run.path} --replace" in capsys.readouterr().err
    again = f"other weights of the model: jensen train prior --run {run.path} --replace"
    with pytest.warns(StalePriorWarning, match="codes are taken as uniform: .*" + again):
        assert isinstance(model := run.model(), VQVAE)
    assert model.code_prior is None
    assert (run.told, run.facts.condition_shape, run.data().condition_shape) == (None, None, None)
    with pytest.raises(CheckpointError, match=again):
        run.model(prior=True)
    assert isinstance(model := run.model(prior=False), VQVAE)  # asked for: no warning
    with pytest.raises(CheckpointError, match="has been trained on since its prior was begun"):
        resume_prior(run, epochs=5, quiet=True)
    fit_prior(run, tiny_prior(), replace=True, quiet=True)
    assert isinstance(model := run.model(prior=True), VQVAE)
    assert model.code_prior is not None
    assert run.told is None


def test_of_the_best_weights_and_not_of_the_last(copied: Callable[..., Run]) -> None:
    run = copied()
    fit_prior(run, tiny_prior(), quiet=True)
    run.model("best", prior=True)
    run.model("last", prior=True)  # of one epoch: the same weights
    file = next(run.checkpoints.glob("step-*")) / "weights.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.startswith("model.decoder"))
    save_file({**weights, name: weights[name] + 1e-3}, file)
    (run.checkpoints / "latest").touch()
    run.model("best", prior=True)
    with pytest.raises(CheckpointError, match="other weights"):
        run.model("last", prior=True)


def test_digests_tell_weights_apart() -> None:
    weights = {"model.a": torch.zeros(2, 3), "model.b": torch.ones(()), "objective.c": torch.ones(2)}
    others = [
        {**weights, "model.a": torch.zeros(3, 2)},
        {**weights, "model.a": torch.zeros(2, 3, dtype=torch.float64)},
        {**weights, "model.a": torch.tensor([[0, 0, 0], [0, 0, 1e-30]])},
        {**weights, "model.b": torch.tensor(1)},
        {"model.a": weights["model.a"], "model.c": weights["model.b"]},
    ]
    found = {digest(weights), *map(digest, others)}
    assert len(found) == 6
    assert digest({**weights, "objective.c": torch.zeros(2)}) == digest(weights)


def test_told_what_the_model_is_not(copied: Callable[..., Run]) -> None:
    run = copied("binarised")
    fit_prior(run, tiny_prior(condition="label", lr=0.02, epochs=12), quiet=True)
    assert (run.told, run.facts.condition_names, run.data().condition_shape) == ("label", tuple("0123456789"), (10,))
    assert run.own_facts.condition_shape is None
    batch = run.data().valid.batch(torch.arange(100))
    model, condition = run.model(), _required(batch.condition)
    with torch.no_grad():
        right = float(model(batch.x, condition=condition).rate().mean())
        wrong = float(model(batch.x, condition=condition.roll(5, 1)).rate().mean())
    assert right < wrong
    assert model.sample(3, condition=torch.tensor([1, 2, 3])).shape == (3, 1, 8, 8)
    assert resume(run.path, epochs=2, quiet=True).history()["epoch"] == [1, 2]  # its own networks are told nothing


def test_told_what_the_model_is(copied: Callable[..., Run]) -> None:
    run = copied("told")
    found = fit_prior(run, tiny_prior(), quiet=True)
    assert (found.config.condition, found.facts.condition_shape) == ("label", (10,))
    assert run.model().sample(2, condition=torch.tensor([1, 2])).shape == (2, 1, 8, 8)
    with pytest.raises(
        ConfigError, match=r"condition: the model of \S+ is told label, and so is its prior; leave x away"
    ):
        fit_prior(run, tiny_prior(condition="x"), replace=True, quiet=True)
    assert run.model(prior=True) is not None


@pytest.mark.parametrize("condition", ["x,radius", "upper-half"])
def test_told_properties_or_a_part(condition: str, tmp_path: Path) -> None:
    config = tiny_vqvae(data={"name": "circles", "transform": "none"}, model={"downsampling": 8})
    run = fit(config, tmp_path / "run", quiet=True)
    found = fit_prior(run, tiny_prior(condition=condition, epochs=1), quiet=True)
    told = load_data("circles", limit=128, condition=condition).train.condition
    assert told is not None
    assert (found.facts.condition_shape, found.facts.condition_mean) == (told.shape, told.mean)
    assert run.told == ("part" if condition == "upper-half" else "properties")
    model, output, batch = outputs(run)
    assert torch.isfinite(output.rate()).all()
    assert model.sample(2, condition=_required(batch.condition)[:2]).shape == (2, *model.shape)
    if condition == "x,radius":
        assert run.facts.condition_mean == told.mean


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


def test_damaged_parts(copied: Callable[..., Run]) -> None:
    run = copied()
    path = fit_prior(run, tiny_prior(), quiet=True).path
    for name in ("codes.yaml", "data.yaml", "config.yaml"):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[: len(whole) // 3])
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            run.model()
        assert run.model(prior=False).latent == 4
        (path / name).write_bytes(whole)
    (path / "data.yaml").write_text(
        (path / "data.yaml").read_text().replace("condition_shape: null", "condition_shape: [3]")
    )
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        run.model()
    (path / "codes.yaml").write_text("")
    assert fit_prior(run, tiny_prior(), replace=True, quiet=True).finished
    run.model(prior=True)


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
