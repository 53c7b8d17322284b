"""Stopping between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["StopRequest"]


class StopRequest:
    """Turns the first Ctrl-C (or SIGTERM) into a request that the loop sees between steps; the second interrupts.

    Args:
        answer: tells the person that the request was heard.
    """

    def __init__(self, answer: Callable[[], None]) -> None:
        self.requested = False
        self.answer = answer
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.answer()
