"""Non-conjugate regressions: the ELBO's own optimum, found by other means, and the posterior, by long NUTS draws."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from jensen.errors import NotConjugateError
from jensen.families import MultivariateNormal
from jensen.inference import Columns, Result, RobbinsMonro, State, check_conjugate, evaluate, infer
from jensen.inference.models.glm import (
    LOGISTIC,
    POISSON,
    Likelihood,
    generalised_linear_model,
    laplace,
    log_predictive_count,
)
from jensen.inference.models.logistic_regression import logistic_regression, predictive_probability
from jensen.inference.models.weights import Centring, WeightPrior

REFERENCES = Path(__file__).parents[2] / "references"
FIXED = WeightPrior(ard=False, precision=1.0)
DATA = {"logistic": "breast_cancer", "poisson": "counts"}
LIKELIHOODS = {"logistic": LOGISTIC, "poisson": POISSON}

both = pytest.mark.parametrize("name", ["logistic", "poisson"])


class Problem:
    """Data of the reference draws as the model takes them."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(REFERENCES)
        x, t, new, new_t = runpy.run_path(str(REFERENCES / "regressions.py"))[DATA[name]]()
        rows = torch.from_numpy(x)
        self.name = name
        self.likelihood: Likelihood = LIKELIHOODS[name]
        self.centring = Centring.of(rows, intercept=True, scale=10.0)
        self.data = Columns(x=self.centring.rows(rows), t=torch.from_numpy(t * 1.0)[:, None])
        self.new, self.new_t = self.centring.rows(torch.from_numpy(new)), torch.from_numpy(new_t * 1.0)
        self.start = torch.ones(x.shape[1], dtype=torch.float64)
        self.parts = (self.likelihood, self.centring, FIXED, self.start)
        stored = np.load(REFERENCES / "regressions.npz")
        self.stored = {key.removeprefix(f"{name}_"): stored[key] for key in stored.files if key.startswith(name)}

    def fit(self, expectation: Literal["exact", "monte-carlo"] = "exact", **options: object) -> Result:
        first = laplace(*self.parts, self.data)
        model = generalised_linear_model(*self.parts, first=first, expectation=expectation)
        return infer(model, self.data, method="natural", **options)  # type: ignore[arg-type]

    def log_predictive(self, q: MultivariateNormal) -> Tensor:
        loc, covariance = (p[0] for p in q.standard_parameters)
        mean, variance = self.new @ loc, ((self.new @ covariance) * self.new).sum(-1)
        if self.name == "poisson":
            return log_predictive_count(mean, variance, self.new_t)
        p = predictive_probability(q, self.new)[0]
        return torch.where(self.new_t > 0.5, p, 1 - p).log()


@pytest.fixture
def problem(name: str, monkeypatch: pytest.MonkeyPatch) -> Problem:
    return Problem(name, monkeypatch)


def weights(result: Result) -> MultivariateNormal:
    q = result.posterior["weights"]
    assert isinstance(q, MultivariateNormal)
    return q


def negative_elbo(v: np.ndarray, x: np.ndarray, t: np.ndarray, name: str) -> float:
    """-ELBO of N(m, L L^T) by Gauss-Hermite with 80 nodes, in NumPy: v holds m and the lower triangle of L."""
    d = x.shape[1]
    loc, factor = v[:d], np.zeros((d, d))
    factor[np.tril_indices(d)] = v[d:]
    points, mass = np.polynomial.hermite_e.hermegauss(80)
    s = (x @ loc)[:, None] + np.sqrt(((x @ factor) ** 2).sum(1))[:, None] * points
    log_p = t[:, None] * s - (np.logaddexp(0, s) if name == "logistic" else np.exp(s))
    expected = (log_p @ (mass / mass.sum())).sum()
    prior = np.array([1.0] * (d - 1) + [0.01])
    square = loc**2 + (factor**2).sum(1)
    expected += 0.5 * (np.log(prior) - np.log(2 * np.pi) - prior * square).sum()
    entropy = np.log(np.abs(np.diag(factor))).sum() + 0.5 * d * (1 + np.log(2 * np.pi))
    return -float(expected + entropy)


@both
def test_it_arrives_at_the_maximum_of_the_elbo(problem: Problem) -> None:
    """Against a direct maximisation over mean and Cholesky factor, of an ELBO written independently."""
    result = problem.fit(tol=1e-13)
    loc, covariance = (p[0].numpy() for p in weights(result).standard_parameters)
    x, t = problem.data.x.numpy(), problem.data.t[:, 0].numpy()
    d = x.shape[1]
    factor = np.linalg.cholesky(covariance)
    shift = 0.0 if problem.name == "logistic" else torch.lgamma(problem.data.t + 1).sum().item()
    found = np.concatenate([loc, factor[np.tril_indices(d)]])
    assert result.elbo == pytest.approx(-negative_elbo(found, x, t, problem.name) - shift, abs=1e-7)
    begin = np.concatenate([np.zeros(d), 0.3 * np.eye(d)[np.tril_indices(d)]])
    best = minimize(negative_elbo, begin, (x, t, problem.name), method="BFGS", options={"gtol": 1e-4})
    assert result.elbo == pytest.approx(-best.fun - shift, abs=1e-5)
    np.testing.assert_allclose(loc, best.x[:d], atol=2e-3)


@both
def test_posterior_means_and_predictive_density_are_those_of_nuts(problem: Problem) -> None:
    result = problem.fit(tol=1e-12)
    loc, covariance = (p[0].numpy() for p in weights(result).standard_parameters)
    mean, error, sd = problem.stored["mean"], problem.stored["mean_error"], problem.stored["sd"]
    # a normal with the right mean is not exactly the best one: within 4 Monte Carlo errors and 3% of the deviation
    assert (np.abs(loc - mean) < 4 * error + 0.03 * sd).all()
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), sd, rtol=0.06)
    found = problem.log_predictive(weights(result)).numpy()
    expected, density_error = problem.stored["log_density"], problem.stored["log_density_error"]
    assert (np.abs(found - expected) < 4 * density_error + 0.02).all()


def test_the_jaakkola_jordan_bound_agrees_in_the_mean_but_is_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem("logistic", monkeypatch)
    result = infer(logistic_regression(problem.centring, FIXED, problem.start), problem.data, tol=1e-12)
    loc, covariance = (p[0].numpy() for p in weights(result).standard_parameters)
    mean, sd = problem.stored["mean"], problem.stored["sd"]
    ratio = np.sqrt(np.diag(covariance)) / sd
    assert (np.abs(loc - mean) < 0.2 * sd).all()
    assert ((ratio > 0.45) & (ratio < 0.9)).all()
    found, expected = problem.log_predictive(weights(result)).numpy(), problem.stored["log_density"]
    np.testing.assert_allclose(found, expected, atol=0.2)
    assert abs(found.mean() - expected.mean()) < 0.01


@both
def test_draws_lead_to_the_same_place(problem: Problem) -> None:
    exact = problem.fit(tol=1e-12)
    drawn = problem.fit("monte-carlo", rho=RobbinsMonro(5.0, 0.8), max_steps=150)
    a, b = weights(exact).standard_parameters, weights(drawn).standard_parameters
    sd = a.covariance[0].diagonal().sqrt()
    assert bool(((a.loc - b.loc)[0].abs() < 0.1 * sd).all())
    np.testing.assert_allclose(b.covariance[0].diagonal().sqrt(), sd, rtol=0.1)
    model = generalised_linear_model(*problem.parts)
    gap = exact.elbo - evaluate(model, State(q={"weights": weights(drawn)}), problem.data).elbo
    assert 0 <= gap < 0.02
    assert not drawn.converged  # noise cannot say that it has settled


@both
def test_drawn_gradients_are_unbiased(problem: Problem) -> None:
    exact = generalised_linear_model(*problem.parts)
    drawn = generalised_linear_model(*problem.parts, expectation="monte-carlo", samples=2000)
    state = State(q={"weights": laplace(*problem.parts, problem.data)})
    truth = evaluate(exact, state, problem.data, ["weights"]).targets["weights"]
    generator = torch.Generator().manual_seed(0)
    repeats = [
        evaluate(drawn, state, problem.data, ["weights"], generator=generator).targets["weights"] for _ in range(12)
    ]
    for place, expected in enumerate(truth):
        values = torch.stack([r[place] for r in repeats])
        error = values.std(0) / len(values) ** 0.5
        assert bool(((values.mean(0) - expected).abs() < 5 * error + 1e-9).all())


@both
def test_minibatches_come_near(problem: Problem) -> None:
    best = problem.fit(tol=1e-12)
    model = generalised_linear_model(*problem.parts, first=laplace(*problem.parts, problem.data[:30]))
    found = infer(model, problem.data, method="svi", batch_size=20, max_steps=80, rho=RobbinsMonro(5.0, 0.9), tol=0)
    assert 0 <= best.elbo - found.elbo < 0.05


@both
def test_laplace_is_at_the_mode_with_its_curvature(problem: Problem) -> None:
    q = laplace(*problem.parts, problem.data)
    loc, covariance = (p[0] for p in q.standard_parameters)
    prior = torch.tensor([1.0] * len(problem.start) + [0.01], dtype=torch.float64)

    def log_joint(w: Tensor) -> Tensor:
        fit: Tensor = problem.likelihood.log_prob(problem.data.x @ w, problem.data.t[:, 0]).sum()
        return fit - 0.5 * (prior * w**2).sum()

    slope = torch.func.grad(log_joint)(loc)
    curvature = torch.func.hessian(log_joint)(loc)
    assert float(slope @ covariance @ slope) < 1e-6
    np.testing.assert_allclose(-curvature, torch.linalg.inv(covariance), rtol=1e-3, atol=1e-4)


def test_laplace_finds_large_counts_from_afar() -> None:
    """Newton's whole steps would overflow: a rate of 1 at the start, counts up to a million."""
    x = torch.linspace(-3, 3, 40, dtype=torch.float64)[:, None]
    t = torch.exp(2 + 4 * x).round()
    centring = Centring.of(x, intercept=True, scale=10.0)
    data = Columns(x=centring.rows(x), t=t)
    q = laplace(POISSON, centring, FIXED, torch.ones(1).double(), data)
    np.testing.assert_allclose(q.standard_parameters.loc[0], [4.0, 2.0], atol=0.02)


def test_what_is_not_linear_has_to_be_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    problem = Problem("poisson", monkeypatch)
    model = generalised_linear_model(*problem.parts)
    check_conjugate(model, problem.data)
    with pytest.raises(
        NotConjugateError, match="'likelihood' is not linear in the mean parameters of latent 'weights'"
    ):
        check_conjugate(replace(model, nonconjugate=frozenset()), problem.data)
    with pytest.raises(ValueError, match="use method='natural'"):
        infer(model, problem.data, method="cavi")
