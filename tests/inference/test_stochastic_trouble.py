"""Stochastic ascent never claims what it did not reach, and says what is wrong; its gradients, minibatches and ELBO."""

from __future__ import annotations

import math

import pytest
import torch
from stochastic_models import badly_scaled, bound_of, unknown_mean
from torch.distributions import Normal

from jensen.errors import NonFiniteError
from jensen.inference import pathfinder
from jensen.inference.model import Model
from jensen.inference.noisy import Noisy, fresh_elbo
from jensen.inference.stochastic_ascent import climb
from jensen.inference.supports import real

# --- not converged: said so -------------------------------------------------------------------------------------------


def test_too_few_steps_are_not_convergence():
    model, data, *_ = unknown_mean()
    ascent = climb(bound_of(model, data), max_steps=120, pilot=False)
    assert not ascent.converged
    assert "all steps were made (120)" in ascent.reason
    assert "max_steps=480" in ascent.advice
    assert len(ascent.trace) == 3  # windows of 50, 50 and 20
    assert ascent.evaluations == 120
    assert math.isfinite(ascent.elbo)


def test_seconds_that_are_over_are_not_convergence(monkeypatch):
    """By a clock that goes a second further at each look: the start, then once for each window of 50 steps."""
    clock = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    model, data, mean, sd, _ = unknown_mean()
    bound = bound_of(model, data)
    ascent = climb(bound, seconds=5.5, n_starts=2, tol=1e-9)
    assert not ascent.converged
    assert ascent.reason.startswith("its seconds are over (250 steps)")
    assert "seconds" in ascent.advice
    assert len(ascent.starts) == 1
    assert torch.equal(bound.flat(), ascent.flat)
    assert bound.family.factors[0].loc.item() == pytest.approx(mean, abs=sd)


def test_gradients_of_the_pilot_count():
    model, data, *_ = unknown_mean()
    alone, piloted = (climb(bound_of(model, data), max_steps=50, pilot=pilot) for pilot in (False, True))
    assert alone.evaluations == 50
    calls = []
    target = bound_of(model, data).target
    log_density = target.log_density
    target.log_density = lambda u, batch=None: calls.append(u.requires_grad) or log_density(u, batch)
    _, gradients = pathfinder.place(target, bound_of(model, data).family, seed=0)
    assert 0 < gradients <= len(calls)
    assert piloted.evaluations == 50 + gradients


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


def test_controlled_minibatches_have_the_mean_of_all_data_and_little_noise():
    """At the reference the location's gradients are those of all rows, and near it nearly so."""
    rows = 101  # the last minibatch of each pass has one row
    y = 100 * torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = Model({"mu": real()}, lambda z, d: {"l": -0.5 * (d.y - z.mu) ** 2}, plates={"rows": rows})
    bound = bound_of(model, {"y": y})
    bound.load(torch.tensor([float(y.mean()), -0.5 * math.log(rows)], dtype=torch.float64))
    noisy = Noisy(bound, 2, 10, 0)
    plain = torch.stack([noisy().gradient[0] for _ in range(110)])
    noisy.refer()
    made = noisy.evaluations
    bound.load(torch.tensor([float(y.mean()) + 0.1, -0.5 * math.log(rows)], dtype=torch.float64))
    glimpses = [noisy() for _ in range(110)]
    controlled = torch.stack([g.gradient[0] for g in glimpses])
    torch.testing.assert_close(controlled, torch.full((110,), -0.1 * rows, dtype=torch.float64))  # sum (y - mu)
    assert float(plain.std()) > 1000
    assert noisy.evaluations == made + 110 == 231
    for start in range(0, 110, 11):
        assert sorted(torch.cat([g.index for g in glimpses[start : start + 11]]).tolist()) == list(range(rows))


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
        ({"seconds": 0.0}, "seconds must be positive"),
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
