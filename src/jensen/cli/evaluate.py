"""`jensen evaluate`: how good a run is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.options import DataDirectory, RunPath, Seed, SplitName, whole
from jensen.cli.outputs import put
from jensen.cli.screen import progress, say, table

if TYPE_CHECKING:
    from pathlib import Path

    from jensen.metrics import Evaluation
    from jensen.training import Run

__all__ = ["evaluate", "evaluate_run"]


def evaluate(
    run: RunPath,
    /,
    *,
    samples: Annotated[
        int, Parameter(converter=whole(1), metavar="INT", help="importance samples an example; fewer are quicker")
    ] = 5000,
    split: Annotated[SplitName, Parameter(help="which part of the data")] = "test",
    seed: Seed = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="print JSON instead of a table")] = False,
    data_directory: DataDirectory = None,
) -> None:
    """Evaluate a run on data it has not seen.

    Prints ELBO, importance-weighted log-likelihood, rate, distortion and more,
    with what they mean, and writes RUN/evaluation.json.

    jensen evaluate runs/digits-vae
    jensen evaluate runs/digits-vae --samples 100 --json
    """
    from jensen.training import Run

    opened = Run.open(run)
    evaluation = evaluate_run(opened, samples=samples, split=split, seed=seed, directory=data_directory)
    if as_json:
        say(json.dumps({"split": split, **evaluation.to_dict()}, indent=2))
        return
    say(f"{run}: {evaluation.examples:,} examples of the {split} split")
    table(evaluation.table())
    for warning in evaluation.warnings:
        say(f"warning: {warning}")


def evaluate_run(
    run: Run, *, samples: int, split: SplitName = "test", seed: int = 0, directory: Path | None = None
) -> Evaluation:
    """Evaluate a run's best weights and write evaluation.json in it."""
    import torch

    from jensen.metrics import evaluate as measure

    model, data = run.model().to("cuda" if torch.cuda.is_available() else "cpu"), run.data(directory)
    part = {"train": data.train, "valid": data.valid, "test": data.test}[split]
    with progress("evaluating") as moved:
        evaluation = measure(model, part, samples=samples, seed=seed, progress=moved)
    text = json.dumps({"split": split, **evaluation.to_dict()}, indent=2) + "\n"
    put(run.path / "evaluation.json", lambda path: path.write_text(text, encoding="utf-8"))
    return evaluation
