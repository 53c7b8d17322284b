"""The same seed, the same training, to the last bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jensen.errors import ConfigError
from jensen.training.trial import steps_on, undone

if TYPE_CHECKING:
    from jensen.training.loop import Trainer

__all__ = ["check_repeats", "only_deterministic"]

STEPS = 3
"""that are taken twice before the training"""
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def only_deterministic(wanted: bool) -> Iterator[None]:
    """Where it is wanted, have torch use only operations that give the same every time, as long as this lasts.

    Raises:
        ConfigError: an operation has no such form.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    workspace = os.environ.get(WORKSPACE)
    os.environ.setdefault(WORKSPACE, ":4096:8")  # what cuBLAS asks for
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        told = " ".join(str(error).split()).split(". ")[0]
        raise ConfigError(f"train.deterministic: {told}: leave it away, or use another net") from None
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        if workspace is None:
            os.environ.pop(WORKSPACE, None)


def check_repeats(trainer: Trainer) -> None:
    """Take the next steps twice from the same state, and undo them.

    Raises:
        ConfigError: what they log, a gradient, or what they leave of the weights is not the same to the last bit.
    """
    first = _taken(trainer)
    for number, (one, other) in enumerate(zip(first, _taken(trainer), strict=True)):
        for name, value in one.items():
            if not _same(value, other[name]):
                raise ConfigError(
                    f"train.deterministic: step {trainer.position.step + number + 1}, taken twice from the same state, "
                    f"gave two values of {name}: model, objective or data draw noise that the seed does not reach, or "
                    "keep something from step to step that is no buffer"
                )


def _taken(trainer: Trainer) -> list[dict[str, Tensor]]:
    """What each of the next steps logs, its gradients and the weights after it, in the order of computation."""
    found = []
    with undone(trainer):
        for logged in steps_on(trainer, trainer.batches(), STEPS):
            parts = dict(zip([f"term {name}" for name in trainer.bare.names], logged.unbind(), strict=True))
            for name, weight in reversed(list(trainer.bare.named_parameters())):
                if weight.grad is not None:
                    parts[f"the gradient of {name}"] = weight.grad
            parts |= {f"weight {name}": value for name, value in trainer.bare.state_dict().items()}
            found.append({name: value.detach().cpu().clone() for name, value in parts.items()})
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())
