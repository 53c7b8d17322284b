"""Calibration and confidence: what is drawn is what was counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from jensen.plots.calibration import confidences, reliability

Words = Callable[[Figure], str]


def test_bins_and_calibration_error_by_hand(words: Words) -> None:
    confidence = np.array([0.9, 0.5, 0.8, 0.6])  # bins, sorted: (0.5, 0.6) and (0.8, 0.9)
    correct = np.array([1, 0, 1, 1])
    figure = reliability({"net": (confidence, correct)}, bins=2, title="Digits")
    (axes,) = figure.axes
    (bars,) = (container for container in axes.containers if isinstance(container, ErrorbarContainer))
    np.testing.assert_allclose(bars.lines[0].get_xdata(), [0.55, 0.85])
    np.testing.assert_allclose(bars.lines[0].get_ydata(), [0.5, 1.0])
    # (2 x |0.5 - 0.55| + 2 x |1 - 0.85|) / 4
    assert "net: calibration error 0.100" in words(figure)
    assert "Digits" in words(figure)
    segments = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(segments[0][:, 1], 0.5 + np.array([-1, 1]) * np.sqrt(0.25 / 2))
    np.testing.assert_allclose(segments[1][:, 1], 1.0 + np.array([-1, 1]) * np.sqrt(0.75 * 0.25 / 2))


def test_a_calibrated_classifier_lies_on_the_line(words: Words) -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.3, 1.0, 100_000)
    figure = reliability({"honest": (confidence, random.uniform(size=100_000) < confidence)})
    (bars,) = figure.axes[0].containers
    np.testing.assert_allclose(bars.lines[0].get_xdata(), bars.lines[0].get_ydata(), atol=0.02)
    assert "calibration error 0.00" in words(figure)


def test_fewer_predictions_than_bins() -> None:
    (bars,) = reliability({"net": ([0.7, 0.9], [1, 0])}, bins=10).axes[0].containers
    assert len(bars.lines[0].get_xdata()) == 2


def test_histograms_are_shares_of_their_group(words: Words) -> None:
    figure = confidences({"a": {"known": [0.9, 0.95, 0.05], "unknown": [0.1]}, "b": {"known": [1.0]}}, bins=2)
    first, second = figure.axes
    assert [patch.get_height() for patch in first.containers[0]] == pytest.approx([1 / 3, 2 / 3])
    assert [patch.get_height() for patch in first.containers[1]] == pytest.approx([1.0, 0.0])
    assert [patch.get_height() for patch in second.containers[0]] == pytest.approx([0.0, 1.0])
    said = words(figure)
    assert "known: mean 0.63" in said
    assert "unknown: mean 0.10" in said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reliability({}), "at least one classifier"),
        (lambda: reliability({"a": ([0.5], [1])}, bins=0), "one bin"),
        (lambda: reliability({"a": ([1.5], [1])}), r"confidence of 'a' should lie in \[0, 1\]"),
        (lambda: reliability({"a": ([0.5], [0.5])}), "correct of 'a' should be 1 for a right prediction"),
        (lambda: reliability({"a": ([0.5, 0.6], [1])}), "one shape"),
        (lambda: confidences({}), "at least one classifier"),
        (lambda: confidences({"a": {}}), "one group"),
        (lambda: confidences({"a": {"known": [-0.1]}}), r"confidence of 'a' in 'known' should lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
