"""Corruptions hit as many values, and as hard, as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from jensen.config import DataConfig
from jensen.data import load_data
from jensen.data.corruption import blur, corrupt, gaussian, masking, salt_and_pepper
from jensen.errors import ConfigError

N = 400_000
GREY = torch.full((N,), 0.4)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_salt_and_pepper(strength: float) -> None:
    out = salt_and_pepper(GREY, strength, generator())
    salt, pepper = (out == 1.0).double().mean(), (out == 0.0).double().mean()
    half = strength / 2
    error = 4 * (half * (1 - half) / N) ** 0.5
    assert abs(float(salt) - half) < error
    assert abs(float(pepper) - half) < error
    assert bool(((out == 0.0) | (out == 1.0) | (out == GREY)).all())


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_masking(strength: float) -> None:
    out = masking(GREY, strength, generator())
    hit = float((out == 0.0).double().mean())
    assert abs(hit - strength) < 4 * (strength * (1 - strength) / N) ** 0.5 + 1e-9
    assert bool(((out == 0.0) | (out == GREY)).all())


def test_gaussian() -> None:
    free = gaussian(GREY, 0.3, generator(), clip=False)
    assert abs(float(free.mean()) - 0.4) < 4 * 0.3 / N**0.5
    assert abs(float(free.std()) - 0.3) < 4 * 0.3 / (2 * N) ** 0.5
    clipped = gaussian(GREY, 0.3, generator())
    assert torch.equal(clipped, free.clamp(0, 1))
    assert clipped.min() == 0.0


@pytest.mark.parametrize("kind", ["gaussian", "salt-and-pepper", "masking"])
def test_corrupt_leaves_its_input_alone_and_obeys_the_generator(kind: str) -> None:
    x = torch.full((5, 1, 4, 4), 0.5)
    out = corrupt(x, kind, 0.5, generator())  # type: ignore[arg-type]
    assert out.shape == x.shape
    assert bool((x == 0.5).all())
    assert not torch.equal(out, x)
    assert torch.equal(out, corrupt(x, kind, 0.5, generator()))  # type: ignore[arg-type]


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(3, 1, 8, 11), (2, 3, 28, 5), (2, 1, 1, 40)])
def test_blur_is_scipys_gaussian_filter(strength: float, shape: tuple[int, ...]) -> None:
    """Also where the filter is wider than the image."""
    x = torch.rand(shape, generator=generator(), dtype=torch.float64)
    sigma = (0, 0, 4 * strength, 4 * strength)
    expected = gaussian_filter(x.numpy(), sigma, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(blur(x, strength).numpy(), expected, atol=1e-12)
    found = corrupt(x.float(), "blur", strength)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_blur_draws_nothing_and_keeps_the_light() -> None:
    x = torch.rand(2, 1, 9, 9, generator=generator())
    torch.manual_seed(0)
    once = corrupt(x, "blur", 0.4)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(once, corrupt(x, "blur", 0.4))
    torch.testing.assert_close(once.sum((-2, -1)), x.sum((-2, -1)))
    torch.testing.assert_close(corrupt(torch.full((1, 1, 4, 4), 0.7), "blur", 1.0), torch.full((1, 1, 4, 4), 0.7))
    assert once.var() < 0.2 * x.var()


def test_images_of_a_data_set_are_blurred_and_their_targets_are_not() -> None:
    data = load_data(DataConfig(transform="none", corruption="blur", corruption_strength=0.2))
    batch = data.train.batch(torch.arange(4))
    torch.testing.assert_close(batch.x, blur(batch.target, 0.2))
    assert not torch.equal(batch.x, batch.target)


def test_what_has_no_rows_and_columns_cannot_be_blurred() -> None:
    for x, image in ((torch.zeros(2, 4), False), (torch.zeros(2, 1, 16), True)):
        with pytest.raises(ConfigError, match=r"data.corruption: blur is for images; use gaussian or masking"):
            corrupt(x, "blur", 0.5, image=image)


def test_none_is_the_identity() -> None:
    assert corrupt(GREY, "none", 0.5) is GREY


def test_tables() -> None:
    row = torch.full((1000, 4), 3.0)
    assert corrupt(row, "gaussian", 0.5, generator(), image=False).max() > 1.0  # no clipping
    assert corrupt(row, "masking", 0.5, generator(), image=False).min() == 0.0
    with pytest.raises(ConfigError, match=r"data.corruption: salt-and-pepper is for images"):
        corrupt(row, "salt-and-pepper", 0.5, image=False)
