"""Gamma functions and their inverses, roots, and Cholesky helpers, against SciPy and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from family_cases import positive_definite, seeded

from jensen.families.linear import half_log_determinant, inverse, inverse_factor, outer, times
from jensen.families.special import (
    inverse_digamma,
    log_multigamma,
    match_log_proportions,
    match_log_ratio,
    multidigamma,
    root,
)

F64 = torch.float64
SIZES = 10 ** torch.linspace(-3, 6, 37, dtype=F64)


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_multivariate_gamma(dim: int) -> None:
    x = (dim - 1) / 2 + SIZES
    ours = log_multigamma(x, dim) + dim * (dim - 1) / 4 * np.log(np.pi)
    np.testing.assert_allclose(ours, scipy.special.multigammaln(x.numpy(), dim), rtol=1e-12)
    expected = sum(scipy.special.digamma(x.numpy() - i / 2) for i in range(dim))
    np.testing.assert_allclose(multidigamma(x, dim), expected, rtol=1e-11, atol=1e-12)


def test_inverse_digamma() -> None:
    np.testing.assert_allclose(inverse_digamma(torch.digamma(SIZES)), SIZES, rtol=1e-9)
    y = torch.linspace(-1e4, 15, 500, dtype=F64)
    np.testing.assert_allclose(scipy.special.digamma(inverse_digamma(y).numpy()), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 20])
def test_match_log_ratio(dim: int) -> None:
    x = (dim - 1) / 2 + SIZES
    ratio = dim * x.log() - multidigamma(x, dim)
    np.testing.assert_allclose(match_log_ratio(ratio, dim) - (dim - 1) / 2, SIZES, rtol=1e-8)
    ratio = ratio[4:20].requires_grad_()
    assert torch.autograd.gradcheck(lambda r: match_log_ratio(r, dim), ratio)
    assert torch.autograd.gradgradcheck(lambda r: match_log_ratio(r, dim), ratio)
    assert bool(match_log_ratio(torch.tensor([0.0, -1.0], dtype=F64), dim).isnan().all())


@pytest.mark.parametrize("count", [2, 5, 300])
def test_match_log_proportions(count: int) -> None:
    alpha = 10 ** (9 * torch.rand(50, count, generator=seeded(1), dtype=F64) - 3)
    alpha[0] = 1e-3
    alpha[1] = 1e6
    mean = torch.digamma(alpha) - torch.digamma(alpha.sum(-1, keepdim=True))
    found = match_log_proportions(mean)
    back = torch.digamma(found) - torch.digamma(found.sum(-1, keepdim=True))
    np.testing.assert_allclose(back, mean, rtol=1e-12, atol=1e-12)
    tame = alpha.amax(-1) < 1e4 * alpha.amin(-1)  # elsewhere the means lack the digits that tell the concentrations
    assert tame[:2].all()
    np.testing.assert_allclose(found[tame], alpha[tame], rtol=1e-7)


def test_match_log_proportions_has_the_right_derivative() -> None:
    alpha = torch.tensor([[0.3, 2.0, 5.0], [1e-2, 1.0, 30.0]], dtype=F64)
    mean = (torch.digamma(alpha) - torch.digamma(alpha.sum(-1, keepdim=True))).requires_grad_()
    assert torch.autograd.gradcheck(match_log_proportions, mean)
    assert torch.autograd.gradgradcheck(match_log_proportions, mean)


def test_impossible_proportions() -> None:
    mean = torch.tensor([[0.5, 0.5], [0.4, 0.5], [0.7, 0.6]], dtype=F64).log()
    assert match_log_proportions(mean).isnan().all(-1).tolist() == [True, False, True]


def test_root_finds_zeros_that_newton_alone_misses() -> None:
    """arctan from far away: Newton's steps diverge, the bracket saves them."""
    shift = torch.tensor([-7.0, 0.0, 9.5], dtype=F64)
    found = root(
        lambda x: (torch.arctan(x - shift), 1 / (1 + (x - shift) ** 2)), torch.full((3,), 50.0, dtype=F64), -100, 100
    )
    np.testing.assert_allclose(found, shift, atol=1e-12)


def test_cholesky_helpers() -> None:
    matrix = positive_definite(seeded(2), (4,))
    vector = torch.randn(4, 3, generator=seeded(3), dtype=F64)
    factor = inverse_factor(matrix)
    assert torch.equal(factor, factor.tril())
    np.testing.assert_allclose(inverse(matrix), np.linalg.inv(matrix.numpy()), rtol=1e-10)
    np.testing.assert_allclose(half_log_determinant(factor), -0.5 * np.linalg.slogdet(matrix.numpy())[1], rtol=1e-12)
    np.testing.assert_allclose(times(matrix, vector), np.einsum("bij,bj->bi", matrix, vector), rtol=1e-12)
    np.testing.assert_allclose(outer(vector), np.einsum("bi,bj->bij", vector, vector), rtol=1e-12)
    matrix[2] = -matrix[2]
    assert inverse(matrix).isnan().all(-1).all(-1).tolist() == [False, False, True, False]
