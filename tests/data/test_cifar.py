"""CIFAR-10 from its binary archive and from npz, and the small part of it that is a file."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from jensen.data import cifar, fetch, load_data
from jensen.data.download import BASE_URLS, FILES, Remote
from jensen.errors import DataError

if TYPE_CHECKING:
    from conftest import Server

ARCHIVE = "cifar-10-binary.tar.gz"
EACH = 20
FOLDER = "cifar-10-batches-bin"
BATCHES = [f"{FOLDER}/data_batch_{number}.bin" for number in (1, 2, 3, 4, 5)]
TEST = f"{FOLDER}/test_batch.bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Array = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "PER_FILE", EACH)


@pytest.fixture
def arrays() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (5 * EACH, 32, 32, 3), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 5 * EACH, dtype=np.uint8),
        "x_test": rng.integers(0, 256, (EACH, 32, 32, 3), dtype=np.uint8),
        "y_test": rng.integers(0, 10, EACH, dtype=np.uint8),
    }


def members(arrays: dict[str, Array]) -> dict[str, bytes]:
    """The published form, written value by value: label, red, green and blue of each image, row by row."""
    files: dict[str, bytearray] = {name: bytearray() for name in (*BATCHES, TEST)}
    for part, names in (("train", BATCHES), ("test", [TEST])):
        for place, (image, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"], strict=True)):
            file = files[names[place // EACH]]
            file.append(int(label))
            for colour in range(3):
                for row in range(32):
                    file += bytes(image[row, :, colour].tolist())
    return {name: bytes(content) for name, content in files.items()}


def packed(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A gzipped tar of these files, among others, in no useful order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in reversed({**files, f"{FOLDER}/readme.html": b"see the page"}.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def serve(server: Server, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files = {ARCHIVE: body}
    remote = Remote(ARCHIVE, f"sha256:{hashlib.sha256(body).hexdigest()}")
    monkeypatch.setitem(FILES, "cifar10", (remote,))
    monkeypatch.setitem(BASE_URLS, "cifar10", (server.url,))


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_from_the_binary_archive(
    server: Server, arrays: dict[str, Array], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, packed(members(arrays)), monkeypatch)
    (path,) = fetch("cifar10")
    with np.load(path) as kept:
        assert sorted(kept.files) == sorted(arrays)
        for key, expected in arrays.items():
            assert kept[key].dtype == np.uint8
            assert np.array_equal(kept[key], expected)
    data = load_data("cifar10", transform="none")
    assert (data.shape, data.levels) == ((3, 32, 32), 256)
    assert (len(data.train), len(data.valid), len(data.test)) == (90, 10, 20)
    batch = data.test.batch(torch.arange(20))
    assert torch.equal((batch.x * 255).round().to(torch.uint8), torch.from_numpy(arrays["x_test"]).permute(0, 3, 1, 2))
    assert batch.label is not None
    assert batch.label.tolist() == arrays["y_test"].tolist()
    assert torch.equal(data.dataset.values[torch.tensor([41])][0, 2], torch.from_numpy(arrays["x_train"][41, :, :, 2]))
    # kept as arrays alone, and asked for once
    assert left_in(cache) == ["cifar10.npz"]
    assert fetch("cifar10") == [path]
    assert server.requests == [ARCHIVE]


def test_nothing_is_unpacked_but_the_images(
    server: Server, arrays: dict[str, Array], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = {
        "../../escaped.bin": b"above",
        f"{tmp_path}/absolute.bin": b"at the root",
        f"../{TEST}": b"of the same name",
        f"{FOLDER}/data_batch_6.bin": b"one more",
        f"{FOLDER}/data_batch_1.bin.py": b"raise SystemExit",
    }
    monkeypatch.chdir(tmp_path)
    serve(server, packed({**strange, **members(arrays)}), monkeypatch)
    fetch("cifar10")
    assert left_in(tmp_path) == ["cifar10.npz"]
    with np.load(cache / "cifar10.npz") as kept:
        assert np.array_equal(kept["x_train"], arrays["x_train"])


@pytest.mark.parametrize("fault", ["checksum", "truncated", "nothing"])
def test_wrong_downloads(
    fault: str, server: Server, arrays: dict[str, Array], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, packed(members(arrays)), monkeypatch)
    expected = FILES["cifar10"][0].checksum
    if fault == "checksum":
        server.files[ARCHIVE] = packed(members(arrays | {"y_test": (arrays["y_test"] + 1) % 10}))
    elif fault == "truncated":
        server.truncated.add(ARCHIVE)
    else:
        del server.files[ARCHIVE]
    offer = r"put cifar10.npz \(x_train, y_train, x_test, y_test\) into a folder"
    with pytest.raises(DataError, match=f"cannot download {ARCHIVE} of cifar10.*{expected}.*{offer}"):
        load_data("cifar10")
    assert left_in(cache) == []


def broken(fault: str, arrays: dict[str, Array]) -> tuple[bytes, str]:
    """An archive with the right checksum and a fault, and what should be said of it."""
    files = members(arrays)
    if fault == "missing":
        del files[BATCHES[2]]
        return packed(files), "lacks data_batch_3.bin; delete it"
    if fault == "link":
        del files[TEST]
        return packed(files, {TEST: "/etc/passwd"}), "lacks test_batch.bin"
    if fault == "short":
        files[BATCHES[4]] = files[BATCHES[4]][:-1]
        return packed(files), r"data_batch_5.bin has 61,459 bytes, not 61,460"
    if fault == "label":
        files[TEST] = b"\x0a" + files[TEST][1:]
        return packed(files), r"y_test has labels \d \.\. 10, but there are 10 classes"
    body = packed(files)
    if fault == "cut off":
        return body[: len(body) // 2], "cannot read .*delete it"
    if fault == "cut off inside":
        return gzip.compress(gzip.decompress(body)[: 512 * 300]), "cannot read .*delete it"
    return b"no archive", "cannot read .*delete it"


@pytest.mark.parametrize("fault", ["missing", "link", "short", "label", "cut off", "cut off inside", "no archive"])
def test_wrong_archives(
    fault: str, server: Server, arrays: dict[str, Array], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, message = broken(fault, arrays)
    serve(server, body, monkeypatch)
    with pytest.raises(DataError, match=f"{ARCHIVE}.*{message}|{message}"):
        load_data("cifar10")
    assert left_in(cache) == [ARCHIVE]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar10.npz"),
        ("cifar10-subset", "cifar10-subset.npz"),
        ("cifar10-subset", "cifar10_jpeg75_subset.npz"),
    ],
)
def test_from_a_folder(
    name: str, file: str, arrays: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / file, allow_pickle=False, **arrays)
    monkeypatch.setenv("JENSEN_DATA", str(tmp_path))
    data = load_data(name, transform="none")
    assert data.dataset.name == name
    assert data.splits["valid"].tolist() == list(range(90, 100))
    assert data.class_names == CLASSES
    x = data.train.batch(torch.tensor([3])).x[0]
    assert torch.equal((255 * x).round().to(torch.uint8), torch.from_numpy(arrays["x_train"][3]).permute(2, 0, 1))


def test_wrong_npz(arrays: dict[str, Array], tmp_path: Path) -> None:
    np.savez(
        tmp_path / "cifar10.npz", allow_pickle=False, **(arrays | {"x_test": arrays["x_test"].transpose(0, 3, 1, 2)})
    )
    with pytest.raises(DataError, match=re.escape("cifar10.npz: x_test should be (N, 32, 32, 3) uint8")):
        load_data("cifar10", directory=tmp_path)


def test_the_subset_says_where_it_should_be(tmp_path: Path) -> None:
    for call in (lambda: fetch("cifar10-subset"), lambda: load_data("cifar10-subset", directory=tmp_path)):
        with pytest.raises(DataError, match=r"cifar10_jpeg75_subset.npz .* name it with JENSEN_DATA or data.directory"):
            call()


def test_the_real_subset(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (real_data / "cifar10_jpeg75_subset.npz").is_file():
        pytest.skip(f"no cifar10_jpeg75_subset.npz in {real_data}")
    data = load_data("cifar10-subset", directory=real_data, transform="none")
    assert (len(data.train), len(data.valid), len(data.test)) == cifar.SUBSET.sizes
    for split, each in ((data.train, 270), (data.valid, 30), (data.test, 100)):
        assert split.labels is not None
        assert torch.bincount(split.labels).tolist() == [each] * 10
    mean = data.train.batch(torch.arange(2_700)).x.mean((0, 2, 3))
    # those of all 50,000 training images are 0.4914, 0.4822, 0.4465; 2,700 of them differ by about 0.003
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.012)
    monkeypatch.setenv("JENSEN_DATA", str(real_data))
    assert fetch("cifar10-subset") == [real_data / "cifar10_jpeg75_subset.npz"]
