"""The interventional robustness score (Suter et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from jensen.metrics.disentanglement.labelled import labelled
from jensen.metrics.disentanglement.score import Score

__all__ = ["irs"]


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
    the maximum over all, which gives codes that know nothing more than 0 (0.3 for Gaussian noise): range_quantile=1.

    Args:
        codes: posterior means, (N, D).
        factors: (N, F), see `labelled` for which count as discrete; continuous ones are put into `bins` bins.
        seed: takes no part; nothing is random here.
        bins: of each continuous factor.
        discrete: which factors are discrete.
        quantile: of the deviations among examples that share a value, in (0, 1].
        range_quantile: of the deviations over all examples; None: the same.

    Returns:
        details: matrix (D, F), per_code (D,) and factor (D,), the best one of each; zeros for constant codes, whose
        factor is -1; range (D,), the largest deviations.

    Raises:
        ValueError: see `labelled`; or a quantile outside (0, 1].
    """
    range_quantile = quantile if range_quantile is None else range_quantile
    if not 0 < quantile <= 1 or not 0 < range_quantile <= 1:
        raise ValueError(f"IRS: quantiles should be in (0, 1], got {quantile} and {range_quantile}")
    data = labelled(codes, factors, metric="IRS", discrete=discrete, bins=bins)
    extent = np.quantile(np.abs(data.codes - data.codes.mean(0)), range_quantile, axis=0)
    extent = np.where(np.ptp(data.codes, axis=0) > 0, extent, 0.0)  # a mean may differ from equal values by rounding
    active = extent > 0
    moved = np.zeros((data.codes.shape[1], data.factors))
    for f in range(data.factors):
        order = np.argsort(data.classes[:, f], kind="stable")
        ends = np.cumsum(np.bincount(data.classes[:, f]))
        groups = np.split(data.codes[order], ends[:-1])
        moved[:, f] = np.mean([np.quantile(np.abs(g - g.mean(0)), quantile, axis=0) for g in groups], axis=0)
    matrix = np.where(active[:, None], np.maximum(1.0 - moved / np.where(active, extent, 1.0)[:, None], 0.0), 0.0)
    per_code = matrix.max(1)
    value = float(per_code @ extent / extent.sum()) if active.any() else 0.0
    details = {
        "matrix": matrix,
        "per_code": per_code,
        "factor": np.where(active, matrix.argmax(1), -1),
        "range": extent,
    }
    return Score(value, details)
