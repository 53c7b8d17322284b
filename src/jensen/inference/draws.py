"""Fixed standard normal draws that match the normal distribution's first moments, for bounds at fixed draws."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

__all__ = ["Draws", "matched", "pairs", "understated"]

_LARGEST = 2_000_000_000
"""multiplications that a decorrelation may cost: a second or so"""
_BLOCK = 64


class Draws:
    """Standard normal draws in antithetic pairs that can be grown: the first of many are those of few, unmatched.

    Args:
        size: dimensions, D.
        generator: makes them, on the CPU.
    """

    def __init__(self, size: int, generator: Generator) -> None:
        if size < 1:
            raise ValueError(f"draws need at least one dimension, got {size}")
        self.size, self._generator = size, generator
        self._raw = torch.empty(0, size, dtype=torch.float64)

    def plain(self, samples: int) -> Tensor:
        """Antithetic pairs x, -x and nothing else, (samples, D): independent pairs; an odd number is rounded up."""
        halves = (samples + 1) // 2
        while halves > len(self._raw):  # in blocks of one size, so that what came before does not change them
            more = torch.randn(_BLOCK, self.size, dtype=torch.float64, generator=self._generator)
            self._raw = torch.cat([self._raw, more])
        return pairs(self._raw[:halves])

    def matched(self, samples: int) -> Tensor:
        """Pairs with exactly the normal's moments as far as that can be, (samples, D); see `matched`."""
        self.plain(samples)
        return pairs(matched(self._raw[: (samples + 1) // 2]))


def matched(halves: Tensor) -> Tensor:
    """Draws (..., H, D) whose antithetic pairs have mean 0 and covariance I exactly where H >= D, else variances 1.

    Expectations of quadratics are then exact, so that the bound of any normal q is exact for a Gaussian posterior; with
    H < D that of an independent one is, for independent coordinates. Decorrelated normal draws are sqrt(H) times
    orthonormal columns, uniformly distributed. Other expectations are off by O(D / H).

    Raises:
        ValueError: no draws.
    """
    count, size = halves.shape[-2:]
    if count == 0:
        raise ValueError("there are no draws to match")
    if count >= size and count * size**2 <= _LARGEST:
        orthonormal, triangular = torch.linalg.qr(halves)
        # With a positive diagonal the factor tends to the identity as draws become many.
        signs = torch.sign(triangular.diagonal(dim1=-2, dim2=-1))
        decorrelated: Tensor = orthonormal * (count**0.5 * signs).unsqueeze(-2)
        return decorrelated
    return halves * halves.square().mean(-2, keepdim=True).rsqrt()


def pairs(halves: Tensor) -> Tensor:
    """x and -x for each of the draws (..., H, D), (..., 2 H, D)."""
    return torch.stack([halves, -halves], -2).flatten(-3, -2)


def understated(halves: int, size: int = 1) -> float:
    """How many times more a mean of fourth powers varies if many sets are matched together than if each is by itself.

    n numbers matched by themselves are uniform on a sphere: the variance of their mean fourth power is 24 n^2 (n - 1) /
    ((n + 2)^2 (n + 4) (n + 6)). Matched among very many it is 24 / n, since second moments are then all that is lost.
    Decorrelated draws in D dimensions are less free than that: n - D (at least n / 4) stands for n - 1, which is too
    much for sums of functions of one coordinate each, and too little for functions of the distance from zero.

    Args:
        halves: n, draws of a set without their antithetic twins; at least 2.
        size: D.
    """
    n = halves
    free = max(n - size, n / 4) if 1 < size <= n else n - 1
    return (n + 2) ** 2 * (n + 4) * (n + 6) / (n**3 * free)
