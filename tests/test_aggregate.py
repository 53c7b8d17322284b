"""The aggregate posterior against SciPy, integrals, numeric gradients and a published example."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor
from torch.distributions import Distribution, Gamma, Independent, Laplace, Normal
from torch.utils._python_dispatch import TorchDispatchMode

from jensen import aggregate
from jensen.aggregate import log_aggregate


@pytest.fixture(params=[(2**17, 2048), (40, 4)], ids=["one tile", "many tiles"])
def _tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aggregate.VALUES_AT_ONCE, "cpu", request.param[0])
    monkeypatch.setattr(aggregate, "COMPONENTS_AT_ONCE", request.param[1])


def numbers(*shape: int, positive: bool = False) -> Tensor:
    values = torch.randn(*shape, dtype=torch.float64)
    return values.exp() if positive else values


def reference(log_density: np.ndarray, log_weights: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """(..., B, N, D) log densities to log q(z) and log q(z_d) by SciPy."""
    n = log_density.shape[-2]
    weights = np.full(n, -math.log(n)) if log_weights is None else log_weights.detach().numpy()
    joint = special.logsumexp(log_density.sum(-1) + weights, -1)
    return joint, special.logsumexp(log_density + weights[..., None], -2)


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("weights", [None, (7,), (1, 7), (5, 1), (5, 7)])
@pytest.mark.parametrize("family", ["normal", "laplace", "gamma"])
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_against_scipy(family: str, weights: tuple[int, ...] | None, lead: tuple[int, ...]) -> None:
    a, b = numbers(7, 3, positive=family == "gamma"), numbers(7, 3, positive=True)
    z = numbers(*lead, 5, 3, positive=family == "gamma")
    make: Callable[..., Distribution] = {"normal": Normal, "laplace": Laplace, "gamma": Gamma}[family]
    log_weights = None if weights is None else numbers(*weights)
    points = z.unsqueeze(-2).numpy()
    density = {
        "normal": lambda: stats.norm.logpdf(points, a.numpy(), b.numpy()),
        "laplace": lambda: stats.laplace.logpdf(points, a.numpy(), b.numpy()),
        "gamma": lambda: stats.gamma.logpdf(points, a.numpy(), scale=1 / b.numpy()),
    }[family]()
    joint, each = log_aggregate(z, make(a, b), log_weights)
    expected = reference(density, log_weights)
    assert joint.shape == (*lead, 5)
    assert each.shape == (*lead, 5, 3)
    np.testing.assert_allclose(joint, expected[0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(each, expected[1], rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("family", [Normal, Laplace])
@pytest.mark.parametrize("weights", [None, (6,), (3, 6)])
def test_numeric_gradients(family: type[Distribution], weights: tuple[int, ...] | None) -> None:
    inputs = [numbers(2, 3, 2), numbers(6, 2), numbers(6, 2, positive=True)]
    inputs += [] if weights is None else [numbers(*weights)]

    def both(z: Tensor, loc: Tensor, scale: Tensor, log_weights: Tensor | None = None) -> Any:
        make: Callable[..., Distribution] = family
        return log_aggregate(z, make(loc, scale), log_weights)

    assert torch.autograd.gradcheck(both, [values.requires_grad_() for values in inputs])


def test_one_kind_of_gradient_where_only_one_is_asked_for() -> None:
    z, loc, scale = numbers(4, 2), numbers(6, 2).requires_grad_(), numbers(6, 2, positive=True)
    joint, each = log_aggregate(z, Normal(loc, scale))
    (alone,) = torch.autograd.grad(each.sum(), loc, retain_graph=True)  # nothing of log q(z)
    assert torch.autograd.gradcheck(lambda loc: log_aggregate(z, Normal(loc, scale))[1], loc)
    (other,) = torch.autograd.grad(joint.sum(), loc)
    assert not torch.allclose(alone, other)


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("family", [Normal, Laplace])
def test_latents_of_several_dimensions_and_components_in_a_grid(family: type[Distribution]) -> None:
    make: Callable[..., Distribution] = family
    loc, scale, z = numbers(2, 4, 3, 2), numbers(2, 4, 3, 2, positive=True), numbers(5, 3, 2)
    weights = numbers(5, 8)
    joint, each = log_aggregate(z, make(loc, scale), weights, dims=2)
    flat = log_aggregate(z.flatten(1), make(loc.reshape(8, 6), scale.reshape(8, 6)), weights)
    torch.testing.assert_close(joint, flat[0])
    torch.testing.assert_close(each.flatten(1), flat[1])


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("dims", [1, 3])
def test_what_is_given_stays_as_it_was(dims: int) -> None:
    given = [numbers(7, dims), numbers(7, dims), numbers(7, dims, positive=True), numbers(7, 7)]
    before = [values.clone() for values in given]
    z, loc, scale, weights = (values.requires_grad_() for values in given)
    joint, each = log_aggregate(z, Normal(loc, scale), weights)
    upstream = [torch.randn_like(joint), torch.randn_like(each)]
    copies = [values.clone() for values in upstream]
    torch.autograd.backward([joint, each], upstream)
    assert all(torch.equal(a, b) for a, b in zip(given + upstream, before + copies, strict=True))


@pytest.mark.parametrize("points", [1, 4])
def test_one_dimension_is_its_own_marginal(points: int) -> None:
    joint, each = log_aggregate(numbers(points, 1), Normal(numbers(6, 1), numbers(6, 1, positive=True)), numbers(6))
    torch.testing.assert_close(each[:, 0], joint)


def test_marginals_are_densities_that_integrate_to_one() -> None:
    grid = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    _, each = log_aggregate(grid[:, None].expand(-1, 2), Normal(numbers(9, 2), 1 + torch.rand(9, 2)))
    np.testing.assert_allclose(torch.trapezoid(each.exp(), grid, dim=0), 1.0, rtol=1e-6)


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_from_all_components_the_nearest_counts(dtype: torch.dtype) -> None:
    loc = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], dtype=dtype)
    z = torch.tensor([[1000.0, -1000.0], [5e4, 5e4]], dtype=dtype, requires_grad=True)
    scale = torch.full_like(loc, 0.01)
    joint, each = log_aggregate(z, Normal(loc, scale))
    nearest = torch.tensor([[2, 0], [2, 2]])  # in each dimension
    at = loc.gather(0, nearest)
    expected = Normal(at, scale[:2]).log_prob(z) - math.log(3)
    torch.testing.assert_close(each, expected)
    assert torch.isfinite(joint).all()
    each.sum().backward()
    torch.testing.assert_close(z.grad, (at - z.detach()) / 0.01**2)


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("family", [Normal, Laplace])
def test_a_component_of_weight_zero_is_as_if_it_were_not_there(family: type[Distribution]) -> None:
    make: Callable[..., Distribution] = family
    loc, scale, z = numbers(9, 2), numbers(9, 2, positive=True), numbers(6, 2)
    weights = numbers(9).masked_fill(torch.arange(9) < 5, -math.inf)  # whole tiles of four among them
    loc, weights = loc.requires_grad_(), weights.requires_grad_()
    joint, each = log_aggregate(z, make(loc, scale), weights)
    fewer = log_aggregate(z, make(loc[5:], scale[5:]), weights[5:])
    torch.testing.assert_close(joint, fewer[0])
    torch.testing.assert_close(each, fewer[1])
    (joint.sum() + each.sum()).backward()
    assert loc.grad is not None
    assert weights.grad is not None
    assert bool((loc.grad[:5] == 0).all() and (weights.grad[:5] == 0).all())
    assert bool(torch.isfinite(loc.grad).all() and (weights.grad[5:] > 0).all())


def test_float32_is_near_float64_and_half_precision_is_widened() -> None:
    z, loc, scale = numbers(50, 8), numbers(60, 8), 0.001 + 0.3 * numbers(60, 8, positive=True)
    z[:25] = loc[:25] + scale[:25] * numbers(25, 8)
    exact = log_aggregate(z, Normal(loc, scale))
    found = log_aggregate(z.float(), Normal(loc.float(), scale.float()))
    for wide, narrow in zip(exact, found, strict=True):
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        under = log_aggregate(z.float(), Normal(loc.float(), scale.float()))
    assert all(torch.equal(a, b) for a, b in zip(under, found, strict=True))
    half = log_aggregate(z.bfloat16(), Normal(loc.bfloat16(), scale.bfloat16()))
    assert [part.dtype for part in half] == [torch.float32, torch.float32]
    mixed = log_aggregate(z.float(), Normal(loc, scale))
    assert mixed[0].dtype == torch.float64


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operation makes."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [out] if isinstance(out, Tensor) else out if isinstance(out, tuple | list) else []
        sizes = [t.untyped_storage().nbytes() // t.element_size() for t in made if isinstance(t, Tensor)]
        self.size = max([self.size, *sizes])
        return out


@pytest.mark.parametrize("family", [Normal, Laplace])
def test_never_all_pairs_of_all_dimensions_at_once(family: type[Distribution], monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[..., Distribution] = family
    monkeypatch.setitem(aggregate.VALUES_AT_ONCE, "cpu", 10_000)
    b, n, d = 90, 100, 50
    z, loc, scale = (values.float().requires_grad_() for values in (numbers(b, d), numbers(n, d), numbers(n, d).exp()))
    with Largest() as largest:
        joint, each = log_aggregate(z, make(loc, scale), torch.zeros(b, n))
        (joint.sum() + each.sum()).backward()
    assert b * d <= largest.size <= 10_000 < b * n * d / 40


def test_published_example() -> None:
    """Posterior means from N(0, I), D = 10, sigma 0.1, N = 60,000: MI = ln N = 11.002, TC = 12.02 nats."""
    n, codes = 60_000, 400
    loc = torch.randn(n, 10)
    posterior = Normal(loc, torch.full_like(loc, 0.1))
    z = loc[:codes] + 0.1 * torch.randn(codes, 10)
    joint, each = log_aggregate(z, posterior)
    mi = Normal(loc[:codes], 0.1).log_prob(z).sum(1) - joint
    assert mi.mean().item() == pytest.approx(11.002, abs=1e-3)
    # Of one code log prod q(z_d) has a spread of sqrt(10 / 2) about its mean, and so has log q(z | x).
    tc = joint - each.sum(1)
    assert tc.std().item() == pytest.approx(math.sqrt(10), rel=0.2)
    assert tc.mean().item() == pytest.approx(12.02, abs=4 * math.sqrt(10 / codes))


def test_wrong_arguments() -> None:
    q = Normal(torch.zeros(4, 3), torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"z should have shape \(..., batch, 3\), got \(5, 2\)"):
        log_aggregate(torch.zeros(5, 2), q)
    with pytest.raises(ValueError, match=r"z should have shape \(..., batch, 3\), got \(3,\)"):
        log_aggregate(torch.zeros(3), q)
    with pytest.raises(ValueError, match=r"broadcastable to \(5, 4\), got \(5, 3\)"):
        log_aggregate(torch.zeros(5, 3), q, torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"factorised .* event shape \(3,\)"):
        log_aggregate(torch.zeros(5, 3), Independent(q, 1))
    with pytest.raises(ValueError, match=r"have components before them, got batch shape \(3,\)"):
        log_aggregate(torch.zeros(5, 3), Normal(torch.zeros(3), torch.ones(3)))
