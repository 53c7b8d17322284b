"""`jensen sample` and `jensen interpolate`: new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from jensen.cli.conditions import Label, class_number, condition_for, in_words, own_told
from jensen.cli.document_words import LISTED, document_lines, usual_words, vocabulary_of
from jensen.cli.drawing import Draw, drawn, positive, temperatures
from jensen.cli.inputs import Inputs, Scale, conditioned, examples, read, require_images, require_same
from jensen.cli.models import coder, require_code
from jensen.cli.options import DataDirectory, Force, Output, RunPath, Seed, SplitName, whole
from jensen.cli.outputs import claim, put, write_arrays, write_words
from jensen.cli.screen import say
from jensen.cli.table_inputs import columns_of, write_rows
from jensen.cli.words import symbols_of, texts
from jensen.errors import JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run

__all__ = ["Temperature", "interpolate", "sample"]


COLUMNS = 10
"""Samples of each class, where no number is given."""

Temperature = Annotated[
    float,
    Parameter(
        converter=positive("temperature"),
        metavar="NUMBER",
        help="spread of the codes; below 1 more typical and less varied",
    ),
]
Temperatures = Annotated[
    list[float] | None,
    Parameter(
        name="--temperature",
        converter=temperatures,
        metavar="NUMBER",
        negative="",
        consume_multiple=False,
        help="spread of the codes; below 1 more typical and less varied. hvae, ladder, nvae: 0 is the mean, and with "
        "commas one a level, the top first [default: 1]",
    ),
]
Readjust = Annotated[
    bool,
    Parameter(
        negative="",
        help="hvae, ladder and nvae with batch normalisation: give it the statistics of samples at this temperature, "
        "not those of training, which low temperatures are unlike",
    ),
]
TopK = Annotated[
    int | None,
    Parameter(converter=whole(1), metavar="INT", help="draw each code (or pixel) from the k most probable ones"),
]
TopP = Annotated[
    float | None,
    Parameter(
        converter=positive("probability", 1.0),
        metavar="SHARE",
        help="from the most probable ones that together have this probability",
    ),
]
Number = Annotated[
    int | None,
    Parameter(
        name=("--number", "-n"),
        converter=whole(1),
        metavar="INT",
        help="how many [default: 64]; of documents, and of each class, where there are several [default: 10]",
    ),
]
Labels = Annotated[
    list[str] | None,
    Parameter(
        name="--label",
        metavar="CLASS",
        negative="",
        consume_multiple=False,
        help="run conditioned on labels: which class, by name or number; several: again, or with commas",
    ),
]
Attributes = Annotated[
    list[str] | None,
    Parameter(
        name=("--attribute", "--attributes"),
        metavar="NAME=NUMBER",
        negative="",
        consume_multiple=False,
        help="run conditioned on properties: their values in own units; several: again, or with commas",
    ),
]


def sample(
    run: RunPath,
    /,
    *,
    number: Number = None,
    label: Labels = None,
    attribute: Attributes = None,
    temperature: Temperatures = None,
    readjust: Readjust = False,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = 0,
    output: Output = None,
    force: Force = False,
) -> None:
    """Draw codes from the prior and decode them: data that never were.

    A .png shows images in a grid; a .npz holds images, or rows of a table in
    its own units, as an array, and the labels where the run has them. Rows of
    a table of your own are drawn from p(x | z) and written to a .csv, under the
    names of its columns. Text is printed, or written to a .txt; of documents
    the words of each that tell it from the others (a .npz has how often each
    word is expected in 100).

    jensen sample runs/digits-vae
    jensen sample runs/digits-vae -n 1000 --temperature 0.8 -o new.npz

    Codes of a vqvae are drawn one after the other from the prior that `jensen
    train prior` has learned, pixels of model autoregressive likewise:

    jensen sample runs/mnist-vqvae --temperature 0.9 --top-k 50 --top-p 0.95

    Models with several levels of latents take a temperature for each; those
    with batch normalisation often sample better when it is readjusted:

    jensen sample runs/digits-ladder --temperature 0.6,0.8,1,1,1
    jensen sample runs/mnist-nvae --temperature 0.7 --readjust

    A run conditioned on labels (jensen train --condition label) draws the
    classes that are asked for, or every class, one a row; down a column the
    noise is the same, and so is z where its prior is not told the class. A run
    conditioned on properties is told their values:

    jensen sample runs/mnist-classes
    jensen sample runs/mnist-classes --label 3 --label 7
    jensen sample runs/circles-told --attribute x=10,y=12,radius=5
    """
    from jensen.training import Run

    opened = Run.open(run)
    _require_words(opened)
    _require_teller(opened, {"--label": label, "--attribute": attribute})
    symbols, vocabulary = symbols_of(opened), vocabulary_of(opened)
    path = None
    if output is not None or not (symbols or vocabulary):
        rows = bool(columns_of(opened))
        usual = ".png" if len(opened.facts.target_shape) == 3 else ".csv" if rows else ".npz"
        suffixes = (".txt", ".npz") if symbols or vocabulary else (".csv", ".npz") if rows else (".png", ".npz")
        path = claim(output, run / "figures" / f"samples{usual}", suffixes, force)
        if path.suffix == ".png":
            require_images(opened, "no picture of samples; write .npz")
    classes, conditions = _asked(opened, label, attribute)
    several = len(classes) > 1
    count = number or (COLUMNS if several else LISTED if vocabulary else 64)
    spread = 1.0 if temperature is None else temperature[0] if len(temperature) == 1 else temperature
    values = drawn(opened, conditions, count, Draw(spread, top_k, top_p, readjust), seed)
    words = f"{count} samples of each of {len(classes)} classes" if several else f"{count} samples"
    if path is None or path.suffix == ".txt":
        every = values.flatten(0, 1)
        if vocabulary:
            text = document_lines(every, vocabulary, usual_words(opened, conditions, seed))
        else:
            text = texts(every, symbols)
        if path is None:
            say(text)
            return
        write_words(path, text)
    elif path.suffix == ".png":
        said = "" if conditions is None or several else in_words(opened, conditions[0])
        _draw(opened, path, values, classes, said or words)
    else:
        _write(opened, path, values, classes)
    say(f"{words}: {path}")


def _require_words(run: Run) -> None:
    """Raise `JensenError` if what the run is conditioned on cannot be said in words."""
    kind = run.told
    if kind == "part":
        raise JensenError(
            f"{run.path} fills in what is hidden of an image: `jensen inpaint {run.path}` shows it an image to fill in"
        )
    if kind == "image":
        raise JensenError(
            f"{run.path} is conditioned on another image ({run.condition}), which words cannot give; "
            f"`jensen report {run.path}` shows samples for test examples"
        )


def _require_teller(run: Run, given: Mapping[str, Sequence[str] | None]) -> None:
    """Raise `JensenError` if something is said that only a prior is told which cannot be put in place."""
    flag = next((name for name, words in given.items() if words is not None), None)
    if flag is None or run.told is not None:
        return
    prior = run.prior
    fault = None if prior is None or prior.config.condition is None else run.unfit(prior)
    if prior is not None and fault is not None:
        raise JensenError(f"{flag} is for the prior, which was told {prior.config.condition}, but {fault}")


def _asked(run: Run, label: Sequence[str] | None, attribute: Sequence[str] | None) -> tuple[list[int], Tensor | None]:
    """Classes that were asked for (all if none was; none without labels), and a condition for each row of samples."""
    import torch

    words = [word.strip() for given in label or () for word in given.split(",")]
    joined = None if attribute is None else ",".join(attribute)
    if run.told != "label" or joined is not None:
        return [], condition_for(run, words[0] if words else None, joined, sampling=True)
    names = run.facts.condition_names
    classes = [class_number(word, names) for word in words] if words else list(range(len(names)))
    twice = next((place for place in classes if classes.count(place) > 1), None)
    if twice is not None:
        raise JensenError(f"--label: {names[twice]} is given twice")
    return classes, torch.eye(len(names))[classes]


def _draw(run: Run, path: Path, values: Tensor, classes: Sequence[int], title: str) -> None:
    """Samples (rows, count, *target_shape) as a picture: of several classes a row each, else a grid."""
    from jensen.plots import class_grid, image_grid, save

    names = [run.facts.condition_names[place] for place in classes]
    figure = class_grid(values, names, title=title) if len(values) > 1 else image_grid(values[0], title=title)
    put(path, lambda temporary: save(figure, temporary))


def _write(run: Run, path: Path, values: Tensor, classes: Sequence[int]) -> None:
    """Samples (rows, count, *target_shape) as arrays, with their labels where they have such."""
    import numpy as np

    every = values.flatten(0, 1)
    own = every if run.config.data.target is not None else Scale.of(run).to_own(every)
    if path.suffix.lower() == ".csv":
        names = [run.facts.condition_names[place] for place in classes for _ in range(values.shape[1])]
        write_rows(path, columns_of(run), own, {run.config.data.class_column or "class": names} if names else None)
        return
    arrays = {"images" if every.ndim == 4 else "values": own.numpy()}
    if vocabulary := vocabulary_of(run):
        arrays["vocab"] = np.array(vocabulary)
    if classes:
        arrays["labels"] = np.repeat(np.array(classes, dtype=np.int64), values.shape[1])
        arrays["class_names"] = np.array(run.facts.condition_names)
    write_arrays(path, arrays)


def interpolate(
    run: RunPath,
    start: Annotated[str, Parameter(name="I", help="where to start: a place in the split, or an image file")],
    end: Annotated[str, Parameter(name="J", help="where to end")],
    /,
    *,
    steps: Annotated[int, Parameter(converter=whole(2), metavar="INT", help="images on the way, ends included")] = 9,
    path: Annotated[
        Literal["linear", "spherical"],
        Parameter(help="spherical keeps the length of the code, which a straight line shortens in the middle"),
    ] = "linear",
    label: Label = None,
    split: Annotated[SplitName, Parameter(help="which part of the data I and J count in")] = "test",
    output: Output = None,
    force: Force = False,
    data_directory: DataDirectory = None,
) -> None:
    """Walk from the code of one image to that of another, decoding on the way.

    A conditional run is told the same all the way: what it is told of the
    first image, or --label; the title says what. Framed at both ends: the
    originals.

    jensen interpolate runs/digits-vae 0 1
    jensen interpolate runs/digits-vae a.png b.png --path spherical -o walk.png
    jensen interpolate runs/mnist-classes 0 1 --label 3
    """
    import torch

    from jensen.plots import save, walk
    from jensen.training import Run

    opened = Run.open(run)
    require_code(opened, "interpolate")
    require_same(opened, "interpolate")
    target = claim(output, run / "figures" / f"walk-{Path(start).stem}-{Path(end).stem}.png", (".png",), force)
    require_images(opened, "no walk to draw")
    if own_told(opened) == "part":
        raise JensenError(
            f"{run} fills in what is hidden of an image, and two images hide different things: there is no walk "
            f"between them; see `jensen inpaint {run}`"
        )
    first, last = (_one(opened, place, split, data_directory) for place in (start, end))
    condition = _all_the_way(opened, first, label, is_file=not start.isdigit())
    torch.manual_seed(0)  # where what is decoded is a draw
    try:
        images = coder(opened, "interpolate").interpolate(first.values[0], last.values[0], steps, path, condition)
    except ValueError as error:
        raise JensenError(str(error)) from None
    names = [f"{split} example {place}" if place.isdigit() else Path(place).name for place in (start, end)]
    said = in_words(opened, condition)
    title = f"From {names[0]} to {names[1]}, {path}" + (f", told {said}" if said else "")
    put(target, lambda temporary: save(walk(images, (first.values[0], last.values[0]), title=title), temporary))
    say(f"{steps} steps from {names[0]} to {names[1]}: {target}")


def _all_the_way(run: Run, first: Inputs, label: str | None, *, is_file: bool) -> Tensor | None:
    """What the model is told on a walk that begins at `first`, (*condition_shape,); None: nothing."""
    if label is not None:
        found = condition_for(run, label)
    elif is_file and own_told(run) in ("properties", "image"):
        raise JensenError(
            f"{run.path} is conditioned on {run.config.data.condition}, which no image file tells: start from an "
            "example of the data"
        )
    else:
        found = (conditioned(run, first) if is_file else first).condition
    return None if found is None else found[0]


def _one(run: Run, place: str, split: str, directory: Path | None) -> Inputs:
    if place.isdigit():
        return examples(run, split, [int(place)], directory)
    if not Path(place).suffix:
        raise JensenError(f"{place!r} is neither a place in the split (0, 1, ...) nor an image file")
    inputs = read([Path(place)], run.facts.shape, Scale.of(run))
    if len(inputs.values) != 1:
        raise JensenError(f"{place} holds {len(inputs.values)} images; a walk needs one at each end")
    return inputs
