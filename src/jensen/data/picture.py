"""One image file as pixels: any common format, mode and size, brought to the form that a data set needs."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from jensen.errors import ConfigError

__all__ = ["SUFFIXES", "Fit", "Look", "expect_bombs", "find_images", "look", "parse_size", "pixels", "reason"]

Fit = Literal["crop", "stretch", "pad"]
Bytes = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "TGA", "AVIF", "JPEG2000")
"""What may be in a file, whatever it is called: none of these runs another program, as EPS does."""
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".avif", ".jp2"),
)
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
GREY = ("1", "L", "LA", "La", *DEEP)
WHITE_16 = 65_535
LARGEST_SIDE = 8_192

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF (tag 274); 1 is upright."""
ORIENTATION = 274


class Look(NamedTuple):
    """What can be said of an image without its pixels (of a palette image: with them)."""

    width: int
    """as it is seen, after the orientation of EXIF"""
    height: int
    mode: str
    """as Pillow names it: L, RGB, RGBA, P, 1, I;16, CMYK, ..."""
    grey: bool
    """whether one channel holds all of it, transparency aside"""
    transparent: bool
    """whether it may have transparent pixels"""


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of `DataConfig.size`: one side of a square, or HEIGHTxWIDTH. Raises `ConfigError`."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    sides = (0, 0) if found is None else (int(found[1]), int(found[2] or found[1]))
    if not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise ConfigError(
            f"data.size should be pixels of a square, e.g. 64, or HEIGHTxWIDTH, e.g. 48x64, each at most "
            f"{LARGEST_SIDE:,}, not {text!r}"
        )
    return sides


def find_images(root: Path) -> tuple[list[tuple[str, os.stat_result]], Counter[str]]:
    """Image files below `root` by suffix, as (path relative to it with slashes, what `stat` says), in their order.

    Also how many other files there are, by suffix. Hidden files and folders are passed over, and so is __MACOSX. Links
    are followed, but not to a folder that they lie in.
    """
    found: list[tuple[str, os.stat_result]] = []
    others: Counter[str] = Counter()

    def walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        for entry in inside:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            try:
                told = entry.stat()
                is_folder = entry.is_dir()
            except OSError:  # a link to nothing, or to itself
                others["link to nothing"] += 1
                continue
            if is_folder:
                here = (told.st_dev, told.st_ino)
                if here not in above:
                    walk(entry.path, f"{prefix}{entry.name}/", (*above, here))
            elif Path(entry.name).suffix.lower() in SUFFIXES and entry.is_file():
                found.append((prefix + entry.name, told))
            else:
                others[Path(entry.name).suffix.lower() or "without suffix"] += 1

    told = root.stat()
    walk(str(root), "", ((told.st_dev, told.st_ino),))
    return sorted(found, key=lambda item: item[0].split("/")), others


@contextmanager
def expect_bombs() -> Iterator[None]:
    """Inside, an image of more pixels than Pillow trusts is refused, not warned of; for all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def look(path: Path) -> Look:
    """Size and mode of an image file. Raises whatever Pillow raises of a file that it cannot read."""
    with Image.open(path, formats=readable()) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        grey = image.mode in GREY
        if image.mode in ("P", "PA"):
            red, green, blue = image.convert("RGBA").split()[:3]
            grey = red.tobytes() == green.tobytes() == blue.tobytes()
        return Look(width, height, image.mode, grey, image.has_transparency_data)


def pixels(path: Path, channels: int, size: tuple[int, int] | None, fit: Fit = "crop") -> Bytes:
    """An image file as (channels, height, width) uint8, with 1 or 3 channels.

    Of an animation the first picture. Turned upright as EXIF says; transparent pixels on black; 16 bits a pixel rounded
    to 8; grey from colour by ITU-R 601. Resized with Lanczos' filter to `size` (height, width; None: as it is): "crop"
    keeps the proportions and cuts off what sticks out on both sides, "pad" keeps them and fills the rest with black,
    "stretch" does not keep them. Raises whatever Pillow raises of a file that it cannot read.
    """
    with Image.open(path, formats=readable()) as opened:
        turn = _orientation(opened)
        if size is not None:
            # A large JPEG need not be decoded at its full size; twice what is wanted leaves the filter its due.
            height, width = size if turn < 5 else size[::-1]
            opened.draft(None, (2 * width, 2 * height))
        opened.load()
        image = _plain(opened, "L" if channels == 1 else "RGB")
    if turn in TURNS:
        image = image.transpose(TURNS[turn])
    if size is not None:
        image = _fitted(image, (size[1], size[0]), fit)
    array = np.asarray(image)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words without its path."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "more pixels than is safe to decode"
    if isinstance(error, UnidentifiedImageError):
        return "no image, or damaged at its beginning"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@cache
def readable() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF counts; 1 where nothing sensible is said."""
    try:
        if image.format == "PNG":  # whose getexif would decode all of it
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        said = exif.get(ORIENTATION, 1)
    except Exception:  # the pixels are good, whatever is wrong with what is said of them
        return 1
    return said if said in TURNS else 1


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """Opaque, and in mode L or RGB."""
    if image.mode in DEEP:
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > WHITE_16:
            raise ValueError("more than 16 bits a pixel; store such images as .npy")
        image = Image.fromarray(((deep * 255 + WHITE_16 // 2) // WHITE_16).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels; store such images as .npy")
    elif image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """With this (width, height)."""
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if fit == "pad":
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)
