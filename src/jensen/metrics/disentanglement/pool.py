"""A data set's examples as codes and factors, for the metrics of disentanglement."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Categorical, OneHotCategorical

from jensen.autoencoders.hierarchy import DeepVAE
from jensen.autoencoders.model import NeuralModel
from jensen.bound import Level, weighted_mean
from jensen.data import Batch
from jensen.metrics.heldout import measuring

__all__ = ["Pool", "encode_pool"]

AT_ONCE = 500  # examples encoded together


class LabelledSplit(Protocol):
    """Data with known factors: what `encode_pool` needs of `jensen.data.Split`."""

    def __len__(self) -> int: ...
    @property
    def factors(self) -> Tensor | None: ...
    def batch(self, index: Tensor) -> Batch: ...


class Pool(NamedTuple):
    """N encoded examples, on the CPU."""

    codes: Tensor
    """posterior means of all levels side by side, (N, D) float32"""
    factors: Tensor
    """what made each example, (N, F) int64 or float32"""
    kl_per_dimension: Tensor | None
    """mean KL(q || p) of each code in nats, (D,) float64; None where codes have no posterior"""


@torch.no_grad()
def encode_pool(model: NeuralModel, split: LabelledSplit, n: int = 10_000, seed: int = 0) -> Pool:
    """Codes and factors of n examples drawn without replacement, or of all if there are fewer.

    A code is the posterior mean (of several levels given the means of those above; where a discrete latent is
    enumerated over its values too); a discrete latent is one code, the number of its most probable value. Conditions go
    to the model with their examples. The same seed gives the same; torch's global generator is left as it was.

    Args:
        model: any with a code that is not integers alone, on any device.
        split: data with factors.
        n: examples wanted.
        seed: of the choice, and of noise in the data.

    Raises:
        ValueError: the data have no factors or no examples, n is not positive, or the model has no code, or one of
            integers alone.
    """
    if split.factors is None:
        raise ValueError(
            "these data have no known factors, so disentanglement cannot be measured; dsprites and circles have them"
        )
    if n < 1 or len(split) == 0:
        raise ValueError(f"encode_pool needs n >= 1 and some data, got n {n} and {len(split)} examples")
    places = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:n]
    with measuring(model, seed) as device:
        parts = [_encoded(model, split.batch(some), device) for some in places.split(AT_ONCE)]
    kls = [kl for _, _, kl in parts if kl is not None]
    kl = torch.cat(kls).double().mean(0) if len(kls) == len(parts) else None
    return Pool(torch.cat([z for z, _, _ in parts]), torch.cat([y for _, y, _ in parts]), kl)


def _encoded(model: NeuralModel, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    def moved(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.to(device)

    assert batch.factors is not None
    levels, log_weights = model.levels(batch.x.to(device), moved(batch.condition))
    if not levels:
        raise ValueError("disentanglement is about a code, but this model has none: it is a density of x itself")
    if not any(level.z.is_floating_point() for level in levels):
        raise ValueError(
            "disentanglement compares factors with latents that are numbers, but the codes of this model are integers "
            "that name embeddings: their size means nothing"
        )
    if isinstance(model, DeepVAE):  # a walk of means: draws of the levels above would be noise
        codes = model.encode(batch.x.to(device), moved(batch.condition)).float().cpu()
    else:
        codes = torch.cat([_code(level, log_weights) for level in levels], 1).float().cpu()
    kl = None
    if all(level.posterior is not None and level.prior is not None for level in levels):
        nats = [_expected(log_weights, level.kl()).reshape(len(codes), -1) for level in levels]
        kl = torch.cat(nats, 1).cpu()
    return codes, batch.factors.cpu(), kl


def _code(level: Level, log_weights: Tensor | None) -> Tensor:
    """(batch, dims of the level)."""
    if level.posterior is None:
        values = level.z
    elif isinstance(level.posterior, Categorical | OneHotCategorical):
        values = level.posterior.probs.argmax(-1, keepdim=True)
        return values[0].flatten(1)  # the same for every sample of what comes below it
    else:
        values = level.posterior.mean
    return _expected(log_weights, values).flatten(1)


def _expected(log_weights: Tensor | None, values: Tensor) -> Tensor:
    """E_q of (samples or 1, batch, ...): what does not vary with samples is its own mean."""
    return values[0] if len(values) == 1 else weighted_mean(values, log_weights)
