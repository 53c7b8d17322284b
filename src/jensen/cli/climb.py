"""Fitting an estimator with a bar on the screen, and what Ctrl-C leaves."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jensen.errors import JensenError

__all__ = ["Climbed", "climb", "sweeps_left"]

_WINDOW = 5


@dataclass
class Climbed:
    """How a fit ended."""

    seconds: float
    interrupted: bool = False
    warnings: list[str] = field(default_factory=list)


def climb(
    estimator: Any, arguments: Mapping[str, Any], label: str, *, most: int, tol: float, bound: str = "ELBO"
) -> Climbed:
    """`estimator.fit(**arguments)`, with a bar on stderr where that is a terminal.

    Args:
        most: steps that there can be.
        tol: the estimator's; says when it will probably stop.
        bound: what is climbed, as the bar calls it.

    Raises:
        JensenError: the estimator refused data or arguments, with its own words.
        KeyboardInterrupt: Ctrl-C before there was any posterior; later it is only noted.
    """
    start = time.monotonic()
    climbed = Climbed(0.0)
    with warnings.catch_warnings(record=True) as caught, _bar(label, most, tol, bound) as moved:
        warnings.simplefilter("always")
        if moved is not None:
            estimator.on_step = lambda step, elbo, _: moved(step, elbo)
        try:
            estimator.fit(**arguments)
        except ValueError as error:
            raise error if isinstance(error, JensenError) else JensenError(str(error)) from None
        except KeyboardInterrupt:
            if not hasattr(estimator, "posterior_"):
                raise
            climbed.interrupted = True
        finally:
            estimator.__dict__.pop("on_step", None)
    told = (warning.message for warning in caught if warning.category.__name__ == "ConvergenceWarning")
    climbed.warnings = list(dict.fromkeys(" ".join(str(message).split()) for message in told))
    climbed.seconds = time.monotonic() - start
    return climbed


@contextmanager
def _bar(label: str, most: int, tol: float, bound: str) -> Iterator[Callable[[int, float], None] | None]:
    """A bar with the bound and the time left, moved by (step, ELBO); None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[elbo]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, elbo="")
        trace: list[float] = []

        def moved(step: int, elbo: float) -> None:
            if step == 1:
                trace.clear()  # another start
            trace.append(elbo)
            left = sweeps_left(trace, tol, most - step)
            text = f"step {step}, {bound} {elbo:,.2f}".replace("-", "−")
            bar.update(task, completed=step, total=step + left, elbo=text)

        yield moved


def sweeps_left(trace: Sequence[float], tol: float, most: int) -> int:
    """How many more steps it will probably take until the ELBO changes by less than tol x |ELBO|; at most `most`.

    Changes of coordinate ascent shrink by about the same factor a sweep: that factor, over the last few, is carried on.
    """
    if len(trace) <= _WINDOW + 1:
        return most
    before, now = trace[-_WINDOW - 1] - trace[-_WINDOW - 2], trace[-1] - trace[-2]
    aim = tol * max(1.0, abs(trace[-1]))
    if 0 <= now <= aim:
        return 0
    if not (0 < now < before and aim > 0):
        return most
    return min(most, math.ceil(_WINDOW * math.log(aim / now) / math.log(now / before)))
