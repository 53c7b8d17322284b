"""Free bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jensen.bound import Level, Output
from jensen.objectives.base import Context, check_weight
from jensen.objectives.codes import check_independent, flat
from jensen.objectives.elbo import Elbo, Price

__all__ = ["FreeBits"]


class FreeBits(Elbo):
    """E_q[log p(x | z)] - sum_d max(free_bits, KL_d) (Kingma et al. 2016, inverse autoregressive flow, eq. 15).

    KL_d is the mean over the batch (on all devices) of the KL of dimension d; the sum goes over the dimensions of all
    levels. Below its free nats a dimension feels no pull towards the prior, so that none is lost early in training.
    Logged is `unused_free_bits`, the nats by which the price exceeds the KL.

    Args:
        free_bits: nats that each dimension has for nothing.
        **elbo: arguments of `Elbo`.

    Raises:
        ValueError: free_bits is negative or not finite.
    """

    def __init__(self, free_bits: float = 0.5, **elbo: Any) -> None:
        super().__init__(**elbo)
        self.free_bits = check_weight("free_bits", free_bits)

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        check_independent(output.levels)
        levels = [self._per_dimension(output, level) for level in output.levels if level.posterior is not None]
        kl = context.mean(torch.cat(levels))
        value = kl.clamp(min=self.free_bits).sum()
        return Price(value, {"unused_free_bits": (value - kl.sum()).detach()})

    def _per_dimension(self, output: Output, level: Level) -> Tensor:
        """Mean over batch and samples of the KL of each dimension, (D,)."""
        return output.expectation(flat(level.kl(self.analytic))).mean(0)
