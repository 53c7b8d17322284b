"""What the tests of pictures share: looking into a figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure

Tiles = Callable[[Figure], list[npt.NDArray[Any]]]


@pytest.fixture
def tiles() -> Tiles:
    """The arrays that `imshow` got, in drawing order, over all axes of a figure."""

    def arrays(figure: Figure) -> list[npt.NDArray[Any]]:
        return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]

    return arrays


@pytest.fixture
def words() -> Callable[[Figure], str]:
    """All visible text of a figure, drawn first so that ticks are there."""

    def text(figure: Figure) -> str:
        figure.draw_without_rendering()
        found = figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible())
        return "\n".join(artist.get_text() for artist in found)

    return text
