"""What `jensen infer` does in the same way for every model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jensen.cli.infer_models import MODELS
from jensen.cli.infer_run import InferenceRun
from jensen.estimators.base import VariationalEstimator

if TYPE_CHECKING:
    from .conftest import Jensen

FILES = {
    "t.csv": "a,b,y,n,s\n" + "".join(f"{i % 5},{i * i % 7},{i % 3},{i % 4},{'uvw'[i % 3]}\n" for i in range(60)),
    "t.txt": "cat dog cat\nship sail\ncat purr\nship sea sea\n" * 5,
    "r.csv": "who,what,much\n" + "".join(f"u{i % 7},i{i // 7 % 5},{i % 4 + i / 50}\n" for i in range(35)),
}
CALLS = {
    "mixture": ("t.csv", "--columns", "a,b", "--components", "3"),
    "regression": ("t.csv", "--target", "y"),
    "logistic": ("t.csv", "--target", "s"),
    "poisson": ("t.csv", "--target", "n"),
    "pca": ("t.csv", "--columns", "a,b,y"),
    "factors": ("t.csv", "--columns", "a,b,y"),
    "hmm": ("t.csv", "--columns", "a,b"),
    "lda": ("t.txt", "--topics", "2"),
    "ratings": ("r.csv", "--factors", "2"),
    "gaussian": ("t.csv", "--columns", "a,b"),
}


def call(folder: Path, model: str, *more: object) -> tuple[object, ...]:
    for name, text in FILES.items():
        (folder / name).write_text(text)
    file, *flags = CALLS[model]
    return ("infer", model, "--data", folder / file, *flags, "--run", folder / "run", *more)


@pytest.mark.parametrize("model", MODELS)
def test_ctrl_c_keeps_what_every_model_has_reached(
    jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    seen: list[float] = []

    def stop(_: Any, step: int, elbo: float, *__: object) -> None:
        seen.append(elbo)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(VariationalEstimator, "on_step", stop)
    said = jensen(*call(tmp_path, model, "--tol", 0))
    assert said.code == 130, said.err
    assert "stopped after 2 steps; the posterior reached is in" in said.out
    run = InferenceRun.open(tmp_path / "run")
    assert run.estimator.elbo_trace_ == seen
    assert run.estimator.stop_reason_ == "interrupted"
    assert (
        len((tmp_path / "run" / "posterior.csv").read_text().splitlines()) == len(run.presentation.estimates()) + 1 > 1
    )
    assert jensen("report", tmp_path / "run").code == 0


@pytest.mark.parametrize("model", ["mixture", "regression", "logistic", "poisson", "pca", "hmm", "lda", "ratings"])
def test_minibatches(jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr(InferenceRun, "write_page", lambda run, *_: run.path / "report.html")
    said = jensen(*call(tmp_path, model, "--method", "svi", "--batch-size", 10, "--max-iter", 3))
    assert said.code == 0, said.err
    run = InferenceRun.open(tmp_path / "run")
    assert run.estimator.method == "svi"
    assert run.estimator.batch_size == 10
    assert len(run.estimator.elbo_trace_) <= 3
    assert "from minibatches" in run.presentation.elbo().text


@pytest.mark.parametrize(
    ("flags", "rows"),
    [
        (("--covariance", "full"), 3 + 6 + 6),
        (("--covariance", "diag"), 3 + 6 + 6),
        (("--covariance", "spherical"), 3 + 6 + 3),
        (("--covariance", "tied"), 3 + 6 + 2),
        (("--weights", "process"), 2 + 6 + 6),
    ],
)
def test_mixtures_of_every_shape(
    jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, str], rows: int
) -> None:
    monkeypatch.setattr(InferenceRun, "write_page", lambda run, *_: run.path / "report.html")
    said = jensen(*call(tmp_path, "mixture", *flags))
    assert said.code == 0, said.err
    run = InferenceRun.open(tmp_path / "run")
    estimates = {(row.group, row.name): row for row in run.presentation.estimates()}
    assert len(estimates) == rows
    for k in range(3):
        for d, column in enumerate("ab"):
            row = estimates["components: mean", f"component {k}, {column}"]
            assert row.mean == pytest.approx(run.estimator.means_[k, d])
            assert row.lower < row.mean < row.upper
    spread = {name for group, name in estimates if group == "components: standard deviation"}
    shared, each = flags[1] == "tied", flags[1] == "spherical"
    names = {"a", "b"} if shared else {f"component {k}" + ("" if each else f", {c}") for k in range(3) for c in "ab"}
    assert spread == names
