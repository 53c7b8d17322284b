"""The Hessian of a full-rank normal's bound by the chain rule, against that by automatic differentiation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Gamma, Normal

import jensen.inference.curvature as curvature
from jensen.gradients import automatic
from jensen.inference.deterministic import climb
from jensen.inference.draws import Draws
from jensen.inference.full_rank_curvature import FullRankCurvature, is_full_rank
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.supports import positive, real
from jensen.inference.target import Target
from jensen.inference.variational.full_rank import full_rank
from jensen.inference.variational.make import mean_field


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bent(z: Any, data: Any) -> dict[str, Tensor]:
    """Not normal, coordinates of different sorts that depend on each other."""
    return {
        "prior": Normal(0.0, 1.0).log_prob(z.b).sum() + Gamma(2.0, 1.0).log_prob(z.s),
        "mixed": -(z.b[0] * z.b[1] + z.s * z.b[2]).square() - (0.3 * z.b.sum()).exp(),
    }


def bound_of(family: Any = full_rank, parameters: Any = None) -> Bound:
    model = Model({"b": real(3), "s": positive()}, bent, parameters=parameters)
    made = family(model)
    return Bound(Target(model), made, automatic(made(None)))


def test_it_is_the_hessian_at_the_same_draws() -> None:
    bound = bound_of()
    noise = Draws(4, torch.Generator().manual_seed(1)).plain(6)
    flat = 0.3 * random(2, 14, seed=2)
    exact = torch.stack([torch.autograd.functional.hessian(lambda x: -bound.value(x, noise), row) for row in flat])
    torch.testing.assert_close(FullRankCurvature(bound, noise)(flat), exact, atol=1e-10, rtol=1e-10)


def test_for_which_bounds() -> None:
    assert is_full_rank(bound_of())
    assert not is_full_rank(bound_of(mean_field))
    assert not is_full_rank(bound_of(parameters={"w": torch.zeros(())}))


def test_costly_problems_use_it_and_end_in_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = climb(bound_of())
    calls = []
    times = FullRankCurvature.__call__

    def counted(self: FullRankCurvature, flat: Tensor) -> Tensor:
        calls.append(len(flat))
        return times(self, flat)

    monkeypatch.setattr(FullRankCurvature, "__call__", counted)
    monkeypatch.setattr(curvature, "_COPIES", 1)
    fast = climb(bound_of())
    assert calls
    assert plain.converged
    assert fast.converged
    torch.testing.assert_close(fast.flat, plain.flat, atol=1e-5, rtol=1e-5)
    assert fast.linear_response is not None
    assert plain.linear_response is not None
    torch.testing.assert_close(fast.linear_response, plain.linear_response, atol=1e-5, rtol=1e-4)
