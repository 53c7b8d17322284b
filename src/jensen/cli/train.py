"""`jensen train`: a new run, or one that goes on."""

from __future__ import annotations

import inspect
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

from jensen.cli.flags import assemble, config_keys, parameters
from jensen.cli.history import best
from jensen.cli.screen import table
from jensen.errors import ConfigError

if TYPE_CHECKING:
    from jensen.training import Run

__all__ = ["train"]

QUICK_SAMPLES = 100
"""Importance samples for --report: seconds, where `jensen evaluate` takes minutes."""

RUN = Group("Run", sort_key=1)


def train(
    *,
    run: Annotated[Path | None, Parameter(group=RUN, help="directory to write, if not runs/DATA-MODEL")] = None,
    config: Annotated[
        Path | None, Parameter(group=RUN, help="YAML file of settings; flags go before it, it before defaults")
    ] = None,
    resume: Annotated[
        Path | None, Parameter(group=RUN, metavar="RUN", help="go on with this run; only --epochs may stand beside it")
    ] = None,
    report: Annotated[
        bool, Parameter(group=RUN, negative="", help="evaluate and write report.html at the end")
    ] = False,
    help_all: Annotated[bool, Parameter(group=RUN, negative="", help="show every flag, also the rarer ones")] = False,
    **given: Any,
) -> None:
    """Learn a model of data and write a run: settings, weights, metrics.

    jensen train --data digits --epochs 100
    jensen train --data mnist --latent 20 --net conv --run runs/first
    jensen train --config my.yaml --lr 3e-4
    jensen train --resume runs/first --epochs 40
    """
    if help_all:
        _print_all_flags()
        return
    from jensen.training import fit
    from jensen.training import resume as go_on

    if resume is not None:
        _only_epochs(given, run=run, config=config)
        done = go_on(resume, epochs=given.get("train__epochs"))
    else:
        settings = assemble(given, config)
        done = fit(settings, run or free_directory(f"{settings.data.name}-{settings.model.kind}"))
    if not _leads():
        return
    if report:
        from jensen.cli.evaluate import evaluate_run
        from jensen.report import write_report

        write_report(done, evaluate_run(done, samples=QUICK_SAMPLES))
    _tell(done, report)


def free_directory(name: str, root: Path = Path("runs")) -> Path:
    """`root`/`name`, or the first of name-2, name-3, ... that does not exist."""
    path, number = root / name, 1
    while path.exists():
        number += 1
        path = root / f"{name}-{number}"
    return path


def _only_epochs(given: dict[str, Any], **others: Path | None) -> None:
    flags = {"__".join(key.path): key.flag for key in config_keys()}
    extra = [name for name, value in others.items() if value is not None]
    extra += [flags[name] for name in given if name != "train__epochs"]
    if extra:
        raise ConfigError(
            f"--resume goes on with the settings of the run, so --{extra[0]} cannot stand beside it (only --epochs can)"
        )


def _leads() -> bool:
    """Whether this is the process that speaks and writes, of those that train together."""
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0)


def _tell(run: Run, reported: bool) -> None:
    rows = [("run", str(run.path))]
    top = best(run.history())
    if top is not None:
        rows.append(("validation", f"{top.name} {top.value:.2f} nats after epoch {top.epoch}"))
    if meaning := _meaning(run):
        rows.append(("objective", meaning))
    after = [f"jensen evaluate {run.path}"]
    if run.config.data.target is None:
        after.append(f"jensen {_use(run)} {run.path}")
    if reported:
        rows.append(("report", str(run.path / "report.html")))
    else:
        after.insert(0, f"jensen report {run.path}")
    table([*rows, ("next", after[0]), *(("", line) for line in after[1:])])


def _use(run: Run) -> str:
    """The command that shows best what this model does."""

    if run.config.model.kind == "autoencoder":
        return "reconstruct"
    return {"part": "inpaint", "properties": "reconstruct", "image": "reconstruct"}.get(run.told or "", "sample")


def _meaning(run: Run) -> str:
    """What the objective's choices mean for this model and these data; empty where nothing is to be said."""
    from jensen.objectives import make_objective

    latent = run.config.model.latent
    return make_objective(run.config.objective, latent).describe(latent, prod(run.facts.target_shape))


OWN = [part for part in inspect.signature(train, eval_str=True).parameters.values() if part.name != "given"]
"""Parameters that are no keys of the configuration."""


def _print_all_flags() -> None:
    from jensen.cli.app import build_app

    def everything(**_: Any) -> None:
        """Every flag of `jensen train`."""

    everything.__signature__ = inspect.Signature([*OWN, *parameters(show_all=True)])  # type: ignore[attr-defined]
    app = App(
        help_format="plaintext", help_formatter=build_app().help_formatter, usage="", help_flags=[], version_flags=[]
    )
    app.default(everything)
    app.help_print()


train.__signature__ = inspect.Signature([*OWN, *parameters()])  # type: ignore[attr-defined]
