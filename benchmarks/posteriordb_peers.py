"""Peers, each in a process of its own, climbing one posterior after another under a stopwatch.

What they import changes global settings (precision, checks of arguments, threads): they are kept apart from ours. A
peer's approximation is looked at while its clock stands still; its ELBO is ours to compute.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import models
from benchmarks.posteriordb_climbers import CLIMBERS
from benchmarks.posteriordb_judge import Judge

__all__ = ["Look", "Peer", "done"]

FIRST, GROWTH = 200, 1.25  # steps before the first look, and how many times as many before each next
ENOUGH = 4_000  # steps before a plateau is believed
NEAR = 0.1  # nats: ELBOs that count as equal
CLOSE = 0.02  # nats that are not worth waiting for
PATIENCE = 300.0  # seconds beyond its budget in which a peer must answer: it compiles in them


class Look(NamedTuple):
    """A peer's state at some time: seconds that passed and that its processor worked, steps, nats."""

    seconds: float
    cpu_seconds: float
    steps: int
    elbo: float


class Peer:
    """One peer and its process, which is started anew after a crash.

    Args:
        name: of `CLIMBERS`.
        root: posteriordb's folder.
        threads: of torch in its process.
    """

    def __init__(self, name: str, root: Path | None, threads: int | None) -> None:
        self.name, self.root, self.threads = name, root, threads
        self._process: Any = None
        self._line: Connection | None = None

    def climb(self, case: str, judge: Judge, budget: float, known: float | None = None) -> dict[str, Any]:
        """Run for `budget` seconds, or until the best ELBO of the family that is known (nats) is reached.

        Returns:
            Numbers by name: `seconds` (and `cpu_seconds`) of steps alone until the ELBO was first within 0.1 nat of the
            best of the run, `compile_seconds`, `elbo` (the best), `rested` (whether it stopped before its time was
            over), errors; or `failed` alone. The best of what was looked at counts, which no user can know: this
            flatters the peer.
        """
        try:
            return self._climb(case, judge, budget, known)
        except (RuntimeError, OSError, EOFError) as error:
            self.close()
            return {"failed": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        self._process, self._line = None, None

    def _climb(self, case: str, judge: Judge, budget: float, known: float | None) -> dict[str, Any]:
        compiling = self._ask(("make", case), PATIENCE)
        looks: list[Look] = []
        clock, cpu, steps, best, approximation = 0.0, 0.0, 0, -float("inf"), None
        while clock < budget and not done(looks, known):
            wanted = FIRST if not steps else int(steps * (GROWTH - 1.0))
            if steps:
                wanted = max(1, min(wanted, int((budget - clock) * steps / clock) + 1))
            seconds, of_cpu, sites = self._ask(("advance", wanted), budget + PATIENCE)
            clock, cpu, steps = clock + seconds, cpu + of_cpu, steps + wanted
            loc, scale = judge.vectors(sites)
            elbo = judge.elbo(loc, scale)
            looks.append(Look(clock, cpu, steps, elbo))
            if approximation is None or elbo > best:
                best, approximation = elbo, (loc, scale)
        if best == -float("inf") or approximation is None:
            return {"failed": "its ELBO was never finite", "compile_seconds": compiling}
        near = next(look for look in looks if look.elbo >= best - NEAR)
        return {
            "seconds": near.seconds,
            "cpu_seconds": near.cpu_seconds,
            "steps": near.steps,
            "compile_seconds": compiling,
            "elbo": best,
            "rested": done(looks, known),
            "step_seconds": clock / steps,
            **asdict(judge.accuracy(judge.normal_draws(*approximation))),
            "settings": CLIMBERS[self.name].settings,
        }

    def _ask(self, what: tuple[str, Any], patience: float) -> Any:
        if self._line is None:
            self._start()
        assert self._line is not None
        self._line.send(what)
        if not self._line.poll(patience):
            raise RuntimeError(f"{self.name} did not answer for {patience:.0f} s")
        kind, answer = self._line.recv()
        if kind == "failed":
            raise RuntimeError(answer)
        return answer

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, self.name, self.root, self.threads), daemon=True)
        self._process.start()
        there.close()


def done(looks: Sequence[Look], known: float | None) -> bool:
    """Whether more steps can gain nothing that matters.

    That is so where the best ELBO is next to the best that is known; or within 0.1 nat of it (or nothing is known) and
    gaining next to nothing while the steps double. A peer that rests further below crawls, and has its full time.
    """
    if not looks:
        return False
    best = max(look.elbo for look in looks)
    if known is not None and best < known - NEAR:
        return False
    if known is not None and best >= known - CLOSE:
        return True
    half = [look.elbo for look in looks if look.steps <= looks[-1].steps / 2]
    return looks[-1].steps >= ENOUGH and bool(half) and best - max(half) < CLOSE


def _serve(line: Connection, peer: str, root: Path | None, threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    climber = None
    while True:
        what, argument = line.recv()
        try:
            if what == "make":
                case = models.case(argument, root)
                start = time.perf_counter()
                climber = CLIMBERS[peer](case)  # type: ignore[call-arg]
                line.send(("done", time.perf_counter() - start))
            else:
                assert climber is not None
                start, cpu = time.perf_counter(), time.process_time()
                climber.advance(argument)
                spent = time.perf_counter() - start, time.process_time() - cpu
                line.send(("done", (*spent, climber.normal())))
        except Exception as error:  # told to the one who asked, and the next posterior may do better
            line.send(("failed", f"{type(error).__name__}: {error}"))
