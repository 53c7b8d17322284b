"""Each level has its panel, its column and its bar, and what was chosen of many levels is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jensen.plots import (
    curves,
    drawn_below,
    explained_by_top,
    kl_of_levels,
    kl_of_levels_over_training,
    latent_levels,
    level_names,
    shown_levels,
    top_levels,
    top_levels_of_signals,
)

Tiles = Callable[[Figure], list[npt.NDArray[Any]]]
Words = Callable[[Figure], str]


def rectangles(figure: Figure) -> list[Rectangle]:
    """The bars of a figure's first panel."""
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def test_levels_are_counted_from_the_data() -> None:
    assert level_names(3) == ["level 3 (top)", "level 2", "level 1"]
    assert level_names(1) == ["level 1"]


@pytest.mark.parametrize(("count", "most"), [(1, 6), (5, 6), (6, 6), (30, 6), (12, 8), (7, 2)])
def test_some_of_many_levels_are_spread_evenly(count: int, most: int) -> None:
    chosen = shown_levels(count, most)
    assert len(chosen) == min(count, most)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_no_levels_to_choose_from() -> None:
    for count, most in ((0, 3), (3, 1)):
        with pytest.raises(ValueError, match="count should be at least 1 and most at least 2"):
            shown_levels(count, most)


def test_each_level_is_drawn_by_its_components() -> None:
    generator = torch.Generator().manual_seed(0)
    grids = torch.randn(40, 3, 2, 2, generator=generator) * torch.tensor([5.0, 1.0, 0.1]).view(3, 1, 1)
    plane = torch.randn(40, 2, generator=generator)
    labels = torch.arange(40) % 2
    figure = latent_levels([plane, grids], labels, ("even", "odd"))
    top, bottom = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["level 2 (top)", "level 1"]
    for index, dots in enumerate(top.collections):  # two numbers stay as they are
        np.testing.assert_allclose(np.asarray(dots.get_offsets()), plane[labels == index].double())
    flat = grids.flatten(1).double()
    _, sizes, axes = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    for index, dots in enumerate(bottom.collections):
        expected = flat[labels == index] @ axes[:2].T
        np.testing.assert_allclose(np.abs(np.asarray(dots.get_offsets())), expected.abs(), atol=1e-9)
    share = sizes[0] ** 2 / sizes.square().sum()
    assert bottom.get_xlabel() == f"first component ({share:.0%} of variance)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["even", "odd"]


def test_some_of_thirty_levels_and_the_title_says_so(words: Words) -> None:
    codes = [torch.randn(20, 2) + place for place in range(30)]
    figure = latent_levels(codes)
    assert len(figure.axes) == 6
    assert "(6 of 30 levels)" in words(figure)
    assert figure.axes[1].get_title("left") == "level 24"
    (dots,) = figure.axes[1].collections
    np.testing.assert_allclose(np.asarray(dots.get_offsets()), codes[6].double())


def test_a_level_of_one_number_is_a_histogram() -> None:
    labels = torch.tensor([0] * 6 + [1] * 4)
    (axes,) = (figure := latent_levels([torch.linspace(0, 1, 10)[:, None]], labels)).axes
    assert sum(bar.get_height() for bar in rectangles(figure)) >= 10
    assert not axes.collections


def test_an_unused_level_is_not_blown_up() -> None:
    figure = latent_levels([torch.full((5, 3), 0.3), torch.randn(5, 3) * 10])
    low, high = figure.axes[0].get_xlim()
    assert 0.03 < high - low < 0.05
    assert figure.axes[0].get_xlabel() == "first component"


def test_codes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="at least one level"):
        latent_levels([])
    with pytest.raises(ValueError, match=r"as many data at each level, but are of \[4, 5\]"):
        latent_levels([torch.zeros(4, 2), torch.zeros(5, 2)])
    with pytest.raises(ValueError, match="codes of level 1 should have at least two dimensions"):
        latent_levels([torch.zeros(4, 2), torch.zeros(4)])
    with pytest.raises(ValueError, match=r"codes of level 2 \(top\) should be finite"):
        latent_levels([torch.full((4, 2), torch.nan), torch.zeros(4, 2)])
    with pytest.raises(ValueError, match="labels should have one entry a code"):
        latent_levels([torch.zeros(4, 2)], torch.zeros(3))


def test_top_levels_stand_beside_the_original(tiles: Tiles) -> None:
    originals, one, two = torch.rand(3, 3, 2, 1, 5, 4)
    figure = top_levels(
        torch.cat([originals[0], originals[1]]), {"top 1": one.flatten(0, 1)[:4], "all 2": two.flatten(0, 1)[:4]}
    )
    shown = np.stack(tiles(figure)).reshape(4, 3, 5, 4)
    np.testing.assert_allclose(shown[:, 0], torch.cat([originals[0], originals[1]])[:, 0])
    np.testing.assert_allclose(shown[:, 1], one.flatten(0, 1)[:4, 0])
    np.testing.assert_allclose(shown[:, 2], two.flatten(0, 1)[:4, 0])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["original", "top 1", "all 2"]
    with pytest.raises(ValueError, match="at least one number of levels"):
        top_levels(originals[0], {})
    with pytest.raises(ValueError, match="originals and made top 1 should have one shape"):
        top_levels(originals[0], {"top 1": one[0, :1]})


def test_draws_below_are_a_block_an_original(tiles: Tiles) -> None:
    originals, drawn = torch.rand(2, 1, 3, 3), {"top 1": torch.rand(4, 2, 1, 3, 3), "top 2": torch.rand(4, 2, 1, 3, 3)}
    figure = drawn_below(originals, drawn)
    shown = np.stack(tiles(figure)).reshape(2, 2, 5, 3, 3)  # original, what is shared, column
    for place in range(2):
        for row, images in enumerate(drawn.values()):
            np.testing.assert_allclose(shown[place, row, 0], originals[place, 0])
            np.testing.assert_allclose(shown[place, row, 1:], images[:, place, 0])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["top 1", "top 2", "top 1", "top 2"]
    with pytest.raises(ValueError, match="at least one number of levels"):
        drawn_below(originals, {})
    with pytest.raises(ValueError, match="each draw of top 1 should have one shape"):
        drawn_below(originals[:1], drawn)


def test_signals_have_a_column_a_number_of_levels() -> None:
    originals, made = torch.randn(2, 3, 7), {"top 1": torch.randn(2, 3, 7), "all 2": torch.randn(2, 3, 7)}
    figure = top_levels_of_signals(originals, made)
    assert len(figure.axes) == 4
    for place, axes in enumerate(figure.axes):
        original, decoded = axes.lines
        np.testing.assert_allclose(np.asarray(original.get_ydata()), originals[place // 2, 0].double())
        np.testing.assert_allclose(
            np.asarray(decoded.get_ydata()), list(made.values())[place % 2][place // 2, 0].double()
        )
    assert [axes.get_title("left") for axes in figure.axes] == ["top 1", "all 2", "", ""]
    with pytest.raises(ValueError, match="originals and made top 1 should have one shape"):
        top_levels_of_signals(originals, {"top 1": originals[:1]})
    with pytest.raises(ValueError, match="at least one number of levels"):
        top_levels_of_signals(originals, {})


def test_scores_are_a_line_a_column_and_their_mean() -> None:
    scores = np.array([[0.0, -0.5], [0.2, 0.4], [0.9, 0.7]])
    (axes,) = explained_by_top(scores, ("height", "_width"), kept=(0, 2, 5)).axes
    first, second, mean = axes.lines
    np.testing.assert_allclose(np.asarray(first.get_xdata()), [0, 2, 5])
    np.testing.assert_allclose(np.asarray(first.get_ydata()), scores[:, 0])
    np.testing.assert_allclose(np.asarray(second.get_ydata()), scores[:, 1])
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), [-0.25, 0.3, 0.8])
    assert axes.get_ylim()[0] < -0.5
    assert axes.get_ylim()[1] > 1
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text().strip() for text in legend.get_texts()] == ["height", "_width", "mean over columns"]


def test_one_score_needs_no_legend_and_many_no_names() -> None:
    assert explained_by_top(np.ones((3, 1))).axes[0].get_legend() is None
    legend = explained_by_top(np.ones((3, 40))).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["mean over columns"]
    with pytest.raises(ValueError, match="kept should have one entry a row of scores"):
        explained_by_top(np.ones((3, 1)), kept=(1, 2))
    with pytest.raises(ValueError, match="names should have one entry a column"):
        explained_by_top(np.ones((3, 2)), ("a",))


@pytest.mark.parametrize("levels", [1, 2, 12, 30])
def test_bars_of_levels_are_long_as_their_nats(levels: int, words: Words) -> None:
    nats = torch.linspace(0.004, 5, levels)
    (axes,) = (figure := kl_of_levels(nats, [2] * levels, [1_500] * levels)).axes
    assert [bar.get_width() for bar in rectangles(figure)] == pytest.approx(nats.tolist())
    text = words(figure)
    assert text.count("2 of 1,500 active") == levels
    assert f"{nats.sum():.1f} nats in all" in text
    assert [tick.get_text() for tick in axes.get_yticklabels()] == level_names(levels)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first, the top level, is at the top


def test_bars_that_do_not_fit(words: Words) -> None:
    assert "−0.00" not in words(kl_of_levels([-1e-8], [0], [3]))
    with pytest.raises(ValueError, match="one entry a level, but have 2, 1, 2"):
        kl_of_levels([1.0, 2.0], [1], [3, 3])
    with pytest.raises(ValueError, match="active should be 0 to the number"):
        kl_of_levels([1.0], [4], [3])
    with pytest.raises(ValueError, match="kl should be finite"):
        kl_of_levels([float("nan")], [1], [3])


def history(levels: int, epochs: int = 5, part: str = "valid") -> dict[str, list[float]]:
    columns = {f"{part}/kl_level_{i}": [float(i + epoch) for epoch in range(epochs)] for i in range(1, levels + 1)}
    return {"epoch": [float(epoch + 1) for epoch in range(epochs)], **columns}


def heights(figure: Figure) -> list[npt.NDArray[np.float64]]:
    """Thickness of each area at each epoch, the lowest first."""
    found = []
    for area in figure.axes[0].collections:
        vertices = np.asarray(area.get_paths()[0].vertices)
        found.append(np.array([np.ptp(vertices[np.isclose(vertices[:, 0], x), 1]) for x in np.unique(vertices[:, 0])]))
    return found


@pytest.mark.parametrize("levels", [2, 12])
def test_areas_are_thick_as_their_nats(levels: int) -> None:
    found = heights(figure := kl_of_levels_over_training(history(levels)))
    assert len(found) == levels
    for number, area in enumerate(found, 1):  # level 1 lies lowest
        np.testing.assert_allclose(area, [number + epoch for epoch in range(5)])
    legend = figure.axes[0].get_legend()
    if levels == 2:
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == level_names(2)
    else:
        assert legend is None
        assert len(figure.axes) == 2  # with the scale of levels


def test_training_is_drawn_without_validation(words: Words) -> None:
    assert "KL of each level, training" in words(kl_of_levels_over_training(history(2, part="train")))
    both = {**history(2, part="train"), **history(2)}
    assert "KL of each level, validation" in words(kl_of_levels_over_training(both))


def test_what_is_not_finite_is_left_out_and_said(words: Words) -> None:
    found = history(2)
    found["valid/kl_level_2"][0] = float("inf")
    figure = kl_of_levels_over_training(found)
    np.testing.assert_allclose(heights(figure)[0], [2, 3, 4, 5])
    assert "1 epoch not finite" in words(figure)
    found["valid/kl_level_1"] = [float("nan")] * 5
    with pytest.raises(ValueError, match="an epoch in which all columns"):
        kl_of_levels_over_training(found)


def test_a_beginning_far_above_is_cut_and_said(words: Words) -> None:
    found = history(2, epochs=20)
    found["valid/kl_level_1"][0] = 4_000.0
    figure = kl_of_levels_over_training(found)
    assert figure.axes[0].get_ylim()[1] == pytest.approx(1.15 * (20 + 21))
    assert "the first epochs go up to 4,002 nats" in words(figure)


@pytest.mark.parametrize(("beginning", "later", "top"), [(16.0, 4.0, 4.6), (8.0, 4.0, None), (7.0, 0.0, None)])
def test_few_nats_are_cut_as_many_are(beginning: float, later: float, top: float | None, words: Words) -> None:
    """Where more than twice as high; not where nothing is left to look at."""
    found = {"epoch": list(map(float, range(1, 21))), "valid/kl_level_1": [beginning, *[later] * 19]}
    figure = kl_of_levels_over_training(found)
    assert ("the first epochs go up to" in words(figure)) is (top is not None)
    limit = figure.axes[0].get_ylim()[1]
    assert limit == pytest.approx(top) if top is not None else limit >= beginning


def test_height_is_that_of_the_terms_drawn() -> None:
    """Of hvae a level's term may be negative, and is drawn as nothing: the others are not cut off for it."""
    epochs = list(map(float, range(1, 21)))
    found = {"epoch": epochs, "valid/kl_level_1": [-2.0] * 20, "valid/kl_level_2": [8.0, *[2.1] * 19]}
    low, high = heights(figure := kl_of_levels_over_training(found))
    assert (max(low), max(high)) == (0.0, 8.0)
    assert figure.axes[0].get_ylim() == (0.0, pytest.approx(1.15 * 2.1))


def test_one_epoch_is_a_bar() -> None:
    figure = kl_of_levels_over_training(history(3, epochs=1))
    assert [(bar.get_y(), bar.get_height()) for bar in rectangles(figure)] == [(0, 1), (1, 2), (3, 3)]


def test_history_without_levels() -> None:
    with pytest.raises(ValueError, match="epoch and train/kl_level_1"):
        kl_of_levels_over_training({"epoch": [1.0], "train/elbo": [2.0]})
    with pytest.raises(ValueError, match="one entry an epoch"):
        kl_of_levels_over_training({**history(2), "epoch": [1.0]})


def test_curves_leave_levels_to_their_own_picture(words: Words) -> None:
    plain = {"epoch": [1.0, 2.0], "train/elbo": [-3.0, -2.0], "valid/elbo": [-3.0, -2.0], "train/rate": [1.0, 1.0]}
    many = {**plain, **{f"{part}/kl_level_{i}": [1.0, 1.0] for part in ("train", "valid") for i in range(1, 31)}}
    assert len(curves(many).axes) == len(curves(plain).axes) == 2
    assert "kl level" not in words(curves(many))


def test_curves_of_gradients_have_their_own_panels(words: Words) -> None:
    found = {
        "epoch": [1.0, 2.0],
        "train/elbo": [-3.0, -2.0],
        "train/gradient_norm": [40.0, float("nan")],
        "train/skipped": [0.0, 0.0],
        "train/spectral": [0.5, 0.4],
    }
    figure = curves(found)
    assert [axes.get_title("left") for axes in figure.axes] == [
        "ELBO (higher is better)",
        "Size of the gradient",
        "Penalties on the weights",
    ]
    assert "left out" not in words(figure)
    figure = curves({**found, "train/skipped": [3.0, 0.0]})
    (axes,) = [axes for axes in figure.axes if axes.get_title("left") == "Steps left out"]
    np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata()), [3, 0])
