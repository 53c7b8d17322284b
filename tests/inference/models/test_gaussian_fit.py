"""One Gaussian fitted to another: everything about it is known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jensen.families import MultivariateNormal, Normal
from jensen.inference import infer
from jensen.inference.models.gaussian_fit import fit_path, gaussian_fit, gradients_at, joint_parameters


def normal(loc: list[float], covariance: list[list[float]]) -> MultivariateNormal:
    return MultivariateNormal.from_standard(
        torch.tensor(loc, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64)
    )


TARGET = normal([1.0, 2.0], [[2.0, 1.4], [1.4, 1.5]])
START = normal([-3.0, 3.0], [[0.1, 0.0], [0.0, 0.2]])


def test_a_full_q_arrives_in_one_update() -> None:
    path = fit_path(gaussian_fit(TARGET, START), "cavi")
    assert path.converged
    assert path.elbo[0].item() == pytest.approx(-START.kl_divergence(TARGET).item(), rel=1e-12)
    assert path.elbo[1].item() == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(path.loc[1], [1.0, 2.0], rtol=1e-12)
    np.testing.assert_allclose(path.covariance[1], TARGET.standard_parameters.covariance, rtol=1e-12)


@pytest.mark.parametrize("method", ["cavi", "natural", "gradient"])
def test_mean_field_has_the_mean_and_the_conditional_variances(method: str) -> None:
    path = fit_path(gaussian_fit(TARGET, START, "mean-field"), method, tol=1e-13)
    precision = torch.linalg.inv(TARGET.standard_parameters.covariance)
    np.testing.assert_allclose(path.loc[-1], [1.0, 2.0], atol=1e-4)
    np.testing.assert_allclose(path.covariance[-1], torch.diag(1 / precision.diagonal()), atol=1e-4)
    q = MultivariateNormal.from_standard(path.loc[-1], path.covariance[-1])
    assert path.elbo[-1].item() == pytest.approx(-q.kl_divergence(TARGET).item(), abs=1e-10)
    # KL of the best product: log of the ratio of the determinants
    best = 0.5 * (precision.diagonal().log().sum() - torch.linalg.slogdet(precision)[1]).item()
    assert -path.elbo[-1].item() == pytest.approx(best, abs=1e-8)
    assert bool((path.elbo.diff() > -1e-12).all())


def test_every_point_of_a_path_has_its_own_elbo() -> None:
    path = fit_path(gaussian_fit(TARGET, START), "natural", rho=0.3, max_steps=12, tol=0)
    assert path.loc.shape == (13, 2)
    assert path.covariance.shape == (13, 2, 2)
    for loc, covariance, elbo in zip(path.loc, path.covariance, path.elbo, strict=True):
        q = MultivariateNormal.from_standard(loc, covariance)
        assert elbo.item() == pytest.approx(-q.kl_divergence(TARGET).item(), abs=1e-9)
    assert not path.converged


def test_updates_all_at_once_would_diverge_where_one_by_one_converges() -> None:
    """Unit precisions with 0.9 off the diagonal: Jacobi's iteration has the eigenvalue -1.8, Gauss-Seidel's is fine."""
    precision = torch.full((3, 3), 0.9, dtype=torch.float64) + 0.1 * torch.eye(3, dtype=torch.float64)
    loc = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    target = MultivariateNormal.from_standard(loc, torch.linalg.inv(precision))
    start = normal([3.0, 3.0, 3.0], np.eye(3).tolist())
    jacobi = torch.eye(3, dtype=torch.float64) - precision
    assert float(torch.linalg.eigvalsh(jacobi).abs().max()) == pytest.approx(1.8)
    result = infer(gaussian_fit(target, start, "mean-field"), tol=1e-14, max_steps=5000)
    np.testing.assert_allclose(joint_parameters(result.state)[0], loc, atol=1e-4)


def test_gradients_are_those_on_paper() -> None:
    """ELBO = -KL(N(m, s^2) || N(mu, sigma^2)); the Fisher matrix of (m, log s) is diag(1 / s^2, 2)."""
    m, s = torch.tensor([0.0, 3.0, 1.0]).double(), torch.tensor([0.1, 5.0, 0.5]).double()
    mu, sigma = 2.0, 0.7
    found = gradients_at(Normal.from_standard(m, s), Normal.from_standard(mu, sigma))
    kl = torch.log(sigma / s) + (s**2 + (m - mu) ** 2) / (2 * sigma**2) - 0.5
    np.testing.assert_allclose(found.elbo, -kl, rtol=1e-12)
    euclidean = torch.stack([(mu - m) / sigma**2, 1 - s**2 / sigma**2], dim=1)
    np.testing.assert_allclose(found.euclidean, euclidean, rtol=1e-10)
    fisher_inverse = torch.stack([s**2, torch.full_like(s, 0.5)], dim=1)
    np.testing.assert_allclose(found.natural, fisher_inverse * euclidean, rtol=1e-9)


def test_the_euclidean_gradient_misleads_where_the_natural_one_does_not() -> None:
    """Equal distances in mu: the wide pair is near in KL, the narrow one far; only the natural step knows."""
    wide = gradients_at(Normal.from_standard(0.0, 10.0), Normal.from_standard(1.0, 10.0))
    narrow = gradients_at(Normal.from_standard(0.0, 0.1), Normal.from_standard(1.0, 0.1))
    assert wide.elbo.item() == pytest.approx(-0.005)
    assert narrow.elbo.item() == pytest.approx(-50.0)
    assert (wide.euclidean[0].item(), narrow.euclidean[0].item()) == (pytest.approx(0.01), pytest.approx(100.0))
    assert wide.natural[0].item() == pytest.approx(1.0)
    assert narrow.natural[0].item() == pytest.approx(1.0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="start must be one normal of dimension 2"):
        gaussian_fit(TARGET, normal([0.0], [[1.0]]))
    with pytest.raises(ValueError, match="target must be one normal"):
        gaussian_fit(TARGET.expand((3,)), START)
    with pytest.raises(ValueError, match="form must be"):
        gaussian_fit(TARGET, START, "diagonal")  # type: ignore[arg-type]
