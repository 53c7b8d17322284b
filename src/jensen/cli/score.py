"""`jensen score`: how anomalous data are, by what a run's model says of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import Parameter

from jensen.cli.anomaly import SAMPLES, Given, clean_values, without_corruption
from jensen.cli.conditions import Attributes, Label, Other, own_told
from jensen.cli.extras import on_device, split_of
from jensen.cli.inputs import Scale, condition_for, conditioned, own_condition, read, require_same
from jensen.cli.options import DataDirectory, Force, RunPath, Seed, SplitName, whole
from jensen.cli.outputs import claim, put, write_columns
from jensen.cli.screen import hint, progress, say, table
from jensen.errors import JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import NeuralModel
    from jensen.data import Data
    from jensen.metrics import AnomalyScorer, Scores
    from jensen.metrics.anomaly import Method
    from jensen.metrics.heldout import SplitLike
    from jensen.training import Run

__all__ = ["score"]

SHOWN = 10
"""items of each score in the picture"""
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Items:
    """What is scored."""

    data: SplitLike
    names: list[str]
    values: Tensor
    """as they are seen without noise, (N, *shape)"""
    classes: list[str] | None = None
    """of each, where they are known"""


def score(
    run: RunPath,
    /,
    *files: Annotated[
        Path, Parameter(name="FILES", help="images (.png, .jpg), arrays or tables as the run's own; none: the split")
    ],
    split: Annotated[SplitName, Parameter(help="score this part of the run's data, where no files are given")] = "test",
    method: Annotated[
        str,
        Parameter(
            metavar="NAME,NAME,...",
            help="elbo, importance, reconstruction, typicality, ratio, background, or all that the run has",
        ),
    ] = "all",
    samples: Annotated[
        int, Parameter(converter=whole(1), metavar="INT", help="importance samples of log p(x) an item")
    ] = SAMPLES,
    background: Annotated[
        Path | None,
        Parameter(metavar="RUN2", help="a run of what normal data and anomalies have in common, for method background"),
    ] = None,
    seed: Seed = 0,
    label: Label = None,
    attributes: Attributes = None,
    other: Other = None,
    output: Annotated[
        Path | None,
        Parameter(
            name=("--output", "-o"), metavar="FILE", help="where to write the scores, .csv [default: RUN/scores.csv]"
        ),
    ] = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Score how anomalous data are: the higher, the less the model expects them.

    Writes a table (name, class where it is known, a column for each score in
    nats) and a picture of the items that score highest. Prints quantiles of
    the scores of training data, to set a threshold by. Of new data that are
    normal rather more lie above, as the model was fitted to those.

    The scores are -ELBO, -log p(x) by importance samples, the reconstruction's
    part of it, and three that are corrected, as simple data are probable under
    many models: the distance of log p(x) from its mean over training data
    (typicality), and ratios of p(x) to a general image compressor (ratio) or to
    another run (background). docs/anomaly.md says what each can and cannot do.

    jensen train --data digits --leave-out 3 --transform none \\
        --likelihood discretised-logistic --epochs 100
    jensen score runs/digits-vae
    jensen score runs/digits-vae mine.png yours.png -o scores.csv
    jensen score runs/digits-vae --method importance,ratio --samples 1000
    """
    from jensen.metrics import AnomalyScorer
    from jensen.training import Run

    opened = Run.open(run)
    require_same(opened, "score")
    methods = _methods(method)
    path = claim(output, opened.path / "scores.csv", (".csv",), force)
    picture = claim(None if output is None else path.with_suffix(".png"), path.with_suffix(".png"), (".png",), force)
    other_model = None if background is None else _background(opened, background)
    data = without_corruption(opened.data(data_directory))
    if files:
        items = _from_files(opened, data, files, data_directory, (label, attributes, other))
    else:
        own_condition("score", label, attributes, other)
        items = _from_split(data, split)
    model = on_device(opened)
    if other_model is not None:
        other_model.to(next(model.parameters()).device)
    try:
        with progress("scores of training data") as moved:
            scorer = AnomalyScorer(
                model, data.train, methods, background=other_model, samples=samples, seed=seed, progress=moved
            )
        with progress("scores") as moved:
            scores = scorer(items.data, moved)
    except ValueError as error:
        raise JensenError(f"{run}: {error}") from None
    _write(path, items, scores)
    _report(scorer, scores, items, path)
    if len(opened.facts.shape) == 3:
        _draw(picture, scores, items)
        say(f"the most anomalous of each score: {picture}")
    if not files and opened.config.data.leave_out:
        hint(f"how well the classes that were left out are found: jensen evaluate {run} --anomaly")


def _methods(text: str) -> list[Method] | None:
    """The scores that are named; None: all that there are."""
    from jensen.metrics.anomaly import Method

    if text == "all":
        return None
    choices = get_args(Method)
    found = [name.strip() for name in text.split(",")]
    unknown = [name for name in found if name not in choices]
    if unknown:
        close = difflib.get_close_matches(unknown[0], choices, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise JensenError(f"--method: there is no score {unknown[0]!r}{guess} (choices: all, {', '.join(choices)})")
    return found  # type: ignore[return-value]  # each was looked up


def _background(run: Run, path: Path) -> NeuralModel:
    """The model of another run, whose data look to it as `run`'s own."""
    from jensen.cli.models import load_model
    from jensen.training import Run

    other = Run.open(path)
    require_same(other, "compare with")
    mine, theirs = run.own_facts, other.own_facts
    if (mine.shape, mine.levels) != (theirs.shape, theirs.levels):
        raise JensenError(
            f"--background {path} is of data {theirs.shape} of {theirs.levels} levels, {run.path} of {mine.shape} of "
            f"{mine.levels}: the same data have to be probable or not under both"
        )
    if (mine.mean, mine.sd) != (theirs.mean, theirs.sd):
        raise JensenError(
            f"--background {path} standardises its data by other means than {run.path}: train it on these"
        )
    return load_model(other)


def _from_files(
    run: Run,
    data: Data,
    files: Sequence[Path],
    directory: Path | None,
    told: tuple[str | None, str | None, Path | None],
) -> Items:
    shape, like = run.own_facts.shape, data.test
    inputs = read(files, shape, Scale.of(run, directory))
    if own_told(run) not in (None, "part") and run.config.model.kind != "semi-supervised":
        inputs = conditioned(run, inputs, *told)
    elif own_told(run) is None and run.told is not None:  # the prior over its codes alone
        inputs = replace(inputs, condition=condition_for(run, told[0], told[1], len(inputs.values), sampling=True))
    elif any(value is not None for value in told):
        raise JensenError(f"{run.path} is told nothing of a datum to score; leave --label, --attributes, --other out")
    return Items(Given(inputs.values, like, data.dataset.levels, inputs.condition), inputs.names, inputs.values)


def _from_split(data: Data, split: SplitName) -> Items:
    part = split_of(data, split)
    classes = None
    if part.labels is not None:
        names = data.class_names
        classes = [names[label] if names else str(label) for label in part.labels.tolist()]
    items = [f"{split}-{place:05d}" for place in range(len(part))]
    return Items(part, items, clean_values(data, part), classes)


def _write(path: Path, items: Items, scores: Scores) -> None:
    classes: dict[str, Any] = {} if items.classes is None else {"class": items.classes}
    write_columns(path, {"name": items.names, **classes, **{str(k): v for k, v in scores.values.items()}})


def _report(scorer: AnomalyScorer, scores: Scores, items: Items, path: Path) -> None:
    from jensen.metrics.anomaly import meaning

    say(f"{len(scores):,} scores in nats, higher is more anomalous: {path}")
    rows = []
    for method, values in scores.values.items():
        limits = [scorer.threshold(method, share) for share in QUANTILES]
        above = int((values > limits[-1]).sum())
        highest = items.names[int(values.argmax())]
        rows.append(
            (
                method,
                *(f"{limit:.2f}" for limit in limits),
                f"{above:,} ({100 * above / len(values):.1f} %)",
                highest,
                meaning(method, scorer.samples),
            )
        )
    counted = len(scorer.reference)
    table(rows, ("score", "50 %", "95 %", "99 %", "above 99 %", "highest", "meaning"))
    say(
        f"the quantiles are those of {counted:,} training examples; of new normal data rather more lie above, as the "
        "model was fitted to those"
    )


def _draw(path: Path, scores: Scores, items: Items) -> None:
    from jensen.plots import most_anomalous, png

    count = min(SHOWN, len(scores))
    images, numbers = {}, {}
    for method, values in scores.values.items():
        top = values.argsort(descending=True, stable=True)[:count]
        images[str(method)] = items.values[top]
        numbers[str(method)] = values[top].tolist()
    content = png(most_anomalous(images, numbers, title="The most anomalous, by each score in nats"))
    put(path, lambda temporary: temporary.write_bytes(content))
