"""JPEG and WebP, what a learned code has to beat: a file for each image, and one sheet of all of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

__all__ = ["FORMATS", "Written", "each_file", "one_sheet", "sheet"]

FORMATS = ("JPEG", "WebP")
OPTIONS: dict[str, dict[str, object]] = {"JPEG": {"optimize": True}, "WebP": {"method": 6}}
"""the smallest files that Pillow makes at a quality"""
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Written:
    """What files of images came to."""

    bytes: int
    images: Tensor
    """read again, (B, C, H, W) float32 in [0, 1]"""


def each_file(images: Tensor, form: str, quality: int) -> Written:
    """Images (B, 1 or 3, H, W) in [0, 1], a file each. `form`: of `FORMATS`; `quality`: 1 to 95."""
    written = [_through(picture, form, quality) for picture in _pictures(images)]
    return Written(sum(size for size, _ in written), _tensor(np.stack([made for _, made in written])))


def one_sheet(images: Tensor, form: str, quality: int) -> Written:
    """The same images, all on one sheet in one file, which spares the header of each."""
    size, made = _through(sheet(_pictures(images)), form, quality)
    count, _, height, width = images.shape
    columns = _columns(count)
    tiles = made.reshape(len(made) // height, height, columns, width, -1).swapaxes(1, 2)
    return Written(size, _tensor(tiles.reshape(-1, height, width, tiles.shape[-1])[:count]))


def sheet(pictures: Bytes) -> Bytes:
    """Pictures (B, H, W, C) row by row on one, as many rows as columns or one less; empty places are black."""
    count, height, width, channels = pictures.shape
    columns = _columns(count)
    rows = -(-count // columns)
    places = np.zeros((rows * columns, height, width, channels), np.uint8)
    places[:count] = pictures
    tiles = places.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return tiles.reshape(rows * height, columns * width, channels)


def _columns(count: int) -> int:
    return math.isqrt(count - 1) + 1


def _pictures(images: Tensor) -> Bytes:
    """As bytes, (B, H, W, C)."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"need images (B, 1 or 3, H, W), got shape {tuple(images.shape)}")
    values = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return values.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _through(picture: Bytes, form: str, quality: int) -> tuple[int, Bytes]:
    """Bytes of the file of a picture (H, W, C), and the picture read again."""
    grey = picture.shape[2] == 1
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if grey else picture).save(file, form, quality=quality, **OPTIONS[form])
    file.seek(0)
    with Image.open(file) as read:
        made = np.asarray(read.convert("L" if grey else "RGB"))
    return file.getbuffer().nbytes, made.reshape(picture.shape)


def _tensor(pictures: Sequence[Bytes] | Bytes) -> Tensor:
    return torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2).float() / 255
