"""What a person sees while a model trains: a bar with the time left, or a line an epoch where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """Reports epochs and steps; used as a context manager.

    Args:
        epochs: epochs in all.
        steps: steps an epoch.
        done: steps already taken (a resumed run).
        quiet: say nothing.
    """

    def __init__(self, epochs: int, steps: int, done: int = 0, quiet: bool = False) -> None:
        self.epochs, self.steps = epochs, steps
        self.quiet = quiet
        self.bar: Progress | None = None
        self.done = done
        self.shown = 0.0
        self.note = ""
        self.console = Console(file=sys.stderr)
        if not quiet and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("epoch"),
                TextColumn("{task.fields[epoch]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("steps, left"),
                TimeRemainingColumn(),
                TextColumn("spent"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(
                "train", total=self.epochs * self.steps, completed=self.done, epoch=f"1/{self.epochs}", note=""
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def step(self, step: int, epoch: int, lost: int = 0) -> None:
        """A step was taken: moves the bar, ten times a second at most.

        `lost`: steps of the epoch that were left out, something being not finite.
        """
        if self.bar is not None and (now := time.monotonic()) - self.shown > 0.1:
            self.shown = now
            note = f"{self.note}  {lost} not finite" if lost else self.note
            self.bar.update(self.task, completed=step, epoch=f"{epoch + 1}/{self.epochs}", note=note)

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch ended: the bound beside the bar, or a line of its own."""
        if self.quiet:
            return
        note = "  ".join(f"{key} {row[key]:.2f}" for key in _headline(row))
        note += f"  {row['train/not_finite']:.0f} steps not finite" if row.get("train/not_finite") else ""
        self.note = note
        if self.bar is not None:
            self.bar.update(
                self.task, completed=int(row["step"]), epoch=f"{int(row['epoch'])}/{self.epochs}", note=note
            )
            return
        left = (self.epochs - row["epoch"]) * row["epoch_seconds"]
        self.console.print(
            f"epoch {int(row['epoch'])}/{self.epochs}  {note}  {row['images_per_second']:.0f} examples/s  "
            f"about {_duration(left)} left",
            soft_wrap=True,
            highlight=False,
        )

    def say(self, text: str) -> None:
        """A line to the person, above the bar."""
        if not self.quiet:
            (self.bar.console if self.bar is not None else self.console).print(text, soft_wrap=True, highlight=False)


def _headline(row: Mapping[str, float]) -> list[str]:
    names = ("iwae", "elbo", "log_likelihood")
    found = next((name for name in names if f"train/{name}" in row), "loss")
    return [key for key in (f"train/{found}", f"valid/{found}") if key in row]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
