"""The interventional robustness score (Suter et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from jensen.metrics.disentanglement.labelled import labelled
from jensen.metrics.disentanglement.score import Score

__all__ = ["irs"]

Floats = npt.NDArray[np.float64]


def irs(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    bins: int = 20,
    discrete: Sequence[bool] | None = None,
    quantile: float = 0.99,
    range_quantile: float | None = None,
) -> Score:
    """How little each code moves when its own factor is held and all others change: 1 is best, 0 is worst.

    Suter, Miladinovic, Schoelkopf and Bauer 2019, for factors that are independent. For code d and factor f:
    1 - (largest deviation of z_d from its mean among examples that share v_f, a mean over values of f) / (largest
    deviation of z_d from its mean over all examples). A code's score is that of its best factor, and the value is the
    mean over codes weighted by their largest deviation, so that collapsed codes count little; it therefore depends on
    the relative scale of the codes. Constant codes are left out; with none left it is 0.

    `quantile` stands for "largest" (1: the paper's). disentanglement_lib takes the 0.99 quantile within a group but
    the maximum over all: range_quantile=1.

    Codes that know nothing score more than 0, because few examples do not move as far as many do, and because the best
    of F factors is taken; the fewer examples share a value, the more. Ten codes of Gaussian noise and five factors of
    as many equally frequent values as leave 2,500, 500, 250 or 25 examples a value score 0.006, 0.02, 0.03 and 0.19;
    with range_quantile=1 0.36 to 0.40; with quantile=1 0.10, 0.21, 0.26 and 0.38 (of 10,000 examples, 1,000 for the
    last). `details["chance"]` is what these codes score with the examples' factors shuffled: scores near to it say
    nothing. It is not subtracted.

    Args:
        codes: posterior means, (N, D).
        factors: (N, F), see `labelled` for which count as discrete; continuous ones are put into `bins` bins.
        seed: of the shuffle for `chance`; nothing else is random here.
        bins: of each continuous factor.
        discrete: which factors are discrete.
        quantile: of the deviations among examples that share a value, in (0, 1].
        range_quantile: of the deviations over all examples; None: the same.

    Returns:
        details: matrix (D, F), per_code (D,) and factor (D,), the best one of each; zeros for constant codes, whose
        factor is -1; range (D,), the largest deviations; chance, see above.

    Raises:
        ValueError: see `labelled`; or a quantile outside (0, 1].
    """
    range_quantile = quantile if range_quantile is None else range_quantile
    if not 0 < quantile <= 1 or not 0 < range_quantile <= 1:
        raise ValueError(f"IRS: quantiles should be in (0, 1], got {quantile} and {range_quantile}")
    data = labelled(codes, factors, metric="IRS", discrete=discrete, bins=bins)
    extent = np.quantile(np.abs(data.codes - data.codes.mean(0)), range_quantile, axis=0)
    extent = np.where(np.ptp(data.codes, axis=0) > 0, extent, 0.0)  # a mean may differ from equal values by rounding
    matrix = _matrix(data.codes, data.classes, extent, quantile)
    shuffled = data.classes[np.random.default_rng(seed).permutation(len(data))]
    details = {
        "matrix": matrix,
        "per_code": matrix.max(1),
        "factor": np.where(extent > 0, matrix.argmax(1), -1),
        "range": extent,
        "chance": _value(_matrix(data.codes, shuffled, extent, quantile), extent),
    }
    return Score(_value(matrix, extent), details)


def _matrix(codes: Floats, classes: npt.NDArray[np.int64], extent: Floats, quantile: float) -> Floats:
    """Robustness of each code to all factors but one, (D, F); 0 for codes without extent."""
    moved = np.zeros((codes.shape[1], classes.shape[1]))
    for f, column in enumerate(classes.T):
        ends = np.cumsum(np.bincount(column))
        groups = np.split(codes[np.argsort(column, kind="stable")], ends[:-1])
        moved[:, f] = np.mean([np.quantile(np.abs(g - g.mean(0)), quantile, axis=0) for g in groups], axis=0)
    active = (extent > 0)[:, None]
    return np.where(active, np.maximum(1.0 - moved / np.where(active, extent[:, None], 1.0), 0.0), 0.0)


def _value(matrix: Floats, extent: Floats) -> float:
    return float(matrix.max(1) @ extent / extent.sum()) if extent.any() else 0.0
