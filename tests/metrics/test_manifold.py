"""Manifold precision against loops over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jensen.metrics import manifold_precision


@pytest.mark.parametrize("k", [1, 3])
def test_against_brute_force(k: int) -> None:
    real, generated = torch.randn(60, 1, 2, 3), 1.5 * torch.randn(40, 1, 2, 3)
    r, g = real.flatten(1).double().numpy(), generated.flatten(1).double().numpy()
    radii = []
    for i in range(60):
        others = sorted(np.linalg.norm(r[i] - r[j]) for j in range(60) if j != i)
        radii.append(others[k - 1])
    inside = [any(np.linalg.norm(x - r[i]) <= radii[i] for i in range(60)) for x in g]
    assert 0 < sum(inside) < 40
    assert manifold_precision(generated, real, k) == pytest.approx(np.mean(inside))


def test_data_lie_on_their_own_manifold_and_far_points_do_not() -> None:
    real = torch.randn(1500, 4)
    assert manifold_precision(real[:1200], real) == 1.0
    assert manifold_precision(real + 100, real) == 0.0


def test_wrong_arguments() -> None:
    real = torch.randn(5, 4)
    with pytest.raises(ValueError, match="equal shapes"):
        manifold_precision(torch.randn(5, 3), real)
    for k in (0, 5):
        with pytest.raises(ValueError, match=r"k should lie in 1 \.\.\. 4"):
            manifold_precision(real, real, k)
    with pytest.raises(ValueError, match="generated data"):
        manifold_precision(real[:0], real)
