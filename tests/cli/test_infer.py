"""`jensen infer`: a run holds what the estimator found; mistakes are one line; Ctrl-C keeps what was reached."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from jensen.cli import main
from jensen.cli.infer_run import InferenceRun
from jensen.estimators.linear_regression import BayesianLinearRegression
from jensen.estimators.mixture import BayesianMixture
from jensen.inference.store import load_posterior

if TYPE_CHECKING:
    from .conftest import Jensen


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clusters in the columns a and b, their names, and a number y = 2 a - b."""
    path = tmp_path_factory.mktemp("data") / "clusters.csv"
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(-3, 1, (40, 2)), generator.normal(3, 1, (60, 2))])
    y = x @ [2.0, -1.0] + generator.normal(0, 0.1, 100)
    lines = [f"{a},{b},{'left' if n < 40 else 'right'},{c}" for n, ((a, b), c) in enumerate(zip(x, y, strict=True))]
    path.write_text("a,b,kind,y\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def mixture(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `jensen infer mixture`."""
    run = tmp_path_factory.mktemp("runs") / "mixture"
    arguments = ["--data", table, "--columns", "a,b", "--label", "kind", "--components", 3, "--run", run]
    assert main(["infer", "mixture", *map(str, arguments)]) == 0
    return run


@pytest.fixture(scope="module")
def regression(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `jensen infer regression`."""
    run = tmp_path_factory.mktemp("runs") / "regression"
    assert (
        main(["infer", "regression", "--data", str(table), "--target", "y", "--level", "0.99", "--run", str(run)]) == 0
    )
    return run


@pytest.fixture
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without report.html, which takes most of the time."""
    monkeypatch.setattr(InferenceRun, "write_page", lambda run, *_: run.path / "report.html")


def data_of(table: Path, *columns: str) -> Any:
    return np.array([[float(row[column]) for column in columns] for row in rows_of(table)])


# --- what a run holds -------------------------------------------------------------------------------------------------


def test_the_posterior_is_that_of_the_estimator_with_the_same_settings(mixture: Path, table: Path) -> None:
    expected = BayesianMixture(n_components=3, random_state=0).fit(data_of(table, "a", "b"))
    found = BayesianMixture.load(mixture)
    assert found.elbo_ == pytest.approx(expected.elbo_, rel=1e-12)
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-10)
    stored = load_posterior(mixture)
    assert set(stored.posterior) == {"weights", "components"}
    assert stored.settings["arguments"]["n_components"] == 3
    assert {path.name for path in mixture.iterdir()} == {
        "posterior.safetensors", "config.yaml", "inference.json", "posterior.csv", "report.html", "figures"
    }  # fmt: skip


def test_the_table_has_the_means_of_the_estimator_and_exact_intervals(mixture: Path) -> None:
    fitted = BayesianMixture.load(mixture)
    rows = {(row["group"], row["name"]): row for row in rows_of(mixture / "posterior.csv")}
    concentration = fitted.posterior_["weights"].standard_parameters.concentration.numpy()
    for k in range(3):
        row = rows["weights", f"component {k}"]
        beta = stats.beta(concentration[k], concentration.sum() - concentration[k])
        assert float(row["mean"]) == pytest.approx(fitted.weights_[k])
        assert float(row["lower 0.95"]) == pytest.approx(beta.ppf(0.025), rel=1e-6)
        assert float(row["upper 0.95"]) == pytest.approx(beta.ppf(0.975), rel=1e-6)
        for d, column in enumerate("ab"):
            assert float(rows["components: mean", f"component {k}, {column}"]["mean"]) == pytest.approx(
                fitted.means_[k, d]
            )
            assert ("components: standard deviation", f"component {k}, {column}") in rows
    assert len(rows) == 3 + 6 + 6


def test_the_intervals_of_a_regression_hold_the_truth_at_the_level_asked_for(regression: Path) -> None:
    fitted = BayesianLinearRegression.load(regression)
    rows = {row["name"]: row for row in rows_of(regression / "posterior.csv") if row["group"] == "weights: coefficient"}
    for place, (name, truth) in enumerate((("a", 2.0), ("b", -1.0))):
        row = rows[name]
        assert float(row["mean"]) == pytest.approx(fitted.coef_[place])
        assert float(row["lower 0.99"]) < truth < float(row["upper 0.99"])
    q = fitted.posterior_["weights"].standard_parameters
    scale = np.sqrt((q.rate / q.concentration).item() * np.linalg.inv(q.precision.numpy())[0, 0])
    expected = stats.t.ppf(0.995, 2 * q.concentration.item(), q.loc[0].item(), scale)
    assert float(rows["a"]["upper 0.99"]) == pytest.approx(expected, rel=1e-9)


def test_the_page_tells_the_numbers_and_has_the_models_own_pictures(mixture: Path) -> None:
    page = (mixture / "report.html").read_text(encoding="utf-8")
    fitted = BayesianMixture.load(mixture)
    assert f"{fitted.elbo_:,.2f}".replace("-", "−") in page
    assert re.findall(r'<section id="([^"]*)">', page) == [
        "headline", "elbo", "components", "weights", "classes", "posterior", "configuration", "next"
    ]  # fmt: skip
    assert page.count("<img") == 4
    assert "“kind”" in page
    assert "Adjusted Rand index" in page
    assert ">1.000<" in page  # two clusters that are far apart are found


@pytest.mark.usefixtures("pageless")
def test_what_is_said(jensen: Jensen, table: Path, tmp_path: Path) -> None:
    said = jensen("infer", "mixture", "--data", table, "--columns", "a", "--components", 2, "--run", tmp_path / "m")
    assert said.code == 0
    assert said.err == ""
    lines = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert lines["run"] == str(tmp_path / "m")
    assert re.match(r"-\d+\.\d\d nats; settled after \d+ steps", lines["ELBO"])
    assert lines["report"] == str(tmp_path / "m" / "report.html")
    assert "left out" not in said.out  # columns were chosen


@pytest.mark.usefixtures("pageless")
def test_columns_that_are_no_numbers_are_named(jensen: Jensen, table: Path, tmp_path: Path) -> None:
    said = jensen("infer", "regression", "--data", table, "--target", "y", "--run", tmp_path / "m")
    assert said.out.startswith("left out, because they are no numbers: kind\n")


@pytest.mark.usefixtures("pageless")
def test_a_name_is_found_and_not_taken_twice(jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert jensen("infer", "mixture", "--data", "iris", "--components", 2, "--tol", "1e-2").code == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"iris-mixture", "iris-mixture-2"}


def test_standardised_columns(jensen: Jensen, table: Path, tmp_path: Path) -> None:
    run = tmp_path / "m"
    assert jensen("infer", "mixture", "--data", table, "--columns", "a,b", "--components", 2, "--standardise",
                  "--run", run).code == 0  # fmt: skip
    x = data_of(table, "a", "b")
    expected = BayesianMixture(n_components=2, random_state=0).fit((x - x.mean(0)) / x.std(0))
    np.testing.assert_allclose(BayesianMixture.load(run).means_, expected.means_, rtol=1e-8)
    assert "Columns were standardised" in (run / "report.html").read_text(encoding="utf-8")
    few = tmp_path / "few.csv"
    few.write_text(f"b,a\n{x[0, 1]},{x[0, 0]}\n")  # predictions take the scale of the fit, and columns by name
    assert jensen("infer", "predict", run, "--data", few, "-o", tmp_path / "p.csv").code == 0
    (row,) = rows_of(tmp_path / "p.csv")
    one = expected.predict_proba((x[:1] - x.mean(0)) / x.std(0))[0]
    np.testing.assert_allclose([float(row["probability 0"]), float(row["probability 1"])], one, atol=1e-9)


# --- afterwards -------------------------------------------------------------------------------------------------------


def test_predictions_are_the_estimators(jensen: Jensen, mixture: Path, table: Path, tmp_path: Path) -> None:
    said = jensen("infer", "predict", mixture, "--data", table, "--output", tmp_path / "p.csv")
    assert said.code == 0
    fitted, x = BayesianMixture.load(mixture), data_of(table, "a", "b")
    rows = rows_of(tmp_path / "p.csv")
    assert [int(row["component"]) for row in rows] == fitted.predict(x).tolist()
    np.testing.assert_allclose([float(row["probability 2"]) for row in rows], fitted.predict_proba(x)[:, 2])
    np.testing.assert_allclose([float(row["log density"]) for row in rows], fitted.score_samples(x))


def test_predictive_intervals(jensen: Jensen, regression: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("b,a\n1,2\n0,0\n")  # no target, other order
    assert jensen("infer", "predict", regression, "--data", tmp_path / "new.csv", "--level", "0.5").code == 0
    rows = rows_of(regression / "predictions.csv")
    expected = BayesianLinearRegression.load(regression).predict_interval([[2, 1], [0, 0]], 0.5)
    np.testing.assert_allclose([[float(row["lower 0.5"]), float(row["upper 0.5"])] for row in rows], expected)
    assert float(rows[0]["mean"]) == pytest.approx(3, abs=0.1)


def test_a_file_that_exists_is_kept_without_force(jensen: Jensen, mixture: Path, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("mine")
    said = jensen("infer", "predict", mixture, "--data", table, "-o", path)
    assert (said.code, path.read_text()) == (2, "mine")
    assert jensen("infer", "predict", mixture, "--data", table, "-o", path, "--force").code == 0
    assert path.read_text() != "mine"


def test_runs_lists_posteriors(jensen: Jensen, mixture: Path) -> None:
    said = jensen("runs", mixture.parent)
    assert said.code == 0
    row = said.out.splitlines()[1]
    fitted = BayesianMixture.load(mixture)
    assert row.startswith(f"{mixture}  clusters  mixture  {fitted.n_iter_} steps  elbo {fitted.elbo_:,.2f}  finished")


def test_runs_lists_what_python_saved(jensen: Jensen, mixture: Path, tmp_path: Path) -> None:
    BayesianMixture.load(mixture).save(tmp_path / "mine")
    assert "saved from Python" in jensen("runs", tmp_path).out
    said = jensen("report", tmp_path / "mine")
    assert said.code == 2
    assert "was saved from Python" in said.err


def copied(run: Path, folder: Path) -> Path:
    """The run without its page."""
    folder.mkdir()
    for name in ("posterior.safetensors", "config.yaml", "inference.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    return folder


def test_report_writes_the_page_anew(jensen: Jensen, mixture: Path, tmp_path: Path) -> None:
    run = copied(mixture, tmp_path / "mixture")
    assert jensen("report", run).out == f"{run / 'report.html'}\n"
    before = (mixture / "report.html").read_text(encoding="utf-8").replace(str(mixture), str(run))
    assert (run / "report.html").read_text(encoding="utf-8") == before


def test_without_its_data_the_page_says_so(jensen: Jensen, mixture: Path, table: Path, tmp_path: Path) -> None:
    run = copied(mixture, tmp_path / "mixture")
    facts = run / "inference.json"
    facts.write_text(facts.read_text().replace(str(table), str(tmp_path / "gone.csv")))
    assert jensen("report", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The data of this run could not be read" in page
    assert 'id="weights"' in page
    assert 'id="components"' not in page


def test_data_that_have_changed_are_told(jensen: Jensen, mixture: Path, table: Path, tmp_path: Path) -> None:
    run = copied(mixture, tmp_path / "mixture")
    (tmp_path / "clusters.csv").write_text("\n".join(table.read_text().splitlines()[:60]) + "\n")
    facts = run / "inference.json"
    facts.write_text(facts.read_text().replace(str(table), str(tmp_path / "clusters.csv")))
    assert jensen("report", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The data have changed since the fit: 59 rows, then 100" in page


@pytest.mark.parametrize("command", ["evaluate", "sample", "encode"])
def test_commands_for_trained_models_refuse_a_posterior(jensen: Jensen, mixture: Path, command: str) -> None:
    extra = ["-o", "codes.npz"] if command == "encode" else []
    said = jensen(command, mixture, *extra)
    assert said.code == 2
    assert "holds a posterior, not a model of `jensen train`" in said.err


# --- writing over, and Ctrl-C -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pageless")
def test_a_posterior_is_written_over_only_with_force(
    jensen: Jensen, mixture: Path, table: Path, tmp_path: Path
) -> None:
    run = copied(mixture, tmp_path / "mixture")
    before = (run / "posterior.safetensors").read_bytes()
    call = ["infer", "mixture", "--data", table, "--columns", "a", "--components", 2, "--run", run]
    said = jensen(*call)
    assert said.code == 2
    assert "holds a posterior already; choose another --run, or --force" in said.err
    assert (run / "posterior.safetensors").read_bytes() == before
    assert jensen(*call, "--force").code == 0
    assert InferenceRun.open(run).facts.columns == ("a",)


def test_other_folders_are_never_written_to(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    for path in (digits, tmp_path, tmp_path / "mine"):
        said = jensen("infer", "mixture", "--data", "iris", "--run", path, "--force")
        assert said.code == 2
        assert "choose another --run" in said.err
    assert not (digits / "posterior.safetensors").exists()


def test_ctrl_c_keeps_what_was_reached(
    jensen: Jensen, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []

    def stop(estimator: BayesianMixture, step: int, elbo: float, _: Any) -> None:
        steps.append(elbo)
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(BayesianMixture, "on_step", stop)
    run = tmp_path / "m"
    said = jensen("infer", "mixture", "--data", table, "--columns", "a,b", "--components", 6, "--tol", 0, "--run", run)
    assert said.code == 130
    assert said.out == f"stopped after 3 steps; the posterior reached is in {run}: jensen report {run}\n"
    monkeypatch.undo()
    fitted = BayesianMixture.load(run)
    assert fitted.elbo_trace_ == steps
    assert not fitted.converged_
    assert (run / "posterior.csv").is_file()
    assert jensen("report", run).code == 0
    assert "had not settled when the fit ended" in (run / "report.html").read_text(encoding="utf-8")
    assert "not settled: interrupted" in jensen("runs", tmp_path).out


def test_ctrl_c_before_there_is_anything_leaves_nothing(
    jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BayesianMixture, "fit", stop)
    assert jensen("infer", "mixture", "--data", "iris", "--run", tmp_path / "m") == (130, "", "")
    assert not (tmp_path / "m").exists()


@pytest.mark.usefixtures("pageless")
def test_what_did_not_settle_is_told(jensen: Jensen, tmp_path: Path) -> None:
    said = jensen("infer", "mixture", "--data", "iris", "--components", 3, "--max-iter", 2, "--run", tmp_path / "m")
    assert said.code == 0
    assert "has not settled after 2 steps" in said.out
    assert "warning: BayesianMixture has not converged" in said.out


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mixtrue"], 'Unknown command "mixtrue". Did you mean "mixture"?'),
        (["mixture"], "--data is missing; see `jensen infer mixture --help`"),
        (["mixture", "--data", "breast-cancer"], "no such file; did you mean breast_cancer?"),
        (["mixture", "--data", "iris", "--components", "0"], "--components"),
        (["mixture", "--data", "iris", "--components", "2.5"], "--components"),
        (
            ["mixture", "--data", "iris", "--covariance", "ful"],
            "'ful' is none of full, diag, spherical, tied; did you mean",
        ),
        (["mixture", "--data", "iris", "--columns", "petal"], "iris has no column 'petal'"),
        (["mixture", "--data", "iris", "--level", "95"], "--level should be between 0 and 1, got 95"),
        (["mixture", "--data", "iris", "--method", "svi", "--tol", "-1"], "--tol"),
        (["mixture", "--data", "iris", "--batch-size", "20"], "natural"),  # cavi takes none: the estimator's words
        (["mixture", "--data", "iris", "--target", "target"], "Unknown option: --target"),
        (["regression", "--data", "iris"], "the target 'target' holds text"),
        (
            ["hmm", "--data", "iris", "--emissions", "categorical", "--covariance", "diag"],
            "--covariance has no meaning",
        ),
        (["predict", "nowhere", "--data", "iris"], "nowhere does not exist"),
        (["predict"], "RUN is missing; see `jensen infer predict --help`"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = jensen("infer", *arguments)
    assert said.code == 2
    assert said.err.startswith("jensen: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("a,b\n1,2\n", ["mixture"], "1"),
        ("a,b\n1,2\n3,inf\n4,5\n", ["mixture"], "t.csv: column 'b' is infinite in row 2"),
        ("a,b\n1,2\n3,\n4,5\n", ["mixture"], "t.csv: column 'b' is missing in row 2; mixture needs every value"),
        ("a,b\n1,2\n1,3\n1,5\n", ["mixture", "--components", "2"], "column"),
        ("a,y\n1,2\n2,3\n", ["regression"], "--target is missing: which column is to be predicted? There are a, y"),
        ("a,y\n1,x\n2,x\n", ["logistic", "--target", "y"], "every row has the same 'y' (x)"),
        ("a,y\n1,2.5\n2,1\n", ["poisson", "--target", "y"], "counts"),
        ("s\nx\ny\n", ["hmm", "--emissions", "categorical", "--states", "9"], "n_states=9"),
        ("s,t\nx,y\n", ["hmm", "--emissions", "categorical"], "need one column of symbols, not 2"),
    ],
)
def test_data_that_cannot_be_fitted_are_told_in_one_line(
    jensen: Jensen, tmp_path: Path, text: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    said = jensen("infer", *arguments, "--data", tmp_path / "t.csv", "--run", tmp_path / "run")
    assert said.code == 2, said.err
    assert said.err.startswith("jensen: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not (tmp_path / "run").exists()


def test_a_damaged_run_is_told(jensen: Jensen, mixture: Path, table: Path, tmp_path: Path) -> None:
    for name, content, message in (
        ("posterior.safetensors", b"x", "damaged"),
        ("inference.json", b"{", "missing or damaged"),
        ("inference.json", b'{"model": "oracle", "source": "x"}', "a model 'oracle' that this version does not have"),
        ("inference.json", b'{"model": "regression", "source": "x"}', "holds a BayesianMixture"),
    ):
        run = copied(mixture, tmp_path / f"{name}-{len(content)}")
        (run / name).write_bytes(content)
        said = jensen("infer", "predict", run, "--data", table)
        assert said.code == 2
        assert message in said.err
        assert said.err.count("\n") == 1


def test_data_unlike_those_of_the_fit_are_refused(jensen: Jensen, mixture: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,c\n1,2\n")
    said = jensen("infer", "predict", mixture, "--data", tmp_path / "t.csv")
    assert said.code == 2
    assert "has no column 'b'" in said.err
