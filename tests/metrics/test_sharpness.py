"""Sharpness against SciPy, and where it is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from jensen.metrics.sharpness import Sharpness, sharpness


def test_laplacian_is_that_of_scipy() -> None:
    images = torch.rand(3, 2, 7, 9, dtype=torch.float64)
    inner = [ndimage.laplace(plane)[1:-1, 1:-1].var() for plane in images.flatten(0, 1).numpy()]
    assert sharpness(images).laplacian == pytest.approx(np.mean(inner), rel=1e-12)


def test_stripes_and_slopes() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 1, 8, 8)  # a step of 1 along every row, none down
    assert sharpness(stripes).gradient == pytest.approx(0.5)
    assert sharpness(stripes).laplacian == pytest.approx(4.0)  # it is 2 and -2 by turns
    slope = torch.linspace(0, 0.7, 8).expand(1, 1, 8, 8)
    assert sharpness(slope).laplacian == pytest.approx(0.0, abs=1e-12)
    assert sharpness(slope).gradient == pytest.approx(0.5 * 0.1**2, rel=1e-5)
    assert sharpness(torch.full((2, 3, 4, 4), 0.3)) == Sharpness(0.0, 0.0)


def test_blurring_lowers_it_and_noise_raises_it() -> None:
    """Relative to itself it is 1; of white noise the gradient's is twice the variance, the Laplacian's 20 times."""
    x = torch.randn(200, 1, 20, 20, dtype=torch.float64)
    real = sharpness(x)
    assert real.gradient == pytest.approx(2.0, rel=0.05)
    assert real.laplacian == pytest.approx(20.0, rel=0.05)
    assert real.relative(real) == Sharpness(1.0, 1.0)
    blurred = torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, 1, 1)))
    share = sharpness(blurred).relative(real)
    assert share.laplacian < share.gradient < 0.2
    noisy = sharpness(x + 0.5 * torch.randn_like(x)).relative(real)
    assert noisy.laplacian == pytest.approx(1.25, rel=0.05)


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 1, 2, 8), (0, 1, 8, 8)])
def test_what_is_no_set_of_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pictures should be"):
        sharpness(torch.zeros(shape))


def test_nan_and_flat_pictures() -> None:
    with pytest.raises(ValueError, match="finite"):
        sharpness(torch.full((1, 1, 4, 4), float("nan")))
    with pytest.raises(ValueError, match="flat"):
        sharpness(torch.rand(1, 1, 4, 4)).relative(Sharpness(0.0, 0.0))
