"""Figures as files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from jensen.files import write_atomically

__all__ = ["png", "save"]

_DPI = 110


def png(figure: Figure, *, dpi: int = _DPI) -> bytes:
    """The figure as the bytes of a PNG file, cropped to its content."""
    return _render(figure, "png", dpi)


def save(figure: Figure, path: str | Path, *, dpi: int = _DPI) -> Path:
    """Write `figure` to `path`; the suffix (.png, .svg, .pdf, ...) names the format, none means .png.

    The file appears whole or not at all: it is written beside `path` and then moved there. Missing folders are made.
    Raises `ValueError` for an unknown suffix, `OSError` where the folder cannot be written.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    formats = figure.canvas.get_supported_filetypes()
    suffix = path.suffix[1:].lower()
    if suffix not in formats:
        raise ValueError(f"cannot draw {path.name}: the suffix should be one of {', '.join(sorted(formats))}")
    content = _render(figure, suffix, dpi)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path


def _render(figure: Figure, suffix: str, dpi: int) -> bytes:
    """The figure in one format, without a date, so that the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
    figure.savefig(buffer, format=suffix, dpi=dpi, bbox_inches="tight", pad_inches=0.1, metadata=metadata)
    return buffer.getvalue()
