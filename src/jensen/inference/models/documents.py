"""Word counts of documents as compressed sparse rows, and their split for document completion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Generator, Tensor

__all__ = ["Documents", "split_documents"]


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents as bags of words: of each, the words that occur and how often.

    Args:
        offsets: (D + 1,) int64; document d has the entries offsets[d] to offsets[d + 1].
        words: (entries,) int64, word numbers in 0 .. vocabulary - 1, each at most once in a document.
        counts: (entries,) floating point, positive.
        vocabulary: number of words V.
    """

    offsets: Tensor
    words: Tensor
    counts: Tensor
    vocabulary: int

    @classmethod
    def from_matrix(
        cls,
        matrix: Any,
        *,
        dtype: torch.dtype = torch.float64,
        vocabulary: int | None = None,
        fractional: bool = False,
    ) -> Self:
        """From a document by word matrix of counts: any SciPy sparse format, an array or a tensor.

        Args:
            vocabulary: how many words there must be.
            fractional: accept counts that are no whole numbers (weights).

        Raises:
            ValueError: not a matrix, no rows, the wrong number of words; NaN, negative or fractional counts, and where.
        """
        rows = sp.csr_matrix(matrix) if sp.issparse(matrix) else _dense(matrix)
        if rows.shape[0] == 0 or rows.shape[1] == 0:
            raise ValueError(f"documents by words need at least one of each, got a matrix of shape {rows.shape}")
        if vocabulary is not None and rows.shape[1] != vocabulary:
            raise ValueError(f"X has {rows.shape[1]} words, but the model knows {vocabulary}: use the same vocabulary")
        if rows.dtype.kind not in "biuf":
            raise ValueError(f"counts must be real numbers, got {rows.dtype}")
        _check_counts(rows, fractional)
        if not (rows.has_canonical_format and rows.data.all()):
            rows = rows.copy()
            rows.sum_duplicates()
            rows.eliminate_zeros()
        return cls(
            torch.from_numpy(rows.indptr.astype(np.int64)),
            torch.from_numpy(rows.indices.astype(np.int64)),
            torch.from_numpy(rows.data.astype(np.float64)).to(dtype),
            int(rows.shape[1]),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Documents:
        """Some documents: a slice, or a tensor or array of numbers or booleans."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                offsets = self.offsets[start : max(start, stop) + 1]
                first, last = int(offsets[0]), int(offsets[-1])
                return replace(
                    self, offsets=offsets - first, words=self.words[first:last], counts=self.counts[first:last]
                )
            index = torch.arange(start, stop, step) if step > 0 else torch.tensor(range(start, stop, step))
        chosen = torch.as_tensor(index, device=self.offsets.device)
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero().squeeze(1)
        chosen = torch.atleast_1d(chosen).long()
        chosen = torch.where(chosen < 0, chosen + len(self), chosen)
        begins = self.offsets.index_select(0, chosen)
        sizes = self.offsets.index_select(0, chosen + 1) - begins
        offsets = torch.zeros(len(chosen) + 1, dtype=torch.int64, device=sizes.device)
        torch.cumsum(sizes, 0, out=offsets[1:])
        places = torch.repeat_interleave(begins - offsets[:-1], sizes)
        places += torch.arange(len(places), device=places.device)
        return replace(
            self, offsets=offsets, words=self.words.index_select(0, places), counts=self.counts.index_select(0, places)
        )

    @property
    def lengths(self) -> Tensor:
        """Tokens of each document, shape (D,)."""
        return torch.segment_reduce(self.counts, "sum", offsets=self.offsets, initial=0.0)

    @property
    def rows(self) -> Tensor:
        """The document of each entry, shape (entries,)."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.offsets.device), self.offsets.diff())

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Documents:
        """The same in another precision or on another device."""
        return Documents(
            self.offsets.to(device), self.words.to(device), self.counts.to(device, dtype or None), self.vocabulary
        )

    def compact(self) -> tuple[Tensor, Documents]:
        """The words that occur (ascending numbers), and the documents over that smaller vocabulary."""
        present = torch.zeros(self.vocabulary, dtype=torch.bool, device=self.words.device)
        present[self.words] = True
        used = present.nonzero().squeeze(1)
        number = torch.empty(self.vocabulary, dtype=torch.int64, device=self.words.device)
        number[used] = torch.arange(len(used), device=used.device)
        return used, replace(self, words=number.index_select(0, self.words), vocabulary=len(used))

    def to_scipy(self) -> sp.csr_matrix:
        """As a SciPy matrix (D, V)."""
        arrays = (t.cpu().numpy() for t in (self.counts, self.words, self.offsets))
        return sp.csr_matrix(tuple(arrays), shape=(len(self), self.vocabulary))


def _dense(matrix: Any) -> sp.csr_matrix:
    array = np.asarray(matrix)
    if array.ndim != 2:
        raise ValueError(
            f"counts must be a matrix of documents by words, got {array.ndim} dimension(s). Reshape your data: one "
            "document is X.reshape(1, -1)"
        )
    if array.dtype == object:
        array = array.astype(np.float64)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported: counts must be whole numbers")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"counts must be real numbers, got {array.dtype}")
    return sp.csr_matrix(array)


def _check_counts(rows: sp.csr_matrix, fractional: bool) -> None:
    """Raise ValueError at the first count that is none."""
    if not rows.data.size:
        return
    with np.errstate(invalid="ignore"):
        fault = ~np.isfinite(rows.data)
        what = "are not finite (NaN or infinity)"
        if not fault.any():
            fault, what = rows.data < 0, "are negative"
        if not fault.any() and not fractional:
            fault, what = rows.data != np.floor(rows.data), "are no whole numbers"
    if fault.any():
        first = int(np.argmax(fault))
        row = int(np.searchsorted(rows.indptr, first, side="right")) - 1
        hint = "; weights such as tf-idf need fractional=True" if "whole" in what else ""
        negative = "Negative values in data: " if "negative" in what else ""
        raise ValueError(
            f"{negative}{int(fault.sum())} counts {what}; the first, {rows.data[first]}, is word {rows.indices[first]} "
            f"of document {row}{hint}"
        )


def split_documents(documents: Documents, generator: Generator | None = None) -> tuple[Documents, Documents]:
    """Split each document's tokens at random into two halves, for document completion.

    Args:
        documents: with whole counts.

    Returns:
        (observed, held out), as many documents each; of an odd number of tokens one more is observed.

    Raises:
        ValueError: fractional counts, which have no tokens.
    """
    whole = documents.counts.round()
    if not torch.equal(whole, documents.counts):
        raise ValueError("document completion splits tokens: counts must be whole numbers")
    repeats = whole.long()
    entry = torch.repeat_interleave(torch.arange(len(repeats)), repeats)
    document = documents.rows[entry]
    shuffled = torch.randperm(len(entry), generator=generator)
    order = shuffled[torch.argsort(document[shuffled], stable=True)]
    begins = torch.zeros(len(documents) + 1, dtype=torch.int64)
    torch.cumsum(documents.lengths.round().long(), 0, out=begins[1:])
    rank = torch.arange(len(order)) - begins[document[order]]
    observed = 2 * rank < begins.diff()[document[order]]
    parts = []
    for kept in (order[observed], order[~observed]):
        counts = torch.bincount(entry[kept], minlength=len(repeats))
        there = counts > 0
        offsets = torch.zeros(len(documents) + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(documents.rows[there], minlength=len(documents)), 0, out=offsets[1:])
        parts.append(
            Documents(offsets, documents.words[there], counts[there].to(documents.counts), documents.vocabulary)
        )
    return parts[0], parts[1]
