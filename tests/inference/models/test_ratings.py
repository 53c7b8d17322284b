"""Sparse ratings: what is accepted, what is refused, batches, and sums of logarithms without allocations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from jensen.inference.models import ratings as module
from jensen.inference.models.ratings import Ratings, as_ratings, log_sums, row_sums

USERS, ITEMS, K = 30, 20, 4


@pytest.fixture
def counts() -> Ratings:
    return as_ratings(np.random.default_rng(0).poisson(0.6, (USERS, ITEMS)), counts=True)


def logs(seed: int, rows: int, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = spread * torch.randn(rows, K, dtype=torch.float64, generator=generator)
    return drawn.requires_grad_()


def plainly(users: Tensor, items: Tensor, counts: Ratings) -> Tensor:
    dense = torch.logsumexp(users[:, None] + items[None], -1)
    return (torch.as_tensor(counts.matrix.toarray()) * dense).sum()


@pytest.mark.parametrize("spread", [1.0, 1000.0])
def test_log_sums_and_their_gradients(counts: Ratings, spread: float) -> None:
    users, items = logs(0, USERS, spread), logs(1, ITEMS, spread)
    ours, plain = log_sums(users, items, counts), plainly(users, items, counts)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)
    for one, other in zip(
        torch.autograd.grad(ours, [users, items]), torch.autograd.grad(plain, [users, items]), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_log_sums_in_pieces(counts: Ratings, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = logs(0, USERS), logs(1, ITEMS)
    whole = log_sums(users, items, counts)
    monkeypatch.setattr(module, "_CHUNK", 7 * K)
    torch.testing.assert_close(log_sums(users, items, counts), whole, rtol=1e-13, atol=0)


def test_row_sums_with_users_without_ratings() -> None:
    values = np.array([[0, 2.0, 0], [0, 0, 0], [1.0, 0, 3.0]])
    ratings = as_ratings(sp.csr_matrix(values), counts=False)
    table = torch.arange(6, dtype=torch.float64).reshape(3, 2)
    torch.testing.assert_close(row_sums(ratings, table, ratings.values), torch.as_tensor(values) @ table)
    assert bool((row_sums(ratings, table)[1] == 0).all())


def test_batches_keep_stored_zeros() -> None:
    matrix = sp.csr_matrix((np.array([0.0, 5.0, 3.0]), (np.array([0, 1, 2]), np.array([1, 0, 1]))), shape=(3, 2))
    ratings = as_ratings(matrix, counts=False)
    part = ratings[torch.tensor([2, 0])]
    assert part.values.tolist() == [3.0, 0.0]
    assert part.users.tolist() == [0, 1]
    assert part.items.tolist() == [1, 1]
    assert ratings[1:3].values.tolist() == [5.0, 3.0]


def test_all_forms_say_the_same() -> None:
    dense = np.array([[1.0, np.nan, 0.0], [np.nan, 4.0, 2.0]])
    rows, columns = np.nonzero(~np.isnan(dense))
    triples = (rows, columns, dense[rows, columns])
    sparse = sp.coo_matrix((triples[2], (rows, columns)), shape=dense.shape)
    for form in (dense, triples, sparse, sparse.tocsr(), sparse.tocsc()):
        ratings = as_ratings(form, counts=False)
        assert ratings.matrix.shape == (2, 3)
        np.testing.assert_array_equal(ratings.matrix.toarray(), np.nan_to_num(dense))
        assert ratings.matrix.nnz == 4
    assert as_ratings(np.nan_to_num(dense), counts=True).matrix.nnz == 3
    assert as_ratings(triples, counts=False, n_users=5, n_items=7).matrix.shape == (5, 7)


def test_pairs_given_twice() -> None:
    twice = (np.array([0, 1, 0]), np.array([2, 1, 2]), np.array([1.0, 2.0, 3.0]))
    assert as_ratings(twice, counts=True).matrix[0, 2] == 4
    with pytest.raises(ValueError, match="user 0 has rated item 2 more than once"):
        as_ratings(twice, counts=False)
    with pytest.raises(ValueError, match="more than once"):
        as_ratings(sp.coo_matrix((twice[2], twice[:2])), counts=False)


@pytest.mark.parametrize(
    ("given", "counts", "message"),
    [
        (np.array([[1.0, np.inf]]), False, r"NaN or infinity: X\[0, 1\] is inf"),
        (sp.csr_matrix(np.array([[1.0, np.nan]])), False, r"X\[0, 1\] is nan"),
        (np.array([[1.0, np.nan]]), True, r"X\[0, 1\] is nan"),
        (np.array([[1.0], [-2.0]]), True, r"Negative values in data.*X\[1, 0\] is -2"),
        (np.array([[1.0], [2.5]]), True, r"whole numbers.*X\[1, 0\] is 2.5"),
        (np.full((2, 2), np.nan), False, "nothing is observed"),
        (sp.csr_matrix((3, 2)), True, "nothing is observed"),
        (([], [], []), False, "users must be whole numbers"),
        (np.zeros(3), False, r"tuple \(not a list\) of three arrays"),
        (([0.5], [1], [2.0]), False, "users must be whole numbers"),
        (([0], [-1], [2.0]), False, "items must be whole numbers"),
        (([0, 1], [1], [2.0]), False, "equally many: 2, 1, 1"),
        (sp.csr_matrix([[1 + 2j]]), False, "real numbers"),
    ],
)
def test_what_is_refused(given: Any, counts: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_ratings(given, counts=counts)


def test_three_rows_are_triples_as_a_tuple_only() -> None:
    rows = [[0, 1, 1], [2, 0, 1], [3, 4, 5]]
    np.testing.assert_array_equal(as_ratings(rows, counts=True).matrix.toarray(), rows)
    np.testing.assert_array_equal(as_ratings(tuple(rows), counts=True).matrix.toarray(), [[0, 0, 3], [4, 5, 0]])


def test_users_without_ratings_on_request() -> None:
    for nothing in (np.full((2, 3), np.nan), sp.csr_matrix((2, 3))):
        ratings = as_ratings(nothing, counts=False, empty=True)
        assert ratings.matrix.shape == (2, 3)
        assert ratings.matrix.nnz == 0
        assert bool((row_sums(ratings, torch.ones(3, 2, dtype=torch.float64)) == 0).all())
    with pytest.raises(ValueError, match="nothing is observed"):
        as_ratings(sp.csr_matrix((0, 3)), counts=False, empty=True)


def test_unknown_items_are_refused() -> None:
    with pytest.raises(ValueError, match="3 items, but there are 2"):
        as_ratings(np.ones((2, 3)), counts=False, n_items=2)


def test_fractional_counts_on_request() -> None:
    assert float(as_ratings(np.array([[0.5]]), counts=True, fractional=True).values) == 0.5
