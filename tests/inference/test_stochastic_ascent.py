"""Stochastic ascent against exact posteriors, enumeration and evidence; it never claims what it did not reach."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from jensen.errors import NonFiniteError
from jensen.gradients import Estimator, Pathwise, ScoreFunction
from jensen.inference.model import Model
from jensen.inference.noisy import Noisy, fresh_elbo
from jensen.inference.objective import Bound
from jensen.inference.steps import RobbinsMonro
from jensen.inference.stochastic_ascent import climb
from jensen.inference.supports import bernoulli, real
from jensen.inference.target import Target
from jensen.inference.variational import full_rank, mean_field

MEANS = torch.tensor([1e4, 1e4, 5.0, -3e-3, 100.0, 1.0], dtype=torch.float64)
SCALES = torch.tensor([1e4, 1.0, 1e-3, 1e-3, 10.0, 1e2], dtype=torch.float64)


def bound_of(model: Model, data=None, family=mean_field, estimator: Estimator | None = None) -> Bound:
    return Bound(Target(model, data), family(model), Pathwise() if estimator is None else estimator)


def badly_scaled() -> Bound:
    return bound_of(Model({"x": real(6)}, lambda z, data: Normal(MEANS, SCALES).log_prob(z.x).sum()))


def unknown_mean(rows: int = 100) -> tuple[Model, dict[str, torch.Tensor], float, float, float]:
    """y ~ N(mu, 1), mu ~ N(0, 10): the model, its data, the exact posterior's mean and sd, the log evidence."""
    y = 3 + torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def log_joint(z, data):
        return {"prior": Normal(0.0, 10.0).log_prob(z.mu), "likelihood": Normal(z.mu, 1.0).log_prob(data.y)}

    precision = rows + 0.01
    # y ~ N(0, I + 100 1 1^T), whose determinant is 1 + 100 N and whose inverse I - 1 1^T / precision
    square = y.square().sum() - y.sum() ** 2 / precision
    evidence = -0.5 * (square + rows * math.log(2 * math.pi) + math.log1p(100 * rows))
    model = Model({"mu": real()}, log_joint, plates={"rows": rows})
    return model, {"y": y}, float(y.sum()) / precision, precision**-0.5, float(evidence)


# --- converged: at the optimum ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_scales_from_a_thousandth_to_ten_thousand_without_tuning(optimiser):
    bound = badly_scaled()
    ascent = climb(bound, optimiser=optimiser)
    factor = bound.family.factors[0]
    assert ascent.converged
    assert ((factor.loc - MEANS).abs() / SCALES).max() < 0.05
    assert (factor.log_scale - SCALES.log()).abs().max() < 0.1
    assert ascent.elbo == pytest.approx(0.0, abs=0.05)  # the target is a normalised density
    assert ascent.advice is None
    assert torch.equal(ascent.flat, bound.flat())


def test_natural_gradients_need_no_pilot_for_it():
    bound = badly_scaled()
    ascent = climb(bound, optimiser="natural", pilot=False, tol=0.5)
    assert ascent.converged
    assert ascent.elbo == pytest.approx(0.0, abs=0.05)


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


def test_full_rank_finds_the_covariance():
    half = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = half @ half.T
    target = MultivariateNormal(torch.tensor([1.0, -50.0, 3.0], dtype=torch.float64), covariance)
    bound = bound_of(Model({"x": real(3)}, lambda z, data: target.log_prob(z.x)), family=full_rank)
    ascent = climb(bound, tol=0.5)
    tril = bound.family().factors[0].scale_tril
    assert ascent.converged
    assert ascent.elbo == pytest.approx(0.0, abs=0.05)
    torch.testing.assert_close(tril @ tril.T, covariance, rtol=0.1, atol=0.3)


def test_latents_of_rows_by_minibatches():
    """y_n ~ N(theta_n, 1), theta_n ~ N(mu, 1/2): the mean field's means are exact, its precisions the diagonal."""
    rows = 8
    y = 3 + torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def log_joint(z, data):
        prior = {"mu": Normal(0.0, 10.0).log_prob(z.mu), "theta": Normal(z.mu, 0.5).log_prob(z.theta)}
        return prior | {"likelihood": Normal(z.theta, 1.0).log_prob(data.y)}

    precision = torch.diag(torch.tensor([4.0 * rows + 0.01] + [5.0] * rows, dtype=torch.float64))
    precision[0, 1:] = precision[1:, 0] = -4
    exact = torch.linalg.solve(precision, torch.cat([torch.zeros(1, dtype=torch.float64), y]))
    model = Model({"mu": real(), "theta": real(plate="rows")}, log_joint, plates={"rows": rows})
    bound = bound_of(model, {"y": y})
    ascent = climb(bound, batch_size=5, tol=2.0)
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
    peer = torch.optim.Adam([logits], lr=0.05, maximize=True)
    for _ in range(500):
        peer.zero_grad()
        exact(logits).backward()
        peer.step()
    bound = bound_of(model, estimator=ScoreFunction(rao_blackwell=True, control_variate="leave_one_out"))
    ascent = climb(bound)
    assert ascent.converged
    assert exact(ascent.flat).item() == pytest.approx(exact(logits).item(), abs=0.01)
    assert abs(ascent.elbo - exact(ascent.flat).item()) < 5 * ascent.elbo_se


def test_parameters_of_the_model_climb_too():
    """y_n ~ N(z_n, 1), z_n ~ N(theta, 1): the evidence is highest at the mean of the data."""
    rows = 5
    y = 3 + torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    start = {"theta": torch.zeros((), dtype=torch.float64)}

    def log_joint(z, data):
        return Normal(z.theta, 1.0).log_prob(z.z) + Normal(z.z, 1.0).log_prob(data.y)

    model = Model({"z": real(plate="rows")}, log_joint, parameters=start, plates={"rows": rows})
    bound = bound_of(model, {"y": y})
    ascent = climb(bound)
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


# --- not converged: said so -------------------------------------------------------------------------------------------


def test_too_few_steps_are_not_convergence():
    model, data, *_ = unknown_mean()
    ascent = climb(bound_of(model, data), max_steps=120)
    assert not ascent.converged
    assert "all steps were made (120)" in ascent.reason
    assert "max_steps=480" in ascent.advice
    assert len(ascent.trace) == 3  # windows of 50, 50 and 20
    assert ascent.evaluations == 120
    assert math.isfinite(ascent.elbo)


@pytest.mark.parametrize("optimiser", ["adam", "natural"])
def test_an_improper_posterior_is_not_convergence(optimiser):
    """Flat in one direction: q widens for ever, and the bound grows with it."""
    model = Model({"x": real(2)}, lambda z, data: -0.5 * z.x[0] ** 2)
    ascent = climb(bound_of(model), optimiser=optimiser, max_steps=1000, pilot=False)
    assert not ascent.converged
    assert "stationary" in ascent.reason


def test_noise_larger_than_the_tolerance_is_not_convergence():
    model, data, *_ = unknown_mean()
    ascent = climb(bound_of(model, data), batch_size=2, samples=1, tol=1e-6, max_steps=1000)
    assert not ascent.converged
    assert "noise left" in ascent.reason or "stationary" in ascent.reason
    assert "batch_size" in ascent.advice


def test_interrupted():
    model, data, *_ = unknown_mean()
    seen = []

    def stop(step, elbo, flat):
        seen.append((step, elbo))
        if step == 150:
            raise KeyboardInterrupt

    bound = bound_of(model, data)
    ascent = climb(bound, callback=stop, n_starts=3)
    assert not ascent.converged
    assert ascent.reason.startswith("interrupted (150)")
    assert [step for step, _ in seen] == [50, 100, 150]
    assert ascent.trace == [elbo for _, elbo in seen]
    assert torch.equal(bound.flat(), ascent.flat)
    assert len(ascent.starts) == 1


# --- trouble ----------------------------------------------------------------------------------------------------------


def test_a_term_that_is_never_finite_is_named():
    model = Model({"x": real()}, lambda z, data: {"fine": -(z.x**2), "root": torch.sqrt(z.x - 100)})
    with pytest.raises(NonFiniteError, match=r"term 'root' .* is NaN or infinite"):
        climb(bound_of(model), pilot=False)


def test_a_gradient_that_is_not_finite_is_named_and_parameters_are_kept():
    """sqrt has a finite value and an infinite slope at 0."""
    model = Model({"x": real()}, lambda z, data: {"a": -(z.x**2), "b": torch.sqrt((0 * z.x).abs())})
    bound = bound_of(model)
    with pytest.raises(NonFiniteError, match=r"the gradient in family\.factors\.0\.loc"):
        climb(bound, pilot=False)
    assert bool(bound.flat().isfinite().all())


def test_steps_that_are_too_long_are_halved():
    """Beyond 10 the log joint is NaN, and first steps of 12 standard deviations lead there."""

    def log_joint(z, data):
        return torch.where(z.x.abs() < 10, -0.5 * (z.x - 3) ** 2, torch.nan)

    bound = bound_of(Model({"x": real()}, log_joint))
    ascent = climb(bound, learning_rate=12.0, pilot=False)
    assert ascent.converged
    assert ascent.elbo == pytest.approx(0.5 * math.log(2 * math.pi), abs=0.05)


def test_starts_that_disagree_are_reported_and_the_best_is_kept():
    def log_joint(z, data):
        modes = torch.stack([Normal(-6.0, 0.5).log_prob(z.x), Normal(6.0, 0.5).log_prob(z.x)])
        return torch.logsumexp(modes + torch.tensor([0.95, 0.05], dtype=torch.float64).log(), 0)

    bound = bound_of(Model({"x": real()}, log_joint))
    ascent = climb(bound, n_starts=3, tol=0.5)
    assert ascent.converged
    assert ascent.elbo == pytest.approx(math.log(0.95), abs=0.05)
    assert bound.family.factors[0].loc.item() == pytest.approx(-6, abs=0.1)
    lower = [elbo for elbo, _ in ascent.starts if elbo == pytest.approx(math.log(0.05), abs=0.1)]
    assert 0 < len(lower) < 3
    assert f"{len(lower)} of 3 starts ended lower" in ascent.notes[0]


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_a_pass_sees_each_row_once_and_its_last_batch_counts_as_much_as_the_others():
    """Gradients of a likelihood that is linear in mu, weighted by their share, sum up to that of all rows."""
    rows = 10
    y = torch.arange(rows, dtype=torch.float64) ** 2
    model = Model({"mu": real()}, lambda z, data: {"l": data.y * z.mu}, plates={"rows": rows})
    bound = bound_of(model, {"y": y})
    noisy = Noisy(bound, 2, 4, 0)
    glimpses = [noisy() for _ in range(6)]
    for passed in (glimpses[:3], glimpses[3:]):
        assert sorted(torch.cat([g.index for g in passed]).tolist()) == list(range(rows))
        assert [len(g.index) for g in passed] == [4, 4, 2]
        # each gradient in loc is N / B times its rows' sum: with the scale N / batch_size the last would be half of it
        for glimpse in passed:
            expected = rows / len(glimpse.index) * float(y[glimpse.index].sum())
            assert float(glimpse.gradient[0]) == pytest.approx(expected)
        assert sum(g.share * float(g.gradient[0]) for g in passed) == pytest.approx(float(y.sum()))
    assert glimpses[0].index.tolist() != glimpses[3].index.tolist()


def test_antithetic_draws_leave_no_noise_in_a_quadratic():
    bound = bound_of(Model({"x": real()}, lambda z, data: -0.5 * (z.x - 100) ** 2))
    noisy = Noisy(bound, 4, None, 0)
    gradients = torch.stack([noisy().gradient for _ in range(200)])
    torch.testing.assert_close(gradients[:, 0], torch.full((200,), 100.0, dtype=torch.float64))
    # 1 - mean of two squares: variance 2 / 2; without pairs the slope of 100 would make it 10,000 / 4
    assert float(gradients[:, 1].mean()) == pytest.approx(0.0, abs=0.3)
    assert float(gradients[:, 1].var()) == pytest.approx(1.0, rel=0.4)


def test_fresh_elbo_in_pieces_of_many_rows():
    model, data, mean, sd, _ = unknown_mean(10_000)
    bound = bound_of(model, data)
    bound.load(torch.tensor([mean, math.log(3 * sd)], dtype=torch.float64))
    elbo, error = fresh_elbo(bound, 500, 0)
    # E_q of the log joint, and the entropy, in closed form
    s2 = 9 * sd**2
    likelihood = Normal(mean, 1.0).log_prob(data["y"]).sum() - 0.5 * 10_000 * s2
    prior = Normal(0.0, 10.0).log_prob(torch.tensor(mean)) - 0.5 * s2 / 100
    exact = float(likelihood + prior) + 0.5 * math.log(2 * math.pi * math.e * s2)
    assert abs(elbo - exact) < 4 * error
    assert error < 0.5


def test_the_same_seed_gives_the_same_result():
    model, data, *_ = unknown_mean()
    first, again, other = (climb(bound_of(model, data), batch_size=30, max_steps=100, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.flat, again.flat)
    assert first.trace == again.trace
    assert not torch.equal(first.flat, other.flat)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "must be positive"),
        ({"learning_rate": "adaptive"}, "learning_rate must be"),
        ({"samples": 0}, "samples must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"max_steps": 0}, "max_steps and n_starts"),
        ({"n_starts": 0}, "max_steps and n_starts"),
        ({"tol": 0.0}, "tol must be positive"),
        ({"optimiser": "lbfgs"}, "optimiser must be one of"),
    ],
)
def test_arguments_are_checked(options, message):
    model, data, *_ = unknown_mean()
    with pytest.raises(ValueError, match=message):
        climb(bound_of(model, data), **options)


def test_minibatches_need_a_plate():
    with pytest.raises(ValueError, match="minibatches need a plate"):
        climb(badly_scaled(), batch_size=10)
