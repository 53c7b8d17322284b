"""Pictures of ways up the bound, the animation, and learning curves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from PIL import Image

from jensen.plots.animation import save_animation
from jensen.plots.gradients import (
    Field,
    GaussianPair,
    ascent_paths,
    fit_frame,
    gradient_field,
    near_and_far,
    passes_to_optimum,
)
from jensen.plots.learning import learning_curves

Words = Callable[[Figure], str]


def way(size: int, steps: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    loc = np.linspace(-2, 1, steps)[:, None] * np.ones(size)
    covariance = np.linspace(0.5, 1, steps)[:, None, None] * np.eye(size)
    return loc, covariance, -np.geomspace(10, 0.1, steps)


def test_pairs_are_drawn_as_densities(words: Words) -> None:
    pairs = [GaussianPair("Wide", (0, 10), (4, 10), ["KL: 0.08 nats"]), GaussianPair("Narrow", (0, 0.5), (4, 0.5))]
    figure = near_and_far(pairs)
    line = figure.axes[1].lines[1]
    z, density = line.get_data()
    assert np.trapezoid(density, z) == pytest.approx(1, abs=1e-3)
    assert z[np.argmax(density)] == pytest.approx(4, abs=0.02)
    text = words(figure)
    for expected in ("Wide", "Narrow", "KL: 0.08 nats", "p = N(4, 0.5²)"):
        assert expected in text
    with pytest.raises(ValueError, match="should not be empty"):
        near_and_far([])
    with pytest.raises(ValueError, match="Odd: standard deviations should be positive"):
        near_and_far([GaussianPair("Odd", (0, 0), (1, 1))])


def test_a_field_has_arrows_of_one_length_and_its_path() -> None:
    x, y = np.linspace(-2, 2, 30), np.linspace(-1, 1, 20)
    arrows = np.stack(np.broadcast_arrays(-x, -100 * y[:, None]), axis=-1)
    path = np.array([[1.0, 0.5], [0.0, 0.0]])
    figure = gradient_field(x, y, -(x**2) - y[:, None] ** 2, {"one": Field(arrows, path, "2 steps")}, (0.0, 0.0))
    (axes,) = figure.axes
    quiver = next(c for c in axes.collections if hasattr(c, "U"))
    np.testing.assert_allclose(np.hypot(quiver.U, quiver.V), 1, atol=1e-9)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), path)
    assert "2 steps" in [text.get_text() for text in axes.texts]
    with pytest.raises(ValueError, match=r"elbo should have shape \(20, 30\)"):
        gradient_field(x, y, np.zeros((30, 20)), {}, (0, 0))
    with pytest.raises(ValueError, match=r"arrows should have shape \(20, 30, 2\)"):
        gradient_field(x, y, np.zeros((20, 30)), {"one": Field(arrows[:3], path)}, (0, 0))


def test_paths_and_the_targets_ellipses() -> None:
    covariance = np.array([[4.0, 0.0], [0.0, 1.0]])
    figure = ascent_paths([0, 0], covariance, {"coordinate": [[3, 3], [0, 1], [0, 0]], "gradient": [[3, 3], [2, 2]]})
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["coordinate, 2 steps", "gradient, 1 steps"]
    ellipses = [p for p in axes.patches if isinstance(p, Ellipse)]
    assert max(e.width for e in ellipses) == pytest.approx(2 * 2.4477 * 2)
    assert max(e.height for e in ellipses) == pytest.approx(2 * 2.4477)
    with pytest.raises(ValueError, match="two dimensions"):
        ascent_paths([0], [[1.0]], {})
    with pytest.raises(ValueError, match="positive definite"):
        ascent_paths([0, 0], np.zeros((2, 2)), {})


def test_distances_to_the_optimum() -> None:
    figure = passes_to_optimum({"All": {"a": ([1, 2], [-3.0, -1.0])}, "Some": {"b": ([0.5], [-2.0])}}, -1.0)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [2.0, 1e-9])
    assert figure.axes[0].get_yscale() == "log"
    with pytest.raises(ValueError, match="at least one panel"):
        passes_to_optimum({"All": {}}, 0.0)


@pytest.mark.parametrize("size", [1, 2])
def test_frames_have_the_same_axes_so_that_they_fit_together(size: int, words: Words) -> None:
    loc, covariance, elbo = way(size)
    frames = [fit_frame(loc, covariance, elbo, np.ones(size), np.eye(size), step) for step in (0, 4)]
    limits = [[(a.get_xlim(), a.get_ylim()) for a in frame.axes] for frame in frames]
    assert limits[0] == limits[1]
    assert "step 4:   -0.100" in words(frames[1])
    assert len(frames[1].axes[1].lines[0].get_xdata()) == 5
    assert len(frames[0].axes[1].lines[0].get_xdata()) == 1


def test_frames_of_what_does_not_fit_are_refused() -> None:
    loc, covariance, elbo = way(2)
    with pytest.raises(ValueError, match="step 5 is not one of"):
        fit_frame(loc, covariance, elbo, np.ones(2), np.eye(2), 5)
    with pytest.raises(ValueError, match="one or two dimensions"):
        fit_frame(*way(3), np.ones(3), np.eye(3), 0)


def test_an_animation_has_every_frame_and_its_times(tmp_path: Path) -> None:
    loc, covariance, elbo = way(1)
    frames = (fit_frame(loc, covariance, elbo, [1.0], [[1.0]], step) for step in range(5))
    path = save_animation(frames, tmp_path / "folder" / "fit", seconds=0.2, last=1.0, dpi=50)
    assert path.name == "fit.gif"
    with Image.open(path) as image:
        assert image.n_frames == 5
        assert image.info["loop"] == 0
        times, pictures = [], []
        for frame in range(5):
            image.seek(frame)
            times.append(image.info["duration"])
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
    assert times == [200] * 4 + [1000]
    assert all(np.abs(a - b).max() > 50 for a, b in pairwise(pictures))  # it moves
    assert [p.name for p in path.parent.iterdir()] == ["fit.gif"]


def test_animations_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one figure"):
        save_animation([], tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"an animation is a \.gif"):
        save_animation([Figure()], tmp_path / "a.png")
    with pytest.raises(ValueError, match="one size"):
        save_animation([Figure((2, 2)), Figure((3, 2))], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="positive"):
        save_animation([Figure()], tmp_path / "a.gif", seconds=0)
    assert not list(tmp_path.iterdir())


def test_learning_curves() -> None:
    figure = learning_curves([10, 100], {"a": [0.5, 0.2], "b": [0.9, 0.8]}, y="nats")
    (axes,) = figure.axes
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[10, 0.9], [100, 0.8]])
    assert axes.get_xscale() == "log"
    with pytest.raises(ValueError, match="one shape"):
        learning_curves([10, 100], {"a": [1.0]})
    with pytest.raises(ValueError, match="sizes should be positive"):
        learning_curves([0, 1], {"a": [1.0, 2.0]})
