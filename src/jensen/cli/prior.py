"""`jensen train prior`: a prior over the codes of a run, or one that goes on."""

from __future__ import annotations

import inspect
import math
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jensen.cli.flags import PRIOR_COMMON, assemble_as, config_keys, parameters
from jensen.cli.history import best
from jensen.cli.integers import values_of
from jensen.cli.options import trained
from jensen.cli.screen import table
from jensen.cli.training import RUN, leads, print_all_flags
from jensen.config.prior import PriorConfig
from jensen.errors import ConfigError

if TYPE_CHECKING:
    from jensen.training import PriorRun, Run

__all__ = ["prior"]


def prior(
    *,
    run: Annotated[
        Path | None,
        Parameter(group=RUN, metavar="RUN", validator=trained, help="run of a vqvae, e.g. runs/mnist-vqvae"),
    ] = None,
    config: Annotated[
        Path | None, Parameter(group=RUN, help="YAML file of settings; flags go before it, it before defaults")
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=RUN,
            metavar="RUN",
            validator=trained,
            help="go on with the prior of this run; only --epochs may stand beside it",
        ),
    ] = None,
    replace: Annotated[
        bool,
        Parameter(
            group=RUN, name=("--replace", "--force"), negative="", help="train anew where there is a prior already"
        ),
    ] = False,
    help_all: Annotated[bool, Parameter(group=RUN, negative="", help="show every flag, also the rarer ones")] = False,
    **given: Any,
) -> None:
    """Learn the prior over the codes of a vqvae, so that it can sample.

    A network learns which code follows on which, from the codes of the run's
    training data: a gated PixelCNN, or a transformer. It is kept in RUN/prior,
    and every command finds it there.

    jensen train prior --run runs/mnist-vqvae
    jensen train prior --run runs/mnist-vqvae --condition label --epochs 50
    jensen train prior --run runs/text-vqvae --net transformer --net-width 128
    jensen train prior --resume runs/mnist-vqvae --epochs 100

    With --condition label the prior is told the class, of which `jensen sample
    RUN --label 3` then draws, while the codes stay the same. The prior of a
    model that is told something is told the same.
    """
    if help_all:
        print_all_flags("jensen train prior", [*OWN, *parameters(True, PriorConfig)])
        return
    from jensen.training import Run, fit_prior, resume_prior

    if resume is not None:
        _only_epochs(given, run=run, config=config, replace=replace or None)
        opened = Run.open(resume)
        done = resume_prior(opened, epochs=given.get("train__epochs"))
    else:
        if run is None:
            raise ConfigError("--run is missing: whose codes are to be learned; see `jensen train prior --help`")
        opened = Run.open(run)
        done = fit_prior(opened, assemble_as(PriorConfig, given, config), replace=replace)
    if leads():
        _tell(opened, done)


def _only_epochs(given: dict[str, Any], **others: object) -> None:
    flags = {"__".join(key.path): key.flag for key in config_keys(PriorConfig)}
    extra = [name for name, value in others.items() if value is not None]
    extra += [flags[name] for name in given if name != "train__epochs"]
    if extra:
        raise ConfigError(
            f"--resume goes on with the settings of the prior, so --{extra[0]} cannot stand beside it (only --epochs "
            "can)"
        )


def _tell(run: Run, learned: PriorRun) -> None:
    codes = learned.codes
    number, dims = sum(prod(shape) for shape in codes.shapes), values_of(run)
    rows = [("prior", str(learned.path), "")]
    top = best(learned.history())
    if top is not None:
        bits, uniform = -top.value / math.log(2), number * math.log2(codes.levels)
        rows += [
            ("validation", f"{-top.value:.2f} nats", f"code length of an example, after epoch {top.epoch}"),
            ("", f"{uniform * math.log(2):.2f} nats", "with uniform codes"),
            ("bits per code", f"{bits / number:.3f}", f"{uniform / number:.3f} with uniform codes, of {codes.levels}"),
        ]
        if dims is not None:
            rows.append(("bits per dimension", f"{bits / dims:.4f}", f"{uniform / dims:.4f} with uniform codes"))
    rows += [("next", f"jensen sample {run.path}", ""), ("", f"jensen evaluate {run.path}", "")]
    table(rows)


OWN = [part for part in inspect.signature(prior, eval_str=True).parameters.values() if part.name != "given"]
"""Parameters that are no keys of the configuration."""

prior.__signature__ = inspect.Signature([*OWN, *parameters(False, PriorConfig, PRIOR_COMMON)])  # type: ignore[attr-defined]
