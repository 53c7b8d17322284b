"""Small models written by hand through the engine, against numbers that others have found or that follow on paper."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import multivariate_t
from torch import Tensor

from jensen.families import Gamma, MultivariateNormal, Normal, NormalGamma
from jensen.inference import ConjugateModel, Latent, infer

LOG_2PI = math.log(2 * math.pi)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# --- a normal with unknown mean and precision -------------------------------------------------------------------------


def unknown_mean_and_precision(x: Tensor) -> ConjugateModel:
    def terms(m: Any, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square
        return (0.5 * (m.tau.log - LOG_2PI) - 0.5 * m.tau.mean * square).sum()

    wide, vague = Normal.from_standard(0.0, 1e3), Gamma.from_standard(1e-6, 1e-6)
    return ConjugateModel({"mu": Latent(wide, wide), "tau": Latent(Gamma.from_standard(1e-6, 1e-6), vague)}, terms)


def test_unknown_mean_and_precision_takes_the_published_steps() -> None:
    x = torch.from_numpy(np.random.RandomState(1).normal(5, 10, size=10))
    result = infer(unknown_mean_and_precision(x), x, tol=1e-14)
    np.testing.assert_allclose(result.elbo_trace[:4], [-60.20956, -58.20527, -58.20290, -58.20288], atol=1e-5)
    assert result.elbo == pytest.approx(-58.2028750, abs=1e-7)


def test_unknown_mean_and_precision_is_below_the_evidence_by_what_the_independence_costs() -> None:
    x = np.random.RandomState(1).normal(5, 10, size=10)
    log_tau = np.linspace(-15, 5, 4001)
    tau = np.exp(log_tau)
    # mu integrated out: x ~ N(0, I / tau + 1e6); tau by quadrature
    n, total, square = len(x), x.sum(), (x**2).sum()
    precision = 1e-6 + n * tau
    log_joint = 0.5 * (n * np.log(tau) - n * LOG_2PI + math.log(1e-6) - np.log(precision))
    log_joint += -0.5 * tau * square + 0.5 * (tau * total) ** 2 / precision
    log_joint += 1e-6 * math.log(1e-6) - gammaln(1e-6) + 1e-6 * log_tau - 1e-6 * tau
    evidence = np.logaddexp.reduce(log_joint + math.log(log_tau[1] - log_tau[0]))
    assert evidence == pytest.approx(-58.14835, abs=1e-5)
    data = torch.from_numpy(x)
    assert 0 < evidence - infer(unknown_mean_and_precision(data), data, tol=1e-12).elbo < 0.06


# --- a line through ten points ----------------------------------------------------------------------------------------


def line() -> tuple[np.ndarray, np.ndarray]:
    y = 2 * np.arange(10) + 5 + 2 * np.random.RandomState(42).randn(10)
    return np.column_stack([np.arange(10.0), np.ones(10)]), y


def factorised_line(x: Tensor, y: Tensor) -> ConjugateModel:
    """q(b) q(tau): b has a fixed precision of its own."""

    def terms(m: Any) -> Tensor:
        quadratic = y @ y - 2 * (x.mT @ y) @ m.b.mean + ((x.mT @ x) * m.b.outer).sum()
        return 0.5 * (len(y) * (m.tau.log - LOG_2PI) - m.tau.mean * quadratic)

    wide = MultivariateNormal.from_standard(torch.zeros(2).double(), 1e6 * torch.eye(2).double())
    vague = Gamma.from_standard(1e-3, 1e-3)
    return ConjugateModel({"b": Latent(wide, wide), "tau": Latent(vague, vague)}, global_terms=terms)


def test_the_factorised_line_takes_the_steps_that_bayespy_takes() -> None:
    x, y = map(torch.from_numpy, line())
    result = infer(factorised_line(x, y), tol=1e-14)
    np.testing.assert_allclose(result.elbo_trace[:4], [-40.80970, -40.57132, -40.56572, -40.56551], atol=1e-5)
    assert result.elbo == pytest.approx(-40.5655055, abs=1e-7)


def joint_line(x: Tensor, y: Tensor) -> ConjugateModel:
    """q(b, tau), as the posterior is."""

    def terms(m: Any) -> Tensor:
        w = m.w
        quadratic = y @ y * w.precision - 2 * (x.mT @ y) @ w.precision_mean + ((x.mT @ x) * w.precision_outer).sum()
        return 0.5 * (len(y) * (w.log_precision - LOG_2PI) - quadratic)

    prior = NormalGamma.from_standard(torch.zeros(2).double(), 1e-6 * torch.eye(2).double(), number(1e-3), number(1e-3))
    return ConjugateModel({"w": Latent(prior, prior)}, global_terms=terms)


def test_the_joint_line_is_exact() -> None:
    x, y = line()
    evidence = multivariate_t(loc=np.zeros(10), shape=np.eye(10) + 1e6 * x @ x.T, df=2e-3).logpdf(y)
    result = infer(joint_line(torch.from_numpy(x), torch.from_numpy(y)), tol=0, max_steps=2)
    assert result.elbo == pytest.approx(evidence, abs=1e-8)
    assert result.elbo == pytest.approx(-41.3042345, abs=1e-7)
    assert result.elbo_trace[0] == result.elbo_trace[1]


# --- flat priors: closed forms and reference draws --------------------------------------------------------------------


def stored(folder: Path, kind: str, name: str) -> dict[str, Any]:
    with zipfile.ZipFile(folder / "posteriordb" / "data" / "data" / f"{name}.json.zip") as file:
        found: dict[str, Any] = json.loads(file.read(file.namelist()[0]))
    return found


def mesquite(data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    names = ("diam1", "diam2", "canopy_height", "total_height", "density", "group")
    return np.column_stack([np.ones(len(data["weight"])), *(data[n] for n in names)]), np.array(data["weight"], float)


def earnings(data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.column_stack([np.ones(len(data["earn"])), data["height"], data["male"]]), np.log(data["earn"])


@pytest.mark.parametrize(
    ("name", "source", "columns"),
    [("mesquite-mesquite", "mesquite", mesquite), ("earnings-logearn_height_male", "earnings", earnings)],
)
def test_flat_priors_give_least_squares_and_an_inverse_gamma(
    data_directory: Path, name: str, source: str, columns: Any
) -> None:
    x, y = columns(stored(data_directory, "data", source))
    n, d = x.shape
    model = flat(torch.from_numpy(x), torch.from_numpy(y))
    q = infer(model, tol=0, max_steps=2).posterior["w"]
    assert isinstance(q, NormalGamma)
    loc, _, concentration, rate = (v.numpy() for v in q.standard_parameters)
    best, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
    np.testing.assert_allclose(loc, best, rtol=1e-6)
    assert float(concentration) == (n - d - 1) / 2
    assert float(rate) == pytest.approx(residual[0] / 2, rel=1e-8)
    folder = (
        data_directory / "posteriordb" / "reference_posteriors" / "summary_statistics" / "mean_value" / "mean_value"
    )
    reference = json.loads((folder / f"{name}.json").read_text())
    sigma = math.sqrt(rate) * math.exp(gammaln(concentration - 0.5) - gammaln(concentration))  # E[tau^(-1/2)]
    expected = dict(
        zip(reference["names"], zip(reference["mean_value"], reference["mcse_mean"], strict=True), strict=True)
    )
    found = {**{f"beta[{i + 1}]": b for i, b in enumerate(loc)}, "sigma": sigma}
    assert set(found) == set(expected)
    for key, value in found.items():
        mean, error = expected[key]
        assert abs(value - mean) < 5 * error, key


def flat(x: Tensor, y: Tensor) -> ConjugateModel:
    """Flat in the weights and in the noise's standard deviation: p(tau) ~ tau^(-3/2)."""

    def terms(m: Any) -> Tensor:
        w = m.w
        quadratic = y @ y * w.precision - 2 * (x.mT @ y) @ w.precision_mean + ((x.mT @ x) * w.precision_outer).sum()
        return 0.5 * (len(y) * (w.log_precision - LOG_2PI) - quadratic) - 1.5 * w.log_precision

    size = x.shape[1]
    start = NormalGamma.from_standard(torch.zeros(size).double(), torch.eye(size).double(), number(1.0), number(1.0))
    return ConjugateModel({"w": Latent(start)}, global_terms=terms)
