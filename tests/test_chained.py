"""Distributions whose dimensions depend on each other, against torch's joint ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from jensen import chained
from jensen.chained import FullNormal, NormalMixture


@pytest.fixture
def full() -> FullNormal:
    torch.manual_seed(0)
    below = 0.5 * torch.randn(3, 4, 4, dtype=torch.float64).tril(-1)
    return FullNormal(
        torch.randn(3, 4, dtype=torch.float64), below + torch.diag_embed(torch.rand(3, 4, dtype=torch.float64) + 0.3)
    )


@pytest.fixture
def mixture() -> NormalMixture:
    torch.manual_seed(1)
    log_weights = torch.randn(6, dtype=torch.float64).log_softmax(0)
    parts = torch.randn(6, 4, dtype=torch.float64), torch.rand(6, 4, dtype=torch.float64) + 0.2
    return NormalMixture(log_weights, Normal(*parts))


def joint(full: FullNormal) -> MultivariateNormal:
    return MultivariateNormal(full.loc, scale_tril=full.tril)


def joint_mixture(mixture: NormalMixture) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(logits=mixture.log_weights), Independent(mixture.components, 1))


class TestFullNormal:
    def test_terms_sum_to_the_joint_density(self, full: FullNormal) -> None:
        z = torch.randn(5, 3, 4, dtype=torch.float64)
        torch.testing.assert_close(full.log_prob(z).sum(-1), joint(full).log_prob(z))

    def test_each_term_is_conditional_on_those_before(self, full: FullNormal) -> None:
        z = torch.randn(3, 4, dtype=torch.float64)
        first = full.log_prob(z)[:, :2]
        # The first two numbers have a normal distribution of their own, with the corner of L.
        corner = MultivariateNormal(full.loc[:, :2], scale_tril=full.tril[:, :2, :2])
        torch.testing.assert_close(first.sum(-1), corner.log_prob(z[:, :2]))
        alone = Normal(full.loc[:, 0], full.tril[:, 0, 0])
        torch.testing.assert_close(first[:, 0], alone.log_prob(z[:, 0]))

    def test_kl_to_independent_normals(self, full: FullNormal) -> None:
        prior = Normal(torch.randn(4, dtype=torch.float64), torch.rand(4, dtype=torch.float64) + 0.4)
        other = MultivariateNormal(prior.loc, torch.diag(prior.scale.square()))
        torch.testing.assert_close(kl_divergence(full, prior).sum(-1), kl_divergence(joint(full), other))

    def test_moments_of_draws(self, full: FullNormal) -> None:
        drawn = full.rsample((100_000,))
        torch.testing.assert_close(drawn.mean(0), full.mean, atol=0.02, rtol=0)
        torch.testing.assert_close(drawn.var(0), full.variance, atol=0, rtol=0.03)
        both = torch.cov(drawn[:, 0].T)
        torch.testing.assert_close(both, full.tril[0] @ full.tril[0].T, atol=0.03, rtol=0)

    def test_gradients_reach_both_parameters(self, full: FullNormal) -> None:
        def value(loc: Tensor, tril: Tensor) -> Tensor:
            torch.manual_seed(3)
            q = FullNormal(loc, tril.tril())
            z = q.rsample()
            return q.log_prob(z).sum() + kl_divergence(q, Normal(torch.zeros(4).double(), 1.0)).sum()

        torch.autograd.gradcheck(value, (full.loc.requires_grad_(), full.tril.requires_grad_()))


class TestNormalMixture:
    def test_terms_sum_to_the_joint_density(self, mixture: NormalMixture) -> None:
        z = torch.randn(5, 3, 4, dtype=torch.float64)
        torch.testing.assert_close(mixture.log_prob(z).sum(-1), joint_mixture(mixture).log_prob(z))

    def test_moments(self, mixture: NormalMixture) -> None:
        reference = joint_mixture(mixture)
        torch.testing.assert_close(mixture.mean, reference.mean)
        torch.testing.assert_close(mixture.variance, reference.variance)
        drawn = mixture.sample((100_000,))
        torch.testing.assert_close(drawn.mean(0), reference.mean, atol=0.02, rtol=0)
        torch.testing.assert_close(drawn.var(0), reference.variance, atol=0, rtol=0.03)

    def test_full_components(self, full: FullNormal) -> None:
        mixture = NormalMixture(torch.tensor([0.2, 0.3, 0.5]).double().log(), full)
        reference = MixtureSameFamily(Categorical(logits=mixture.log_weights), joint(full))
        z = torch.randn(7, 4, dtype=torch.float64)
        torch.testing.assert_close(mixture.log_prob(z).sum(-1), reference.log_prob(z))
        drawn = mixture.sample((100_000,))
        torch.testing.assert_close(drawn.var(0), reference.variance, atol=0, rtol=0.03)
        torch.testing.assert_close(torch.cov(drawn.T)[0, 1], _covariance(full, mixture)[0, 1], atol=0.02, rtol=0)

    def test_pieces_are_the_whole(self, mixture: NormalMixture, monkeypatch: pytest.MonkeyPatch) -> None:
        z = torch.randn(5, 3, 4, dtype=torch.float64)
        whole = mixture.log_prob(z)
        monkeypatch.setattr(chained, "VALUES_AT_ONCE", 50)
        with torch.no_grad():
            torch.testing.assert_close(mixture.log_prob(z), whole)

    def test_a_colder_draw_stays_nearer_the_components(self, mixture: NormalMixture) -> None:
        cold = mixture.sample((1_000,), temperature=0.01)
        nearest = torch.cdist(cold, mixture.components.mean).min(1).values
        assert float(nearest.max()) < 0.2

    def test_gradients_are_those_of_the_joint_density(self, mixture: NormalMixture) -> None:
        z = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
        loc, scale = mixture.components.mean.requires_grad_(), mixture.components.stddev.requires_grad_()
        weights = mixture.log_weights.requires_grad_()
        ours = NormalMixture(weights, Normal(loc, scale)).log_prob(z).sum()
        theirs = joint_mixture(NormalMixture(weights, Normal(loc, scale))).log_prob(z).sum()
        parts = (z, loc, scale, weights)
        for found, expected in zip(torch.autograd.grad(ours, parts), torch.autograd.grad(theirs, parts), strict=True):
            # torch normalises the weights once more, which takes the mean out of their gradient.
            if found.ndim == 1:
                expected = expected + 5 * weights.exp()
            torch.testing.assert_close(found, expected)

    def test_a_term_is_that_of_its_dimension_where_there_is_one_component(self) -> None:
        only = Normal(torch.randn(1, 4, dtype=torch.float64), torch.rand(1, 4, dtype=torch.float64) + 0.2)
        z = torch.randn(5, 4, dtype=torch.float64)
        torch.testing.assert_close(NormalMixture(torch.zeros(1).double(), only).log_prob(z), only.log_prob(z))

    def test_far_away_is_finite(self, mixture: NormalMixture) -> None:
        assert bool(mixture.log_prob(torch.full((2, 4), 1e4, dtype=torch.float64)).isfinite().all())


def _covariance(full: FullNormal, mixture: NormalMixture) -> Tensor:
    weights = mixture.log_weights.exp()
    second = full.tril @ full.tril.mT + full.loc.unsqueeze(-1) * full.loc.unsqueeze(-2)
    return (weights[:, None, None] * second).sum(0) - torch.outer(mixture.mean, mixture.mean)
