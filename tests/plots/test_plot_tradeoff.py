"""The trade-off curve puts every model where it belongs, and its methods differ in more than colour."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from jensen.plots import TradeOff, tradeoff

CURVES = {
    "beta-VAE": TradeOff([3.0, 1.0, 0.2], [60.0, 70.0, 90.0], ("1", "4", "$8")),
    "_TCVAE": TradeOff([2.0, 0.1], [61.0, 66.0], total_correlation_error=[0.5, 0.1], distortion_error=[1.0, 2.0]),
}


def test_points_are_where_they_belong_in_the_order_given() -> None:
    axes = tradeoff(CURVES).axes[0]
    for container, curve in zip(axes.containers, CURVES.values(), strict=True):
        line = container[0]
        np.testing.assert_array_equal(line.get_xdata(), curve.total_correlation)
        np.testing.assert_array_equal(line.get_ydata(), curve.distortion)
    assert "total correlation" in axes.get_xlabel()
    assert "distortion" in axes.get_ylabel()


def test_methods_differ_without_colour_and_every_name_is_in_the_legend() -> None:
    axes = tradeoff({str(place): TradeOff([1.0, 2.0], [1.0, 2.0]) for place in range(5)}).axes[0]
    looks = {(container[0].get_marker(), container[0].get_linestyle()) for container in axes.containers}
    assert len(looks) == 5
    legend = tradeoff(CURVES).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == list(CURVES)


def test_labels_stand_beside_their_points() -> None:
    axes = tradeoff(CURVES).axes[0]
    placed = {text.get_text(): tuple(text.xy) for text in axes.texts if hasattr(text, "xy")}
    assert {"1": (3.0, 60.0), "4": (1.0, 70.0), "$8": (0.2, 90.0)}.items() <= placed.items()


def test_errors_are_bars() -> None:
    across, up = tradeoff(CURVES).axes[0].containers[1][2]
    np.testing.assert_allclose([segment[:, 0] for segment in across.get_segments()], [(1.5, 2.5), (0.0, 0.2)])
    np.testing.assert_allclose([segment[:, 1] for segment in up.get_segments()], [(60.0, 62.0), (64.0, 68.0)])


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({}, "at least one method"),
        ({"a": TradeOff([1.0, 2.0], [1.0])}, "one shape"),
        ({"a": TradeOff([1.0], [1.0], ("1", "2"))}, "labels of 'a' should be 1"),
        ({"a": TradeOff([1.0], [1.0], distortion_error=[1.0, 2.0])}, "one shape"),
        ({"a": TradeOff([np.nan], [1.0])}, "finite"),
    ],
)
def test_wrong_input_is_refused(methods: dict[str, TradeOff], message: str) -> None:
    call: Callable[[], Figure] = lambda: tradeoff(methods)  # noqa: E731
    with pytest.raises(ValueError, match=message):
        call()
