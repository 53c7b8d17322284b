"""Gumbel-softmax: a code drawn from a distribution that the features give."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jensen.nn.quantiser.base import Quantised
from jensen.nn.quantiser.places import PlacewiseQuantiser, Projection

__all__ = ["GumbelQuantiser"]


class GumbelQuantiser(PlacewiseQuantiser):
    """A code drawn from q(k | x) = softmax(logits of the features), in evaluation too.

    The draw is exact: the largest of logits + Gumbel noise. Its gradient is that of the relaxation
    softmax((logits + noise) / temperature) (Jang et al. 2017; Maddison et al. 2017): biased, the less so the lower the
    temperature, which raises its variance. An embedding's own gradient is that of where it was drawn.

    Args:
        levels: K.
        dim: channels of features and embeddings.
        temperature: of the relaxation.

    Raises:
        ValueError: a number is not positive.
    """

    stochastic = True

    def __init__(self, levels: int = 512, dim: int = 64, temperature: float = 1.0) -> None:
        super().__init__(levels, dim)
        if not temperature > 0:
            raise ValueError(f"temperature should be positive, got {temperature}")
        self.temperature = temperature
        self.logits = Projection(dim, levels)
        self.embedding = nn.Parameter(torch.randn(levels, dim) / dim**0.5)

    def _quantise(self, features: Tensor) -> Quantised:
        log_q = self.logits(features).transpose(1, 2).log_softmax(-1)  # (batch, places, levels)
        waiting = torch.empty_like(log_q).exponential_().clamp_(min=torch.finfo(log_q.dtype).tiny)
        noisy = log_q - waiting.log_()
        codes = noisy.argmax(-1)[:, None]
        embedding = self._embed(codes)
        if torch.is_grad_enabled():
            relaxed = torch.softmax(noisy / self.temperature, -1) @ self.embedding.detach()
            relaxed = relaxed.transpose(1, 2)
            embedding = embedding + (relaxed - relaxed.detach())  # nothing, with the gradient of the relaxation
        return Quantised(embedding, codes, log_q[:, None])

    def _embed(self, codes: Tensor) -> Tensor:
        return nn.functional.embedding(codes[:, 0], self.embedding).transpose(1, 2)
