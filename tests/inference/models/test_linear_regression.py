"""Linear regression: exact where it is exact, the updates by hand, Gibbs draws, statistics far from the origin."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import helmert
from scipy.special import digamma, gammaln
from scipy.stats import multivariate_t
from scipy.stats import t as student_t

from jensen.families import Gamma, NormalGamma
from jensen.inference import Columns, check_conjugate, evaluate, infer
from jensen.inference.models.linear_regression import (
    NoisePrior,
    RegressionStatistics,
    centred,
    linear_regression,
    predictive,
)
from jensen.inference.models.weights import WeightPrior

REFERENCES = Path(__file__).parents[2] / "references"
FIXED, NOISE = WeightPrior(ard=False, precision=0.7), NoisePrior(2.0, 1.5)


def reference(monkeypatch: pytest.MonkeyPatch, data: str) -> tuple[np.ndarray, ...]:
    """The data that the script which made the reference draws took."""
    monkeypatch.syspath_prepend(REFERENCES)
    found: tuple[np.ndarray, ...] = runpy.run_path(str(REFERENCES / "regressions.py"))[data]()
    return found


def rows(n: int = 30, d: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    return x, x @ rng.normal(size=d) + 3 + 0.3 * rng.normal(size=n)


def statistics(x: np.ndarray, y: np.ndarray, chunk: int = 7) -> RegressionStatistics:
    return RegressionStatistics.of(torch.from_numpy(x), torch.from_numpy(y), chunk)


@pytest.mark.parametrize(("n", "d"), [(30, 4), (5, 12), (1, 3)])
def test_with_a_fixed_precision_bound_and_posterior_are_exact(n: int, d: int) -> None:
    x, y = rows(n, d)
    result = infer(linear_regression(statistics(x, y), FIXED, NOISE, intercept=False), tol=0, max_steps=2)
    evidence = multivariate_t(loc=np.zeros(n), shape=1.5 / 2 * (np.eye(n) + x @ x.T / 0.7), df=4).logpdf(y)
    assert result.elbo_trace == [pytest.approx(evidence, rel=1e-10)] * 2
    q = result.posterior["weights"]
    assert isinstance(q, NormalGamma)
    loc, precision, concentration, rate = (v.numpy() for v in q.standard_parameters)
    expected = np.linalg.solve(x.T @ x + 0.7 * np.eye(d), x.T @ y)
    np.testing.assert_allclose(loc, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(precision, x.T @ x + 0.7 * np.eye(d), rtol=1e-12)
    assert concentration == pytest.approx(2 + n / 2)
    assert rate == pytest.approx(1.5 + 0.5 * (y @ y - expected @ x.T @ y), rel=1e-9)


def test_the_flat_intercept_leaves_the_evidence_of_contrasts() -> None:
    x, y = rows()
    n = len(y)
    result = infer(linear_regression(statistics(x, y), FIXED, NOISE), tol=0, max_steps=1)
    contrasts = helmert(n)  # (N - 1, N), orthonormal, of rows that sum to zero
    hx, hy = contrasts @ x, contrasts @ y
    shape = 1.5 / 2 * (np.eye(n - 1) + hx @ hx.T / 0.7)
    evidence = multivariate_t(loc=np.zeros(n - 1), shape=shape, df=4).logpdf(hy) - 0.5 * np.log(n)
    assert result.elbo == pytest.approx(evidence, rel=1e-10)


@pytest.mark.parametrize("prior", [FIXED, WeightPrior(ard=False), WeightPrior()], ids=["fixed", "shared", "ard"])
@pytest.mark.parametrize("intercept", [True, False])
def test_rows_and_statistics_are_the_same_model(prior: WeightPrior, intercept: bool) -> None:
    x, y = rows()
    s = statistics(x, y)
    data = centred(s, torch.from_numpy(x), torch.from_numpy(y), intercept=intercept)
    quick = linear_regression(s, prior, NOISE, intercept=intercept)
    slow = linear_regression(s, prior, NOISE, intercept=intercept, rows=True)
    state = infer(quick, tol=0, max_steps=3).state
    names = list(state.q)
    one, other = evaluate(quick, state, None, names), evaluate(slow, state, data, names, chunk_size=7)
    assert one.elbo == pytest.approx(other.elbo, rel=1e-10)
    for name in names:
        for a, b in zip(one.targets[name], other.targets[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    check_conjugate(slow, data)


def ard_by_hand(x: np.ndarray, y: np.ndarray, start: np.ndarray, sweeps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Coordinate ascent of Drugowitsch's updates: (loc, E[alpha], ELBO), with a = 2, b = 1.5, c = 0.3, d = 0.2."""
    (a0, b0, c0, d0), (n, d) = (2.0, 1.5, 0.3, 0.2), x.shape
    alpha = start
    for _ in range(sweeps):
        covariance = np.linalg.inv(x.T @ x + np.diag(alpha))
        loc = covariance @ x.T @ y
        a, b = a0 + n / 2, b0 + 0.5 * (y @ y - loc @ x.T @ y)
        square = a / b * loc**2 + np.diag(covariance)
        c, rate = c0 + 0.5, d0 + 0.5 * square
        alpha = c / rate
    log_tau, log_alpha = digamma(a) - np.log(b), digamma(c) - np.log(rate)
    residual = a / b * ((y - x @ loc) ** 2).sum() + np.trace(x.T @ x @ covariance)
    elbo = 0.5 * n * (log_tau - np.log(2 * np.pi)) - 0.5 * residual
    elbo += 0.5 * (log_tau + log_alpha - alpha * square).sum()
    elbo += a0 * np.log(b0) - gammaln(a0) + (a0 - 1) * log_tau - b0 * a / b
    elbo += d * (c0 * np.log(d0) - gammaln(c0)) + ((c0 - 1) * log_alpha - d0 * alpha).sum()
    elbo += 0.5 * np.linalg.slogdet(covariance)[1] + 0.5 * d - 0.5 * d * log_tau
    elbo += a - np.log(b) + gammaln(a) + (1 - a) * digamma(a)
    elbo += (c - np.log(rate) + gammaln(c) + (1 - c) * digamma(c)).sum()
    return loc, alpha, float(elbo)


@pytest.mark.parametrize("sweeps", [1, 2, 40])
def test_relevance_determination_is_that_of_the_updates_on_paper(sweeps: int) -> None:
    x, y = rows()
    s = statistics(x, y)
    result = infer(
        linear_regression(s, WeightPrior(concentration=0.3, rate=0.2), NOISE, intercept=False), tol=0, max_steps=sweeps
    )
    loc, alpha, elbo = ard_by_hand(x, y, (x**2).mean(0), sweeps)
    q, relevance = result.posterior["weights"], result.posterior["relevance"]
    assert isinstance(q, NormalGamma)
    assert isinstance(relevance, Gamma)
    np.testing.assert_allclose(q.standard_parameters.loc, loc, rtol=1e-9)
    np.testing.assert_allclose(relevance.mean_parameters.mean, alpha, rtol=1e-9)
    assert result.elbo == pytest.approx(elbo, rel=1e-11)
    assert all(b >= a - 1e-9 for a, b in zip(result.elbo_trace, result.elbo_trace[1:], strict=False))


def test_relevance_determination_agrees_with_gibbs_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, new, new_y = reference(monkeypatch, "diabetes")
    stored = np.load(REFERENCES / "regressions.npz")
    s = statistics(x, y)
    result = infer(linear_regression(s, WeightPrior(concentration=1.0, rate=0.01), NoisePrior(1.0, 1.0)), tol=1e-10)
    q = result.posterior["weights"]
    assert isinstance(q, NormalGamma)
    mean, sd = stored["linear_mean"], stored["linear_sd"]
    found = np.append(q.standard_parameters.loc, q.mean_parameters.precision)
    # each alpha is known from one weight alone, so that q(w, tau) q(alpha) shrinks more than the posterior does: by up
    # to 0.26 of its standard deviations, 0.15 in the mean; the draws' errors are below 0.01 of them
    distance = np.abs((found - mean) / sd)
    assert distance.max() < 0.3
    assert distance.mean() < 0.17
    density = predictive(q, s, torch.from_numpy(new)).log_prob(torch.from_numpy(new_y)).numpy()
    np.testing.assert_allclose(density, stored["linear_log_density"], atol=0.1)
    assert abs((density - stored["linear_log_density"]).mean()) < 0.03
    ratio = q.standard_parameters
    spread = (ratio.rate / (ratio.concentration - 1) * torch.linalg.inv(ratio.precision).diagonal()).sqrt().numpy()
    assert ((spread / sd[:-1] > 0.5) & (spread / sd[:-1] < 1.1)).all()  # mean field: not wider, not wildly narrower


def test_the_predictive_integrates_over_plane_intercept_and_noise() -> None:
    x, y = rows()
    s = statistics(x, y)
    q = infer(linear_regression(s, FIXED, NOISE), tol=0, max_steps=1).posterior["weights"]
    assert isinstance(q, NormalGamma)
    # independently: the evidence with one more row over that without it
    new, value = np.array([[0.3, -1.0, 2.0, 0.5]]), 1.7
    more = statistics(np.vstack([x, new]), np.append(y, value))
    ratio = infer(linear_regression(more, FIXED, NOISE), tol=0, max_steps=1).elbo
    ratio -= infer(linear_regression(s, FIXED, NOISE), tol=0, max_steps=1).elbo
    found = predictive(q, s, torch.from_numpy(new))
    assert float(found.log_prob(torch.tensor([value], dtype=torch.float64))) == pytest.approx(ratio, abs=1e-9)
    assert float(found.stddev) == pytest.approx(student_t(float(found.df), scale=float(found.scale)).std())
    assert float(predictive(q, s, torch.from_numpy(new), noise=False).scale) < float(found.scale)


def test_statistics_add_up_and_lose_nothing_far_from_the_origin() -> None:
    x, y = rows(1000, 3)
    whole, parts = statistics(x, y, 10_000), statistics(x[:1], y[:1]) + statistics(x[1:400], y[1:400], 13)
    parts = parts + statistics(x[400:], y[400:])
    far = statistics(x + 1e7, y - 1e7, 64)
    for name in ("xx", "xy", "yy"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)
        np.testing.assert_allclose(getattr(far, name), getattr(whole, name), rtol=1e-6)
    assert parts.count == 1000
    origin = whole.about_origin()
    np.testing.assert_allclose(origin.xx, x.T @ x, rtol=1e-10)
    np.testing.assert_allclose(origin.xy, x.T @ y, rtol=1e-10)
    near, distant = infer(linear_regression(whole), tol=1e-12), infer(linear_regression(far), tol=1e-12)
    assert near.elbo == pytest.approx(distant.elbo, rel=1e-8)


def test_an_exact_fit_stays_finite() -> None:
    x, _ = rows(30, 3)
    for scale in (1.0, 1e7):
        y = scale * (x @ [1.0, 2.0, 3.0] + 5)
        result = infer(linear_regression(statistics(x, y)), tol=1e-8)
        q = result.posterior["weights"]
        assert isinstance(q, NormalGamma)
        np.testing.assert_allclose(q.standard_parameters.loc, scale * np.array([1.0, 2.0, 3.0]), rtol=1e-6)
        assert float(q.standard_parameters.rate) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ard": True, "precision": 1.0}, "precision must be None"),
        ({"ard": False, "precision": -1.0}, "precision must be positive and finite, got -1"),
        ({"rate": 0.0}, "rate must be positive and finite, got 0"),
        ({"concentration": float("nan")}, "concentration must be positive"),
    ],
)
def test_priors_that_are_none_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightPrior(**arguments)  # type: ignore[arg-type]


def test_noise_priors_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="noise's prior: rate must be positive and finite, got -3"):
        NoisePrior(1.0, -3.0)


def test_columns_of_rows_are_a_batch() -> None:
    x, y = rows()
    s = statistics(x, y)
    data = centred(s, torch.from_numpy(x), torch.from_numpy(y))
    assert isinstance(data[:3], Columns)
    np.testing.assert_allclose(data.x.mean(0), 0, atol=1e-12)
