"""Pictures of inference draw the numbers they are given, and refuse those that do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from jensen.plots import elbo_curve, ellipses, intervals, png, relevance, topics

Words = Callable[[Figure], str]
NAN = float("nan")


def rings(axes: Axes) -> list[Ellipse]:
    return [patch for patch in axes.patches if isinstance(patch, Ellipse)]


# --- the bound --------------------------------------------------------------------------------------------------------


def test_the_curve_is_the_trace_and_the_distance_is_to_its_best() -> None:
    trace = [-10.0, -8.0, -7.0, -6.5, -6.5]
    curve, below = elbo_curve(torch.tensor(trace)).axes
    np.testing.assert_allclose(curve.lines[0].get_xydata(), list(enumerate(trace, 1)))
    assert curve.get_ylabel() == below.get_ylabel() == "nats"
    assert below.get_yscale() == "log"
    np.testing.assert_allclose(below.lines[0].get_ydata(), [3.5, 1.5, 0.5, NAN, NAN])


def test_several_inferences_by_name_against_a_reference(words: Words) -> None:
    figure = elbo_curve({"cavi": [-3.0, -2.0, -1.5, -1.25], "natural": [-3.0, -2.5]}, reference=-1.0)
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [2, 1, 0.5, 0.25])
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), [2, 1.5])
    said = words(figure)
    assert "cavi" in said
    assert "reference -1.00" in said
    assert "mathdefault" not in said  # formulas are off: ticks must be text


@pytest.mark.parametrize(
    ("trace", "options"), [([-2.0, -1.0], {}), ([-1.0] * 9, {}), ([-3.0, -2.0, -1.0, 0.0], {"gap": False})]
)
def test_without_a_distance_to_show_there_is_one_panel(trace: list[float], options: dict[str, Any]) -> None:
    assert len(elbo_curve(trace, **options).axes) == 1


# --- components -------------------------------------------------------------------------------------------------------


def test_ellipses_hold_half_and_95_percent_of_a_component() -> None:
    covariance = np.array([[2.0, 1.2], [1.2, 1.0]])
    generator = np.random.default_rng(0)
    points = generator.multivariate_normal([1.0, -2.0], covariance, size=20_000)
    axes = ellipses(points, [[1.0, -2.0]], covariance[None]).axes[0]
    inside = [float((np.linalg.norm(_to_ring(ring, points), axis=1) < 1).mean()) for ring in rings(axes)]
    np.testing.assert_allclose(inside, [0.5, 0.95], atol=0.015)  # 4 standard errors of a share of 20,000


def _to_ring(ring: Ellipse, points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Points in coordinates where the ellipse is the unit circle."""
    angle = np.deg2rad(ring.get_angle())
    turned = (points - np.array(ring.get_center())) @ np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    return np.asarray(turned / np.array([ring.get_width() / 2, ring.get_height() / 2]))


def test_components_without_weight_are_left_out_and_counted(words: Words) -> None:
    figure = ellipses(torch.randn(9, 2), torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2), [0.6, 0.4, 1e-6])
    assert len(rings(figure.axes[0])) == 4
    assert "2 of 3 components" in words(figure)


def test_of_more_than_two_columns_the_chosen_ones_are_drawn(words: Words) -> None:
    points, means = np.random.default_rng(0).normal(size=(50, 4)), np.arange(4.0)[None]
    figure = ellipses(points, means, np.diag([1.0, 4.0, 9.0, 16.0])[None], columns=(3, 1), names=("a", "b", "c", "d"))
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), points[:, [3, 1]])
    half = rings(axes)[0]
    assert tuple(half.get_center()) == (3.0, 1.0)
    assert sorted((half.get_width(), half.get_height())) == pytest.approx([4 * 1.1774, 8 * 1.1774], rel=1e-4)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("d", "b")


def test_without_a_choice_it_is_the_plane_of_the_largest_spread() -> None:
    points = np.random.default_rng(0).normal(size=(400, 3)) * [10.0, 0.1, 3.0]
    axes = ellipses(points, np.zeros((1, 3)), np.diag([100.0, 0.01, 9.0])[None]).axes[0]
    drawn = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(np.abs(drawn), np.abs(points[:, [0, 2]]), atol=0.5)
    assert axes.get_xlabel().startswith("first principal component of 3 columns (9")


def test_one_dimension_is_a_histogram_under_densities() -> None:
    points = np.random.default_rng(0).normal(size=(500, 1))
    axes = ellipses(points, [[0.0], [5.0]], [[[1.0]], [[4.0]]], [0.75, 0.25], names=("x",)).axes[0]
    first, second, total = axes.lines
    assert max(first.get_ydata()) == pytest.approx(0.75 / np.sqrt(2 * np.pi), rel=1e-3)
    assert max(second.get_ydata()) == pytest.approx(0.25 / np.sqrt(8 * np.pi), rel=1e-3)
    np.testing.assert_allclose(total.get_ydata(), np.asarray(first.get_ydata()) + np.asarray(second.get_ydata()))


def test_many_points_are_thinned_with_their_labels() -> None:
    labels = torch.arange(12_000) % 2
    axes = ellipses(torch.randn(12_000, 2), torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2), labels=labels).axes[0]
    assert len(axes.collections[0].get_offsets()) == len(axes.collections[0].get_facecolors()) == 4_000


# --- topics -----------------------------------------------------------------------------------------------------------


def test_topics_come_by_share_with_their_words_on_top(words: Words) -> None:
    figure = topics([["tax", "bill"], ["court", "judge"]], [[0.2, 0.1], [0.4, 0.3]], shares=[0.25, 0.75])
    first, second = figure.axes
    assert first.get_title("left") == "topic 1, 75.0%"
    assert [label.get_text() for label in first.get_yticklabels()] == ["court", "judge"]
    assert [bar.get_width() for bar in first.patches] == [0.4, 0.3]
    assert first.get_ylim()[0] > first.get_ylim()[1]  # the first word is on top
    assert [bar.get_width() for bar in second.patches] == [0.2, 0.1]


def test_of_many_topics_twenty_are_drawn_and_words_are_no_formulas(words: Words) -> None:
    figure = topics([[r"$\frac", "a" * 40]] * 30, [[0.2, 0.1]] * 30)
    assert len(figure.axes) == 20
    said = words(figure)
    assert "(20 of 30)" in said
    assert r"$\frac" in said


# --- intervals --------------------------------------------------------------------------------------------------------


def test_a_row_a_number_with_its_interval_and_truth() -> None:
    axes = intervals(["a", "b"], [1.0, 0.5], [0.5, -1.0], [1.5, 2.0], truth=[1.1, NAN]).axes[0]
    spans = [segment for collection in axes.collections for segment in collection.get_segments()]
    np.testing.assert_allclose(spans, [[[0.5, 0], [1.5, 0]], [[-1.0, 1], [2.0, 1]]])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    apart, touching = axes.collections
    assert not np.allclose(apart.get_colors(), touching.get_colors())  # a does not touch zero, b does
    crosses = next(line for line in axes.lines if line.get_label() == "truth")
    np.testing.assert_allclose(crosses.get_xdata(), [1.1, NAN])


def test_of_many_numbers_forty_are_drawn(words: Words) -> None:
    values = np.arange(50.0)
    figure = intervals([str(i) for i in range(50)], values, values - 1, values + 1)
    assert "first 40 of 50" in words(figure)
    assert len(figure.axes[0].get_yticks()) == 40


# --- relevance --------------------------------------------------------------------------------------------------------


def test_relevance_is_sorted_and_counted(words: Words) -> None:
    figure = relevance([0.01, 3.0, 1.0], ("x", "y", "z"), threshold=0.1)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [3.0, 1.0, 0.01]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["y", "z", "x"]
    assert "2 of 3 above 0.1" in words(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: elbo_curve({}), "empty"),
        (lambda: elbo_curve([1.0, NAN]), "finite"),
        (lambda: ellipses(torch.randn(5, 2), torch.zeros(1, 3), torch.eye(3)[None]), r"\(5, 2\), \(1, 3\)"),
        (lambda: ellipses(torch.randn(5, 2), torch.zeros(1, 2), torch.eye(2)[None], [0.5, 0.5]), "one entry a comp"),
        (lambda: ellipses(torch.randn(5, 3), torch.zeros(1, 3), torch.eye(3)[None], columns=(0, 3)), "below 3"),
        (lambda: ellipses(torch.randn(5, 2), torch.zeros(1, 2), torch.eye(2)[None], names=("a",)), "one entry a col"),
        (lambda: ellipses(torch.randn(5, 2), torch.zeros(1, 2), torch.eye(2)[None], labels=[0]), "one entry a code"),
        (lambda: topics([], []), "one entry a topic"),
        (lambda: topics([["a"]], [[0.1, 0.2]]), "topic 0 should have one weight"),
        (lambda: topics([["a"]], [[-0.1]]), "-0.1"),
        (lambda: topics([["a"]], [[0.1]], shares=[0.5, 0.5]), r"one entry a topic \(1\)"),
        (lambda: intervals(["a"], [1.0], [2.0], [3.0, 4.0]), "one shape"),
        (lambda: intervals(["a"], [1.0], [2.0], [1.5]), "'a': 2.0 > 1.5"),
        (lambda: intervals(["a", "b"], [1.0], [0.0], [2.0]), r"one entry a number \(1\)"),
        (lambda: relevance([-1.0]), "-1"),
        (lambda: relevance([1.0], ("a", "b")), r"one entry a value \(1\)"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_they_can_be_rendered() -> None:
    for figure in (
        elbo_curve([-10.0, -8.0, -7.0, -6.5]),
        ellipses(torch.randn(1, 5), torch.zeros(1, 5), torch.eye(5)[None]),
        ellipses(torch.ones(4, 3), torch.ones(1, 3), torch.eye(3)[None]),  # points all alike
        relevance([0.0]),
    ):
        assert png(figure).startswith(b"\x89PNG")
