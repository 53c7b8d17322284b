"""Stochastic ascent against exact posteriors, enumeration and evidence."""

from __future__ import annotations

import itertools

import pytest
import torch
from stochastic_models import MEANS, SCALES, badly_scaled, bound_of, unknown_mean
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from jensen.gradients import Enumeration, ScoreFunction
from jensen.inference.model import Model
from jensen.inference.steps import RobbinsMonro
from jensen.inference.stochastic_ascent import climb
from jensen.inference.supports import bernoulli, real
from jensen.inference.target import Target
from jensen.inference.variational import flow, full_rank, low_rank


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_scales_from_a_thousandth_to_ten_thousand_without_tuning(optimiser):
    bound = badly_scaled()
    ascent = climb(bound, optimiser=optimiser, tol=0.3)
    factor = bound.family.factors[0]
    assert ascent.converged
    assert ((factor.loc - MEANS).abs() / SCALES).max() < 0.1
    assert (factor.log_scale - SCALES.log()).abs().max() < 0.1
    assert ascent.elbo == pytest.approx(0.0, abs=0.05)  # the target is a normalised density
    assert ascent.advice is None
    assert torch.equal(ascent.flat, bound.flat())


def test_natural_gradients_need_no_pilot_for_it():
    bound = badly_scaled()
    ascent = climb(bound, optimiser="natural", pilot=False, tol=1.0)
    assert ascent.converged
    assert ascent.elbo == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("batch_size", [None, 60])
def test_exact_posterior_by_all_data_and_by_minibatches(batch_size):
    model, data, mean, sd, evidence = unknown_mean()
    bound = bound_of(model, data)
    ascent = climb(bound, batch_size=batch_size, tol=0.3)
    factor = bound.family.factors[0]
    assert ascent.converged
    assert factor.loc.item() == pytest.approx(mean, abs=0.15 * sd)
    assert factor.log_scale.exp().item() == pytest.approx(sd, rel=0.05)
    assert ascent.elbo == pytest.approx(evidence, abs=0.03)


def test_minibatches_of_many_rows_need_no_more_steps_than_all_of_them():
    """Batches of 1 of 100: a row's noise is a hundred times that of the posterior, and is taken out."""
    model, data, mean, sd, evidence = unknown_mean(2_000)
    bound = bound_of(model, data)
    ascent = climb(bound, batch_size=20)
    assert ascent.converged
    assert len(ascent.trace) <= 20  # windows of 50 steps
    assert bound.family.factors[0].loc.item() == pytest.approx(mean, abs=0.1 * sd)
    assert ascent.elbo == pytest.approx(evidence, abs=0.05)


@pytest.mark.soak
def test_a_flow_bends_and_says_so_in_time():
    """u0 ~ N(0, 1), u1 | u0 ~ N(u0^2 - 1, 0.3): a normal q loses at least 0.7 nats."""

    def log_joint(z, data):
        return Normal(0.0, 1.0).log_prob(z.u[0]) + Normal(z.u[0] ** 2 - 1, 0.3).log_prob(z.u[1])

    ascent = climb(bound_of(Model({"u": real(2)}, log_joint), family=flow()))
    assert ascent.converged
    assert -0.3 < ascent.elbo < 0.02


def test_full_rank_finds_the_covariance():
    half = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = half @ half.T
    target = MultivariateNormal(torch.tensor([1.0, -50.0, 3.0], dtype=torch.float64), covariance)
    bound = bound_of(Model({"x": real(3)}, lambda z, data: target.log_prob(z.x)), family=full_rank)
    ascent = climb(bound, tol=1.0)
    tril = bound.family().factors[0].scale_tril
    assert ascent.converged
    assert ascent.elbo == pytest.approx(0.0, abs=0.05)
    torch.testing.assert_close(tril @ tril.T, covariance, rtol=0.1, atol=0.3)


def test_latents_of_rows_by_minibatches():
    """y_n ~ N(theta_n, 1), theta_n ~ N(mu, 1/2): the mean field's means are exact, its precisions the diagonal."""
    rows = 6
    y = 3 + torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def log_joint(z, data):
        prior = {"mu": Normal(0.0, 10.0).log_prob(z.mu), "theta": Normal(z.mu, 0.5).log_prob(z.theta)}
        return prior | {"likelihood": Normal(z.theta, 1.0).log_prob(data.y)}

    precision = torch.diag(torch.tensor([4.0 * rows + 0.01] + [5.0] * rows, dtype=torch.float64))
    precision[0, 1:] = precision[1:, 0] = -4
    exact = torch.linalg.solve(precision, torch.cat([torch.zeros(1, dtype=torch.float64), y]))
    model = Model({"mu": real(), "theta": real(plate="rows")}, log_joint, plates={"rows": rows})
    bound = bound_of(model, {"y": y})
    ascent = climb(bound, batch_size=4, tol=2.0)
    (mu, theta), sd = bound.family.factors, precision.diagonal().rsqrt()
    assert ascent.converged
    assert (mu.loc - exact[0]).abs() < 0.4 * sd[0]
    assert ((theta.loc - exact[1:]).abs() / sd[1:]).max() < 0.4
    assert (theta.log_scale - sd[1:].log()).abs().mean() < 0.1


def test_scored_discrete_latents_against_enumeration():
    weights = torch.tensor([[2.0, -1, 0.5], [1.0, 1.0, -2], [0.0, 2.0, 1.0]], dtype=torch.float64)
    seen = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)

    def log_joint(z, data):
        prior = Bernoulli(logits=torch.tensor(-0.5, dtype=torch.float64)).log_prob(z.b).sum()
        return {"prior": prior, "likelihood": Bernoulli(logits=weights @ z.b - 0.5).log_prob(seen).sum()}

    model = Model({"b": bernoulli(3)}, log_joint)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    joint = Target(model).log_prob({"b": states})

    def exact(logits: torch.Tensor) -> torch.Tensor:
        log_q = Bernoulli(logits=logits).log_prob(states).sum(1)
        return (log_q.exp() * (joint - log_q)).sum()

    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    peer = torch.optim.Adam([logits], lr=0.1, maximize=True)
    for _ in range(250):
        peer.zero_grad()
        exact(logits).backward()
        peer.step()
    bound = bound_of(model, estimator=ScoreFunction(rao_blackwell=True, control_variate="leave_one_out"))
    ascent = climb(bound, tol=0.2)
    assert ascent.converged
    assert exact(ascent.flat).item() == pytest.approx(exact(logits).item(), abs=0.01)
    assert abs(ascent.elbo - exact(ascent.flat).item()) < 5 * ascent.elbo_se


def test_a_family_whose_parameters_are_not_unique():
    covariance = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 4.0]], dtype=torch.float64)
    target = MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance)
    ascent = climb(bound_of(Model({"x": real(3)}, lambda z, data: target.log_prob(z.x)), family=low_rank(2)), tol=0.5)
    assert ascent.converged
    assert ascent.elbo == pytest.approx(0.0, abs=0.1)


def test_a_certain_discrete_latent_is_convergence_though_its_log_odds_grow_for_ever():
    model = Model({"b": bernoulli()}, lambda z, data: {"l": Normal(0.0, 0.1).log_prob(1 - z.b)})
    bound = bound_of(model, estimator=Enumeration())
    ascent = climb(bound, tol=0.2)
    assert ascent.converged
    assert float(ascent.flat) > 5  # log odds; those of the posterior are 50
    assert ascent.elbo == pytest.approx(float(Normal(0.0, 0.1).log_prob(torch.tensor(0.0))), abs=0.05)


def test_parameters_of_the_model_climb_too():
    """y_n ~ N(z_n, 1), z_n ~ N(theta, 1): the evidence is highest at the mean of the data."""
    rows = 5
    y = 3 + torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    start = {"theta": torch.zeros((), dtype=torch.float64)}

    def log_joint(z, data):
        return Normal(z.theta, 1.0).log_prob(z.z) + Normal(z.z, 1.0).log_prob(data.y)

    model = Model({"z": real(plate="rows")}, log_joint, parameters=start, plates={"rows": rows})
    bound = bound_of(model, {"y": y})
    ascent = climb(bound, tol=0.2)
    assert ascent.converged
    assert bound.target.theta.theta.item() == pytest.approx(float(y.mean()), abs=0.1)
    assert ascent.elbo == pytest.approx(float(Normal(y.mean(), 2**0.5).log_prob(y).sum()), abs=0.1)


def test_rates_that_fall_by_a_function():
    model, data, mean, sd, evidence = unknown_mean()
    bound = bound_of(model, data)
    ascent = climb(bound, learning_rate=RobbinsMonro(tau=10.0, kappa=0.7), batch_size=60, tol=0.5)
    assert ascent.converged
    assert bound.family.factors[0].loc.item() == pytest.approx(mean, abs=0.2 * sd)
    assert ascent.elbo == pytest.approx(evidence, abs=0.03)
