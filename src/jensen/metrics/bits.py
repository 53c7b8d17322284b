"""Nats of an example as bits of a stored value."""

from __future__ import annotations

import math

__all__ = ["bits_per_dim"]


def bits_per_dim(
    log_likelihood: float, dims: float, *, likelihood_levels: int | None, data_levels: int | None, transform: str
) -> float | None:
    """Bits per dimension of the stored data, or None where the log-likelihood is not that of stored values.

    Args:
        log_likelihood: nats per example.
        dims: values an example that are scored (their mean, where it varies).
        likelihood_levels: number of values of the likelihood; None for a density.
        data_levels: number of values that the target can take; None: real numbers.
        transform: how stored values become those that the model sees.
    """
    if likelihood_levels is None:
        if transform != "dequantise" or data_levels is None:
            return None
        # p(x) of a grey level is the density on [0, 1] averaged over a bin of width 1 / levels.
        log_likelihood -= dims * math.log(data_levels)
    elif likelihood_levels != data_levels or transform == "dequantise":
        return None
    return -log_likelihood / (dims * math.log(2.0))
