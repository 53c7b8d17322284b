"""What each latent of a model says, over data that are seen a batch at a time, and each level of several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

__all__ = ["ACTIVE_KL", "MOST_UNITS", "LevelUse", "UnitTally", "drawn_below", "level_rows", "level_uses"]

ACTIVE_KL = 0.01  # nats: Sønderby et al. 2016, table 2
MOST_UNITS = 1024  # whose KLs are told one by one, where there are several levels
MOST_ROWS = 10


def drawn_below(kind: str, levels: int) -> str:
    """A note on what the terms of the levels mean where they are no KLs, as in model hvae; else empty."""
    if kind != "hvae" or levels < 2:
        return ""
    return (
        "In model hvae the term of a level below the top is E_q[log q - log p], which is no KL, as the prior looks at "
        "a z above that was drawn given this level's: it may be negative, and only the sum over levels is a KL. A unit "
        f"that counts as active has a term above {ACTIVE_KL} nats; below the top this does not tell whether it is used."
    )


@dataclass(frozen=True)
class LevelUse:
    """What a level of latents says of a datum.

    In model hvae a level's prior, but for the top one, is given a z above that was drawn from this level's own: its
    term is then no KL and may be negative, and only the sum over levels is one. What counts as active there is a unit
    whose term is above the threshold, which does not tell whether it is used.

    Attributes:
        level: its number; 1 is nearest the data.
        shape: of its latents.
        latent: how many they are.
        kl: E_q[log q - log p] in nats per example, summed over them: KL(q || p), but for hvae below the top.
        active_units: how many have a mean KL above 0.01 nats (Sønderby et al. 2016, table 2). That the posterior mean
            varies over the data, as for one level, would not tell: below the top it also varies with its prior.
    """

    level: int
    shape: tuple[int, ...]
    latent: int
    kl: float
    active_units: int


class UnitTally:
    """Mean KL of each unit and variance of its posterior mean over data, in memory that does not grow with them.

    Variances by Chan et al. 1983, "Algorithms for computing the sample variance", eq. 2.1b: sums of squares about the
    mean of each batch, which do not cancel however large the mean.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kl = torch.zeros(())
        self._mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, kl: Tensor, means: Tensor) -> None:
        """Count a batch: KL in nats and posterior means, (batch, units) each."""
        rows, kl, means = len(kl), kl.double(), means.double()
        centre = means.mean(0)
        squares, change = (means - centre).square().sum(0), centre - self._mean.to(centre.device)
        whole = self.count + rows
        self._kl = self._kl.to(kl.device) + kl.sum(0)
        self._squares = self._squares.to(kl.device) + squares + change.square() * (self.count * rows / whole)
        self._mean = self._mean.to(kl.device) + change * (rows / whole)
        self.count = whole

    @property
    def kl(self) -> Tensor:
        """Mean KL of each unit in nats, (units,) float64."""
        return (self._kl / max(1, self.count)).cpu()

    @property
    def variance(self) -> Tensor:
        """Of the posterior mean of each unit over the data, (units,) float64; 0 of one datum."""
        return (self._squares / max(1, self.count - 1)).cpu()


def level_uses(kl: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[LevelUse]:
    """What each level says, the top first, from the mean KL of all units in nats, (units,), levels in that order.

    Args:
        kl: of the units of all levels, one level after the other.
        shapes: of the latents of each level, the top first.
    """
    parts = kl.split([math.prod(shape) for shape in shapes])
    return [
        LevelUse(len(shapes) - i, shape, len(part), part.sum().item(), int((part > ACTIVE_KL).sum()))
        for i, (shape, part) in enumerate(zip(shapes, parts, strict=True))
    ]


def level_rows(levels: Sequence[LevelUse]) -> Iterator[tuple[str, str, str]]:
    """Rows (name, value, unit and meaning), the top first: a level each, or a scale each where levels are many."""
    if len(levels) <= MOST_ROWS:
        for use in levels:
            nearest = " (nearest the data)" if use.level == 1 else ""
            active = f"{use.active_units:,} of {use.latent:,} active (KL > {ACTIVE_KL})"
            yield f"level {use.level}{nearest}", f"{use.kl:.3f}", f"nats, KL; {active}"
        return
    for shape, group in groupby(levels, lambda use: use.shape):
        scale = list(group)
        first, last = scale[-1].level, scale[0].level
        name = f"levels {last} to {first}" if last > first else f"level {first}"
        used, latent = sum(use.active_units for use in scale), sum(use.latent for use in scale)
        grid = " of " + "x".join(map(str, shape[1:])) if shape[1:] else ""
        each = " ".join(f"{use.kl:.2f}" for use in scale)
        meaning = f"nats, KL{grid}; {used:,} of {latent:,} active (KL > {ACTIVE_KL}); each: {each}"
        yield name + (" (nearest the data)" if first == 1 else ""), f"{sum(use.kl for use in scale):.3f}", meaning
