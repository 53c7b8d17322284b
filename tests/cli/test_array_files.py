"""Files of arrays that are not what their names say: a line for each, wherever commands read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jensen.cli.infer_file import read_data
from jensen.cli.inputs import load_npy, load_npz
from jensen.cli.tables import read_table
from jensen.errors import DataError

if TYPE_CHECKING:
    from .conftest import Jensen

TABLE = np.arange(6.0).reshape(3, 2)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """A single array, called an archive."""
    np.save(tmp_path / "one.npy", TABLE)
    return (tmp_path / "one.npy").rename(tmp_path / "array.npz")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive, called a single array."""
    np.savez(tmp_path / "some.npz", x=TABLE)
    return (tmp_path / "some.npz").rename(tmp_path / "archive.npy")


def test_a_single_array_is_no_archive(array: Path) -> None:
    with pytest.raises(DataError, match="holds a single array"):
        load_npz(array)
    with pytest.raises(DataError, match="holds a single array"):
        read_table(str(array))
    with pytest.raises(DataError, match=r"cannot be read: it is no \.npz of numbers"):
        read_data(array)


def test_an_archive_is_no_single_array(archive: Path) -> None:
    for load in (load_npy, lambda path: read_table(str(path))):
        with pytest.raises(DataError, match="is an archive of arrays, not one"):
            load(archive)


def test_ratings(jensen: Jensen, array: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + b"0" * 40)
    for path in (array, tmp_path / "empty.npz", tmp_path / "cut.npz"):
        said = jensen("infer", "ratings", "--data", path, "--run", tmp_path / "run")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert f"{path} is no matrix of scipy.sparse.save_npz" in said.err


def test_as_they_should_be(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=TABLE, n=np.array(3))
    np.save(tmp_path / "b.npy", TABLE)
    assert read_data(tmp_path / "a.npz")["n"] == 3
    np.testing.assert_array_equal(read_data(tmp_path / "a.npz")["x"], TABLE)
    np.testing.assert_array_equal(load_npy(tmp_path / "b.npy"), TABLE)
    with pytest.raises(DataError, match="no such file"):
        load_npy(tmp_path / "c.npy")
