"""Pathwise gradients: the worked example, fixed noise under `torch.func`, sticking the landing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from gradient_cases import Categoricals, Normals, flat_gradient, gradient_draws, normal, parameters, worst_z
from torch import Tensor

from jensen.gradients.pathwise import Pathwise
from jensen.gradients.posterior import Posterior

DATA = torch.tensor([-0.5, 2.0], dtype=torch.float64)


def gaussian_terms(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """z ~ N(0, 1), x ~ N(z, 1): the posterior is N(0.5, 1/3)."""
    z = values["z"]
    return {"prior": normal(z, 0.0), "likelihood": normal(DATA, z.unsqueeze(1))}


def two_latents(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    z, tau = values["z"], values["tau"]
    return {"prior": normal(z, 0.0) - tau, "likelihood": normal(DATA, z.unsqueeze(1), tau.log().unsqueeze(1))}


def q_of(flat: Tensor) -> Posterior:
    return Posterior([Normals("z", flat[0], flat[1]), Normals("tau", flat[2], flat[3], positive=True)])


@pytest.mark.parametrize("sticking_the_landing", [False, True])
def test_the_worked_example(sticking_the_landing: bool) -> None:
    loc, log_scale = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    draws = gradient_draws(
        Pathwise(sticking_the_landing),
        lambda: Posterior([Normals("z", loc, log_scale)]),
        gaussian_terms,
        [loc, log_scale],
        repeats=1500,
    )
    assert worst_z(draws, torch.tensor([1.5, -2.0], dtype=torch.float64)) < 4


def test_the_worked_example_at_known_noise() -> None:
    """By hand: z = noise; gradients are means of 1.5 - 3 z and of (1.5 - 3 z) z + 1, without the 1 for the other."""
    loc, log_scale = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    noise = torch.tensor([[0.3], [-1.1], [0.7]], dtype=torch.float64)
    z = noise[:, 0]
    for sticking_the_landing in (False, True):
        found = Pathwise(sticking_the_landing).estimate(
            Posterior([Normals("z", loc, log_scale)]), gaussian_terms, 3, noise=noise
        )
        slope = 1.5 - 3 * z + (z if sticking_the_landing else 0.0)  # d(-log q)/dz = z at fixed parameters
        expected = torch.stack([slope.mean(), (slope * z).mean() + (0.0 if sticking_the_landing else 1.0)])
        torch.testing.assert_close(flat_gradient(found.surrogate, [loc, log_scale]), expected)
        log_p = sum(t.reshape(3, -1).sum(1) for t in gaussian_terms({"z": z}).values())
        own = -normal(z, 0.0) if sticking_the_landing else normal(torch.zeros(()), 0.0).neg().add(0.5).expand(3)
        torch.testing.assert_close(found.per_draw, log_p + own)
        torch.testing.assert_close(found.elbo, (log_p + own).mean())
        torch.testing.assert_close(found.surrogate.detach(), found.elbo)


def test_sticking_the_landing_has_no_variance_at_the_exact_posterior() -> None:
    loc = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor(3.0, dtype=torch.float64).log().mul(-0.5).requires_grad_()

    def draws(sticking_the_landing: bool) -> Tensor:
        return gradient_draws(
            Pathwise(sticking_the_landing),
            lambda: Posterior([Normals("z", loc, log_scale)]),
            gaussian_terms,
            [loc, log_scale],
            repeats=50,
        )

    assert draws(True).abs().max() < 1e-12
    assert draws(False).var(0).min() > 0.1


def test_the_jacobian_of_a_transform_counts() -> None:
    """tau = exp(u) ~ Exponential(1) a priori, no data: E[log p] - E[log q] = -exp(m + s^2/2) + m + log s + const."""
    loc, log_scale = parameters((), (), seed=4)
    bound = -(loc + (2 * log_scale).exp() / 2).exp() + loc + log_scale
    exact = flat_gradient(bound, [loc, log_scale])
    for estimator in (Pathwise(), Pathwise(sticking_the_landing=True)):
        draws = gradient_draws(
            estimator,
            lambda: Posterior([Normals("tau", loc, log_scale, positive=True)]),
            lambda values: {"prior": -values["tau"]},
            [loc, log_scale],
            repeats=1000,
        )
        assert worst_z(draws, exact) < 4


def test_gradient_and_hessian_at_fixed_noise_are_those_of_the_value() -> None:
    flat = torch.tensor([0.3, -0.4, 0.1, -0.9], dtype=torch.float64)
    noise = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(at: Tensor) -> Tensor:
        return Pathwise().estimate(q_of(at), two_latents, 5, noise=noise).surrogate

    gradient, hessian = torch.func.grad(value)(flat), torch.func.hessian(value)(flat)
    step = 1e-5
    for place in range(4):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[place] = step
        torch.testing.assert_close((value(flat + shift) - value(flat - shift)) / (2 * step), gradient[place])
        slope = (torch.func.grad(value)(flat + shift) - torch.func.grad(value)(flat - shift)) / (2 * step)
        torch.testing.assert_close(slope, hessian[place], rtol=1e-6, atol=1e-6)


def test_several_starts_at_once() -> None:
    flats = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(at: Tensor) -> Tensor:
        return Pathwise(True).estimate(q_of(at), two_latents, 5, noise=noise).surrogate

    together = torch.func.vmap(torch.func.grad(value))(flats)
    torch.testing.assert_close(together, torch.stack([torch.func.grad(value)(flat) for flat in flats]))


def test_the_local_part_of_a_minibatch_is_scaled_with_its_entropy() -> None:
    """Rows z_i ~ N(0, 1) in batches of two of six: the gradient's mean over all batches is that of all rows."""
    loc, log_scale = parameters((6,), (6,), seed=2)
    noise = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(6, dtype=torch.float64)

    def gradient(index: Tensor) -> Tensor:
        scale = 6 / len(index)
        found = Pathwise().estimate(
            Posterior([Normals("z", loc[index], log_scale[index], "rows")]),
            lambda v: {"rows": scale * (normal(v["z"], 0.0) + normal(rows[index], v["z"]))},
            1,
            noise=noise[:, index],
            scales={"rows": scale},
        )
        return flat_gradient(found.surrogate, [loc, log_scale])

    batches = torch.combinations(torch.arange(6), 2)
    torch.testing.assert_close(torch.stack([gradient(b) for b in batches]).mean(0), gradient(torch.arange(6)))


def test_what_cannot_be_differentiated_is_refused() -> None:
    (logits,) = parameters((2,))
    with pytest.raises(TypeError, match=r"Pathwise\(\) cannot be used for k: its draws are not differentiable"):
        Pathwise().estimate(Posterior([Categoricals("k", logits)]), lambda v: {"a": v["k"].double()}, 1)


def test_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise should have shape \(5, 2\).*has \(4, 2\)"):
        Pathwise().estimate(q_of(torch.zeros(4, dtype=torch.float64)), two_latents, 5, noise=torch.zeros(4, 2))
