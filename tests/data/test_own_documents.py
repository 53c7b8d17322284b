"""Documents as word counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jensen.config import DataConfig
from jensen.data import prepare
from jensen.data.documents import load_documents
from jensen.errors import DataError


def written(path: Path, matrix: Any, **changes: Any) -> Path:
    rows, words = np.nonzero(matrix)
    arrays = {
        "indptr": np.concatenate([[0], np.bincount(rows, minlength=len(matrix)).cumsum()]),
        "indices": words,
        "counts": matrix[rows, words],
        "vocab": np.array([f"word{n}" for n in range(matrix.shape[1])]),
    }
    file = path / "corpus.npz"
    np.savez(file, **(arrays | changes))
    return file


@pytest.fixture
def counts() -> Any:
    counts = np.random.default_rng(0).poisson(1.0, (50, 12))
    counts[:, 0] += 1
    return counts


def test_batches_are_the_counts(tmp_path: Path, counts: Any) -> None:
    file = written(tmp_path, counts)
    dataset = load_documents(file, DataConfig(name=str(file)))
    assert dataset.suits == "multinomial"
    assert dataset.vocabulary[3] == "word3"
    data = prepare(dataset)
    for split in (data.train, data.valid, data.test):
        batch = split.batch(torch.arange(len(split)))
        np.testing.assert_array_equal(batch.x.numpy(), counts[split.indices.numpy()])
        assert batch.target is batch.x


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": -np.ones(1)}, "no sparse rows"),
        ({"vocab": np.array(["one"])}, "no sparse rows|at least 1 of 2"),
        ({"indptr": np.array([0, 3, 2])}, "no sparse rows"),
    ],
)
def test_damaged_rows_are_refused(tmp_path: Path, counts: Any, changes: dict[str, Any], said: str) -> None:
    file = written(tmp_path, counts, **changes)
    with pytest.raises(DataError, match=said):
        load_documents(file, DataConfig(name=str(file)))


def test_wrong_counts_and_empty_documents_are_refused(tmp_path: Path, counts: Any) -> None:
    file = written(tmp_path, np.where(counts == counts.max(), 0.5, counts))
    with pytest.raises(DataError, match="whole numbers"):
        load_documents(file, DataConfig(name=str(file)))
    counts[7] = 0
    file = written(tmp_path, counts)
    with pytest.raises(DataError, match="1 documents have no words, the first is 7"):
        load_documents(file, DataConfig(name=str(file)))
