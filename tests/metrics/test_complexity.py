"""The length of a lossless code: it is that of a PNG file, which can be read back."""

from __future__ import annotations

import io
import math
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from jensen.metrics import code_length
from jensen.metrics.complexity import _filtered, _rows

BYTE = 8 * math.log(2)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def file(content: bytes, width: int, height: int, depth: int, colour: int) -> bytes:
    """A PNG file around compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def pictures(levels: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(levels + channels)
    noise = torch.randint(levels, (1, channels, 11, 13), generator=generator)
    slope = (torch.arange(11)[:, None] + 2 * torch.arange(13)).expand(1, channels, 11, 13) * (levels - 1) // 34
    return torch.cat([noise, slope, torch.zeros_like(noise)])


@pytest.mark.parametrize(("levels", "channels"), [(256, 1), (256, 3), (2, 1)])
def test_every_code_is_a_png_file_of_that_very_image(levels: int, channels: int) -> None:
    """Another program reads the image back from the bytes that were counted, whichever filter was the best."""
    images = pictures(levels, channels)
    depth, colour = (1, 0) if levels == 2 else (8, 0 if channels == 1 else 2)
    for image, nats in zip(images.numpy().astype(np.uint8), code_length(images, levels).tolist(), strict=True):
        codes = [zlib.compress(rows.tobytes(), 9) for rows in _filtered(*_rows(image, levels))]
        assert nats == pytest.approx(min(map(len, codes)) * BYTE)
        for code in codes:
            read = np.asarray(Image.open(io.BytesIO(file(code, 13, 11, depth, colour)))).astype(np.uint8)
            assert (read == (image[0] if channels == 1 else image.transpose(1, 2, 0))).all()


def test_the_length_is_about_that_of_another_programs_file() -> None:
    """Without the 57 bytes around its content a PNG file by Pillow, of real digits enlarged, is not much shorter."""
    digits = load_digits().images[:20].repeat(4, 1).repeat(4, 2)
    images = torch.from_numpy(digits * 255 / 16).round().long()[:, None]
    for image, nats in zip(images, code_length(images, 256).tolist(), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image[0].numpy().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
        theirs = len(buffer.getvalue()) - 57
        assert 0.7 * theirs < nats / BYTE < 1.15 * theirs


def test_simple_is_short_and_noise_cannot_be_compressed() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(256, (1, 3, 32, 32), generator=generator)
    plain = torch.full((1, 3, 32, 32), 77)
    short, long = code_length(torch.cat([plain, noise]), 256).tolist()
    assert short < 40 * BYTE
    assert 3 * 32 * 32 * BYTE < long < 1.05 * 3 * 32 * 32 * BYTE


def test_a_signal_is_a_picture_of_one_row() -> None:
    values = torch.randint(17, (3, 2, 40), generator=torch.Generator().manual_seed(0))
    assert torch.equal(code_length(values, 17), code_length(values[:, :, None], 17))
    assert code_length(values, 17).dtype == torch.float64


@pytest.mark.parametrize(
    ("values", "levels", "message"),
    [
        (torch.zeros(2, 1, 4, 4), 256, "takes integers"),
        (torch.zeros(2, 4, dtype=torch.long), 256, "takes integers"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.long), 257, "of 2 to 256 levels"),
        (torch.full((2, 1, 4, 4), 17), 17, "0 .. 16, got 17 .. 17"),
    ],
)
def test_what_has_no_code_is_refused(values: Tensor, levels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        code_length(values, levels)
