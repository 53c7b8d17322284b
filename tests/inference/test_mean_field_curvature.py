"""The cheap Hessian of a mean field's bound, against closed forms and against the Hessian itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import jensen.inference.curvature as curvature
import jensen.inference.mean_field_curvature as module
from jensen.gradients import automatic
from jensen.inference.deterministic import climb
from jensen.inference.draws import Draws
from jensen.inference.fixed_draws import at_draws
from jensen.inference.mean_field_curvature import MeanFieldCurvature, is_mean_field
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.supports import positive, real
from jensen.inference.target import Target
from jensen.inference.variational.full_rank import full_rank
from jensen.inference.variational.make import mean_field


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bound_of(model: Model, family: Any = mean_field) -> Bound:
    made = family(model)
    return Bound(Target(model), made, automatic(made(None)))


def test_expected_exponentials_in_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """-log p = exp(a^T u) + |u|^2 / 2 has expectation exp(a^T m + sum a^2 s^2 / 2) + sum (m^2 + s^2) / 2 under q."""
    monkeypatch.setattr(module, "_DRAWS", 40_000)
    slope = torch.tensor([0.4, -0.6, 0.5], dtype=torch.float64)

    def log_joint(z: Any, data: Any) -> Tensor:
        u = torch.cat([z.b, z.a[None]])  # not in the order of the latents
        return -(u @ slope).exp() - 0.5 * u @ u

    bound = bound_of(Model({"a": real(), "b": real(2)}, log_joint))
    flat = 0.3 * random(6)

    def exact(flat: Tensor) -> Tensor:
        parts = bound.at(flat)
        loc, log_scale = (
            torch.cat([parts[f"family.factors.1.{n}"], parts[f"family.factors.0.{n}"][None]])
            for n in ("loc", "log_scale")
        )
        variance = (2 * log_scale).exp()
        expected = (slope @ loc + 0.5 * slope**2 @ variance).exp() + 0.5 * (loc**2 + variance).sum()
        elbo: Tensor = log_scale.sum() - expected
        return -elbo

    found = MeanFieldCurvature(bound)(flat[None])[0]
    torch.testing.assert_close(found, torch.autograd.functional.hessian(exact, flat), atol=0.02, rtol=0.02)


def test_normal_posteriors_are_exact_from_fewer_draws_than_coordinates() -> None:
    size = 40
    root = random(size, size, seed=1)
    precision = root @ root.T / size + torch.eye(size, dtype=torch.float64)
    bound = bound_of(Model({"x": real(size)}, lambda z, _: -0.5 * z.x @ precision @ z.x))
    flat = 0.2 * random(2 * size, seed=2)
    found = MeanFieldCurvature(bound)(flat[None])[0]
    noise = Draws(size, torch.Generator().manual_seed(3)).matched(2 * size)
    torch.testing.assert_close(found, at_draws(bound, noise).hessian(flat[None])[0], atol=1e-9, rtol=1e-9)


def test_climbs_that_use_it_end_where_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.tensor([3.0, 0.0, 9.0, 1.0, 2.0], dtype=torch.float64)

    def log_joint(z: Any, data: Any) -> Tensor:
        rate = z.level + z.spread * z.each
        return (y * rate - rate.exp()).sum() + Normal(0.0, 1.0).log_prob(z.each).sum() - 0.1 * z.level**2 - z.spread

    model = Model({"level": real(), "spread": positive(), "each": real(5)}, log_joint)
    plain = climb(bound_of(model), tol=0.005)
    used = 0
    original = MeanFieldCurvature._one

    def counted(self: MeanFieldCurvature, flat: Tensor) -> Tensor:
        nonlocal used
        used += 1
        return original(self, flat)

    monkeypatch.setattr(MeanFieldCurvature, "_one", counted)
    monkeypatch.setattr(curvature, "_COSTLY", 0)
    cheap = climb(bound_of(model), tol=0.005)
    assert used
    assert plain.converged
    assert cheap.converged, cheap.reason
    assert abs(plain.trace[-1] - cheap.trace[-1]) < 0.02
    assert plain.linear_response is not None
    assert cheap.linear_response is not None
    ratio = (cheap.linear_response.diagonal() / plain.linear_response.diagonal()).sqrt()
    assert float((ratio - 1).abs().max()) < 0.06


def test_only_normal_mean_fields_of_continuous_models_qualify() -> None:
    model = Model({"x": real(3)}, lambda z, _: -0.5 * z.x @ z.x)
    assert is_mean_field(bound_of(model))
    assert not is_mean_field(bound_of(model, full_rank))
    learned = Model({"x": real()}, lambda z, _: -((z.x - z.c) ** 2), {"c": torch.zeros((), dtype=torch.float64)})
    assert not is_mean_field(bound_of(learned))
