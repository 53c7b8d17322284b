"""`jensen train`: a new run, or one that goes on."""

from __future__ import annotations

import inspect
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

from jensen.cli.deep import level_shapes
from jensen.cli.flags import assemble, config_keys, parameters
from jensen.cli.history import best
from jensen.cli.models import code_levels
from jensen.cli.prior import prior
from jensen.cli.screen import table
from jensen.cli.training import RUN, PresetName, leads, print_all_flags
from jensen.config.presets import PRESETS
from jensen.errors import ConfigError

if TYPE_CHECKING:
    from jensen.training import Run

__all__ = ["app", "free_directory", "train"]

QUICK_SAMPLES = 100
"""Importance samples for --report: seconds, where `jensen evaluate` takes minutes."""


def train(
    *,
    run: Annotated[Path | None, Parameter(group=RUN, help="directory to write, if not runs/DATA-MODEL")] = None,
    preset: PresetName = None,
    config: Annotated[
        Path | None, Parameter(group=RUN, help="YAML file of settings; flags go before it, it before a preset")
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

    A vqvae has integers as codes; to sample, it needs a prior over them:

    jensen train --data mnist --model vqvae --run runs/codes
    jensen train prior --run runs/codes
    """
    if help_all:
        print_all_flags("jensen train", [*OWN, *parameters(show_all=True)])
        return
    from jensen.training import fit
    from jensen.training import resume as go_on

    if resume is not None:
        _only_epochs(given, run=run, config=config, preset=preset)
        done = go_on(resume, epochs=given.get("train__epochs"))
    else:
        settings = assemble(given, config, preset)
        done = fit(settings, run or free_directory(f"{settings.data.title}-{settings.model.kind}"))
    if not leads():
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


def _only_epochs(given: dict[str, Any], **others: object) -> None:
    flags = {"__".join(key.path): key.flag for key in config_keys()}
    extra = [name for name, value in others.items() if value is not None]
    extra += [flags[name] for name in given if name != "train__epochs"]
    if extra:
        raise ConfigError(
            f"--resume goes on with the settings of the run, so --{extra[0]} cannot stand beside it (only --epochs can)"
        )


def _tell(run: Run, reported: bool) -> None:
    rows = [("run", str(run.path))]
    top = best(run.history())
    if top is not None:
        rows.append(("validation", f"{top.name} {top.value:.2f} nats after epoch {top.epoch}"))
    if meaning := _meaning(run):
        rows.append(("objective", meaning))
    if run.config.model.kind == "vqvae" and top is not None:
        rows += _codes(run, top.epoch)
    after = [] if reported else [f"jensen report {run.path}"]
    after.append(f"jensen evaluate {run.path}")
    if run.config.model.kind == "vqvae":
        after[:0] = [] if run.prior_command is None else [run.prior_command]
        after += [] if run.prior_in_place is None else [f"jensen sample {run.path}"]
    elif run.config.data.target is None:
        after.append(f"jensen {_use(run)} {run.path}")
    if reported:
        rows.append(("report", str(run.path / "report.html")))
    table([*rows, ("next", after[0]), *(("", line) for line in after[1:])])


def _codes(run: Run, epoch: int) -> list[tuple[str, str]]:
    """How a batch of validation data used the codes after an epoch."""
    history = run.history()
    place = history["epoch"].index(epoch)
    rows = []
    for level in ("", "_top", "_bottom"):
        perplexity, used = (history.get(f"valid/{name}{level}") for name in ("perplexity", "codes_used"))
        if perplexity is not None and used is not None:
            share = f"perplexity {perplexity[place]:.1f}, {used[place]:.0%} of {code_levels(run):,} used in a batch"
            rows.append((f"codes{level.replace('_', ', ')}", share))
    return rows


def _use(run: Run) -> str:
    """The command that shows best what this model does."""

    if run.config.model.kind == "autoencoder":
        return "reconstruct"
    return {"part": "inpaint", "properties": "reconstruct", "image": "reconstruct"}.get(run.told or "", "sample")


def _meaning(run: Run) -> str:
    """What the objective's choices mean for this model and these data; empty where nothing is to be said."""
    from jensen.objectives import make_objective

    latent = sum(map(prod, level_shapes(run))) or run.config.model.latent
    return make_objective(run.config.objective, latent).describe(latent, prod(run.facts.target_shape))


_PRESETS = "\n".join(f"      {name.ljust(16)} {chosen.about}" for name, chosen in PRESETS.items())
assert train.__doc__ is not None
train.__doc__ += f"""
    Deep VAEs have settings that were published, and small ones, by name:

    jensen train --preset ladder-small
    jensen train --preset nvae-mnist --epochs 50 --run runs/nvae

{_PRESETS}
    """

OWN = [part for part in inspect.signature(train, eval_str=True).parameters.values() if part.name != "given"]
"""Parameters that are no keys of the configuration."""


train.__signature__ = inspect.Signature([*OWN, *parameters()])  # type: ignore[attr-defined]

app = App(
    name="train",
    usage="Usage: jensen train [OPTIONS] | jensen train prior --run RUN [OPTIONS]",
    group_commands=Group("Then", sort_key=0),
    group_parameters=Group("Options", sort_key=50),
)
app.default(train)
app.command(prior)
