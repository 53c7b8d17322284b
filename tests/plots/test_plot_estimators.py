"""The ladder of variances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from jensen.plots.estimators import variance_ladder


def test_a_row_for_each_estimator_and_a_line_for_each_stage(words: Callable[[Figure], str]) -> None:
    figure = variance_ladder(
        ["score", "landing", "none"],
        {"start": [400.0, 2.0, np.nan], "optimum": [100.0, 0.0, np.nan]},
        title="Ladder",
        remark="10 draws",
    )
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["score", "landing", "none"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first at the top
    start, start_marks, start_edge, optimum, optimum_marks, optimum_edge = axes.lines
    np.testing.assert_allclose(start.get_xdata(), [400, 2])
    np.testing.assert_allclose(start.get_ydata(), [0, 1])
    assert len(start_edge.get_xdata()) == 0
    np.testing.assert_allclose(optimum_marks.get_xdata(), [100])
    assert 0 < optimum_edge.get_xdata()[0] < 2
    assert optimum.get_xdata()[1] == optimum_edge.get_xdata()[0]
    assert list(start_marks.get_ydata()) == [0, 1]
    said = words(figure).splitlines()
    assert {"Ladder", "10 draws", "start", "optimum", "400", "0"} <= set(said)


def test_far_smaller_variances_keep_to_the_edge() -> None:
    figure = variance_ladder(["a", "b"], {"x": [1.0, 1e-30]})
    left, right = figure.axes[0].get_xlim()
    assert 1e-11 < left < 1 < right
    assert figure.axes[0].texts[1].get_text() == "1e−30"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variance_ladder([], {"x": [1.0]}), "should not be empty"),
        (lambda: variance_ladder(["a"], {}), "should not be empty"),
        (lambda: variance_ladder(["a"], {"x": [1.0, 2.0]}), r"variances 'x' .* one entry an estimator \(1\)"),
        (lambda: variance_ladder(["a"], {"x": [-1.0]}), "not negative"),
        (lambda: variance_ladder(["a"], {"x": [np.inf]}), "finite"),
        (lambda: variance_ladder(["a"], {"x": [0.0]}), "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
