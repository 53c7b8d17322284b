"""The factor matrix writes every number in its cell and frames the largest of each factor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from jensen.plots import factor_matrix

Words = Callable[[Figure], str]
MATRIX = np.array([[0.05, 1.2], [0.9, 0.3], [0.0, 0.1]])


def test_every_value_stands_in_its_cell() -> None:
    axes = factor_matrix(MATRIX, ("x", "radius")).axes[0]
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array()), MATRIX)
    assert axes.images[0].get_clim() == (0.0, 1.2)
    written = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert written == {place: f"{value:.2f}" for place, value in np.ndenumerate(MATRIX)}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["z0", "z1", "z2"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "radius"]


def test_the_largest_of_each_factor_is_framed() -> None:
    axes = factor_matrix(MATRIX, ("x", "radius")).axes[0]
    middles = [
        (patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2) for patch in axes.patches
    ]
    np.testing.assert_allclose(middles, [(0, 1), (1, 0)], atol=1e-9)


def test_a_factor_that_nobody_knows_has_no_frame() -> None:
    figure = factor_matrix(np.zeros((2, 2)), ("x", "y"))
    figure.draw_without_rendering()
    assert not figure.axes[0].patches


def test_names_of_latents_and_gaps_are_written(words: Words) -> None:
    figure = factor_matrix(MATRIX, ("position x", "$radius"), ("z4", "z1", "z0"), gaps=[0.851, 0.5])
    said = words(figure)
    for word in ("z4", "position x\nMIG 0.85", "$radius\nMIG 0.50"):
        assert word in said


def test_pictures_may_share_a_scale_whose_end_is_what_can_be_known() -> None:
    assert factor_matrix(MATRIX, ("x", "y"), entropies=[2.5, 1.5]).axes[0].images[0].get_clim() == (0.0, 2.5)
    assert factor_matrix(MATRIX, ("x", "y"), upper=3.0, entropies=[2.5, 1.5]).axes[0].images[0].get_clim() == (0.0, 3.0)
    axes = factor_matrix(MATRIX, ("x", "y"), upper=3.0).axes[0]
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert colours["1.20"] != "white"  # its cell is pale now


def test_numbers_are_dark_on_light_and_light_on_dark() -> None:
    axes = factor_matrix(MATRIX, ("x", "y")).axes[0]
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert colours["1.20"] == "white"
    assert colours["0.05"] != "white"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: factor_matrix(MATRIX[0], ("x", "y")), "2 dimension"),
        (lambda: factor_matrix(-MATRIX, ("x", "y")), "0 or more"),
        (lambda: factor_matrix(MATRIX, ("x",)), "factors should have 2 names"),
        (lambda: factor_matrix(MATRIX, ("x", "y"), ("z0",)), "latents should have 3 names"),
        (lambda: factor_matrix(MATRIX, ("x", "y"), gaps=[0.1]), r"one entry a factor \(2\)"),
        (lambda: factor_matrix(MATRIX, ("x", "y"), entropies=[1.0]), r"entropies should have one entry a factor \(2\)"),
        (lambda: factor_matrix(MATRIX, ("x", "y"), upper=0.0), "positive and finite"),
        (lambda: factor_matrix(MATRIX * np.nan, ("x", "y")), "finite"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
