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
    from jensen.training import Run

__all__ = ["as_arrays", "bits_under_prior", "from_arrays", "size_rows", "values_of"]


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


def values_of(run: Run) -> float | None:
    """How many values of a datum the codes of a run describe; None where it decodes something else than the datum."""
    from jensen.data.condition import VisiblePart
    from jensen.data.visible import PARTS
    from jensen.metrics.codes import values_described

    config, shape = run.config.data, run.own_facts.shape
    part = config.condition if config.condition in PARTS else None
    hidden = None if part is None else VisiblePart.of(part, shape).hidden
    return values_described(shape, hidden, predicts=config.target is not None)


def size_rows(run: Run, model: VQVAE, learned: float | None) -> list[tuple[str, str, str]]:
    """Bits that codes take, for each value that they describe; `learned`: bits an example under the prior.

    Bits an example where it is not the datum that the run decodes.
    """
    a_code, dims = math.log2(model.code_levels), values_of(run)
    unit = "bits an example" if dims is None else "bits per dimension"

    def bits(an_example: float) -> str:
        return f"{an_example:.2f}" if dims is None else f"{an_example / dims:.4f}"

    of = "" if dims is None or dims == math.prod(model.shape) else f" ({dims:.0f} hidden values)"
    each = f"{model.latent} codes of log2 {model.code_levels} = {a_code:.3g} bits{of}: all codes equally likely"
    rows = [(unit, bits(model.latent * a_code), each)]
    if learned is not None:
        rows.append(("by the prior", bits(learned), f"{unit} that an entropy coder would take{_given(run, model)}"))
    return rows


def _given(run: Run, model: VQVAE) -> str:
    """What the prior is told, which has to be known to decode by it; to follow on a number."""
    if model.code_prior is None or model.code_prior.condition_shape is None:
        return ""
    (classes, *_) = model.code_prior.condition_shape
    words = {
        "label": f"the label (log2 {classes} = {math.log2(classes):.2f} bits an example more)",
        "part": f"the {str(run.condition).replace('-', ' ')} of the image",
        "image": f"the image {run.condition}",
    }
    return f", given {words.get(run.told or '', str(run.condition))}"


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
