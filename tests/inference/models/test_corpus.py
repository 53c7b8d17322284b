"""Reading collections of documents from files, and refusing damaged ones by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from jensen.errors import DataError
from jensen.inference.models.corpus import load_documents

X = sp.csr_matrix(np.array([[2, 0, 1], [0, 0, 0], [0, 3, 0]]))


def write(path: Path, **changes: object) -> Path:
    arrays = {"indptr": X.indptr, "indices": X.indices, "counts": X.data, "vocab": np.array(["a", "b", "c"])} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})  # type: ignore[arg-type]
    return path


def test_arrays_with_a_vocabulary(tmp_path: Path) -> None:
    corpus = load_documents(write(tmp_path / "x.npz"))
    assert corpus.vocabulary == ["a", "b", "c"]
    np.testing.assert_array_equal(corpus.documents.to_scipy().toarray(), X.toarray())


def test_without_a_vocabulary_words_have_numbers(tmp_path: Path) -> None:
    corpus = load_documents(str(write(tmp_path / "x.npz", vocab=None)))
    assert corpus.vocabulary == ["word 0", "word 1", "word 2"]


def test_a_scipy_file(tmp_path: Path) -> None:
    sp.save_npz(tmp_path / "x.npz", X.tocsc())
    np.testing.assert_array_equal(load_documents(tmp_path / "x.npz").documents.to_scipy().toarray(), X.toarray())


def test_text_lines_and_folders(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("the cat\nthe dog the dog\n", encoding="utf-8")
    corpus = load_documents(tmp_path / "x.txt")
    assert corpus.vocabulary == ["cat", "dog", "the"]
    np.testing.assert_array_equal(corpus.documents.to_scipy().toarray(), [[1, 0, 1], [0, 2, 2]])
    assert load_documents(tmp_path / "x.txt", stop_words=["the"]).vocabulary == ["cat", "dog"]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "b.txt").write_text("dog\ndog", encoding="utf-8")
    (folder / "a.txt").write_text("cat", encoding="utf-8")
    np.testing.assert_array_equal(load_documents(folder).documents.to_scipy().toarray(), [[1, 0], [0, 2]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": None}, "no key counts"),
        ({"counts": np.array([1, -1, 2])}, "negative"),
        ({"counts": np.array([1, 2])}, "cannot read documents"),
        ({"indices": np.array([0, 2, 7], dtype=np.int32)}, "cannot read documents"),
        ({"indptr": np.array([0, 2, 1, 3], dtype=np.int32)}, "cannot read documents"),
        ({"counts": np.array([None, 1, 2], dtype=object)}, "cannot read documents"),
    ],
)
def test_damaged_arrays_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write(tmp_path / "x.npz", **changes)
    with pytest.raises(DataError, match=message) as error:
        load_documents(path)
    assert str(path) in str(error.value)


def test_what_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        load_documents(tmp_path / "nothing.npz")
    with pytest.raises(DataError, match="no text files"):
        load_documents(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"PK not really")
    with pytest.raises(DataError, match=r"x\.npz"):
        load_documents(tmp_path / "x.npz")
    (tmp_path / "x.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"x\.txt: no words"):
        load_documents(tmp_path / "x.txt")
    (tmp_path / "y.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="UTF-8"):
        load_documents(tmp_path / "y.txt")
    write(tmp_path / "z.npz")
    with pytest.raises(DataError, match="min_df are for text"):
        load_documents(tmp_path / "z.npz", min_df=2)


def test_the_ap_corpus(data_directory: Path) -> None:
    corpus = load_documents(data_directory / "ap_corpus.npz")
    assert (len(corpus.documents), corpus.documents.vocabulary) == (2246, 10473)
    assert float(corpus.documents.counts.sum()) == 435838
    assert corpus.vocabulary[:3] == ["i", "new", "percent"]
