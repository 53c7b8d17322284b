"""Natural-gradient steps of finite length against the rule in natural parameters, written out with matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jensen.gradients import Pathwise
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.optimisers import NaturalGradient
from jensen.inference.stepper import Stepper
from jensen.inference.supports import real
from jensen.inference.target import Target
from jensen.inference.variational import full_rank, mean_field

SIZE = 3


def moments(flat: Tensor, full: bool) -> tuple[Tensor, Tensor]:
    """Mean and covariance of q from the bound's vector."""
    unit = torch.eye(SIZE, dtype=flat.dtype)
    if full:
        row, column = torch.tril_indices(SIZE, SIZE, -1)
        unit = unit.index_put((row, column), flat[2 * SIZE :])
    tril = flat[SIZE : 2 * SIZE].exp().unsqueeze(1) * unit
    return flat[:SIZE], tril @ tril.T


def objective(mean: Tensor, covariance: Tensor) -> Tensor:
    """Some smooth function of both; not a bound, so that nothing cancels."""
    weights = torch.tensor([[1.0, 0.4, -0.3], [0.4, 0.7, 0.2], [-0.3, 0.2, 1.4]], dtype=torch.float64)
    shift = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64)
    return (
        0.4 * torch.logdet(covariance) - 0.6 * (weights * covariance).sum() - (mean - shift).square() @ weights[0].abs()
    )


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rate", [0.15, 0.6])
def test_a_step_is_that_of_the_improved_learning_rule(full: bool, rate: float) -> None:
    """Lin, Schmidt & Khan 2020, eq. 13: S the precision, S' = S - r G + r^2 G S^-1 G / 2, m' = m + r S'^-1 g."""
    model = Model({"x": real(SIZE)}, lambda z, data: -0.5 * z.x.square().sum())
    family = full_rank(model) if full else mean_field(model)
    stepper = Stepper(Bound(Target(model), family, Pathwise()), NaturalGradient())
    count = 2 * SIZE + (SIZE * (SIZE - 1) // 2 if full else 0)
    flat = 0.4 * torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    stepper.move_to(flat)
    stepper.step(torch.func.grad(lambda f: objective(*moments(f, full)))(flat), rate)

    mean, covariance = moments(flat, full)
    g, by_covariance = torch.func.grad(objective, argnums=(0, 1))(mean, covariance)
    twice = by_covariance + by_covariance.T
    if not full:  # a diagonal q sees the diagonals alone
        twice = torch.diag(twice.diagonal())
    precision = torch.linalg.inv(covariance) - rate * twice + 0.5 * rate**2 * twice @ covariance @ twice
    expected = torch.linalg.inv(precision)
    found = moments(stepper.flat, full)
    torch.testing.assert_close(found[1], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found[0], mean + rate * expected @ g, rtol=1e-10, atol=1e-12)
