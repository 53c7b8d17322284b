"""Downloads from a server on this machine: checked, kept, and never half there."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jensen.data import fetch, load_data
from jensen.data.download import BASE_URLS, FILES, Remote
from jensen.errors import DataError

if TYPE_CHECKING:
    from conftest import Server

NAMES = [remote.name for remote in FILES["mnist"]]
TRAIN_IMAGES = NAMES[0]


def idx(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    header = bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (30, 28, 28)),
        "y_train": np.arange(30) % 10,
        "x_test": rng.integers(0, 256, (10, 28, 28)),
        "y_test": np.arange(10)[::-1],
    }


@pytest.fixture
def mnist(server: Server, arrays: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> Server:  # type: ignore[type-arg]
    """A server with a small set in the form of MNIST, in place of the public ones."""
    server.files = dict(zip(NAMES, map(idx, arrays.values()), strict=True))
    remotes = tuple(Remote(name, f"sha256:{hashlib.sha256(body).hexdigest()}") for name, body in server.files.items())
    monkeypatch.setitem(FILES, "mnist", remotes)
    monkeypatch.setitem(BASE_URLS, "mnist", (server.url,))
    return server


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_download_and_parse(mnist: Server, arrays: dict[str, np.ndarray], cache: Path) -> None:  # type: ignore[type-arg]
    data = load_data("mnist", transform="none")
    values = data.dataset.values[torch.arange(40)][:, 0].numpy()
    assert np.array_equal(values, np.concatenate([arrays["x_train"], arrays["x_test"]]))
    assert data.dataset.labels is not None
    assert data.dataset.labels.tolist() == [*arrays["y_train"], *arrays["y_test"]]
    assert (len(data.train), len(data.valid), len(data.test)) == (27, 3, 10)
    assert left_in(cache) == sorted(NAMES)


def test_a_second_call_asks_for_nothing(mnist: Server) -> None:
    paths = fetch("mnist")
    assert [path.name for path in paths] == NAMES == mnist.requests
    load_data("mnist")
    assert fetch("mnist") == paths
    assert mnist.requests == NAMES


def test_a_file_damaged_in_the_cache_is_fetched_again(mnist: Server) -> None:
    path = fetch("mnist")[0]
    path.write_bytes(path.read_bytes()[:-1])
    load_data("mnist")
    assert mnist.requests == [*NAMES, TRAIN_IMAGES]


def test_wrong_checksum(mnist: Server, cache: Path) -> None:
    expected = hashlib.sha256(mnist.files[TRAIN_IMAGES]).hexdigest()
    mnist.files[TRAIN_IMAGES] = b"something else"
    got = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(
        DataError, match=f"{TRAIN_IMAGES} of mnist.*{expected}.*{got}.*Try again later, or put mnist.npz"
    ):
        load_data("mnist")
    assert left_in(cache) == []


def test_truncated_download(mnist: Server, cache: Path) -> None:
    mnist.truncated.add(NAMES[2])
    with pytest.raises(DataError, match=f"cannot download {NAMES[2]} of mnist"):
        load_data("mnist")
    assert left_in(cache) == sorted(NAMES[:2])
    mnist.truncated.clear()
    assert len(load_data("mnist").dataset) == 40


def test_missing_on_the_server(mnist: Server, cache: Path) -> None:
    del mnist.files[NAMES[3]]
    with pytest.raises(DataError, match=f"{NAMES[3]}.*404"):
        load_data("mnist")
    assert NAMES[3] not in left_in(cache)


def test_server_down(mnist: Server, cache: Path) -> None:
    mnist.stop()
    with pytest.raises(DataError, match=r"name it with JENSEN_DATA or data.directory") as caught:
        load_data("mnist")
    assert "mnist.npz (x_train, y_train, x_test, y_test)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(cache) == []


def test_second_mirror(mnist: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASE_URLS, "mnist", (mnist.url.replace("127.0.0.1", "localhost:1//"), mnist.url))
    assert len(load_data("mnist").dataset) == 40
    assert mnist.requests == NAMES


def test_an_unwritable_cache(mnist: Server, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot download"):
        load_data("mnist")


def test_what_is_downloaded_must_fit(mnist: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right checksums of files that do not belong together."""
    body = idx(np.arange(29) % 10)
    mnist.files[NAMES[1]] = body
    remotes = list(FILES["mnist"])
    remotes[1] = Remote(NAMES[1], f"sha256:{hashlib.sha256(body).hexdigest()}")
    monkeypatch.setitem(FILES, "mnist", tuple(remotes))
    with pytest.raises(DataError, match=f"{NAMES[1]}: y_train has 29 labels for 30 images"):
        load_data("mnist")


def test_a_folder_comes_before_the_download(
    mnist: Server,
    arrays: dict[str, np.ndarray],  # type: ignore[type-arg]
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "mnist.npz", allow_pickle=False, **{key: v.astype(np.uint8) for key, v in arrays.items()})
    assert len(load_data("mnist", directory=tmp_path).dataset) == 40
    assert mnist.requests == []


def test_tables_are_well_formed() -> None:
    assert set(BASE_URLS) == set(FILES)
    for name, bases in BASE_URLS.items():
        assert bases
        assert all(re.fullmatch(r"https?://.*/", base) for base in bases), name
        for remote in FILES[name]:
            algorithm, digest = remote.checksum.split(":")
            assert len(digest) == {"sha256": 64, "md5": 32}[algorithm]
