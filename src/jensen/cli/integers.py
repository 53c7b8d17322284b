"""Codes that are integers: as arrays in a file and back, and how many bits they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.inputs import pieces
from jensen.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import VQVAE

__all__ = ["as_arrays", "bits_under_prior", "from_arrays", "size_rows"]


def as_arrays(model: VQVAE, codes: Tensor) -> dict[str, Any]:
    """Codes (B, latent) as arrays for a file, of the smallest type of integers that holds them all.

    One level: `codes`; two: `codes_top` and `codes_bottom`. Each is (B, *grid), or (B, books, *grid) of several books.
    """
    import numpy as np

    kind = _type(model)
    grids = [grid.squeeze(1) if grid.shape[1] == 1 else grid for grid in model.grids(codes)]
    names = _names(model)
    return {name: np.ascontiguousarray(grid.numpy().astype(kind)) for name, grid in zip(names, grids, strict=True)}


def from_arrays(model: VQVAE, arrays: Mapping[str, Any], path: Path, run: Path) -> Tensor:
    """What `as_arrays` wrote, (B, latent) int64.

    Raises:
        DataError: an array is missing, or of another type, shape or range than the run's codes.
    """
    import torch

    another = "from another run?"
    grids: list[Tensor] = []
    for name, shape in zip(_names(model), model.code_shapes, strict=True):
        array = arrays.get(name)
        if array is None:
            there = ", ".join(key for key in arrays if key.startswith("codes")) or "no codes"
            raise DataError(f"{path} holds {there}, {run} needs an array {name!r}: {another}")
        wanted = shape[1:] if shape[0] == 1 else shape
        if array.dtype.kind not in "iu":
            raise DataError(f"{path}: {name} holds {array.dtype}, but the codes of {run} are integers: {another}")
        if array.shape[1:] != wanted or len(array) == 0:
            said = ", ".join(map(str, wanted))
            raise DataError(f"{path}: {name} has shape {array.shape}, {run} needs (any number, {said}): {another}")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= model.code_levels:
            raise DataError(
                f"{path}: {name} holds codes from {low} to {high}, {run} has {model.code_levels} (0 to "
                f"{model.code_levels - 1}): {another}"
            )
        grids.append(torch.from_numpy(array.astype("int64")).reshape(len(array), *shape))
    if len({len(grid) for grid in grids}) > 1:
        raise DataError(f"{path} is damaged: {' and '.join(_names(model))} have another number of rows each")
    return model.flat(tuple(grids))


def size_rows(model: VQVAE, dims: int, learned: float | None) -> list[tuple[str, str, str]]:
    """Bits per dimension of a datum of `dims` values that its codes take; `learned`: bits a datum under the prior."""
    a_code = math.log2(model.code_levels)
    rows = [
        (
            "bits per dimension",
            f"{model.latent * a_code / dims:.4f}",
            f"{model.latent} codes of log2 {model.code_levels} = {a_code:.3g} bits: all codes equally likely",
        )
    ]
    if learned is not None:
        rows.append(("by the prior", f"{learned / dims:.4f}", "bits per dimension that an entropy coder would take"))
    return rows


def bits_under_prior(model: VQVAE, codes: Tensor, condition: Tensor | None) -> float | None:
    """Mean of -log2 p(codes) of codes (B, latent) under the learned prior; None where there is none.

    Args:
        condition: what is known of each that the prior may be told, (B, *condition_shape); None: nothing, which is
            also None bits of a prior that is told something.
    """
    import torch

    prior = model.code_prior
    if prior is None or (prior.condition_shape is not None and condition is None):
        return None
    condition = None if prior.condition_shape is None else condition
    with torch.no_grad():
        nats = [-prior.log_prob(part, known).double().sum(-1) for part, known in pieces(codes, condition)]
    return float(torch.cat(nats).mean()) / math.log(2)


def _names(model: VQVAE) -> tuple[str, ...]:
    return ("codes",) if len(model.code_shapes) == 1 else ("codes_top", "codes_bottom")


def _type(model: VQVAE) -> str:
    return "uint8" if model.code_levels <= 256 else "uint16" if model.code_levels <= 65_536 else "int32"
