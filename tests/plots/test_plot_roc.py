"""ROC curves, and the items that scores find the most anomalous."""

from __future__ import annotations

import numpy as np
import pytest

from jensen.plots import most_anomalous, roc_curves


def test_the_legend_gives_the_area_under_each_line() -> None:
    curves = {"good": ([0, 0, 0.5, 1], [0, 0.8, 1, 1]), "$wrong$": ([0, 0.5, 1], [0, 0, 1])}
    figure = roc_curves(curves, title="Two scores")
    axes = figure.axes[0]
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    # 0.5 x (0.8 + 1) / 2 + 0.5 x 1, and 0.5 x 1 / 2
    assert np.allclose(lines["good: 0.950"], [[0, 0], [0, 0.8], [0.5, 1], [1, 1]])
    assert np.allclose(lines["$wrong$: 0.250"], [[0, 0], [0.5, 0], [1, 1]])
    assert axes.get_title(loc="left") == "Two scores"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["good: 0.950", "$wrong$: 0.250"]


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "at least one curve"),
        ({"a": ([0, 1], [0, 0.5, 1])}, "one shape"),
        ({"a": ([0, 0.6, 0.5, 1], [0, 0.2, 0.4, 1])}, "false positives of 'a' should rise from 0 to 1"),
        ({"a": ([0, 1], [0, 0.9])}, "true positives of 'a' should rise from 0 to 1"),
    ],
)
def test_what_is_no_curve(curves: dict[str, tuple[list[float], list[float]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roc_curves(curves)


def test_a_row_for_each_score_with_its_numbers() -> None:
    rng = np.random.default_rng(0)
    images = {"elbo": rng.random((3, 1, 4, 4)), "ratio": rng.random((3, 1, 4, 4))}
    figure = most_anomalous(images, {"elbo": [3.0, 2.0, 1.0], "ratio": [-1.0, -2.5, -123.456]})
    axes = figure.axes[0]
    shown = [np.asarray(image.get_array()) for image in axes.images]
    assert np.allclose(shown, np.concatenate([images["elbo"], images["ratio"]])[:, 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["elbo", "ratio"]
    assert [text.get_text() for text in axes.texts] == ["3.0", "2.0", "1.0", "-1.0", "-2.5", "-123.5"]


@pytest.mark.parametrize(
    ("images", "scores", "message"),
    [
        ({}, {}, "same methods"),
        ({"a": np.zeros((2, 1, 3, 3))}, {"b": [1.0, 2.0]}, "same methods"),
        ({"a": np.zeros((2, 1, 3, 3))}, {"a": [1.0]}, "2 images, but 1 scores"),
        (
            {"a": np.zeros((2, 1, 3, 3)), "b": np.zeros((1, 1, 3, 3))},
            {"a": [1.0, 2.0], "b": [1.0]},
            "equally many images",
        ),
    ],
)
def test_what_cannot_be_shown(images: dict[str, np.ndarray], scores: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        most_anomalous(images, scores)
