"""Objectives of codes that are drawn from a discrete q: what the encoder can learn from, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Normal,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)

from jensen.autoencoders import SemiSupervisedVAE
from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.point_mass import PointMass
from jensen.autoencoders.vqvae import VQVAE
from jensen.bound import Level, Output
from jensen.config import AutoregressiveConfig, NetConfig, QuantiserConfig
from jensen.data import load_data
from jensen.objectives import Beta, Dip, Elbo, FreeBits, Iwae, Objective, TotalCorrelation, elbo_terms
from jensen.training import train

K, PLACES = 4, 3
NO_GRADIENT = "no gradient"


def drawn(logits: Tensor, samples: int) -> Output:
    """A datum whose PLACES codes are drawn from Categorical(logits), uniform prior; the likelihood knows nothing."""
    q = Categorical(logits=logits[None, None], validate_args=False)  # (1, 1, PLACES, K)
    z = q.sample(torch.Size([samples]))[:, 0]
    uniform = Categorical(logits=torch.zeros(K, dtype=logits.dtype), validate_args=False)
    target = torch.zeros(1, 1, 1, dtype=logits.dtype)
    return Output(target, Normal(target, target + 1), (Level(z, q, uniform),))


def by_hand(logits: Tensor) -> Tensor:
    """d KL / d logits of KL = sum_k q_k (log q_k + log K): q_k (log q_k - sum_j q_j log q_j)."""
    log_q = logits.detach().log_softmax(-1)
    q = log_q.exp()
    return q * (log_q - (q * log_q).sum(-1, keepdim=True))


def test_the_analytic_kl_teaches_and_draws_do_not() -> None:
    """Over very many draws the Monte Carlo KL has the mean of the analytic one, and a gradient of mean zero."""
    logits = torch.randn(PLACES, K, dtype=torch.float64).requires_grad_()
    exact = by_hand(logits)
    output = drawn(logits, 200_000)
    loss = Elbo()(output)
    (gradient,) = torch.autograd.grad(loss.value, logits, retain_graph=True)
    torch.testing.assert_close(gradient, exact)
    sampled = output.average(output.rate(analytic=False))
    assert sampled.item() == pytest.approx(loss.terms["rate"].item(), abs=0.01)
    (score,) = torch.autograd.grad(sampled, logits)
    assert exact.abs().max() > 0.05
    torch.testing.assert_close(score, torch.zeros_like(score), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    "objective",
    [Elbo(kl="monte-carlo"), Beta(2.0, kl="monte-carlo"), FreeBits(kl="monte-carlo"), TotalCorrelation(), Iwae(3)],
)
def test_draws_that_cannot_teach_are_refused(objective: Objective) -> None:
    logits = torch.randn(PLACES, K).requires_grad_()
    with pytest.raises(ValueError, match=NO_GRADIENT) as error:
        objective(drawn(logits, 3))
    assert "kl analytic" in str(error.value)
    assert "torch.no_grad()" in str(error.value)


@pytest.mark.parametrize("objective", [Elbo(kl="monte-carlo"), Iwae(3)])
def test_they_are_measured_without_gradient(objective: Objective) -> None:
    logits = torch.randn(PLACES, K, dtype=torch.float64).requires_grad_()
    output = drawn(logits, 5)
    with torch.no_grad():
        found = objective(output)
        log_q = logits.log_softmax(-1).expand(5, PLACES, K).gather(2, output.levels[0].z[:, 0, :, None])
    rate = log_q.sum((1, 2)) + PLACES * torch.tensor(K).log()
    expected = rate.mean() if isinstance(objective, Elbo) else 5.0**0 * (torch.tensor(5.0).log() - (-rate).logsumexp(0))
    noise = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    assert found.value.item() == pytest.approx((expected + noise).item(), rel=1e-6)
    frozen = drawn(logits.detach(), 5)  # an encoder that does not learn
    assert objective(frozen).value.isfinite()


@pytest.mark.parametrize(
    ("posterior", "alone"),
    [
        (lambda logits: Categorical(logits=logits, validate_args=False), True),
        (lambda logits: Bernoulli(logits=logits, validate_args=False), True),  # its draws are floats
        (lambda logits: OneHotCategorical(logits=logits, validate_args=False), True),
        (lambda logits: OneHotCategoricalStraightThrough(logits=logits, validate_args=False), False),
        (lambda logits: Normal(logits, 1.0, validate_args=False), False),
        (lambda logits: PointMass(logits.argmax(-1)), False),
    ],
)
def test_which_levels_learn_nothing_from_their_draws(posterior: Callable[[Tensor], Distribution], alone: bool) -> None:
    logits = torch.randn(1, 5, PLACES, K).requires_grad_()
    q = posterior(logits)
    z = q.rsample() if q.has_rsample else q.sample()
    assert Level(z, q, None).score_only == alone
    with torch.no_grad():
        assert not Level(z.detach(), q, None).score_only
    assert not Level(z.detach(), None, None).score_only


def test_a_posterior_that_does_not_say_its_support_is_taken_for_continuous() -> None:
    class Own(Distribution):
        arg_constraints = {}  # noqa: RUF012

        def __init__(self, loc: Tensor) -> None:
            self.loc = loc
            super().__init__(loc.shape, validate_args=False)

        def log_prob(self, value: Tensor) -> Tensor:
            return -(value - self.loc).abs() - torch.tensor(2.0).log()

    loc = torch.randn(1, 4, 2).requires_grad_()
    level = Level(torch.randn(1, 4, 2), Own(loc), Normal(0.0, 1.0))
    assert not level.discrete
    target = torch.zeros(1, 4, 1)
    assert Elbo()(Output(target, Normal(target, 1.0), (level,))).value.requires_grad


def test_nothing_waits_for_the_device() -> None:
    """Of tensors without data no number could be looked at."""
    logits = torch.randn(1, 5, PLACES, K, device="meta").requires_grad_()
    z = torch.zeros(2, 5, PLACES, dtype=torch.int64, device="meta")
    level = Level(z, Categorical(logits=logits, validate_args=False), None)
    assert level.score_only
    assert not Level(z, PointMass(z), None).score_only


def test_labels_that_samples_enumerate_teach() -> None:
    """Their weights carry the gradient: summed over all values of z, Monte Carlo is the closed form."""
    logits = torch.randn(1, K, dtype=torch.float64).requires_grad_()  # of one place
    output = drawn(logits, 1)
    (level,) = output.levels
    every = torch.arange(K)[:, None, None]  # (K, 1, 1)
    output = replace(output, levels=(replace(level, z=every),), log_weights=logits.log_softmax(-1).T)
    loss = Elbo(kl="monte-carlo")(output)
    (gradient,) = torch.autograd.grad(loss.value, logits, retain_graph=True)
    torch.testing.assert_close(gradient, by_hand(logits))
    # The bound is log p(x) itself, whatever q is.
    (gradient,) = torch.autograd.grad(Iwae(1)(output).value, logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


@pytest.mark.parametrize("objective", [Elbo(kl="monte-carlo"), Iwae(2), FreeBits(kl="monte-carlo")])
def test_semi_supervised_models_are_trained_by_any(objective: Objective) -> None:
    model = SemiSupervisedVAE((6,), 2, condition_shape=(3,), net=NetConfig(kind="mlp", width=8))
    objective(model(torch.rand(5, 6), samples=2)).value.backward()
    assert all(parameter.grad is not None for parameter in model.classifier.parameters())


def vqvae(kind: Literal["vector", "gumbel"]) -> VQVAE:
    return VQVAE(
        (1, 8, 8),
        quantiser=QuantiserConfig(kind=kind, codes=8, dim=8),
        net=NetConfig(kind="conv", width=8, depth=1),
        levels=2,
    )


def test_a_gumbel_vqvae_under_a_learned_prior_is_measured_but_not_trained() -> None:
    model, x = vqvae("gumbel"), torch.rand(6, 1, 8, 8).round()
    assert Elbo()(model(x)).value.requires_grad
    prior = CodePrior(model.code_shapes, model.code_levels, AutoregressiveConfig(width=8, depth=2))
    model.attach_prior(prior)
    for objective in (Elbo(), Beta(), Iwae(2)):
        with pytest.raises(ValueError, match=NO_GRADIENT):
            objective(model(x, samples=objective.samples))
        with torch.no_grad():
            assert objective(model(x, samples=objective.samples)).value.isfinite()
    assert "attach_prior(None)" in str(_error(Elbo(), model(x)))
    with pytest.raises(ValueError, match=NO_GRADIENT):
        elbo_terms(model(x))
    model.encoder.requires_grad_(False)
    model.quantiser.requires_grad_(False)
    assert Elbo()(model(x)).value.requires_grad  # the decoder may learn
    model.attach_prior(None)
    assert Elbo()(model(x)).value.requires_grad


def _error(objective: Objective, output: Output) -> Exception | None:
    try:
        objective(output)
    except ValueError as error:
        return error
    return None


@pytest.mark.parametrize("objective", [Elbo(), Elbo(kl="monte-carlo"), Iwae(1)])
@pytest.mark.parametrize("learned", [False, True])
def test_codes_that_are_a_function_of_x_are_trained_by_any(objective: Objective, learned: bool) -> None:
    model = vqvae("vector")
    if learned:
        prior = CodePrior(model.code_shapes, model.code_levels, AutoregressiveConfig(width=8, depth=2))
        model.attach_prior(prior.requires_grad_(False))
    objective(model(torch.rand(6, 1, 8, 8).round())).value.backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_an_objective_of_continuous_codes_says_so_of_integers() -> None:
    with pytest.raises(ValueError, match="looks at continuous codes"):
        Dip()(vqvae("vector")(torch.rand(6, 1, 8, 8).round()))


def test_training_stops_before_the_first_step() -> None:
    data = load_data("digits")
    model = VQVAE(
        data.shape,
        downsampling=2,
        quantiser=QuantiserConfig(kind="gumbel", codes=8, dim=8),
        net=NetConfig(kind="conv", width=8, depth=1),
        likelihood="gaussian",
        levels=data.levels,
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=NO_GRADIENT):
        train(model, data, Elbo(kl="monte-carlo"), epochs=1, quiet=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
