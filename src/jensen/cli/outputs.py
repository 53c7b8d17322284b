"""Files that commands write: whole or not at all, and over another one only with --force."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from jensen.errors import JensenError
from jensen.files import UNFINISHED, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["claim", "free", "put", "writable", "write_arrays", "write_columns", "write_images", "write_words"]


def free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, ... that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def claim(output: Path | None, default: Path, suffixes: Sequence[str], force: bool) -> Path:
    """The file to write, checked before any work is done: the user's, or the first free name after `default`.

    Raises:
        JensenError: it exists and `force` is not set, is a directory, or has none of `suffixes`.
    """
    if output is None:
        return free(default)
    if output.suffix.lower() not in suffixes:
        raise JensenError(f"--output {output}: the name should end in {' or '.join(suffixes)}")
    if output.is_dir():
        raise JensenError(f"--output {output} is a directory; give a file name")
    if output.exists() and not force:
        raise JensenError(f"{output} exists already; choose another --output, or --force to overwrite it")
    return output


@contextmanager
def writable(folder: Path, flag: str) -> Iterator[None]:
    """`folder`, made if need be and proven writable before the work inside begins, which would be lost otherwise.

    Where the work fails, folders that were made here are removed again, unless they hold something.

    Raises:
        JensenError: nothing can be written there; `flag` is what to choose another place with.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(prefix=UNFINISHED, dir=folder):
                pass
        except OSError as error:
            what = error.strerror or error
            raise JensenError(f"cannot write to {folder}: {what}; choose another {flag}") from None
        yield
    except BaseException:
        for place in made:
            try:
                place.rmdir()
            except FileNotFoundError:  # it could not be made; one above it may have been
                continue
            except OSError:
                break
        raise


def put(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file, in a folder that is made if need be, atomically.

    Raises:
        JensenError: the disk or its permissions do not let us.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        raise JensenError(f"cannot write {path}: {error.strerror or error}") from None


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Named arrays as .npz."""
    import numpy as np

    put(path, lambda temporary: np.savez(temporary, **arrays))


def write_columns(path: Path, columns: Mapping[str, Any]) -> int:
    """Columns of equal length as CSV, numbers with all their digits; returns the number of rows."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    rows = list(zip(*(getattr(column, "tolist", lambda c=column: c)() for column in columns.values()), strict=True))
    writer.writerows(rows)
    text = buffer.getvalue()
    put(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return len(rows)


def write_images(folder: Path, images: Tensor, names: Sequence[str], force: bool) -> list[Path]:
    """Images (B, 1 or 3, H, W) in [0, 1] as 8-bit PNG files NAME.png in `folder`, pixel for pixel.

    Raises:
        JensenError: one of the files exists and `force` is not set (then none is written), or the folder is a file.
    """
    import numpy as np
    from PIL import Image

    if folder.exists() and not folder.is_dir():
        raise JensenError(f"--output {folder} is a file; give a folder")
    paths = [folder / f"{name}.png" for name in names]
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not force:
        raise JensenError(f"{taken} exists already; choose another --output, or --force to overwrite it")
    pixels = (images.clamp(0, 1) * 255).round().to("cpu").numpy().astype(np.uint8)
    for path, image in zip(paths, pixels, strict=True):
        flat = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        put(path, partial(Image.fromarray(flat).save, format="PNG"))
    return paths


def write_words(path: Path, text: str) -> None:
    """Text, as UTF-8, with a line end behind it."""
    put(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
