"""Several latents as one vector of real coordinates: of all that they are, or of each row of their plate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from jensen.gradients.posterior import Draw
from jensen.inference.model import Batch, Model
from jensen.inference.supports import Variable

__all__ = ["Layout", "continuous", "cut_plate", "lower_triangular", "standard_noise"]


class Layout:
    """Continuous latents, one after another, as vectors of D real coordinates.

    Args:
        variables: the latents.
        sizes: of the plates.
        rowwise: one vector for each row of the plate that all the latents are on; else one vector for everything.

    Attributes:
        names: the latents.
        plate: that the vectors run over; None: there is one vector.
        rows: shape of the vectors' batch at full data, (N,) or ().
        size: D.
        across: latents with a row for each of the data's, all of which depend on each other.
        cut: the plate, if minibatches are cut along it.

    Raises:
        ValueError: no latents, rowwise although they are not all on the same plate.
        TypeError: a latent is discrete.
    """

    def __init__(self, variables: Mapping[str, Variable], sizes: Mapping[str, int], rowwise: bool = False) -> None:
        if not variables:
            raise ValueError("a joint factor needs at least one latent")
        discrete = [n for n, v in variables.items() if v.discrete]
        if discrete:
            raise TypeError(f"latents {discrete} are discrete: they have no real coordinates to be joined by")
        plates = {v.plate for v in variables.values()}
        if rowwise and (len(plates) > 1 or None in plates):
            raise ValueError(
                f"latents {list(variables)} are not all on one plate, so there are no rows to join them by"
            )
        self.variables = dict(variables)
        self.names = tuple(variables)
        self.plate = plates.pop() if rowwise else None
        self.rows = torch.Size(() if self.plate is None else (sizes[self.plate],))
        full = {n: v.unconstrained_shape(sizes) for n, v in variables.items()}
        self._shapes = {n: shape[len(self.rows) :] for n, shape in full.items()}
        self._numbers = [shape.numel() for shape in self._shapes.values()]
        self.size = sum(self._numbers)
        rows = next(iter(sizes), None)
        self.across = [n for n, v in variables.items() if v.plate is not None and v.plate == rows and not rowwise]
        self._all = 0 if rows is None else sizes[rows]
        self.cut = cut_plate(self.plate, sizes)

    def constrain(self, point: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Values by name, (*lead, *shape), and log |d values / d point| in nats, (*lead,), of points (*lead, D)."""
        lead = point.shape[:-1]
        values: dict[str, Tensor] = {}
        log_jacobian = point.new_zeros(lead)
        for (name, variable), part in zip(self.variables.items(), point.split(self._numbers, -1), strict=True):
            u = part.reshape((*lead, *self._shapes[name]))
            transform = variable.transform
            value = transform(u)
            each = transform.log_abs_det_jacobian(u, value)
            values[name] = value
            log_jacobian = log_jacobian + (each.flatten(len(lead)).sum(-1) if each.dim() > len(lead) else each)
        return values, log_jacobian

    def draw(self, point: Tensor) -> Draw:
        """What an estimator needs of points (samples, *rows, D)."""
        values, log_jacobian = self.constrain(point)
        return Draw(values, point, log_jacobian)

    def need_all_rows(self, batch: Any) -> None:
        """ValueError for a minibatch, where rows depend on each other."""
        if self.across and isinstance(batch, Batch) and batch.index is not None and len(batch.index) != self._all:
            raise ValueError(
                f"q joins the rows of {', '.join(self.across)}, so it cannot be taken on {len(batch.index)} of their "
                f"{self._all} rows: use all the data, or mean_field or blocks, where rows are independent"
            )

    def write(self, vector: Tensor, entries: Mapping[str, Tensor]) -> None:
        """Put entries of some latents' coordinates, (*rows, *unconstrained shape) or broadcast, into (*rows, D)."""
        for name, part in zip(self.names, vector.split(self._numbers, -1), strict=True):
            if name in entries:
                entry = torch.as_tensor(entries[name], dtype=vector.dtype, device=vector.device)
                part.copy_(entry.expand((*self.rows, *self._shapes[name])).reshape(part.shape))

    def place(
        self,
        loc: Tensor,
        log_scale: Tensor,
        centre: Mapping[str, Tensor],
        scale: float | Mapping[str, Tensor],
    ) -> list[str]:
        """Set both, (*rows, D), for the latents in `centre` (see `Factor.place`), which are returned."""
        placed = [name for name in self.names if name in centre]
        scales = scale if isinstance(scale, Mapping) else {name: torch.as_tensor(scale) for name in placed}
        self.write(loc, {name: centre[name] for name in placed})
        self.write(log_scale, {name: torch.as_tensor(scales[name]).log() for name in placed})
        return placed


def cut_plate(plate: str | None, sizes: Mapping[str, int]) -> str | None:
    """The plate, if minibatches are cut along it, that is along the first; factors on others keep all their rows."""
    return plate if plate == next(iter(sizes), None) else None


def continuous(model: Model) -> dict[str, Variable]:
    """The latents of a model that have a density."""
    return {name: variable for name, variable in model.latents.items() if not variable.discrete}


def standard_noise(samples: int, shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise (samples, *shape), made on the CPU, so that a seed means the same on every device."""
    return torch.randn(samples, *shape, dtype=like.dtype, generator=generator).to(like.device)


def lower_triangular(entries: Tensor, rows: int, columns: int, diagonal: int = 0) -> Tensor:
    """Matrices (*lead, rows, columns) with these entries (*lead, count) row by row up to a diagonal, zeros above it.

    By a gather, which vmap and double differentiation go through.
    """
    index = torch.full((rows, columns), entries.shape[-1], device=entries.device)
    row, column = torch.tril_indices(rows, columns, diagonal, device=entries.device)
    index[row, column] = torch.arange(entries.shape[-1], device=entries.device)
    padded = torch.cat([entries, entries.new_zeros(*entries.shape[:-1], 1)], -1)
    return padded[..., index]
