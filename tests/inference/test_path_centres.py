"""The centres of the normal approximations along a descent: quasi-Newton steps by their own covariances."""

from __future__ import annotations

import torch

from jensen.inference.inverse_hessians import along_path


def test_each_centre_is_a_step_by_the_approximations_own_covariance() -> None:
    generator = torch.Generator().manual_seed(3)
    size, steps = 5, 4
    half = torch.randn(size, 2 * size, dtype=torch.float64, generator=generator)
    precision = half @ half.T / size
    positions = torch.randn(steps, size, dtype=torch.float64, generator=generator)
    gradients = positions @ precision + 0.1 * positions.pow(3)
    found = list(along_path(positions, gradients))
    assert len(found) >= 2
    for place, q in found:
        root = (q.draw(torch.eye(size, dtype=torch.float64)) - q.loc).T  # columns: where unit noises lead to
        expected = positions[place] - root @ root.T @ gradients[place]
        torch.testing.assert_close(q.loc, expected, rtol=1e-9, atol=1e-9)
        # And the covariance explains the last step: the secant equation of quasi-Newton methods.
        move, turn = positions[place] - positions[place - 1], gradients[place] - gradients[place - 1]
        torch.testing.assert_close(root @ root.T @ turn, move, rtol=1e-7, atol=1e-9)
