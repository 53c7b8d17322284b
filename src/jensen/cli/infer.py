"""`jensen infer`: posteriors of ready-made models."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from jensen.cli.climb import climb
from jensen.cli.flags import config_keys, section_parameters
from jensen.cli.infer_models import MODELS, Model, Restarts, Steps, bound_name
from jensen.cli.options import Force, Seed, whole
from jensen.cli.outputs import claim, writable, write_columns
from jensen.cli.screen import say, table
from jensen.errors import ConfigError, JensenError

__all__ = ["app"]

ABOUT = """Fit a model to data: a posterior over everything that is not known.

Each model writes a run: a folder with the posterior (posterior.safetensors,
config.yaml), a table of means and intervals (posterior.csv) and report.html.

  jensen infer mixture --data iris
  jensen infer regression --data measurements.csv --target yield
  jensen infer predict runs/iris-mixture --data new.csv

A model of your own is a Python file that defines `model`, a log joint:

  jensen infer eight_schools.py --data schools.json

`jensen infer MODEL --help` shows a model's settings."""

app = App(
    name="infer",
    help=ABOUT,
    usage="Usage: jensen infer MODEL ... | jensen infer FILE.py ...",
    group_commands=Group("Models", sort_key=1),
    group_parameters=Group("Options", sort_key=50),
)

DATA, MODEL, CLIMB, RUN = (Group(name, sort_key=place) for place, name in enumerate(("Data", "Model", "Climb", "Run")))

READS = {
    "table": {"columns", "standardise", "label"},
    "number": {"columns", "standardise", "target"},
    "class": {"columns", "standardise", "target"},
    "count": {"columns", "standardise", "target"},
    "series": {"columns", "standardise", "sequence"},
    "documents": {"min_df", "stop_words"},
    "ratings": {"columns"},
}
"""Which of the flags about data a model has, beside --data."""


TABLES = ".csv, .tsv, .npy or .npz, or one of iris, wine, digits, diabetes, breast_cancer"
FILES = dict.fromkeys(READS, TABLES)
FILES |= {"series": ".csv, .tsv, .npy or .npz; rows are times, in order"}
FILES |= {"ratings": ".csv or .tsv of users, items and ratings, or .npz of scipy.sparse"}
FILES |= {"documents": ".txt (a document a line), a folder of .txt, or .npz with counts"}


def _flags(
    *,
    data: str,
    columns: Annotated[
        str | None, Parameter(group=DATA, metavar="A,B,...", help="columns to use, if not all that hold numbers")
    ] = None,
    target: Annotated[str | None, Parameter(group=DATA, metavar="COLUMN", help="what is to be predicted")] = None,
    label: Annotated[
        str | None, Parameter(group=DATA, metavar="COLUMN", help="known classes, to compare with; not used in the fit")
    ] = None,
    sequence: Annotated[
        str | None, Parameter(group=DATA, metavar="COLUMN", help="where its value changes, a new sequence begins")
    ] = None,
    min_df: Annotated[
        int, Parameter(group=DATA, converter=whole(1), metavar="INT", help="texts: documents a word must occur in")
    ] = 1,
    stop_words: Annotated[
        Literal["english"] | None, Parameter(group=DATA, help="texts: leave the most frequent words out")
    ] = None,
    standardise: Annotated[
        bool, Parameter(group=DATA, negative="", help="shift columns to mean 0 and divide by their standard deviation")
    ] = False,
    run: Annotated[Path | None, Parameter(group=RUN, help="directory to write, if not runs/DATA-MODEL")] = None,
    force: Annotated[bool, Parameter(group=RUN, negative="", help="write over a posterior that is there")] = False,
    level: Annotated[float, Parameter(group=RUN, metavar="SHARE", help="probability of the intervals")] = 0.95,
) -> None:
    """Where the flags are that are no settings of a model."""


OWN = inspect.signature(_flags, eval_str=True).parameters


def _command(model: Model) -> Any:
    """The function behind `jensen infer NAME`, with a parameter for each of its flags."""

    def fit(**given: Any) -> None:
        fit_model(model, given)

    hidden = set().union(*READS.values()) - READS[model.reads]
    own = [parameter for name, parameter in OWN.items() if name not in hidden]
    own[0] = own[0].replace(annotation=Annotated[str, Parameter(group=DATA, metavar="FILE", help=FILES[model.reads])])
    climbing = {*Restarts.model_fields, "rho"}
    settings = section_parameters(model.section, lambda name: CLIMB if name in climbing else MODEL)
    fit.__name__ = model.name
    fit.__doc__ = (
        f"{model.about[0].upper()}{model.about[1:]}.\n\n{model.text}\n\njensen infer {model.name} {model.example}"
    )
    fit.__signature__ = inspect.Signature([*own, *settings])  # type: ignore[attr-defined]
    return fit


def fit_model(model: Model, given: Mapping[str, Any]) -> None:
    """Fit, write the run and its page, and say what came out."""
    from jensen.cli.infer_data import load_inputs
    from jensen.cli.infer_run import InferenceRun, estimator_class, refuse_taken

    settings = model.section(**{name: value for name, value in given.items() if name in model.section.model_fields})
    variant = getattr(settings, model.choice) if model.choice else ""
    level = given.get("level", 0.95)
    if not 0 < level < 1:
        raise ConfigError(f"--level should be between 0 and 1, got {level:g}")
    maker = estimator_class(model, variant)
    estimator = maker(**_arguments(model, variant, settings, given, maker))
    asked = {name: given[name] for name in READS[model.reads] if name in given}
    if given.get("run") is not None:
        refuse_taken(given["run"], given.get("force", False))
    loaded = load_inputs(model, variant, given["data"], asked)
    for note in loaded.notes:
        say(note)
    path = given.get("run") or _free(f"{loaded.name}-{model.name}")
    steps = _most_steps(settings, loaded.facts.rows)
    with writable(path, "--run"):
        label, bound = f"{model.name} on {loaded.name}", bound_name(getattr(settings, "bound", None))
        climbed = climb(estimator, loaded.fit, label, most=steps, tol=settings.tol, bound=bound)
        facts = loaded.facts.model_copy(update={"seconds": climbed.seconds, "level": level})
        run = InferenceRun(path, facts, estimator)
        run.write()
    if climbed.interrupted:
        say(f"stopped after {estimator.n_iter_} steps; the posterior reached is in {path}: jensen report {path}")
        raise KeyboardInterrupt
    page = run.write_page(loaded)
    _tell(run, page)
    for warning in climbed.warnings:
        say(f"warning: {warning}")


def _arguments(model: Model, variant: str, settings: Steps, given: Mapping[str, Any], maker: Any) -> dict[str, Any]:
    """Settings as the estimator's arguments; one that this variant does not have may not be given."""
    known = inspect.signature(maker).parameters
    flags = {key.path[0]: key.flag for key in config_keys(model.section)}
    wrong = next((name for name in given if name in flags and name not in known and name != model.choice), None)
    if wrong is not None:
        raise ConfigError(f"--{flags[wrong]} has no meaning for --{flags[model.choice]} {variant}")
    return {name: value for name, value in settings.model_dump().items() if name in known}


def _most_steps(settings: Steps, rows: int) -> int:
    """Steps that a fit can take: sweeps, or minibatches."""
    method = getattr(settings, "method", "cavi")
    size = (
        None
        if method in ("auto", "cavi")
        else getattr(settings, "batch_size", None) or (256 if method == "svi" else None)
    )
    return settings.max_iter * (1 if size is None else -(-rows // size))


def _free(name: str) -> Path:
    from jensen.cli.train import free_directory

    return free_directory(name)


def _tell(run: Any, page: Path) -> None:
    fitted = run.estimator
    settled = "settled" if fitted.converged_ else "has not settled"
    reached = f"{fitted.elbo_:,.2f} nats; {settled} after {fitted.n_iter_:,} steps"
    rows = [("run", str(run.path)), (run.presentation.bound, reached)]
    rows += [(fact.name.lower(), f"{fact.value} {fact.unit}".strip()) for fact in run.presentation.own_facts()]
    rows += [("table", str(run.path / "posterior.csv")), ("report", str(page))]
    table([*rows, ("next", f"jensen infer predict {run.path} --data FILE")])


@app.command(sort_key=99)
def predict(
    run: Annotated[Path, Parameter(name="RUN", help="run of `jensen infer`, e.g. runs/iris-mixture")],
    /,
    *,
    data: Annotated[str, Parameter(metavar="FILE", help="what to predict for, with the columns of the fit")],
    output: Annotated[
        Path | None,
        Parameter(name=("--output", "-o"), metavar="FILE", help="where to write, if not RUN/predictions.csv"),
    ] = None,
    level: Annotated[float, Parameter(metavar="SHARE", help="probability of the intervals")] = 0.95,
    force: Force = False,
) -> None:
    """Predict from a stored posterior: clusters, numbers with intervals, classes.

    Writes a CSV with a row for each row of the data: clusters and their
    probabilities for a mixture, means and intervals for a regression, and so on.

    jensen infer predict runs/diabetes-regression --data new.csv -o new-predicted.csv
    """
    from jensen.cli.infer_data import again
    from jensen.cli.infer_file import FILE_FACTS
    from jensen.cli.infer_run import InferenceRun

    if not 0 < level < 1:
        raise ConfigError(f"--level should be between 0 and 1, got {level:g}")
    if (run / FILE_FACTS).is_file():
        raise JensenError(
            f"{run} is of a model file, which only its own `simulate` can predict for: use posterior_predictive of "
            f"jensen.inference.load_fit in Python; draws are in {run / 'draws.npz'}"
        )
    opened = InferenceRun.open(run)
    path = claim(output, run / "predictions.csv", (".csv",), force)
    loaded = again(opened.facts, data)
    with writable(path.parent, "--output"):
        try:
            columns = opened.presentation.predictions(loaded, level)
        except ValueError as error:
            raise error if isinstance(error, JensenError) else JensenError(f"{data}: {error}") from None
        rows = write_columns(path, columns)
    for note in loaded.notes:
        say(note)
    table([("predictions", str(path)), ("rows", f"{rows:,}"), ("columns", ", ".join(columns))])


@app.default
def file(
    model: Annotated[Path, Parameter(name="FILE.py", help="defines `model`: a Model, or a function of the data")],
    /,
    *,
    data: Annotated[Path | None, Parameter(metavar="FILE", help=".json, .zip of one, or .npz: values by name")] = None,
    family: Annotated[
        Literal["mean_field", "full_rank", "low_rank", "flow"] | None,
        Parameter(help="what q may be, if not mean_field", show_choices=True),
    ] = None,
    method: Annotated[
        Literal["auto", "deterministic", "stochastic", "pathfinder"], Parameter(help="the way up", show_choices=True)
    ] = "auto",
    batch_size: Annotated[
        int | None, Parameter(converter=whole(1), metavar="INT", help="rows of a minibatch, if not all the data")
    ] = None,
    seed: Seed = 0,
    run: Annotated[Path | None, Parameter(metavar="PATH", help="directory to write, if not runs/FILE")] = None,
    force: Force = False,
    level: Annotated[float, Parameter(metavar="SHARE", help="probability of the intervals")] = 0.95,
) -> None:
    """Fit the model of a Python file."""
    from jensen.cli.infer_file import FileRequest, fit_file

    if model.suffix != ".py":
        near = get_close_matches(str(model), [*MODELS, "predict"], 1)
        meant = f' Did you mean "{near[0]}"?' if near else ""
        raise ConfigError(f'Unknown command "{model}".{meant} It is neither one of {", ".join(MODELS)} nor a .py file')
    options = {} if batch_size is None else {"batch_size": batch_size}
    fit_file(FileRequest(model, data, family, method, seed, run, force, level, options))


for _place, _model in enumerate(MODELS.values()):
    app.command(_command(_model), name=_model.name, sort_key=_place)
