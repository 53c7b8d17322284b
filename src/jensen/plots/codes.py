"""Discrete codes: which are used, and where each stands in an image."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from jensen.plots._input import Array, Floats, as_array, as_images, same_shape
from jensen.plots._style import COLOURS, finish, log_axis, new_figure, plain
from jensen.plots._tiles import tile_figure

__all__ = ["code_maps", "code_usage"]

_PRIME = 2_654_435_761  # a step that spreads neighbouring codes over the circle of hues


def code_usage(counts: Array | Mapping[str, Array], *, title: str = "How often each code is used") -> Figure:
    """How often each code is used, the most frequent first, on logarithmic axes, a line for each of several counts.

    A codebook in use falls off gently and ends far to the right; dead codes are missing there. The legend tells the
    perplexity exp(entropy), the number of equally frequent codes that would be as hard to guess, and how many are used.

    Args:
        counts: how often each code occurred, (K,), or several such by name.
        title: of the figure.

    Raises:
        ValueError: negative counts, or none at all.
    """
    named = dict(counts) if isinstance(counts, Mapping) else {"": counts}
    if not named:
        raise ValueError("counts should hold at least one codebook, but is empty")
    figure = new_figure(max(6.2, 0.105 * len(title) + 0.3), 3.4)
    axes = figure.add_subplot()
    finish(axes, title, "code, by rank", "share of all places")
    for place, (name, values) in enumerate(named.items()):
        numbers = as_array(f"counts {name}".strip(), values, dimensions=1)
        if numbers.min() < 0 or numbers.sum() <= 0:
            raise ValueError("counts should be 0 or more, and not all 0")
        shares = np.sort(numbers / numbers.sum())[::-1]
        shares = shares[shares > 0]
        perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
        words = f"{len(shares):,} of {len(numbers):,} used, perplexity {perplexity:,.0f}"
        axes.plot(
            np.arange(1, len(shares) + 1),
            shares,
            color=COLOURS[place % len(COLOURS)],
            linewidth=2,
            marker="o" if len(shares) < 30 else "",
            markersize=4,
            label=f"{name}: {words}" if name else words,
        )
    log_axis(axes, "both")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()  # whole decades, so that some are written, and room for the legend
    axes.set_ylim(10.0 ** (math.floor(math.log10(low)) - 0.5), 10.0 ** math.ceil(math.log10(high)))
    axes.legend(fontsize=9, frameon=False, loc="lower left")
    return plain(figure)


def code_maps(
    originals: Array, codes: Mapping[str, Array], reconstructions: Array, *, columns: int = 10, title: str = ""
) -> Figure:
    """Images, their codes as colours (one colour a code), and what is decoded from these.

    Args:
        originals: (B, C, H, W).
        codes: by name, integers (B, h, w), e.g. of the top and the bottom level.
        reconstructions: (B, C, H, W).
        columns: images a line.
        title: of the figure.

    Raises:
        ValueError: shapes that do not fit, or negative codes.
    """
    clean, made = as_images("originals", originals), as_images("reconstructions", reconstructions)
    same_shape("originals", clean, "reconstructions", made)
    if columns < 1:
        raise ValueError(f"columns should be at least 1, but is {columns}")
    labelled: dict[str, Floats] = {"original": clean}
    for name, values in codes.items():
        painted = _painted(name, values, clean.shape[1:3])
        if len(painted) != len(clean):
            raise ValueError(f"codes {name} should be those of {len(clean)} images, but are of {len(painted)}")
        labelled[name] = painted
    labelled["decoded"] = made
    rows: list[list[Floats | None]] = []
    names: list[str] = []
    for start in range(0, len(clean), columns):
        rows.extend(list(images[start : start + columns]) for images in labelled.values())
        names.extend(labelled)
    return tile_figure(rows, title=title or "Images as codes", row_labels=names, block=len(labelled))


def _painted(name: str, values: Array, size: tuple[int, ...]) -> Floats:
    """Codes (B, h, w) as colours (B, H, W, 3), each code a rectangle of the image that it stands for."""
    numbers = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if numbers.ndim != 3 or numbers.dtype.kind not in "iu" or (numbers.size and numbers.min() < 0):
        raise ValueError(f"codes {name} should be integers of 0 or more, (B, h, w), got shape {numbers.shape}")
    spread = (numbers.astype(np.uint64) * np.uint64(_PRIME)) % np.uint64(2**32)
    hue = spread.astype(np.float64) / 2**32
    lightness = 0.65 + 0.35 * ((spread >> np.uint64(7)) % np.uint64(64)).astype(np.float64) / 63
    colours: Floats = np.asarray(colormaps["hsv"](hue))[..., :3] * lightness[..., None] * 0.9 + 0.05
    rows = _places(size[0], numbers.shape[1])
    columns = _places(size[1], numbers.shape[2])
    return colours[:, rows][:, :, columns]


def _places(size: int, cells: int) -> npt.NDArray[np.int64]:
    """Which of `cells` each of `size` pixels belongs to."""
    return np.arange(size, dtype=np.int64) * cells // size
