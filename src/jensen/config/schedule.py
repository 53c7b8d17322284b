"""Numbers that depend on the training step."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from jensen.config.names import Count
from jensen.errors import ConfigError
from jensen.sections import Section

__all__ = ["Schedule"]


class Schedule(Section):
    """A number that depends on the training step: a KL weight, a capacity, a learning-rate factor.

    With t = step / steps clipped to [0, 1]:

    - ``constant``: `end`, whatever the step;
    - ``linear``: start + (end - start) t (deterministic warm-up, Sønderby et al. 2016);
    - ``cosine``: half a cosine from start to end;
    - ``cyclical``: `cycles` equal cycles over `steps`, each rising linearly over its first `ramp` share and then
      staying at `end` (Fu et al. 2019, eq. 6); `end` after the last.

    Calling it with a step gives the value there. Where `share` stands in place of `steps`, that is only once the length
    of the training is known: `over` gives the schedule in steps, which `jensen.training` calls by itself.
    """

    kind: Literal["constant", "linear", "cosine", "cyclical"] = Field("constant", description="shape of the schedule")
    start: float = Field(0.0, allow_inf_nan=False, description="value at step 0")
    end: float = Field(1.0, allow_inf_nan=False, description="value at the end (of each cycle)")
    steps: int = Field(0, ge=0, description="optimiser steps from start to end")
    share: float | None = Field(
        None, gt=0, le=1, description="steps from start to end, as a share of the whole training"
    )
    cycles: Count = Field(4, description="cyclical: number of cycles")
    ramp: float = Field(0.5, gt=0, le=1, description="cyclical: share of a cycle spent rising")

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.kind != "constant" and self.steps == 0 and self.share is None:
            raise ValueError(f"a {self.kind} schedule needs steps >= 1, or a share of the training")
        if self.kind == "constant" and (self.start != 0.0 or self.steps != 0 or self.share is not None):
            raise ValueError("a constant schedule has only an end: choose kind linear, cosine or cyclical")
        if self.steps and self.share is not None:
            raise ValueError("steps and share are two ways to say how long: give one of them")
        if self.kind != "cyclical" and (self.cycles != 4 or self.ramp != 0.5):
            raise ValueError(f"cycles and ramp are for kind cyclical, not {self.kind}")
        return self

    def over(self, total: int) -> Self:
        """The same for a training of `total` optimiser steps: a share of them as so many steps, at least one."""
        if self.share is None:
            return self
        return self.model_copy(update={"steps": max(1, round(self.share * total)), "share": None})

    def __call__(self, step: int) -> float:
        """Value at optimiser step `step` (0 is the first).

        Raises:
            ConfigError: its length is a share of a training that is not known.
        """
        if self.share is not None:
            raise ConfigError(
                f"this schedule takes a share ({self.share:g}) of a training whose length it does not know: call "
                "over(steps in all) first, or give steps"
            )
        if self.kind == "constant" or step >= self.steps:
            return self.end
        progress = max(step, 0) / self.steps
        if self.kind == "cosine":
            progress = 0.5 * (1.0 - math.cos(math.pi * progress))
        elif self.kind == "cyclical":
            progress = min(1.0, (progress * self.cycles % 1.0) / self.ramp)
        return self.start + (self.end - self.start) * progress
