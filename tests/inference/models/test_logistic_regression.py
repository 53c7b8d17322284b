"""The Jaakkola-Jordan bound: below the ELBO, the same as Polya-Gamma augmentation, and near the posterior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import digamma, gammaln
from torch import Tensor

from jensen.families import Gamma, MultivariateNormal
from jensen.inference import Columns, Result, State, check_conjugate, evaluate, infer
from jensen.inference.models.glm import LOGISTIC, generalised_linear_model
from jensen.inference.models.logistic_regression import (
    jaakkola_jordan_weight,
    log_two_cosh_half_root,
    logistic_regression,
    predictive_probability,
)
from jensen.inference.models.weights import Centring, WeightPrior

FIXED = WeightPrior(ard=False, precision=1.0)


def problem(n: int = 60, classes: int = 1) -> tuple[Centring, Columns, Tensor]:
    rng = np.random.default_rng(3)
    x = rng.normal([5.0, 0.0, -2.0], size=(n, 3))
    t = (rng.random((n, classes)) < 1 / (1 + np.exp(-(x - x.mean(0)) @ rng.normal(size=(3, classes)) * 1.5))) * 1.0
    rows = torch.from_numpy(x)
    centring = Centring.of(rows, intercept=True, scale=10.0)
    return centring, Columns(x=centring.rows(rows), t=torch.from_numpy(t)), torch.ones(3, dtype=torch.float64)


def weights(result: Result) -> MultivariateNormal:
    q = result.posterior["weights"]
    assert isinstance(q, MultivariateNormal)
    return q


# --- the bound's two functions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("u", [0.0, 1e-12, 1e-6, 0.9e-3, 1.1e-3, 0.3, 4.0, 1e3, 1e6])
def test_the_bound_and_its_slope(u: float) -> None:
    v = torch.tensor(u, dtype=torch.float64, requires_grad=True)
    value = log_two_cosh_half_root(v)
    xi = math.sqrt(u)
    assert value.item() == pytest.approx(float(np.logaddexp(xi / 2, -xi / 2)), rel=1e-14)
    (slope,) = torch.autograd.grad(value, v)
    weight = jaakkola_jordan_weight(torch.tensor(xi, dtype=torch.float64)).item()
    assert slope.item() == pytest.approx(weight, rel=1e-10)
    expected = 0.125 - u / 96 if xi < 1e-3 else math.tanh(xi / 2) / (4 * xi)
    assert weight == pytest.approx(expected, rel=1e-10)


def test_the_bound_lies_below_the_log_probability_and_touches_it_at_xi() -> None:
    s = np.linspace(-9, 9, 181)
    for xi in (0.0, 0.5, 3.0):
        slope = jaakkola_jordan_weight(torch.tensor(xi, dtype=torch.float64)).item()
        bound = s / 2 - math.log(2 * math.cosh(xi / 2)) - slope * (s**2 - xi**2)
        exact = -np.logaddexp(0, -s)
        assert (bound <= exact + 1e-12).all()
        touching = np.abs(np.abs(s) - xi) < 1e-9
        assert touching.any()
        np.testing.assert_allclose(bound[touching], exact[touching], atol=1e-12)


# --- Polya-Gamma ------------------------------------------------------------------------------------------------------


def polya_gamma_mean(c: float, terms: int = 200_000) -> float:
    """E of PG(1, c) from its definition, the sum of g_k / (2 pi^2 ((k - 1/2)^2 + c^2 / (4 pi^2))), g_k ~ Exp(1)."""
    k = np.arange(1, terms + 1) - 0.5
    tail = 1 / terms  # of the sum over 1 / k^2
    return float(((1 / (k**2 + c**2 / (4 * np.pi**2))).sum() + tail) / (2 * np.pi**2))


@pytest.mark.parametrize("c", [0.0, 0.3, 2.0, 15.0])
def test_twice_the_weight_is_the_mean_of_a_polya_gamma_variable(c: float) -> None:
    weight = jaakkola_jordan_weight(torch.tensor(c, dtype=torch.float64)).item()
    assert 2 * weight == pytest.approx(polya_gamma_mean(c), rel=1e-9)


def polya_gamma_sweep(
    x: np.ndarray, t: np.ndarray, prior: np.ndarray, loc: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """One sweep of q(omega) q(w), and the ELBO of the augmented model after it (log p(t, omega, w) / q)."""
    c = np.sqrt(((x @ (covariance + np.outer(loc, loc))) * x).sum(1))
    omega = np.array([polya_gamma_mean(one, 20_000) for one in c])
    precision = x.T @ (omega[:, None] * x) + np.diag(prior)
    covariance = np.linalg.inv(precision)
    loc = covariance @ x.T @ (t - 0.5)
    square = ((x @ (covariance + np.outer(loc, loc))) * x).sum(1)
    # KL(PG(1, c) || PG(1, 0)) = log cosh(c / 2) - c^2 / 2 E[omega]
    divergence = np.logaddexp(c / 2, -c / 2) - np.log(2) - 0.5 * c**2 * omega
    likelihood = (t - 0.5) @ x @ loc - 0.5 * omega @ square - len(t) * np.log(2)
    second = np.diag(covariance) + loc**2
    prior_term = 0.5 * (np.log(prior) - np.log(2 * np.pi) - prior * second).sum()
    entropy = 0.5 * np.linalg.slogdet(covariance)[1] + 0.5 * len(loc) * (1 + np.log(2 * np.pi))
    return loc, covariance, float(likelihood - divergence.sum() + prior_term + entropy)


def test_updates_and_bound_coincide_with_polya_gamma_augmentation() -> None:
    centring, data, start = problem()
    model = logistic_regression(centring, FIXED, start)
    x, t = data.x.numpy(), data.t[:, 0].numpy()
    prior = np.array([1.0, 1.0, 1.0, 0.01])
    loc, covariance = np.zeros(4), np.diag(1 / prior)
    for sweeps in (1, 2, 3):
        loc, covariance, elbo = polya_gamma_sweep(x, t, prior, loc, covariance)
        result = infer(model, data, tol=0, max_steps=sweeps)
        standard = weights(result).standard_parameters
        np.testing.assert_allclose(standard.loc[0], loc, rtol=1e-7)
        np.testing.assert_allclose(standard.covariance[0], covariance, rtol=1e-6, atol=1e-10)
        # after its sweep the augmented model's q(omega) is that of the w before: its bound lags by that one update
        assert elbo <= result.elbo + 1e-7
    converged = infer(model, data, tol=1e-14)
    for _ in range(40):
        loc, covariance, elbo = polya_gamma_sweep(x, t, prior, loc, covariance)
    assert elbo == pytest.approx(converged.elbo, abs=1e-6)


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_bound_climbs_and_lies_below_the_elbo_of_the_same_q_and_that_below_the_best() -> None:
    centring, data, start = problem()
    exact = generalised_linear_model(LOGISTIC, centring, FIXED, start)
    model = logistic_regression(centring, FIXED, start)
    check_conjugate(model, data)
    result = infer(model, data, tol=1e-12)
    assert all(b >= a - 1e-10 for a, b in zip(result.elbo_trace, result.elbo_trace[1:], strict=False))
    elbo = evaluate(exact, result.state, data).elbo
    best = infer(exact, data, method="natural", tol=1e-12).elbo
    assert result.elbo < elbo - 0.1
    assert elbo < best - 0.05


def test_columns_of_very_different_scales_pass_the_check_of_convexity() -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) * [1e-3, 0.1, 1.0, 30.0, 1e3, 1e4])
    centring = Centring.of(rows, intercept=True, scale=10.0)
    data = Columns(x=centring.rows(rows), t=torch.from_numpy(rng.integers(0, 2, size=(200, 1)) * 1.0))
    check_conjugate(logistic_regression(centring, WeightPrior(), rows.var(0)), data)
    below = torch.tensor([-2.0, -1e-9, 1e-9], dtype=torch.float64)  # where a probe may go: the tangent at zero
    np.testing.assert_allclose(log_two_cosh_half_root(below), math.log(2) + below / 8, rtol=1e-14)


def test_xi_is_at_its_best() -> None:
    """The profiled bound is the highest over xi of the bound with xi in it."""
    square, t = 2.7, 0.4

    def negative(xi: float) -> float:
        slope = math.tanh(xi / 2) / (4 * xi)
        return -(t - math.log(2 * math.cosh(xi / 2)) - slope * (square - xi**2))

    best = minimize_scalar(negative, bounds=(1e-3, 10), method="bounded", options={"xatol": 1e-9})
    profiled = t - log_two_cosh_half_root(torch.tensor(square, dtype=torch.float64)).item()
    assert -best.fun == pytest.approx(profiled, abs=1e-10)
    assert best.x == pytest.approx(math.sqrt(square), abs=1e-4)


def test_classes_are_regressions_of_their_own() -> None:
    centring, data, start = problem(classes=3)
    together = infer(logistic_regression(centring, WeightPrior(), start, 3), data, tol=0, max_steps=15)
    total = 0.0
    for k in range(3):
        alone = infer(
            logistic_regression(centring, WeightPrior(), start),
            Columns(x=data.x, t=data.t[:, [k]]),
            tol=0,
            max_steps=15,
        )
        total += alone.elbo
        for a, b in zip(weights(together)[k].natural_parameters, weights(alone)[0].natural_parameters, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    assert together.elbo == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("method", ["natural", "gradient"])
def test_other_ways_arrive_where_sweeps_do(method: str) -> None:
    centring, data, start = problem()
    model = logistic_regression(centring, FIXED, start)
    found, best = infer(model, data, method=method, tol=1e-12, max_steps=3000), infer(model, data, tol=1e-12)
    assert found.elbo == pytest.approx(best.elbo, abs=1e-6)
    np.testing.assert_allclose(weights(found).standard_parameters.loc, weights(best).standard_parameters.loc, atol=2e-3)


def test_minibatches_come_near() -> None:
    centring, data, start = problem(400)
    model = logistic_regression(centring, FIXED, start)
    found, best = infer(model, data, method="svi", batch_size=50, max_steps=60), infer(model, data, tol=1e-12)
    assert 0 <= best.elbo - found.elbo < 0.05


def test_the_shared_precision_is_that_of_its_gamma_update() -> None:
    centring, data, start = problem()
    prior = WeightPrior(ard=False, concentration=2.0, rate=3.0)
    result = infer(logistic_regression(centring, prior, start), data, tol=1e-13)
    q = weights(result).mean_parameters
    square = q.outer[0].diagonal()[:3].sum()
    relevance = result.posterior["relevance"]
    assert isinstance(relevance, Gamma)
    standard = relevance.standard_parameters
    assert tuple(relevance.batch_shape) == (1, 1)
    assert float(standard.concentration) == pytest.approx(2.0 + 1.5)
    assert float(standard.rate) == pytest.approx(3.0 + 0.5 * float(square), rel=1e-4)
    # and the bound counts its prior and entropy: against the same bound with everything written out
    a, b = float(standard.concentration), float(standard.rate)
    log, mean = digamma(a) - np.log(b), a / b
    extra = 0.5 * (3 * (log - np.log(2 * np.pi)) - mean * float(square))
    extra += 2 * np.log(3) - gammaln(2) + log - 3 * mean + a - np.log(b) + gammaln(a) + (1 - a) * digamma(a)
    fixed = evaluate(
        logistic_regression(centring, WeightPrior(ard=False, precision=1.0), start),
        State(q={"weights": weights(result)}),
        data,
    )
    without = fixed.elbo + 0.5 * (3 * np.log(2 * np.pi) + float(square))
    assert result.elbo == pytest.approx(without + extra, rel=1e-9)


def test_the_predictive_is_averaged_over_the_weights() -> None:
    q = MultivariateNormal.from_standard(
        torch.tensor([[1.0, -0.5]], dtype=torch.float64),
        torch.tensor([[[2.0, 0.3], [0.3, 1.0]]], dtype=torch.float64),
    )
    x = torch.tensor([[1.0, 1.0], [3.0, -2.0], [0.0, 0.0]], dtype=torch.float64)
    draws = q.sample((200_000,), torch.Generator().manual_seed(1))[:, 0] @ x.mT
    expected = torch.sigmoid(draws).mean(0)
    error = torch.sigmoid(draws).std(0) / math.sqrt(len(draws))
    found = predictive_probability(q, x)[0]
    assert bool(((found - expected).abs() < 4 * error + 1e-9).all())
    assert found[2].item() == pytest.approx(0.5, abs=1e-12)
