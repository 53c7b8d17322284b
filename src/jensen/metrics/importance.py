"""The importance-weighted likelihood, in memory that does not grow with the number of samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jensen.autoencoders.hierarchy import DeepVAE
from jensen.autoencoders.model import NeuralModel
from jensen.bound import Output, log_weights
from jensen.data import Batch

__all__ = [
    "CODES_AT_ONCE",
    "VALUES_AT_ONCE",
    "Weighted",
    "by_importance_sampling",
    "codes_a_draw",
    "codes_at_once",
    "draws_that_tell",
    "importance_weighted_log_likelihood",
    "numbers_a_datum",
    "output_chunks",
]

VALUES_AT_ONCE = 2**20  # values of x decoded together: a few MB, which stay in the processor's cache
CODES_AT_ONCE = 2**14  # codes decoded together, however small x is: a hidden layer of 400 takes 26 MB
HIDDEN_AT_ONCE = 2**26  # numbers inside the nets of a deep VAE: 256 MB
ON_CUDA = 8  # times as many on a GPU, which has more cores than memory to spare
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
    return by_importance_sampling(model, batch, draws_that_tell(model, samples)).bound


def draws_that_tell(model: NeuralModel, samples: int) -> int:
    """How many of `samples` draws tell anything: one, where the model draws nothing."""
    return samples if model.stochastic else 1


class Weighted(NamedTuple):
    """What importance samples say of each datum, (batch,) float64 each."""

    bound: Tensor
    """importance-weighted log-likelihood"""
    likelihood: Tensor
    """E_q[log p(x | z)]"""
    noise: Tensor | None
    """half the difference of the bounds of the first and the last half of the draws, a little less where their number
    is odd: its mean square over data is about the variance of `bound` under other draws. With few draws, of weights
    with heavy tails, the error had from it is up to a quarter too low. None of one draw"""


def by_importance_sampling(model: NeuralModel, batch: Batch, samples: int) -> Weighted:
    """The importance-weighted log-likelihood and, from the same samples, E_q[log p(x | z)] and the noise that is left.

    The noise goes into the error of a mean over data, and not what k samples are too low by on average.
    """
    first = torch.full((len(batch.x),), -torch.inf, dtype=torch.float64, device=batch.x.device)
    last, mean, half = first.clone(), torch.zeros_like(first), samples // 2
    done = dict.fromkeys(range(len(batch.x)), 0)
    for rows, draws, output in output_chunks(model, batch, samples):
        log_likelihood = output.log_likelihood()
        each = _log_sums(log_weights(output, log_likelihood).double(), output.log_weights, draws)
        cut = min(draws, max(0, half - done[rows.start]))
        done[rows.start] += draws
        first[rows] = torch.logaddexp(first[rows], each[:cut].logsumexp(0))
        last[rows] = torch.logaddexp(last[rows], each[cut:].logsumexp(0))
        mean[rows] += output.expectation(log_likelihood.double()) * (draws / samples)
    noise = None
    if half:
        # Means of h and of k - h draws differ with the variance k^2 / (h (k - h)) times that of the mean of all k.
        unequal = math.sqrt(4 * half * (samples - half)) / samples
        noise = unequal * (first - last + math.log((samples - half) / half)) / 2
    return Weighted(torch.logaddexp(first, last) - math.log(samples), mean, noise)


def _log_sums(weights: Tensor, shares: Tensor | None, draws: int) -> Tensor:
    """log w of each draw, (draws, batch), summed over the values of a latent that is enumerated."""
    if shares is None:
        return weights
    # The shares sum to one over all draws, so that a draw's own are `draws` times as large.
    each = (weights + shares + math.log(draws)).masked_fill(shares.isneginf(), -torch.inf)
    return each.view(draws, -1, each.shape[1]).logsumexp(1)


def codes_a_draw(model: NeuralModel) -> int:
    """How many codes one draw of the model decodes: the values of a discrete latent that it enumerates, or 1."""
    enumerated: int = getattr(model, "enumerated", 1)
    return enumerated


def numbers_a_datum(model: NeuralModel) -> int:
    """What one draw for one datum takes, in values of x; more than it has where they or its codes are one of many."""
    values = math.prod(model.target_shape) * max(1, model.likelihood.channels // PARAMETERS)
    return max(values, model.latent * getattr(model, "code_levels", 1) // PARAMETERS)


def codes_at_once(model: NeuralModel, batch: Batch) -> int:
    """How many codes are decoded together, so that memory is bounded by some hundred MB (some GB on a GPU)."""
    codes = min(CODES_AT_ONCE, VALUES_AT_ONCE // numbers_a_datum(model))
    if isinstance(model, DeepVAE):
        condition = None if batch.condition is None else batch.condition[:1]
        codes = min(codes, HIDDEN_AT_ONCE // _hidden_numbers(model, batch.x[:1], condition))
    return max(1, codes * (ON_CUDA if batch.x.is_cuda else 1))


@torch.no_grad()
def _hidden_numbers(model: DeepVAE, x: Tensor, condition: Tensor | None) -> int:
    """Numbers that are kept for one draw of one datum, about: features and levels, and the largest layer some times.

    The datum goes through the model in evaluation mode, since batch normalisation neither takes one datum nor should
    count it; the mode of each module is then what it was.
    """
    features, largest = 0, 0

    def see(module: nn.Module, _: object, out: object) -> None:
        nonlocal features, largest
        if isinstance(out, Tensor):
            largest = max(largest, out.numel())
            features += out.numel() if module in steps else 0

    steps = set(model.way_up.steps)
    hooks = [module.register_forward_hook(see) for module in model.modules()]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        model.decoder(model.encode(x, condition), condition)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return features + 8 * model.latent + 3 * largest


def output_chunks(model: NeuralModel, batch: Batch, samples: int) -> Iterator[tuple[slice, int, Output]]:
    """The model's output for some rows of a batch and some of `samples` draws at a time: (rows, draws, output).

    Together they are all rows and all draws; memory is bounded whatever their numbers.
    """
    codes = codes_at_once(model, batch)
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
