"""How near images are to those that they should be: PSNR and structural similarity."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from jensen.errors import ConfigError

__all__ = ["has_scikit_image", "psnr", "scikit_image", "ssim"]

WINDOW = 7
"""pixels of the square in which structural similarity compares, of images that have so many"""


def psnr(images: Tensor, made: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of `made` for values in [0, 1]: -10 log10 of the mean squared error.

    The mean is over all images together (not a mean of each one's dB), so that a few perfect images do not make it
    infinite.

    Args:
        images: (B, *shape).
        made: the same shape.

    Raises:
        ValueError: shapes that differ.
    """
    if images.shape != made.shape:
        raise ValueError(f"need values of one shape, got {tuple(images.shape)} and {tuple(made.shape)}")
    error = (images - made).square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(images: Tensor, made: Tensor) -> float:
    """Mean structural similarity (Wang, Bovik, Sheikh & Simoncelli 2004) of `made`, (B, C, H, W) in [0, 1]; 1: alike.

    scikit-image's with its defaults: windows of 7 x 7 equal weights, fewer in images that are smaller; mean over
    windows, channels and images.

    Raises:
        ConfigError: scikit-image is not installed.
        ValueError: images smaller than 3 x 3, or shapes that differ.
    """
    compare = scikit_image("structural similarity").metrics.structural_similarity
    if images.ndim != 4 or images.shape != made.shape:
        raise ValueError(f"need images (B, C, H, W) of one shape, got {tuple(images.shape)} and {tuple(made.shape)}")
    smallest = min(WINDOW, *images.shape[2:])
    if smallest < 3:
        raise ValueError(f"structural similarity needs images of 3 x 3 pixels or more, got {tuple(images.shape[2:])}")
    window = smallest if smallest % 2 else smallest - 1
    pairs = zip(images.double().cpu().numpy(), made.double().cpu().numpy(), strict=True)
    found = [float(compare(x, y, win_size=window, data_range=1.0, channel_axis=0)) for x, y in pairs]
    return sum(found) / len(found)


def has_scikit_image() -> bool:
    """Whether scikit-image is there."""
    try:
        scikit_image("")
    except ConfigError:
        return False
    return True


def scikit_image(what: str) -> Any:
    """The package `skimage`, for `what`. Raises `ConfigError` where it is missing."""
    try:
        import skimage.metrics
        import skimage.restoration
    except ImportError:
        raise ConfigError(f"{what} needs scikit-image: pip install 'jensen[compare]'") from None
    return skimage
