"""One forward pass of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from jensen.autoencoders.model import NeuralModel
from jensen.bound import Output
from jensen.config import TrainConfig
from jensen.data import Batch
from jensen.errors import ConfigError
from jensen.objectives import Context, Objective

__all__ = ["TrainingStep", "arrange", "recompute_activations"]


class TrainingStep(nn.Module):
    """Model and objective as one module: what autocast and several devices have to see as one forward pass."""

    def __init__(self, model: NeuralModel, objective: Objective, dataset_size: int) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.dataset_size = dataset_size
        self.gather: Callable[[Tensor], Tensor] | None = None
        self.names: list[str] = []
        self.output: Output | None = None  # of the last batch, until the loop has looked at it

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """What to differentiate (the loss and the objective's own), and what is logged, a vector named by `names`.

        Logged are the loss, the score, the loss's terms and what the model reports.
        """
        context = Context(step, self.dataset_size)
        if self.gather is not None:
            context = Context(step, self.dataset_size, gather=self.gather)
        output = self.model(batch.x, batch.target, self.objective.samples, condition=batch.condition, mask=batch.mask)
        self.output = output
        loss = self.objective(output, context)
        with torch.no_grad():  # what is only logged needs no graph
            reported = self.model.report(output, batch.label, batch.condition)
        terms = {**loss.terms, **reported}
        self.names = ["loss", "score", *terms]
        value = loss.value if loss.auxiliary is None else loss.value + loss.auxiliary
        return value, torch.stack([loss.value.detach(), loss.score.detach(), *terms.values()]).detach()


def arrange(step: TrainingStep, config: TrainConfig) -> None:
    """Memory layout, activations that are computed anew and compiling, as the configuration asks.

    Raises:
        ConfigError: no part of the model can compute its activations anew.
    """
    if config.channels_last:
        step.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.checkpointing:
        recompute_activations(step.model)
    if config.compile:
        step.model.compile_nets()


def recompute_activations(model: nn.Module) -> None:
    """Make every part of a model that can do so compute its activations anew in the backward pass, to save memory.

    Raises:
        ConfigError: no part of it can (has an attribute `checkpointing`).
    """
    able = [module for module in model.modules() if hasattr(module, "checkpointing")]
    if not able:
        raise ConfigError("checkpointing is for nets made of cells (net cells, as of model nvae); this model has none")
    for module in able:
        module.checkpointing = True  # type: ignore[assignment]
