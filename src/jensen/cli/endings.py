"""How a command ends other than by coming to its end: by a signal, or by a fault of Jensen."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from jensen import __version__

__all__ = ["DEBUG", "ending", "recorded", "told_warnings"]

DEBUG = "JENSEN_DEBUG"
"""Environment variable that shows tracebacks of faults, too."""


@contextmanager
def told_warnings() -> Iterator[None]:
    """Meanwhile warnings for the user (`UserWarning`) are one line each, without a place in the source."""

    def tell(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        if issubclass(category, UserWarning):
            print(f"jensen: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


@contextmanager
def ending() -> Iterator[Callable[[], bool]]:
    """Meanwhile SIGTERM raises KeyboardInterrupt like Ctrl-C, so that what is half done is cleared away; and what
    cannot be written in the terminal's encoding is replaced.

    Yields:
        A function that says whether SIGTERM came, also where training dealt with it.
    """
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="replace")
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    noted = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # gets the number of each signal
    before = signal.signal(signal.SIGTERM, _interrupt)

    def came() -> bool:
        try:
            return signal.SIGTERM in os.read(reading, 4096)
        except BlockingIOError:
            return False

    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.set_wakeup_fd(noted)
        os.close(reading)
        os.close(writing)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def recorded(error: Exception, tokens: Sequence[str]) -> str:
    """Write the traceback of a fault into a file; one line that says what it was and where that file is.

    The file is in JENSEN_CACHE where that is set and can be written, else in the folder for temporary files.
    """
    told = f"unexpected {type(error).__name__}"
    if message := " ".join(str(error).split())[:200]:
        told += f": {message}"
    lines = "".join(traceback.format_exception(error))
    if os.environ.get(DEBUG):
        print(lines, file=sys.stderr, end="")
    name = f"jensen-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = f"jensen {' '.join(map(shlex.quote, tokens))}\n{_versions()}\n\n{lines}"
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return f"{told} (a fault of Jensen: please report it, with {folder / name})"
    return f"{told} (a fault of Jensen: please report it, with what {DEBUG}=1 shows)"


def _folders() -> list[Path]:
    chosen = os.environ.get("JENSEN_CACHE")
    own = [Path(chosen).expanduser() / "errors"] if chosen else []
    return [*own, Path(tempfile.gettempdir())]


def _versions() -> str:
    torch = getattr(sys.modules.get("torch"), "__version__", "not loaded")
    return f"Jensen {__version__}, Python {platform.python_version()}, torch {torch}, {platform.platform()}"
