"""The codes of a run's data, as data to fit a prior to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from jensen.autoencoders.vqvae import VQVAE
from jensen.data import Batch, Data, Source, Split
from jensen.data.condition import VisiblePart
from jensen.data.transform import Transform
from jensen.errors import ConfigError

__all__ = ["CodeSplit", "code_data"]

MOST_LEVELS = 65_536  # values k / (K - 1) that float32 tells apart
AT_ONCE = 500


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CodeSplit(Split):
    """Codes made anew in every batch, for data that are drawn anew (binarised, dequantised, corrupted) or quantisers
    that draw: the prior is then fitted to E[log p(codes)] over that noise, which is what the bound asks for. It costs
    little: to encode images of 28x28 takes a sixteenth of the time of a default prior's step.

    Noise comes from torch's global generator, as in any split.
    """

    images: Split
    """what is encoded"""
    model: VQVAE

    def _batch(self, places: Tensor) -> Batch:
        seen = self.images._batch(places)
        told = None if self.model.condition_shape is None else seen.condition
        x = encoded(self.model, seen.x, told).float() / (self.model.code_levels - 1)
        return seen._replace(x=x, target=x, factors=None, mask=None)

    def to(self, device: torch.device | str, *, values: Source | None = None) -> CodeSplit:
        images = self.images.to(device, values=values)
        moved = super().to(device, values=images.values)
        assert isinstance(moved, CodeSplit)
        return replace(moved, images=images, model=self.model.to(device))


@torch.no_grad()
def encoded(model: VQVAE, x: Tensor, condition: Tensor | None) -> Tensor:
    """A draw from q(codes | x) of each datum, (batch, latent) int64: the codes, where they are a function of x."""
    with torch.autocast(x.device.type, enabled=False):  # the same whatever precision the prior is trained in
        levels, _ = model.levels(x, condition)
    return model.flat([level.z for level in levels])[0]


def code_data(
    model: VQVAE, data: Data, device: torch.device, progress: Callable[[int, int], None] | None = None
) -> Data:
    """The codes of `data` under `model`, values k / (K - 1) with K levels in a row, in the same three splits.

    Where the same datum always has the same codes they are made once, now; otherwise in every batch (`CodeSplit`).

    Args:
        model: frozen, in evaluation mode; it is moved to the device.
        data: with the condition that the prior is to be told. A model that is told something is told this.
        device: where to encode.
        progress: called with the number of data encoded so far, and of all.

    Raises:
        ConfigError: a code takes more than 65,536 values.
    """
    if model.code_levels > MOST_LEVELS:
        raise ConfigError(
            f"a prior is over codes of at most {MOST_LEVELS:,} values, but these take {model.code_levels:,}"
        )
    model = model.to(device)
    anew = (
        model.stochastic
        or data.transform in ("binarise", "dequantise")
        or data.train.corruption != "none"
        or isinstance(data.train.condition, VisiblePart)  # it is cut from the datum itself
    )
    parts = {"train": data.train, "valid": data.valid, "test": data.test}
    made: dict[str, Any]
    if anew:
        made = {name: _anew(model, part) for name, part in parts.items()}
        return replace(data, **made)
    values = _encoded_once(model, data.to(device), progress)
    starts = dict(zip(parts, (0, len(data.train), len(data.train) + len(data.valid)), strict=True))
    made = {name: _once(model, part, values, starts[name]) for name, part in parts.items()}
    return replace(data, **made)


def _encoded_once(model: VQVAE, data: Data, progress: Callable[[int, int], None] | None) -> Tensor:
    """The codes of training, validation and test data one after the other, (N, latent), on the CPU."""
    parts = (data.train, data.valid, data.test)
    total, done = sum(len(part) for part in parts), 0
    kind = torch.uint8 if model.code_levels <= 256 else torch.int32
    rows: list[Tensor] = []
    for part in parts:
        for batch in part.batches(AT_ONCE):
            told = None if model.condition_shape is None else batch.condition
            rows.append(encoded(model, batch.x, told).to(kind).cpu())
            done += len(batch.x)
            if progress is not None:
                progress(done, total)
    return torch.cat(rows)


def _anew(model: VQVAE, part: Split) -> CodeSplit:
    return CodeSplit(
        values=part.values,
        indices=part.indices,
        transform_function=Transform("none", model.code_levels),
        shape=(model.latent,),
        levels=model.code_levels,
        labels=part.labels,
        class_names=part.class_names,
        condition=part.condition,
        images=part,
        model=model,
    )


def _once(model: VQVAE, part: Split, values: Tensor, start: int) -> Split:
    return Split(
        values=values,
        indices=torch.arange(start, start + len(part)),
        transform_function=Transform("none", model.code_levels),
        shape=(model.latent,),
        levels=model.code_levels,
        labels=part.labels,
        class_names=part.class_names,
        condition=part.condition,
    )
