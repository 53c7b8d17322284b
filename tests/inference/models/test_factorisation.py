"""Matrix factorisation: factor analysis, closed forms, exact evidence, Gibbs draws, and a bound that never falls."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.inference import State, check_conjugate, evaluate, infer
from jensen.inference.models.factor_analysis import FactorPriors, factor_model
from jensen.inference.models.factorisation import (
    GaussianPriors,
    PoissonPriors,
    PoissonStart,
    climb_ratings,
    gaussian_model,
    gaussian_start,
    poisson_model,
    users_of,
)
from jensen.inference.models.factorisation_predictive import (
    gaussian_log_density,
    gaussian_pairs,
    poisson_log_likelihood,
    poisson_pairs,
)
from jensen.inference.models.incomplete import IncompleteRows
from jensen.inference.models.ratings import Ratings, as_ratings
from jensen.inference.update import fit_local

REFERENCE = Path(__file__).parents[2] / "references" / "factorisation.npz"
SURE = 1e6


def gamma(value: float, *shape: int, concentration: float = 1e-3) -> Gamma:
    """With mean `value`."""
    full = torch.full(shape, concentration, dtype=torch.float64)
    return Gamma.from_standard(full, full / value)


def some_ratings(seed: int, users: int = 30, items: int = 12) -> Ratings:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(users, 2)) @ rng.normal(size=(2, items)) + rng.normal(size=(users, 1)) + rng.normal(size=items)
    x += 0.3 * rng.normal(size=x.shape) + 3
    x[rng.random(x.shape) < 0.5] = np.nan
    return as_ratings(x, counts=False)


def some_counts(seed: int, users: int = 30, items: int = 12) -> Ratings:
    rng = np.random.default_rng(seed)
    return as_ratings(rng.poisson(rng.gamma(0.5, 1, (users, 2)) @ rng.gamma(0.5, 2, (2, items))), counts=True)


def gaussian_problem(seed: int, factors: int = 3) -> tuple[GaussianPriors, State, Ratings, float]:
    ratings = some_ratings(seed)
    priors = GaussianPriors(gamma(1.0), gamma(1.0, factors), gamma(1.0), gamma(1.0))
    generator = torch.Generator().manual_seed(seed)
    start = gaussian_start(priors, ratings.matrix.shape[1], float(ratings.values.var()), generator)
    return priors, start, ratings, float(ratings.values.mean())


def poisson_start(ratings: Ratings, priors: PoissonPriors, factors: int) -> tuple[PoissonStart, torch.Generator]:
    means = torch.as_tensor(np.asarray(ratings.matrix.mean(0)).ravel())
    return PoissonStart(priors, means, factors), torch.Generator().manual_seed(0)


# --- Gaussian --------------------------------------------------------------------------------------------------------


def test_without_user_biases_it_is_factor_analysis() -> None:
    """A user's bias with an all but infinite precision is no bias: then users are rows and items columns of PCA."""
    ratings, offset, k = some_ratings(0), 3.0, 2
    items = ratings.matrix.shape[1]
    start = gaussian_start(
        GaussianPriors(gamma(2.0), gamma(1.0, k), gamma(1.0), gamma(1.0)), items, 1.0, torch.Generator().manual_seed(0)
    ).with_q({"user_precision": gamma(1e12, concentration=SURE), "item_precision": gamma(0.7, concentration=SURE)})
    priors = GaussianPriors(gamma(2.0), gamma(1.0, k), gamma(1e12, concentration=SURE), gamma(0.7, concentration=SURE))
    found = infer(gaussian_model(priors, start, offset), ratings, max_steps=5, tol=0)

    x = np.full(ratings.matrix.shape, np.nan)
    x[ratings.users, ratings.items] = ratings.values - offset
    mean = Normal.from_standard(torch.zeros(items, dtype=torch.float64), 0.7**-0.5)
    same = State(
        q={"loadings": start.q["items"], "mean": start.q["item_bias"], "noise": start.q["noise"], "ard": start.q["ard"]}
    )
    peer = infer(
        factor_model(FactorPriors(mean, priors.noise, priors.ard), same),
        IncompleteRows.from_array(torch.as_tensor(x)),
        max_steps=5,
        tol=0,
    )
    np.testing.assert_allclose(found.elbo_trace, peer.elbo_trace, rtol=0, atol=1e-4)


def test_terms_are_linear_and_chunks_do_not_matter() -> None:
    priors, start, ratings, offset = gaussian_problem(0)
    model = gaussian_model(priors, start, offset)
    check_conjugate(model, ratings, state=start)
    whole = evaluate(model, start, ratings, ["items"])
    parts = evaluate(model, start, ratings, ["items"], chunk_size=7)
    assert parts.elbo == pytest.approx(whole.elbo, rel=1e-12)
    for one, other in zip(whole.targets["items"], parts.targets["items"], strict=True):
        torch.testing.assert_close(one, other)


def test_sweeps_without_rotation_are_the_engines() -> None:
    priors, start, ratings, offset = gaussian_problem(1)
    engine = infer(gaussian_model(priors, start, offset), ratings, max_steps=6, tol=0)
    ours = climb_ratings(priors, start, ratings, offset, max_steps=6, tol=0, rotation=False, chunk_size=11)
    np.testing.assert_allclose(ours.elbo_trace, engine.elbo_trace, rtol=1e-12)


def test_gaussian_bound_never_falls_and_expansion_is_faster() -> None:
    better = []
    for seed in range(8):
        priors, start, ratings, offset = gaussian_problem(seed)
        plain = climb_ratings(priors, start, ratings, offset, max_steps=15, tol=0, rotation=False)
        moved = climb_ratings(priors, start, ratings, offset, max_steps=15, tol=0, warm_up=5)
        for found in (plain, moved):
            assert (np.diff(found.elbo_trace) >= -1e-10 * abs(found.elbo)).all(), seed
        better.append(moved.elbo > plain.elbo)
    assert sum(better) >= 7  # it may end in another local optimum


def test_users_are_those_of_ridge_regression() -> None:
    """Items known: (u, a) given ratings is a linear regression with a normal prior."""
    rng = np.random.default_rng(0)
    k, offset, tau, own = 2, 1.5, 4.0, 0.25
    loadings, bias, values = rng.normal(size=(5, k)), rng.normal(size=5), rng.normal(size=4)
    rated = np.array([0, 1, 3, 4])
    tiny = 1e-14 * torch.eye(k, dtype=torch.float64).expand(5, k, k)
    state = State(
        q={
            "items": MultivariateNormal.from_standard(torch.as_tensor(loadings), tiny),
            "item_bias": Normal.from_standard(torch.as_tensor(bias), 1e-7),
            "noise": gamma(tau, concentration=1e12),
            "user_precision": gamma(own, concentration=1e12),
        }
    )
    users = users_of(state, as_ratings((np.zeros(4, int), rated, values), counts=False, n_items=5), offset)
    design = np.column_stack([loadings[rated], np.ones(4)])
    precision = tau * design.T @ design + np.diag([1.0, 1.0, own])
    expected = np.linalg.solve(precision, tau * design.T @ (values - offset - bias[rated]))
    loc, covariance = users.standard_parameters
    np.testing.assert_allclose(loc[0].numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(covariance[0].numpy(), np.linalg.inv(precision), rtol=1e-6)


def test_gaussian_pairs_against_draws() -> None:
    priors, start, ratings, offset = gaussian_problem(2)
    state = climb_ratings(priors, start, ratings, offset, max_steps=10, tol=0).state
    users, items, bias = users_of(state, ratings, offset)[:6], state.q["items"][:6], state.q["item_bias"][:6]
    moments = gaussian_pairs(users, items, bias, offset)
    generator, count = torch.Generator().manual_seed(0), 100_000
    u, v, b = (q.sample((count,), generator) for q in (users, items, bias))
    draws = offset + u[..., -1] + b + (u[..., :-1] * v).sum(-1)
    error = draws.std(0) / math.sqrt(count)
    assert bool(((draws.mean(0) - moments.mean).abs() < 5 * error).all())
    torch.testing.assert_close(draws.var(0), moments.variance, rtol=0.05, atol=0)
    noise = state.q["noise"]
    spread = (moments.variance + 1 / noise.mean_parameters.mean).sqrt()
    exact = torch.distributions.Normal(moments.mean, spread).log_prob(torch.tensor(2.0))
    torch.testing.assert_close(gaussian_log_density(moments, noise, torch.full_like(exact, 2.0)), exact)


# --- Poisson ---------------------------------------------------------------------------------------------------------


def test_one_user_one_factor_is_a_gamma_posterior() -> None:
    """Items known: u ~ Gamma(a, b) with counts Poisson(u v_j) is conjugate, and the bound is the evidence."""
    a, b, rates, counts = 1.5, 0.8, np.array([0.5, 2.0, 1.0]), np.array([1, 4, 0])
    items = Gamma.from_standard(torch.full((3, 1), 1e10, dtype=torch.float64), 1e10 / torch.as_tensor(rates)[:, None])
    priors = PoissonPriors(a, 1.0, b, 1.0)
    model = poisson_model(priors, items, lambda r: gamma(1.0, len(r), 1, concentration=1.0), 3)
    ratings = as_ratings(counts[None], counts=True)
    state = fit_local(model, State(q={"items": items}), ratings, tol=1e-14, max_steps=100)
    found = state.local["users"].standard_parameters
    assert float(found.concentration) == pytest.approx(a + counts.sum(), rel=1e-9)
    assert float(found.rate) == pytest.approx(b + rates.sum(), rel=1e-9)
    total = counts.sum()
    evidence = (counts * np.log(rates) - special.gammaln(counts + 1)).sum()
    evidence += a * np.log(b) - special.gammaln(a) + special.gammaln(a + total)
    evidence -= (a + total) * np.log(b + rates.sum())
    prior = Gamma.from_standard(1.0, 1.0)
    local = evaluate(model, state, ratings).elbo + float(items.kl_divergence(prior.expand(items.batch_shape)).sum())
    assert local == pytest.approx(evidence, rel=1e-6)


@pytest.mark.parametrize("counts", [[[3]], [[0], [5]], [[1], [2], [0]]])
def test_bound_is_below_the_evidence(counts: list[list[int]]) -> None:
    """One item, one factor: given v each count is negative binomial, and v is integrated numerically."""
    a, b, c, d = 0.7, 0.5, 0.9, 0.4
    ratings = as_ratings(np.array(counts), counts=True)
    priors = PoissonPriors(a, c, b, d)
    start, _ = poisson_start(ratings, priors, 1)
    found = infer(poisson_model(priors, start.items, start.users, 1), ratings, tol=1e-13, max_steps=2000)

    def joint(v: float) -> float:
        likelihood = stats.nbinom(a, b / (b + v)).pmf(np.ravel(counts)).prod()
        return float(stats.gamma(c, scale=1 / d).pdf(v) * likelihood)

    evidence = math.log(sum(integrate.quad(joint, *edges, epsabs=1e-14)[0] for edges in ((0, 0.1), (0.1, 5), (5, 200))))
    assert evidence - 1 < found.elbo < evidence


def test_rates_are_near_those_of_gibbs_draws() -> None:
    """Mean field leaves the dependence between sides out: its means are near, and as good at predicting."""
    reference = np.load(REFERENCE)
    ratings = as_ratings(reference["counts"], counts=True)
    priors = PoissonPriors(0.5, 0.5, 0.4, 0.3)
    start, _ = poisson_start(ratings, priors, 2)
    model = poisson_model(priors, start.items, start.users, ratings.matrix.shape[1])
    found = infer(model, ratings, tol=1e-8, max_steps=1000)
    users, items = found.local["users"].mean_parameters.mean, found.posterior["items"].mean_parameters.mean
    rates, exact = (users @ items.mT).numpy(), reference["rates"]
    error = np.abs(rates[exact > 1] / exact[exact > 1] - 1)
    assert float(np.median(error)) < 0.01  # the Monte Carlo error of the draws
    assert float(error.mean()) < 0.03  # more where a count of zero leaves a rate uncertain
    counts = reference["counts"]
    both = [stats.poisson(r).logpmf(counts).mean() for r in (rates, exact)]
    assert both[0] == pytest.approx(both[1], abs=0.02)


@pytest.mark.parametrize("learned", [False, True])
def test_poisson_bound_never_falls_and_terms_are_linear(learned: bool) -> None:
    rates = [gamma(0.7, concentration=0.5), gamma(1.3, concentration=0.5)] if learned else [0.7, 1.3]
    for seed in range(6):
        ratings = some_counts(seed)
        priors = PoissonPriors(0.3, 0.4, *rates)  # type: ignore[arg-type]
        start, generator = poisson_start(ratings, priors, 3)
        model = poisson_model(priors, start.items, start.users, ratings.matrix.shape[1])
        if seed == 0:
            check_conjugate(model, ratings, state=model.start(generator))
        found = infer(model, ratings, tol=0, max_steps=30, seed=seed)
        assert (np.diff(found.elbo_trace) >= -1e-10 * abs(found.elbo)).all(), seed


def test_learned_rates_are_gamma_updates() -> None:
    """q(xi_i) = Gamma(h + K a, h / mean + sum_k E[u_ik]), and the same of items."""
    h, ratings = 0.5, some_counts(0)
    priors = PoissonPriors(0.3, 0.4, gamma(0.7, concentration=h), gamma(1.3, concentration=h))
    start, _ = poisson_start(ratings, priors, 3)
    found = infer(poisson_model(priors, start.items, start.users, ratings.matrix.shape[1]), ratings, max_steps=5, tol=0)
    for name, of, shape, mean in (
        ("popularity", found.posterior["items"], 0.4, 1.3),
        ("activity", found.local["users"], 0.3, 0.7),
    ):
        q = (found.posterior if name == "popularity" else found.local)[name].standard_parameters
        torch.testing.assert_close(q.concentration, torch.full_like(q.concentration, h + 3 * shape))
        torch.testing.assert_close(q.rate, h / mean + of.mean_parameters.mean.sum(1))


def test_poisson_minibatches_come_near() -> None:
    ratings = some_counts(3, users=60)
    priors = PoissonPriors(0.3, 0.3, 1.0, 0.5)
    start, _ = poisson_start(ratings, priors, 3)
    model = poisson_model(priors, start.items, start.users, ratings.matrix.shape[1])
    best = infer(model, ratings, tol=1e-5, max_steps=60).elbo
    first = infer(model, ratings, tol=0, max_steps=1).elbo
    found = infer(model, ratings, method="svi", batch_size=30, max_steps=8, tol=0)
    assert found.elbo > best - 0.75 * (best - first)
    assert found.elbo_trace[-1] > found.elbo_trace[0]


def test_poisson_pairs_and_likelihood() -> None:
    rng = np.random.default_rng(0)
    users = Gamma.from_standard(torch.as_tensor(rng.gamma(2, 1, (4, 2))), torch.as_tensor(rng.gamma(2, 1, (4, 2))))
    items = Gamma.from_standard(torch.as_tensor(rng.gamma(2, 1, (5, 2))), torch.as_tensor(rng.gamma(2, 1, (5, 2))))
    pairs = poisson_pairs(users[torch.tensor([0, 3])], items[torch.tensor([1, 1])])
    generator = torch.Generator().manual_seed(0)
    u, v = (
        users[torch.tensor([0, 3])].sample((400_000,), generator),
        items[torch.tensor([1, 1])].sample((400_000,), generator),
    )
    draws = (u * v).sum(-1)
    torch.testing.assert_close(draws.mean(0), pairs.mean, rtol=0.02, atol=0)
    torch.testing.assert_close(draws.var(0), pairs.variance, rtol=0.1, atol=0)
    counts = rng.poisson(0.7, (4, 5))
    rates = users.mean_parameters.mean @ items.mean_parameters.mean.mT
    expected = stats.poisson(0.5 * rates.numpy()).logpmf(counts).sum(1)
    found = poisson_log_likelihood(users, items, as_ratings(counts, counts=True), 0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)
