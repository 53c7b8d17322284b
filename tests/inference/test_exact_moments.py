"""Numbers that are exact, or known to a few digits, where the code has a formula for them."""

from __future__ import annotations

import math

import torch
from torch.distributions import StickBreakingTransform

from jensen.families import Dirichlet
from jensen.inference import Model, real, simplex
from jensen.inference.draws import pairs
from jensen.inference.fit import prepare
from jensen.inference.fixed_draws import fresh_elbo
from jensen.inference.inverse_hessians import laplace
from jensen.inference.pathfinder import _weights
from jensen.inference.target import Target
from jensen.inference.variational import mean_field


def test_the_elbo_of_a_round_normal_posterior_has_no_error() -> None:
    """log p - log q is then linear in the squared distance of the noise from zero, whose expectation is known."""
    bound = prepare(Model({"u": real(3)}, lambda z, data: -1.5 * z.u.square().sum()))
    flat = torch.tensor([0.0, 0.0, 0.0, -0.3, -0.3, -0.3], dtype=torch.float64)
    noise = pairs(torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    found = fresh_elbo(bound, flat, noise)
    expected = -4.5 * math.exp(-0.6) + 3 * (-0.3 + 0.5 * (1 + math.log(2 * math.pi)))
    assert found.error < 1e-12
    assert abs(found.elbo - expected) < 1e-12


def test_mean_coordinates_of_a_dirichlet_are_those_of_its_draws() -> None:
    model = Model({"p": simplex(4)}, lambda z, data: z.p.log().sum())
    (factor,) = mean_field(model, {"p": Dirichlet}).factors
    with torch.no_grad():
        next(iter(factor.parameters())).copy_(torch.tensor([0.4, 1.1, 0.2, 0.9], dtype=torch.float64))
        values = factor().sample(20_000, torch.Generator().manual_seed(1)).values["p"]
        coordinates = StickBreakingTransform().inv(values)
        error = coordinates.std(0) / len(coordinates) ** 0.5
        assert float(((coordinates.mean(0) - factor.mean()) / error).abs().max()) < 4


def test_overlapping_components_get_the_weights_of_the_mixture_that_the_posterior_is() -> None:
    centres, weights = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([0.85, 0.15]).double()
    parts = [laplace(c, torch.zeros_like(c), torch.eye(1, dtype=torch.float64)) for c in centres]
    found = [part for part in parts if part is not None]
    assert len(found) == 2

    def log_joint(z: object, data: object) -> torch.Tensor:
        each = weights.log() - 0.5 * (z.u - centres[:, 0]).square()  # type: ignore[attr-defined]
        return torch.logsumexp(each, 0)

    target = Target(Model({"u": real()}, log_joint))
    got = _weights(target, found, torch.zeros(2, dtype=torch.float64), torch.Generator().manual_seed(2))
    torch.testing.assert_close(got, weights, atol=0.06, rtol=0)
