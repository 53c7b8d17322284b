"""Discs against pi r^2 and against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from jensen.data.circles import circles, coverage
from jensen.errors import ConfigError


def test_coverage_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    x, y, radius = rng.uniform(2, 6, 20), rng.uniform(2, 6, 20), rng.uniform(0.3, 5, 20)  # some reach over the border
    fine = 200
    points = (np.arange(8 * fine) + 0.5) / fine
    for i, exact in enumerate(coverage(x, y, radius, size=8)):
        inside = (points[None] - x[i]) ** 2 + (points[:, None] - y[i]) ** 2 < radius[i] ** 2
        counted = inside.reshape(8, fine, 8, fine).mean(axis=(1, 3))
        assert np.abs(exact - counted).max() < 2e-3


def test_area_centre_and_radius_can_be_read_off_the_image() -> None:
    data = circles(500)
    images = data.values[torch.arange(500)][:, 0].double().numpy() / 255
    x, y, radius = (data.targets[name][:, 0].double().numpy() for name in ("x", "y", "radius"))
    assert np.abs(images.sum(axis=(1, 2)) - math.pi * radius**2).max() < 0.1
    middle = np.arange(28) + 0.5
    mass = images.sum(axis=(1, 2))
    assert np.abs((images.sum(axis=1) * middle).sum(axis=1) / mass - x).max() < 0.01
    assert np.abs((images.sum(axis=2) * middle).sum(axis=1) / mass - y).max() < 0.01


def test_circles_stay_inside_and_vary() -> None:
    data = circles()
    images = data.values[torch.arange(6000)][:, 0]
    border = torch.cat([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], dim=1)
    assert int(border.max()) == 0
    assert int(images.amax(dim=(1, 2)).min()) == 255
    radius = data.targets["radius"]
    assert 3.0 <= radius.min() < 3.05
    assert 9.95 < radius.max() <= 10.0
    for name in ("x", "y"):
        assert data.targets[name].min() < 5.0
        assert data.targets[name].max() > 23.0
        assert abs(float(data.targets[name].mean()) - 14.0) < 0.2
    assert len(images.flatten(1).unique(dim=0)) == 6000


def test_factors_are_the_numbers_that_drew_the_discs() -> None:
    data = circles(100)
    assert data.factor_names == ("x", "y", "radius")
    assert data.factors is not None
    assert torch.equal(data.factors, torch.cat([data.targets[name] for name in data.factor_names], 1))


def test_large_halves_the_set_by_area() -> None:
    data = circles(200)
    large, radius = data.targets["large"], data.targets["radius"]
    assert large.unique().tolist() == [0.0, 1.0]
    assert int(large.sum()) == 100
    assert radius[large == 1].min() > radius[large == 0].max()
    assert data.labels is not None
    assert torch.equal(data.labels, large[:, 0].long())
    for name, half in (("train", 70), ("valid", 10), ("test", 20)):
        assert torch.bincount(data.labels[data.splits[name]]).tolist() == [half, half]


def test_deterministic() -> None:
    first, again, other = circles(50), circles(50), circles(50, seed=1)
    everyone = torch.arange(50)
    assert torch.equal(first.values[everyone], again.values[everyone])
    assert not torch.equal(first.values[everyone], other.values[everyone])
    # written down once: the same discs on every machine
    assert float(first.targets["radius"][0]) == pytest.approx(5.904687, abs=1e-6)


def test_too_few() -> None:
    with pytest.raises(ConfigError, match="at least 20, not 3"):
        circles(3)
