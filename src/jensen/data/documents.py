"""Documents as counts of words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.npz import read_arrays
from jensen.data.partition import random
from jensen.errors import DataError

__all__ = ["KEYS", "SparseCounts", "load_documents"]

KEYS = ("indptr", "indices", "counts", "vocab")
"""Arrays of a file of documents: compressed sparse rows, documents by words, and the words."""


class SparseCounts:
    """A source of counts (N, V) that are kept as compressed sparse rows, and made dense a batch at a time.

    Args:
        matrix: `scipy.sparse.csr_matrix`.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, index: Tensor, /) -> Tensor:
        return torch.from_numpy(self.matrix[index.cpu().numpy()].toarray().astype(np.float32))


def load_documents(path: Path, config: DataConfig) -> Dataset:
    """An npz file with `indptr`, `indices`, `counts` and `vocab`: each datum is how often each word is in a document.

    Documents without words are refused. The split is random: a fifth for test, a share for validation.

    Raises:
        DataError: damaged, not such rows, negative counts, or an empty document.
    """
    from scipy import sparse

    arrays = read_arrays(path, KEYS)
    words = tuple(str(word) for word in arrays["vocab"].tolist())
    shape = (len(arrays["indptr"]) - 1, len(words))
    try:
        matrix = sparse.csr_matrix((arrays["counts"], arrays["indices"], arrays["indptr"]), shape=shape)
        matrix.check_format(full_check=True)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: indptr, indices and counts are no sparse rows of {shape[1]:,} words: {error}"
        ) from None
    if shape[0] == 0 or shape[1] < 2:
        raise DataError(f"{path}: there are {shape[0]} documents of {shape[1]} words; at least 1 of 2 are needed")
    if matrix.data.dtype.kind not in "iuf" or (matrix.data < 0).any() or (matrix.data != np.round(matrix.data)).any():
        raise DataError(f"{path}: counts should be whole numbers, 0 or more")
    matrix.sum_duplicates()
    lengths = np.asarray(matrix.sum(1)).ravel()
    if not lengths.all():
        empty = np.flatnonzero(lengths == 0)
        raise DataError(f"{path}: {len(empty):,} documents have no words, the first is {empty[0]}; remove them")
    return Dataset(
        name=config.title,
        values=SparseCounts(matrix),
        shape=(shape[1],),
        levels=None,
        **random(shape[0], validation=config.validation),
        vocabulary=words,
        suits="multinomial",
        description=f"{shape[0]:,} documents of {shape[1]:,} words, {int(lengths.sum()):,} tokens",
    )
