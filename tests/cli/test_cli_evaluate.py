"""`jensen evaluate` and `jensen report`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from jensen.metrics import evaluate
from jensen.metrics.classification import classify
from jensen.metrics.disentanglement import encode_pool, evaluate_disentanglement, udr
from jensen.metrics.information import information
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


def test_the_table_and_the_file_hold_what_python_finds(jensen: Jensen, digits: Path) -> None:
    run = Run.open(digits)
    expected = evaluate(run.model(), run.data().valid, samples=3, seed=5)
    said = jensen("evaluate", digits, "--samples", "3", "--split", "valid", "--seed", "5")
    assert said.code == 0
    assert "179 examples of the valid split" in said.out
    for name, value, meaning in expected.table():
        assert any(name in line and value in line and meaning in line for line in said.out.splitlines())
    assert json.loads((digits / "evaluation.json").read_text()) == {"split": "valid", **expected.to_dict()}


def test_json(jensen: Jensen, plain: Path) -> None:
    said = jensen("evaluate", plain, "--samples", "1", "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert found == json.loads((plain / "evaluation.json").read_text())
    assert found["split"] == "test"
    assert found["examples"] == 359
    assert found["elbo"] is None


@pytest.mark.parametrize("samples", ["0", "1.5", "many"])
def test_wrong_samples(jensen: Jensen, digits: Path, samples: str) -> None:
    said = jensen("evaluate", digits, "--samples", samples)
    assert said.code == 2
    assert "--samples" in said.err


@pytest.mark.parametrize("damage", ["config.yaml", "checkpoints", "data.yaml", "splits.npz"])
def test_a_damaged_run_is_told(jensen: Jensen, digits: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    files = (
        [run / damage] if (run / damage).is_file() else [path for path in (run / damage).rglob("*") if path.is_file()]
    )
    for path in files:
        path.write_bytes(b"\x00\x01: {[")
    said = jensen("evaluate", run, "--samples", "1")
    assert said.code == 2
    assert said.err.startswith("jensen: error: ")
    assert str(run) in said.err


def test_report(jensen: Jensen, digits: Path) -> None:
    said = jensen("report", digits)
    assert said.code == 0
    assert said.out == f"{digits / 'report.html'}\n"
    assert (digits / "report.html").stat().st_size > 10_000


def test_further_measurements_are_those_of_python_and_in_the_file(jensen: Jensen, circles: list[Path]) -> None:
    run, other = circles
    flags = ("--samples", "1", "--information", "--disentanglement", "--against", other)
    said = jensen("evaluate", run, *flags)
    assert said.code == 0
    found = json.loads((run / "evaluation.json").read_text())
    assert {found[key]["split"] for key in ("information", "disentanglement", "udr")} == {"train"}
    opened = Run.open(run)
    model, train = opened.model(), opened.data().train
    expected = information(model, train)
    assert found["information"] == {"split": "train", **json.loads(json.dumps(expected.to_dict()))}
    assert found["information"]["components"] == len(train) == 300
    pool = encode_pool(model, train)
    scores = evaluate_disentanglement(pool.codes, pool.factors, train.factor_names, pool.kl_per_dimension)
    assert found["disentanglement"]["values"] == scores.values()
    for name, value, *_ in (*expected.table(), *scores.table()):
        assert any(line.startswith(name) and value in line for line in said.out.splitlines()), name
    assert f"{found['udr']['value']:.3f}" in said.out
    assert "300 examples of the training split" in said.out


def test_agreement_is_udr_of_the_same_examples(jensen: Jensen, circles: list[Path]) -> None:
    run, other = circles
    said = jensen("evaluate", run, "--samples", "1", "--against", other, "--seed", "2", "--json")
    found = json.loads(said.out)["udr"]
    assert found["runs"] == [str(run), str(other)]
    train = Run.open(run).data().train
    places = torch.randperm(len(train), generator=torch.Generator().manual_seed(2))
    posteriors = [Run.open(path).model() for path in circles]
    torch.manual_seed(2)
    batch = train.batch(places)  # binarised once, for both
    with torch.no_grad():
        each = [model.posterior(batch.x) for model in posteriors]
    nats = [kl_divergence(q, Normal(torch.zeros(()), torch.ones(()))).double().mean(0) for q in each]
    scores = udr([q.mean for q in each], nats)
    assert found["value"] == pytest.approx(scores[0].value, abs=1e-5)
    assert found["values"] == pytest.approx([score.value for score in scores], abs=1e-5)
    assert found["pairs"] == pytest.approx([scores[0].value], abs=1e-5)


@pytest.mark.parametrize("kind", ["labelled", "semi"])
def test_the_bayes_classifier(jensen: Jensen, kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    said = jensen("evaluate", run, "--samples", "1", "--classify", "--split", "valid", "--json")
    assert said.code == 0
    found = json.loads(said.out)["classification"]
    opened = Run.open(run)
    expected = classify(opened.model(), opened.data().valid)
    assert found == {"split": "valid", **expected.to_dict()}
    assert (found["recognition"] is None) is (kind == "labelled")
    assert json.loads((run / "evaluation.json").read_text())["classification"] == found


def test_without_flags_the_file_holds_the_bound_alone(jensen: Jensen, circles: list[Path]) -> None:
    assert jensen("evaluate", circles[1], "--samples", "1").code == 0
    found = json.loads((circles[1] / "evaluation.json").read_text())
    assert {"information", "disentanglement", "udr", "classification"}.isdisjoint(found)


@pytest.mark.parametrize(
    ("run", "flags", "message"),
    [
        ("digits", ("--disentanglement",), "digits has no known factors"),
        ("digits", ("--disentanglement",), "circles and dsprites have them"),
        ("digits", ("--classify",), "is not told a class"),
        ("upper", ("--classify",), "train with --condition label"),
        ("plain", ("--information",), "--information needs a posterior"),
        ("plain", ("--classify",), "--classify needs a posterior"),
        ("digits", ("--against", "{plain}"), "is a plain auto-encoder"),
        ("plain", ("--against", "{digits}"), "--against needs a posterior"),
        ("digits", ("--against", "{digits}"), "is the run itself"),
        ("digits", ("--against", "{iris}"), "was trained on iris"),
        ("digits", ("--against", "{labelled}"), "digits with condition label"),
        ("digits", ("--against", "nowhere"), "nowhere does not exist"),
    ],
)
def test_what_has_no_meaning_is_told_before_any_work(
    jensen: Jensen, run: str, flags: tuple[str, ...], message: str, request: pytest.FixtureRequest
) -> None:
    named = [str(request.getfixturevalue(flag[1:-1])) if flag.startswith("{") else flag for flag in flags]
    said = jensen("evaluate", request.getfixturevalue(run), "--samples", "1", *named)
    assert said.code == 2
    assert message in said.err
    assert said.out == ""
    assert said.err.count("\n") == 1


def test_too_few_examples_are_told_and_the_bound_is_kept(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "few"
    few = ("--data", "circles", "--limit", "40", "--latent", "2", "--net-width", "8", "--epochs", "1")
    assert jensen("train", *few, "--run", run).code == 0
    said = jensen("evaluate", run, "--samples", "1", "--disentanglement")
    assert said.code == 2
    assert "at least 100 examples, got 40" in said.err
    assert said.err.count("\n") == 1
    assert json.loads((run / "evaluation.json").read_text())["samples"] == 1
