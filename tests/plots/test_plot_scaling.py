"""Growth on logarithmic axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from jensen.plots import loglog_scaling


def test_the_exponent_is_that_of_the_law(words: Callable[[Figure], str]) -> None:
    sizes = np.array([1e4, 1e3, 1e5])
    figure = loglog_scaling(
        {"N": {"ours": (sizes, 3e-7 * sizes**1.5), "one": ([10], [2])}, "K": {"ours": (sizes, 1 / sizes)}},
        y="seconds",
    )
    said = words(figure)
    assert "ours: exponent 1.50" in said
    assert "ours: exponent −1.00" in said
    assert "mathdefault" not in said
    first, second = figure.axes
    assert (first.get_xscale(), first.get_yscale()) == ("log", "log")
    assert (first.get_xlabel(), second.get_xlabel(), first.get_ylabel()) == ("N", "K", "seconds")
    np.testing.assert_allclose(first.lines[0].get_xdata(), sorted(sizes))
    guide = first.lines[1]
    np.testing.assert_allclose(guide.get_ydata(), 3e-7 * 1e3**1.5 * np.array([1, 10, 100]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loglog_scaling({}), "empty"),
        (lambda: loglog_scaling({"N": {}}), "empty"),
        (lambda: loglog_scaling({"N": {"a": ([1, 2], [0.0, 1.0])}}), "values of 'a' should be positive"),
        (lambda: loglog_scaling({"N": {"a": ([1, 2], [1.0])}}), "one shape"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
