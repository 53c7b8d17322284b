"""`jensen runs`: the runs in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.history import best
from jensen.cli.screen import say, table
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from jensen.training import Run

__all__ = ["runs"]


def runs(root: Annotated[Path, Parameter(name="ROOT", help="folder of runs")] = Path("runs"), /) -> None:
    """List the runs in a folder: how far each came, and how to go on.

    jensen runs
    jensen runs experiments
    """
    from jensen.training import Run, list_runs

    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is no folder")
    found = list_runs(root)
    for path in sorted({file.parent for file in root.glob("*/config.yaml")} - {run.path for run in found}):
        try:
            found.append(Run.open(path))
        except JensenError as error:
            say(f"unreadable: {error}")
    if not found:
        say(f"no runs in {root}; `jensen train --data digits --epochs 100` makes one")
        return
    table([_row(run) for run in found], ("run", "data", "model", "epochs", "validation", "state"))


def _row(run: Run) -> tuple[str, ...]:
    config = run.config
    try:
        history, finished = run.history(), run.finished
    except JensenError as error:
        return str(run.path), config.data.name, config.model.kind, "-", "-", f"damaged: {error}"
    top = best(history)
    done = len(history.get("epoch", []))
    return (
        str(run.path),
        config.data.name,
        f"{config.model.kind} {config.model.latent}",
        f"{done} of {config.train.epochs}",
        f"{top.name} {top.value:.2f}" if top else "-",
        "finished" if finished else f"stopped: jensen train --resume {run.path}",
    )
