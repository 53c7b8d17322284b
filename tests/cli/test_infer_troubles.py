"""`jensen infer` where something is in the way: folders, gaps in the data, kills, odd names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jensen.cli.infer_data import again
from jensen.cli.infer_run import InferenceRun
from jensen.estimators.mixture import BayesianMixture
from jensen.report import Picture

if TYPE_CHECKING:
    from .conftest import Jensen


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few pixels: drawing them is most of the work."""
    monkeypatch.setattr("jensen.report.html._SHARPNESS", 0.25)


@pytest.fixture
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs without report.html."""
    monkeypatch.setattr(InferenceRun, "write_page", lambda run, *_: run.path / "report.html")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def numbers(path: Path, header: str = "a,b,y") -> Path:
    """Forty rows of three columns: two of numbers, and one of counts."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 2))
    rows = np.column_stack([x, generator.poisson(np.exp(0.3 + 0.5 * x[:, 0]))])
    return written(path, f"{header}\n" + "".join(f"{a},{b},{y:g}\n" for a, b, y in rows))


def pictures(run: Path) -> dict[str, Picture]:
    opened = InferenceRun.open(run)
    return {picture.name: picture for picture in opened.presentation.pictures(again(opened.facts))}


# --- folders ----------------------------------------------------------------------------------------------------------


def refuse_to_fit(*_: object, **__: object) -> None:
    raise AssertionError("the fit began")


def test_a_run_that_cannot_be_written_is_told_before_the_fit(
    jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BayesianMixture, "fit", refuse_to_fit)
    file = written(tmp_path / "file", "mine")
    said = jensen("infer", "mixture", "--data", "iris", "--run", file / "run")
    assert said.code == 2
    assert said.err == f"jensen: error: cannot write to {file / 'run'}: Not a directory; choose another --run\n"


def test_a_folder_in_which_no_file_can_be_made_is_told_before_the_fit(
    jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(BayesianMixture, "fit", refuse_to_fit)
    monkeypatch.setattr("jensen.cli.outputs.NamedTemporaryFile", refuse)
    said = jensen("infer", "mixture", "--data", "iris", "--run", tmp_path / "new" / "run")
    assert said.code == 2
    assert "run: Permission denied; choose another --run" in said.err
    assert not any(tmp_path.iterdir())


def test_a_fit_that_fails_removes_the_folders_that_were_made_for_it(jensen: Jensen, tmp_path: Path) -> None:
    data = written(tmp_path / "t.csv", "a,b\n1,2\n1,3\n1,5\n")
    (tmp_path / "there").mkdir()
    for run in (tmp_path / "new" / "er" / "run", tmp_path / "there" / "run", tmp_path / "there"):
        assert jensen("infer", "mixture", "--data", data, "--components", 2, "--run", run).code == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["t.csv", "there"]


@pytest.mark.usefixtures("pageless")
def test_predictions_that_cannot_be_written_are_not_made(
    jensen: Jensen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jensen("infer", "mixture", "--data", "iris", "--components", 2, "--run", tmp_path / "run").code == 0
    monkeypatch.setattr(BayesianMixture, "predict_proba", refuse_to_fit)
    path = written(tmp_path / "file", "mine") / "p.csv"
    said = jensen("infer", "predict", tmp_path / "run", "--data", "iris", "-o", path)
    assert said.code == 2
    assert f"cannot write to {path.parent}: " in said.err
    assert "choose another --output" in said.err


def test_a_run_killed_while_it_was_written_over_says_how_to_repair_it(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "iris mixture"
    call = ("infer", "mixture", "--data", "iris", "--components", 2, "--run", run, "--force")
    assert jensen(*call).code == 0
    (run / "posterior.safetensors").unlink()
    repair = "was interrupted while it was written and holds no posterior; write it anew with "
    repair += f"`jensen infer ... --run '{run}' --force`"
    assert repair in jensen("runs", tmp_path).out
    (run / "config.yaml").unlink()  # the first writing: facts alone are there
    assert repair in jensen("runs", tmp_path).out
    for command in (("report", run), ("infer", "predict", run, "--data", "iris")):
        said = jensen(*command)
        assert said.code == 2
        assert repair in said.err
    assert jensen(*call).code == 0
    assert "finished" in jensen("runs", tmp_path).out


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pageless")
@pytest.mark.parametrize(
    ("bound", "name", "listed"),
    [("jaakkola-jordan", "Jaakkola-Jordan bound", "Jaakkola-Jordan bound -"), ("quadrature", "ELBO", "elbo -")],
)
def test_a_bound_is_called_what_it_is(jensen: Jensen, tmp_path: Path, bound: str, name: str, listed: str) -> None:
    run = tmp_path / "run"
    said = jensen("infer", "logistic", "--data", "iris", "--bound", bound, "--tol", 1e-3, "--run", run)
    assert said.code == 0, said.err
    (line,) = (line for line in said.out.splitlines() if " nats; " in line)
    assert line.startswith(f"{name}  ")
    assert InferenceRun.open(run).presentation.bound == name
    assert f"  {listed}" in jensen("runs", tmp_path).out


def test_rates_against_counts_are_called_so_and_columns_are_never_taken_for_intercepts(
    jensen: Jensen, tmp_path: Path
) -> None:
    data = numbers(tmp_path / "t.csv", "intercepted calls,b,y")
    for model in ("poisson", "logistic"):
        said = jensen("infer", model, "--data", data, "--target", "y", "--run", tmp_path / model, "--max-iter", 50)
        assert said.code == 0, said.err
    shown = pictures(tmp_path / "poisson")
    scatter = shown["predictions"].figure.axes[0]
    assert (scatter.get_xlabel(), scatter.get_ylabel()) == ("count (per row)", "rate (per row)")
    assert ticks(shown["coefficients"]) == {"intercepted calls", "b"}
    classes = InferenceRun.open(tmp_path / "logistic").facts.classes
    expected = {f"{name}, {column}" for name in classes for column in ("intercepted calls", "b")}
    assert ticks(pictures(tmp_path / "logistic")["coefficients"]) == expected


def ticks(picture: Picture) -> set[str]:
    return {text for label in picture.figure.axes[0].get_yticklabels() if (text := label.get_text())}


# --- gaps -------------------------------------------------------------------------------------------------------------


def test_missing_times_are_gaps_and_sequences_are_apart(jensen: Jensen, tmp_path: Path) -> None:
    values = [f"{v}" for v in np.round(np.random.default_rng(0).normal(size=20), 3)]
    values[4] = ""
    days = [f"{time // 12}" for time in range(20)]
    data = written(tmp_path / "t.csv", "v,day\n" + "".join(f"{v},{d}\n" for v, d in zip(values, days, strict=True)))
    run = tmp_path / "run"
    flags = ("--columns", "v", "--sequence", "day", "--max-iter", 20)
    said = jensen("infer", "hmm", "--data", data, *flags, "--run", run)
    assert said.code == 0, said.err
    shown = pictures(run)["states"]
    drawn = np.asarray(shown.figure.axes[0].lines[0].get_ydata())
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [4, 12]  # the missing value, and before the second day
    np.testing.assert_allclose(drawn[np.isfinite(drawn)], [float(v) for v in values if v])
    assert "the curve has a gap" in shown.text
    assert "broken where a sequence begins" in shown.text


GAPS = "a,b,y,s\n1,2,1,u\n2,1,0,u\n4,3,1,w\n5,9,0,w\n,7,1,w\n6,8,0,u\n"


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        *[
            (GAPS, arguments, f"t.csv: column 'a' is missing in row 5; {arguments[0]} needs every value")
            for arguments in (
                ["mixture", "--columns", "b,a"],
                ["gaussian", "--columns", "b,a"],
                ["regression", "--target", "y"],
                ["logistic", "--target", "s"],
                ["poisson", "--target", "y", "--standardise"],
            )
        ],
        (GAPS, ["hmm", "--columns", "b,a"], "t.csv: column 'a' is missing in row 5; a time that was not observed"),
        (GAPS.replace(",7", "inf,7"), ["pca", "--columns", "b,a"], "t.csv: column 'a' is infinite in row 5"),
        (GAPS, ["hmm", "--columns", "b", "--sequence", "a"], "t.csv: column 'a' is missing in row 5"),
        ("v,day\n1,x\n2,x\n3, \n4,y\n", ["hmm", "--sequence", "day"], "t.csv: column 'day' is missing in row 3"),
        (
            "v,day\nr,1\ns,1\nr,\ns,2\n",
            ["hmm", "--columns", "v", "--sequence", "day", "--emissions", "categorical"],
            "t.csv: column 'day' is missing in row 3",
        ),
        ("a,b,c\n1,2,3\n1,3,\n", ["ratings"], "t.csv: column 'c' is missing in row 2"),
        (GAPS, ["mixture", "--columns", "b, b"], "--columns names 'b' twice; give each column once"),
        ("id,b\n3_3,1\n4_1,2\n", ["mixture", "--columns", "id"], "column 'id' holds text (row 1: '3_3'), not numbers"),
    ],
)
def test_what_is_in_the_way_is_told_with_its_place(
    jensen: Jensen, tmp_path: Path, text: str, arguments: list[str], message: str
) -> None:
    said = jensen("infer", *arguments, "--data", written(tmp_path / "t.csv", text), "--run", tmp_path / "run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert message in said.err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("pageless")
def test_a_gap_in_what_is_to_be_predicted_for_is_told_with_its_place(jensen: Jensen, tmp_path: Path) -> None:
    data = numbers(tmp_path / "t.csv")
    assert jensen("infer", "regression", "--data", data, "--target", "y", "--run", tmp_path / "run").code == 0
    new = written(tmp_path / "new.csv", "extra,b,a\n1,2,3\n1,,3\n")
    said = jensen("infer", "predict", tmp_path / "run", "--data", new)
    assert said.code == 2
    assert f"{new}: column 'b' is missing in row 2; regression needs every value" in said.err


@pytest.mark.usefixtures("pageless")
def test_identifiers_with_underscores_are_left_out_as_no_numbers(jensen: Jensen, tmp_path: Path) -> None:
    data = written(tmp_path / "t.csv", "id,b\n" + "".join(f"{n}_{n % 7},{n * n % 11}\n" for n in range(20)))
    said = jensen("infer", "mixture", "--data", data, "--components", 2, "--run", tmp_path / "run")
    assert said.code == 0, said.err
    assert "left out, because they are no numbers: id" in said.out
    assert InferenceRun.open(tmp_path / "run").facts.columns == ("b",)


@pytest.mark.parametrize(
    "arguments",
    [["regression", "--target", "y"], ["poisson", "--target", "y"], ["pca"], ["hmm", "--states", "1"]],
    ids=lambda arguments: arguments[0],
)
def test_one_row_brings_no_warnings_about_code(
    jensen: Jensen, tmp_path: Path, recwarn: pytest.WarningsRecorder, arguments: list[str]
) -> None:
    data = written(tmp_path / "t.csv", "a,b,y\n1,2,3\n")
    said = jensen("infer", *arguments, "--data", data, "--run", tmp_path / "run")
    assert said.code in (0, 2)
    assert said.err.count("\n") <= 1
    kept: list[Any] = [w for w in recwarn if issubclass(w.category, RuntimeWarning | UserWarning)]
    assert not [str(warning.message) for warning in kept]
