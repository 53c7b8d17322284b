"""The codes of a batch, as objectives look at them that go beyond the KL: continuous ones, over all the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jensen.bound import Level, Output
from jensen.chained import Chained
from jensen.likelihoods import at_least_float32

__all__ = ["apart_from_labels", "check_independent", "continuous_levels", "flat", "full_precision", "weights_of"]


def apart_from_labels(output: Output) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """The levels of the code, and those of labels that samples enumerate beside them; one alone is the code."""
    if output.log_weights is None or len(output.levels) < 2:
        return output.levels, ()
    others = tuple(level for level in output.levels if not level.discrete)
    return (others, tuple(level for level in output.levels if level.discrete)) if others else (output.levels, ())


def check_independent(levels: Sequence[Level]) -> None:
    """Raise `ValueError` where latents depend on each other, so that a term of the KL is not that of one latent."""
    if any(isinstance(each, Chained) for level in levels for each in (level.posterior, level.prior)):
        raise ValueError(
            "this objective looks at one latent at a time, but those of a mixture as prior or a full covariance depend "
            "on each other: use elbo, beta, capacity, factor or iwae"
        )


def continuous_levels(output: Output) -> list[Level]:
    """The levels whose z is drawn from a posterior of real numbers; what a discrete latent is worth, its KL says.

    Raises:
        ValueError: there is none.
    """
    levels = [level for level in output.levels if level.posterior is not None and not level.discrete]
    if not levels:
        raise ValueError("this objective looks at continuous codes, but the model has none: use objective elbo or beta")
    return levels


def weights_of(output: Output, values: Tensor) -> Tensor:
    """What each of `values` (samples or 1, batch, D) counts, (samples or 1, batch): one a batch element in all."""
    if output.log_weights is None:
        return values.new_full(values.shape[:2], 1 / values.shape[0])
    weights = output.log_weights.exp()
    return weights if len(values) == len(weights) else weights.sum(0, keepdim=True)


def flat(values: Tensor) -> Tensor:
    """(samples, batch, *dims) as (samples, batch, D), in float32 or wider; D is 1 where there are no dims."""
    values = at_least_float32(values)
    return values.flatten(2) if values.ndim > 2 else values.unsqueeze(-1)


def full_precision(values: Tensor) -> torch.autocast:
    """Within this context, products of matrices are not rounded to the precision of autocast."""
    return torch.autocast(values.device.type, enabled=False)
