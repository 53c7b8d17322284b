"""Full steps with the Hessian of a similar function: against the minimum that Newton's method finds."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen.inference.corrections import corrected
from jensen.inference.curvature import Problems
from jensen.inference.minimise import minimise


def slope() -> Tensor:
    return torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def function(x: Tensor) -> Tensor:
    return (x @ slope().T).exp().mean(1) + 0.5 * x.square().sum(1) - x.sum(1)


def inverse_at(x: Tensor, factor: float) -> Tensor:
    return factor * torch.linalg.inv(Problems(function).hessian(x.unsqueeze(0))[0])


def test_it_ends_at_the_minimum_in_few_gradients() -> None:
    best = minimise(function, torch.zeros(1, 5, dtype=torch.float64)).x[0]
    start = best + 0.2 * torch.tensor([1.0, -1.0, 0.5, 0.0, 1.0], dtype=torch.float64)
    for factor in (0.6, 1.0, 1.5):  # a Hessian that is wrong by a half
        matrix = inverse_at(best, factor)
        problems = Problems(function)
        found = corrected(problems, start, lambda v, m=matrix: v @ m, 1e-12, 10.0)
        assert found is not None
        assert found.settled
        torch.testing.assert_close(found.x, best, atol=1e-5, rtol=0)
        assert problems.evaluations < 20


def test_what_is_too_far_is_left_alone() -> None:
    start = torch.full((5,), 2.0, dtype=torch.float64)
    matrix = inverse_at(start, 1.0)
    assert corrected(Problems(function), start, lambda v: v @ matrix, 1e-9, 0.1) is None


def test_a_step_that_leads_up_ends_it() -> None:
    start = torch.full((5,), 0.5, dtype=torch.float64)
    found = corrected(Problems(function), start, lambda v: 50 * v, 1e-9, torch.inf)
    assert found is not None
    assert not found.settled
    assert found.value == float(function(start.unsqueeze(0)))
