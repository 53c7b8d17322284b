"""`jensen infer FILE.py`: black-box inference of a model that a Python file defines."""

from __future__ import annotations

import json
import runpy
import shlex
import sys
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jensen.cli.estimates import write_estimates
from jensen.cli.inputs import load_npz
from jensen.cli.outputs import free, writable, write_arrays
from jensen.cli.screen import say, table
from jensen.errors import CheckpointError, ConfigError, DataError, JensenError, NotConvergedWarning
from jensen.files import write_text
from jensen.sections import Section

if TYPE_CHECKING:
    from jensen.inference import FitResult, Model
    from jensen.report import Estimate, InferencePage

__all__ = ["FILE_FACTS", "FileFacts", "FileRequest", "fit_file", "model_of", "read_data"]

FILE_FACTS = "model.json"
FIT_FILE = "fit.safetensors"
DRAWS = 4_000


class FileFacts(Section):
    """What a run of `jensen infer FILE.py` remembers; model.json in the run."""

    file: str
    data: str | None = None
    family: str
    method: str
    seed: int
    seconds: float
    elbo: float
    elbo_se: float
    converged: bool
    reason: str
    advice: str | None = None
    pareto_k: float | None = None
    verdict: str = ""
    evaluations: int = 0

    def write(self, folder: Path) -> None:
        """Into `folder`, atomically."""
        # Not pydantic's own JSON, which would make null of what is NaN or infinite.
        write_text(folder / FILE_FACTS, json.dumps(self.model_dump(), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> FileFacts:
        """From the `folder` of a run; raises CheckpointError where it is missing or damaged."""
        path = folder / FILE_FACTS
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is missing or damaged: {error}") from None


@dataclass(frozen=True)
class FileRequest:
    """What the command line asked for."""

    file: Path
    data: Path | None = None
    family: str | None = None
    method: str = "auto"
    seed: int = 0
    run: Path | None = None
    force: bool = False
    level: float = 0.95
    options: Mapping[str, Any] = field(default_factory=dict)


def read_data(path: Path) -> dict[str, Any]:
    """Data by name: .json (an object, as Stan and posteriordb write it), .zip with one such file, .npz.

    Raises:
        DataError: the file is missing, of another kind, or does not hold names.
    """
    from jensen.data.declared import require_file, require_likely

    require_file(path)
    if not path.is_file():
        raise DataError(f"--data {path} does not exist")
    try:
        if path.suffix == ".npz":
            return _read_arrays(path)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".json")]
                if len(names) != 1:
                    raise DataError(f"{path} should hold one .json, but holds {len(names)}")
                require_likely(path, archive.getinfo(names[0]))
                found = json.loads(archive.read(names[0]))
        elif path.suffix == ".json":
            found = json.loads(path.read_text(encoding="utf-8"))
        else:
            raise DataError(f"--data {path}: a model file reads .json, .zip (of one .json) or .npz")
    except (ValueError, OSError, RecursionError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise error if isinstance(error, JensenError) else DataError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} should hold an object, names with their values, but holds a {type(found).__name__}")
    return found


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        arrays = load_npz(path)
    except DataError:
        raise DataError(f"{path} cannot be read: it is no .npz of numbers, as numpy.savez writes it") from None
    return {name: array if array.ndim else array.item() for name, array in arrays.items()}


def model_of(file: Path, data: Mapping[str, Any]) -> Model:
    """The model of a Python file: its `model`, a `Model` or a function of the data that returns one.

    Running somebody's model file runs their code, as running any Python file does.

    Raises:
        ConfigError: there is no such file or no model in it; or the file failed, with the line.
    """
    from jensen.inference import Model
    from jensen.inference.model import as_data

    if not file.is_file():
        raise ConfigError(f"{file} does not exist: jensen infer takes a model file (.py), or a model of its own")
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with _named(file):
            made = runpy.run_path(str(file), run_name="jensen_model").get("model")
            if callable(made) and not isinstance(made, Model):
                made = made(as_data(dict(data)))
    finally:
        sys.path.remove(folder)
    if not isinstance(made, Model):
        what = "defines no `model`" if made is None else f"has a `model` that is a {type(made).__name__}"
        raise ConfigError(f"{file} {what}: it should be a jensen.inference.Model, or a function of the data giving one")
    return made


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of the user's own lines in one line that says where."""
    try:
        yield
    except JensenError:
        raise
    except SystemExit as error:
        what = 'ends Python instead of defining `model`: put what is a script under `if __name__ == "__main__":`'
        raise ConfigError(f"{_place(file, error)} {what}") from None
    except Exception as error:
        notes = "; ".join(getattr(error, "__notes__", []))
        text = error.msg if isinstance(error, SyntaxError) else error.args[0] if isinstance(error, KeyError) else error
        message = f"{_place(file, error)}: {type(error).__name__}: {text}" + (f" ({notes})" if notes else "")
        raise ConfigError(message) from None


def _place(file: Path, error: BaseException) -> str:
    """The last line of the model file that an error went through, or the line that Python cannot read."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"{file}, line {own[-1]}" if own else str(file)


def fit_file(request: FileRequest) -> None:
    """Fit, write the run and its page, and say what came out."""
    from jensen.inference import fit

    _refuse_senseless(request)
    data = {} if request.data is None else read_data(request.data)
    model = model_of(request.file, data)
    path = request.run or free(Path("runs") / request.file.stem)
    _refuse_taken(path, request.force)
    with writable(path, "--run"):
        started = time.monotonic()
        with warnings.catch_warnings(), _named(request.file), _bar(request.file.name) as moved:
            warnings.simplefilter("ignore", NotConvergedWarning)  # said below
            told = moved is not None and request.method != "pathfinder"  # which is over before anything could be told
            options = {**request.options, **({"callback": moved} if told else {})}
            result = fit(model, data, request.family, request.method, seed=request.seed, **options)
        facts = _facts(request, result, time.monotonic() - started)
        page = _write(path, request, facts, result)
    _tell(path, facts, result, page)
    if facts.reason.startswith("interrupted"):
        raise KeyboardInterrupt


def _refuse_senseless(request: FileRequest) -> None:
    if not 0 < request.level < 1:
        raise ConfigError(f"--level should be between 0 and 1, got {request.level:g}")
    if request.method == "pathfinder" and request.family is not None:
        raise ConfigError("--family has no meaning for --method pathfinder, which finds a q of its own")
    if request.method in ("pathfinder", "deterministic") and "batch_size" in request.options:
        raise ConfigError(f"--batch-size has no meaning for --method {request.method}, which takes all the data")


def _refuse_taken(path: Path, force: bool) -> None:
    if path.is_file():
        raise JensenError(f"{path} is a file; choose another --run")
    if path.is_dir() and any(path.iterdir()):
        if not any((path / name).is_file() for name in (FILE_FACTS, FIT_FILE)):  # one alone: it was interrupted
            raise JensenError(f"{path} exists and holds something else; choose another --run")
        if not force:
            raise JensenError(f"{path} holds a posterior already; choose another --run, or --force to write over it")


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, float], None] | None]:
    """A line with steps and the ELBO so far; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[at]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, at="")
        yield lambda step, elbo, *_: bar.update(task, at=f"step {step}, ELBO {elbo:,.2f}".replace("-", "−"))


def _facts(request: FileRequest, result: FitResult, seconds: float) -> FileFacts:
    k = result.pareto_k
    return FileFacts(
        file=str(request.file.resolve()),
        data=None if request.data is None else str(request.data.resolve()),
        family=request.family or ("mixture of normals" if result.method == "pathfinder" else "mean_field"),
        method=result.method,
        seed=request.seed,
        seconds=seconds,
        elbo=result.elbo,
        elbo_se=result.elbo_se,
        converged=result.converged,
        reason=result.reason,
        advice=result.advice,
        pareto_k=k.value,
        verdict=result.verdict,
        evaluations=result.ascent.evaluations,
    )


def _write(path: Path, request: FileRequest, facts: FileFacts, result: FitResult) -> Path:
    """Posterior, draws, table, page; model.json comes last, with it the folder is a run."""
    from jensen.report import write_inference_report

    (path / FILE_FACTS).unlink(missing_ok=True)
    result.save(path)
    draws = result.sample(DRAWS, seed=request.seed)
    write_arrays(path / "draws.npz", {name: value.numpy() for name, value in draws.items()})
    estimates = _estimates(result, request.level)
    write_estimates(path / "posterior.csv", estimates, request.level)
    page = write_inference_report(path, _page(path, facts, result, estimates, request.level))
    facts.write(path)
    return page


def _estimates(result: FitResult, level: float) -> list[Estimate]:
    """A row for each number, grouped by latent: mean and interval."""
    import torch

    from jensen.inference.posterior_summary import scalars
    from jensen.report import Estimate

    rows = []
    for label, values in scalars(result.model, result.sample(DRAWS, seed=1)).items():
        ends = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=values.dtype)
        low, high = torch.quantile(values, ends).tolist()
        rows.append(Estimate(label.partition("[")[0].partition("=")[0], label, float(values.mean()), low, high))
    return rows


def _page(path: Path, facts: FileFacts, result: FitResult, estimates: list[Estimate], level: float) -> InferencePage:
    from jensen.report import InferencePage, Row

    minus = "−"
    notes = [] if facts.converged else [f"NOT CONVERGED: {facts.reason}. {facts.advice or ''}".strip()]
    k = "−∞" if facts.pareto_k == -float("inf") else f"{facts.pareto_k:.2f}".replace("-", minus)
    pictures, missing = _pictures(result)
    again = f"jensen infer {shlex.quote(facts.file)}" + (f" --data {shlex.quote(facts.data)}" if facts.data else "")
    return InferencePage(
        title=path.resolve().name,
        summary=f"The model of {Path(facts.file).name}, fitted by a {facts.family.replace('_', ' ')} family.",
        facts=[
            Row("ELBO", f"{facts.elbo:,.2f}".replace("-", minus), "nats", f"On fresh draws, ± {_error(facts)}."),
            Row("Pareto k", k, "", f"Whether to believe it: {facts.verdict}."),
            Row("Gradients", f"{facts.evaluations:,}", "", f"{facts.method}; it ended because {facts.reason}."),
            Row("Time", f"{facts.seconds:.3g}", "s", "Of the fit."),
        ],
        estimates=estimates,
        level=level,
        everything="posterior.csv",
        pictures=pictures,
        notes=[*notes, *(note for note in (result.disagreement, result.target.slow) if note), *missing],
        configuration=facts.model_dump_json(indent=1),
        commands=[
            ("Fit a richer family", f"{again} --family full_rank"),
            ("Draws in Python", f"numpy.load({str(path / 'draws.npz')!r})"),
        ],
    )


_TRACE = "The bound as it rose, and its value on fresh draws."
_TRACES = {
    "deterministic": "The bound at the fixed draws of each round (more draws leave less to chance, and are fitted less "
    "closely), and its value on fresh draws.",
    "pathfinder": "The bound of the normal approximation at each point of the best path, and that of q on fresh draws.",
}


def _pictures(result: FitResult) -> tuple[list[Any], list[str]]:
    """The pictures that can be drawn, and why others cannot."""
    from jensen.report.html import Picture

    about: list[tuple[Literal["trace", "pairs", "prior"], str, str, str]] = [
        ("trace", "ELBO", _TRACES.get(result.method, _TRACE), "Curve"),
        ("pairs", "Pairs", "Draws of q, two numbers at a time.", "Scatter plots"),
        ("prior", "Prior and posterior", "What the data have changed.", "Densities"),
    ]
    pictures, missing = [], []
    for kind, title, text, what in about if result.model.prior is not None else about[:2]:
        try:
            pictures.append(Picture("elbo" if kind == "trace" else kind, title, text, what, result.plot(kind)))
        except ValueError as error:  # draws that overflow, as those of an improper posterior
            missing.append(f"The picture {title!r} is missing: {error}")
    return pictures, missing


def _error(facts: FileFacts) -> str:
    return f"{facts.elbo_se:.2g}" if not facts.elbo_se < 1e-4 else "0.0001"


def _tell(path: Path, facts: FileFacts, result: FitResult, page: Path) -> None:
    say(str(result.summary()))
    state = f"{facts.elbo:,.2f} ± {_error(facts)} nats; "
    state += "converged" if facts.converged else "NOT CONVERGED"
    rows = [("run", str(path)), ("ELBO", f"{state}: {facts.reason}")]
    rows += [("Pareto k", f"{facts.pareto_k:.2f}: {facts.verdict}")]
    rows += [] if result.disagreement is None else [("starts", result.disagreement)]
    rows += [("draws", str(path / "draws.npz")), ("table", str(path / "posterior.csv")), ("report", str(page))]
    table(rows)
    if facts.advice and not facts.converged:
        say(f"advice: {facts.advice}")
