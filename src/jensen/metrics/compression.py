"""Rate against quality: a model's codes in fewer and fewer bits, beside JPEG and WebP of the same images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from jensen.metrics.image_quality import has_scikit_image, psnr, ssim
from jensen.metrics.picture_files import FORMATS, Written, each_file, one_sheet
from jensen.metrics.quantised import quantise, smallest

__all__ = [
    "Compression",
    "Point",
    "code_points",
    "compression",
    "decoder_bytes",
    "picture_points",
    "quality_at",
    "size_at",
]

Kept = tuple[int, Tensor]
"""bytes, and the images that they give back"""
Way = tuple[str, str, Callable[[], Kept]]
"""method, setting, and what does it"""

BITS = (8, 7, 6, 5, 4, 3, 2)
QUALITIES = (1, 10, 25, 50, 75, 90)
MODEL = "model"
NEAR = 0.5
"""dB below its best that a model's codes may be for the question when the decoder has paid for itself"""


@dataclass(frozen=True)
class Point:
    """One way to keep the images."""

    method: str
    """model, or the format, with "one sheet" where all images are in one file"""
    setting: str
    bytes: int
    """of all images, with everything that is needed to read them but the program (the decoder's weights)"""
    bits_per_pixel: float
    """8 x bytes / (images x height x width)"""
    psnr: float
    """dB"""
    ssim: float | None
    """None: scikit-image is missing"""


@dataclass(frozen=True)
class Compression:
    """What `compression` found.

    Attributes:
        points: of the model from most to fewest bits, then those of each format from low to high quality.
        images: how many were kept.
        pixels: of an image.
        decoder_bytes: of the weights that decoding takes, float32, counted nowhere else.
        notes: what to know about these numbers.
    """

    points: list[Point]
    images: int
    pixels: int
    decoder_bytes: int
    notes: list[str] = field(default_factory=list)

    def of(self, method: str) -> list[Point]:
        """The points of a method."""
        return [point for point in self.points if point.method == method]

    @property
    def methods(self) -> list[str]:
        """In the order of the points."""
        return list(dict.fromkeys(point.method for point in self.points))

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return {**asdict(self), "points": [_finite(asdict(point)) for point in self.points]}

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (way, bits a pixel, quality and bytes; of the model's also what others have at as many bytes)."""
        rows = []
        for point in self.points:
            words = f"PSNR {point.psnr:.2f} dB" + ("" if point.ssim is None else f", SSIM {point.ssim:.3f}")
            words += f", {point.bytes:,} bytes"
            if point.method == MODEL:
                words += f"; at as many: {self._others(point)}"
            rows.append((f"{point.method}, {point.setting}", f"{point.bits_per_pixel:.3f}", words))
        return [("", "bits a pixel", ""), *rows, self._decoder()]

    def _others(self, point: Point) -> str:
        sheets = [method for method in self.methods if method.endswith("one sheet")]
        found = {method: quality_at(self.of(method), point.bytes) for method in sheets}
        return ", ".join(
            f"{method} {'cannot' if quality is None else f'{quality:.2f} dB'}" for method, quality in found.items()
        )

    def _decoder(self) -> tuple[str, str, str]:
        pixels = 8 * self.decoder_bytes / (self.images * self.pixels)
        words = f"{self.decoder_bytes:,} bytes of weights, in none of the numbers above: what they would add here"
        return "decoder", f"{pixels:.3f}", words


def quality_at(points: Sequence[Point], size: int) -> float | None:
    """PSNR in dB of a method at so many bytes, linear in their logarithm between its points.

    None where its smallest files are larger; that of its largest where these are smaller.
    """
    ordered = sorted(points, key=lambda point: point.bytes)
    if not ordered or size < ordered[0].bytes:
        return None
    sizes = [math.log(point.bytes) for point in ordered]
    return float(np.interp(math.log(size), sizes, [point.psnr for point in ordered]))


def size_at(points: Sequence[Point], quality: float) -> float | None:
    """Bytes that a method takes for a PSNR in dB, by linear interpolation of their logarithm; None: it has no such.

    Where it is better even at its smallest, its smallest.
    """
    ordered = sorted(points, key=lambda point: point.psnr)
    if not ordered or quality > ordered[-1].psnr:
        return None
    sizes = [math.log(point.bytes) for point in ordered]
    return math.exp(float(np.interp(quality, [point.psnr for point in ordered], sizes)))


def compression(
    images: Tensor,
    codes: Tensor,
    decode: Callable[[Tensor], Tensor],
    *,
    decoder: int,
    levels: int | None = None,
    beside: int = 0,
    prior_bits: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Compression:
    """Bytes and quality of images kept as codes, and as pictures.

    Codes of real numbers are kept as they are (float32), in half precision, and on equal steps in 8 to 2 bits, whose
    bytes are the smallest of plain packing, zlib and lzma, and the scales of each dimension. Pictures are JPEG and
    WebP of several qualities, a file for each image and one sheet of all.

    Args:
        images: (B, 1 or 3, H, W) in [0, 1].
        codes: of the images, (B, latent), real numbers, or int64 in 0 .. levels - 1.
        decode: codes to images.
        decoder: bytes of the weights that decoding takes.
        levels: values of an integer code; None: codes are real numbers.
        beside: bytes that have to be kept with the codes of all images, e.g. labels.
        prior_bits: mean of -log2 p(codes) of an image under a learned prior, what an entropy coder would come to.
        progress: called with (points measured, points in all).
    """
    ways = [*_ways(codes, decode, levels, prior_bits), *_pictures(images)]
    found = Compression(_points(images, ways, beside, progress), len(images), math.prod(images.shape[2:]), decoder)
    found.notes.extend(_notes(found))
    return found


def code_points(
    images: Tensor, codes: Tensor, decode: Callable[[Tensor], Tensor], *, levels: int | None = None, beside: int = 0
) -> list[Point]:
    """The points of a model alone; arguments as those of `compression`, with which to compare several models."""
    return _points(images, list(_ways(codes, decode, levels, None)), beside)


def picture_points(images: Tensor) -> list[Point]:
    """The points of JPEG and WebP alone, of images (B, 1 or 3, H, W) in [0, 1]."""
    return _points(images, list(_pictures(images)))


def _points(
    images: Tensor, ways: Sequence[Way], beside: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[Point]:
    pixels, similar = math.prod(images.shape[2:]), has_scikit_image() and min(images.shape[2:]) >= 3
    points = []
    for done, (method, setting, make) in enumerate(ways, 1):
        size, made = make()
        size += beside if method == MODEL else 0
        made = made.clamp(0, 1)  # as a picture of it would be
        alike = ssim(images, made) if similar else None
        points.append(Point(method, setting, size, 8 * size / (len(images) * pixels), psnr(images, made), alike))
        if progress is not None:
            progress(done, len(ways))
    return points


def _ways(
    codes: Tensor, decode: Callable[[Tensor], Tensor], levels: int | None, prior_bits: float | None
) -> Iterator[Way]:
    """How the codes of a model can be kept: bytes and what is decoded."""
    if levels is not None:
        bits = max(1, (levels - 1).bit_length())
        size, coder = smallest(codes, bits)
        yield MODEL, f"codes of {levels}, {coder}", lambda: (size, decode(codes))
        if prior_bits is not None:
            ideal = math.ceil(prior_bits * len(codes) / 8)
            yield MODEL, "by the prior (ideal, not written)", lambda: (ideal, decode(codes))
        return
    yield MODEL, "float32", lambda: (4 * codes.numel(), decode(codes.float()))
    yield MODEL, "float16", lambda: (2 * codes.numel(), decode(codes.half().float()))
    for bits in BITS:
        yield MODEL, f"{bits} bits", partial(_quantised, codes, bits, decode)


def _quantised(codes: Tensor, bits: int, decode: Callable[[Tensor], Tensor]) -> Kept:
    kept = quantise(codes, bits)
    return smallest(kept.levels, bits)[0] + kept.scale_bytes, decode(kept.restored())


def _pictures(images: Tensor) -> Iterator[Way]:
    for write, where in ((each_file, "a file each"), (one_sheet, "one sheet")):
        for form, quality in itertools.product(FORMATS, QUALITIES):
            yield f"{form}, {where}", f"quality {quality}", partial(_written, write, images, form, quality)


def _written(write: Callable[[Tensor, str, int], Written], images: Tensor, form: str, quality: int) -> Kept:
    found = write(images, form, quality)
    return found.bytes, found.images


def _notes(found: Compression) -> list[str]:
    """Where the model is better and where it is not, and when its decoder has paid for itself."""
    sheets = [method for method in found.methods if method.endswith("one sheet")]
    texts = [
        "The model has learned from other images of the same data; JPEG and WebP know nothing of these, and need no "
        "weights. A file of its own for a small image is mostly header, so the sheet is what to compare with."
    ]
    for sheet in sheets:
        at = [(point, quality_at(found.of(sheet), point.bytes)) for point in found.of(MODEL)]
        found_ways = {
            "better as": [point.setting for point, other in at if other is not None and point.psnr > other],
            "worse as": [point.setting for point, other in at if other is not None and point.psnr <= other],
            "smaller than that can be as": [point.setting for point, other in at if other is None],
        }
        words = [f"{verb} {_listed(which)}" for verb, which in found_ways.items() if which]
        texts.append(f"At as many bytes, by PSNR, the model beside {sheet}, is {'; '.join(words)}.")
    texts.extend(_paid(found, sheets))
    return texts


def _listed(settings: Sequence[str]) -> str:
    return settings[0] if len(settings) == 1 else f"{', '.join(settings[:-1])} and {settings[-1]}"


def _paid(found: Compression, sheets: Sequence[str]) -> list[str]:
    """After how many images the bytes that codes save, at the same PSNR, are those of the decoder."""
    for point in sorted(found.of(MODEL), key=lambda point: point.bytes):
        sizes = [size for size in (size_at(found.of(sheet), point.psnr) for sheet in sheets) if size is not None]
        saved = (min(sizes) - point.bytes) / found.images if sizes else 0.0
        if saved > 0 and point.psnr >= max(each.psnr for each in found.of(MODEL)) - NEAR:
            return [
                f"As {point.setting} the model takes {point.bytes / found.images:.1f} bytes an image, and a sheet of "
                f"at least that PSNR {min(sizes) / found.images:.1f}: its decoder has paid for itself after "
                f"{math.ceil(found.decoder_bytes / saved):,} images."
            ]
    return [
        "A sheet of the same PSNR takes no more bytes than the codes, or is not to be had: no saving that would "
        "pay for the decoder was found."
    ]


def decoder_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights that decoding takes at most, as stored: all that are not its encoder's."""
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("encoder.")}
    return sum(value.nbytes for value in kept.values())


def _finite(point: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a PSNR of images that are equal becomes null."""
    return {**point, "psnr": None if math.isinf(point["psnr"]) else point["psnr"]}
