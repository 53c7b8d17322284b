"""Arguments that several commands share, and whole numbers that are not rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

__all__ = [
    "POSTERIOR_FILE",
    "AnyRunPath",
    "DataDirectory",
    "Force",
    "Output",
    "RunPath",
    "Seed",
    "SplitName",
    "trained",
    "whole",
]


def whole(least: int = 0) -> Callable[[Any, Sequence[Token]], int]:
    """A converter to whole numbers from `least` on; cyclopts itself would round 2.5."""

    def convert(_: Any, tokens: Sequence[Token]) -> int:
        text = tokens[0].value
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"should be a whole number, got {text!r}") from None
        if number < least:
            raise ValueError(f"should be at least {least}, got {number}")
        return number

    return convert


SplitName = Literal["train", "valid", "test"]


def trained(_: Any, path: Path | None) -> None:
    """Refuse the folder of a posterior where a trained model is wanted."""
    if path is not None and (path / POSTERIOR_FILE).is_file():
        raise ValueError(
            f"{path} holds a posterior, not a model of `jensen train`: use `jensen infer predict` or `jensen report`"
        )


POSTERIOR_FILE = "posterior.safetensors"
"""as in jensen.inference.store, which imports torch"""

AnyRunPath = Annotated[Path, Parameter(name="RUN", help="run directory, e.g. runs/digits-vae")]
RunPath = Annotated[Path, Parameter(name="RUN", help="run directory, e.g. runs/digits-vae", validator=trained)]
Output = Annotated[
    Path | None,
    Parameter(name=("--output", "-o"), metavar="FILE", help="where to write, if not into the run's figures/"),
]
Force = Annotated[bool, Parameter(negative="", help="overwrite a file that exists")]
Seed = Annotated[int, Parameter(converter=whole(), metavar="INT", help="seed of the noise")]
DataDirectory = Annotated[
    Path | None, Parameter(name="--data-dir", metavar="PATH", help="folder with the data, if it has moved")
]
