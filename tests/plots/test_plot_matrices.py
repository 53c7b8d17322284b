"""Loadings, tables of probabilities, hidden states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from jensen.plots import emission_table, loadings, png, states

Words = Callable[[Figure], str]


def test_loadings_are_white_at_zero_and_named(words: Words) -> None:
    figure = loadings([[1.0, -4.0], [0.5, 0.0]], ("height", "weight"), ("f1", "f2"))
    image = figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), [[1, -4], [0.5, 0]])
    assert image.get_clim() == (-4.0, 4.0)
    said = words(figure)
    assert "height" in said
    assert "−4.00" in said
    assert "f2" in said


def test_probabilities_go_from_zero_to_one(words: Words) -> None:
    figure = emission_table(torch.tensor([[0.25, 0.75], [1.0, 0.0]]), ("rain", "sun"))
    assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)
    assert "0.75" in words(figure)
    assert "rain" in words(figure)


def test_a_large_matrix_has_no_numbers_in_it(words: Words) -> None:
    assert "0.50" not in words(emission_table(np.full((30, 30), 0.5)))
    assert png(loadings(np.zeros((90, 70)))).startswith(b"\x89PNG")


def stacks(figure: Figure) -> list[tuple[list[float], list[float]]]:
    """Of each state its upper and lower edge over time."""
    patches = [patch for patch in figure.axes[1].patches if isinstance(patch, StepPatch)]
    return [(list(patch.get_data().values), list(np.asarray(patch.get_data().baseline))) for patch in patches]


def test_marginals_are_stacked_to_one_below_the_series() -> None:
    figure = states([0.0, 1.0, 2.0], [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], state_names=("low", "high"))
    (first, zero), (second, base) = stacks(figure)
    np.testing.assert_allclose(zero, 0)
    np.testing.assert_allclose(first, [0.9, 0.5, 0.2])
    np.testing.assert_allclose(base, first)
    np.testing.assert_allclose(second, 1)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0, 1, 2])
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["low", "high"]


def test_a_path_is_the_same_with_certainty() -> None:
    path = np.array([0, 2, 2, 1])
    a = states(torch.arange(4.0), path)
    b = states(torch.arange(4.0), np.eye(3)[path])
    assert stacks(a) == stacks(b)
    assert len(stacks(a)) == 3


def test_each_time_of_a_single_series_has_the_colour_of_its_state() -> None:
    figure = states([5.0, 6.0, 7.0], [0, 1, 0])
    dots = next(c for c in figure.axes[0].collections if not isinstance(c, PolyCollection))
    first, second, third = dots.get_facecolors()
    assert (first == third).all()
    assert (first != second).any()


def test_symbols_are_named_on_the_axis() -> None:
    figure = states([0, 1, 0], [0, 1, 0], symbols=("rain", "sun"))
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["rain", "sun"]


def test_long_and_wide_series_are_cut_and_it_says_so(words: Words) -> None:
    figure = states(torch.randn(5_000, 9), torch.zeros(5_000), start=100)
    assert len(figure.axes[0].lines) == 6
    assert len(figure.axes[0].lines[0].get_ydata()) == 4_000
    assert figure.axes[0].lines[0].get_xdata()[0] == 100
    assert "of 9 columns" in words(figure)
    assert "first 4,000 of 5,000 times" in words(states(torch.randn(5_000), torch.zeros(5_000)))


def test_a_missing_value_is_a_gap_and_is_counted(words: Words) -> None:
    figure = states([5.0, np.nan, 7.0, 8.0], [0, 0, 1, 1])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [5, np.nan, 7, 8])
    assert "1 of 4 times missing" in words(figure)
    assert "missing" not in words(states([5.0, 6.0], [0, 1]))
    everything = states(np.full((5_000, 8), np.nan), np.zeros(5_000))  # remarks do not lie on each other
    assert "first 4,000 of 5,000 times; first 6 of 8 columns; 5,000 of 5,000 times missing" in words(everything)


def test_a_value_between_gaps_is_a_dot() -> None:
    line = states([[1.0, 1], [np.nan, 2], [3, 3], [np.nan, 4], [5, 5], [6, 6]], np.zeros(6)).axes[0].lines
    assert (line[0].get_marker(), line[0].get_markevery()) == (".", [0, 2])
    assert line[1].get_marker() == "None"


def test_the_line_is_broken_where_a_sequence_begins() -> None:
    line = states([1.0, 2.0, 3.0, 4.0, 5.0], [0, 0, 0, 1, 1], lengths=[3, 2]).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), [1, 2, 3, np.nan, 4, 5])
    at = np.asarray(line.get_xdata())
    np.testing.assert_array_equal(at[np.isfinite(np.asarray(line.get_ydata()))], [0, 1, 2, 3, 4])
    long = states(np.zeros(5_000), np.zeros(5_000), lengths=[3_999, 1, 1_000]).axes[0].lines[0]
    assert np.flatnonzero(np.isnan(np.asarray(long.get_ydata()))).tolist() == [3_999]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loadings([1.0]), "2 dimension"),
        (lambda: loadings([[1.0]], ("a", "b")), "rows should have 1 names"),
        (lambda: emission_table([[0.5, 1.5]]), r"\[0, 1\]"),
        (lambda: emission_table([[0.5, 0.5]], columns=("a",)), "columns should have 2 names"),
        (lambda: states([1.0, 2.0], [0, 1, 0]), "2 and 3 times"),
        (lambda: states([1.0, 2.0], [0.5, 1]), "path of states"),
        (lambda: states([1.0, 2.0], [[0.5, 0.4], [0.5, 0.5]]), "sum to one"),
        (lambda: states([1.0, np.inf], [0, 1]), "1 values are infinite"),
        (lambda: states([1.0, 2.0], [0, 1], lengths=[2, 1]), "sum to the 2 times, but sum to 3"),
        (lambda: states([1.0, 2.0], [0, 1], lengths=[2, 0]), "should be 1 or more"),
        (lambda: states([1.0], [0], names=("a", "b")), r"one entry a column \(1\)"),
        (lambda: states([1.0], [[0.5, 0.5]], state_names=("a",)), r"one entry a state \(2\)"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
