"""Word counts as compressed rows: reading, taking, splitting, and refusing what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from jensen.inference.models.documents import Documents, split_documents

X = np.array([[2, 0, 1, 0], [0, 0, 0, 0], [0, 3, 0, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize(
    "make", [np.asarray, sp.csr_matrix, sp.csc_array, sp.coo_matrix, torch.tensor, np.float32, lambda x: x.tolist()]
)
def test_any_matrix_is_read(make: Any) -> None:
    documents = Documents.from_matrix(make(X))
    np.testing.assert_array_equal(documents.to_scipy().toarray(), X)
    assert len(documents) == 4
    assert documents.vocabulary == 4
    assert documents.lengths.tolist() == [3, 0, 4, 3]
    assert documents.counts.dtype == torch.float64


def test_duplicate_entries_and_explicit_zeros_are_merged_without_touching_the_input() -> None:
    matrix = sp.csr_matrix((np.array([1, 2, 0]), np.array([2, 2, 0]), np.array([0, 2, 3])), shape=(2, 3))
    documents = Documents.from_matrix(matrix)
    assert documents.words.tolist() == [2]
    assert documents.counts.tolist() == [3]
    assert matrix.nnz == 3


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 3),
        slice(None, None, 2),
        slice(None, None, -1),
        slice(5, 9),
        torch.tensor([3, 0, 0]),
        np.array([True, False, True, False]),
        [-1],
        torch.tensor([], dtype=torch.int64),
    ],
)
def test_taking_documents_takes_rows(index: Any) -> None:
    expected = X[index.numpy() if isinstance(index, torch.Tensor) else index]
    found = Documents.from_matrix(X)[index]
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.to_scipy().toarray(), expected)


def test_compact_keeps_the_words_that_occur() -> None:
    words, some = Documents.from_matrix(X)[2:3].compact()
    assert words.tolist() == [1, 3]
    np.testing.assert_array_equal(some.to_scipy().toarray(), [[3, 1]])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[1.0, np.nan]]), "NaN or infinity.*word 1 of document 0"),
        (np.array([[1.0, 0.0], [np.inf, 1.0]]), "NaN or infinity.*word 0 of document 1"),
        (np.array([[1, 0], [1, -2]]), "negative.*-2.*word 1 of document 1"),
        (np.array([[1.0, 0.5]]), "whole numbers.*0.5.*word 1 of document 0.*fractional=True"),
        (np.array([1, 2]), "matrix of documents by words.*1 dim"),
        (np.zeros((0, 3)), "at least one"),
        (np.zeros((3, 0)), "at least one"),
        (np.array([[1j]]), "Complex data not supported"),
        (np.array([["a"]]), "real numbers"),
    ],
)
def test_what_is_no_count_is_refused_with_its_place(matrix: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Documents.from_matrix(matrix)


def test_wrong_vocabulary_size_is_refused() -> None:
    with pytest.raises(ValueError, match="X has 4 words, but the model knows 5"):
        Documents.from_matrix(X, vocabulary=5)


def test_weights_are_accepted_when_asked_for() -> None:
    assert Documents.from_matrix(np.array([[0.5, 1.5]]), fractional=True).lengths.tolist() == [2.0]


def test_split_halves_every_document_and_loses_no_token() -> None:
    rng = np.random.default_rng(0)
    x = rng.poisson(2.0, (50, 30))
    x[3] = 0
    observed, held = split_documents(Documents.from_matrix(x), torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(observed.to_scipy().toarray() + held.to_scipy().toarray(), x)
    difference = observed.lengths - held.lengths
    assert set(difference.tolist()) == {0.0, 1.0}
    again = split_documents(Documents.from_matrix(x), torch.Generator().manual_seed(0))[0]
    assert torch.equal(again.words, observed.words)
    other = split_documents(Documents.from_matrix(x), torch.Generator().manual_seed(1))[0]
    assert (other.to_scipy() != observed.to_scipy()).nnz > 0


def test_split_is_a_random_half() -> None:
    """Each token is observed with probability one half: hypergeometric counts."""
    x = np.tile([6, 2], (4000, 1))
    observed, _ = split_documents(Documents.from_matrix(x), torch.Generator().manual_seed(0))
    first = observed.to_scipy().toarray()[:, 0]
    expected = 4 * 6 / 8
    variance = 4 * (6 / 8) * (2 / 8) * (8 - 4) / (8 - 1)
    assert abs(first.mean() - expected) < 4 * (variance / 4000) ** 0.5
    assert first.var() == pytest.approx(variance, rel=0.1)


def test_weights_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        split_documents(Documents.from_matrix(np.array([[0.5]]), fractional=True))
