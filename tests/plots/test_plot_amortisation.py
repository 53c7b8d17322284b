"""The picture of amortisation gaps: bars that add up, ellipses where q is, densities that are shown as given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle

from jensen.plots.amortisation import LocalPosterior, amortisation_gaps

Words = Callable[[Figure], str]
X, Y = np.linspace(-1, 2, 7), np.linspace(0, 1, 5)
LOG_DENSITY = -(X**2) - Y[:, None] ** 2 + 100


def posterior(**changes: object) -> LocalPosterior:
    fields = {
        "title": "largest gap: 8 nats",
        "image": np.full((1, 4, 3), 0.5),
        "x": X,
        "y": Y,
        "log_density": LOG_DENSITY,
        "encoder": ([0.5, 0.25], [0.2, 0.1]),
        "optimised": ([0.1, 0.2], [0.3, 0.4]),
    }
    return LocalPosterior(**{**fields, **changes})  # type: ignore[arg-type]


def test_bars_are_stacked_and_named(words: Words) -> None:
    figure = amortisation_gaps({"train": (1.0, 0.25), "test": (3.0, -0.001)})
    (axes,) = figure.axes
    bars = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert [(b.get_x(), b.get_width()) for b in bars] == [(0, 1.0), (0, 3.0), (1.0, 0.25), (3.0, 0)]
    text = words(figure)
    for expected in ("train", "test", "1.00 + 0.25", "3.00 + −0.00", "encoder (amortisation gap)", "nats"):
        assert expected in text


def test_posteriors_have_both_approximations_on_the_density(words: Words) -> None:
    figure = amortisation_gaps({"test": (1.0, 0.2)}, [posterior(), posterior(title="median")])
    axes = figure.axes[1]
    ellipses = [p for p in axes.patches if isinstance(p, Ellipse)]
    found = [(*e.center, e.width, e.height) for e in ellipses]
    wanted = [(0.5, 0.25, 0.4, 0.2), (0.5, 0.25, 0.8, 0.4), (0.1, 0.2, 0.6, 0.8), (0.1, 0.2, 1.2, 1.6)]
    np.testing.assert_allclose(found, wanted)
    density = np.asarray(axes.collections[0].get_array()).reshape(5, 7)
    np.testing.assert_allclose(density, np.exp(LOG_DENSITY - 100))
    assert "largest gap: 8 nats" in words(figure)
    assert "q of the encoder" in words(figure)
    (picture,) = axes.child_axes
    np.testing.assert_allclose(picture.images[0].get_array(), np.full((4, 3), 0.5))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one measurement"):
        amortisation_gaps({})
    with pytest.raises(ValueError, match="two numbers each, but hold 1"):
        amortisation_gaps({"a": (1.0,)})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="gaps should be finite"):
        amortisation_gaps({"a": (1.0, float("nan"))})
    with pytest.raises(ValueError, match=r"log_density and the grid should have one shape, but have \(7, 5\)"):
        amortisation_gaps({"a": (1.0, 1.0)}, [posterior(log_density=LOG_DENSITY.T)])
