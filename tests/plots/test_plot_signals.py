"""Lines carry the values, and characters stand where they belong, the wrong ones marked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jensen.plots import png, signals, text_lines, text_pairs
from jensen.plots._style import COLOURS


def lines(figure: Figure) -> list[tuple[str, str]]:
    """What stands at the left and what is written, from top to bottom, put together from the places of the letters."""
    rows: dict[float, tuple[str, str]] = {}
    for text in figure.axes[0].texts:
        (x, y), words = text.get_position(), text.get_text()
        name, written = rows.get(y, ("", ""))
        rows[y] = (words, written) if x < 0 else (name, written.ljust(round(x)) + words)
    return [rows[y] for y in sorted(rows)]


def marked(figure: Figure) -> set[tuple[int, int]]:
    """(column, row) of every shaded place, rows counted from above."""
    tops = sorted({text.get_position()[1] for text in figure.axes[0].texts})
    found = set()
    for patch in figure.axes[0].patches:
        assert isinstance(patch, Rectangle)
        (row,) = [place for place, y in enumerate(tops) if patch.get_y() < y < patch.get_y() + patch.get_height()]
        found.add((round(patch.get_x()), row))
    return found


def test_lines_carry_both_signals() -> None:
    x, y = torch.randn(3, 2, 9), torch.randn(3, 2, 9)
    figure = signals(x, y, title="Costs $5 or $6", words=("before", "after"))
    assert len(figure.axes) == 6
    for place, axes in enumerate(figure.axes):
        for line, values in zip(axes.lines, (x, y), strict=True):
            np.testing.assert_allclose(np.asarray(line.get_ydata()), values[place // 2, place % 2].numpy())
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["before", "after"]
    assert figure.get_suptitle() == "Costs $5 or $6"
    assert png(figure)


def test_signals_alone_need_no_legend() -> None:
    figure = signals(np.zeros((2, 1, 1)))
    assert [len(axes.lines) for axes in figure.axes] == [1, 1]
    assert figure.axes[0].lines[0].get_marker() == "o"  # one value is no line
    assert not figure.legends


def test_of_many_channels_the_first_are_drawn() -> None:
    figure = signals(torch.rand(1, 7, 5), title="Sound")
    assert len(figure.axes) == 4
    assert figure.get_suptitle() == "Sound (first 4 of 7 channels)"


def test_impossible_signals() -> None:
    with pytest.raises(ValueError, match="3 dimension"):
        signals(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="one shape"):
        signals(torch.zeros(2, 1, 5), torch.zeros(2, 1, 4))


def test_wrong_characters_are_coloured_and_shaded() -> None:
    figure = text_pairs(["for x in y:\n  $a$", "same"], ["for z inny: \n $a$", "same"], words=("read", "made"))
    assert lines(figure) == [
        ("read", "for x in y:↵  $a$"),
        ("made", "for z inny: ↵ $a$"),
        ("read", "same"),
        ("made", "same"),
    ]
    assert marked(figure) == {(4, 1), (8, 1), (11, 1), (12, 1)}
    coloured = [text.get_text() for text in figure.axes[0].texts if same_color(text.get_color(), COLOURS[1])]
    assert coloured == ["z", "n", "↵"]


def test_texts_of_other_lengths_differ_where_one_ends() -> None:
    figure = text_pairs(["abcd", ""], ["ab", "xy"])
    assert marked(figure) == {(2, 1), (3, 1), (0, 3), (1, 3)}


def test_long_texts_go_on_below() -> None:
    text = "".join(chr(ord("a") + place % 26) for place in range(50))
    figure = text_pairs([text], [text[:30] + "." + text[31:]], columns=20)
    first, second, third = text[:20], text[20:40], text[40:]
    changed = text[20:30] + "." + text[31:40]
    assert [line for _, line in lines(figure)] == [first, first, second, changed, third, third]
    assert [name for name, _ in lines(figure)] == ["original", "restored", "", "", "", ""]
    assert marked(figure) == {(10, 3)}


def test_every_character_has_one_place() -> None:
    figure = text_lines(["a\tb 日é\u0301!\x00", "", "$x$ \N{GREEK SMALL LETTER ALPHA}"], title="$")
    assert lines(figure) == [("1", "a→b �é�!�"), ("2", ""), ("3", "$x$ α")]
    assert not marked(figure)
    assert png(figure)  # nothing is missing in the font, which would be a warning


def test_letters_stand_under_each_other() -> None:
    """A long line is as wide as its places say, at whatever resolution."""
    figure = text_lines(["w" * 100 + " " + "i" * 27], columns=128)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    right = max(text.get_window_extent().x1 for text in axes.texts)
    place = axes.transData.inverted().transform((right, 0))[0]
    assert abs(place - 128) < 0.5


@pytest.mark.parametrize("dpi", [72, 110, 165])
def test_a_word_keeps_to_its_places(dpi: int) -> None:
    figure = text_lines(["m" * 60])
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for text in axes.texts[1:]:
        x1 = axes.transData.inverted().transform((text.get_window_extent().x1, 0))[0]
        assert abs(x1 - text.get_position()[0] - len(text.get_text())) < 0.5


def test_impossible_texts() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        text_lines([])
    with pytest.raises(ValueError, match="2 texts as originals are, but are 1"):
        text_pairs(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="columns"):
        text_lines(["a"], columns=0)
