"""Arrays that stay in their file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jensen.data.memory_map import Form, MemoryMap, as_source, headers, open_array, require_room
from jensen.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_member_of_an_archive_is_mapped(tmp_path: Path, cache: Path, order: Any, packed: bool) -> None:
    array = np.asarray(RNG.normal(size=(30, 2, 5)), dtype=">f8", order=order)
    path = tmp_path / "a.npz"
    (np.savez_compressed if packed else np.savez)(path, first=np.arange(7), x=array)
    told = headers(path)
    assert {key: header.shape for key, header in told.items()} == {"first": (7,), "x": (30, 2, 5)}
    mapped = open_array(path, "x", in_memory=0)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, array)
    assert len(list(cache.glob("arrays/*.npy"))) == packed
    np.testing.assert_array_equal(open_array(path, "x"), array)
    source = MemoryMap([mapped], Form((2, 5), np.float32))
    index = torch.tensor([29, 0, 7, 7])
    assert torch.equal(source[index], torch.from_numpy(array.astype(np.float32))[index])


def test_an_archive_that_changes_is_unpacked_anew(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.npz"
    for value in (1.0, 2.0):
        np.savez_compressed(path, x=np.full((4, 3), value))
        assert float(open_array(path, "x", in_memory=0)[0, 0]) == value
    assert len(list(cache.glob("arrays/*.npy"))) == 1


def test_rows_of_several_arrays(tmp_path: Path) -> None:
    parts = [RNG.integers(0, 256, (n, 4, 6, 3), dtype=np.uint8) for n in (5, 8)]
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", part)
    form = Form((3, 4, 6), np.uint8, channels_last=True)
    mapped = MemoryMap([open_array(tmp_path / f"{i}.npy", "") for i in range(2)], form)
    whole = torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2)
    index = torch.from_numpy(RNG.permutation(13))
    assert len(mapped) == 13
    assert torch.equal(mapped[index], whole[index])
    assert torch.equal(mapped[index[:0]], whole[index[:0]])
    held = as_source(parts, form)
    assert isinstance(held, torch.Tensor)
    assert torch.equal(held, whole)
    assert isinstance(as_source(parts, form, in_memory=100), MemoryMap)
    with pytest.raises(IndexError, match=r"rows 3 \.\. 13 of 13"):
        mapped[torch.tensor([3, 13])]


def test_two_values_become_0_and_1() -> None:
    rows = np.array([[0, 255], [255, 0]], np.uint8)
    assert MemoryMap([rows], Form((2,), np.uint8, one=255))[torch.tensor([1, 0])].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("fault", ["cut", "text", "empty", "objects"])
def test_damaged_files(tmp_path: Path, name: str, fault: str) -> None:
    path = tmp_path / name
    save = np.save if name.endswith("npy") else np.savez
    array: np.ndarray[Any, Any] = np.zeros((50, 40))
    save(path, np.array([{}], dtype=object) if fault == "objects" else array)
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:5_000])
    elif fault != "objects":
        path.write_bytes(b"no array" if fault == "text" else b"")
    key = "" if name.endswith("npy") else "arr_0"
    with pytest.raises(DataError, match="pickled objects" if fault == "objects" else "damaged") as caught:
        open_array(path, key, in_memory=0) if headers(path) else None
    assert str(path) in str(caught.value)


def test_no_room(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unpacking takes 1000000000\.0 GB in .*JENSEN_CACHE"):
        require_room(tmp_path / "new", 10**18, "unpacking")


EPOCHS = """
import re, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from jensen.data import load_data, memory_map
memory_map.IN_MEMORY = 2**24

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def one_epoch(path):
    data = load_data(path, transform="none")
    rows = sum(len(batch.x) for batch in data.train.batches(512, shuffle=torch.Generator().manual_seed(0)))
    assert rows == len(data.train)
    return type(data.dataset.values).__name__

one_epoch(sys.argv[1])
before = anonymous()
kind = one_epoch(sys.argv[2])
print(kind, before, anonymous())
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's account of memory")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """An epoch over 246 MB takes no more memory than one over 10 MB: what is of the file can be dropped at any time."""
    for name, rows in (("small", 2_500), ("large", 60_000)):
        # holes take no room on the disk and read as zeros; one row differs, as the rest of the two values
        array = np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.uint8, (rows, 64, 64))
        array[0] = RNG.integers(0, 256, (64, 64))
        array.flush()
        del array
    files = [str(tmp_path / f"{name}.npy") for name in ("small", "large")]
    done = subprocess.run(
        [sys.executable, "-c", EPOCHS, *files],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kind, before, after = done.stdout.split()
    assert kind == "MemoryMap"
    assert float(after) - float(before) < 60  # MB, of a file of 246
