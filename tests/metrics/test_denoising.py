"""Filters against SciPy and scikit-image, and their settings chosen by validation images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter

from jensen.data.corruption import blur, gaussian, salt_and_pepper
from jensen.metrics import denoising
from jensen.metrics.denoising import compare_denoised, deconvolved, median, non_local_means, tuned_filters
from jensen.metrics.image_quality import psnr


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def smooth(count: int = 6, channels: int = 1) -> torch.Tensor:
    """Images of soft blobs, which noise can be told from."""
    return blur(torch.rand(count, channels, 16, 14, generator=generator()), 0.5).mul(3).sub(1).clamp(0, 1)


def test_the_median_is_of_each_image_and_channel_by_itself() -> None:
    images = torch.rand(3, 2, 6, 5, generator=generator())
    made = median(images, np.ones((3, 3)))
    for image, filtered in zip(images.flatten(0, 1), made.flatten(0, 1), strict=True):
        np.testing.assert_array_equal(filtered.numpy(), median_filter(image.numpy(), 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_non_local_means_are_those_of_scikit_image(channels: int) -> None:
    from skimage.restoration import denoise_nl_means

    images = gaussian(smooth(2, channels), 0.1, generator())
    made = non_local_means(images, patch=3, distance=4, cut=0.2, sigma=0.1)
    assert made.shape == images.shape
    options = {"patch_size": 3, "patch_distance": 4, "h": 0.2, "sigma": 0.1}
    for image, filtered in zip(images.double().numpy(), made.numpy(), strict=True):
        given = image[0] if channels == 1 else image.transpose(1, 2, 0)
        expected = denoise_nl_means(given, channel_axis=None if channels == 1 else -1, **options)
        expected = expected[None] if channels == 1 else expected.transpose(2, 0, 1)
        np.testing.assert_allclose(filtered, expected, atol=1e-5)


def test_settings_are_those_of_the_best_psnr_on_validation_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoising, "CUTS", (0.02, 0.1, 3.0))
    clean = smooth()
    noisy = gaussian(clean, 0.1, generator())
    filters = {way.name: way for way in tuned_filters(clean, noisy, sigma=0.1)}
    best = {name: psnr(clean, way.apply(noisy)) for name, way in filters.items()}
    assert set(best) == {"median filter", "non-local means"}
    assert best["median filter"] == pytest.approx(
        max(psnr(clean, median(noisy, shape)) for shape in denoising.MEDIANS.values())
    )
    tried = [
        psnr(clean, non_local_means(noisy, patch=patch, distance=distance, cut=cut, sigma=sigma))
        for patch in (3, 5)
        for distance in (3, 6)
        for cut in (0.02, 0.1, 3.0)
        for sigma in (0.0, 0.1)
    ]
    assert best["non-local means"] == pytest.approx(max(tried))
    assert min(best.values()) > psnr(clean, noisy) + 1
    assert max(tried) > min(tried) + 1


def test_the_settings_differ_with_the_corruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoising, "has_scikit_image", lambda: False)
    clean = smooth()
    (few,) = tuned_filters(clean, salt_and_pepper(clean, 0.1, generator()))
    (many,) = tuned_filters(clean, salt_and_pepper(clean, 0.6, generator()))
    assert (few.settings, many.settings) == ("3 x 3", "5 x 5")
    lines = torch.eye(16).expand(2, 1, 16, 16)  # of which a square would leave nothing
    assert tuned_filters(lines, lines)[0].settings == "cross of 3"


def test_a_blur_is_undone_by_whoever_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoising, "has_scikit_image", lambda: False)  # quicker
    clean = torch.rand(2, 3, 9, 12, generator=generator(), dtype=torch.float64)
    blurred = blur(clean, 0.1)
    torch.testing.assert_close(deconvolved(blurred, 0.1, 1e-14), clean.float(), atol=1e-4, rtol=0)
    # the normal equations of the ridge, solved without any singular values
    down = blur(torch.eye(9, dtype=torch.float64)[:, :, None, None].permute(0, 2, 1, 3), 0.1)
    assert down.shape == (9, 1, 9, 1)
    square = down[:, 0, :, 0].T
    column = torch.rand(1, 1, 9, 1, generator=generator(), dtype=torch.float64)
    expected = torch.linalg.solve(square.T @ square + 0.05 * torch.eye(9), square.T @ column[0, 0])
    found = deconvolved(column, 0.1, 0.05)[0, 0].double()
    torch.testing.assert_close(found, expected.clamp(0, 1), atol=1e-6, rtol=0)
    names = [way.name for way in tuned_filters(clean.float(), blurred.float(), blurred=0.1)]
    assert names == ["median filter", "deconvolution"]


def test_the_comparison_is_of_what_pictures_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = torch.ones(2, 1, 8, 8)
    (row,) = compare_denoised(clean, {"bright": ("", clean + 0.5)})
    assert row.psnr == float("inf")
    assert row.ssim == pytest.approx(1.0)
    assert row.to_dict()["method"] == "bright"
    monkeypatch.setattr(denoising, "has_scikit_image", lambda: False)
    (row,) = compare_denoised(clean, {"dark": ("as it is", clean - 0.1)})
    assert (row.settings, row.ssim) == ("as it is", None)
    assert row.psnr == pytest.approx(20.0, rel=1e-5)
