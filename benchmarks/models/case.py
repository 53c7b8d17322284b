"""A posterior to be approximated: a model in this project's API, its data, and what a reference says about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from jensen.inference.model import Model

__all__ = ["Case", "Draws", "Reference", "by_label", "by_name", "same", "with_rows"]

Draws: TypeAlias = Mapping[str, Tensor]
"""values by name, (draws, *shape) each"""


@dataclass(frozen=True)
class Reference:
    """What long runs of a sampler say, one number for each reported parameter.

    Attributes:
        names: labels such as `tau` and `theta[3]`, counted from 1.
        means, sds: of the posterior.
        mcse: standard error of the means.
    """

    names: tuple[str, ...]
    means: Tensor
    sds: Tensor
    mcse: Tensor


def same(draws: Draws) -> Draws:
    """The reported parameters are the latents."""
    return draws


@dataclass(frozen=True)
class Case:
    """A model with data.

    Attributes:
        model: log joint in this project's API.
        data: what the log joint reads; tensors of float64 and plain numbers.
        twin: which of the peers' models (`benchmarks.models.twins_*`) is the same posterior, with latents of the same
            names on the same supports.
        to_reported: latents, (draws, *shape) each, to what the reference reports.
        to_latents: the way back.
    """

    model: Model
    data: Mapping[str, Any]
    twin: str
    to_reported: Callable[[Draws], Draws] = same
    to_latents: Callable[[Draws], Draws] = same

    def reported(self, draws: Draws) -> dict[str, Tensor]:
        """Reported parameters by label, (draws,) each."""
        return by_label(self.to_reported(draws))

    def arrays(self) -> dict[str, Any]:
        """The data for peers: NumPy arrays and plain numbers."""
        return {name: v.numpy() if isinstance(v, Tensor) else v for name, v in self.data.items()}


def with_rows(latents: Any, log_joint: Any, rows: int) -> Model:
    """A model whose likelihood is one term for each of `rows` rows."""
    return Model(latents, log_joint, plates={"rows": rows})


def by_label(draws: Draws) -> dict[str, Tensor]:
    """Numbers by label, counted from 1: `beta` of shape (draws, 2) becomes `beta[1]` and `beta[2]`, (draws,) each."""
    found: dict[str, Tensor] = {}
    for name, values in draws.items():
        if values.dim() == 1:
            found[name] = values
        else:
            columns = values.flatten(1).unbind(1)
            for place, column in zip(product(*(range(1, n + 1) for n in values.shape[1:])), columns, strict=True):
                found[f"{name}[{','.join(map(str, place))}]"] = column
    return found


def by_name(labelled: Mapping[str, Iterable[float]]) -> dict[str, Tensor]:
    """The way back from `by_label`, for scalars and vectors."""
    parts: dict[str, list[Tensor]] = {}
    scalars: dict[str, Tensor] = {}
    for label, values in labelled.items():
        column = torch.from_numpy(np.asarray(values, dtype=np.float64))
        if label.endswith("]"):
            parts.setdefault(label[: label.index("[")], []).append(column)
        else:
            scalars[label] = column
    return {**{name: torch.stack(columns, 1) for name, columns in parts.items()}, **scalars}
