"""The nearest code of each feature, its straight-through gradient, and what the codes' features add up to.

Everything is done in one walk over blocks of features that stay in the processor's cache: the nearest codes by matrix
products, their embeddings, distances and sums. No tensor of (features x codes x dimensions) is made, and of the
(features x codes) scores only a tile at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Assigned", "StraightThrough", "assign", "nearest"]

SCORES_AT_ONCE = {"cpu": 2**18, "cuda": 2**25}  # in a tile: 1 MB on a core, 128 MB on a GPU
VALUES_AT_ONCE = {"cpu": 2**18, "cuda": 2**26}  # of features in a block
CODES_A_GROUP = 64


class Assigned(NamedTuple):
    """Features (batch, dim, places) and the codes nearest to them.

    Attributes:
        embedding: the codes, (batch, dim, places); its gradient goes to the features, unchanged.
        codes: (batch, places) int64.
        commitment: sum over everything of (z - sg[e])^2: its gradient goes to the features.
        distance: the same number, sum of (sg[z] - e)^2: its gradient goes to the codebook.
        counts: features of each code, (levels,); None where statistics were not asked for.
        sums: of the features of each code, (levels, dim).
    """

    embedding: Tensor
    codes: Tensor
    commitment: Tensor
    distance: Tensor
    counts: Tensor | None
    sums: Tensor | None


def assign(features: Tensor, codebook: Tensor, *, statistics: bool) -> Assigned:
    """The nearest code of every feature, by Euclidean distance.

    Differentiable once. Features and codebook are of one floating type, float32 or wider.

    Args:
        features: z, (batch, dim, places), of any strides.
        codebook: e, (levels, dim).
        statistics: also count and sum the features of each code.
    """
    # The codebook's gradient is made of the statistics.
    wanted = statistics or (codebook.requires_grad and torch.is_grad_enabled())
    embedding, codes, commitment, distance, counts, sums = _Assign.apply(features, codebook, wanted)  # type: ignore[no-untyped-call]
    return Assigned(
        embedding, codes, commitment, distance, counts if statistics else None, sums if statistics else None
    )


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code of each row, (n,) int64; of equally near ones the first.

    |z - e|^2 is least where z.e - |e|^2 / 2 is largest, which is one matrix product.

    Args:
        rows: (n, dim).
        codebook: (levels, dim).
    """
    levels = len(codebook)
    grouped = rows.device.type == "cpu" and levels > 2 * CODES_A_GROUP
    bias = codebook.square().sum(1).mul_(-0.5)
    if grouped and levels % CODES_A_GROUP:
        missing = CODES_A_GROUP - levels % CODES_A_GROUP
        codebook = torch.nn.functional.pad(codebook, (0, 0, 0, missing))
        bias = torch.nn.functional.pad(bias, (0, missing), value=-torch.inf)
    tile = max(16, _fitting(SCORES_AT_ONCE, rows) // len(codebook))
    codes = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    scores = rows.new_empty(min(tile, len(rows)), len(codebook))
    for part, found in zip(rows.split(tile), codes.split(tile), strict=True):
        here = torch.addmm(bias, part, codebook.t(), out=scores[: len(part)])
        if grouped:
            _grouped_argmax(here, found)
        else:
            torch.argmax(here, 1, out=found)
    return codes


def _grouped_argmax(scores: Tensor, out: Tensor) -> None:
    """argmax of each row: which group of columns has the maximum, then where in it.

    On the CPU a maximum is found at the speed of memory, and its place at a tenth of that.
    """
    groups = scores.view(-1, CODES_A_GROUP)
    per_row = scores.shape[1] // CODES_A_GROUP
    group = groups.amax(1).view(-1, per_row).argmax(1)
    inside = groups.index_select(0, torch.arange(0, len(groups), per_row).add_(group)).argmax(1)
    torch.add(inside, group, alpha=CODES_A_GROUP, out=out)


class _Assign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, codebook: Tensor, statistics: bool) -> tuple[Tensor | None, ...]:
        batch, dim, places = features.shape
        embedding = torch.empty_like(features)
        codes = torch.empty(batch, places, dtype=torch.int64, device=features.device)
        total = features.new_zeros(())
        counts = sums = None
        if statistics:
            counts, sums = codebook.new_zeros(len(codebook)), torch.zeros_like(codebook)
        for block in _blocks(features):
            rows = features[block.of_features].transpose(1, 2).reshape(-1, dim)
            found = nearest(rows, codebook)
            near = codebook.index_select(0, found)
            shape = codes[block.of_codes].shape
            codes[block.of_codes] = found.view(shape)
            embedding[block.of_features] = near.view(*shape, dim).transpose(1, 2)
            if counts is not None and sums is not None:
                counts.scatter_add_(0, found, torch.ones_like(found, dtype=counts.dtype))
                sums.scatter_add_(0, found[:, None].expand(-1, dim), rows)
            apart = near.sub_(rows).view(-1)
            total += torch.dot(apart, apart)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(features, embedding)
        ctx.slope = None
        if sums is not None and counts is not None and ctx.needs_input_grad[1]:
            # Kept in place of the codebook, which may be changed (revival) before the backward pass.
            ctx.slope = (codebook * counts[:, None]).sub_(sums).mul_(2.0)
        ctx.mark_non_differentiable(*(value for value in (codes, counts, sums) if value is not None))
        return embedding, codes, total, total.clone(), counts, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        through, _, commitment, distance, *_ = grads
        to_features = through
        if commitment is not None and ctx.needs_input_grad[0]:
            features, embedding = ctx.saved_tensors
            to_features = torch.sub(features, embedding).mul_(2.0 * commitment)
            if through is not None:
                to_features += through
        to_codebook = None if distance is None or ctx.slope is None else ctx.slope * distance
        return to_features, to_codebook, None


class StraightThrough(torch.autograd.Function):
    """`value` in the forward pass; its gradient goes to `features`, unchanged."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Block(NamedTuple):
    examples: slice
    places: slice

    @property
    def of_features(self) -> tuple[slice, slice, slice]:
        """Index of features (batch, dim, places)."""
        return self.examples, slice(None), self.places

    @property
    def of_codes(self) -> tuple[slice, slice]:
        """Index of codes (batch, places)."""
        return self.examples, self.places


def _blocks(features: Tensor) -> Iterator[_Block]:
    """Whole examples where several fit in a block, parts of one otherwise."""
    batch, dim, places = features.shape
    rows = max(1, _fitting(VALUES_AT_ONCE, features) // dim)
    examples, step = max(1, rows // max(1, places)), min(rows, places)
    for first in range(0, batch, examples):
        for place in range(0, places, step):
            yield _Block(slice(first, first + examples), slice(place, place + step))


def _fitting(sizes: dict[str, int], values: Tensor) -> int:
    """The size for the device that `values` is on; any accelerator counts as a GPU."""
    return sizes["cpu" if values.device.type == "cpu" else "cuda"]
