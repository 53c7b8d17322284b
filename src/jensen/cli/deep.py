"""Models with several levels of latents, as commands need them: their sizes, and codes as an array a level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.inputs import AT_ONCE, pieces
from jensen.config.names import DEEP
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.autoencoders import DeepVAE, EncoderDecoder
    from jensen.training import Run

__all__ = [
    "as_levels",
    "at_once",
    "chosen_levels",
    "completed",
    "from_levels",
    "latents_in_words",
    "level_shapes",
    "require_levels",
]

DEEP_AT_ONCE = 50
"""Examples on their way through a model of many feature maps together: an NVAE takes some MB each."""


def at_once(model: EncoderDecoder) -> int:
    """Examples that go through a model together."""
    shapes: tuple[tuple[int, ...], ...] = getattr(model, "level_shapes", ())
    return DEEP_AT_ONCE if any(len(shape) > 1 for shape in shapes) else AT_ONCE


def level_shapes(run: Run) -> tuple[tuple[int, ...], ...]:
    """Shapes of the latents of each level, the top first, without making the model; () of other models."""
    from jensen.config.scales import DEFAULT_SCALES, parse_scales
    from jensen.nn.layout import layout_of

    config = run.config.model
    if config.kind not in DEEP:
        return ()
    scales = parse_scales(config.scales or DEFAULT_SCALES[config.net.kind])
    size = () if config.net.kind == "mlp" else run.own_facts.shape[1:]
    return tuple(rung.shape for rung in layout_of(scales, tuple(size), config.downsampling).rungs[::-1])


def latents_in_words(run: Run) -> str:
    """The latents of a model whose code is a vector, e.g. "16", or of several levels "5 levels, 124 latents"."""
    shapes = level_shapes(run)
    if not shapes:
        return str(run.config.model.latent)
    count = sum(map(prod, shapes))
    return f"{len(shapes)} level{'s' * (len(shapes) > 1)}, {count:,} latents"


def require_levels(run: Run, flag: str) -> int:
    """How many levels the run's model has; raises `JensenError` unless they are some, which `flag` is about."""
    shapes = level_shapes(run)
    if not shapes:
        raise JensenError(
            f"{flag} is about levels of latents, which models {', '.join(DEEP[:-1])} and {DEEP[-1]} have; {run.path} "
            f"is of model {run.config.model.kind}"
        )
    return len(shapes)


def chosen_levels(run: Run, words: Sequence[str]) -> list[int]:
    """Levels by number, 1 nearest the data, from words such as "2,3".

    Raises:
        JensenError: one is no number of a level, or is given twice.
    """
    count = require_levels(run, "--levels")
    parts = [word.strip() for given in words for word in given.split(",")]
    for word in parts:
        if not word.isdecimal() or not 1 <= int(word) <= count:
            raise JensenError(
                f"--levels: {word!r} is no level of {run.path}, which has 1 (nearest the data) to {count}"
            )
    levels = [int(word) for word in parts]
    twice = next((level for level in levels if levels.count(level) > 1), None)
    if twice is not None:
        raise JensenError(f"--levels: {twice} is given twice")
    return sorted(levels)


def as_levels(model: DeepVAE, codes: Tensor, levels: Sequence[int] | None) -> dict[str, Tensor]:
    """Codes (B, latent) as level_1, ..., level_L, (B, *dims) each, level 1 nearest the data; None: all levels."""
    every = dict(enumerate(reversed(model.levels_of(codes)), 1))
    return {f"level_{i}": every[i].contiguous() for i in levels or every}


def from_levels(model: DeepVAE, arrays: Mapping[str, Any], path: Path, run: Path) -> list[Tensor]:
    """The levels that a file holds, the top first, (B, *dims) float32 each.

    Raises:
        DataError: there are none, or of another type or shape than the run's; some level is missing above another.
    """
    import torch

    count = len(model.level_shapes)
    there = [i for i in range(1, count + 1) if f"level_{i}" in arrays]
    if not there:
        raise DataError(f"{path} holds no codes of {run} (arrays level_1 to level_{count}): from another run?")
    missing = next((i for i in range(count, there[0], -1) if i not in there), None)
    if missing is not None:
        raise DataError(
            f"{path} holds level_{there[0]} but not level_{missing} above it, and each level is decoded given those "
            "above: encode those too"
        )
    found = []
    for i in reversed(there):
        array, shape = arrays[f"level_{i}"], model.level_shapes[count - i]
        if array.dtype.kind != "f" or array.shape[1:] != shape or len(array) == 0:
            raise DataError(
                f"{path}: level_{i} holds {array.dtype} of shape {array.shape}, {run} needs real numbers (any number, "
                f"{', '.join(map(str, shape))}): from another run?"
            )
        found.append(torch.from_numpy(array.astype("float32")))
        if not torch.isfinite(found[-1]).all():
            raise DataError(f"{path}: level_{i} is not finite")
    if len({len(each) for each in found}) > 1:
        raise DataError(f"{path} is damaged: its levels have another number of rows each")
    return found


def completed(model: DeepVAE, levels: Sequence[Tensor], condition: Tensor | None) -> Tensor:
    """Codes of all levels, (B, latent), from the top ones, (B, *dims) each; those below are their prior's means."""
    import torch

    flat = torch.cat([level.flatten(1) for level in levels], 1)
    if flat.shape[1] == model.latent:
        return flat
    sizes = [prod(level.shape[1:]) for level in levels]
    found = []
    for rows, known in pieces(flat, condition, at_once(model)):
        parts = zip(rows.split(sizes, 1), model.level_shapes, strict=False)
        found.append(model.completed([part.unflatten(1, shape) for part, shape in parts], known))
    return torch.cat(found)
