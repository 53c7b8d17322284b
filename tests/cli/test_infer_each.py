"""Every model from file to page to predictions: the numbers in the files are those of the estimator that is loaded."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import sparse, stats

from jensen.cli.infer_run import InferenceRun

if TYPE_CHECKING:
    from .conftest import Jensen

Rows = list[dict[str, str]]


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few pixels: drawing them is most of the work."""
    monkeypatch.setattr("jensen.report.html._SHARPNESS", 0.25)


def rows_of(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def column(rows: Rows, name: str) -> Any:
    return np.array([float(row[name]) for row in rows])


def write(path: Path, **columns: Any) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def sections(run: Path) -> list[str]:
    return re.findall(r'<section id="([^"]*)">', (run / "report.html").read_text(encoding="utf-8"))


def fitted(jensen: Jensen, run: Path, model: str, data: Path, *flags: object) -> tuple[Any, Rows, Rows]:
    """Fit and predict for the same data: the loaded estimator, the table, the predictions."""
    said = jensen("infer", model, "--data", data, "--run", run, *flags)
    assert said.code == 0, said.err
    said = jensen("infer", "predict", run, "--data", data, "-o", run / "p.csv")
    assert said.code == 0, said.err
    return InferenceRun.open(run).estimator, rows_of(run / "posterior.csv"), rows_of(run / "p.csv")


def test_logistic(jensen: Jensen, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 120))
    y = np.where(generator.random(120) < 1 / (1 + np.exp(-2 * a)), "yes", "no")
    data = write(tmp_path / "t.csv", a=a, b=b, y=y)
    model, table, predicted = fitted(jensen, tmp_path / "run", "logistic", data, "--target", "y")
    x = np.stack([a, b], axis=1)
    np.testing.assert_allclose(column(predicted, "probability yes"), model.predict_proba(x)[:, 1])
    np.testing.assert_allclose(column(predicted, "lower 0.95"), model.predict_interval(x)[:, 0])
    assert [row["class"] for row in predicted] == [("no", "yes")[place] for place in model.predict(x)]
    means = {row["name"]: float(row["mean"]) for row in table if row["group"] == "log-odds"}
    assert means["yes, a"] == pytest.approx(model.coef_[0, 0])
    assert set(means) == {"yes, a", "yes, b", "yes, intercept, at the columns' means"}
    assert sections(tmp_path / "run")[1:4] == ["elbo", "coefficients", "classes"]
    assert "Jaakkola-Jordan bound" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_logistic_of_three_classes(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert jensen("infer", "logistic", "--data", "iris", "--run", run).code == 0
    assert jensen("infer", "predict", run, "--data", "iris").code == 0
    predicted = rows_of(run / "predictions.csv")
    names = ("setosa", "versicolor", "virginica")
    shares = np.stack([column(predicted, f"probability {name}") for name in names])
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    assert [row["class"] for row in predicted] == [names[place] for place in shares.argmax(axis=0)]
    assert np.mean([row["class"] == names[place // 50] for place, row in enumerate(predicted)]) > 0.93


def test_poisson(jensen: Jensen, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=150)
    data = write(tmp_path / "t.csv", a=a, visits=generator.poisson(np.exp(0.5 + 0.8 * a)))
    model, table, predicted = fitted(jensen, tmp_path / "run", "poisson", data, "--target", "visits")
    mean, deviation = model.predict(a[:, None], return_std=True)
    np.testing.assert_allclose(column(predicted, "mean"), mean)
    np.testing.assert_allclose(column(predicted, "standard deviation"), deviation)
    (row,) = (row for row in table if row["name"] == "a")
    assert float(row["lower 0.95"]) < 0.8 < float(row["upper 0.95"])
    assert float(row["mean"]) == pytest.approx(model.coef_[0])
    assert sections(tmp_path / "run")[1:4] == ["elbo", "coefficients", "predictions"]


@pytest.mark.parametrize("name", ["pca", "factors"])
def test_factors_with_missing_values(jensen: Jensen, tmp_path: Path, name: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 1)) @ [[1.0, -2.0, 0.5]] + 0.1 * generator.normal(size=(80, 3)) + 5
    x[3, 1] = np.nan
    cells = [["" if np.isnan(value) else value for value in values] for values in x.T]
    data = write(tmp_path / "t.csv", u=cells[0], v=cells[1], w=cells[2])
    model, table, predicted = fitted(jensen, tmp_path / "run", name, data, "--components", 2)
    np.testing.assert_allclose(column(predicted, "factor 0"), model.transform(x)[:, 0])
    values, deviations = model.impute(x)
    np.testing.assert_allclose(column(predicted, "v, filled"), values[:, 1])
    assert float(predicted[3]["v, standard deviation"]) == pytest.approx(deviations[3, 1])
    means = {(row["group"], row["name"]): float(row["mean"]) for row in table}
    assert means["loadings", "v, factor 0"] == pytest.approx(model.components_[0, 1])
    assert means["mean", "w"] == pytest.approx(model.mean_[2])
    assert ("noise precision", "u" if name == "factors" else "noise precision") in means
    assert sections(tmp_path / "run")[1:5] == ["elbo", "relevance", "loadings", "rows"]
    assert "1 of 240" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_a_series_of_numbers(jensen: Jensen, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = np.repeat([0, 1, 0, 1], 30)
    value, day = 4.0 * path + generator.normal(size=120), np.arange(120) // 60
    data = write(tmp_path / "t.csv", value=value, day=day)
    flags = ("--columns", "value", "--sequence", "day", "--states", 2)
    model, table, predicted = fitted(jensen, tmp_path / "run", "hmm", data, *flags)
    lengths = [60, 60]
    states = column(predicted, "state").astype(int)
    np.testing.assert_array_equal(states, model.predict(value[:, None], lengths))
    np.testing.assert_allclose(column(predicted, "log density"), model.score_samples(value[:, None], lengths))
    assert max(np.mean(states == path), np.mean(states != path)) > 0.95
    means = {(row["group"], row["name"]): row for row in table}
    k = int(np.argmax(model.means_))
    row = means["emissions: mean", f"state {k}, value"]
    assert float(row["mean"]) == pytest.approx(model.means_[k, 0])
    kappa, nu = model.mean_precision_[k], model.degrees_of_freedom_[k]
    scale = np.sqrt(model.covariances_[k, 0, 0] / kappa)
    assert float(row["upper 0.95"]) == pytest.approx(stats.t.ppf(0.975, nu, model.means_[k, 0], scale), rel=1e-6)
    assert float(means["transitions", "from state 1, to 0"]["mean"]) == pytest.approx(model.transitions_[1, 0])
    assert sections(tmp_path / "run")[1:5] == ["elbo", "states", "transitions", "emissions"]


def test_a_series_of_symbols(jensen: Jensen, tmp_path: Path) -> None:
    data = write(tmp_path / "t.csv", weather=["sun"] * 20 + ["rain"] * 20 + ["fog", "sun"] * 10)
    model, table, predicted = fitted(jensen, tmp_path / "run", "hmm", data, "--emissions", "categorical")
    symbols = np.array([2] * 20 + [1] * 20 + [0, 2] * 10)  # in the order of their names
    np.testing.assert_array_equal(column(predicted, "state"), model.predict(symbols))
    means = {row["name"]: float(row["mean"]) for row in table if row["group"] == "emissions"}
    assert means["state 1, rain"] == pytest.approx(model.emissions_[1, 1])
    (tmp_path / "new.csv").write_text("weather\nsun\nhail\n")
    said = jensen("infer", "predict", tmp_path / "run", "--data", tmp_path / "new.csv")
    assert said.code == 2
    assert "the symbol 'hail' was not among those that the model learned from" in said.err


def test_topics_of_texts(jensen: Jensen, tmp_path: Path) -> None:
    data = tmp_path / "t.txt"
    data.write_text("\n".join(["the cat purrs cat meows", "the ship sails ship harbour"] * 15) + "\n")
    flags = ("--topics", 2, "--stop-words", "english", "--min-df", 2)
    model, table, predicted = fitted(jensen, tmp_path / "run", "lda", data, *flags)
    words = json.loads((tmp_path / "run" / "inference.json").read_text())["columns"]
    assert words == ["cat", "harbour", "meows", "purrs", "sails", "ship"]
    counts = np.array([[2, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 2]] * 15)
    np.testing.assert_allclose(column(predicted, "topic 1"), model.transform(counts)[:, 1], atol=1e-9)
    topics = column(predicted, "topic").tolist()
    assert topics == topics[:2] * 15
    assert topics[0] != topics[1]
    cats = int(topics[0])
    rows = [row for row in table if row["group"] == f"topic {cats}"]
    assert rows[0]["name"] == "cat"
    concentration = model.components_[cats]
    beta = stats.beta(concentration[0], concentration[1:].sum())
    assert float(rows[0]["mean"]) == pytest.approx(model.topics_[cats, 0])
    assert float(rows[0]["lower 0.95"]) == pytest.approx(beta.ppf(0.025), rel=1e-6)
    assert sections(tmp_path / "run")[1:4] == ["elbo", "topics", "documents"]


def test_new_texts_keep_the_vocabulary_of_the_fit(jensen: Jensen, tmp_path: Path) -> None:
    counts = np.array([[3, 1, 0, 0], [2, 2, 0, 0], [0, 0, 2, 3], [0, 0, 4, 1]] * 5)
    matrix = sparse.csr_matrix(counts)
    arrays = {"indptr": matrix.indptr, "indices": matrix.indices, "counts": matrix.data}
    np.savez(tmp_path / "t.npz", vocab=np.array(["cat", "dog", "ship", "sail"]), **arrays)
    run = tmp_path / "run"
    assert jensen("infer", "lda", "--data", tmp_path / "t.npz", "--topics", 2, "--run", run).code == 0
    model = InferenceRun.open(run).estimator
    (tmp_path / "new.txt").write_text("ship ship sail whale\ncat\n")
    assert jensen("infer", "predict", run, "--data", tmp_path / "new.txt", "-o", tmp_path / "p.csv").code == 0
    expected = model.transform(np.array([[0, 0, 2, 1], [1, 0, 0, 0]]))
    np.testing.assert_allclose(column(rows_of(tmp_path / "p.csv"), "topic 0"), expected[:, 0])
    other = {**arrays, "vocab": np.array(["sail", "whale", "dog", "cat"])}  # other numbers, and a word that is new
    np.savez(tmp_path / "new.npz", **other)
    said = jensen("infer", "predict", run, "--data", tmp_path / "new.npz", "-o", tmp_path / "q.csv")
    assert said.code == 0
    permuted = np.stack([counts[:, 3], counts[:, 2], 0 * counts[:, 0], counts[:, 0]], axis=1)
    expected = model.transform(permuted)
    np.testing.assert_allclose(column(rows_of(tmp_path / "q.csv"), "topic 0"), expected[:, 0])
    np.savez(tmp_path / "alien.npz", **{**other, "vocab": np.array(["w", "x", "y", "z"])})
    assert "none of the words" in jensen("infer", "predict", run, "--data", tmp_path / "alien.npz").err


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_ratings(jensen: Jensen, tmp_path: Path, likelihood: str) -> None:
    generator = np.random.default_rng(0)
    users, items = (places.ravel() for places in np.indices((20, 12)))
    kept = generator.random(240) < 0.6
    users, items = users[kept], items[kept]
    size = 1 + generator.random(20)[users] * generator.random(12)[items] * 4
    numbers = size + 0.1 * generator.normal(size=len(size)) if likelihood == "gaussian" else generator.poisson(size)
    data = write(tmp_path / "t.csv", who=[f"u{n}" for n in users], what=[f"i{n:02}" for n in items], much=numbers)
    flags = ("--likelihood", likelihood, "--factors", 2, "--max-iter", 60)
    model, table, predicted = fitted(jensen, tmp_path / "run", "ratings", data, *flags)
    names = sorted({f"u{n}" for n in users})  # numbers of users go by their names
    pairs = np.array([names.index(f"u{n}") for n in users]), items
    mean, deviation = model.predict(pairs, return_std=True)
    np.testing.assert_allclose(column(predicted, "expected"), mean)
    np.testing.assert_allclose(column(predicted, "standard deviation"), deviation)
    assert [row["who"] for row in predicted] == [f"u{n}" for n in users]
    if likelihood == "gaussian":
        assert np.corrcoef(column(predicted, "expected"), numbers)[0, 1] > 0.95
    means = {(row["group"], row["name"]): float(row["mean"]) for row in table}
    assert means["items", "i07, factor 1"] == pytest.approx(model.item_factors_[7, 1])
    own = ["relevance", "items"] + ["predictions"] * (likelihood == "gaussian")
    assert sections(tmp_path / "run")[1:-3] == ["elbo", *own]
    write(tmp_path / "new.csv", who=["u1"], what=["i99"])
    said = jensen("infer", "predict", tmp_path / "run", "--data", tmp_path / "new.csv")
    assert said.code == 2
    assert "the what 'i99' is none of those that the model learned from" in said.err


def test_ratings_of_a_sparse_matrix(jensen: Jensen, tmp_path: Path) -> None:
    matrix = sparse.random(15, 8, density=0.5, random_state=0, format="csr")
    sparse.save_npz(tmp_path / "t.npz", matrix)
    flags = ("--data", tmp_path / "t.npz", "--factors", 2, "--max-iter", 20, "--run", tmp_path / "run")
    assert jensen("infer", "ratings", *flags).code == 0
    assert InferenceRun.open(tmp_path / "run").estimator.item_factors_.shape == (8, 2)


@pytest.mark.parametrize("form", ["mean-field", "full"])
def test_one_gaussian_to_another(jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr("jensen.cli.present.gaussian._FRAMES", 3)
    x = np.random.default_rng(0).multivariate_normal([1.0, 50.0], [[1, 1.5], [1.5, 4]], size=60)
    data = write(tmp_path / "t.csv", u=x[:, 0], v=x[:, 1])
    model, table, predicted = fitted(jensen, tmp_path / "run", "gaussian", data, "--form", form)
    np.testing.assert_allclose(column(predicted, "log density"), model.score_samples(x))
    assert [(row["group"], row["name"]) for row in table] == [("q", "u"), ("q", "v")]
    np.testing.assert_allclose(column(table, "mean"), x.mean(0), rtol=1e-3)
    deviations = np.sqrt(np.diag(model.covariance_))
    np.testing.assert_allclose(column(table, "upper 0.95"), model.mean_ + stats.norm.ppf(0.975) * deviations)
    assert sections(tmp_path / "run")[1:4] == ["elbo", "path", "end"]
    assert (tmp_path / "run" / "figures" / "report" / "path.gif").read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "ratings need three columns"),
        ("a,b,c\n1,2,x\n", "'c', are texts"),
        ("a,b,c\n1,2,3\n1,2,4\n", "more than once"),
        ("a,b,c\n1,,3\n", "'b' is missing"),
    ],
)
def test_ratings_that_are_none(jensen: Jensen, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    said = jensen("infer", "ratings", "--data", tmp_path / "t.csv", "--run", tmp_path / "run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert message in said.err
