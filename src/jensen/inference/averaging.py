"""Averages of noisy iterates: whether they are stationary, how exact their mean is, what smaller steps would change.

At a fixed learning rate the iterates of stochastic optimisation end as a stationary, autocorrelated cloud round a point
near the optimum; their mean is much nearer than the last of them (Dhaka et al. 2020). Its bias falls with the
rate, and the differences between the means of successive rates say how far is still to go (Welandawe et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from jensen.gradients.posterior import Posterior

__all__ = ["Iterates", "Window", "effective_size", "noise", "remaining", "split_rhat", "stationary", "symmetrised_kl"]

LARGEST = 16_000_000
"""numbers that the means of blocks may take"""
FRACTIONS = (0.95, 0.8, 0.65, 0.5, 0.35)
"""of the run, its last part, that are tried as windows"""
FEWEST = 16
"""blocks in a window"""
MANY = 100
"""coordinates from which on one in twenty may fail the test: the largest of many noisy ratios is always large"""


class Iterates:
    """The iterates of one learning rate as means of blocks, whose length doubles where there would be too many.

    Args:
        size: numbers in one iterate.
        length: iterates in a block, at first.
        capacity: blocks that are kept at most, even; by default 256, fewer where iterates are large.
        like: dtype and device of the iterates.
    """

    def __init__(self, size: int, *, length: int = 10, capacity: int | None = None, like: Tensor) -> None:
        if capacity is None:
            capacity = 2 * min(128, max(FEWEST, LARGEST // (2 * max(1, size))))
        if capacity < 2 or capacity % 2 or length < 1:
            raise ValueError(f"capacity must be even and length positive, got {capacity} and {length}")
        self.length = length
        self._store = like.new_empty(capacity, size)
        self._sum = like.new_zeros(size)
        self._in_sum = self._blocks = 0

    def add(self, iterate: Tensor) -> None:
        """Count one more iterate, (size,)."""
        self._sum += iterate
        self._in_sum += 1
        if self._in_sum < self.length:
            return
        torch.div(self._sum, self._in_sum, out=self._store[self._blocks])
        self._sum.zero_()
        self._in_sum = 0
        self._blocks += 1
        if self._blocks == len(self._store):
            half = self._blocks // 2
            self._store[:half] = (self._store[0::2] + self._store[1::2]) / 2
            self._blocks, self.length = half, 2 * self.length

    @property
    def means(self) -> Tensor:
        """Of the whole blocks so far, oldest first, (blocks, size)."""
        return self._store[: self._blocks]


def split_rhat(draws: Tensor, negligible: Tensor | float = 0.0) -> Tensor:
    """Split R-hat of one chain, (coordinates,): its two halves as chains (Gelman et al. 2013, section 11.4).

    Args:
        draws: (n, coordinates), n >= 4; the middle one of an odd number is left out.
        negligible: a standard deviation that W has on top, (coordinates,).

    Returns:
        sqrt(((n' - 1) / n' W + B / n') / W), n' draws in a half; 1 where nothing varies.
    """
    half = _at_least(draws, 4) // 2
    chains = torch.stack([draws[:half], draws[-half:]])
    within = chains.var(1).mean(0) + torch.as_tensor(negligible).square()
    between = chains.mean(1).var(0)
    ratio = (half - 1) / half + between / within
    return torch.where((within == 0) & (between == 0), 1.0, ratio).sqrt()


def effective_size(draws: Tensor) -> Tensor:
    """Effective sample size of the mean of one chain split in two, (coordinates,).

    Geyer's initial monotone sequence over the two halves' autocovariances, as in Stan (Vehtari et al. 2021).

    Args:
        draws: (n, coordinates), n >= 8; the middle one of an odd number is left out.

    Returns:
        At most 2 n' log10(2 n'), n' draws in a half; 2 n' where nothing varies.
    """
    half = _at_least(draws, 8) // 2
    chains = torch.stack([draws[:half], draws[-half:]])
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * half, dim=1).abs().square()
    covariance = torch.fft.irfft(spectrum, n=2 * half, dim=1)[:, :half].mean(0) / half  # by lag, (half, coordinates)
    total = covariance[0] + chains.mean(1).var(0)
    correlation = 1 - (covariance[0] * half / (half - 1) - covariance) / total
    correlation[0] = 1
    pairs = correlation[: half // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    positive = (pairs > 0).cumprod(0)
    after = (2 * positive.sum(0, keepdim=True)).clamp(max=half - 1)  # the first lag that no pair has
    monotone = torch.cummin(pairs, 0).values * positive
    lengths = 2 * monotone.sum(0) - 1 + correlation.gather(0, after)[0].clamp(min=0)
    lengths = lengths.clamp(min=1 / math.log10(2 * half))
    return torch.where(total > 0, 2 * half / lengths, 2.0 * half)


def _at_least(draws: Tensor, fewest: int) -> int:
    if draws.dim() != 2 or len(draws) < fewest:
        raise ValueError(f"draws must be (n, coordinates) with n at least {fewest}, got shape {tuple(draws.shape)}")
    return len(draws)


@dataclass(frozen=True)
class Window:
    """The part of a run that looks most stationary.

    Attributes:
        start: its first block.
        rhat: the largest split R-hat of its coordinates (of many, the 95th of a hundred).
        size: the smallest effective sample size (of many, the fifth of a hundred), in blocks.
    """

    start: int
    rhat: float
    size: float


def stationary(means: Tensor, negligible: Tensor | float = 0.0) -> Window | None:
    """The window at the end of a run whose split R-hat is smallest; None for too few blocks.

    Args:
        means: of blocks of iterates, oldest first, (blocks, coordinates).
        negligible: a standard deviation of each coordinate that does not matter, (coordinates,): what moves by less
            counts as stationary, since iterates without noise never are.
    """
    best: tuple[float, int] | None = None
    for fraction in FRACTIONS:
        start = len(means) - round(fraction * len(means))
        if len(means) - start >= FEWEST:
            rhat = _of_many(split_rhat(means[start:], negligible), 0.95)
            best = (rhat, start) if best is None or rhat < best[0] else best
    if best is None:
        return None
    rhat, start = best
    size = torch.where(means[start:].std(0) > negligible, effective_size(means[start:]), math.inf)
    return Window(start, rhat, -_of_many(-size, 0.95))


def _of_many(values: Tensor, share: float) -> float:
    """The largest of a few values, a quantile of many; infinite where a value is NaN."""
    if bool(values.isnan().any()):
        return math.inf
    if len(values) <= MANY:
        return float(values.max())
    return float(values.kthvalue(math.ceil(share * len(values))).values)


@torch.no_grad()
def symmetrised_kl(p: Posterior, q: Posterior, samples: int, generator: Generator, weights: Sequence[float]) -> Tensor:
    """KL(p || q) + KL(q || p) in nats by draws of both, a scalar.

    Each is the mean of q / p - 1 - log(q / p), in which nothing is negative and little noise is left where p and q are
    near each other.

    Args:
        p, q: of one family, factor by factor.
        samples: draws of each.
        weights: how often each factor counts (N / B of the rows in a batch).
    """
    total = torch.zeros((), dtype=torch.float64)
    for a, b, weight in zip(p.factors, q.factors, weights, strict=True):
        for here, there in ((a, b), (b, a)):
            draw = here.sample(samples, generator)
            ratio = (there.log_prob(draw) - here.log_prob(draw)).reshape(samples, -1).sum(1)
            total = total + weight * (torch.expm1(ratio) - ratio).mean().to(total)
    return total


def remaining(changes: Sequence[float], rates: Sequence[float]) -> tuple[float, float]:
    """Symmetrised KL in nats between the last average and the optimum, and its order kappa in the learning rate.

    With the average at rate g at a distance c g^kappa from the optimum, those at rates g and h are
    c^2 (g^kappa - h^kappa)^2 apart, and c^2 h^(2 kappa) is left. Kappa is the slope of log sqrt(change) against the log
    rate over the last changes, kept in [1/2, 1] (Welandawe et al. 2022, section 4); 1/2 where there is only one.

    Args:
        changes: symmetrised KL between the averages at successive learning rates, at least one.
        rates: of the averages, falling, one more than changes.
    """
    known = [max(change, 1e-12) for change in changes[-3:]]
    before, last = rates[-2:]
    kappa = 0.5
    if len(known) > 1:
        slope = math.log(known[-1] / known[0]) / (2 * math.log(last / rates[-len(known)]))
        kappa = min(1.0, max(0.5, slope))
    return known[-1] / ((before / last) ** kappa - 1) ** 2, kappa


def noise(
    p: Posterior, parts: Sequence[Posterior], samples: int, generator: Generator, weights: Sequence[float]
) -> float:
    """Symmetrised KL in nats that the noise of an average leaves between it and the mean of the iterates.

    Args:
        p: at the average of a window.
        parts: at the averages of its k equal parts: these are k times as variable, and so k - 1 times as far from p as
            p from the mean, if they are longer than the iterates remember.
        samples, generator, weights: as of `symmetrised_kl`.
    """
    apart = [float(symmetrised_kl(p, part, samples, generator, weights)) for part in parts]
    return max(0.0, sum(apart) / len(apart)) / (len(apart) - 1)
