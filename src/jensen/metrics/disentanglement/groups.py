"""Examples that share the value of a factor, drawn from a pool of examples many at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["Groups"]

Indices = npt.NDArray[np.int64]
AT_ONCE = 2**16  # examples drawn together: of ten codes, 5 MB


class Groups:
    """A pool sorted by the classes of each factor.

    Where a generator with free access to the factors would make new examples with one factor held and all others
    independent, a pool has what it has: the others follow their distribution in the pool, given the held one. The two
    are the same where factors are independent and the pool is large. Values that a single example has are not drawn.

    Args:
        classes: (N, F).
        metric: name for messages.

    Raises:
        ValueError: no two examples share a value of some factor.
    """

    def __init__(self, classes: Indices, metric: str) -> None:
        self.order = np.argsort(classes, axis=0, kind="stable")
        self.factors = classes.shape[1]
        self._first: list[Indices] = []  # of each example's class, its first place in the order, by place
        self._count: list[Indices] = []  # how many examples it has, by place
        self._shared: list[Indices] = []  # places whose class has two examples or more
        for f in range(self.factors):
            counts = np.bincount(classes[:, f])
            ordered = classes[self.order[:, f], f]
            self._first.append((np.cumsum(counts) - counts)[ordered])
            self._count.append(counts[ordered])
            self._shared.append(np.flatnonzero(self._count[f] > 1))
            if len(self._shared[f]) == 0:
                raise ValueError(
                    f"{metric}: no two of {len(classes)} examples share a value of factor {f}: encode more"
                )

    def factor_of_each(self, n: int, rng: np.random.Generator, size: int) -> Iterator[tuple[int, Indices]]:
        """A factor drawn for each of n groups of `size` examples: (factor, numbers of some groups) in chunks."""
        drawn = rng.integers(self.factors, size=n)
        chunk = max(1, AT_ONCE // size)
        for f in range(self.factors):
            which = np.flatnonzero(drawn == f)
            for start in range(0, len(which), chunk):
                yield f, which[start : start + chunk]

    def pairs(self, factor: int, n: int, size: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        """n groups of `size` pairs of different examples that share a value, by its frequency: two of (n, size)."""
        one = self._shared[factor][rng.integers(len(self._shared[factor]), size=(n, size))]
        first, count = self._first[factor][one], self._count[factor][one]
        further = 1 + (rng.random((n, size)) * (count - 1)).astype(np.int64)
        other = first + (one - first + further) % count
        return self.order[one, factor], self.order[other, factor]

    def alike(self, factor: int, n: int, size: int, rng: np.random.Generator) -> Indices:
        """n groups of `size` examples that all share one value, drawn by its frequency: (n, size).

        Examples are different as far as the value has as many. A group is a run of its value's examples in an order
        that is shuffled at each call.
        """
        one = self._shared[factor][rng.integers(len(self._shared[factor]), size=(n, 1))]
        first, count = self._first[factor][one], self._count[factor][one]
        places = first + (one - first + np.arange(size)) % count
        shuffled = self.order[np.lexsort((rng.random(len(self.order)), self._first[factor])), factor]
        chosen: Indices = shuffled[places]
        return chosen
