"""`jensen infer FILE.py`: a model of one's own, from the command line."""

from __future__ import annotations

import csv
import json
import math
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jensen.cli.infer_file import read_data
from jensen.errors import DataError

if TYPE_CHECKING:
    from .conftest import Jensen

EXAMPLE = Path(__file__).parents[2] / "examples" / "eight_schools.py"
SCHOOLS = {"y": [28.0, 8, -3, 7, -1, 1, 18, 12], "sigma": [15.0, 10, 16, 11, 9, 11, 10, 18]}

ROWS = """
from torch.distributions import Normal
from jensen.inference import Model, real

def model(data):
    def log_joint(z, data):
        return {"mu": Normal(0.0, 3.0).log_prob(z.mu), "y": Normal(z.mu, 1.0).log_prob(data.y)}
    return Model({"mu": real()}, log_joint, plates={"rows": data.get("N", len(data.y))})
"""
Y = [1.0, 2.0, 3.5]
EXACT = sum(Y) / (3 + 1 / 9), (3 + 1 / 9) ** -0.5


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pictures of few pixels, and runs where nobody is disturbed."""
    monkeypatch.setattr("jensen.report.html._SHARPNESS", 0.25)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures: drawing them is most of the work."""
    monkeypatch.setattr("jensen.cli.infer_file._pictures", lambda result: ([], []))


def written(name: str, content: Any) -> Path:
    path = Path(name)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def facts(run: Path | str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "model.json").read_text())
    return found


def table(run: Path | str) -> list[dict[str, str]]:
    return list(csv.DictReader((Path(run) / "posterior.csv").read_text().splitlines()))


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_eight_schools(jensen: Jensen) -> None:
    said = jensen("infer", EXAMPLE, "--data", written("schools.json", SCHOOLS))
    assert said.code == 0, said.err
    run = Path("runs/eight_schools")
    for word in ("tau", "eta[7]", "nats; converged: ", "Pareto k-hat", str(run / "report.html")):
        assert word in said.out
    with np.load(run / "draws.npz") as arrays:
        draws = dict(arrays)
    assert {name: array.shape for name, array in draws.items()} == {"mu": (4000,), "tau": (4000,), "eta": (4000, 8)}
    assert draws["mu"].mean() == pytest.approx(4.4, abs=0.4)  # posteriordb's reference: 4.4
    rows = table(run)
    assert [row["name"] for row in rows] == ["mu", "tau", *(f"eta[{j}]" for j in range(8))]
    assert float(rows[0]["mean"]) == pytest.approx(draws["mu"].mean(), abs=0.3)
    for row in rows:
        assert float(row["lower 0.95"]) < float(row["mean"]) < float(row["upper 0.95"])
    page = (run / "report.html").read_text()
    for word in ("eight_schools", "Prior and posterior", "Pairs", "converged", "Pareto k", "--family full_rank"):
        assert word in page
    pictures = sorted(path.name for path in (run / "figures" / "report").iterdir())
    assert pictures == ["elbo.png", "pairs.png", "prior.png"]
    known = facts(run)
    assert known["converged"] is True
    assert known["data"] == str(Path("schools.json").resolve())


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("kind", ["json", "zip", "npz"])
def test_kinds_of_data_and_a_model_made_of_them(jensen: Jensen, kind: str) -> None:
    path = Path(f"data.{kind}")
    if kind == "npz":
        np.savez(path, y=np.array(Y), N=3)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.json", json.dumps({"y": Y}))
    else:
        written(path.name, {"y": Y})
    said = jensen("infer", written("rows.py", ROWS), "--data", path, "--run", "run")
    assert said.code == 0, said.err
    draws = np.load("run/draws.npz")["mu"]
    assert draws.mean() == pytest.approx(EXACT[0], abs=0.05)
    assert draws.std() == pytest.approx(EXACT[1], rel=0.05)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("flags", "method"),
    [
        (["--family", "full_rank"], "deterministic"),
        (["--method", "pathfinder"], "pathfinder"),
        (["--method", "stochastic"], "stochastic"),
    ],
)
def test_ways_up(jensen: Jensen, flags: list[Any], method: str) -> None:
    said = jensen("infer", written("rows.py", ROWS), "--data", written("d.json", {"y": Y}), *flags, "--run", "run")
    assert said.code == 0, said.err
    assert facts("run")["method"] == method
    assert np.load("run/draws.npz")["mu"].mean() == pytest.approx(EXACT[0], abs=0.15)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("method", ["deterministic", "stochastic", "pathfinder"])
def test_on_a_terminal_the_way_up_is_shown(jensen: Jensen, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    said = jensen("infer", written("rows.py", ROWS), "--data", written("d.json", {"y": Y}), "--method", method)
    assert said.code == 0, said.err


@pytest.mark.usefixtures("bare")
def test_a_level_and_a_seed(jensen: Jensen) -> None:
    file, data = written("rows.py", ROWS), written("d.json", {"y": Y})
    for seed in (1, 1, 2):
        assert jensen("infer", file, "--data", data, "--level", 0.5, "--seed", seed).code == 0
    tables = [table(f"runs/{run}") for run in ("rows", "rows-2")]
    assert tables[0] == tables[1]
    (row,) = tables[0]
    half = 0.6745 * EXACT[1]
    assert float(row["lower 0.5"]) == pytest.approx(EXACT[0] - half, abs=0.05)
    assert float(row["upper 0.5"]) == pytest.approx(EXACT[0] + half, abs=0.05)
    same, other = (np.load(f"runs/{run}/draws.npz")["mu"] for run in ("rows-2", "rows-3"))
    assert not np.array_equal(same, other)


@pytest.mark.usefixtures("bare")
def test_the_run_loads_in_python(jensen: Jensen) -> None:
    from jensen.inference import load_fit
    from jensen.inference.model import as_data

    names: dict[str, Any] = {}
    exec(ROWS, names)
    assert jensen("infer", written("rows.py", ROWS), "--data", written("d.json", {"y": Y}), "--run", "run").code == 0
    result = load_fit("run", names["model"](as_data({"y": Y})), {"y": Y})
    assert result.elbo == facts("run")["elbo"]
    np.testing.assert_array_equal(result.sample(4000, seed=0)["mu"].numpy(), np.load("run/draws.npz")["mu"])


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bare")
def test_runs_are_listed_reported_and_not_written_over(jensen: Jensen) -> None:
    call = ("infer", written("rows.py", ROWS), "--data", written("d.json", {"y": Y}), "--run", "runs/mine")
    assert jensen(*call).code == 0
    listed = jensen("runs").out.splitlines()
    assert re.match(r"runs/mine +d +rows.py +[\d,]+ gradients +elbo -\d+\.\d\d +finished", listed[1])
    assert jensen("report", "runs/mine").out == "runs/mine/report.html\n"
    again = jensen(*call)
    assert again.code == 2
    assert "runs/mine holds a posterior already; choose another --run, or --force" in again.err
    before = Path("runs/mine/model.json").read_bytes()
    assert jensen(*call, "--seed", 3, "--force").code == 0
    assert Path("runs/mine/model.json").read_bytes() != before
    assert facts("runs/mine")["seed"] == 3


@pytest.mark.usefixtures("bare")
def test_a_run_that_lost_its_page_says_what_writes_it(jensen: Jensen) -> None:
    assert jensen("infer", written("rows.py", ROWS), "--data", written("d.json", {"y": Y}), "--run", "run").code == 0
    Path("run/report.html").unlink()
    said = jensen("report", "run")
    assert said.code == 2
    assert f"run has lost its report: `jensen infer {Path('rows.py').resolve()}` writes it anew" in said.err
    said = jensen("infer", "predict", "run", "--data", "d.json")
    assert said.code == 2
    assert "run is of a model file, which only its own `simulate` can predict for" in said.err


@pytest.mark.usefixtures("bare")
def test_a_run_killed_while_it_was_written_can_be_written_anew(jensen: Jensen) -> None:
    call = ("infer", written("rows.py", ROWS), "--data", written("d.json", {"y": Y}), "--run", "runs/mine")
    assert jensen(*call).code == 0
    Path("runs/mine/model.json").unlink()  # which comes last
    said = jensen("runs")
    assert re.search(r"runs/mine +- +saved from Python +- +elbo -\d", said.out)
    assert jensen(*call).code == 2
    assert jensen(*call, "--force").code == 0
    Path("runs/mine/model.json").write_text("{")
    assert "unreadable: runs/mine/model.json is missing or damaged" in jensen("runs").out


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_what_has_not_converged_is_said_everywhere(jensen: Jensen) -> None:
    """An improper posterior, whose draws overflow: pairs cannot be drawn, and the page says so."""
    text = ROWS.split("def model")[0] + "model = Model({'mu': real()}, lambda z, data: 0.0 * z.mu)\n"
    said = jensen("infer", written("flat.py", text))
    assert said.code == 0, said.err
    assert "NOT CONVERGED: log_scale of q(mu) ran off" in said.out
    assert "advice: Give that latent a proper prior" in said.out
    page = Path("runs/flat/report.html").read_text()
    assert "NOT CONVERGED" in page
    assert "The picture &#39;Pairs&#39; is missing" in page
    assert math.isnan(facts("runs/flat")["elbo"])
    assert "not converged: log_scale of q(mu) ran off" in jensen("runs").out


@pytest.mark.usefixtures("bare")
def test_starts_that_disagree_are_told(jensen: Jensen) -> None:
    text = """
import torch
from torch.distributions import Normal
from jensen.inference import Model, real
model = Model({"x": real()}, lambda z, _: torch.logaddexp(Normal(-3, 0.3).log_prob(z.x), Normal(3, 0.3).log_prob(z.x)))
"""
    said = jensen("infer", written("two.py", text))
    assert "starts    3 of 4 starts ended at other optima" in said.out
    assert "k-hat does not see other modes" in facts("runs/two")["verdict"]
    assert "starts ended at other optima" in Path("runs/two/report.html").read_text()


# --- troubles ---------------------------------------------------------------------------------------------------------

LOG_JOINT = """
import torch
from jensen.inference import Model, real

def log_joint(z, data):
    shifted = z.mu - data.y
    return -shifted @ torch.ones(7, dtype=torch.float64)

model = Model({"mu": real(2)}, log_joint)
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "m.py defines no `model`: it should be a jensen.inference.Model, or a function"),
        ("model = 3\n", "m.py has a `model` that is a int"),
        ("def model(data):\n    return None\n", "m.py defines no `model`"),
        ("x = 1\ndef f(:\n    pass\n", "m.py, line 2: SyntaxError: invalid syntax\n"),
        ("x = 1\n\ny = x / 0\n", "m.py, line 3: ZeroDivisionError: division by zero\n"),
        ("import no_such_thing\n", "m.py, line 1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def model(data):\n    return data.x\n", "m.py, line 2: AttributeError: there is no 'x'; there are: y"),
        ("import sys\nsys.exit(3)\n", "m.py, line 2 ends Python instead of defining `model`: put what is a script"),
        (LOG_JOINT, "m.py, line 6: RuntimeError: The size of tensor a (2) must match the size of tensor b (3)"),
        (LOG_JOINT, "(while the log joint was run on latents mu (2,) and data y (3,))"),
        (LOG_JOINT.replace("real(2)", "real(3)"), "m.py, line 7: RuntimeError: "),
    ],
)
def test_mistakes_in_the_file_are_told_with_their_line(jensen: Jensen, text: str, message: str) -> None:
    said = jensen("infer", written("m.py", text), "--data", written("d.json", {"y": Y}))
    assert said.code == 2
    assert said.err.startswith("jensen: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not Path("runs").exists()


def test_a_mistake_in_a_module_beside_the_file(jensen: Jensen) -> None:
    written("helping_module_of_mine.py", "x = 1\ny = = 2\n")
    said = jensen("infer", written("m.py", "import helping_module_of_mine\n"))
    assert said.code == 2
    assert re.search(r"helping_module_of_mine.py, line 2: SyntaxError", said.err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.py"], "none.py does not exist: jensen infer takes a model file (.py)"),
        (["model.txt"], 'Unknown command "model.txt". It is neither one of mixture, '),
        (["mixtur"], 'Unknown command "mixtur". Did you mean "mixture"?'),
        (["rows.py", "--data", "none.json"], "--data none.json does not exist"),
        (["rows.py", "--data", "d.csv"], "--data d.csv: a model file reads .json, .zip (of one .json) or .npz"),
        (
            ["rows.py", "--data", "list.json"],
            "list.json should hold an object, names with their values, but holds a list",
        ),
        (["rows.py", "--data", "cut.json"], "cut.json cannot be read: "),
        (["rows.py", "--data", "two.zip"], "two.zip should hold one .json, but holds 2"),
        (["rows.py", "--data", "no.zip"], "no.zip cannot be read: File is not a zip file"),
        (["rows.py", "--data", "no.npz"], "no.npz cannot be read: it is no .npz of numbers"),
        (["rows.py", "--data", "objects.npz"], "objects.npz cannot be read: it is no .npz of numbers"),
        (["rows.py", "--data", "null.json"], "data['y'] has no number (null) at [1]"),
        (["rows.py", "--data", "ragged.json"], "data['y']: its rows have different lengths"),
        (["rows.py", "--data", "nan.json"], "term 'y' is nan at [1]; data 'y' has nan at [1]"),
        (["rows.py", "--data", "d.json", "--level", "2"], "--level should be between 0 and 1, got 2"),
        (["rows.py", "--data", "d.json", "--family", "big"], 'Invalid value "big" for --family'),
        (["rows.py", "--data", "d.json", "--batch-size", "0"], "--batch-size"),
        (
            ["rows.py", "--data", "d.json", "--method", "pathfinder", "--family", "full_rank"],
            "--family has no meaning for --method pathfinder",
        ),
        (
            ["rows.py", "--data", "d.json", "--method", "deterministic", "--batch-size", "2"],
            "--batch-size has no meaning for --method deterministic",
        ),
        (["rows.py", "--data", "d.json", "--run", "d.json"], "d.json is a file; choose another --run"),
        (["rows.py", "--data", "d.json", "--run", "."], ". exists and holds something else; choose another --run"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(jensen: Jensen, arguments: list[str], message: str) -> None:
    written("rows.py", ROWS)
    written("d.json", {"y": Y})
    written("list.json", Y)
    written("cut.json", '{"y": [1, 2')
    written("nan.json", '{"y": [1.0, NaN, 3.0]}')
    written("null.json", {"y": [1.0, None, 3.0]})
    written("ragged.json", {"y": [[1.0], [2.0, 3.0]]})
    for name in ("d.csv", "no.zip", "no.npz"):
        written(name, "no")
    np.savez("objects.npz", y=np.array([None, 1.0], dtype=object))
    with zipfile.ZipFile("two.zip", "w") as archive:
        archive.writestr("a.json", "{}")
        archive.writestr("b.json", "{}")
    said = jensen("infer", *arguments)
    assert said.code == 2
    assert said.err.startswith("jensen: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not Path("runs").exists()


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

STOPPED = """
from torch.distributions import Normal
from jensen.inference import Model, real
calls = 0

def log_joint(z, data):
    global calls
    calls += 1
    if calls == {at}:
        raise KeyboardInterrupt
    return {{"mu": Normal(0.0, 3.0).log_prob(z.mu), "y": Normal(z.mu, 1.0).log_prob(data.y)}}

model = Model({{"mu": real()}}, log_joint, plates={{"rows": 3}})
"""


@pytest.mark.usefixtures("bare")
def test_ctrl_c_writes_what_was_reached(jensen: Jensen) -> None:
    file, data = written("stop.py", STOPPED.format(at=300)), written("d.json", {"y": Y})
    said = jensen("infer", file, "--data", data, "--batch-size", 2)
    assert said.code == 130
    assert "NOT CONVERGED: interrupted (" in said.out
    assert np.load("runs/stop/draws.npz")["mu"].mean() == pytest.approx(EXACT[0], abs=0.5)
    assert "not converged: interrupted" in jensen("runs").out


@pytest.mark.usefixtures("bare")
def test_ctrl_c_before_anything_was_found_leaves_nothing(jensen: Jensen) -> None:
    file, data = written("stop.py", STOPPED.format(at=1)), written("d.json", {"y": Y})
    assert jensen("infer", file, "--data", data).code == 130
    assert not Path("runs").exists()


# --- posteriordb ------------------------------------------------------------------------------------------------------

KIDS = """
import torch
from torch.distributions import HalfCauchy, Normal
from jensen.inference import Model, positive, real

def log_joint(z, data):
    mean = z.beta[0] + z.beta[1] * data.mom_iq
    prior = HalfCauchy(torch.tensor(2.5)).log_prob(z.sigma)
    return {"sigma": prior, "kids": Normal(mean, z.sigma).log_prob(data.kid_score)}

model = lambda data: Model({"beta": real(2), "sigma": positive()}, log_joint, plates={"kids": data.N})
"""


@pytest.mark.usefixtures("bare")
def test_posteriordb_as_it_is(jensen: Jensen, data_directory: Path) -> None:
    """Posterior means of a regression within 0.1 standard deviations of posteriordb's reference draws."""
    database = data_directory / "posteriordb"
    if not database.is_dir():
        pytest.skip(f"no posteriordb in {data_directory}")
    data = database / "data" / "data" / "kidiq.json.zip"
    said = jensen("infer", written("kids.py", KIDS), "--data", data, "--family", "full_rank", "--run", "run")
    assert said.code == 0, said.err
    name = "kidiq-kidscore_momiq"
    draws_of = database / "reference_posteriors" / "draws" / "draws" / f"{name}.json.zip"
    with zipfile.ZipFile(draws_of) as archive:
        chains = json.loads(archive.read(archive.namelist()[0]))
    found = np.load("run/draws.npz")
    for label, draws in {
        "beta[1]": found["beta"][:, 0],
        "beta[2]": found["beta"][:, 1],
        "sigma": found["sigma"],
    }.items():
        reference = torch.tensor([chain[label] for chain in chains]).flatten()
        assert abs(draws.mean() - float(reference.mean())) < 0.1 * float(reference.std()), label
        assert draws.std() == pytest.approx(float(reference.std()), rel=0.1), label


def test_all_of_posteriordbs_data_are_read(data_directory: Path) -> None:
    files = sorted((data_directory / "posteriordb" / "data" / "data").glob("*.zip"))
    if not files:
        pytest.skip(f"no posteriordb in {data_directory}")
    for file in files:
        assert read_data(file), file


def test_a_folder_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_data(tmp_path)
