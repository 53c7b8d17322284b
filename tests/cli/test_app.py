"""The command as a whole: help, version, how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import jensen as package
from jensen.cli import app
from jensen.cli.flags import COMMON, config_keys

if TYPE_CHECKING:
    from .conftest import Jensen

CALL = "import sys; from jensen.cli import main; sys.exit(main())"
ALL = [name for commands in app.COMMANDS.values() for name in commands]


def test_alone_it_prints_help(jensen: Jensen) -> None:
    alone, asked = jensen(), jensen("--help")
    assert alone == asked
    assert alone.code == 0
    assert alone.err == ""
    assert "jensen train --data digits --epochs 100\n  jensen report runs/digits-vae" in alone.out
    assert "--transform none --likelihood gaussian \\\n      --sigma 0.3 --objective beta --beta 10\n" in alone.out
    for heading in ("Learn", "Use", "Look"):
        assert f"\n{heading}\n" in alone.out
    for name in ALL:
        assert f"\n  {name} " in alone.out


@pytest.mark.parametrize("name", ALL)
def test_every_command_explains_itself(jensen: Jensen, name: str) -> None:
    said = jensen(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: jensen {name}")
    assert name == "data" or f"jensen {name}" in said.out.split("\n", 2)[2]  # an example
    assert max(len(line) for line in said.out.splitlines()) <= 80


@pytest.mark.parametrize("name", ["list", "show", "fetch"])
def test_every_data_command_explains_itself(jensen: Jensen, name: str) -> None:
    said = jensen("data", name, "--help")
    assert said.code == 0
    assert f"jensen data {name}" in said.out


def test_the_help_of_train_is_short_and_the_whole_is_there_too(jensen: Jensen) -> None:
    short, whole = jensen("train", "--help").out, jensen("train", "--help-all").out
    for key in config_keys():
        shown = f"\n  --{key.flag} " in short.replace("\n  --compile\n", "\n  --compile \n")
        assert shown == (key.flag in COMMON), key.flag
        assert f"\n  --{key.flag} " in whole or f"\n  --{key.flag}\n" in whole
    assert "dimension of the latent space [default: 16]" in short
    headings = [line for line in short.splitlines() if line in ("Run", "Data", "Model", "Objective", "Training")]
    assert headings == ["Run", "Data", "Model", "Objective", "Training"]


def test_version(jensen: Jensen) -> None:
    assert jensen("--version").out == f"jensen {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], 'Unknown command "trian". Did you mean "train"?'),
        (["train", "--latnet", "3"], "Unknown option: --latnet. Did you mean --latent?"),
        (["train", "--latent", "x"], "--latent"),
        (["train", "--latent"], "--latent needs a value; see `jensen train --help`"),
        (["train", "digits"], "unexpected argument 'digits'; see `jensen train --help`"),
        (["sample"], "RUN is missing; see `jensen sample --help`"),
        (["encode", "runs/x"], "--output is missing"),
        (["data", "show"], "NAME is missing; see `jensen data show --help`"),
        (["data", "lst"], 'Unknown command "lst". Did you mean "list"?'),
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["sample", "nowhere", "-n", "2.5"], "should be a whole number, got '2.5'"),
        (["train", "--objective", "iwae", "--model", "autoencoder"], "use model vae"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(jensen: Jensen, arguments: list[str], message: str) -> None:
    said = jensen(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("jensen: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_interrupted_is_130(monkeypatch: pytest.MonkeyPatch, jensen: Jensen) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jensen.training.list_runs", stopped)
    assert jensen("runs") == (130, "", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["encode", "--help"],
        ["data", "--help"],
        ["infer", "--help"],
        ["infer", "mixture", "--help"],
        ["train", "--latnet", "3"],
        ["infer", "mixture", "--data", "iris", "--componets", "3"],
    ],
)
def test_help_and_mistakes_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from jensen.cli import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'sklearn', 'matplotlib', 'lightning_fabric', 'numpy', 'PIL', 'pooch'}; "
        "print('heavy:', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy:"


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", CALL, "runs"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == ""
    assert done.returncode == app.CLOSED_PIPE


def test_from_outside(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, "train", "--run", str(tmp_path), "--nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jensen: error: Unknown option: --nonsense")
    assert not any(tmp_path.iterdir())
