"""`jensen train`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from jensen.config import Config
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen

SMALL = ("--latent", "2", "--net-width", "8")


def test_a_run_is_written_and_told(jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = jensen("train", "--epochs", "1", *SMALL)
    assert said.code == 0
    assert "runs/digits-vae\n" in said.out
    for next_ in ("jensen report runs/digits-vae", "jensen evaluate runs/digits-vae"):
        assert next_ in said.out
    assert "epoch 1/1" in said.err
    assert Run.open("runs/digits-vae").finished
    assert "runs/digits-vae-2\n" in jensen("train", "--epochs", "1", *SMALL).out


OBJECTIVES: dict[str, tuple[str, ...]] = {
    "iwae": ("--samples", "3"),
    "beta": ("--beta", "2"),
    "capacity": ("--gamma", "10", "--max-capacity", "5", "--capacity-steps", "3"),
    "total-correlation": ("--beta", "3", "--estimator", "weighted"),
    "factor": ("--gamma", "5", "--discriminator-width", "8", "--discriminator-depth", "2"),
    "dip": ("--dip", "i", "--diagonal", "50"),
    "free-bits": ("--free-bits", "0.1"),
    "mmd": ("--alpha", "0.5", "--mmd-weight", "10", "--kernel", "rbf"),
    "balanced": ("--kl-weight-schedule", "linear", "--kl-weight-steps", "10"),
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_objectives(kind: str, jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ("--limit", "64", "--batch-size", "32", *SMALL)
    said = jensen("train", "--epochs", "1", "--objective", kind, *OBJECTIVES[kind], *flags, "--run", run)
    assert said.code == 0, said.err
    opened = Run.open(run)
    assert opened.finished
    assert opened.config.objective.kind == kind
    assert "after epoch 1" in said.out
    meaning = {
        "beta": "beta 2; normalised (x 2 latents / 64 values of a datum): 0.0625",
        "capacity": "0 to 5 nats",
        "balanced": "levels are balanced while kl_weight is below 1: at most 10 steps (of one level: the ELBO)",
    }
    assert meaning.get(kind, "") in said.err  # at the start
    assert meaning.get(kind, "") in said.out  # and beside the result
    assert ("\nobjective " in said.out) == (kind in {*meaning, "total-correlation"})


def test_balancing_that_never_is_says_which_flags_it_takes(jensen: Jensen, tmp_path: Path) -> None:
    flags = ("--epochs", "1", "--limit", "64", *SMALL, "--objective", "balanced")
    advice = "--kl-weight-schedule linear --kl-weight-share 0.3"
    said = jensen("train", *flags, "--run", tmp_path / "flat")
    assert said.code == 0
    assert all("this is the ELBO: " in text and advice in text for text in (said.out, said.err))
    said = jensen("train", *flags, *advice.split(), "--run", tmp_path / "rising")
    assert said.code == 0
    assert advice not in said.err
    assert "levels are balanced while kl_weight is below 1" in said.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--objective", "beta", "--gamma", "3"), "gamma has no meaning for beta; it is for kind capacity, total-"),
        (("--beta", "3"), "beta has no meaning for elbo; it is for kind beta, total-correlation"),
        (("--objective", "factor", "--model", "autoencoder"), "factor needs a posterior"),
        (("--objective", "mmd", "--alpha", "3"), "alpha should be at most 1"),
        (("--objective", "mmd", "--mmd-weight", "0.5"), "alpha + mmd_weight should be at least 1"),
        (("--objective", "total-correlation", "--kl", "monte-carlo"), "kl has no meaning for total-correlation"),
        (("--objective", "factorvae"), "did you mean factor?"),
    ],
)
def test_knobs_that_do_not_fit_are_told_in_a_line(
    flags: tuple[str, ...], message: str, jensen: Jensen, tmp_path: Path
) -> None:
    said = jensen("train", "--epochs", "1", "--limit", "64", *SMALL, *flags, "--run", tmp_path / "run")
    assert said.code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_flags_and_file_end_in_the_saved_configuration(jensen: Jensen, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("train: {epochs: 5, lr: 0.01, batch_size: 64}\nmodel: {latent: 3}")
    assert jensen("train", "--config", file, "--epochs", "1", "--net-width", "8", "--run", tmp_path / "run").code == 0
    saved = Config(**yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))
    assert (saved.train.epochs, saved.train.lr, saved.train.batch_size) == (1, 0.01, 64)
    assert (saved.model.latent, saved.model.net.width, saved.model.sigma) == (3, 8, 1.0)
    again = jensen("train", "--config", tmp_path / "run" / "config.yaml", "--run", tmp_path / "again")
    assert again.code == 0
    assert Run.open(tmp_path / "again").history()["valid/elbo"] == Run.open(tmp_path / "run").history()["valid/elbo"]


def test_a_taken_directory_is_refused(jensen: Jensen, digits: Path) -> None:
    said = jensen("train", "--epochs", "1", "--run", digits)
    assert said.code == 2
    assert "holds a run already" in said.err


def test_a_failed_start_writes_nothing(jensen: Jensen, tmp_path: Path) -> None:
    assert jensen("train", "--data", "nothing", "--run", tmp_path / "run").code == 2
    assert not (tmp_path / "run").exists()


def test_resume_goes_on(jensen: Jensen, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert jensen("train", "--epochs", "1", "--run", run, *SMALL).code == 0
    assert jensen("train", "--resume", run).code == 2
    assert jensen("train", "--resume", run, "--epochs", "2").code == 0
    assert jensen("train", "--epochs", "2", "--run", whole, *SMALL).code == 0
    assert Run.open(run).history()["valid/elbo"] == Run.open(whole).history()["valid/elbo"]


@pytest.mark.parametrize("beside", [("--latent", "3"), ("--run", "x"), ("--config", "x.yaml"), ("--no-compile",)])
def test_resume_stands_alone(jensen: Jensen, digits: Path, beside: tuple[str, ...]) -> None:
    said = jensen("train", "--resume", digits, "--epochs", "3", *beside)
    assert said.code == 2
    assert f"{beside[0].replace('no-', '')} cannot stand beside it" in said.err


def test_report_at_the_end(jensen: Jensen, tmp_path: Path) -> None:
    said = jensen("train", "--epochs", "1", "--report", "--run", tmp_path / "run", *SMALL)
    assert said.code == 0
    assert "report.html" in said.out
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "run" / "evaluation.json").is_file()


def test_interrupted_it_says_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = "import sys; from jensen.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", "--epochs", "100000", "--run", str(run), *SMALL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 60
        while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"jensen train --resume {run}" in out
    assert "Traceback" not in out
    assert not Run.open(run).finished
