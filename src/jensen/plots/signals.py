"""Sequences: signals as lines, and texts in which every wrong character stands out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle

from jensen.plots._input import Array, as_array, same_shape
from jensen.plots._style import COLOURS, INK, MUTED, finish, integer_axis, new_figure, plain

__all__ = ["signals", "text_lines", "text_pairs"]

_MOST_CHANNELS = 4
_FONT = "DejaVu Sans Mono"  # comes with matplotlib, so that a picture is the same everywhere
_SIZE = 8.0  # points
_ADVANCE = 0.602 * _SIZE / 72  # width of a character, inches
_LINE = 1.55 * _SIZE / 72
_WRONG, _BEHIND = COLOURS[1], "#FBE0CC"
_AT_ONCE = 10  # letters
_MARKS = {" ": " ", "\n": "↵", "\t": "→"}
_OTHER = "\N{REPLACEMENT CHARACTER}"


def signals(
    originals: Array,
    reconstructions: Array | None = None,
    *,
    title: str = "",
    words: tuple[str, str] = ("original", "reconstruction"),
) -> Figure:
    """Signals as small line plots, one a row; with reconstructions these over them. All rows have one scale.

    Args:
        originals: (B, C, L), in any unit; each channel has a column, of more than four the first four are drawn.
        reconstructions: (B, C, L).
        title: of the figure.
        words: what the two are, for the legend.

    Raises:
        ValueError: shapes that differ or have other dimensions, or values that are not finite.
    """
    values = as_array("originals", originals, dimensions=3)
    made = None if reconstructions is None else as_array("reconstructions", reconstructions, dimensions=3)
    if made is not None:
        same_shape("originals", values, "reconstructions", made)
    count, channels, length = values.shape
    across = min(channels, _MOST_CHANNELS)
    rest = "" if channels == across else f" (first {across} of {channels} channels)"
    title += rest if title else rest.strip(" ()")
    figure = new_figure(max(7.5 if across == 1 else 3.4 * across, 0.105 * len(title) + 0.3), 0.62 * count + 1.0)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    panels = figure.subplots(count, across, squeeze=False, sharex=True, sharey=True)
    marker = "o" if length == 1 else ""  # one value is no line
    for row in range(count):
        for channel in range(across):
            axes: Axes = panels[row, channel]
            finish(axes, "", "place" if row == count - 1 else "")
            axes.tick_params(labelsize=7.5, labelbottom=row == count - 1, labelleft=channel == 0)
            axes.locator_params(axis="y", nbins=2)
            axes.margins(y=0.12)
            if length < 8:
                integer_axis(axes)
            if across > 1 and row == 0:
                axes.set_title(f"channel {channel}", loc="left", fontsize=9, color=INK)
            colour, width = (COLOURS[0], 1.3) if made is None else ("#9AA6B2", 2.6)
            axes.plot(values[row, channel], color=colour, linewidth=width, marker=marker, label=words[0])
            if made is not None:
                axes.plot(made[row, channel], color=COLOURS[1], linewidth=1.3, marker=marker, label=words[1])
    if made is not None:
        lines, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower left", ncols=2, fontsize=8.5, frameon=False)
    return plain(figure)


def text_lines(texts: Sequence[str], *, columns: int = 128, title: str = "") -> Figure:
    """Texts in a font of one width, numbered; the end of a line is shown as ↵, and the text goes on in its line.

    What cannot be drawn (other control characters, letters that the font lacks) is shown as �.

    Args:
        texts: of any length.
        columns: characters a line; the rest goes below.
        title: of the figure.

    Raises:
        ValueError: no texts, or columns are not positive.
    """
    marked = [(str(place), text, [False] * len(text)) for place, text in enumerate(texts, start=1)]
    return _page([[line] for line in marked], columns, title)


def text_pairs(
    originals: Sequence[str],
    restored: Sequence[str],
    *,
    columns: int = 128,
    title: str = "",
    words: tuple[str, str] = ("original", "restored"),
) -> Figure:
    """Each text above what was made of it, in which every character that differs is coloured and shaded.

    What one text has more than the other is shaded, too. See `text_lines` for what is drawn in which way.

    Args:
        originals: of any length.
        restored: as many.
        columns: characters a line; the rest goes below.
        title: of the figure.
        words: what the two are; they stand at the left.

    Raises:
        ValueError: other numbers of texts, none at all, or columns are not positive.
    """
    if len(originals) != len(restored):
        raise ValueError(f"restored should be {len(originals)} texts as originals are, but are {len(restored)}")
    pairs = []
    for text, made in zip(originals, restored, strict=True):
        longest = max(len(text), len(made))
        # A place where there is no character differs from any.
        wrong = [text[i : i + 1] != made[i : i + 1] for i in range(longest)]
        pairs.append([(words[0], text, [False] * len(text)), (words[1], made, wrong)])
    return _page(pairs, columns, title)


Line = tuple[str, str, list[bool]]
"""What stands at the left, a text, and whether each place of it is wrong (maybe beyond its end)"""


def _page(blocks: Sequence[Sequence[Line]], columns: int, title: str) -> Figure:
    """Lines that belong together, one block under the other, in coordinates of characters."""
    if not blocks:
        raise ValueError("there should be at least one text, but there is none")
    if columns < 1:
        raise ValueError(f"columns should be at least 1, but is {columns}")
    margin = 2 + max(len(name) for block in blocks for name, _, _ in block)
    longest = max(1, *(len(wrong) for block in blocks for _, _, wrong in block))
    across = min(columns, longest)
    rows: list[tuple[float, Line]] = []
    top = 0.0
    for block in blocks:
        for start in range(0, max(1, *(len(wrong) for _, _, wrong in block)), across):
            part = slice(start, start + across)
            for name, text, wrong in block:
                rows.append((top, (name if start == 0 else "", text[part], wrong[part])))
                top += 1
        top += 0.5
    width = max((margin + across + 1) * _ADVANCE + 0.2, 0.105 * len(title) + 0.3)
    head = 0.4 if title else 0.1
    height = top * _LINE + head + 0.05
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # characters are placed by hand
    axes = figure.add_axes((0.1 / width, 0.05 / height, 1 - 0.2 / width, 1 - (head + 0.05) / height))
    axes.set(xlim=(-margin, (width - 0.2) / _ADVANCE - margin), ylim=(top, 0))
    axes.axis("off")
    figure.suptitle(
        title, x=0.1 / width, y=1 - 0.1 / height, ha="left", va="top", fontsize=11, fontweight="bold", color=INK
    )
    for y, line in rows:
        _write(axes, y, margin, line)
    return plain(figure)


def _write(axes: Axes, y: float, margin: int, line: Line) -> None:
    name, text, wrong = line
    font: dict[str, Any] = {"family": _FONT, "size": _SIZE, "va": "baseline", "ha": "left"}
    axes.text(-margin, y + 0.72, name, color=MUTED, **font)
    for place, off in enumerate(wrong):
        if off:
            axes.add_patch(Rectangle((place, y), 1, 1, facecolor=_BEHIND, edgecolor="none"))
    # A few letters at a time: hinting rounds their advances, which in a long string would shift what follows.
    letters = "".join(map(_drawable, text))
    for match in re.finditer(rf"\S{{1,{_AT_ONCE}}}", letters):
        for off, run in groupby(range(*match.span()), key=wrong.__getitem__):
            places = list(run)
            word = letters[places[0] : places[-1] + 1]
            axes.text(places[0], y + 0.72, word, color=_WRONG if off else INK, **font)


@cache
def _drawable(letter: str) -> str:
    """The letter, or what is drawn in its place: one character of the font, as wide as any."""
    if letter in _MARKS:
        return _MARKS[letter]
    font = get_font(findfont(FontProperties(family=_FONT)))
    alone = letter.isprintable() and not unicodedata.combining(letter)
    return letter if alone and font.get_char_index(ord(letter)) else _OTHER
