"""Moves along directions that the likelihood cannot see: what they gain, and that they lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jensen.families import Gamma, MultivariateNormal
from jensen.inference.models.rotation import RotationGain, best_rotation, rotate

N, D, K = 40, 6, 3


def posterior(rows: int, seed: int) -> MultivariateNormal:
    generator = torch.Generator().manual_seed(seed)
    loc = torch.randn(rows, K, dtype=torch.float64, generator=generator)
    root = torch.randn(rows, K, K, dtype=torch.float64, generator=generator)
    return MultivariateNormal.from_standard(loc, 0.1 * root @ root.mT + 0.05 * torch.eye(K, dtype=torch.float64))


def gain_of(z: MultivariateNormal, w: MultivariateNormal, concentration: float, rate: float) -> RotationGain:
    second = [q.mean_parameters.outer.sum(0).numpy() for q in (z, w)]
    full = np.full(K, concentration + D / 2)
    return RotationGain(second[0], float(N), second[1], D, full, np.full(K, rate))


def bound(z: MultivariateNormal, w: MultivariateNormal, prior: Gamma) -> float:
    """What of the ELBO belongs to z, w and ard, term by term, with q(ard) at its optimum."""
    squares = w.mean_parameters.outer.diagonal(dim1=-2, dim2=-1).sum(0)
    concentration, rate = prior.standard_parameters
    ard = Gamma.from_standard(concentration + D / 2, rate + squares / 2)
    m = ard.mean_parameters
    log_prior_z = -0.5 * z.mean_parameters.outer.diagonal(dim1=-2, dim2=-1).sum()
    log_prior_w = 0.5 * (D * m.log - m.mean * squares).sum()
    divergence = ard.kl_divergence(prior.expand((K,))).sum()
    return float(log_prior_z + z.entropy().sum() + log_prior_w + w.entropy().sum() - divergence)


def turned(q: MultivariateNormal, by: Tensor) -> MultivariateNormal:
    loc, covariance = q.standard_parameters
    return MultivariateNormal.from_standard(loc @ by.mT, by @ covariance @ by.mT)


@pytest.mark.parametrize("prior", [(1e-3, 1e-3), (2.0, 5.0)])
def test_gain_is_the_change_of_the_bound(prior: tuple[float, float]) -> None:
    z, w = posterior(N, 0), posterior(D, 1)
    gain = gain_of(z, w, *prior)
    rotation = torch.randn(K, K, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    family = Gamma.from_standard(*prior)
    change = bound(turned(z, rotation), turned(w, torch.linalg.inv(rotation).mT), family) - bound(z, w, family)
    assert gain(rotation.numpy())[0] - gain(np.eye(K))[0] == pytest.approx(change, rel=1e-10)


def test_gradient_of_the_gain() -> None:
    gain = gain_of(posterior(N, 0), posterior(D, 1), 0.5, 0.2)
    at = np.eye(K) + 0.3 * np.random.default_rng(0).normal(size=(K, K))
    step = 1e-6
    numeric = np.array(
        [[(gain(at + step * e)[0] - gain(at - step * e)[0]) / (2 * step) for e in row] for row in unit_matrices()]
    )
    np.testing.assert_allclose(gain(at)[1], numeric, rtol=1e-6, atol=1e-6)


def unit_matrices() -> np.ndarray:
    return np.eye(K * K).reshape(K, K, K, K)


@pytest.mark.parametrize("prior", [(1e-3, 1e-3), (1e-3, 10.0), (5.0, 0.1)])
@pytest.mark.parametrize("seed", range(5))
def test_rotation_never_loses_and_no_random_one_is_better(prior: tuple[float, float], seed: int) -> None:
    z, w = posterior(N, seed), posterior(D, 100 + seed)
    gain = gain_of(z, w, *prior)
    best = best_rotation(gain)
    assert gain(best)[0] >= gain(np.eye(K))[0]
    rng = np.random.default_rng(seed)
    for _ in range(50):
        other = best + 0.05 * rng.normal(size=(K, K))
        assert gain(other)[0] <= gain(best)[0] + 1e-2


def test_vague_prior_whitens_factors_and_diagonalises_loadings() -> None:
    z, w = posterior(N, 0), posterior(D, 1)
    second = z.mean_parameters.outer.sum(0)
    found = rotate(w, second, torch.tensor(float(N)), Gamma.from_standard(torch.full((K,), 1e-9), 1e-9))
    loadings = found.loadings.mean_parameters.outer.sum(0)
    rotation = found.rotation
    torch.testing.assert_close(
        rotation @ second @ rotation.mT / N, torch.eye(K, dtype=torch.float64), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(loadings, torch.diag(loadings.diagonal()), rtol=0, atol=1e-3)


def test_products_do_not_change() -> None:
    z, w = posterior(N, 0), posterior(D, 1)
    found = rotate(w, z.mean_parameters.outer.sum(0), torch.tensor(float(N)), Gamma.from_standard(torch.ones(K), 1.0))
    before = z.standard_parameters.loc @ w.standard_parameters.loc.mT
    after = (z.standard_parameters.loc @ found.rotation.mT) @ found.loadings.standard_parameters.loc.mT
    torch.testing.assert_close(after, before)


def test_singular_factors_are_left_alone() -> None:
    gain = RotationGain(np.zeros((K, K)), 5.0, np.eye(K), D, np.ones(K), np.ones(K))
    np.testing.assert_array_equal(best_rotation(gain), np.eye(K))
    assert gain(np.zeros((K, K)))[0] == -np.inf
