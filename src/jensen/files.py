"""Writing files so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["UNFINISHED", "clear_unfinished", "no_room", "sync_folder", "write_atomically", "write_text"]

UNFINISHED = ".writing-"
"""how the names of files and folders begin that are being written"""

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path` (same suffix), flush it to disk, and move it to `path`.

    Raises:
        OSError: it cannot be written (its `filename` says what); what was there before is kept.
    """
    try:
        _write(path, write)
    except OSError as error:
        # Half a write does not say of which file, and nobody knows the temporary one.
        if error.errno is not None and (error.filename is None or UNFINISHED in str(error.filename)):
            error.filename, error.filename2 = str(path), None
        raise


def _write(path: Path, write: Callable[[Path], object]) -> None:
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it what the umask would have given.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, as UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk: without it, a file that was moved there may be gone after a power cut."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(handle)


def clear_unfinished(folder: Path) -> None:
    """Delete what a writer that was killed has left directly in `folder`; nobody should be writing there."""
    for path in folder.glob(f"{UNFINISHED}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def no_room(error: OSError) -> bool:
    """Whether a write failed because the disk is full, or the user's share of it."""
    return error.errno in NO_ROOM
