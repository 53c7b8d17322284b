"""Codes with the factors that made their examples: checked, and with continuous factors put into bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["Labelled", "as_array", "checked_codes", "equal_width_bins", "labelled", "split"]

MAX_FLOAT_CLASSES = 20  # a factor stored as floats with no more values than this counts as discrete


@dataclass(frozen=True)
class Labelled:
    """N examples: D codes and F factors each.

    Attributes:
        codes: posterior means, (N, D) float64.
        values: the factors as they were given, (N, F) float64.
        classes: each factor's class 0 .. K_f - 1, (N, F) int64; a continuous factor's classes are its occupied bins.
        discrete: which factors are discrete, (F,) bool.
    """

    codes: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    discrete: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def factors(self) -> int:
        """F."""
        return int(self.classes.shape[1])

    def take(self, rows: npt.NDArray[np.int64]) -> Labelled:
        """Some of the examples; classes keep their numbers."""
        return Labelled(self.codes[rows], self.values[rows], self.classes[rows], self.discrete)


def labelled(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    metric: str,
    discrete: Sequence[bool] | None = None,
    bins: int = 20,
    least_examples: int = 2,
    least_codes: int = 1,
    least_factors: int = 1,
) -> Labelled:
    """Check codes (N, D) and factors (N, F), and number the classes of each factor.

    Args:
        codes: posterior means; any scale.
        factors: int64 (discrete) or float (discrete if there are at most 20 distinct values, else continuous).
        metric: its name, for messages.
        discrete: which factors are discrete, one truth value a factor; None: as said above.
        bins: equal-width bins of a continuous factor.
        least_examples: fewest N that the metric makes sense of.
        least_codes: fewest D.
        least_factors: fewest F.

    Raises:
        ValueError: another shape, too few of something, NaN or infinite numbers, a factor that does not vary, a
            discrete factor of which nearly every example has a value of its own, or fewer than two bins.
    """
    z, y = checked_codes(codes, metric), as_array(factors)
    if y.ndim != 2 or len(y) != len(z):
        raise ValueError(f"{metric}: factors should be (examples, factors) with {len(z)} examples, got {y.shape}")
    if not np.isfinite(y.astype(np.float64)).all():
        raise ValueError(f"{metric}: factors hold NaN or infinite values; leave out the examples without known factors")
    if bins < 2:
        raise ValueError(f"{metric}: bins should be at least 2, got {bins}")
    if z.shape[1] < least_codes:
        raise ValueError(f"{metric} compares codes and needs at least {least_codes}, got {z.shape[1]}")
    if y.shape[1] < least_factors:
        raise ValueError(f"{metric} needs at least {least_factors} factors that vary, got {y.shape[1]}")
    if len(z) < least_examples:
        raise ValueError(f"{metric} needs at least {least_examples} examples, got {len(z)}: encode more")
    constant = [i for i in range(y.shape[1]) if (y[:, i] == y[0, i]).all()]
    if constant:
        raise ValueError(f"{metric}: factors {constant} do not vary in these {len(z)} examples; leave them out")
    if discrete is not None and len(discrete) != y.shape[1]:
        raise ValueError(f"{metric}: discrete should have one entry for each of {y.shape[1]} factors, got {discrete}")
    columns, kinds = [], []
    for i in range(y.shape[1]):
        distinct, numbers = np.unique(y[:, i], return_inverse=True)
        whole = y.dtype.kind in "biu" or len(distinct) <= MAX_FLOAT_CLASSES
        kinds.append(whole if discrete is None else bool(discrete[i]))
        if kinds[-1] and len(distinct) > max(2, len(z) // 2):
            raise ValueError(
                f"{metric}: factor {i} has {len(distinct)} values in {len(z)} examples; encode more examples, or say "
                "that it is continuous (discrete=...)"
            )
        if not kinds[-1]:
            numbers = np.unique(equal_width_bins(y[:, i : i + 1], bins), return_inverse=True)[1]
        columns.append(numbers.reshape(-1).astype(np.int64))
    return Labelled(z, y.astype(np.float64), np.stack(columns, 1), np.array(kinds))


def checked_codes(codes: Tensor | npt.NDArray[np.generic], metric: str) -> npt.NDArray[np.float64]:
    """Codes as (N, D) float64; ValueError for another shape, no codes, or numbers that are not finite."""
    z = as_array(codes)
    if z.ndim != 2 or z.shape[1] == 0 or len(z) == 0:
        raise ValueError(f"{metric}: codes should be (examples, dimensions), got {z.shape}")
    wide = z.astype(np.float64)
    bad = ~np.isfinite(wide)
    if bad.any():
        raise ValueError(
            f"{metric}: {int(bad.any(1).sum())} of {len(z)} codes hold NaN or infinite values; the model that made "
            "them has diverged, or its input holds such values"
        )
    return wide


def as_array(values: Tensor | npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """A tensor on any device, or an array, as an array; narrow floats widened to float64, which NumPy has."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    array: npt.NDArray[np.generic]
    array = (values.double() if values.is_floating_point() else values).detach().cpu().numpy()
    return array


def equal_width_bins(values: npt.NDArray[np.generic], bins: int) -> npt.NDArray[np.int64]:
    """The bin 0 .. bins - 1 of each value, per column of (N, D), between the column's smallest and largest value."""
    wide = values.astype(np.float64)
    low, width = wide.min(0), np.ptp(wide, axis=0)
    place = (wide - low) / np.where(width > 0, width, 1.0) * bins
    found: npt.NDArray[np.int64] = np.minimum(place.astype(np.int64), bins - 1)
    return found


def split(data: Labelled, rng: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Two thirds to learn from and one third to score, disjoint, drawn at random."""
    order = rng.permutation(len(data))
    cut = len(data) - len(data) // 3
    return data.take(order[:cut]), data.take(order[cut:])
