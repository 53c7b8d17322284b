"""Outputs of models that need no nets: free posteriors, learned priors, several levels, enumerated labels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal

from jensen.bound import Level, Output

Leaves = dict[str, Tensor]
Made = tuple[Output, Leaves]


def _leaf(*shape: int, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return (shift + scale * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def _posterior(leaves: Leaves, name: str, *shape: int) -> Normal:
    loc = leaves[f"{name}_loc"] = _leaf(*shape)
    log_scale = leaves[f"{name}_log_scale"] = _leaf(*shape, shift=-0.7, scale=0.3)
    return Normal(loc, log_scale.exp())


def _likelihood(leaves: Leaves, samples: int, batch: int) -> tuple[Tensor, Normal]:
    mean = leaves["decoded"] = _leaf(samples, batch, 5)
    return torch.randn(1, batch, 5, dtype=torch.float64), Normal(mean, torch.tensor(0.7, dtype=torch.float64))


def _standard() -> Normal:
    zero = torch.zeros((), dtype=torch.float64)
    return Normal(zero, zero + 1)


def simple(samples: int = 1, batch: int = 8, dims: tuple[int, ...] = (3,)) -> Made:
    """One level, posterior of batch shape (1, batch, *dims), prior N(0, 1)."""
    leaves: Leaves = {}
    q = _posterior(leaves, "q", 1, batch, *dims)
    z = q.rsample(torch.Size([samples]))[:, 0]
    target, p = _likelihood(leaves, samples, batch)
    return Output(target, p, (Level(z, q, _standard()),)), leaves


def learned(samples: int = 1, batch: int = 8) -> Made:
    """The same with a prior of its own for each datum."""
    output, leaves = simple(samples, batch)
    (level,) = output.levels
    prior = _posterior(leaves, "p", 1, batch, 3)
    return Output(output.target, output.likelihood, (Level(level.z, level.posterior, prior),)), leaves


def two_levels(samples: int = 1, batch: int = 8) -> Made:
    """A second level whose posterior and prior depend on the sample of the first."""
    output, leaves = simple(samples, batch)
    q, prior = (_posterior(leaves, name, samples, batch, 2) for name in ("lower", "prior"))
    lower = Level(q.rsample(), q, prior)
    return Output(output.target, output.likelihood, (*output.levels, lower)), leaves


def enumerated(samples: int = 4, batch: int = 8) -> Made:
    """Samples that enumerate the classes of a discrete level, with their probabilities as weights."""
    leaves: Leaves = {"logits": _leaf(1, batch, samples)}
    y = Categorical(logits=leaves["logits"])
    classes = torch.arange(samples).unsqueeze(1).expand(samples, batch)
    uniform = Categorical(logits=torch.zeros(samples, dtype=torch.float64))
    q = _posterior(leaves, "q", samples, batch, 3)
    target, p = _likelihood(leaves, samples, batch)
    levels = (Level(classes, y, uniform), Level(q.rsample(), q, _standard()))
    return Output(target, p, levels, log_weights=y.logits[0].mT), leaves


FORMS: dict[str, Callable[[], Made]] = {
    "simple": simple,
    "three samples": lambda: simple(3),
    "learned prior": learned,
    "learned prior, three samples": lambda: learned(3),
    "two levels": two_levels,
    "two levels, three samples": lambda: two_levels(3),
    "enumerated": enumerated,
}


@pytest.fixture
def forms() -> dict[str, Callable[[], Made]]:
    """What a model's output may look like, by name."""
    return FORMS


@pytest.fixture
def made() -> Callable[..., Made]:
    """Makes an output with one level, and the tensors that it depends on."""
    return simple
