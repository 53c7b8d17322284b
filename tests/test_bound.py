"""The terms of the bound by hand, by enumeration, by quadrature and by torch.distributions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, StudentT, kl_divergence

from jensen.bound import Level, Output, importance_weighted_bound, log_weights


def normal(mean: float | Tensor, scale: float | Tensor) -> Normal:
    mean, scale = (v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in (mean, scale))
    return Normal(mean, scale, validate_args=False)


def example(samples: int = 3, batch: int = 4) -> Output:
    """A Gaussian latent of 2 dimensions and a Gaussian datum of shape (2, 3)."""
    q = normal(torch.randn(1, batch, 2, dtype=torch.float64), torch.rand(1, batch, 2, dtype=torch.float64) + 0.5)
    z = q.rsample(torch.Size([samples]))[:, 0]
    p = normal(torch.randn(samples, batch, 2, 3, dtype=torch.float64), 0.7)
    return Output(torch.randn(1, batch, 2, 3, dtype=torch.float64), p, (Level(z, q, normal(0.0, 1.0)),))


def log_normal(x: Tensor, mean: Tensor | float, scale: Tensor | float) -> Tensor:
    scale = torch.as_tensor(scale, dtype=torch.float64)
    return -0.5 * math.log(2 * math.pi) - scale.log() - 0.5 * ((x - mean) / scale) ** 2


def test_terms_by_hand() -> None:
    output = example()
    (level,) = output.levels
    q = level.posterior
    assert isinstance(q, Normal)
    likelihood = log_normal(output.target, output.likelihood.mean, 0.7).sum((-1, -2))
    torch.testing.assert_close(output.log_likelihood(), likelihood)
    kl = -0.5 * (1 + 2 * q.scale.log() - q.loc**2 - q.scale**2).sum(-1)
    torch.testing.assert_close(output.rate(), kl)
    log_q, log_p = log_normal(level.z, q.loc, q.scale).sum(-1), log_normal(level.z, 0.0, 1.0).sum(-1)
    torch.testing.assert_close(output.rate(analytic=False), log_q - log_p)
    torch.testing.assert_close(log_weights(output), likelihood + log_p - log_q)
    assert output.probabilistic


@pytest.mark.parametrize(("mean", "log_var", "dims", "expected"), [(1.0, 0.0, 10, 5.0), (1.0, 1.0, 10, 8.5914091)])
def test_published_kls(mean: float, log_var: float, dims: int, expected: float) -> None:
    q = normal(torch.full((1, 1, dims), mean), torch.full((1, 1, dims), math.exp(log_var / 2)))
    rate = Output(torch.zeros(1, 1, 1), normal(0.0, 1.0), (Level(q.loc, q, normal(0.0, 1.0)),)).rate()
    assert rate.item() == pytest.approx(expected, rel=1e-6)


def test_analytic_and_monte_carlo_kl_agree() -> None:
    q = normal(torch.tensor([[[1.0, -0.5, 0.0]]]), torch.tensor([[[0.3, 2.0, 1.0]]]))
    level = Level(q.sample(torch.Size([50_000]))[:, 0], q, normal(0.3, 1.5))
    analytic, draws = level.kl(), level.kl(analytic=False)[:, 0]
    torch.testing.assert_close(analytic, kl_divergence(q, normal(0.3, 1.5)))
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - analytic[0, 0]).abs() < 5 * error).all()


def test_kl_without_a_closed_form_is_estimated() -> None:
    q, p = normal(torch.tensor([[[0.5]]]), 1.0), StudentT(torch.tensor(3.0))
    with pytest.raises(NotImplementedError):
        kl_divergence(q, p)
    level = Level(q.sample(torch.Size([7]))[:, 0], q, p)
    torch.testing.assert_close(level.kl(), q.log_prob(level.z) - p.log_prob(level.z))


def test_mask_removes_exactly_those_terms() -> None:
    output = example()
    mask = torch.ones(1, 4, 1, 3, dtype=torch.float64)
    mask[0, 1, 0, 2] = 0  # both rows of the last column of datum 1
    terms = log_normal(output.target, output.likelihood.mean, 0.7)
    expected = terms.sum((-1, -2))
    expected[:, 1] -= terms[:, 1, :, 2].sum(-1)
    masked = replace(output, mask=mask)
    torch.testing.assert_close(masked.log_likelihood(), expected)
    torch.testing.assert_close(log_weights(masked) - log_weights(output), expected - output.log_likelihood())


def test_rates_of_several_levels_add_up() -> None:
    output = example()
    below = Level(output.levels[0].z, normal(torch.zeros(3, 4, 2), 0.5), normal(torch.ones(3, 4, 2), 2.0))
    both = replace(output, levels=(*output.levels, below))
    extra = math.log(2 / 0.5) + (0.25 + 1) / (2 * 4) - 0.5
    torch.testing.assert_close(both.rate(), (output.rate() + 2 * extra).expand(3, 4), check_dtype=False)


def test_enumerated_samples_are_weighted() -> None:
    """A Bernoulli latent, enumerated: the ELBO is the finite sum over z, without Monte Carlo error."""
    q1, p1 = torch.tensor([0.2, 0.9], dtype=torch.float64), 0.4
    z = torch.tensor([[[0.0], [0.0]], [[1.0], [1.0]]], dtype=torch.float64)  # (samples 2, batch 2, 1)
    posterior = Bernoulli(q1[None, :, None])
    weights = posterior.log_prob(z).sum(-1)
    likelihood = normal(z * 2 - 1, 0.5)
    target = torch.tensor([[[0.3], [-1.2]]], dtype=torch.float64)
    output = Output(target, likelihood, (Level(z, posterior, Bernoulli(torch.tensor(p1))),), log_weights=weights)
    for i in range(2):
        q = {0: 1 - q1[i].item(), 1: q1[i].item()}
        p = {0: 1 - p1, 1: p1}
        score = sum(q[k] * log_normal(target[0, i, 0], 2 * k - 1, 0.5).item() for k in (0, 1))
        kl = sum(q[k] * math.log(q[k] / p[k]) for k in (0, 1))
        assert output.expectation(output.log_likelihood())[i].item() == pytest.approx(score, rel=1e-6)
        for analytic in (True, False):
            assert output.expectation(output.rate(analytic))[i].item() == pytest.approx(kl, rel=1e-6)
    for values in (output.log_likelihood(), output.rate(analytic=False)):
        torch.testing.assert_close(output.average(values), (weights.exp() * values).sum(0).mean())
    plain = replace(output, log_weights=None)
    torch.testing.assert_close(plain.average(plain.log_likelihood()), output.log_likelihood().mean())
    torch.testing.assert_close(plain.expectation(plain.log_likelihood()), output.log_likelihood().mean(0))


def test_importance_weighted_bound_by_hand() -> None:
    weights = torch.tensor([[1.0, -1000.0], [2.0, -1001.0], [0.5, -1002.0]], dtype=torch.float64)
    expected = [math.log((math.e + math.e**2 + math.e**0.5) / 3)]
    expected.append(-1000 + math.log((1 + math.exp(-1) + math.exp(-2)) / 3))
    np.testing.assert_allclose(importance_weighted_bound(weights).numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(importance_weighted_bound(weights[:1]), weights[0])


def test_nothing_is_summed_in_half_precision() -> None:
    """Ten thousand terms of 1 + 1/512: bfloat16 would give 10,000 at best."""
    value = torch.full((1, 1, 10_000), 1 / 512, dtype=torch.bfloat16)

    class Stub(Normal):
        def log_prob(self, _: Tensor) -> Tensor:
            return value + 1

    output = Output(value, Stub(0.0, 1.0), ())
    assert output.log_likelihood().dtype == torch.float32
    assert Output(value.double(), normal(value.double(), 1.0), ()).log_likelihood().dtype == torch.float64


def test_deterministic_levels() -> None:
    z = torch.randn(1, 4, 2)
    output = Output(torch.zeros(1, 4, 3), normal(torch.zeros(1, 4, 3), 1.0), (Level(z, None, None),))
    assert not output.probabilistic
    assert torch.equal(output.rate(), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="level 0 is deterministic"):
        log_weights(output)
    with pytest.raises(ValueError, match="no posterior"):
        Level(z, None, normal(0.0, 1.0)).kl()
    with pytest.raises(ValueError, match="no prior"):
        Level(z, normal(0.0, 1.0), None).kl()


def test_a_missing_value_may_be_nan() -> None:
    target = torch.tensor([[[1.0, float("nan"), 0.5]]])
    mask = torch.tensor([[[1.0, 0.0, 1.0]]])
    mean = torch.zeros(1, 1, 3, requires_grad=True)
    output = Output(target, Normal(mean, torch.ones(())), (), mask=mask)
    log_likelihood = output.log_likelihood()
    expected = Normal(0.0, 1.0).log_prob(torch.tensor([1.0, 0.5])).sum()
    torch.testing.assert_close(log_likelihood, expected[None, None])
    log_likelihood.sum().backward()
    assert torch.isfinite(mean.grad).all()


def test_shares_of_enumerated_samples_replace_one_over_k() -> None:
    # Two enumerated values with q = (0.3, 0.7) and exact posterior q: every importance weight equals p(x).
    joint = torch.tensor([[0.03], [0.07]]).log()
    shares = torch.tensor([[0.3], [0.7]]).log()
    bound = importance_weighted_bound(joint - shares, shares)
    torch.testing.assert_close(bound, torch.tensor([0.1]).log())


def test_samples_of_no_share_do_not_count_whatever_their_values() -> None:
    values = torch.tensor([[1.0, 2.0], [torch.inf, -torch.inf], [3.0, 4.0]], requires_grad=True)
    shares = torch.tensor([[0.25, 0.5], [0.0, 0.0], [0.75, 0.5]]).log()
    output = Output(torch.zeros(1, 2, 1), normal(torch.zeros(1, 2, 1), 1.0), (), log_weights=shares)
    torch.testing.assert_close(output.expectation(values), torch.tensor([2.5, 3.0]))
    output.expectation(values).sum().backward()
    torch.testing.assert_close(values.grad, shares.exp())
    expected = torch.tensor([0.25 * math.e + 0.75 * math.e**3, 0.5 * math.e**2 + 0.5 * math.e**4]).log()
    bound = importance_weighted_bound(values, shares)
    torch.testing.assert_close(bound, expected)
    values.grad = None
    bound.sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()
    torch.testing.assert_close(values.grad.sum(0), torch.ones(2))
    assert (values.grad[1] == 0).all()


def test_expectation_of_values_of_many_dimensions() -> None:
    shares = torch.tensor([[0.25, 0.5], [0.75, 0.5]], dtype=torch.float64).log()
    values = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    output = Output(torch.zeros(1, 2, 1), normal(torch.zeros(1, 2, 1), 1.0), (), log_weights=shares)
    expected = torch.einsum("sb,sbij->bij", shares.exp(), values)
    torch.testing.assert_close(output.expectation(values), expected)
    torch.testing.assert_close(output.expectation(values[:1]), values[0])  # the same for all samples
