"""Collections of documents in files: word counts, or plain text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from jensen.data.declared import require_sizes
from jensen.errors import DataError
from jensen.inference.models.documents import Documents

__all__ = ["Corpus", "load_documents"]


@dataclass(frozen=True)
class Corpus:
    """Documents, and the words that their numbers stand for ("word 17" where the file has no vocabulary)."""

    documents: Documents
    vocabulary: list[str]


def load_documents(path: str | Path, *, dtype: torch.dtype = torch.float64, **options: Any) -> Corpus:
    """Read documents from a file or folder.

    Args:
        path: an npz file with `indptr`, `indices`, `counts` and perhaps `vocab`; one of `scipy.sparse.save_npz`; a text
            file with one document a line; or a folder of text files (.txt), one document each, in order of their names.
        options: of scikit-learn's CountVectorizer, for text: `min_df`, `stop_words`, ...

    Raises:
        DataError: a file that is missing, damaged, or holds no documents; it names the file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        files = sorted(path.glob("*.txt"))
        if not files:
            raise DataError(f"{path} holds no text files (*.txt), one document each")
        return _from_text([_read(file) for file in files], path, dtype, options)
    if not path.is_file():
        raise DataError(f"there is no file or folder {path}")
    if path.suffix == ".npz":
        if options:
            raise DataError(f"{path} has counts: {', '.join(options)} are for text")
        return _from_npz(path, dtype)
    return _from_text(_read(path).splitlines(), path, dtype, options)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as UTF-8 text: {error}") from None


def _from_text(texts: list[str], path: Path, dtype: torch.dtype, options: dict[str, Any]) -> Corpus:
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(**options)
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError as error:
        raise DataError(f"{path}: no words could be counted in {len(texts)} documents: {error}") from None
    return Corpus(Documents.from_matrix(matrix, dtype=dtype), vectorizer.get_feature_names_out().tolist())


def _from_npz(path: Path, dtype: torch.dtype) -> Corpus:
    try:
        require_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        if "format" in arrays:
            matrix, words = sp.csr_matrix(sp.load_npz(path)), None
        else:
            missing = {"indptr", "indices", "counts"} - set(arrays)
            if missing:
                raise DataError(
                    f"{path} has no key {', '.join(sorted(missing))}: documents are indptr, indices, counts and "
                    "perhaps vocab, or what scipy.sparse.save_npz writes"
                )
            words = arrays.get("vocab")
            columns = len(words) if words is not None else int(arrays["indices"].max(initial=-1)) + 1
            shape = (len(arrays["indptr"]) - 1, columns)
            matrix = sp.csr_matrix((arrays["counts"], arrays["indices"], arrays["indptr"]), shape=shape)
            matrix.check_format(full_check=True)
        documents = Documents.from_matrix(matrix, dtype=dtype)
    except DataError:
        raise
    except Exception as error:  # of a damaged file nearly anything
        raise DataError(f"cannot read documents from {path}: {' '.join(str(error).split())[:300]}") from None
    names = [f"word {n}" for n in range(documents.vocabulary)] if words is None else [str(word) for word in words]
    return Corpus(documents, names)
