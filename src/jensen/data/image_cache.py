"""The images of a folder, decoded once into one file of pixels that is mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from jensen.data.memory_map import require_room
from jensen.data.npz import cache_directory
from jensen.data.picture import Fit, Look, expect_bombs, look, pixels, reason
from jensen.errors import DataError
from jensen.files import write_atomically, write_text

__all__ = ["Asked", "Decoded", "decoded", "look_at_all"]

Bytes = npt.NDArray[np.uint8]
Found = Sequence[tuple[str, os.stat_result]]
T = TypeVar("T")

AT_ONCE = 256
"""files that are decoded before they are written: bounds memory"""
THREADS = min(16, os.cpu_count() or 1)
"""Pillow decodes and resizes without holding Python's lock."""
PATIENCE = 1.0
"""seconds of work before a bar is shown"""
VERSION = 1
"""of what is in the cache: another one is made anew"""


@dataclass(frozen=True)
class Asked:
    """How images are wanted."""

    size: tuple[int, int] | None
    """(height, width); None: all must be alike"""
    fit: Fit
    channels: int | None
    """1 or 3; None: 3 if any image has colours"""


@dataclass(frozen=True)
class Decoded:
    """The images of a folder."""

    images: Bytes
    """(N, channels, height, width) uint8, memory-mapped"""
    names: tuple[str, ...]
    """of each image its path in the folder"""
    bad: dict[str, str]
    """why files could not be read, by path"""
    sizes: tuple[tuple[int, int, int], ...]
    """(width, height, number of images) as found, the most frequent first"""
    modes: dict[str, int]
    """number of images of each mode of Pillow, the most frequent first"""
    transparent: int
    """images that may have transparent pixels"""


def look_at_all(root: Path, names: Sequence[str]) -> tuple[dict[str, Look], dict[str, str]]:
    """What can be said of each image without decoding it, and why of some nothing can be said; both by name."""
    looks, bad = {}, {}
    with expect_bombs(), _threads() as threads, _bar("looking at images", len(names)) as advance:
        for name, found in zip(names, threads(partial(_tried, look), [root / name for name in names]), strict=True):
            advance()
            if isinstance(found, str):
                bad[name] = found
            else:
                looks[name] = found
    return looks, bad


def decoded(root: Path, found: Found, asked: Asked, *, skip_bad: bool = False) -> Decoded:
    """The images `found` in `root` as `asked`, from the cache, or decoded into it.

    The cache knows them by path, size and time of change of every file, and by what is asked; two processes do the work
    once. What it had of the folder as it was before goes. What could not be read is tried again,
    unless `skip_bad`: it may have been the disk's fault.

    Raises:
        DataError: sizes differ though none is asked for, no file can be read, or there is no room.
    """
    settings = json.dumps([str(root.resolve()), asdict(asked), VERSION])
    files = json.dumps([(name, told.st_size, told.st_mtime_ns) for name, told in found])
    folder, key = cache_directory() / "folders", _digest(settings)
    target = folder / f"{key}-{_digest(files)}.npy"
    record = target.with_suffix(".json")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        known = _read(target, record)
        if known is None or (known.bad and not skip_bad):
            _build(root, [name for name, _ in found], asked, target, record)
            for old in folder.glob(f"{key}-*"):
                if old.stem != target.stem:
                    old.unlink(missing_ok=True)
            known = _read(target, record)
    if known is None:
        raise DataError(f"{target}, just made of {root}, cannot be read; is the disk of the cache in order?")
    return known


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read(target: Path, record: Path) -> Decoded | None:
    """What is in the cache; None: nothing, or something damaged."""
    try:
        told = json.loads(record.read_text(encoding="utf-8"))
        told["names"], told["sizes"] = tuple(told["names"]), tuple(map(tuple, told["sizes"]))
        images: Any = np.load(target, mmap_mode="r", allow_pickle=False)
        whole = images.dtype == np.uint8 and images.ndim == 4 and len(images) >= len(told["names"])
        return Decoded(images[: len(told["names"])], **told) if whole else None
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None


def _build(root: Path, names: Sequence[str], asked: Asked, target: Path, record: Path) -> None:
    looks, bad = look_at_all(root, names)
    good = [name for name in names if name in looks]
    channels = asked.channels or (1 if all(looks[name].grey for name in good) else 3)
    size = asked.size
    if size is None:
        _require_same_sizes(root, good, looks)
        size = (looks[good[0]].height, looks[good[0]].width) if good else (1, 1)
    shape, row = (channels, *size), channels * size[0] * size[1]
    require_room(target.parent, len(good) * row, f"decoding the {len(good):,} images of {root}")
    kept: list[str] = []

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(good), *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            kept.extend(_decode(root, good, shape, asked, file, bad))
            # rows of files that could not be decoded are left over at the end
            file.truncate(file.tell() + (len(good) - len(kept)) * row)

    write_atomically(target, write)
    sizes = Counter((looks[name].width, looks[name].height) for name in kept).most_common()
    told = {
        "names": kept,
        "bad": {name: bad[name] for name in names if name in bad},
        "sizes": [(*size, count) for size, count in sizes],
        "modes": dict(Counter(looks[name].mode for name in kept).most_common()),
        "transparent": sum(looks[name].transparent for name in kept),
    }
    write_text(record, json.dumps(told))


def _decode(
    root: Path, names: Sequence[str], shape: tuple[int, ...], asked: Asked, file: IO[bytes], bad: dict[str, str]
) -> Iterator[str]:
    """Writes the pixels of each file that can be read, whose name it gives; notes others in `bad`."""
    read = partial(_tried, partial(pixels, channels=shape[0], size=asked.size, fit=asked.fit))
    with expect_bombs(), _threads() as threads, _bar("reading images", len(names)) as advance:
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            for name, image in zip(some, threads(read, [root / name for name in some]), strict=True):
                advance()
                if isinstance(image, str):
                    bad[name] = image
                elif image.shape != shape:
                    bad[name] = f"its pixels are {image.shape[2]} x {image.shape[1]}, not what its beginning says"
                else:
                    file.write(image.tobytes())
                    yield name


def _tried(read: Callable[[Path], T], path: Path) -> T | str:
    """What `read` makes of a file, or why it cannot."""
    try:
        return read(path)
    except Exception as error:  # Pillow raises nearly anything of a damaged file
        return reason(error)


def _require_same_sizes(root: Path, names: Sequence[str], looks: dict[str, Look]) -> None:
    sizes = Counter((looks[name].width, looks[name].height) for name in names).most_common()
    if len(sizes) < 2:
        return
    one, other = (
        next(name for name in names if (looks[name].width, looks[name].height) == size) for size, _ in sizes[:2]
    )
    described = " and ".join(f"{name} ({looks[name].width} x {looks[name].height})" for name in (one, other))
    raise DataError(
        f"{root}: the images have {len(sizes)} different sizes, e.g. {described}; bring them to one with --size, e.g. "
        "--size 64 or --size 48x64 (height x width)"
    )


@contextmanager
def _threads() -> Iterator[Callable[[Callable[[Path], T], Sequence[Path]], Iterator[T]]]:
    """A map over files that keeps their order, in several threads where there is more than one core."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool.map


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A function to call after each piece of work; after a second of it there is a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    start, done = time.monotonic(), 0
    bar = Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=total)

    def advance() -> None:
        nonlocal done
        done += 1
        if not bar.live.is_started and time.monotonic() - start > PATIENCE:
            bar.start()
        bar.update(task, completed=done)

    try:
        yield advance
    finally:
        bar.stop()
