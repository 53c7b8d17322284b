"""Less memory for more computing, in networks with batch normalisation too."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["Checkpointed"]


class Checkpointed(nn.Module):
    """Base of modules that can compute what is inside them again for the gradient; `whole` is their forward pass.

    With `checkpointing` a training pass keeps only the inputs: the same gradients and running statistics of batch
    normalisation for less memory and another forward pass. (Ignored under torch.compile, which decides itself what it
    keeps.)
    """

    checkpointing: bool = False

    @abstractmethod
    def whole(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """The forward pass, without randomness of its own."""

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        keep = not (self.checkpointing and self.training and torch.is_grad_enabled())
        if keep or torch.compiler.is_compiling():
            return self.whole(x, embedding)
        out: Tensor = checkpoint(
            self.whole, x, embedding, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts
        )
        return out

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _StatisticsKept(self)


class _StatisticsKept(AbstractContextManager[None]):
    """The running statistics of batch normalisation, which know of this batch already, stay as they are."""

    def __init__(self, net: nn.Module) -> None:
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        self.norms = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]

    def __enter__(self) -> None:
        for norm, _, _ in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *exception: object) -> None:
        for norm, momentum, batches in self.norms:
            norm.momentum, norm.num_batches_tracked = momentum, batches
