"""FactorVAE: who is trained by what, against two backward passes, and total correlation against its closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.func import functional_call
from torch.nn.functional import softplus

from jensen.autoencoders import VAE
from jensen.bound import Level, Output
from jensen.objectives import Context, Factor
from jensen.objectives.factor import _drawn, _permuted

GAMMA = 7.0


def small(latent: int = 3, **choices: Any) -> Factor:
    """One whose discriminator has an opinion."""
    objective = Factor(GAMMA, 1e-3, 16, 3, latent, **choices).double()
    for parameter in objective.parameters():
        nn.init.normal_(parameter, std=0.5)
    return objective


def context(seed: int = 5) -> Context:
    return Context(generator=torch.Generator().manual_seed(seed))


def reference(objective: Factor, output: Output, z: Tensor) -> tuple[Tensor, Tensor]:
    """Total correlation with the discriminator held fixed, and its cross-entropy with the codes held fixed."""
    generator = torch.Generator().manual_seed(5)
    net = objective.discriminator
    fixed = {name: parameter.detach() for name, parameter in net.named_parameters()}
    shuffled = _permuted(_drawn(z.detach(), output, generator), generator)
    total_correlation = output.average(functional_call(net, fixed, (z,))[..., 0])
    real, false = softplus(-net(z.detach())[..., 0]), softplus(net(shuffled)[..., 0])
    weights = 1 / len(z) if output.log_weights is None else output.log_weights.detach().exp()
    return total_correlation, 0.5 * ((weights * real).sum(0).mean() + false.mean())


@pytest.mark.parametrize("form", ["simple", "three samples", "enumerated", "two levels, three samples"])
def test_one_backward_pass_is_the_two_that_it_stands_for(form: str, forms: dict[str, Callable[[], Any]]) -> None:
    output, leaves = forms[form]()
    objective = small(5 if "two" in form else 3)
    levels = [level.z for level in output.levels if level.z.is_floating_point()]
    z = torch.cat([level.expand(max(len(one) for one in levels), -1, -1) for level in levels], -1)
    loss = objective(output, context())
    total_correlation, entropy = reference(objective, output, z)
    assert loss.auxiliary is not None
    torch.testing.assert_close(loss.terms["total_correlation"], total_correlation.detach())
    torch.testing.assert_close(loss.auxiliary, entropy)
    assert loss.terms["discriminator"].item() == loss.auxiliary.item()

    distortion, rate = -output.average(output.log_likelihood()), output.average(output.rate())
    expected = torch.autograd.grad(
        distortion + rate + GAMMA * total_correlation, list(leaves.values()), retain_graph=True
    )
    weights = list(objective.parameters())
    own = torch.autograd.grad(entropy, weights)
    (loss.value + loss.auxiliary).backward()
    for leaf, gradient in zip(leaves.values(), expected, strict=True):
        torch.testing.assert_close(leaf.grad, gradient)
    for weight, gradient in zip(weights, own, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


@pytest.mark.parametrize("form", ["three samples", "enumerated"])
def test_neither_reaches_the_other(form: str, forms: dict[str, Callable[[], Any]]) -> None:
    output, leaves = forms[form]()
    objective = small()
    loss = objective(output, context())
    assert loss.auxiliary is not None
    weights, model = list(objective.parameters()), list(leaves.values())
    by_value = torch.autograd.grad(loss.value, weights, retain_graph=True, materialize_grads=True)
    assert all((gradient == 0).all() for gradient in by_value)
    by_auxiliary = torch.autograd.grad(loss.auxiliary, model, retain_graph=True, materialize_grads=True)
    assert all((gradient == 0).all() for gradient in by_auxiliary)
    assert all((gradient != 0).any() for gradient in torch.autograd.grad(loss.auxiliary, weights))


def test_each_dimension_is_permuted_by_itself_within_each_sample() -> None:
    z = torch.arange(2 * 50 * 3, dtype=torch.float64).view(2, 50, 3)
    found = _permuted(z, None)
    assert torch.equal(found.sort(1).values, z)
    order = (found - found[..., :1]).abs()
    assert (order[..., 1] != 1).float().mean() > 0.8  # no longer beside its neighbour of the same code
    assert (order[..., 2] != 2).float().mean() > 0.8


def test_enumerated_codes_are_drawn_by_their_weight(forms: dict[str, Callable[[], Any]]) -> None:
    output, _ = forms["enumerated"]()
    z = torch.arange(4, dtype=torch.float64).view(4, 1, 1).expand(4, 8, 3)
    counts = torch.zeros(4, 8, dtype=torch.float64)
    for _ in range(4000):
        picked = _drawn(z, output, None)
        assert picked.shape == (1, 8, 3)
        counts += torch.nn.functional.one_hot(picked[0, :, 0].long(), 4).mT
    assert output.log_weights is not None
    torch.testing.assert_close(counts / 4000, output.log_weights.exp().detach(), atol=0.04, rtol=0)


def correlated(batch: int, root: Tensor) -> Output:
    """Codes that are draws of N(0, root root^T)."""
    z = torch.randn(1, batch, len(root)) @ root.mT
    standard = Normal(torch.tensor(0.0), torch.tensor(1.0))
    level = Level(z, Normal(z.detach(), torch.tensor(1.0)), standard)
    return Output(torch.zeros(1, batch, 1), Normal(torch.zeros(1, batch, 1), torch.tensor(1.0)), (level,))


def test_total_correlation_of_a_gaussian_is_learned() -> None:
    """TC = -1/2 log det of the correlation matrix; before any step the discriminator sees none."""
    correlation = torch.tensor([[1.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 1.0]])
    root = torch.linalg.cholesky(correlation)
    exact = -0.5 * torch.logdet(correlation).item()
    objective = Factor(discriminator_width=64, discriminator_depth=2, latent=3)
    optimiser = torch.optim.Adam(objective.parameters(), lr=2e-3, betas=objective.optimiser["betas"])
    terms = objective(correlated(256, root)).terms
    first = terms["total_correlation"].item(), terms["discriminator"].item()
    for step in range(500):
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / 500)
        loss = objective(correlated(256, root))
        assert loss.auxiliary is not None
        optimiser.zero_grad()
        loss.auxiliary.backward()
        optimiser.step()
    assert first == (0.0, pytest.approx(math.log(2)))
    with torch.no_grad():
        learned = objective(correlated(20_000, root))
        independent = objective(correlated(20_000, torch.eye(3)))
    assert learned.terms["total_correlation"].item() == pytest.approx(exact, rel=0.1)
    assert learned.terms["discriminator"].item() < 0.6 < math.log(2)
    assert independent.terms["total_correlation"].item() < 0  # these look rather like permuted codes


def test_a_net_of_the_paper() -> None:
    objective = Factor(latent=10)
    layers = [layer for layer in objective.discriminator if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in layers] == [(1000, 10), *[(1000, 1000)] * 5, (1, 1000)]
    assert {layer.negative_slope for layer in objective.discriminator if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert objective.optimiser == {"lr": 1e-4, "betas": (0.5, 0.9)}


def test_the_generator_is_the_only_chance(made: Callable[..., Any]) -> None:
    output, _ = made(2)
    objective = small()
    state = torch.get_rng_state()
    found = [objective(output, context(seed)).terms["discriminator"].item() for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_autocast_is_nearly_the_same(made: Callable[..., Any]) -> None:
    output, leaves = made(2, 64)
    level = output.levels[0]
    output = replace(output, levels=(replace(level, z=level.z.float()),))
    objective = small().float()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = objective(output, context())
        assert loss.auxiliary is not None
        assert loss.auxiliary.dtype == torch.float32
        gradients = torch.autograd.grad(loss.auxiliary, list(objective.parameters()), retain_graph=True)
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        (code,) = torch.autograd.grad(loss.value, leaves["q_loc"], retain_graph=True)
        found.append([loss.auxiliary.detach(), code.float(), *gradients])
    for plain, rounded in zip(*found, strict=True):
        assert not torch.equal(plain, rounded)
        assert (rounded - plain).norm() < 0.2 * plain.norm()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gamma": -1.0}, "gamma should be 0 or more"),
        ({"discriminator_lr": 0.0}, "discriminator_lr should be positive, got 0"),
        ({"discriminator_lr": float("nan")}, "discriminator_lr should be 0 or more and finite"),
        ({"discriminator_width": 0}, "discriminator_width should be at least 1, got 0"),
        ({"discriminator_depth": 0}, "discriminator_depth should be at least 1, got 0"),
        ({"latent": 0}, "latent should be at least 1, got 0"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Factor(**wrong)


def test_codes_of_another_size_are_refused(made: Callable[..., Any]) -> None:
    output, _ = made()
    with pytest.raises(ValueError, match=r"for codes of 4 numbers, but those of the model have 3: give latent=3"):
        small(4)(output)


def test_the_discriminator_fits_the_model_that_is_trained() -> None:
    objective = Factor(discriminator_width=8, discriminator_depth=1)
    with pytest.raises(ValueError, match=r"no discriminator yet: call prepare\(latent\)"):
        objective(VAE((4,), 3, likelihood="gaussian")(torch.randn(6, 4)))
    objective.prepare(3)
    first = next(objective.parameters())
    objective.prepare(5)  # it is there already
    assert next(objective.parameters()) is first
    assert objective.latent == 3
    assert first.shape == (8, 3)
    assert "gamma=10.0" in repr(objective)
