"""Looking for files, and reading npz files that may be damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jensen.data.npz import cache_directory, check_images, check_labels, find, read_arrays
from jensen.errors import DataError


def test_order_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, environment = tmp_path / "given", tmp_path / "environment"
    for folder in (given, environment):
        folder.mkdir()
    assert find(("a.npz",), given) is None
    (environment / "a.npz").touch()
    assert find(("a.npz",), given) is None
    monkeypatch.setenv("JENSEN_DATA", str(environment))
    assert find(("a.npz",), given) == environment / "a.npz"
    assert find(("a.npz",), None) == environment / "a.npz"
    (given / "b.npz").touch()
    assert find(("a.npz", "b.npz"), given) == given / "b.npz"
    (given / "a.npz").touch()
    assert find(("a.npz", "b.npz"), given) == given / "a.npz"


def test_folders_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"data.directory is .*nowhere, which is no folder"):
        find(("a.npz",), tmp_path / "nowhere")
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"JENSEN_DATA is .*gone, which is no folder"):
        find(("a.npz",), None)


def test_cache_directory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_directory() == cache
    monkeypatch.delenv("JENSEN_CACHE")
    assert "jensen" in str(cache_directory())


def test_read_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(3), y=np.ones(2), z=np.zeros(1))
    arrays = read_arrays(path, ("x", "y"))
    assert list(arrays) == ["x", "y"]
    assert arrays["x"].tolist() == [0, 1, 2]


def test_missing_key(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3))
    with pytest.raises(DataError, match=r"a.npz has no key y; it has x"):
        read_arrays(path, ("x", "y"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"key x of .*a.npz"):
        read_arrays(path, ("x",))


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 255, 10_000))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.npz, which is damaged"):
        read_arrays(path, ("x",))
    path.write_bytes(content[:500] + bytes(100) + content[600:])
    with pytest.raises(DataError, match=r"key x of .*a.npz, which is damaged"):
        read_arrays(path, ("x",))
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"a.npz"):
        read_arrays(path, ("x",))
    path.write_text("hello")
    with pytest.raises(DataError, match=r"a.npz"):
        read_arrays(path, ("x",))


def test_a_lone_array_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3))
    with pytest.raises(DataError, match=r"a.npy is no npz file"):
        read_arrays(path, ("x",))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((5, 28, 28), np.float32),
        np.zeros((5, 28, 27), np.uint8),
        np.zeros((0, 28, 28), np.uint8),
        np.zeros((5, 784), np.uint8),
    ],
)
def test_check_images(images: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(DataError, match=r"a.npz: x should be \(N, 28, 28\) uint8, not"):
        check_images(Path("a.npz"), "x", images, (28, 28))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(5, np.float32), r"y should be \(N,\) integer, not \(5,\) float32"),
        (np.zeros((5, 1), np.uint8), "integer, not"),
        (np.zeros(4, np.uint8), "4 labels for 5 images"),
        (np.full(5, 10, np.uint8), r"labels 10 \.\. 10, but there are 10 classes"),
        (np.full(5, -1), r"labels -1 \.\. -1"),
    ],
)
def test_check_labels(labels: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(DataError, match=message):
        check_labels(Path("a.npz"), "y", labels, 5, 10)


def test_good_arrays_pass() -> None:
    check_images(Path("a.npz"), "x", np.zeros((5, 28, 28), np.uint8), (28, 28))
    check_labels(Path("a.npz"), "y", np.arange(5), 5, 5)
