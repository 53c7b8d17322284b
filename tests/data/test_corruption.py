"""Corruptions hit as many values, and as hard, as they say."""

from __future__ import annotations

import pytest
import torch

from jensen.data.corruption import corrupt, gaussian, masking, salt_and_pepper
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


def test_none_is_the_identity() -> None:
    assert corrupt(GREY, "none", 0.5) is GREY


def test_tables() -> None:
    row = torch.full((1000, 4), 3.0)
    assert corrupt(row, "gaussian", 0.5, generator(), image=False).max() > 1.0  # no clipping
    assert corrupt(row, "masking", 0.5, generator(), image=False).min() == 0.0
    with pytest.raises(ConfigError, match=r"data.corruption: salt-and-pepper is for images"):
        corrupt(row, "salt-and-pepper", 0.5, image=False)
