"""Contenders in processes of their own, timed in turn: a busy moment of the machine hits all, and peaks stay apart."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import torch

__all__ = ["Contender", "Measured", "interleave", "peak_memory"]

STATUS = Path("/proc/self/status")
PAUSE = 0.1  # seconds: lets the threads of the one before go to sleep


class Contender(Protocol):
    """Something that trains: called, it takes a fixed number of steps."""

    def __call__(self) -> object: ...


@dataclass(frozen=True)
class Measured:
    """Of one contender."""

    seconds: tuple[float, ...]
    """of each repeat"""
    peak: float
    """largest resident set of its process, MB (10^6 bytes), interpreter and libraries included"""
    before: float
    """the same when it had loaded its libraries, and no data"""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest minus smallest repeat, as a share of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def interleave(makers: Mapping[str, Callable[[], Contender]], repeats: int, threads: int) -> dict[str, Measured]:
    """Make each contender in a process of its own, let each warm up once, then time all in turn, `repeats` times.

    Args:
        makers: by name; picklable, so a module's functions (or partials of them).
        repeats: timed calls of each contender.
        threads: of torch in each process.

    Raises:
        RuntimeError: a process died.
    """
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    processes = []
    for name, make in makers.items():
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, make, threads), daemon=True)
        process.start()
        there.close()
        processes.append(process)
        lines[name] = here
    try:
        before = {name: _receive(name, line) for name, line in lines.items()}
        for name, line in lines.items():
            _ask(name, line, "step")
        seconds: dict[str, list[float]] = {name: [] for name in makers}
        for repeat in range(repeats):
            for name in _rotated(list(makers), repeat):
                time.sleep(PAUSE)
                seconds[name].append(_ask(name, lines[name], "step"))
        peaks = {name: _ask(name, line, "end") for name, line in lines.items()}
    finally:
        for process in processes:
            process.terminate()  # all are at their end, or must not go on without the others
            process.join()
    return {name: Measured(tuple(seconds[name]), peaks[name], before[name]) for name in makers}


def peak_memory() -> float:
    """Largest resident set of this process so far, MB.

    VmHWM where there is one: `ru_maxrss` of a process that Linux started also counts its parent's at that time.
    """
    if STATUS.exists():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 1e6 if sys.platform == "darwin" else size * 1024 / 1e6


def _serve(line: Connection, make: Callable[[], Contender], threads: int) -> None:
    torch.set_num_threads(threads)
    line.send(peak_memory())
    contender = make()
    while line.recv() == "step":
        start = time.perf_counter()
        contender()
        line.send(time.perf_counter() - start)
    line.send(peak_memory())


def _ask(name: str, line: Connection, what: str) -> float:
    try:
        line.send(what)
    except OSError:
        raise _died(name) from None
    return _receive(name, line)


def _receive(name: str, line: Connection) -> float:
    try:
        return float(line.recv())
    except (EOFError, OSError):
        raise _died(name) from None


def _died(name: str) -> RuntimeError:
    return RuntimeError(f"the process of {name} died: see what it printed above")


def _rotated(names: list[str], by: int) -> list[str]:
    """Another goes first each time."""
    by %= len(names)
    return names[by:] + names[:by]
