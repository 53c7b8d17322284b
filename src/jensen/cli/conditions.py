"""From a user's words to what a conditional model is told."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jensen.cli.screen import warn
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run
    from jensen.training.run import Told

__all__ = [
    "Attributes",
    "Label",
    "Other",
    "class_number",
    "condition_for",
    "filled",
    "in_words",
    "own_told",
    "part_shown",
]

Label = Annotated[
    str | None, Parameter(name="--label", metavar="CLASS", help="for a run conditioned on labels: a name or number")
]
Attributes = Annotated[
    str | None,
    Parameter(
        name="--attributes", metavar="NAME=NUMBER,...", help="for a run conditioned on properties, in their own units"
    ),
]
Other = Annotated[
    Path | None,
    Parameter(name="--other", metavar="FILE", help="for a run conditioned on another image: that of FILES"),
]

MANY = 12
FAR = 4.0
"""Standard deviations from the mean of the training data, beyond which hardly any of them lie."""


def own_told(run: Run) -> Told | None:
    """What the networks of a run's model are told; `run.told` is also what the prior over its codes alone is told."""
    return None if run.config.data.condition is None else run.told


def condition_for(
    run: Run, label: str | None = None, attributes: str | None = None, n: int = 1, *, sampling: bool = False
) -> Tensor | None:
    """What the user says, as the model is told it: n equal rows, (n, *condition_shape) float32.

    A label is one-hot; all zero where none is given and the run was trained with labels unknown. Attributes like
    ``x=3.5,radius=2`` are standardised as in training. None for a run that is conditioned on nothing.

    Args:
        run: whose model is told it.
        label: a class.
        attributes: values of properties.
        n: rows.
        sampling: whether codes are drawn, so that it may be the prior over codes that is told it.

    Raises:
        JensenError: the run needs to be told something else, or nothing; an unknown class or name; no number.
    """
    import torch

    kind, facts = run.told if sampling else own_told(run), run.facts
    for name, given, wanted in (("--label", label, "label"), ("--attributes", attributes, "properties")):
        if given is not None and kind != wanted:
            what = "nothing" if kind is None else run.condition
            if run.told is not None and kind is None:
                what = "nothing but the draw of its codes"
            raise JensenError(f"{run.path} is conditioned on {what}; leave {name} out")
    if kind is None or facts.condition_shape is None:
        return None
    if kind == "label":
        row = torch.zeros(facts.condition_shape)
        if label is not None:
            row[class_number(label, facts.condition_names)] = 1.0
        elif run.config.data.labelled is None:
            raise JensenError(
                f"{run.path} is conditioned on label: say which with --label, one of {_listed(facts.condition_names)}"
            )
    elif kind == "properties":
        row = _standardised(run, attributes)
    else:
        raise JensenError(
            f"{run.path} is conditioned on {run.condition}, an image or a part of one, which only examples "
            "or files can give"
        )
    return row.expand(n, *row.shape).clone()


def class_number(word: str, names: Sequence[str]) -> int:
    """Index of a class given by its name, whatever its case, or by its number.

    Raises:
        JensenError: there is no such class.
    """
    lower = [name.lower() for name in names]
    if word in names:
        return list(names).index(word)
    if lower.count(word.lower()) == 1:
        return lower.index(word.lower())
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    close = difflib.get_close_matches(word.lower(), lower, n=1)
    guess = f"did you mean {names[lower.index(close[0])]}? " if close else ""
    raise JensenError(f"--label: there is no class {word!r}; {guess}one of {_listed(names)}")


def in_words(run: Run, condition: Tensor | None) -> str:
    """What the model is told, (*condition_shape,), for the title of a picture: "class 3", "x = 10, radius = 5".

    Empty where it is told nothing, a label that is unknown, or an image.
    """
    kind, facts = run.told, run.facts
    if condition is None:
        return ""
    if kind == "label":
        return f"class {facts.condition_names[int(condition.argmax())]}" if bool(condition.any()) else ""
    if kind != "properties":
        return ""
    own = [
        mean + sd * value
        for value, mean, sd in zip(condition.tolist(), facts.condition_mean, facts.condition_sd, strict=True)
    ]
    return ", ".join(f"{name} = {value:.4g}" for name, value in zip(facts.condition_names, own, strict=True))


def part_shown(run: Run, images: Tensor) -> Tensor:
    """The visible part of images (B, C, H, W), as a run is told it that fills in the rest: (B, C + 1, H, W)."""
    from jensen.data.visible import shown, visible

    return shown(images, visible(str(run.config.data.condition), *run.facts.shape[1:]))


def filled(run: Run, made: Tensor, condition: Tensor | None) -> Tensor:
    """Decoded values (..., C, H, W) with the visible part, which the model is told and does not predict, put back.

    As they are for a run that fills in no images. `condition` is (..., C + 1, H, W).
    """
    if condition is None or run.told != "part":
        return made
    image, part = condition[..., :-1, :, :], condition[..., -1:, :, :]
    return made * (1.0 - part) + image


def _standardised(run: Run, attributes: str | None) -> Tensor:
    """Attributes "a=1,b=2" as the model sees them, (C,)."""
    import torch

    facts = run.facts
    form = ",".join(
        f"{name}={mean:.3g}" for name, mean in zip(facts.condition_names, facts.condition_mean, strict=True)
    )
    if attributes is None:
        raise JensenError(f"{run.path} is conditioned on {run.condition}: say their values, e.g. --attributes {form}")
    values: dict[str, float] = {}
    for pair in attributes.split(","):
        name, equals, number = (part.strip() for part in pair.partition("="))
        if not equals:
            raise JensenError(f"--attributes: {pair!r} is no name=number; e.g. --attributes {form}")
        if name not in facts.condition_names:
            close = difflib.get_close_matches(name, facts.condition_names, n=1)
            guess = f"; did you mean {close[0]}?" if close else ""
            raise JensenError(f"--attributes: no {name!r}{guess} (choices: {', '.join(facts.condition_names)})")
        if name in values:
            raise JensenError(f"--attributes: {name} is given twice")
        values[name] = _number(name, number)
    missing = [name for name in facts.condition_names if name not in values]
    if missing:
        raise JensenError(f"--attributes: say also {' and '.join(missing)}; e.g. --attributes {form}")
    own = torch.tensor([values[name] for name in facts.condition_names], dtype=torch.float64)
    mean, sd = (torch.tensor(row, dtype=torch.float64) for row in (facts.condition_mean, facts.condition_sd))
    standard = (own - mean) / sd
    for name, centre, away in zip(facts.condition_names, facts.condition_mean, standard.tolist(), strict=True):
        if abs(away) > FAR:
            warn(
                f"{name}={values[name]:g} is {abs(away):.3g} standard deviations from {centre:.3g}, the mean of the "
                "training data: the model has seen nothing like it"
            )
    return standard.float()


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"--attributes: {name} should be a finite number, got {text!r}")
    return value


def _listed(names: Sequence[str]) -> str:
    if len(names) <= MANY:
        return ", ".join(names)
    return f"{', '.join(names[: MANY - 2])}, ... {names[-1]} ({len(names)} classes, or their numbers from 0)"
