"""What every page is made of: pictures with their words, rows of a table, and the template they go into."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from matplotlib.figure import Figure

from jensen.files import write_atomically
from jensen.plots import png

__all__ = ["Embedded", "Picture", "Row", "embed", "render"]

_DPI = 110
_SHARPNESS = 1.5  # image pixels a CSS pixel, for screens with more than one of their own


class Row(NamedTuple):
    """One line of the headline table."""

    name: str
    value: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Picture:
    """A section of the page; without `figure` and `gif` only words are said.

    Args:
        gif: bytes of an animation, shown instead of `figure`.
        lines: words below the text, each line as it is.
    """

    name: str
    title: str
    text: str
    alt: str = ""
    figure: Figure | None = None
    gif: bytes = b""
    lines: str = ""


class Embedded(NamedTuple):
    """A picture as the template wants it."""

    name: str
    title: str
    text: str
    alt: str
    source: str
    """data: URL of the PNG or GIF; empty where there is only text"""
    width: int
    """on the page, in CSS pixels"""
    lines: str = ""


def embed(folder: Path, pictures: Iterable[Picture]) -> list[Embedded]:
    """The pictures as data URLs, and also as files NAME.png (or .gif) in `folder`."""
    return [_embed(folder, picture) for picture in pictures]


def _embed(folder: Path, picture: Picture) -> Embedded:
    if not picture.gif and picture.figure is None:
        return Embedded(picture.name, picture.title, picture.text, picture.alt, "", 0, picture.lines)
    content, kind = picture.gif, "gif"
    if picture.gif:
        width = int.from_bytes(content[6:8], "little")  # after the six letters that a GIF begins with
    else:
        assert picture.figure is not None
        content, kind = png(picture.figure, dpi=round(_DPI * _SHARPNESS)), "png"
        width = round(int.from_bytes(content[16:20], "big") / _SHARPNESS)  # the IHDR chunk of a PNG comes first
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{picture.name}.{kind}", lambda temporary: temporary.write_bytes(content))
    source = f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")
    return Embedded(picture.name, picture.title, picture.text, picture.alt, source, width, picture.lines)


def render(template: str, **values: Any) -> str:
    """A template of this package, filled; every text in it is escaped."""
    source = files("jensen.report")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda name: source.joinpath(name).read_text(encoding="utf-8")),
    )
    return environment.get_template(template).render(**values)
