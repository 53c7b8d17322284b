"""The importance-weighted likelihood, in memory that does not grow with the number of samples."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from jensen.autoencoders.model import NeuralModel
from jensen.bound import Output, importance_weighted_bound, log_weights
from jensen.data import Batch

__all__ = [
    "CODES_AT_ONCE",
    "VALUES_AT_ONCE",
    "by_importance_sampling",
    "codes_a_draw",
    "draws_that_tell",
    "importance_weighted_log_likelihood",
    "numbers_a_datum",
    "output_chunks",
]

VALUES_AT_ONCE = 2**20  # values of x decoded together: a few MB, which stay in the processor's cache
CODES_AT_ONCE = 2**14  # codes decoded together, however small x is: a hidden layer of 400 takes 26 MB
PARAMETERS = 32  # of a value or code, that the memory for it has room for: a mixture has some, a categorical its K


@torch.no_grad()
def importance_weighted_log_likelihood(
    model: NeuralModel,
    x: Tensor,
    target: Tensor | None = None,
    samples: int = 5000,
    *,
    condition: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """log 1/k sum_k p(x, z_k) / q(z_k | x) of each datum in nats, (batch,), in float64.

    A discrete latent that the model enumerates is summed over exactly. With a condition it is log p(x | c); of a
    semi-supervised model log p(x, y). A model that draws nothing needs, and gets, one sample: without a code it is
    log p(x) itself, with a code that is a function of x it is the ELBO.

    Args:
        model: a model with a posterior at every level, or without levels.
        x: inputs, (batch, *shape).
        target: what the likelihood is about; None: x.
        samples: k.
        condition: what a conditional model is told, (batch, *condition_shape).
        mask: 1 where the target is scored and 0 where not, (1 or batch, *target_shape); None: everywhere.

    Raises:
        ValueError: a level of the model has no posterior (a plain auto-encoder).
    """
    batch = Batch(x, x if target is None else target, None, torch.arange(len(x)), condition=condition, mask=mask)
    return by_importance_sampling(model, batch, draws_that_tell(model, samples))[0]


def draws_that_tell(model: NeuralModel, samples: int) -> int:
    """How many of `samples` draws tell anything: one, where the model draws nothing."""
    return samples if model.stochastic else 1


def by_importance_sampling(model: NeuralModel, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
    """The importance-weighted log-likelihood and, from the same samples, E_q[log p(x | z)]: (batch,) each, float64."""
    total = torch.full((len(batch.x),), -torch.inf, dtype=torch.float64, device=batch.x.device)
    mean = torch.zeros_like(total)
    for rows, draws, output in output_chunks(model, batch, samples):
        log_likelihood = output.log_likelihood()
        weights = log_weights(output, log_likelihood).double()
        bound = importance_weighted_bound(weights, output.log_weights) + math.log(draws / samples)
        total[rows] = torch.logaddexp(total[rows], bound)
        mean[rows] += output.expectation(log_likelihood.double()) * (draws / samples)
    return total, mean


def codes_a_draw(model: NeuralModel) -> int:
    """How many codes one draw of the model decodes: the values of a discrete latent that it enumerates, or 1."""
    enumerated: int = getattr(model, "enumerated", 1)
    return enumerated


def numbers_a_datum(model: NeuralModel) -> int:
    """What one draw for one datum takes, in values of x; more than it has where they or its codes are one of many."""
    values = math.prod(model.target_shape) * max(1, model.likelihood.channels // PARAMETERS)
    return max(values, model.latent * getattr(model, "code_levels", 1) // PARAMETERS)


def output_chunks(model: NeuralModel, batch: Batch, samples: int) -> Iterator[tuple[slice, int, Output]]:
    """The model's output for some rows of a batch and some of `samples` draws at a time: (rows, draws, output).

    Together they are all rows and all draws; memory is bounded whatever their numbers.
    """
    codes = max(1, min(CODES_AT_ONCE, VALUES_AT_ONCE // numbers_a_datum(model)))
    enumerated = codes_a_draw(model)
    # Few data and many samples at a time: the encoder runs once for each datum and chunk.
    size = max(1, codes // (50 * enumerated if model.stochastic else 1))
    for first in range(0, len(batch.x), size):
        rows = slice(first, min(first + size, len(batch.x)))
        x, target = batch.x[rows], batch.target[rows]
        condition = None if batch.condition is None else batch.condition[rows]
        mask = batch.mask
        if mask is not None and len(mask) > 1:
            mask = mask[rows]
        chunk = max(1, codes // (len(x) * enumerated))
        for start in range(0, samples, chunk):
            draws = min(chunk, samples - start)
            yield rows, draws, model(x, target, samples=draws, condition=condition, mask=mask)
