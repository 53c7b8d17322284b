"""When training goes wrong: gradients that explode, and where something stopped being finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.bound import Level, Output

__all__ = ["Spikes", "weight_not_finite", "where_not_finite"]

MEMORY = 100
"""Steps over which norms are averaged."""
TOO_MANY = 100
"""Steps in a row that are left out before training gives up."""
WORDS = {"loc": "mean", "scale": "standard deviation"}


class Spikes:
    """Finds steps to leave out, whose gradient norm is far above the running one.

    The running norm is the mean of the first 100 finite norms, then a moving average over about as many. A norm above
    the limit counts as the limit, so that one spike hardly moves it, and larger norms that stay are soon the usual.
    (Child 2021, where very deep VAEs are trained in this way, has a fixed limit instead.)

    Args:
        factor: how many times the running norm is too much; above 1.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.running = 0.0
        self.seen = 0  # finite norms
        self.in_a_row = 0  # steps left out
        self.total = 0.0  # of the finite norms of the epoch under way
        self.finite = 0
        self.skipped = 0

    def leaves_out(self, norm: float) -> bool:
        """Whether to leave out the step with this gradient norm; the norm is counted."""
        limit = self.factor * self.running if self.seen else math.inf
        skip = not (math.isfinite(norm) and norm <= limit)
        if math.isfinite(norm):
            self.seen += 1
            self.finite += 1
            self.total += norm
            self.running += (min(norm, limit) - self.running) / min(self.seen, MEMORY)
        self.in_a_row = self.in_a_row + 1 if skip else 0
        self.skipped += skip
        return skip

    @property
    def too_many(self) -> str | None:
        """What to say where too many steps in a row were left out; None: they were not."""
        if self.in_a_row < TOO_MANY:
            return None
        return (
            f"{self.in_a_row} steps in a row were left out, their gradient norm being not finite or more than "
            f"{self.factor:g} times the running one, {self.running:.3g}"
        )

    def close_epoch(self) -> dict[str, float]:
        """For the epoch's row: steps left out, and the mean of the finite norms (NaN where none was)."""
        row = {
            "train/skipped": float(self.skipped),
            "train/gradient_norm": self.total / self.finite if self.finite else math.nan,
        }
        self.total, self.finite, self.skipped = 0.0, 0, 0
        return row

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "factor"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.state_dict():
            setattr(self, name, state[name])


def where_not_finite(output: Output) -> str | None:
    """In words, the first level from the top with something not finite and what that is, and which others.

    Level 1 is nearest the data.

    Looked at are the parameters of prior and posterior, z, and the KL. None: all of these are finite.
    """
    count = len(output.levels)
    bad = [(count - i, part) for i, level in enumerate(output.levels) for part in _not_finite(level)]
    if not bad:
        return None
    place, part = bad[0]
    if count == 1:
        return part
    others = sorted({other for other, _ in bad} - {place})
    also = f"; also in {', '.join(map(str, others))}" if others else ""
    return f"level {place} of {count} ({part}{also}; level 1 is nearest the data)"


def _not_finite(level: Level) -> Iterator[str]:
    """What is not finite of a level, in the order in which it is computed."""
    for name in ("prior", "posterior"):
        distribution: Distribution | None = getattr(level, name)
        for parameter, value in _parameters(distribution):
            if not _fine(value, level.discrete):
                yield f"{name} {WORDS.get(parameter, parameter)}"
    if not _fine(level.z, level.discrete):
        yield "z"
    if level.posterior is not None and level.prior is not None and not _fine(level.kl(), level.discrete):
        yield "KL"


def _parameters(distribution: Distribution | None) -> Iterator[tuple[str, Tensor]]:
    try:
        names = [] if distribution is None else list(distribution.arg_constraints)
    except NotImplementedError:  # a distribution that does not say
        return
    for name in names:
        value = getattr(distribution, name)
        if isinstance(value, Tensor):
            yield name, value


def _fine(values: Tensor, discrete: bool) -> bool:
    """Whether all is finite; of what is discrete, log probabilities may be infinite."""
    return not bool(values.isnan().any() if discrete else (~values.isfinite()).any())


def weight_not_finite(module: nn.Module) -> str | None:
    """The name of the first weight that is not finite; None: all are."""
    names = (name for name, weight in module.named_parameters() if not bool(torch.isfinite(weight).all()))
    return next(names, None)
