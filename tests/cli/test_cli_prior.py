"""`jensen train prior`."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from jensen.cli.flags import PRIOR_COMMON, config_keys
from jensen.config import PriorConfig
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen

TINY = ("--net-width", "8", "--net-depth", "2")
TINY_PRIOR = ("--net-width", "8", "--net-depth", "1", "--epochs", "1")


def copied(run: Path, folder: Path) -> Path:
    """A run to be changed."""
    shutil.copytree(run, folder / "run")
    return folder / "run"


def test_the_help_is_short_and_the_whole_is_there_too(jensen: Jensen) -> None:
    short, whole = jensen("train", "prior", "--help").out, jensen("train", "prior", "--help-all").out
    assert short.startswith("Usage: jensen train prior")
    assert "jensen train prior --run runs/mnist-vqvae" in short
    assert max(len(line) for line in short.splitlines()) <= 80
    keys = list(config_keys(PriorConfig))
    assert len({key.flag for key in keys}) == len(keys)
    assert {key.flag for key in keys} >= PRIOR_COMMON
    for key in keys:
        shown = f"\n  --{key.flag} " in short.replace("\n  --compile\n", "\n  --compile \n")
        assert shown == (key.flag in PRIOR_COMMON), key.flag
        assert f"\n  --{key.flag} " in whole or f"\n  --{key.flag}\n" in whole
    assert "largest gradient norm [default: 1.0]" in whole  # not the default of a model, which is none
    assert "  prior  Learn the prior over the codes" in jensen("train", "--help").out


def test_what_it_tells_is_what_the_history_holds(jensen: Jensen, codes: Path, tmp_path: Path) -> None:
    run = copied(codes, tmp_path)
    said = jensen("train", "prior", "--run", run, "--epochs", "2", "--batch-size", "256", "--clip", "none", *TINY)
    assert said.code == 0, said.err
    assert "epoch 2/2" in said.err
    prior = Run.open(run).prior
    assert prior is not None
    assert prior.finished
    assert (prior.config.net.width, prior.config.train.epochs, prior.config.train.clip) == (8, 2, None)
    nats = -max(prior.history()["valid/log_likelihood"])
    # 4 x 4 codes of 16 for 8 x 8 values.
    assert f"{nats:.2f} nats" in said.out
    assert f"{16 * math.log(16):.2f} nats" in said.out
    (per_code,) = (line for line in said.out.splitlines() if line.startswith("bits per code"))
    assert per_code.split()[3:5] == [f"{nats / 16 / math.log(2):.3f}", "4.000"]
    (per_value,) = (line for line in said.out.splitlines() if line.startswith("bits per dimension"))
    assert per_value.split()[3:5] == [f"{nats / 64 / math.log(2):.4f}", "1.0000"]
    for command in ("sample", "evaluate"):
        assert f"jensen {command} {run}\n" in said.out
    said = jensen("train", "prior", "--run", run, *TINY)
    assert said.code == 2
    assert "has a prior already" in said.err
    assert f"jensen train prior --resume {run}" in said.err
    assert jensen("train", "prior", "--run", run, "--epochs", "1", "--force", *TINY).code == 0
    again = Run.open(run).prior
    assert again is not None
    assert len(again.history()["epoch"]) == 1


def test_it_goes_on(jensen: Jensen, codes: Path, tmp_path: Path) -> None:
    whole = copied(codes, tmp_path / "whole")
    run = copied(codes, tmp_path / "parts")
    flags = ("--decay", "none", "--batch-size", "512", *TINY)
    assert jensen("train", "prior", "--run", whole, "--epochs", "2", *flags).code == 0
    assert jensen("train", "prior", "--run", run, "--epochs", "1", *flags).code == 0
    assert "is finished" in jensen("train", "prior", "--resume", run).err
    said = jensen("train", "prior", "--resume", run, "--epochs", "2")
    assert said.code == 0
    assert "after epoch" in said.out
    ends = [Run.open(path).prior for path in (whole, run)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].history()["valid/log_likelihood"] == ends[1].history()["valid/log_likelihood"]


def test_settings_from_a_file(jensen: Jensen, codes: Path, tmp_path: Path) -> None:
    run = copied(codes, tmp_path)
    file = tmp_path / "prior.yaml"
    file.write_text("net: {kind: transformer, width: 8, heads: 2}\ntrain: {epochs: 5, batch_size: 512}")
    assert jensen("train", "prior", "--run", run, "--config", file, "--epochs", "1", "--net-depth", "1").code == 0
    saved = PriorConfig(**yaml.safe_load((run / "prior" / "config.yaml").read_text()))
    assert (saved.net.kind, saved.net.heads, saved.net.depth) == ("transformer", 2, 1)
    assert (saved.train.epochs, saved.train.batch_size, saved.train.decay) == (1, 512, "cosine")
    file.write_text("net: {wdth: 8}")
    said = jensen("train", "prior", "--run", run, "--config", file)
    assert f"{file}: unknown key net.wdth; did you mean net.width?" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--run is missing"),
        (("--run", "nowhere"), "nowhere does not exist"),
        (("--run", "{digits}"), "codes, those of model vqvae, but"),
        (("--run", "{pixels}"), "is an autoregressive"),
        (("--run", "{codes}", "--condition", "upper-half"), "jensen train --model vqvae --condition upper-half"),
        (("--run", "{codes}", "--condition", "colour"), "(choices: label)"),
        (("--run", "{codes}", "--netwidth", "3"), "Unknown option: --netwidth. Did you mean --net-width?"),
        (("--run", "{codes}", "--net", "lstm"), "'lstm' is none of pixelcnn, transformer"),
        (("--run", "{codes}", "--net", "transformer", "--net-width", "30"), "multiple of heads"),
        (("--run", "{codes}", "--condition", "lable"), "did you mean label?"),
        (("--resume", "{codes}"), "has no prior: jensen train prior --run"),
        (("--resume", "{codes}", "--run", "{codes}"), "--run cannot stand beside it"),
        (("--resume", "{codes}", "--epochs", "3", "--net", "pixelcnn"), "--net cannot stand beside it"),
        (("--resume", "{codes}", "--replace"), "--replace cannot stand beside it"),
        (("{codes}",), "unexpected argument"),
        (("--epochs",), "--epochs needs a value; see `jensen train prior --help`"),
    ],
)
def test_mistakes_are_one_line(
    jensen: Jensen, request: pytest.FixtureRequest, arguments: tuple[str, ...], message: str
) -> None:
    named = [str(request.getfixturevalue(each[1:-1])) if each.startswith("{") else each for each in arguments]
    said = jensen("train", "prior", *named)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("jensen: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_a_near_miss_is_told(jensen: Jensen, codes: Path, drawing: Path) -> None:
    assert "did you mean `jensen train prior ...`?" in jensen("train", "piror").err
    assert "did you mean `jensen train prior ...`?" in jensen("train", "--run", codes, "prior").err
    assert f"name the run, {drawing}" in jensen("sample", drawing / "prior").err


def test_the_closing_table_of_a_vqvae(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    two = ("--model", "vqvae", "--downsampling", "2", "--hierarchy", "2", "--quantiser-codes", "16")
    said = jensen("train", "--epochs", "1", "--limit", "200", *two, "--net-width", "8", "--run", run)
    assert said.code == 0, said.err
    history = Run.open(run).history()
    for level in ("top", "bottom"):
        (line,) = (line for line in said.out.splitlines() if line.startswith(f"codes, {level}"))
        perplexity, used = (history[f"valid/{name}_{level}"][0] for name in ("perplexity", "codes_used"))
        assert f"perplexity {perplexity:.1f}, {used:.0%} of 16 used in a batch" in line
    (following,) = (line for line in said.out.splitlines() if line.startswith("next"))
    assert following.endswith(f"jensen train prior --run {run}")


def test_a_model_that_was_trained_on_needs_its_prior_anew(jensen: Jensen, codes: Path, tmp_path: Path) -> None:
    run = copied(codes, tmp_path)
    start = ("train", "prior", "--run", run, "--epochs", "1", "--batch-size", "512", *TINY)
    assert jensen(*start).code == 0
    said = jensen("train", "--resume", run, "--epochs", "2")
    assert said.code == 0, said.err
    (following,) = (line for line in said.out.splitlines() if line.startswith("next"))
    assert following.endswith(f"jensen train prior --run {run} --replace")
    said = jensen(*start)
    assert said.code == 2
    assert said.err == (
        f"jensen: error: {run} has a prior already, but {run / 'prior'} was fitted to the codes of other weights of "
        f"the model: jensen train prior --run {run} --replace\n"
    )
    assert jensen(*start, "--replace").code == 0
    assert jensen(*start, "--replace", "--condition", "label").code == 0
    said = jensen("train", "--resume", run, "--epochs", "3")
    (following,) = (line for line in said.out.splitlines() if line.startswith("next"))
    assert following.endswith(f"jensen train prior --run {run} --replace --condition label")


def test_a_refused_condition_leaves_the_prior_alone(jensen: Jensen, drawing: Path, tmp_path: Path) -> None:
    run = copied(drawing, tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said = jensen("train", "prior", "--run", run, "--replace", "--condition", "upper-half", *TINY)
    assert said.code == 2
    assert "upper-half is an image or a part of one, which a prior can be told only together with its model" in said.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name[0] != "."} == {
        path: content for path, content in before.items() if path.name[0] != "."
    }


def spoil(run: Path, what: str) -> None:
    """Take away, or damage, a part of a run's prior."""
    if what == "checkpoints":
        shutil.rmtree(run / "prior" / "checkpoints")
    elif what == "data":
        (run / "prior" / "data.yaml").unlink()
    elif what == "config":
        (run / "prior" / "config.yaml").write_text("net: {kind: pix")
    else:
        (file,) = (run / "prior").glob("checkpoints/*/best.safetensors")
        file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("what", ["checkpoints", "data", "weights"])
def test_a_damaged_prior_is_told_and_left_out(jensen: Jensen, drawing: Path, tmp_path: Path, what: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(drawing, run)
    spoil(run, what)
    remedy = f"jensen train prior --run {run} --replace"
    for name, flags in (
        ("encode", ("--split", "test", "-o", tmp_path / "codes.npz")),
        ("evaluate", ("--examples", "10")),
        ("sample", ("-n", "2", "-o", tmp_path / "a.npz")),
    ):
        said = jensen(name, run, *flags)
        assert said.code == 0, said.err
        assert said.err.startswith(f"jensen: warning: codes are taken as uniform: {run / 'prior'} ")
        assert said.err.endswith(f": {remedy}\n")
        assert said.err.count("\n") == 1
    assert (jensen("reconstruct", run, "-o", tmp_path / "r.png").code, jensen("report", run).code) == (0, 0)
    (line,) = jensen("runs", tmp_path).out.splitlines()[1:]
    assert line.endswith(remedy)
    for arguments in (("--run", run), ("--resume", run, "--epochs", "3")):
        said = jensen("train", "prior", *arguments)
        assert said.code == 2
        assert said.err.endswith(f": {remedy}\n")
        assert "Delete" not in said.err
    assert jensen("train", "prior", "--run", run, "--replace", *TINY_PRIOR).code == 0
    assert jensen("sample", run, "-n", "2", "-o", tmp_path / "b.npz").err == ""


def test_a_prior_whose_settings_are_damaged(jensen: Jensen, drawing: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(drawing, run)
    spoil(run, "config")
    remedy = f"jensen train prior --run {run} --replace"
    said = jensen("encode", run, "--split", "test", "-o", tmp_path / "codes.npz")
    assert said.code == 0
    assert remedy in said.err
    assert remedy in jensen("runs", tmp_path).out
    for arguments in (("--run", run), ("--resume", run)):
        assert remedy in jensen("train", "prior", *arguments).err
    (run / "prior" / "config.yaml").unlink()
    assert f"has lost its config.yaml; begin anew: {remedy}" in jensen("train", "prior", "--run", run).err
    assert jensen("train", "prior", "--run", run, "--replace", *TINY_PRIOR).code == 0


def test_an_evaluation_is_of_the_prior_that_was_in_place(jensen: Jensen, drawing: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(drawing, run)
    file = run / "evaluation.json"
    assert jensen("evaluate", run, "--examples", "10").code == 0
    found = json.loads(file.read_text())
    prior = Run.open(run).prior
    assert prior is not None
    assert found["code_usage"]["weights"]["prior"] == prior.digest
    found["quality"] = {"split": "test", "weights": found["code_usage"]["weights"]}
    file.write_text(json.dumps(found))
    assert "also keeps, from before: quality" in jensen("evaluate", run, "--examples", "10").out
    shutil.rmtree(run / "prior")
    said = jensen("evaluate", run, "--examples", "10")
    assert said.err.endswith("other weights of the run: quality\n")
    assert "quality" not in json.loads(file.read_text())
    assert "prior" not in json.loads(file.read_text())["code_usage"]["weights"]


def test_what_training_a_prior_drops_is_said(jensen: Jensen, codes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(codes, run)
    (run / "evaluation.json").unlink(missing_ok=True)
    start = ("train", "prior", "--run", run, "--batch-size", "512", *TINY_PRIOR)
    assert "evaluation.json" not in jensen(*start).err  # there is nothing to drop
    for again in (
        (*start, "--replace"),
        ("train", "prior", "--resume", run, "--epochs", "2"),
        ("train", "--resume", run),
    ):
        assert jensen("evaluate", run, "--examples", "10").code == 0
        said = jensen(*again, *(("--epochs", "2") if again[1] == "--resume" else ()))
        assert said.code == 0, said.err
        assert f"dropped {run / 'evaluation.json'} (bound, code_usage): jensen evaluate {run} measures anew" in said.err
        assert not (run / "evaluation.json").exists()


def test_runs_of_one_run_show_that_one(jensen: Jensen, drawing: Path, digits: Path) -> None:
    for run in (drawing, digits):
        said = jensen("runs", run)
        assert (said.code, said.err) == (0, "")
        heading, line = said.out.splitlines()
        assert heading.startswith("run ")
        assert line.startswith(f"{run} ")
        assert line.endswith("finished")
    assert f"name the run, {drawing}" in jensen("runs", drawing / "prior").out


def test_the_help_of_sample_says_what_a_column_shares(jensen: Jensen) -> None:
    said = " ".join(jensen("sample", "--help").out.split())
    assert "down a column the noise is the same, and so is z where its prior is not told the class" in said


def test_a_prior_that_cannot_go_on_is_to_begin_anew(jensen: Jensen, drawing: Path, tmp_path: Path) -> None:
    run = copied(drawing, tmp_path)
    (state,) = (run / "prior").glob("checkpoints/*/state.pt")
    state.write_bytes(state.read_bytes()[:100])
    remedy = f"jensen train prior --run {run} --replace\n"
    said = jensen("runs", tmp_path).out
    assert "prior stopped and damaged (" in said
    assert said.endswith(remedy)
    assert jensen("train", "prior", "--resume", run).err.endswith(f"; begin anew: {remedy}")
    assert jensen("sample", run, "-n", "2", "-o", tmp_path / "a.npz").err == ""  # its weights are whole
