"""Distances between distributions of features against closed forms, scipy, and a double loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from jensen.metrics import frechet_distance, generation, kernel_distance


def correlated(n: int, dims: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dims, dims, generator=generator, dtype=torch.float64)
    return torch.randn(n, dims, generator=generator, dtype=torch.float64) @ mixing + seed


def with_moments(n: int, mean: Tensor, covariance: Tensor) -> Tensor:
    """Rows whose own mean and covariance are exactly these."""
    x = torch.randn(n, len(mean), dtype=torch.float64)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T).reshape(len(mean), -1))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_commuting_covariances_by_hand() -> None:
    """Of N(m, diag(s^2)) and N(0, diag(r^2)): |m|^2 + sum (s - r)^2."""
    mean, s, r = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([1.0, 2.0, 0.3]).double(), torch.ones(3).double()
    a, b = with_moments(50, mean, torch.diag(s**2)), with_moments(70, torch.zeros(3).double(), torch.diag(r**2))
    expected = (mean.square().sum() + (s - r).square().sum()).item()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_with_the_matrix_root_of_scipy() -> None:
    a, b = correlated(400, 6, 1), correlated(300, 6, 2)
    first, second = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = np.square(a.numpy().mean(0) - b.numpy().mean(0)).sum() + np.trace(first + second - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(a.float(), b.float()) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_singular_covariances() -> None:
    """Fewer rows than features, and features that are always 0: the root is still exact."""
    a, b = correlated(5, 3, 1), correlated(4, 3, 2)
    zeros = torch.zeros(5, 20).double(), torch.zeros(4, 20).double()
    wide = frechet_distance(torch.cat([a, zeros[0]], 1), torch.cat([b, zeros[1]], 1))
    assert wide == pytest.approx(frechet_distance(a, b), rel=1e-9)
    many = torch.randn(4, 30, dtype=torch.float64)
    assert frechet_distance(many, many) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(many, many + 0.1) == pytest.approx(0.3, rel=1e-7)
    # Each on a line of its own, at right angles: the roots have nothing in common.
    one, two = torch.zeros(9, 2).double(), torch.zeros(9, 2).double()
    one[:, 0], two[:, 1] = torch.arange(9.0), torch.arange(9.0)
    assert frechet_distance(one, two) == pytest.approx(2 * 16 + 2 * 7.5)
    # So in any directions of many dimensions: what rounding makes of variances of 0 has no root.
    turn, _ = torch.linalg.qr(torch.randn(100, 100, dtype=torch.float64))
    assert frechet_distance(one @ turn[:2], two @ turn[:2]) == pytest.approx(47, abs=1e-8)


def test_frechet_distance_of_one_feature() -> None:
    a, b = with_moments(20, torch.tensor([3.0]).double(), torch.tensor([[4.0]]).double()), torch.randn(30, 1).double()
    expected = (3 - b.mean()) ** 2 + (2 - b.std()) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-10)


def by_double_loop(a: Tensor, b: Tensor) -> float:
    def kernel(x: Tensor, y: Tensor) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(kernel(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(kernel(x, y) for x in a for y in b) / (n * m)


@pytest.mark.parametrize(("n", "m", "at_once"), [(3, 3, 1000), (25, 13, 1000), (40, 31, 2), (7, 50, 3)])
def test_kernel_distance_is_that_of_a_double_loop(
    n: int, m: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "ROWS_AT_ONCE", at_once)
    a, b = correlated(n, 4, 1), correlated(m, 4, 2)
    assert kernel_distance(a, b).value == pytest.approx(by_double_loop(a, b), rel=1e-10)


def test_error_of_the_kernel_distance_is_the_jackknife_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many blocks as rows: leave out the k-th of both, whatever the order they were put in."""
    monkeypatch.setattr(generation, "BLOCKS", 8)
    a, b = correlated(8, 3, 1), correlated(8, 3, 2)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    left = [by_double_loop(a[order[order != order[k]]], b[order[order != order[k]]]) for k in range(8)]
    expected = math.sqrt(7 * np.var(left))
    assert kernel_distance(a, b).error == pytest.approx(expected, rel=1e-8)


def test_kernel_distance_of_gaussians_in_closed_form() -> None:
    """One dimension: E k(x, y) from the moments of both, (xy + 1)^3 = x^3 y^3 + 3 x^2 y^2 + 3 xy + 1."""

    def moments(mean: float, sd: float) -> Tensor:
        return torch.tensor([1.0, mean, mean**2 + sd**2, mean**3 + 3 * mean * sd**2]).double()

    difference = moments(0.5, 1.2) - moments(0.0, 1.0)
    exact = (torch.tensor([1.0, 3.0, 3.0, 1.0]).double() * difference.square()).sum().item()
    values, errors = [], []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        a = 0.5 + 1.2 * torch.randn(500, 1, generator=generator)
        b = torch.randn(400, 1, generator=generator)
        found = kernel_distance(a, b)
        values.append(found.value)
        errors.append(found.error)
    spread = float(np.std(values, ddof=1))
    assert np.mean(values) == pytest.approx(exact, abs=3 * spread / math.sqrt(40))
    assert np.mean(errors) == pytest.approx(spread, rel=0.3)  # the error is that of the values


def test_kernel_distance_is_unbiased_where_nothing_differs() -> None:
    found = [kernel_distance(*torch.randn(2, 60, 5)) for _ in range(100)]
    values = np.array([each.value for each in found])
    assert abs(values.mean()) < 3 * values.std() / 10
    assert (values < 0).any()
    assert np.mean([abs(each.value) < 3 * each.error for each in found]) > 0.9


def test_order_of_the_rows_does_not_matter() -> None:
    a, b = correlated(60, 4, 1), correlated(50, 4, 2)
    first, second = kernel_distance(a, b), kernel_distance(a.flip(0), b[torch.randperm(50)])
    assert second.value == pytest.approx(first.value, rel=1e-10)
    assert frechet_distance(a.flip(0), b) == pytest.approx(frechet_distance(a, b), rel=1e-10)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (torch.randn(5, 3), torch.randn(5, 4), r"\(5, 3\) and \(5, 4\)"),
        (torch.randn(1, 3), torch.randn(5, 3), "at least"),
        (torch.randn(5), torch.randn(5), "features should be"),
        (torch.randn(5, 3), torch.full((5, 3), torch.nan), "second features"),
        (torch.full((5, 3), torch.inf), torch.randn(5, 3), "first features"),
    ],
)
def test_impossible_features(a: Tensor, b: Tensor, words: str) -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match=words):
            distance(a, b)  # type: ignore[operator]
