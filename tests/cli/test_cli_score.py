"""`jensen score`, and `jensen evaluate --anomaly`, on runs with classes that training did not see."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.cli import main
from jensen.data import load_data
from jensen.metrics import AnomalyScorer, detection
from jensen.training import Run

if TYPE_CHECKING:
    from conftest import Jensen

SMALL = ("--latent", "4", "--net-width", "16", "--limit", "200")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of the digits but 0."""
    folder = tmp_path_factory.mktemp("runs") / "nine"
    own = ("--leave-out", "0", "--transform", "none", "--likelihood", "discretised-logistic", "--epochs", "8")
    assert main(["train", "--run", str(folder), *SMALL, *own]) == 0
    return folder


def table(path: Path) -> dict[str, list[str]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_train_leaves_the_class_out(run: Path) -> None:
    opened = Run.open(run)
    assert opened.config.data.leave_out == ("0",)
    labels = opened.data().train.labels
    assert labels is not None
    assert 0 not in labels.tolist()


def test_scores_of_the_test_split(jensen: Jensen, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    said = jensen("score", run, "--samples", 5, "-o", path)
    assert said.code == 0, said.err
    found = table(path)
    assert list(found) == ["name", "class", "elbo", "importance", "reconstruction", "typicality", "ratio"]
    opened = Run.open(run)
    data = opened.data()
    scorer = AnomalyScorer(opened.model(), data.train, samples=5)
    scores = scorer(data.test)
    for method, values in scores.values.items():
        assert np.allclose(np.array(found[method], dtype=float), values.numpy(), rtol=1e-6)
    assert found["name"][:2] == ["test-00000", "test-00001"]
    assert data.test.labels is not None
    assert found["class"] == [str(label) for label in data.test.labels.tolist()]
    # The table says how many lie above the quantiles of the training data.
    line = next(line for line in said.out.splitlines() if line.startswith("importance"))
    above = int((scores.values["importance"] > scorer.threshold("importance")).sum())
    assert f"{scorer.threshold('importance'):.2f}" in line
    assert f"{above} ({100 * above / 359:.1f} %)" in line
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.width > 300
    assert "jensen evaluate" in said.err


def test_files_are_scored_as_the_same_examples_of_the_split(jensen: Jensen, run: Path, tmp_path: Path) -> None:
    data = load_data("digits", transform="none")
    images = data.test.batch(torch.arange(12)).x
    np.save(tmp_path / "some.npy", images.numpy())
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    path = tmp_path / "files.csv"
    said = jensen("score", run, tmp_path / "some.npy", tmp_path / "noise.png", "--samples", 200, "-o", path)
    assert said.code == 0, said.err
    found = table(path)
    assert "class" not in found
    assert found["name"] == [*(f"some-{place:05d}" for place in range(12)), "noise"]
    opened = Run.open(run)
    scores = AnomalyScorer(opened.model(), opened.data().train, ["importance"], samples=200)(opened.data().test)
    mine = np.array(found["importance"], dtype=float)
    assert np.median(np.abs(mine[:12] - scores.values["importance"][:12].numpy())) < 1  # other draws of the same
    assert mine[12] > mine[:12].max() + 10


def test_binarised_runs_binarise_files_too(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    """A grey value has no probability there; what is black or white for certain has the split's score."""
    image = np.zeros((1, 1, 8, 8), dtype=np.float32)
    image[..., 2:6, 3:5] = 1
    np.save(tmp_path / "bar.npy", image)
    np.save(tmp_path / "grey.npy", np.full((1, 1, 8, 8), 0.5, dtype=np.float32))
    path = tmp_path / "scores.csv"
    said = jensen("score", digits, tmp_path / "bar.npy", tmp_path / "grey.npy", "--samples", 200, "-o", path)
    assert said.code == 0, said.err
    model = Run.open(digits).model()
    found = table(path)
    bar = torch.from_numpy(image)
    from jensen.metrics import importance_weighted_log_likelihood

    exactly = -importance_weighted_log_likelihood(model, bar, samples=1000).item()
    assert float(found["importance"][0]) == pytest.approx(exactly, abs=0.5)
    bytes_of_code = (float(found["importance"][1]) - float(found["ratio"][1])) / (8 * np.log(2))
    assert bytes_of_code == pytest.approx(round(bytes_of_code), abs=1e-3)
    assert bytes_of_code > 14  # a draw of coins: 8 bytes of pixels, 8 filter bytes, and what zlib adds


def test_evaluate_finds_the_class(jensen: Jensen, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copytree(run, copy)
    said = jensen("evaluate", copy, "--samples", 2, "--anomaly")
    assert said.code == 0, said.err
    assert "Anomalies: 36 examples of 0, never seen, among 323 others of the test split" in said.out
    with Image.open(copy / "figures" / "roc.png") as picture:
        assert picture.width > 300
    found = json.loads((copy / "evaluation.json").read_text())["anomaly"]
    assert found["left_out"] == ["0"]
    opened = Run.open(copy)
    data = opened.data()
    assert data.test.labels is not None
    anomalous = data.test.labels == 0
    scorer = AnomalyScorer(opened.model(), data.train, samples=100)
    scores = scorer(data.test)
    for method in scorer.methods:
        expected = detection(scores.values[method], anomalous)
        assert found["scores"][method]["auroc"] == pytest.approx(expected.auroc, abs=1e-6)
        above = scores.values[method] > scorer.threshold(method)
        assert found["found"][method] == pytest.approx(above[anomalous].double().mean().item(), abs=0.03)
    assert found["scores"]["isolation forest"]["auroc"] > 0.6
    assert found["scores"]["importance"]["auroc"] > 0.75
    # A later evaluation keeps it.
    assert "anomaly" in jensen("evaluate", copy, "--samples", 1).out


def test_a_plain_auto_encoder_scores_by_its_reconstruction(jensen: Jensen, plain: Path, tmp_path: Path) -> None:
    """It was trained to denoise: scores are of the clean images."""
    path = tmp_path / "scores.csv"
    assert jensen("score", plain, "-o", path).code == 0
    found = table(path)
    assert list(found) == ["name", "class", "reconstruction"]
    model = Run.open(plain).model()
    batch = Run.open(plain).data(corruption="none", transform="none").test.batch(torch.arange(359))
    assert len(found["name"]) == 359
    with torch.no_grad():
        grey = -model(batch.x).log_likelihood()[0]
    # The run's images are binarised, each drawn once: the same but for that noise.
    assert np.array(found["reconstruction"], dtype=float).mean() == pytest.approx(grey.mean().item(), rel=0.1)


def test_a_table_has_no_picture(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    said = jensen("score", iris, "--method", "importance,typicality", "--samples", 20, "-o", path)
    assert said.code == 0, said.err
    assert list(table(path)) == ["name", "class", "importance", "typicality"]
    assert not path.with_suffix(".png").exists()


def test_a_background_run(jensen: Jensen, run: Path, digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    said = jensen("score", run, "--background", run, "--method", "background", "--samples", 100, "-o", path)
    assert said.code == 0, said.err
    assert np.abs(np.array(table(path)["background"], dtype=float)).mean() < 1  # the same model: draws alone differ
    refused = jensen("score", run, "--background", digits, "-o", tmp_path / "other.csv")
    assert refused.code == 2
    assert "is of data (1, 8, 8) of 2 levels" in refused.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "likelihood"), "there is no score 'likelihood'"),
        (("--method", "elbow"), "did you mean elbo?"),
        (("--method", "background"), "it needs a background model"),
        (("--label", "3"), "are for files"),
        (("-o", "scores.txt"), "should end in .csv"),
        (("missing.png",), "no such file"),
    ],
)
def test_what_cannot_be_scored(jensen: Jensen, run: Path, arguments: tuple[str, ...], message: str) -> None:
    said = jensen("score", run, *arguments)
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_run_that_predicts_something_else_is_refused(jensen: Jensen, large: Path) -> None:
    assert "nothing to score" in jensen("score", large).err
    assert "finds no anomalies" in jensen("evaluate", large, "--anomaly").err


def test_without_left_out_classes_there_is_nothing_to_find(jensen: Jensen, digits: Path) -> None:
    said = jensen("evaluate", digits, "--anomaly")
    assert said.code == 2
    assert "train with --leave-out CLASS" in said.err


def test_an_existing_table_is_not_overwritten(jensen: Jensen, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("mine")
    assert "exists already" in jensen("score", run, "-o", path).err
    assert path.read_text() == "mine"


def test_a_prior_that_is_told_the_class_is_told_it(jensen: Jensen, drawing_classes: Path, tmp_path: Path) -> None:
    """The networks of the model are told nothing, but log p(x) is about the codes' prior too."""
    path = tmp_path / "scores.csv"
    said = jensen("score", drawing_classes, "--method", "elbo", "-o", path)
    assert said.code == 0, said.err
    opened = Run.open(drawing_classes)
    batch = opened.data().test.batch(torch.arange(359))
    with torch.no_grad():
        output = opened.model()(batch.x, condition=batch.condition)
        exactly = output.rate()[0] - output.log_likelihood()[0]
    assert np.allclose(np.array(table(path)["elbo"], dtype=float), exactly.numpy(), rtol=1e-4)
    np.save(tmp_path / "some.npy", batch.x[:2].numpy())
    assert "say which with --label" in jensen("score", drawing_classes, tmp_path / "some.npy").err
    labelled = jensen("score", drawing_classes, tmp_path / "some.npy", "--label", 3, "-o", path, "--force")
    assert labelled.code == 0, labelled.err
