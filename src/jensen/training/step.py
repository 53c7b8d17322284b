"""One forward pass of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from jensen.autoencoders.model import NeuralModel
from jensen.data import Batch
from jensen.objectives import Context, Objective

__all__ = ["TrainingStep"]


class TrainingStep(nn.Module):
    """Model and objective as one module: what autocast and several devices have to see as one forward pass."""

    def __init__(self, model: NeuralModel, objective: Objective, dataset_size: int) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.dataset_size = dataset_size
        self.gather: Callable[[Tensor], Tensor] | None = None
        self.names: list[str] = []

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """What to differentiate (the loss and the objective's own), and what is logged, a vector named by `names`.

        Logged are the loss, the score, the loss's terms and what the model reports.
        """
        context = Context(step, self.dataset_size)
        if self.gather is not None:
            context = Context(step, self.dataset_size, gather=self.gather)
        output = self.model(batch.x, batch.target, self.objective.samples, condition=batch.condition, mask=batch.mask)
        loss = self.objective(output, context)
        terms = {**loss.terms, **self.model.report(output, batch.label, batch.condition)}
        self.names = ["loss", "score", *terms]
        value = loss.value if loss.auxiliary is None else loss.value + loss.auxiliary
        return value, torch.stack([loss.value.detach(), loss.score.detach(), *terms.values()]).detach()
