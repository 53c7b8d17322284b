"""The mutual information gap (Chen et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from jensen.metrics.disentanglement.labelled import equal_width_bins, labelled
from jensen.metrics.disentanglement.mutual_information import entropies, independence_bias, mutual_information
from jensen.metrics.disentanglement.score import Score

__all__ = ["mig"]


def mig(
    codes: Tensor | npt.NDArray[np.generic],
    factors: Tensor | npt.NDArray[np.generic],
    *,
    seed: int = 0,
    bins: int = 20,
    discrete: Sequence[bool] | None = None,
) -> Score:
    """How much more the best code knows of a factor than the second best: 1 is best, 0 is worst.

    Mean over factors of (I(z_1st; v) - I(z_2nd; v)) / H(v), Chen, Li, Grosse and Duvenaud 2018. A factor
    that is spread over several codes scores low; a code that holds several factors is not punished.

    The mutual information is that of a histogram, `bins` equal-width bins a code, as in disentanglement_lib. Two things
    follow. It is biased upwards, by about (bins - 1)(classes - 1) / 2N nats where code and factor are independent
    (`details["bias"]`, not subtracted): keep N above some thousands. And it is that of posterior means, so what
    q(z | x) blurs counts as known; the authors' own estimator samples z ~ q(z | x) instead, against the aggregate
    posterior given each factor value, and is lower for codes that are noisy.

    Args:
        codes: posterior means, (N, D), D at least 2.
        factors: (N, F), see `labelled` for which count as discrete; continuous ones are put into `bins` bins.
        seed: takes no part; nothing is random here.
        bins: of each code and of each continuous factor.
        discrete: which factors are discrete.

    Returns:
        details: mutual_information and bias (D, F) in nats, entropy (F,) in nats, gaps (F,), normalised.

    Raises:
        ValueError: see `labelled`.
    """
    data = labelled(codes, factors, metric="MIG", discrete=discrete, bins=bins, least_codes=2)
    binned = equal_width_bins(data.codes, bins)
    information, entropy = mutual_information(binned, data.classes), entropies(data.classes)
    ordered = np.sort(information, axis=0)
    gaps = (ordered[-1] - ordered[-2]) / entropy
    details = {
        "mutual_information": information,
        "bias": independence_bias(binned, data.classes),
        "entropy": entropy,
        "gaps": gaps,
    }
    return Score(float(gaps.mean()), details)
