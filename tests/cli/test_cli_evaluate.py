"""`jensen evaluate` and `jensen report`."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from jensen.cli.alike import require_alike
from jensen.cli.evaluated import FURTHER
from jensen.config import Config
from jensen.errors import JensenError
from jensen.metrics import evaluate
from jensen.metrics.classification import classify
from jensen.metrics.disentanglement import encode_pool, evaluate_disentanglement, udr
from jensen.metrics.information import information
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


WEIGHTS = {"weights": {"step": 2, "best_epoch": 1}}
"""of an epoch of 300 examples in whole batches of 128"""


def bound_of(run: Path) -> dict[str, Any]:
    """evaluation.json without what was measured beside the bound."""
    return {
        name: value for name, value in json.loads((run / "evaluation.json").read_text()).items() if name not in FURTHER
    }


def test_the_table_and_the_file_hold_what_python_finds(jensen: Jensen, digits: Path) -> None:
    run = Run.open(digits)
    expected = evaluate(run.model(), run.data().valid, samples=3, seed=5)
    said = jensen("evaluate", digits, "--samples", "3", "--split", "valid", "--seed", "5")
    assert said.code == 0
    assert "179 examples of the valid split" in said.out
    for name, value, meaning in expected.table():
        assert any(name in line and value in line and meaning in line for line in said.out.splitlines())
    assert bound_of(digits) == {"split": "valid", **expected.to_dict()}


def test_the_first_examples_alone(jensen: Jensen, digits: Path) -> None:
    run = Run.open(digits)
    part = run.data().test
    expected = evaluate(run.model(), replace(part, indices=part.indices[:20]), samples=3)
    said = jensen("evaluate", digits, "--samples", "3", "--examples", "20")
    assert said.out.startswith(f"{digits}: the first 20 of 359 examples of the test split\n")
    found = bound_of(digits)
    assert found["examples"] == 20
    assert found == {"split": "test", **expected.to_dict()}
    assert "--examples" in jensen("evaluate", digits, "--examples", "0").err
    assert f"{digits}: 359 examples" in jensen("evaluate", digits, "--samples", "1", "--examples", "999").out


def test_progress_says_what_is_done(jensen: Jensen, circles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    @contextmanager
    def progress(label: str) -> Iterator[None]:
        said.append(label)
        yield None

    for place in ("evaluate", "extras"):
        monkeypatch.setattr(f"jensen.cli.{place}.progress", progress)
    flags = ("--samples", "2", "--examples", "30", "--information", "--disentanglement", "--against", circles[1])
    assert jensen("evaluate", circles[0], *flags).code == 0
    assert said == [
        "bound, 30 examples x 2 samples",
        "information of 10,000 codes",
        "disentanglement: encoding",
        "disentanglement: metrics",
        "agreement of 2 runs",
    ]


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
    assert found["information"] == {"split": "train", **json.loads(json.dumps(expected.to_dict())), **WEIGHTS}
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
    assert found == {"split": "valid", **expected.to_dict(), "weights": found["weights"]}
    assert (found["recognition"] is None) is (kind == "labelled")
    assert json.loads((run / "evaluation.json").read_text())["classification"] == found


def test_what_was_measured_before_is_kept_while_the_weights_are_the_same(
    jensen: Jensen, circles: list[Path], tmp_path: Path
) -> None:
    run, file = tmp_path / "run", tmp_path / "run" / "evaluation.json"
    shutil.copytree(circles[1], run)
    file.unlink(missing_ok=True)
    quick = ("evaluate", run, "--samples", "1", "--examples", "10")
    assert jensen(*quick).code == 0
    assert set(FURTHER).isdisjoint(json.loads(file.read_text()))
    assert jensen(*quick, "--information").code == 0
    first = json.loads(file.read_text())["information"]
    said = jensen(*quick, "--disentanglement")
    assert "also keeps, from before: information" in said.out
    found = json.loads(file.read_text())
    assert found["information"] == first
    assert "disentanglement" in found
    said = jensen("evaluate", run, "--samples", "2", "--examples", "10", "--json")  # no flags: another bound alone
    assert said.err == ""
    again = json.loads(file.read_text())
    assert json.loads(said.out) == again
    assert again["samples"] == 2
    assert {name: again[name] for name in FURTHER[:2]} == {name: found[name] for name in FURTHER[:2]}
    # Of other weights, and of nobody knows which.
    again["information"]["weights"]["step"] += 1
    del again["disentanglement"]["weights"]
    file.write_text(json.dumps(again))
    said = jensen(*quick)
    assert said.code == 0
    assert f"dropped from {file}, as they were of other weights of the run" in said.err
    assert said.err.endswith("information, disentanglement\n")
    assert set(FURTHER).isdisjoint(json.loads(file.read_text()))
    file.write_text("{damaged")
    assert jensen(*quick).err == ""
    assert json.loads(file.read_text())["samples"] == 1


def test_a_prior_that_is_told_the_class_has_no_kl_from_it(jensen: Jensen, learned: Path) -> None:
    said = jensen("evaluate", learned, "--samples", "1", "--examples", "10", "--information")
    assert said.code == 0
    further = said.out[said.out.index("Information") :]
    for absent in ("dimension-wise KL", "marginal KL", "KL per latent"):
        assert absent not in further
    assert "I(x, c; z)" in further
    assert "no KL and may be negative" in further
    assert further.count("warning: The prior p(z | c) differs") == 1
    found = json.loads((learned / "evaluation.json").read_text())["information"]
    assert found["conditional_prior"] is True
    assert found["marginal_kl"] is found["per_dimension_kl"] is found["dimension_wise_kl"] is None


def test_the_rate_of_an_unknown_class_is_another(jensen: Jensen, semi: Path) -> None:
    said = jensen("evaluate", semi, "--samples", "1", "--examples", "10", "--information")
    assert "\nrate of z " in said.out
    assert "\nnote: The rate of z is that of q(z | x) with the class summed out" in said.out


@pytest.mark.parametrize(
    ("key", "value", "refused"),
    [
        ("objective.beta", 8.0, "objective.beta (8.0, not 4.0)"),
        ("model.net.width", 32, "model.net.width (32, not 16)"),
        ("data.limit", 200, "data.limit (200, not 300)"),
        ("train.lr", 0.01, None),
        ("train.epochs", 7, ""),
        ("train.accelerator", "cuda", ""),
    ],
)
def test_runs_that_differ_in_more_than_their_seed(
    capsys: pytest.CaptureFixture[str], circles: list[Path], key: str, value: object, refused: str | None
) -> None:
    run, other = (Run.open(path) for path in circles)
    values = other.config.model_dump()
    *sections, name = key.split(".")
    section = values
    for one in sections:
        section = section[one]
    section[name] = value
    changed = replace(other, config=Config(**values))
    if refused:
        with pytest.raises(JensenError, match=re.escape(f"differs from {run.path} in {refused}; UDR compares runs")):
            require_alike(run, [changed])
        return
    require_alike(run, [changed])
    err = capsys.readouterr().err
    assert ("train.lr (0.01, not 0.001): what UDR says of them" in err) is (refused is None)
    assert (err == "") is (refused == "")


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
