"""Categorical distributions; a draw is an integer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families.base import ExponentialFamily
from jensen.families.checks import as_tensors

__all__ = [
    "Categorical",
    "CategoricalMean",
    "CategoricalNatural",
    "CategoricalStandard",
    "extended_difference",
    "extended_product",
]


class CategoricalNatural(NamedTuple):
    """eta = log probabilities up to a constant, shape (*batch, K); -inf for an impossible category."""

    logits: Tensor


class CategoricalMean(NamedTuple):
    """E[T], T(z) = one-hot z: the probabilities, shape (*batch, K)."""

    probs: Tensor


class CategoricalStandard(NamedTuple):
    """Probabilities, shape (*batch, K)."""

    probs: Tensor


class Categorical(ExponentialFamily[CategoricalNatural, CategoricalMean, CategoricalStandard]):
    """One of the categories 0, ..., K - 1.

    T(z) = one-hot z, eta = logits (over-complete: a constant may be added to all), A = logsumexp(eta), h = 1. Minimal
    coordinates are the first K - 1 logits less the last one, and the first K - 1 probabilities.
    """

    Natural = CategoricalNatural
    Mean = CategoricalMean
    Standard = CategoricalStandard
    event_dims = (1,)
    constraints: ClassVar = {"probs": constraints.simplex}
    has_rsample = False

    @classmethod
    def from_standard(cls, probs: Tensor) -> Self:
        """From probabilities of shape (*batch, K), zeros allowed; raises ValueError."""
        return cls._from_standard(probs)

    @classmethod
    def from_natural(cls, *fields: Any) -> Self:
        """From logits of shape (*batch, K), not all -inf; raises ValueError."""
        (logits,) = as_tensors(fields)
        finite = torch.where(logits == -math.inf, 0.0, logits)
        super().from_natural(finite)
        if bool((logits == -math.inf).all(-1).any()):
            raise ValueError(f"{cls.__name__}: logits of -inf alone leave no category; one must be finite")
        return cls(CategoricalNatural(logits))

    @classmethod
    def from_mean_parameters(cls, *fields: Any) -> Self:
        """In closed form; raises ValueError where they are not probabilities."""
        return cls._from_standard(*fields)

    @classmethod
    def _to_natural(cls, standard: CategoricalStandard) -> CategoricalNatural:
        return CategoricalNatural(standard.probs.log())

    @property
    def standard_parameters(self) -> CategoricalStandard:
        """Probabilities."""
        return CategoricalStandard(self.natural_parameters.logits.softmax(-1))

    @property
    def event_shape(self) -> torch.Size:
        """(): a draw is an integer."""
        return torch.Size()

    def log_partition(self) -> Tensor:
        """logsumexp(logits)."""
        return self.natural_parameters.logits.logsumexp(-1)

    def _mean_parameters(self) -> CategoricalMean:
        return CategoricalMean(self.natural_parameters.logits.softmax(-1))

    def sufficient_statistics(self, z: Tensor) -> CategoricalMean:
        """One-hot z."""
        logits = self.natural_parameters.logits
        one_hot: Tensor = torch.nn.functional.one_hot(z.long(), logits.shape[-1])
        return CategoricalMean(one_hot.to(logits.dtype))

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats, shape (*anything, *batch_shape), without the one-hot vectors."""
        logs = self.natural_parameters.logits.log_softmax(-1)
        shape = torch.broadcast_shapes(z.shape, self.batch_shape)
        index = z.long().expand(shape).unsqueeze(-1)
        return logs.expand(*shape, logs.shape[-1]).gather(-1, index).squeeze(-1)

    @classmethod
    def inner(cls, natural: Sequence[Tensor], mean: Sequence[Tensor]) -> Tensor:
        """<eta, m>, an impossible category (-inf with probability 0) counting as nothing."""
        return extended_product(natural[0], mean[0]).sum(-1)

    def _difference(self, other: Self) -> list[Tensor]:
        return [extended_difference(self.natural_parameters.logits, other.natural_parameters.logits)]

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Integers of shape (*shape, *batch_shape)."""
        probs = self.standard_parameters.probs.detach()
        rows, count = probs.reshape(math.prod(self.batch_shape), probs.shape[-1]), math.prod(shape)
        draws = torch.multinomial(rows, max(count, 1), replacement=True, generator=generator)[:, :count]
        return draws.T.reshape((*shape, *self.batch_shape))

    def to_torch(self) -> torch.distributions.Categorical:
        """`torch.distributions.Categorical`."""
        return torch.distributions.Categorical(logits=self.natural_parameters.logits)

    @classmethod
    def to_minimal(cls, natural: Sequence[Tensor]) -> Tensor:
        """The first K - 1 logits less the last one, shape (*batch, K - 1)."""
        return natural[0][..., :-1] - natural[0][..., -1:]

    @classmethod
    def minimal_mean(cls, mean: Sequence[Tensor]) -> Tensor:
        """The first K - 1 probabilities."""
        return mean[0][..., :-1]

    @classmethod
    def from_minimal(cls, vector: Tensor) -> CategoricalNatural:
        """The inverse of `to_minimal`: the last logit is 0."""
        return CategoricalNatural(torch.nn.functional.pad(vector, (0, 1)))


def extended_product(eta: Tensor, mean: Tensor) -> Tensor:
    """eta x mean, where an infinite eta times 0 is 0 (and gives no gradient to that mean)."""
    return torch.where((mean == 0) & eta.isinf(), 0.0, eta) * mean


def extended_difference(a: Tensor, b: Tensor) -> Tensor:
    """a - b, where two equal infinities differ by 0."""
    same = a.isinf() & (a == b)
    return torch.where(same, 0.0, a) - torch.where(same, 0.0, b)
