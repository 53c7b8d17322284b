"""What every family owes: its log-partition generates all, and draws, densities and coordinates agree with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from family_cases import CASES, CONTINUOUS, NAMES, fields_of, minimal, rebuild, seeded, statistics
from torch import Tensor

from jensen.families import Categorical, Dirichlet, MultivariateNormal, NormalGamma, NormalWishart, Wishart

BATCHES = [(), (4,), (2, 3)]
DRAWS = 40_000

every_family = pytest.mark.parametrize("name", NAMES)
every_batch = pytest.mark.parametrize("batch", BATCHES, ids=str)


def members(name: str) -> list[Any]:
    """A batch of ordinary members and each extreme one."""
    return [CASES[name].make(), *CASES[name].extremes()]


def close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


def assert_mean(samples: Tensor, expected: Tensor, sigmas: float = 5.0, rare: float = 0.0) -> None:
    """The mean over the first dimension is `expected` within Monte Carlo error."""
    error = (samples.mean(0) - expected).abs()
    allowed = sigmas * (samples.std(0) / len(samples) ** 0.5 + rare) + 1e-12
    assert bool((error <= allowed).all()), f"off by {(error / allowed).max().item() * sigmas:.1f} standard errors"


def autodiff_mean(q: Any) -> tuple[Tensor, ...]:
    leaves = [field.detach().clone().requires_grad_() for field in q.natural_parameters]
    copy = type(q)(type(q.natural_parameters)(*leaves))
    gradients = torch.autograd.grad(copy.log_partition().sum(), leaves)
    matrices = [
        e == 2 and g.shape[-1] == g.shape[-2] and "potentials" not in n
        for g, e, n in zip(gradients, q.event_dims, q.natural_parameters._fields, strict=True)
    ]
    return tuple((g + g.mT) / 2 if m else g for g, m in zip(gradients, matrices, strict=True))


@every_family
def test_mean_parameters_are_the_gradient_of_the_log_partition(name: str) -> None:
    for q in members(name):
        mean = q.mean_parameters
        assert mean._fields == type(q).Mean._fields
        for closed, gradient in zip(mean, autodiff_mean(q), strict=True):
            scale = gradient.abs().max().clamp(min=1)
            close(closed / scale, gradient / scale)


@every_family
@every_batch
def test_shapes(name: str, batch: tuple[int, ...]) -> None:
    q = CASES[name].make(batch=batch)
    assert q.batch_shape == batch
    for value in (q.log_partition(), q.entropy(), q.dual(), q.kl_divergence(q)):
        assert value.shape == batch
    for eta, mean, dims in zip(q.natural_parameters, q.mean_parameters, q.event_dims, strict=True):
        assert eta.shape == mean.shape
        assert eta.shape[: eta.dim() - dims] == batch
    z = q.sample((5, 2), seeded())
    assert fields_of(z)[0].shape == (5, 2, *batch, *q.event_shape)
    assert q.log_prob(z).shape == (5, 2, *batch)
    for t, mean in zip(q.sufficient_statistics(z), q.mean_parameters, strict=True):
        assert t.shape == (5, 2, *mean.shape)
    size = minimal(q).shape[-1]
    assert q.fisher_information().shape == (*batch, size, size)
    assert fields_of(q.sample())[0].shape == (*batch, *q.event_shape)
    assert fields_of(q.sample((0,)))[0].shape == (0, *batch, *q.event_shape)
    empty = q.expand((0, *batch))
    assert fields_of(empty.sample((2,)))[0].shape == (2, 0, *batch, *q.event_shape)
    assert empty.entropy().shape == (0, *batch)


@every_family
def test_log_prob_is_that_of_scipy(name: str) -> None:
    q = CASES[name].make(seed=3)
    z = q.sample((6,), seeded(4))
    logs = q.log_prob(z)
    for s in range(6):
        for b in range(4):
            parts = [part[s, b].numpy() if part[s, b].dim() else part[s, b].item() for part in fields_of(z)]
            draw = type(z)(*parts) if isinstance(z, tuple) else parts[0]
            standard = [p[b].numpy() if p[b].dim() else p[b].item() for p in q.standard_parameters]
            expected = CASES[name].log_prob(draw, *standard)
            assert logs[s, b].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@every_family
def test_log_prob_is_that_of_torch(name: str) -> None:
    q = CASES[name].make(seed=3)
    if name in ("NormalGamma", "NormalWishart", "MarkovChain"):
        with pytest.raises(TypeError, match="has no"):
            q.to_torch()
        return
    p = q.to_torch()
    z = q.sample((50,), seeded(4))
    close(q.log_prob(z), p.log_prob(z), rtol=1e-6 if name == "Wishart" else 1e-9)  # torch's Wishart loses digits


@every_family
def test_log_prob_is_the_exponential_form(name: str) -> None:
    """Families with a faster log_prob must agree with <eta, T(z)> - A + log h."""
    q = CASES[name].make(seed=5)
    z = q.sample((20,), seeded(6))
    inner = sum(
        (eta * t).flatten(1 + len(q.batch_shape)).sum(-1) if dims else eta * t
        for eta, t, dims in zip(q.natural_parameters, q.sufficient_statistics(z), q.event_dims, strict=True)
    )
    close(q.log_prob(z), inner - q.log_partition() + q.log_base_measure(z))


@pytest.mark.parametrize("name", [n for n in NAMES if CASES[n].entropy is not None])
def test_entropy_is_that_of_scipy(name: str) -> None:
    q = CASES[name].make(seed=7)
    for b in range(4):
        standard = [p[b].numpy() if p[b].dim() else p[b].item() for p in q.standard_parameters]
        assert q.entropy()[b].item() == pytest.approx(CASES[name].entropy(*standard), rel=1e-9, abs=1e-9)


@every_family
def test_draws_entropy_and_moments_agree(name: str) -> None:
    q = CASES[name].make(seed=8)
    z = q.sample((DRAWS,), seeded(9))
    assert_mean(-q.log_prob(z), q.entropy())
    assert_mean(statistics(q, z), type(q).minimal_mean(q.mean_parameters))
    close(q.entropy(), -q.dual() - q.expected_log_base_measure())


@every_family
def test_kl_divergence(name: str) -> None:
    q, p = CASES[name].make(seed=10), CASES[name].make(seed=11)
    kl = q.kl_divergence(p)
    z = q.sample((DRAWS,), seeded(12))
    assert_mean(q.log_prob(z) - p.log_prob(z), kl)
    assert bool((kl > 0).all())
    close(q.kl_divergence(q), torch.zeros(4, dtype=torch.float64), rtol=1e-12)
    for extreme in CASES[name].extremes():
        scale = extreme.log_partition().abs().max() + 1
        assert abs(extreme.kl_divergence(extreme).item()) <= 1e-12 * scale
    try:
        expected = torch.distributions.kl_divergence(q.to_torch(), p.to_torch())
    except (TypeError, NotImplementedError):
        assert name in ("NormalGamma", "NormalWishart", "MarkovChain", "Wishart", "InverseGamma")
    else:
        if name != "Wishart":  # torch's disagrees with Monte Carlo, ours does not
            close(kl, expected)


@every_family
def test_round_trips(name: str) -> None:
    for q in members(name):
        family = type(q)
        there = family.from_standard(*q.standard_parameters)
        close(minimal(there), minimal(q), rtol=1e-8)
        close(minimal(family.from_natural(*q.natural_parameters)), minimal(q), rtol=1e-14)
        close(minimal(rebuild(q, minimal(q))), minimal(q), rtol=1e-14)
        if q.batch_shape == () and name in ("Wishart", "NormalWishart", "MarkovChain"):
            continue  # an extreme matrix loses digits through its Cholesky factor in the next one
        unconstrained = q.unconstrained()
        close(minimal(family.from_unconstrained(unconstrained)), minimal(q), rtol=1e-7)


@every_family
def test_any_unconstrained_numbers_give_a_member(name: str) -> None:
    q = CASES[name].make()
    family = type(q)
    wild = [3 * torch.randn(u.shape, generator=seeded(13), dtype=u.dtype) for u in q.unconstrained()]
    member = family.from_unconstrained(wild)
    assert member.is_valid()
    assert not torch.allclose(minimal(member), minimal(q))


@every_family
def test_from_mean_parameters(name: str) -> None:
    for q in members(name):
        found = type(q).from_mean_parameters(*q.mean_parameters)
        for a, b in zip(found.mean_parameters, q.mean_parameters, strict=True):
            close(a, b, rtol=1e-8)
        if q.batch_shape:
            close(minimal(found), minimal(q), rtol=1e-8)


@every_family
def test_from_mean_parameters_has_the_inverse_fisher_as_derivative(name: str) -> None:
    q = CASES[name].make(seed=14, batch=())
    family = type(q)

    def eta(m: Tensor) -> Tensor:
        """Minimal eta of minimal m, by going through the full mean parameters."""
        fields = full_mean(q, m)
        return minimal(family.from_mean_parameters(*fields))

    m = family.minimal_mean(q.mean_parameters).detach()
    jacobian = torch.autograd.functional.jacobian(eta, m)
    close(jacobian @ q.fisher_information(), torch.eye(len(m), dtype=torch.float64), rtol=1e-6)


def full_mean(q: Any, m: Tensor) -> list[Tensor]:
    """Mean parameters from minimal ones (the tests' own inverse of `minimal_mean`)."""
    name = type(q).__name__
    if name == "Categorical":
        return [torch.cat([m, 1 - m.sum(-1, keepdim=True)], -1)]
    if name == "MarkovChain":
        steps, states = q.natural_parameters.potentials.shape[-2:]
        head = m[: steps * (states - 1)].reshape(steps, states - 1)
        marginals = torch.cat([head, 1 - head.sum(-1, keepdim=True)], -1)
        inner = m[steps * (states - 1) :].reshape(steps - 1, states - 1, states - 1)
        rows = torch.cat([inner, (marginals[:-1, :-1] - inner.sum(-1)).unsqueeze(-1)], -1)
        return [marginals, torch.cat([rows, (marginals[1:] - rows.sum(-2)).unsqueeze(-2)], -2)]
    fields, at = [], 0
    for field, dims in zip(q.mean_parameters, q.event_dims, strict=True):
        if dims == 2:
            rows, columns = torch.tril_indices(field.shape[-1], field.shape[-1])
            part = m[at : at + len(rows)] / 2  # off the diagonal, the pair of elements counts twice
            at += len(rows)
            matrix = torch.zeros_like(field).index_put((rows, columns), part)
            fields.append(matrix + matrix.mT)
        else:
            size = field.shape[-1] if dims else 1
            fields.append(m[at : at + size] if dims else m[at])
            at += size
    assert at == len(m)
    return fields


@every_family
def test_fisher_information(name: str) -> None:
    q = CASES[name].make(seed=15)
    fisher = q.fisher_information()
    close(fisher, fisher.mT, rtol=1e-10)
    assert bool((torch.linalg.eigvalsh(fisher) > 0).all())
    centred = statistics(q, q.sample((DRAWS,), seeded(16))) - type(q).minimal_mean(q.mean_parameters)
    rare = 1 / DRAWS if name == "MarkovChain" else 0.0  # pairs of pairs too rare to have an error estimate
    assert_mean(centred.unsqueeze(-1) * centred.unsqueeze(-2), fisher, sigmas=6, rare=rare)


@every_family
def test_fisher_information_is_the_jacobian_of_the_mean(name: str) -> None:
    q = CASES[name].make(seed=17, batch=())

    def mean(v: Tensor) -> Tensor:
        return type(q).minimal_mean(rebuild(q, v).mean_parameters)

    close(torch.autograd.functional.jacobian(mean, minimal(q)), q.fisher_information(), rtol=1e-8)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_minimal_coordinates_of_other_dimensions(size: int) -> None:
    loc, eye = torch.arange(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)
    matrix = eye + 0.1
    for q in (
        MultivariateNormal.from_standard(loc, matrix),
        Wishart.from_standard(size + 1.0, matrix),
        NormalGamma.from_standard(loc, matrix, 2.0, 3.0),
        NormalWishart.from_standard(loc, 0.5, size + 1.0, matrix),
        Dirichlet.from_standard(loc + 0.5),
        Categorical.from_standard(torch.softmax(loc, -1)),
    ):
        again = rebuild(q, minimal(q))
        for a, b in zip(again.mean_parameters, q.mean_parameters, strict=True):
            close(a, b)
        length = minimal(q).shape[-1]
        assert q.fisher_information().shape == (length, length)


@every_family
def test_natural_gradient_is_the_gradient_in_mean_parameters(name: str) -> None:
    """F^-1 dL/d eta = dL/dm for L(m) = <a, m> + m^T B m / 2, in minimal coordinates (Hoffman et al. 2013)."""
    q = CASES[name].make(seed=18, batch=())
    vector = minimal(q).detach().requires_grad_()
    size = len(vector)
    g = seeded(19)
    linear, curve = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((size,), (size, size)))
    curve = curve + curve.mT
    m = type(q).minimal_mean(rebuild(q, vector).mean_parameters)
    (euclidean,) = torch.autograd.grad(linear @ m + 0.5 * m @ curve @ m, vector)
    natural = torch.linalg.solve(q.fisher_information(), euclidean)
    expected = linear + curve @ m.detach()
    assert not torch.allclose(euclidean, expected, rtol=1e-2)
    close(natural, expected, rtol=1e-6)


@every_family
def test_gradients_against_finite_differences(name: str) -> None:
    q = CASES[name].make(seed=20, batch=())
    other = CASES[name].make(seed=21, batch=())

    def quantities(v: Tensor) -> tuple[Tensor, ...]:
        member = rebuild(q, v)
        return (*member.mean_parameters, member.entropy(), member.kl_divergence(other), other.kl_divergence(member))

    assert torch.autograd.gradcheck(quantities, minimal(q).detach().requires_grad_())


@pytest.mark.parametrize("name", CONTINUOUS)
def test_pathwise_gradients_are_unbiased(name: str) -> None:
    """d/d eta E_q[<c, T(z)>] through the draws, against F c."""
    q = CASES[name].make(seed=22, batch=())
    vector = minimal(q).detach()
    c = torch.randn(len(vector), generator=seeded(23), dtype=torch.float64)
    blocks, block = 40, 1000
    vectors = vector.repeat(blocks, 1).requires_grad_()
    z = rebuild(q, vectors).rsample((block,), seeded(24))
    values = statistics(rebuild(q, vectors.detach()), z) @ c
    (gradients,) = torch.autograd.grad(values.mean(0).sum(), vectors)
    assert_mean(gradients, q.fisher_information() @ c)


@every_family
def test_rsample(name: str) -> None:
    q = CASES[name].make(seed=25)
    if name in CONTINUOUS:
        leaves = [field.requires_grad_() for field in q.natural_parameters]
        z = q.rsample((3,), seeded(26))
        plain = q.sample((3,), seeded(26))
        for a, b in zip(fields_of(z), fields_of(plain), strict=True):
            assert torch.equal(a, b)
            assert not b.requires_grad
        gradients = torch.autograd.grad(sum(part.sum() for part in fields_of(z)), leaves, allow_unused=True)
        assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients)
    else:
        with pytest.raises(TypeError, match=rf"{name} is discrete"):
            q.rsample()


@every_family
def test_draws_depend_on_their_generator_alone(name: str) -> None:
    q = CASES[name].make(seed=27)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = q.sample((10,), seeded(28))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = q.sample((10,), seeded(28)), q.sample((10,), seeded(29))
    for a, b, c in zip(fields_of(first), fields_of(again), fields_of(other), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@every_family
def test_extreme_members_have_finite_values_and_draws(name: str) -> None:
    for q in CASES[name].extremes():
        assert q.is_valid()
        z = q.sample((200,), seeded(30))
        for value in (q.log_partition(), q.entropy(), *q.mean_parameters, *fields_of(z)):
            assert bool(value.isfinite().all())
        if "Wishart" not in name:  # draws near D - 1 degrees of freedom are singular to rounding
            assert bool(q.log_prob(z).isfinite().all())


@every_family
def test_as_a_batch(name: str) -> None:
    q = CASES[name].make(seed=31)
    some = q[1:3]
    assert some.batch_shape == (2,)
    assert torch.equal(minimal(some), minimal(q)[1:3])
    assert torch.equal(minimal(q[torch.tensor([True, False, False, True])]), minimal(q)[[0, 3]])
    assert torch.equal(minimal(q[2]), minimal(q)[2])
    assert q[2].batch_shape == ()
    wide = q.expand((5, 4))
    assert wide.batch_shape == (5, 4)
    close(wide.entropy(), q.entropy().expand(5, 4))
    assert f"{name}(batch_shape=(4,)" in repr(q)
    leaf = [field.clone().requires_grad_() for field in q.natural_parameters]
    attached = type(q)(type(q.natural_parameters)(*leaf))
    assert attached.entropy().requires_grad
    assert not attached.detach().entropy().requires_grad


@every_family
def test_one_precision(name: str) -> None:
    q = CASES[name].make(seed=32)
    half = q.to(torch.float32)
    z = q.sample((7,), seeded(33))
    small = type(z)(*(p.float() for p in z)) if isinstance(z, tuple) else z.float() if z.is_floating_point() else z
    for ours, exact in [
        (half.entropy(), q.entropy()),
        (half.log_partition(), q.log_partition()),
        (half.log_prob(small), q.log_prob(z)),
        *zip(half.mean_parameters, q.mean_parameters, strict=True),
        *zip(half.standard_parameters, q.standard_parameters, strict=True),
        *zip(type(q).from_mean_parameters(*half.mean_parameters).mean_parameters, q.mean_parameters, strict=True),
    ]:
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), exact, rtol=2e-3, atol=2e-3)
    assert bool(half.log_prob(half.sample((20,), seeded(34))).isfinite().all())


@every_family
def test_kept_values_do_not_lose_gradients(name: str) -> None:
    """What is cached without gradients, or used up by a backward pass, must be computed anew."""
    leaves = [field.clone().requires_grad_() for field in CASES[name].make(seed=35).natural_parameters]
    q = type(CASES[name].make())(type(CASES[name].make().natural_parameters)(*leaves))
    with torch.no_grad():
        kept = q.entropy()
    first = torch.autograd.grad(q.entropy().sum(), leaves)
    second = torch.autograd.grad(q.entropy().sum() * 2, leaves)
    close(q.entropy().detach(), kept)
    assert any(bool(a.abs().sum() > 0) for a in first)
    for a, b in zip(first, second, strict=True):
        close(2 * a, b)


@every_family
def test_moved(name: str) -> None:
    q, p = CASES[name].make(seed=36), CASES[name].make(seed=37)
    quarter = q.moved(p.natural_parameters, 0.25)
    for a, b, c in zip(q.natural_parameters, p.natural_parameters, quarter.natural_parameters, strict=True):
        close(0.75 * a + 0.25 * b, c, rtol=1e-12)
    assert torch.equal(minimal(q.moved(p.natural_parameters)), minimal(p))
    assert quarter.is_valid()


@every_family
def test_kl_refuses_another_family(name: str) -> None:
    other = "Gamma" if name != "Gamma" else "Normal"
    with pytest.raises(TypeError, match=rf"KL between two families: {name} and {other}"):
        CASES[name].make().kl_divergence(CASES[other].make())
