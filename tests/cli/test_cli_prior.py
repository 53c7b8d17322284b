"""`jensen train prior`."""

from __future__ import annotations

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
        (("--run", "{pixels}"), "is a autoregressive"),
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
