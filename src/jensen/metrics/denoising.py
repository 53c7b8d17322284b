"""Denoising without a model: classical filters, their settings chosen on validation images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.data.corruption import blur_matrix
from jensen.metrics.image_quality import has_scikit_image, psnr, scikit_image, ssim

__all__ = ["Denoised", "Filter", "compare_denoised", "deconvolved", "median", "non_local_means", "tuned_filters"]

CROSS = ((0, 1, 0), (1, 1, 1), (0, 1, 0))
MEDIANS: Mapping[str, npt.ArrayLike] = {
    "cross of 3": CROSS,
    "3 x 3": np.ones((3, 3)),
    "5 x 5": np.ones((5, 5)),
}
PATCHES = (3, 5)
DISTANCES = (3, 6)
CUTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
"""of non-local means: how different two patches may be, in units of [0, 1]"""
RIDGES = (1e-12, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class Filter:
    """A filter with its settings in words.

    `apply` takes and gives images (B, C, H, W) in [0, 1].
    """

    name: str
    settings: str
    apply: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Denoised:
    """How near one way of denoising comes to the clean images."""

    method: str
    settings: str
    psnr: float
    """dB"""
    ssim: float | None
    """None: scikit-image is missing"""

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)


def median(images: Tensor, footprint: npt.ArrayLike) -> Tensor:
    """The median of each pixel's neighbourhood, (B, C, H, W); edges are mirrored."""
    from scipy.ndimage import median_filter

    window = np.asarray(footprint, bool)[None, None]
    return torch.from_numpy(median_filter(images.cpu().numpy(), footprint=window))


def non_local_means(images: Tensor, *, patch: int, distance: int, cut: float, sigma: float = 0.0) -> Tensor:
    """Means of pixels whose surroundings look alike (Buades, Coll & Morel 2005), (B, C, H, W), by scikit-image.

    Args:
        images: noisy ones, in [0, 1].
        patch: pixels of the squares that are compared.
        distance: how far away they may be.
        cut: how different they may be (`h`).
        sigma: standard deviation of the noise, where it is known; it is taken off the differences.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    denoise = scikit_image("non-local means").restoration.denoise_nl_means
    options = {"patch_size": patch, "patch_distance": distance, "h": cut, "sigma": sigma, "fast_mode": True}
    if images.shape[1] == 1:  # with an axis of one channel it gives them back transposed
        made = [denoise(image[0], **options)[None] for image in images.double().cpu().numpy()]
    else:
        made = [denoise(image, channel_axis=0, **options) for image in images.double().cpu().numpy()]
    return torch.from_numpy(np.stack(made)).float()


def deconvolved(images: Tensor, strength: float, ridge: float) -> Tensor:
    """Images (B, C, H, W) freed of the `blur` of this strength by whoever knows it: Tikhonov's regularised inverse.

    argmin over x of ||A x B^T - y||^2 + ridge ||x||^2, exact by the singular values of both matrices, in float64;
    what comes out is clipped to [0, 1].
    """
    u, s, v = torch.linalg.svd(blur_matrix(images.shape[-2], strength))
    p, t, q = torch.linalg.svd(blur_matrix(images.shape[-1], strength))
    gains = s[:, None] * t
    inside = u.mT @ images.double().cpu() @ p
    clean: Tensor = v.mT @ (inside * gains / (gains.square() + ridge)) @ q
    return clean.clamp(0, 1).float()


def tuned_filters(clean: Tensor, corrupted: Tensor, *, sigma: float = 0.0, blurred: float = 0.0) -> list[Filter]:
    """A median filter, and non-local means where scikit-image is there, with the settings of the best PSNR.

    Neither can sharpen; of a blur there is also the regularised inverse, which knows the blur.

    Args:
        clean: validation images, (B, C, H, W) in [0, 1].
        corrupted: the same, corrupted as the images to be denoised will be.
        sigma: standard deviation of Gaussian noise, where that is what corrupts; non-local means are tried with and
            without it.
        blurred: strength of a blur, where that is what corrupts.
    """
    medians = (
        Filter("median filter", name, lambda images, shape=shape: median(images, shape))  # type: ignore[misc]
        for name, shape in MEDIANS.items()
    )
    found = [_best(medians, clean, corrupted)]
    if has_scikit_image():
        found.append(_best(_all_non_local(sigma), clean, corrupted))
    if blurred:
        found.append(_best(_all_inverses(blurred), clean, corrupted))
    return found


def compare_denoised(clean: Tensor, ways: Mapping[str, tuple[str, Tensor]]) -> list[Denoised]:
    """PSNR and SSIM of each of several ways: its settings in words and its images.

    What is beyond [0, 1] is cut off, as in a picture of it. There is no SSIM without scikit-image, nor of images below
    3 x 3 pixels.
    """
    similar = has_scikit_image() and min(clean.shape[2:]) >= 3
    found = []
    for name, (settings, images) in ways.items():
        made = images.clamp(0, 1)
        found.append(Denoised(name, settings, psnr(clean, made), ssim(clean, made) if similar else None))
    return found


def _all_non_local(sigma: float) -> Iterable[Filter]:
    sigmas = (0.0, sigma) if sigma else (0.0,)
    for patch, distance, cut, known in itertools.product(PATCHES, DISTANCES, CUTS, sigmas):
        words = f"patches of {patch}, up to {distance} away, h {cut:g}" + (f", sigma {known:g}" if known else "")
        options = {"patch": patch, "distance": distance, "cut": cut, "sigma": known}
        yield Filter("non-local means", words, lambda images, own=options: non_local_means(images, **own))  # type: ignore[misc]


def _all_inverses(strength: float) -> Iterable[Filter]:
    for ridge in RIDGES:
        words = f"knows the blur, ridge {ridge:g}"
        yield Filter("deconvolution", words, lambda images, own=ridge: deconvolved(images, strength, own))  # type: ignore[misc]


def _best(filters: Iterable[Filter], clean: Tensor, corrupted: Tensor) -> Filter:
    return max(filters, key=lambda way: psnr(clean, way.apply(corrupted)))
