"""One run of stochastic ascent: stages of falling learning rates, each until its iterates' average is good enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jensen.inference.averaging import FEWEST, Iterates, Window, remaining, stationary
from jensen.inference.noisy import Comparison, Noisy, not_finite
from jensen.inference.stepper import Stepper
from jensen.inference.steps import StepSize

__all__ = ["Callback", "End", "Run"]

Callback = Callable[[int, float, Tensor], object]
"""(steps so far, mean of the last window's ELBO estimates in nats, parameters) -> anything"""

WINDOW = 50
"""steps between looks at the numbers"""
FACTOR = 0.25
"""of each learning rate to the one before"""
STATIONARY = 1.1
"""split R-hat under which iterates count as stationary (Dhaka et al. 2020)"""
FEWEST_STEPS, FEWEST_EFFECTIVE = 300, 12.0
"""steps at a learning rate, and effective blocks of them, before their average is used"""
GROWTH = 1.15
"""of the number of steps between two tests"""
SHARE = 0.25
"""of the tolerance that noise of an average may take"""
NEGLIGIBLE = 0.3
"""times what each number, in units of q, may move for all of them together to make the tolerance"""
RETRIES = 8
"""halvings of the learning rate after a number that is not finite"""
PATIENCE = 3.0
"""times the steps that are left: a run whose trend asks for more is ended"""
PARTS = 4
"""of a window, whose averages say how noisy that of the window is"""
OVER = "its seconds are over"


class _NotFinite(ArithmeticError):
    """A window's ELBO or parameters are NaN or infinite."""


class _Limit(Exception):
    """All steps are made, or the time is over; says which."""


@dataclass
class End:
    """How a run ended.

    Attributes:
        converged: whether the averages agree to within the tolerance.
        reason: in words.
        advice: what to try; None where it converged.
        candidates: parameters, (P,) each, the one most to be trusted first.
        trace: mean ELBO estimates of windows, nats.
        steps: made.
    """

    converged: bool
    reason: str
    advice: str | None
    candidates: list[Tensor]
    trace: list[float] = field(default_factory=list)
    steps: int = 0


class Run:
    """One climb from the bound's present parameters.

    Args:
        noisy: estimates of gradients.
        stepper: makes steps of them.
        comparison: of q at two parameters.
        rate: (step, gradient) -> learning rate.
        falls: whether `rate` falls by itself; it is lowered by stages if not.
        tol: nats of symmetrised KL.
        max_steps: over all stages.
        seed: of draws for error messages.
        callback: called after every window.
        near: whether the bound's present parameters are already near the optimum.
        deadline: when to end, on the clock of `time.monotonic`.
    """

    def __init__(
        self,
        noisy: Noisy,
        stepper: Stepper,
        comparison: Comparison,
        *,
        rate: StepSize,
        falls: bool,
        tol: float,
        max_steps: int,
        seed: int,
        callback: Callback | None,
        near: bool = False,
        deadline: float = math.inf,
    ) -> None:
        self._noisy, self._stepper, self._comparison = noisy, stepper, comparison
        self._rate, self._falls, self._tol, self._limit = rate, falls, tol, max_steps
        self._seed, self._callback, self._near, self._deadline = seed, callback, near, deadline
        self._scale, self._steps = 1.0, 0
        self._trace: list[float] = []
        self._averages: list[Tensor] = []  # one of each stage since the last trouble
        self._rates: list[float] = []
        self._changes: list[float] = []
        self._lengths: list[int] = []
        self._iterates = self._fresh()
        self._why = "the iterates were not stationary yet"

    def _fresh(self) -> Iterates:
        """Room for the parameters and, as the last number, the bound."""
        return Iterates(len(self._stepper.flat) + 1, like=self._stepper.flat)

    def climb(self) -> End:
        """Stages until the averages agree, the limit, Ctrl-C, or a trend that would take too long.

        Raises:
            NonFiniteError: NaN or infinity that smaller steps do not cure; names the term or the parameter.
        """
        trouble = 0
        while True:
            before = self._steps
            try:
                average = self._stage()
            except _NotFinite:
                trouble += 1
                if trouble > RETRIES:
                    raise self._error() from None
                self._scale /= 2
                self._averages, self._rates, self._changes = self._averages[-1:], self._rates[-1:], []
                continue
            except (_Limit, KeyboardInterrupt) as stop:
                return self._ended("interrupted" if isinstance(stop, KeyboardInterrupt) else str(stop))
            self._lengths.append(self._steps - before)
            end = self._judge(average)
            if end is not None:
                return end
            self._stepper.move_to(average)
            if not self._falls:
                self._scale *= FACTOR

    # --- a stage ----------------------------------------------------------------------------------------------------

    def _stage(self) -> Tensor:
        """Steps until the iterates are stationary and their average exact enough; the average, (P,)."""
        self._iterates = self._fresh()
        if (self._near or self._averages) and self._stepper.settles:
            self._noisy.refer()
        made, test = 0, max(FEWEST_STEPS, self._steps if self._falls else 0)
        while True:
            made += self._window()
            if made < test:
                continue
            average = self._average()
            if average is not None:
                return average
            test = math.ceil(made * GROWTH)

    def _window(self) -> int:
        """Steps until the next look at the numbers, which is the only time that the device is waited for."""
        count = min(WINDOW, self._limit - self._steps)
        if count <= 0:
            raise _Limit("all steps were made")
        if time.monotonic() >= self._deadline and self._steps:
            raise _Limit(OVER)
        good, total = self._stepper.state(), torch.zeros((), dtype=torch.float64)
        for _ in range(count):
            glimpse = self._noisy()
            rate = self._scale * self._rate(self._steps, glimpse.gradient)
            self._stepper.step(glimpse.gradient, rate, glimpse.index, glimpse.share)
            elbo = glimpse.elbo.detach().to(self._stepper.flat)
            self._iterates.add(torch.cat([self._stepper.flat, elbo.reshape(1)]))
            total = total.to(elbo) + elbo
            self._steps += 1
        mean, parameters = torch.stack([total / count, self._stepper.flat.sum().to(total)]).tolist()
        if not (math.isfinite(mean) and math.isfinite(parameters)):
            self._last = glimpse
            self._stepper.restore(good)
            raise _NotFinite
        self._trace.append(mean)
        if self._callback is not None:
            self._callback(self._steps, mean, self._stepper.flat)
        return count

    def _average(self) -> Tensor | None:
        """The average over the most stationary window, (P,), if it is good enough."""
        blocks = self._iterates.means
        if len(blocks) < FEWEST:
            return None
        means, window = blocks[:, :-1], self._looked_at(blocks)
        if window is None or not window.rhat < STATIONARY:
            rhat = "" if window is None else f" (split R-hat {window.rhat:.2f})"
            self._why = f"the iterates were not stationary yet{rhat}"
            return None
        if not window.size > FEWEST_EFFECTIVE:
            self._why = f"the iterates remember each other too long ({window.size:.0f} effective blocks)"
            return None
        chosen = means[window.start :]
        average = chosen.mean(0)
        size = len(chosen) // PARTS
        parts = torch.stack([part.mean(0) for part in chosen[-PARTS * size :].split(size)])
        noise = self._comparison.noise(average, parts)
        if not noise <= SHARE * self._tol:
            self._why = f"noise left {noise:.2g} nats in the iterates' average"
            return None
        return average

    def _looked_at(self, blocks: Tensor) -> Window | None:
        """The most stationary window of the parameters that tell, and of the bound where not all of them do."""
        means, bounds, told = blocks[:, :-1], blocks[:, -1:], self._stepper.identified
        unit = NEGLIGIBLE * math.sqrt(self._tol / means.shape[1]) * self._stepper.units()
        window = stationary(means[:, told], unit[told]) if len(told) else None
        if len(told) == means.shape[1]:
            return window
        trace = stationary(bounds, NEGLIGIBLE * self._tol)
        if window is None or trace is None:
            return trace
        return Window(window.start, max(window.rhat, trace.rhat), window.size)

    # --- between stages ---------------------------------------------------------------------------------------------

    def _judge(self, average: Tensor) -> End | None:
        """Whether this stage was the last."""
        self._averages.append(average)
        self._rates.append(self._scale * self._rate(self._steps, average))
        if len(self._averages) < 2:
            return None
        before, now = self._averages[-2:]
        self._changes.append(self._comparison.apart(before, now))
        left, order = remaining(self._changes, self._rates)
        if left <= self._tol:
            reason = (
                f"averages of stationary iterates agree: {left:.2g} nats of symmetrised KL are left "
                f"(tol = {self._tol:g})"
            )
            return End(True, reason, None, [average], self._trace, self._steps)
        self._why = f"averages at successive learning rates still differed, by {self._changes[-1]:.2g} nats"
        stages = math.ceil(math.log(left / self._tol) / (2 * order * math.log(1 / FACTOR)))
        needed = stages * max(self._lengths[-1], self._lengths[-2])
        if needed > PATIENCE * (self._limit - self._steps):
            reason = f"{self._why}, and to get under tol = {self._tol:g} about {needed} more steps would be needed"
            return End(False, reason, self._advice(needed), self._candidates(), self._trace, self._steps)
        return None

    def _ended(self, how: str) -> End:
        """The end at a limit, or by Ctrl-C."""
        reason = f"{how} ({self._steps}{' steps' if how == OVER else ''}) when {self._why}"
        advice = None if how == "interrupted" else self._advice(None)
        if how == OVER:
            advice = "Allow more seconds, or a larger tol"
        return End(False, reason, advice, self._candidates(), self._trace, self._steps)

    def _advice(self, needed: int | None) -> str:
        steps = 4 * self._limit if needed is None else self._steps + needed
        text = f"Try max_steps={steps}"
        if self._noisy.minibatches:
            text += ", a larger batch_size"
        return text + f", samples={4 * self._noisy.samples} for less noise, or a larger tol"

    def _candidates(self) -> list[Tensor]:
        """What was reached: the last average, the mean of the iterates since, where the iterates are."""
        found = self._averages[-1:]
        means = self._iterates.means
        if len(means) >= FEWEST:
            found.append(means[len(means) // 2 :, :-1].mean(0))
        if bool(self._stepper.flat.isfinite().all()):  # not so after Ctrl-C in the midst of trouble
            found.append(self._stepper.flat.clone())
        return [flat for flat in found if bool(flat.isfinite().all())]

    def _error(self) -> Exception:
        """What is not finite; the bound is left at the last good average."""
        gradient = self._last.gradient
        error = not_finite(self._noisy.bound, gradient, self._seed, RETRIES)
        if self._averages:
            self._stepper.move_to(self._averages[-1])
        return error
