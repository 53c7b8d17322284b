"""Figures one after the other, as an animated GIF."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from jensen.files import write_atomically

__all__ = ["save_animation"]

_COLOURS = 96


def save_animation(
    figures: Iterable[Figure],
    path: str | Path,
    *,
    seconds: float = 0.1,
    last: float = 2.0,
    dpi: int = 80,
) -> Path:
    """Write `figures`, all of one size, to `path` (.gif) as an endless animation; the file appears whole or not at all.

    Args:
        figures: consumed one by one, so that they may come from a generator.
        seconds: how long each is shown; a GIF counts in hundredths.
        last: how long the last one is shown.

    Raises:
        ValueError: no figure, figures of different sizes, a time that is not positive, a suffix that is not .gif.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".gif")
    if path.suffix.lower() != ".gif":
        raise ValueError(f"an animation is a .gif, but the path is {path.name}")
    if not (seconds > 0 and last > 0):
        raise ValueError(f"seconds and last should be positive, but are {seconds} and {last}")
    frames = [_render(figure, dpi) for figure in figures]
    if not frames:
        raise ValueError("an animation needs at least one figure")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"the figures of an animation should have one size, but have {sorted(sizes)} pixels")
    # One palette for all, from the last frame, which shows everything: colours do not flicker and the file is small.
    palette = frames[-1].quantize(_COLOURS)
    shown = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [round(1000 * seconds)] * (len(shown) - 1) + [round(1000 * last)]

    def write(temporary: Path) -> None:
        shown[0].save(
            temporary, format="GIF", save_all=True, append_images=shown[1:], duration=durations, loop=0, optimize=True
        )

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    return path


def _render(figure: Figure, dpi: int) -> Image.Image:
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
