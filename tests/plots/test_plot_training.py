"""Curves show the history as it is: nothing invented, nothing lost without a word."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jensen.config import Schedule
from jensen.plots import curves, schedule

Words = Callable[[Figure], str]
NAN = float("nan")

HISTORY = {
    "epoch": [1.0, 2.0, 3.0],
    "train/elbo": [-30.0, -25.0, -24.0],
    "valid/elbo": [-31.0, -26.0, -26.5],
    "train/rate": [1.0, 2.0, 3.0],
    "train/distortion": [29.0, 23.0, 21.0],
    "lr": [1e-3, 1e-3, 5e-4],
}


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): list(map(tuple, line.get_xydata())) for line in axes.lines}


def test_a_panel_for_bound_parts_and_rate() -> None:
    figure = curves(HISTORY)
    bound, parts, rate = figure.axes
    assert lines(bound)["training"] == [(1, -30), (2, -25), (3, -24)]
    assert lines(bound)["validation"] == [(1, -31), (2, -26), (3, -26.5)]
    assert len(lines(parts)) == 2
    assert lines(rate)["learning rate"] == [(1, 1e-3), (2, 1e-3), (3, 5e-4)]
    assert "nats per example" == bound.get_ylabel() == parts.get_ylabel()


def test_the_best_validation_value_is_marked(words: Words) -> None:
    assert "best: −26.00 at epoch 2" in words(curves(HISTORY))


def test_without_validation() -> None:
    figure = curves({name: values for name, values in HISTORY.items() if name != "valid/elbo"})
    assert list(lines(figure.axes[0])) == ["training"]


def test_a_single_epoch_is_visible() -> None:
    figure = curves({name: values[:1] for name, values in HISTORY.items()})
    assert figure.axes[0].lines[0].get_marker() == "o"
    figure.draw_without_rendering()


def test_values_that_are_not_finite_are_left_out_and_counted(words: Words) -> None:
    figure = curves({**HISTORY, "train/elbo": [-30.0, NAN, float("inf")], "valid/elbo": [NAN, NAN, -26.0]})
    assert lines(figure.axes[0])["training"] == [(1, -30)]
    assert lines(figure.axes[0])["validation"] == [(3, -26)]
    assert "2 values not finite" in words(figure)  # validation may be rarer than epochs: not counted


def test_an_auto_encoder_has_a_loss_instead(words: Words) -> None:
    history = {"epoch": [1.0, 2.0], "train/loss": [9.0, 8.0], "valid/loss": [9.5, 9.0], "train/distortion": [9.0, 8.0]}
    figure = curves(history)
    assert len(figure.axes) == 1
    assert "best: 9.00 at epoch 2" in words(figure)


def test_the_importance_weighted_bound_stands_with_the_elbo(words: Words) -> None:
    figure = curves({**HISTORY, "train/iwae": [-29.0, -24.0, -23.0], "valid/iwae": [-30.0, -25.5, -25.0]})
    assert len(figure.axes[0].lines) == 5
    assert "best: −25.00 at epoch 3" in words(figure)


TERMS = {
    "train/mutual_information": [1.0, 1.5, 2.0],
    "train/total_correlation": [0.5, 0.25, 0.1],
    "train/dimension_wise_kl": [0.1, 0.2, 0.3],
}
CONSTANT = {**HISTORY, "lr": [1e-3, 1e-3, 1e-3]}


def titles(figure: Figure) -> list[str]:
    return [axes.get_title("left") for axes in figure.axes]


def test_the_objectives_own_terms_are_drawn() -> None:
    figure = curves({**CONSTANT, **TERMS, "valid/total_correlation": [9.0, 9.0, 9.0]})
    assert titles(figure) == ["ELBO (higher is better)", "Rate and distortion", "Parts of the price"]
    assert lines(figure.axes[2]) == {
        "mutual information": [(1, 1.0), (2, 1.5), (3, 2.0)],
        "total correlation": [(1, 0.5), (2, 0.25), (3, 0.1)],
        "dimension-wise KL": [(1, 0.1), (2, 0.2), (3, 0.3)],
    }
    assert figure.axes[2].get_ylabel() == "nats per example"


def test_a_term_that_nobody_knows_is_drawn_under_its_name_and_six_at_most() -> None:
    figure = curves({**CONSTANT, **{f"train/new_term_{place}": [1.0, 2.0, float(place)] for place in range(8)}})
    assert list(lines(figure.axes[2])) == [f"new term {place}" for place in range(6)]


def test_a_constant_learning_rate_gives_way_to_terms_and_a_moving_one_does_not() -> None:
    assert titles(curves(CONSTANT))[-1] == "Learning rate"
    assert "Learning rate" not in titles(curves({**CONSTANT, **TERMS}))
    four = curves({**HISTORY, **TERMS})
    assert titles(four)[2:] == ["Parts of the price", "Learning rate"]
    assert four.get_figwidth() < 9  # two rows


def test_the_capacity_stands_beside_the_rate_that_it_holds() -> None:
    found = lines(curves({**CONSTANT, "train/capacity": [0.5, 1.5, 2.5]}).axes[2])
    assert found == {
        "capacity that the rate is held to": [(1, 0.5), (2, 1.5), (3, 2.5)],
        "rate: KL from the prior": [(1, 1.0), (2, 2.0), (3, 3.0)],
    }


def test_what_has_another_unit_has_a_panel_of_its_own() -> None:
    more = {"train/classification": [2.0, 1.0, 0.5], "train/accuracy": [0.1, 0.5, 0.9], "train/mmd": [0.1, 0.01, 0.0]}
    figure = curves({**CONSTANT, **more})
    units = [axes.get_ylabel() for axes in figure.axes]
    assert units[2:] == ["nats per example", "share of examples", "no unit, unweighted"]
    assert titles(figure)[3] == "Classes told rightly"
    assert figure.axes[3].get_ylim()[0] <= 0 < 1 <= figure.axes[3].get_ylim()[1]
    assert [len(axes.lines) for axes in figure.axes[2:]] == [1, 1, 1]


def test_penalties_on_weights_are_no_part_of_the_price() -> None:
    more = {"train/spectral": [0.9, 0.8, 0.7], "train/batch_norm": [0.5, 0.4, 0.3], "train/balanced_rate": [9.0, 5, 3]}
    figure = curves({**CONSTANT, **more})
    assert titles(figure)[2:] == ["Penalties on the weights", "Parts of the price"]
    assert figure.axes[2].get_ylabel() == "added to the loss"
    assert [list(lines(axes).values()) for axes in figure.axes[2:]] == [
        [[(1, 0.9), (2, 0.8), (3, 0.7)], [(1, 0.5), (2, 0.4), (3, 0.3)]],
        [[(1, 9), (2, 5), (3, 3)]],
    ]


def test_no_legend_lies_over_a_line() -> None:
    steep = {f"train/term_{place}": [float(place), 9.0, float(place % 3)] for place in range(6)}
    figure = curves({**CONSTANT, **steep})
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        box = legend.get_window_extent()
        assert axes.get_window_extent().contains(*box.max)
        drawn = [line for line in axes.lines if len(line.get_path().vertices) == 3]
        assert drawn
        for line in drawn:
            assert not axes.transData.transform_path(line.get_path()).intersects_bbox(box, filled=False)


def test_the_epoch_that_is_kept_is_that_of_the_best_score(words: Words) -> None:
    figure = curves({**HISTORY, "valid/score": [-99.0, -60.0, -50.0]})
    assert lines(figure.axes[0])["kept: epoch 3"][0][0] == 3
    assert "best" not in words(figure)
    same = curves({**HISTORY, "valid/score": HISTORY["valid/elbo"]})
    assert lines(same.axes[0])["best: −26.00 at epoch 2"][0][0] == 2


def test_the_lowest_loss_is_the_best_score(words: Words) -> None:
    history = {"epoch": [1.0, 2.0, 3.0], "valid/loss": [9.5, 9.0, 9.2], "valid/score": [-9.5, -9.0, -9.2]}
    assert "best: 9.00 at epoch 2" in words(curves(history))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ({}, "column epoch"),
        ({"epoch": []}, "column epoch"),
        ({"epoch": [1.0], "train/elbo": [1.0, 2.0]}, "2 entries, but epoch has 1"),
        ({"epoch": [1.0], "train/elbo": [NAN]}, "at least one of train/elbo"),
        ({"epoch": [1.0], "other": [1.0]}, "at least one of train/elbo"),
    ],
)
def test_a_history_without_anything_to_draw_is_refused(history: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curves(history)


def test_schedule_is_drawn_as_it_is() -> None:
    capacity = Schedule(kind="linear", start=0.0, end=25.0, steps=100)
    axes = schedule(capacity, 120, name="capacity (nats)").axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [min(step / 4, 25) for step in range(121)])
    assert axes.get_ylabel() == "capacity (nats)"
    long = schedule({"a": capacity, "b": lambda step: float(step)}, 1_000_000).axes[0]
    np.testing.assert_allclose(long.lines[1].get_ydata()[[0, -1]], [0, 1_000_000])
    assert len(long.lines[1].get_ydata()) < 3_000
    assert [text.get_text() for text in long.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedule(Schedule(), 0), "steps should be at least 1"),
        (lambda: schedule({}, 5), "empty"),
        (lambda: schedule(lambda step: NAN, 5), "finite"),
    ],
)
def test_an_impossible_schedule_is_refused(call: Callable[[], Figure], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
