"""One forward pass of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from jensen.autoencoders import EncoderDecoder
from jensen.objectives import Context, Objective

__all__ = ["TrainingStep"]


class TrainingStep(nn.Module):
    """Model and objective as one module: what autocast and several devices have to see as one forward pass."""

    def __init__(self, model: EncoderDecoder, objective: Objective, dataset_size: int) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.dataset_size = dataset_size
        self.gather: Callable[[Tensor], Tensor] | None = None
        self.names: list[str] = []

    def forward(self, x: Tensor, target: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and all that is to be logged of it as one vector whose entries `names` names."""
        context = Context(step, self.dataset_size)
        if self.gather is not None:
            context = Context(step, self.dataset_size, gather=self.gather)
        loss = self.objective(self.model(x, target, samples=self.objective.samples), context)
        self.names = ["loss", "score", *loss.terms]
        return loss.value, torch.stack([loss.value.detach(), loss.score.detach(), *loss.terms.values()]).detach()
