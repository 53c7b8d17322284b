"""Corruptions for denoising: the model sees the corrupted values and is scored on the clean ones."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from jensen.config import Corruption
from jensen.errors import ConfigError

__all__ = ["BLUR_PIXELS", "blur", "blur_matrix", "corrupt", "gaussian", "masking", "salt_and_pepper"]

BLUR_PIXELS = 4.0
"""standard deviation in pixels of the blur of strength 1"""
REACH = 4.0
"""standard deviations at which the tails of a blur are cut off"""


def gaussian(x: Tensor, strength: float, generator: torch.Generator | None = None, *, clip: bool = True) -> Tensor:
    """`x` plus normal noise of standard deviation `strength`; `clip` keeps values in [0, 1]."""
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    noisy = noise.mul_(strength).add_(x)
    return noisy.clamp_(0.0, 1.0) if clip else noisy


def salt_and_pepper(x: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """`x` with a share `strength` of its values set to 0 or to 1, with equal chances."""
    u = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    salt = torch.lt(u, 0.5 * strength, out=torch.empty_like(u))
    return u.ge_(strength).mul_(x).add_(salt)


def masking(x: Tensor, strength: float, generator: torch.Generator | None = None, *, gaps: bool = False) -> Tensor:
    """`x` with a share `strength` of its values set to 0 (in a standardised table or signal: to the mean).

    With `gaps` they are missing (NaN), as 0 would be a value like any other, such as a category.
    """
    u = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x.masked_fill(u < strength, math.nan) if gaps else u.ge_(strength).mul_(x)


def blur(x: Tensor, strength: float) -> Tensor:
    """Images `x`, (..., H, W), under a Gaussian filter of standard deviation 4 `strength` pixels, cut off at four of
    these; each channel by itself, the image mirrored at its edges (the outermost pixel twice), as
    `scipy.ndimage.gaussian_filter` does it. Nothing is drawn. The sum over the pixels stays what it was.

    The filter is separable, so it is a product with an H x H and one with a W x W matrix, into which the mirroring is
    folded: any width is fine, also one beyond the image, which a padded convolution would refuse.
    """
    height, width = x.shape[-2:]
    down = blur_matrix(height, strength).to(device=x.device, dtype=x.dtype)
    across = blur_matrix(width, strength).to(device=x.device, dtype=x.dtype)
    return down @ x @ across.mT


@lru_cache(maxsize=16)
def blur_matrix(size: int, strength: float) -> Tensor:
    """The matrix (size, size) float64 by which `blur` multiplies columns, or its transpose rows; do not change it."""
    sigma = BLUR_PIXELS * strength
    reach = math.floor(REACH * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.softmax(-0.5 * (offsets.double() / sigma).square(), 0)
    places = torch.arange(size)[:, None]
    seen = (places + offsets) % (2 * size)
    seen = torch.where(seen < size, seen, 2 * size - 1 - seen)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.index_put_((places.expand_as(seen), seen), weights.expand_as(seen), accumulate=True)


def corrupt(
    x: Tensor,
    kind: Corruption,
    strength: float,
    generator: torch.Generator | None = None,
    *,
    image: bool = True,
    gaps: bool = False,
) -> Tensor:
    """`x` corrupted in the named way; `x` itself for "none".

    `strength`, in (0, 1], is the standard deviation of gaussian noise, a quarter of that of a blur in pixels, otherwise
    the share of values hit. Noise comes from `generator`, or torch's global generator of the device. Raises
    `ConfigError` for salt-and-pepper where values are not confined to [0, 1] as those of an `image` are: in a table or
    signal of continuous values, 0 and 1 are values like any other; and for a blur of what has no rows and columns.
    `gaps`: whether values may be missing, as those that are masked then are.
    """
    check_corruption(kind, image=image, shape=tuple(x.shape[1:]))
    if kind == "gaussian":
        return gaussian(x, strength, generator, clip=image)
    if kind == "salt-and-pepper":
        return salt_and_pepper(x, strength, generator)
    if kind == "masking":
        return masking(x, strength, generator, gaps=gaps)
    if kind == "blur":
        return blur(x, strength)
    return x


def check_corruption(kind: Corruption, *, image: bool, shape: tuple[int, ...] | None = None) -> None:
    """Raise `ConfigError` if data of this kind, and of this shape where it is known, cannot be corrupted so."""
    if kind == "blur" and (not image or (shape is not None and len(shape) != 3)):
        raise ConfigError("data.corruption: blur is for images; use gaussian or masking")
    if kind == "salt-and-pepper" and not image:
        raise ConfigError("data.corruption: salt-and-pepper is for images; use gaussian or masking")
