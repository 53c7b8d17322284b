"""Pictures of tables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from jensen.plots import table_reconstructions, table_samples


def test_reconstruction_against_original_column_by_column() -> None:
    x = torch.randn(40, 3)
    y = x + torch.randn(40, 3) * torch.tensor([0.1, 0.5, 2.0])
    figure = table_reconstructions(x, y, ("a", "b", "c"))
    for column, axes in enumerate(figure.axes):
        np.testing.assert_allclose(np.asarray(axes.collections[0].get_offsets())[:, 0], x[:, column].numpy())
        np.testing.assert_allclose(np.asarray(axes.collections[0].get_offsets())[:, 1], y[:, column].numpy())
        assert f"{r2_score(x[:, column], y[:, column]):.2f}" in axes.get_title("left")
        assert axes.get_title("left").startswith("abc"[column])


def test_names_are_no_formulas() -> None:
    for draw in (table_reconstructions, table_samples):
        figure = draw(torch.randn(5, 1), torch.randn(5, 1), (r"$\frac",))
        figure.draw_without_rendering()  # fails on a formula that is none
        words = [text for axes in figure.axes for text in (axes.get_title("left"), axes.get_xlabel(), axes.get_title())]
        assert any("frac" in text for text in words)


def test_a_constant_column_has_no_share() -> None:
    assert "constant" in table_reconstructions(torch.ones(5, 1), torch.ones(5, 1)).axes[0].get_title("left")


def test_of_many_columns_twelve_are_drawn_and_it_says_so() -> None:
    figure = table_reconstructions(torch.randn(9, 20), torch.randn(9, 20))
    assert len(figure.axes) == 12
    assert "first 12 of 20" in figure.get_suptitle()


def test_samples_beside_data() -> None:
    figure = table_samples(torch.randn(200, 2), torch.randn(300, 2) + 1)
    assert len(figure.axes) == 2
    bars = figure.axes[0].containers[0].patches
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1)


def test_each_class_has_histograms_of_its_own() -> None:
    data, of_data = torch.cat([torch.zeros(10, 1), torch.ones(30, 1)]), torch.arange(40) // 10 > 0
    made, of_made = torch.cat([torch.ones(20, 1), torch.zeros(60, 1)]), torch.arange(80) // 20 > 0
    figure = table_samples(data, made, classes=(of_data.long(), of_made.long()), class_names=("a", "$b"))
    filled = [patch for patch in figure.axes[0].patches if patch.get_fill() and patch.get_height() > 0]
    low, high = sorted((patch.get_x(), patch.get_facecolor()[:3]) for patch in filled)
    lines = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    first, second = lines
    # The first class is 0 in the data and 1 in the samples, in one colour.
    assert low[1] == first.get_edgecolor()[:3]
    assert high[1] == second.get_edgecolor()[:3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "$b"]
    highest = [float(line.get_xy()[line.get_xy()[:, 1].argmax(), 0]) for line in lines]
    assert highest[0] > 0.9 > 0.1 > highest[1]
    with pytest.raises(ValueError, match="one entry"):
        table_samples(data, made, classes=(of_data.long()[:5], of_made.long()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: table_reconstructions(torch.randn(4, 2), torch.randn(4, 3)), "one shape"),
        (lambda: table_reconstructions(torch.randn(4), torch.randn(4)), "2 dimension"),
        (lambda: table_reconstructions(torch.randn(4, 2), torch.randn(4, 2), ("a",)), r"one entry a column \(2\)"),
        (lambda: table_samples(torch.randn(4, 2), torch.randn(4, 3)), "same columns"),
        (lambda: table_samples(torch.randn(4, 2), torch.randn(4, 2), ("a",)), r"one entry a column \(2\)"),
    ],
)
def test_wrong_input_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
