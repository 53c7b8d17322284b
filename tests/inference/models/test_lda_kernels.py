"""The kernels of latent Dirichlet allocation against dense sums, SciPy, finite differences, and plain iteration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import digamma, gammaln, logsumexp
from torch import Tensor

from jensen.inference.models.documents import Documents
from jensen.inference.models.lda_kernels import (
    Weights,
    collapsed_words,
    document_bounds,
    exp_digamma,
    infer_documents,
    normalisers,
    word_statistics,
    word_weights,
)

Array = npt.NDArray[np.float64]


def corpus(documents: int = 12, vocabulary: int = 9, seed: int = 0) -> Array:
    """Counts; the third document is empty and the fifth word never occurs."""
    x = np.random.default_rng(seed).poisson(0.8, (documents, vocabulary)).astype(np.float64)
    x[2] = 0
    x[:, 4] = 0
    return x


def concentrations(topics: int = 4, vocabulary: int = 9, seed: int = 1) -> Tensor:
    """(V, K), from very small to large."""
    return torch.from_numpy(np.exp(np.random.default_rng(seed).normal(0, 1.5, (vocabulary, topics))))


def expected_log_beta(rows: Tensor) -> Array:
    found: Array = (digamma(rows.numpy()) - digamma(rows.numpy().sum(0))).T
    return found


def dense_bound(counts: Array, gamma: Array, log_beta: Array, alpha: Array) -> float:
    """Blei et al. (2003), eq. 15, with phi written out for every word of the vocabulary."""
    log_theta = digamma(gamma) - digamma(gamma.sum())
    log_phi = log_theta[:, None] + log_beta
    log_phi = log_phi - logsumexp(log_phi, axis=0)
    phi = np.exp(log_phi)
    value = (counts * phi * (log_theta[:, None] + log_beta - log_phi)).sum()
    value += gammaln(alpha.sum()) - gammaln(alpha).sum() + ((alpha - 1) * log_theta).sum()
    value -= gammaln(gamma.sum()) - gammaln(gamma).sum() + ((gamma - 1) * log_theta).sum()
    return float(value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_exp_digamma_agrees_with_scipy(dtype: torch.dtype) -> None:
    x = torch.logspace(-2, 6, 6000, dtype=torch.float64).to(dtype).reshape(-1, 2)
    weight, shift = exp_digamma(x)
    logs = weight.double().log() + shift.double()[:, None]
    error = np.abs(logs.numpy() - digamma(x.double().numpy()))
    limit = 1e-12 if dtype == torch.float64 else 1e-6
    assert (error[x.numpy() >= 0.1] < limit).all()
    assert (error < limit / x.double().numpy().clip(max=0.1) * 0.1).all()  # rounding of 1 / x below


def test_exp_digamma_does_not_underflow_in_float32() -> None:
    x = torch.tensor([[1e-3, 2e-3], [1e-3, 5.0]], dtype=torch.float32)
    weight, _ = exp_digamma(x)
    assert bool((weight > 0).all())
    ratio = np.exp(np.longdouble(digamma(2e-3)) - np.longdouble(digamma(1e-3)))  # e^500, of which e^40 is left
    assert float(weight[0, 1] / weight[0, 0]) > 1e17
    assert ratio > 1e200


def test_word_weights_are_expected_logs() -> None:
    rows = concentrations()
    weight, shift = word_weights(rows, rows.sum(0))
    logs = (weight.log() + shift[:, None]).numpy()
    np.testing.assert_allclose(logs, expected_log_beta(rows).T, rtol=1e-12, atol=1e-12)
    some, _ = word_weights(rows[[1, 7]], rows.sum(0))
    np.testing.assert_allclose(some.numpy(), weight[[1, 7]].numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_normalisers_and_statistics_agree_with_dense_sums(dtype: torch.dtype) -> None:
    x, rows = corpus(), concentrations()
    documents = Documents.from_matrix(x, dtype=dtype)
    gamma = torch.from_numpy(np.random.default_rng(2).gamma(1.0, 2.0, (12, 4)))
    weights = word_weights(rows.to(dtype), rows.sum(0))
    log_theta = digamma(gamma.numpy())
    log_phi = log_theta[:, :, None] + expected_log_beta(rows)[None]
    phi = np.exp(log_phi - logsumexp(log_phi, axis=1, keepdims=True))
    expected = np.einsum("dw,dkw->wk", x, phi)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(
        word_statistics(documents, gamma.to(dtype), weights).double().numpy(), expected, rtol=tolerance, atol=tolerance
    )
    theta = torch.from_numpy(np.exp(log_theta)).to(dtype)
    norm = np.exp(log_theta) @ weights.weight.double().numpy().T
    np.testing.assert_allclose(normalisers(documents, theta, weights.weight).double().numpy(), norm[x > 0], rtol=1e-5)


def test_document_bounds_agree_with_the_formula() -> None:
    x, rows = corpus(), concentrations()
    alpha = np.array([0.3, 1.5, 0.7, 0.05])
    gamma = np.random.default_rng(3).gamma(1.0, 2.0, (12, 4))
    found = document_bounds(
        Documents.from_matrix(x), torch.from_numpy(gamma), word_weights(rows, rows.sum(0)), torch.from_numpy(alpha)
    )
    expected = [dense_bound(x[d], gamma[d], expected_log_beta(rows), alpha) for d in range(12)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11)


def test_collapsed_words_is_a_log_sum_exp_with_its_gradient() -> None:
    documents = Documents.from_matrix(corpus(5, 6))
    generator = torch.Generator().manual_seed(0)
    log_theta = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    log_beta = torch.randn(3, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: collapsed_words(a, b, documents), (log_theta, log_beta))
    dense = (torch.logsumexp(log_theta[:, :, None] + log_beta[None], 1) * torch.from_numpy(corpus(5, 6))).sum()
    torch.testing.assert_close(collapsed_words(log_theta, log_beta, documents), dense)


def test_collapsed_words_survives_expected_logs_that_underflow() -> None:
    documents = Documents.from_matrix(np.array([[2, 1]]))
    log_theta = torch.tensor([[-2000.0, -1000.0]], dtype=torch.float64, requires_grad=True)
    log_beta = torch.tensor([[-3000.0, -1.0], [-3000.0, -2.0]], dtype=torch.float64, requires_grad=True)
    value = collapsed_words(log_theta, log_beta, documents)
    assert value.item() == pytest.approx(2 * -4000.0 - 1002.0)
    value.backward()
    assert log_theta.grad is not None
    torch.testing.assert_close(log_theta.grad, torch.tensor([[0.0, 3.0]], dtype=torch.float64), atol=1e-9, rtol=0)


def plain_gamma(counts: Array, log_beta: Array, alpha: Array, steps: int) -> Array:
    """Plain fixed-point steps of one document, densely."""
    gamma: Array = alpha + counts.sum() / len(alpha)
    for _ in range(steps):
        log_phi = digamma(gamma)[:, None] + log_beta
        gamma = alpha + (counts * np.exp(log_phi - logsumexp(log_phi, axis=0))).sum(1)
    return gamma


def test_local_step_finds_the_fixed_point_of_the_plain_iteration() -> None:
    x, rows = corpus(20, 9, seed=4), concentrations(seed=5)
    alpha = np.array([0.6, 1.5, 0.7, 0.9])  # large enough for one optimum
    gamma = infer_documents(
        Documents.from_matrix(x), word_weights(rows, rows.sum(0)), torch.from_numpy(alpha), tol=1e-12, max_iter=5000
    )
    expected = [plain_gamma(row, expected_log_beta(rows), alpha, 1200) for row in x]
    np.testing.assert_allclose(gamma.numpy(), expected, rtol=1e-8)


def test_without_acceleration_no_step_lowers_a_bound_and_each_is_the_plain_one() -> None:
    x, rows = corpus(20, 9, seed=4), concentrations(seed=5)
    documents, weights = Documents.from_matrix(x), word_weights(rows, rows.sum(0))
    alpha = np.full(4, 0.1)
    before = np.full(20, -np.inf)
    for steps in range(1, 12):
        gamma = infer_documents(documents, weights, torch.from_numpy(alpha), tol=0.0, max_iter=steps, accelerate=False)
        expected = [plain_gamma(row, expected_log_beta(rows), alpha, steps) for row in x]
        np.testing.assert_allclose(gamma.numpy(), expected, rtol=1e-9)
        bounds = document_bounds(documents, gamma, weights, torch.from_numpy(alpha)).numpy()
        assert (bounds >= before - 1e-11 * np.abs(bounds)).all()
        before = bounds


def test_acceleration_needs_fewer_steps_for_the_same_tolerance() -> None:
    rng = np.random.default_rng(6)
    rows = torch.from_numpy(rng.gamma(100.0, 0.01, (300, 10)))  # as topics start: the slowest case
    x = rng.multinomial(80, rng.dirichlet(np.full(300, 0.5)), size=40).astype(float)
    documents, weights = Documents.from_matrix(x), word_weights(rows, rows.sum(0))
    alpha = torch.full((10,), 0.1, dtype=torch.float64)

    def bound(steps: int, accelerate: bool) -> float:
        gamma = infer_documents(documents, weights, alpha, tol=1e-3, max_iter=steps, accelerate=accelerate)
        return float(document_bounds(documents, gamma, weights, alpha).sum())

    assert bound(40, True) > bound(120, False)


def test_a_document_does_not_depend_on_the_others_in_the_batch() -> None:
    x, rows = corpus(30, 9, seed=7), concentrations(seed=8)
    documents, weights = Documents.from_matrix(x), word_weights(rows, rows.sum(0))
    alpha = torch.full((4,), 0.1, dtype=torch.float64)
    together = infer_documents(documents, weights, alpha, tol=1e-3, max_iter=100)
    for d in (0, 2, 17):
        alone = infer_documents(documents[[d]], weights, alpha, tol=1e-3, max_iter=100)
        torch.testing.assert_close(alone[0], together[d], rtol=1e-12, atol=1e-12)


def test_empty_documents_keep_the_prior() -> None:
    rows = concentrations()
    alpha = torch.tensor([0.3, 1.5, 0.7, 0.05], dtype=torch.float64)
    documents = Documents.from_matrix(np.zeros((2, 9)))
    weights = word_weights(rows, rows.sum(0))
    gamma = infer_documents(documents, weights, alpha, tol=1e-3, max_iter=100)
    torch.testing.assert_close(gamma, alpha.expand(2, 4))
    bounds = document_bounds(documents, gamma, weights, alpha)
    torch.testing.assert_close(bounds, torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_words_that_no_topic_knows_are_shared_by_all(dtype: torch.dtype) -> None:
    rows = torch.full((3, 2), 0.002, dtype=dtype)  # exp(digamma(0.002)) is e^-500
    rows[0] = torch.tensor([50.0, 1.0])
    weights: Weights = word_weights(rows, rows.sum(0))
    documents = Documents.from_matrix(np.array([[0, 3, 4]]), dtype=dtype)
    gamma = infer_documents(documents, weights, torch.full((2,), 0.5, dtype=dtype), tol=1e-6, max_iter=500)
    assert bool(gamma.isfinite().all())
    assert float(gamma.sum()) == pytest.approx(8.0, rel=1e-5)
