"""Deterministic ascent against exact posteriors and evidence; and that it never claims what it did not reach."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Cauchy, HalfCauchy, Laplace, Normal

from jensen.errors import NonFiniteError
from jensen.gradients import automatic
from jensen.inference.climb import Ascent
from jensen.inference.deterministic import climb
from jensen.inference.draws import Draws
from jensen.inference.fixed_draws import at_draws, fresh_elbo, starts_of
from jensen.inference.minimise import minimise
from jensen.inference.model import Model
from jensen.inference.modes import modes_of
from jensen.inference.objective import Bound
from jensen.inference.supports import bernoulli, bounded, positive, real
from jensen.inference.target import Target
from jensen.inference.variational.full_rank import full_rank
from jensen.inference.variational.make import mean_field

FLOAT = torch.float64


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=FLOAT, generator=torch.Generator().manual_seed(seed))


def bound_of(model: Model, data: Any = None, family: Any = mean_field) -> Bound:
    made = family(model)
    return Bound(Target(model, data), made, automatic(made(None)))


def parts(bound: Bound, found: Ascent, name: str) -> Tensor:
    """A parameter of every factor, one after the other."""
    return torch.cat([p.reshape(-1) for n, p in bound.at(found.flat).items() if n.endswith(name)])


def gaussian(size: int, seed: int = 0) -> tuple[Model, Tensor, Tensor]:
    """A normal posterior with evidence 1: the model, its mean, its precision."""
    root = random(size, size, seed=seed)
    precision = root @ root.T + 0.1 * torch.eye(size, dtype=FLOAT)
    mean = 10 * random(size, seed=seed + 1)
    constant = 0.5 * torch.logdet(precision) - 0.5 * size * math.log(2 * math.pi)
    return (
        Model({"x": real(size)}, lambda z, _: constant - 0.5 * (z.x - mean) @ precision @ (z.x - mean)),
        mean,
        precision,
    )


def test_mean_field_of_a_normal_posterior_is_exact() -> None:
    """sd_i = P_ii^(-1/2), ELBO = -(sum log P_ii - log det P) / 2: from 4 D draws, with no error."""
    model, mean, precision = gaussian(8)
    bound = bound_of(model)
    found = climb(bound)
    assert found.converged, found.reason
    torch.testing.assert_close(parts(bound, found, "loc"), mean, atol=1e-7, rtol=1e-7)
    torch.testing.assert_close(parts(bound, found, "log_scale"), -0.5 * precision.diagonal().log(), atol=1e-7, rtol=0)
    exact = -0.5 * float(precision.diagonal().log().sum() - torch.logdet(precision))
    assert found.trace[-1] == pytest.approx(exact, abs=1e-6)
    assert abs(found.elbo - exact) < 4 * found.elbo_se + 1e-6


def test_full_rank_of_a_normal_posterior_is_the_posterior() -> None:
    model, _, precision = gaussian(6, seed=2)
    bound = bound_of(model, family=full_rank)
    found = climb(bound)
    assert found.converged, found.reason
    bound.load(found.flat)
    root = bound.family(None).factors[0].scale_tril.detach()
    torch.testing.assert_close(root @ root.T, torch.linalg.inv(precision), rtol=1e-4, atol=1e-6)
    assert found.elbo == pytest.approx(0.0, abs=1e-5)  # the log evidence
    assert found.elbo_se < 1e-5


def test_wild_units_converge() -> None:
    """Coefficients of order 1e5, a residual sd of order 1e4 and flat priors, from zero: least squares."""
    rows = 200
    height = 4.2 + 0.06 * random(rows, seed=3)
    y = torch.exp(9.5 + 2 * (height - 4.2) + 0.8 * random(rows, seed=4))
    design = torch.stack([torch.ones(rows, dtype=FLOAT), height], 1)

    def log_joint(z: Any, data: Any) -> Tensor:
        return Normal(data.design @ z.beta, z.sigma).log_prob(data.y).sum()

    bound = bound_of(Model({"beta": real(2), "sigma": positive()}, log_joint), {"y": y, "design": design})
    found = climb(bound)
    assert found.converged, found.reason
    beta = torch.linalg.lstsq(design, y).solution
    squares = (y - design @ beta).square().sum()
    assert found.linear_response is not None
    # beta ~ t with N - 2 degrees of freedom under flat priors on beta and log sigma (the Jacobian is in the density).
    shape = 0.5 * (rows - 3)
    covariance = torch.linalg.inv(design.T @ design) * 0.5 * squares / (shape - 1)
    torch.testing.assert_close(parts(bound, found, "loc")[:2], beta, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.linear_response[:2, :2], covariance, rtol=0.03, atol=0)
    # E log sigma for sigma^2 ~ InvGamma(shape, squares / 2) with the density in sigma.
    expected = 0.5 * (torch.log(0.5 * squares) - torch.digamma(torch.tensor(shape, dtype=FLOAT)))
    assert float(parts(bound, found, "loc")[2]) == pytest.approx(float(expected), abs=0.01)


def logistic() -> tuple[Model, dict[str, Tensor]]:
    design = random(60, 4, seed=5)
    y = (torch.rand(60, dtype=FLOAT, generator=torch.Generator().manual_seed(6)) < torch.sigmoid(design[:, 0])).to(
        FLOAT
    )

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {"prior": Normal(0.0, 2.0).log_prob(z.w).sum(), "y": Bernoulli(logits=data.x @ z.w).log_prob(data.y)}

    return Model({"w": real(4)}, log_joint, plates={"rows": 60}), {"x": design, "y": y}


def test_elbo_is_that_of_closed_form_expectations() -> None:
    """ELBO of a logistic regression by one-dimensional quadrature of each row's predictor, at the optimum found."""
    model, data = logistic()
    bound = bound_of(model, data)
    found = climb(bound)
    assert found.converged, found.reason
    loc, variance = parts(bound, found, "loc"), (2 * parts(bound, found, "log_scale")).exp()

    def elbo(loc: Tensor, variance: Tensor) -> Tensor:
        nodes = torch.linspace(-9, 9, 801, dtype=FLOAT)
        weights = torch.softmax(-0.5 * nodes**2, 0)
        mean, sd = data["x"] @ loc, (data["x"] ** 2 @ variance).sqrt()
        a = mean[:, None] + sd[:, None] * nodes
        fit = ((data["y"][:, None] * a - torch.nn.functional.softplus(a)) * weights).sum()
        prior = (-0.5 * (loc**2 + variance) / 4 - math.log(2) - 0.5 * math.log(2 * math.pi)).sum()
        return fit + prior + 0.5 * (variance.log() + 1 + math.log(2 * math.pi)).sum()

    exact = elbo(loc, variance)
    assert abs(found.elbo - float(exact)) < 4 * found.elbo_se
    assert found.trace[-1] == pytest.approx(float(exact), abs=0.01)
    # and it is the optimum of that exact ELBO
    best = minimise(lambda x: -torch.stack([elbo(row[:4], (2 * row[4:]).exp()) for row in x]), found.flat.unsqueeze(0))
    assert 0 <= float(-best.value[0] - exact) < 0.002


def test_the_same_seed_gives_the_same_answer_and_another_one_nearly() -> None:
    model, data = logistic()
    first, again, other = (climb(bound_of(model, data), seed=s) for s in (1, 1, 2))
    torch.testing.assert_close(first.flat, again.flat, atol=0, rtol=0)
    assert first.elbo == again.elbo
    assert not torch.equal(first.flat, other.flat)
    assert abs(first.elbo - other.elbo) < 4 * math.hypot(first.elbo_se, other.elbo_se)


def test_the_bound_keeps_its_parameters_and_progress_is_told() -> None:
    model, data = logistic()
    bound = bound_of(model, data)
    before = bound.flat()
    told: list[tuple[int, float]] = []
    found = climb(bound, callback=lambda gradients, elbo: told.append((gradients, elbo)))
    torch.testing.assert_close(bound.flat(), before, atol=0, rtol=0)
    assert all(elbo in found.trace for _, elbo in told)  # beside the first ascent's steps
    assert told[-1][1] == found.trace[-1]
    assert len(found.trace) > len(told)
    assert told[-1][0] <= found.evaluations
    assert len(found.starts) == 4


def test_draws_grow_where_few_do_not_do() -> None:
    """An exponential of a wide normal: with two draws the optimum is far off, and more are taken until it is not."""
    model = Model({"x": real(2)}, lambda z, _: -(z.x.exp().sum()) + z.x.sum() - 0.02 * z.x.square().sum())
    bound = bound_of(model)
    found = climb(bound, draws=2)
    assert found.converged, found.reason

    # E exp(x) = exp(m + s^2 / 2) and E x^2 are closed: minus the ELBO of each coordinate
    def exact(x: Tensor) -> Tensor:
        m, log_s = x[:, :2], x[:, 2:]
        v = (2 * log_s).exp()
        return ((m + v / 2).exp() - m + 0.02 * (m**2 + v) - log_s).sum(-1)

    best = minimise(exact, torch.zeros(1, 4, dtype=FLOAT), tolerance=1e-10)
    assert 0 <= float(exact(found.flat.unsqueeze(0)) - best.value) < 0.02
    assert "draws leave the bound" in found.reason


def test_too_few_draws_are_admitted() -> None:
    model = Model({"v": real(), "x": real(9)}, lambda z, _: Normal(0.0, 3.0).log_prob(z.v) + _narrow(z))
    found = climb(bound_of(model, family=full_rank), draws=4, max_draws=64, tol=1e-6, evaluations=60)
    assert not found.converged
    assert found.advice is not None


def _narrow(z: Any) -> Tensor:
    return Normal(0.0, torch.exp(z.v / 2)).log_prob(z.x).sum()


@pytest.mark.parametrize(
    ("latents", "log_joint", "words"),
    [
        ({"x": real(), "y": real()}, lambda z, _: -0.5 * (z.x + z.y - 1) ** 2, "positive definite"),
        ({"x": real()}, lambda z, _: 0 * z.x, r"log_scale of q\(x\) ran off"),
        ({"x": real(), "s": positive()}, lambda z, _: -0.5 * z.x**2, r"q\(s\) ran off"),
        ({"x": real()}, lambda z, _: z.x, "ran off|positive definite|promises"),
    ],
)
def test_improper_posteriors_do_not_converge(latents: Any, log_joint: Any, words: str) -> None:
    found = climb(bound_of(Model(latents, log_joint)), evaluations=150)
    assert not found.converged
    assert found.advice
    assert re.search(words, found.reason), found.reason


def test_kinks_are_not_called_an_optimum_without_reason() -> None:
    """At few draws the bound of a Laplace posterior is piecewise: if it is called converged, it is right."""
    found = climb(bound_of(Model({"x": real(4)}, lambda z, _: Laplace(0.0, 1.0).log_prob(z.x).sum())))
    # E|x| = s sqrt(2 / pi) for N(0, s^2), so that s = sqrt(pi / 2) at the optimum.
    best = 4 * (-math.log(2) - 1 + 0.5 * math.log(math.pi / 2) + 0.5 * (1 + math.log(2 * math.pi)))
    assert found.elbo < best + 4 * found.elbo_se
    if found.converged:
        assert found.elbo > best - 0.05 - 4 * found.elbo_se
    else:
        assert "stochastic" in str(found.advice)


def test_several_optima_are_told() -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        modes = [Normal(-6.0, 1.0).log_prob(z.x) + math.log(0.3), Normal(6.0, 1.0).log_prob(z.x) + math.log(0.7)]
        return torch.logsumexp(torch.stack(modes), 0)

    found = climb(bound_of(Model({"x": real()}, log_joint)), n_starts=8, seed=1)
    assert found.converged
    assert found.elbo == pytest.approx(math.log(0.7), abs=0.02)
    assert any("other optima" in note for note in found.notes)
    elbos = sorted(elbo for elbo, _ in found.starts)
    assert elbos[0] == pytest.approx(math.log(0.3), abs=0.02)
    assert len(found.starts) == 8


@pytest.mark.parametrize("log_joint", [lambda z, _: Cauchy(0.0, 1.0).log_prob(z.x).sum()])
def test_heavy_tails_give_the_best_normal(log_joint: Any) -> None:
    found = climb(bound_of(Model({"x": real(2)}, log_joint)))
    assert found.converged, found.reason
    nodes = torch.linspace(-10, 10, 4001, dtype=FLOAT)
    weights = torch.softmax(-0.5 * nodes**2, 0)

    def exact(x: Tensor) -> Tensor:  # of one coordinate
        u = x[:, :1] + x[:, 1:].exp() * nodes
        return (
            (weights * torch.log1p(u.square())).sum(-1)
            + math.log(math.pi)
            - x[:, 1]
            - 0.5 * (1 + math.log(2 * math.pi))
        )

    best = -2 * float(minimise(exact, torch.zeros(1, 2, dtype=FLOAT)).value)
    assert abs(found.elbo - best) < 4 * found.elbo_se + 0.02


def test_holes_in_the_support_are_walked_round() -> None:
    found = climb(bound_of(Model({"x": real()}, lambda z, _: torch.log(z.x + 5) - 0.5 * (10 * z.x) ** 2)))
    assert found.converged, found.reason


def test_nan_everywhere_is_an_error_that_says_what_to_look_for() -> None:
    bound = bound_of(Model({"x": real()}, lambda z, _: torch.log(-1 - z.x**2)))
    with pytest.raises(NonFiniteError, match="every one of"):
        climb(bound)


def test_posteriors_at_a_boundary_converge_to_it() -> None:
    """p near 1: -log(1 - p) is exponential with rate 1e3."""
    found = climb(bound_of(Model({"p": bounded(0.0, 1.0)}, lambda z, _: 1e3 * z.p)))
    assert found.converged, found.reason
    exact = 1e3 - math.log(1e3)  # log of the integral
    assert exact - 0.1 < found.elbo < exact + 4 * found.elbo_se


def test_log_joints_that_cannot_be_vectorised() -> None:
    def log_joint(z: Any, data: Any) -> Tensor:
        return -0.5 * z.x**2 * (2.0 if float(z.x.detach()) < 1e9 else 1.0)

    bound = bound_of(Model({"x": real()}, log_joint))
    bound.target.check({"x": random(4)})
    assert not bound.target.vectorised
    found = climb(bound, n_starts=2)
    assert found.converged, found.reason
    assert float(parts(bound, found, "log_scale")) == pytest.approx(-0.5 * math.log(2), abs=1e-6)


def test_all_latents_enumerated_leave_the_evidence() -> None:
    y = torch.tensor([1.5, -0.2, 0.7], dtype=FLOAT)

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {
            "prior": Bernoulli(torch.tensor(0.3, dtype=FLOAT)).log_prob(z.k),
            "y": Normal(2 * z.k, 1.0).log_prob(data.y),
        }

    model = Model({"k": bernoulli(plate="rows")}, log_joint, plates={"rows": 3})
    found = climb(bound_of(model, {"y": y}))
    evidence = torch.logsumexp(
        torch.stack([math.log(0.7) + Normal(0.0, 1.0).log_prob(y), math.log(0.3) + Normal(2.0, 1.0).log_prob(y)]), 0
    ).sum()
    assert found.converged, found.reason
    assert found.elbo == pytest.approx(float(evidence), abs=1e-5)


def test_starts_are_modes_where_there_are_some() -> None:
    model, mean, precision = gaussian(5, seed=9)
    bound = bound_of(model)
    target = bound.target
    found = modes_of(target, 2 * random(3, 5, seed=1), 200)
    assert found.of_start == [0, 0, 0]
    torch.testing.assert_close(found.centres[0], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.sds[0], precision.diagonal().rsqrt(), rtol=1e-6, atol=0)
    noise = Draws(5, torch.Generator().manual_seed(0)).matched(20)
    starts = starts_of(bound, 3, at_draws(bound, noise), torch.Generator().manual_seed(0), 200)
    assert starts.flat.shape == (1, 10)
    centred = Model({"v": real(), "x": real(4)}, lambda z, _: _narrow(z))
    assert modes_of(Target(centred), torch.zeros(1, 5, dtype=FLOAT), 30).of_start == [None]


def test_fresh_elbo_is_unbiased_and_its_error_honest() -> None:
    """Against the closed form of a normal q away from the optimum, over seeds."""
    model, mean, precision = gaussian(4, seed=11)
    bound = bound_of(model)
    flat = torch.cat([mean + 0.3, torch.full((4,), -0.4, dtype=FLOAT)])
    variance = math.exp(-0.8)
    shift = torch.full((4,), 0.3, dtype=FLOAT)
    constant = 0.5 * torch.logdet(precision) - 2 * math.log(2 * math.pi)
    exact = constant - 0.5 * (shift @ precision @ shift + variance * precision.trace())
    exact = float(exact) + 4 * (-0.4 + 0.5 * (1 + math.log(2 * math.pi)))
    scores = []
    for seed in range(60):
        found = fresh_elbo(bound, flat, Draws(4, torch.Generator().manual_seed(seed)).plain(400))
        scores.append((found.elbo - exact) / found.error)
    size = math.sqrt(sum(s * s for s in scores) / len(scores))
    assert abs(sum(scores) / len(scores)) < 4 / math.sqrt(len(scores))
    assert 0.7 < size < 1.3


def test_half_cauchy_scales_and_many_coordinates() -> None:
    """Horseshoe-like: more parameters than Hessians are written down for."""
    y = torch.cat([torch.full((5,), 4.0, dtype=FLOAT), 0.5 * random(155, seed=12)])

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        half = HalfCauchy(torch.tensor(1.0, dtype=FLOAT))
        return {
            "tau": half.log_prob(z.tau),
            "prior": Normal(0.0, 1.0).log_prob(z.x),
            "y": Normal(z.tau * z.x, 1.0).log_prob(data.y),
        }

    model = Model({"tau": positive(), "x": real(plate="rows")}, log_joint, plates={"rows": 160})
    bound = bound_of(model, {"y": y})
    assert len(bound.flat()) > 300
    found = climb(bound, n_starts=1)
    assert found.converged, found.reason
    assert abs(found.trace[-1] - found.elbo) < 4 * found.elbo_se + 0.2
    # given tau, x is normal with precision 1 + tau^2: the optimum satisfies E over q(tau) of it
    loc, log_scale = parts(bound, found, "loc"), parts(bound, found, "log_scale")
    tau, tau_sd = loc[0], log_scale[0].exp()
    square = torch.exp(2 * tau + 2 * tau_sd**2)
    first = torch.exp(tau + 0.5 * tau_sd**2)
    torch.testing.assert_close(log_scale[1:], (-0.5 * torch.log1p(square)).expand(160), atol=0.01, rtol=0)
    torch.testing.assert_close(loc[1:], y * first / (1 + square), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_starts": 0}, "n_starts"),
        ({"tol": 0.0}, "tol"),
        ({"draws": 1}, "draws must be at least 2"),
        ({"max_draws": 8}, "max_draws at least"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        climb(bound_of(gaussian(2)[0]), **options)


def test_a_wrong_sign_is_seen_to_be_unbounded() -> None:
    found = climb(bound_of(Model({"x": real(2)}, lambda z, _: -Normal(0.0, 1.0).log_prob(z.x).sum())))
    assert not found.converged
    assert "unbounded above" in found.reason
    assert "sign" in str(found.advice)


def test_the_trace_climbs_from_the_start() -> None:
    model, data = logistic()
    found = climb(bound_of(model, data), draws=64)
    assert len(found.trace) > 3
    first = found.trace[: len(found.trace) - 1]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(first))
    assert all(math.isfinite(value) for value in found.trace)
