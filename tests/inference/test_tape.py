"""Recorded functions: the same numbers as the functions themselves, and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import HalfCauchy, MultivariateNormal, Normal

from jensen.inference.curvature import Problems
from jensen.inference.tape import NotRecordable, Tape


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


Y = random(8, seed=1)
WEIGHTS = random(3, 3, seed=2)
NOISE = random(5, 4, seed=3)


def hierarchy(x: Tensor) -> Tensor:
    """Distributions under two vmaps: their checks, tensors made inside, indexing, lists of tensors."""

    def one(u: Tensor) -> Tensor:
        scale = torch.stack([u[1].exp(), torch.tensor(2.0, dtype=torch.float64)])
        z = torch.cat([u[:2], u[2:] * scale[0]])
        return Normal(z[0], scale[0]).log_prob(Y).sum() + HalfCauchy(torch.tensor(5.0)).log_prob(scale[0]) + z.sum()

    return torch.func.vmap(lambda row: torch.func.vmap(lambda e: one(row + e))(NOISE).mean())(x)


def algebra(x: Tensor) -> Tensor:
    """Factorisations, in-place-free linear algebra, gathers."""

    def one(u: Tensor) -> Tensor:
        root = WEIGHTS + torch.diag(u[:3].exp())
        covariance = root @ root.T + torch.eye(3, dtype=torch.float64)
        index = torch.tensor([2, 0, 1])
        parts = torch.linalg.cholesky(covariance).unbind(0)
        return MultivariateNormal(u[:3][index], covariance, validate_args=False).log_prob(Y[:3]) + parts[2].sum()

    return torch.func.vmap(one)(x)


@pytest.mark.parametrize("function", [hierarchy, algebra])
def test_replays_give_the_same_values_and_gradients(function: object) -> None:
    plain, taped = Problems(function), Problems(function, recordable=True)  # type: ignore[arg-type]
    for seed in range(5):
        x = 0.5 * random(3, 4, seed=seed)
        for expected, found in zip(plain(x), taped(x), strict=True):
            torch.testing.assert_close(found, expected, atol=0, rtol=0)
    if taped._tape is None:
        Tape(taped._differentiated, x)  # says why not
    assert taped._tape is not None
    few = 0.5 * random(2, 4, seed=9)  # fewer rows than were recorded
    for expected, found in zip(plain(few), taped(few), strict=True):
        torch.testing.assert_close(found, expected)
    more = 0.5 * random(5, 4, seed=10)
    for expected, found in zip(plain(more), taped(more), strict=True):
        torch.testing.assert_close(found, expected)


def test_custom_gradients_are_recorded_as_they_are() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.sin()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return 2 * gradient

    taped = Problems(lambda x: Doubled.apply(x).sum(-1), recordable=True)
    x = random(2, 3)
    taped(x), taped(x)
    value, gradient = taped(x + 1)
    torch.testing.assert_close(value, (x + 1).sin().sum(-1))
    torch.testing.assert_close(gradient, torch.full_like(x, 2.0))


def test_constants_and_checks_are_left_out() -> None:
    calls = 0

    def function(x: Tensor) -> list[Tensor]:
        nonlocal calls
        calls += 1
        constant = (torch.arange(4.0) ** 2).sum()
        if bool((constant > 0).all()):
            x = x * constant
        return [x.detach().sum()]

    tape = Tape(function, torch.ones(4))
    assert tape.operations == 2
    assert float(tape(torch.full((4,), 2.0))[0]) == 4 * 2.0 * 14
    assert calls == 1


def test_nonfinite_values_come_out_as_they_would() -> None:
    tape = Tape(lambda x: [x.log().sum(-1)], torch.ones(2, 2))
    torch.testing.assert_close(
        tape(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))[0], torch.tensor([-torch.inf, torch.nan]), equal_nan=True
    )


def test_random_and_changing_functions_are_refused() -> None:
    with pytest.raises(NotRecordable, match="random"):
        Tape(lambda x: [x + torch.randn(3)], torch.ones(3))
    with pytest.raises(NotRecordable, match="changes its arguments"):
        Tape(lambda x: [(x * 2).add_(1)], torch.ones(3))
    with pytest.raises(NotRecordable, match="does not depend"):
        Tape(lambda x: [torch.ones(3)], torch.ones(3))


def test_a_function_that_cannot_be_recorded_is_run_itself() -> None:
    calls = 0

    def function(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return (x * 2).add_(1).sum(-1)

    problems = Problems(function, recordable=True)
    for k in range(4):
        value, gradient = problems(torch.full((2, 3), float(k), dtype=torch.float64))
        torch.testing.assert_close(value, torch.full((2,), 6.0 * k + 3, dtype=torch.float64))
        torch.testing.assert_close(gradient, torch.full((2, 3), 2.0, dtype=torch.float64))
    assert calls >= 4


def test_a_point_without_value_is_infinite_and_harms_no_other() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.linalg.cholesky(torch.diag_embed(x)).diagonal(dim1=-2, dim2=-1).sum(-1)

    value, gradient = Problems(function)(torch.tensor([[4.0, 9.0], [-1.0, 1.0]], dtype=torch.float64))
    assert value.tolist() == [5.0, torch.inf]
    torch.testing.assert_close(gradient, torch.tensor([[0.25, 1 / 6], [0.0, 0.0]], dtype=torch.float64))
