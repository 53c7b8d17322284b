"""PSNR against its definition, SSIM against the formula and scikit-image."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest
import torch

from jensen.errors import ConfigError
from jensen.metrics.image_quality import has_scikit_image, psnr, ssim

IMAGES = torch.rand(4, 1, 12, 9, generator=torch.Generator().manual_seed(0))


def test_psnr() -> None:
    assert psnr(IMAGES, IMAGES) == math.inf
    assert psnr(IMAGES, IMAGES + 0.1) == pytest.approx(20.0, rel=1e-5)
    # one image of four is off: the mean is over all pixels, not over decibels
    off = IMAGES.clone()
    off[0] += 0.1
    assert psnr(IMAGES, off) == pytest.approx(20.0 + 10 * math.log10(4), rel=1e-5)
    with pytest.raises(ValueError, match="one shape"):
        psnr(IMAGES, IMAGES[:, 0])


def test_ssim_of_constant_images_is_the_luminance_term() -> None:
    a, b = 0.3, 0.8
    x, y = (torch.full((2, 1, 8, 8), value, dtype=torch.float64) for value in (a, b))
    expected = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    assert ssim(x, y) == pytest.approx(expected, rel=1e-6)
    assert ssim(x, x) == pytest.approx(1.0)


def test_ssim_of_one_window_by_the_formula() -> None:
    x, y = torch.rand(2, 1, 1, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p, q = x.flatten().numpy(), y.flatten().numpy()
    covariance = np.cov(p, q)
    top = (2 * p.mean() * q.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
    bottom = (p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (covariance[0, 0] + covariance[1, 1] + 9e-4)
    assert ssim(x, y) == pytest.approx(top / bottom, rel=1e-9)


def test_ssim_is_the_mean_of_scikit_image() -> None:
    from skimage.metrics import structural_similarity

    made = (IMAGES + 0.2 * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    each = [
        structural_similarity(x[0].double().numpy(), y[0].double().numpy(), data_range=1.0)
        for x, y in zip(IMAGES, made, strict=True)
    ]
    assert ssim(IMAGES, made) == pytest.approx(np.mean(each), rel=1e-9)
    colour = IMAGES[:3, 0][None]
    assert ssim(colour, made[:3, 0][None]) == pytest.approx(np.mean(each[:3]), rel=1e-9)  # a channel by itself


def test_small_images_have_smaller_windows() -> None:
    four = IMAGES[:, :, :4, :4]
    assert ssim(four, four) == pytest.approx(1.0)
    assert ssim(four, 1 - four) < 0.5
    with pytest.raises(ValueError, match="3 x 3 pixels or more"):
        ssim(four[..., :2], four[..., :2])
    with pytest.raises(ValueError, match="one shape"):
        ssim(four, four[:2])


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("skimage"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    assert has_scikit_image()
    monkeypatch.setattr(builtins, "__import__", without)
    assert not has_scikit_image()
    with pytest.raises(ConfigError, match=r"pip install 'jensen\[compare\]'") as raised:
        ssim(IMAGES, IMAGES)
    assert "\n" not in str(raised.value)
