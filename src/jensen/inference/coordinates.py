"""All continuous latents of a model as one vector of real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from jensen.inference.model import Model

__all__ = ["Coordinates"]


class Coordinates:
    """The model's continuous latents, one after another, each by its real coordinates.

    Attributes:
        size: D, how many numbers.
        slices: where each latent is.
        names: a label for each coordinate: `tau`, `theta[3]`; those of latents whose transform changes their shape (a
            simplex) are counted along the coordinates.
    """

    def __init__(self, model: Model) -> None:
        self._variables = {n: v for n, v in model.latents.items() if not v.discrete}
        self._shapes = {n: v.unconstrained_shape(model.plates) for n, v in self._variables.items()}
        self.slices: dict[str, slice] = {}
        self.size = 0
        for name, shape in self._shapes.items():
            self.slices[name] = slice(self.size, self.size + shape.numel())
            self.size += shape.numel()

    @property
    def names(self) -> list[str]:
        """One label for each coordinate."""
        return [label for name, shape in self._shapes.items() for label in labels(name, shape)]

    def constrain(self, vector: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Values on the supports, (samples, *shape) each, and log |dz / du|, (samples,), at u of (samples, D)."""
        values: dict[str, Tensor] = {}
        log_jacobian = vector.new_zeros(len(vector))
        for name, variable in self._variables.items():
            u = vector[:, self.slices[name]].reshape(len(vector), *self._shapes[name])
            transform = variable.transform
            values[name] = transform(u)
            log_jacobian = log_jacobian + transform.log_abs_det_jacobian(u, values[name]).reshape(len(u), -1).sum(1)
        return values, log_jacobian

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Real coordinates by latent, (samples, *unconstrained shape) each, of (samples, D)."""
        return {n: vector[:, self.slices[n]].reshape(len(vector), *shape) for n, shape in self._shapes.items()}

    def unconstrain(self, values: Mapping[str, Tensor]) -> Tensor:
        """Real coordinates, (samples, D), of values on the supports, (samples, *shape) each."""
        parts = [v.transform.inv(values[n]).reshape(len(values[n]), -1) for n, v in self._variables.items()]
        return torch.cat(parts, 1)


def labels(name: str, shape: torch.Size) -> list[str]:
    """`name` itself for a number, `name[i,j]` for the entries of an array."""
    if not shape:
        return [name]
    return [f"{name}[{','.join(map(str, place))}]" for place in product(*(range(n) for n in shape))]
