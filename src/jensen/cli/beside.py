"""What a model was told, kept beside codes in as few bytes as give it back exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jensen.cli.conditions import own_told
from jensen.errors import DataError, JensenError

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run

__all__ = ["kept", "told_before"]

CONDITIONS, LEVEL = "conditions", "conditions_level"


def kept(run: Run, condition: Tensor) -> dict[str, Any]:
    """Arrays for a file that keep conditions (B, *condition_shape) of the run.

    Labels as numbers (B,) in one byte, or as many as the number of classes takes; a visible part as its own pixels
    alone, (B, C, pixels); pixels as bytes where all are grey levels k / n with one n up to 255, which then stands
    beside them. All else is float32 as the model is told it.
    """
    import numpy as np

    kind = run.told
    if kind == "label" and bool((condition.sum(1) == 1).all()):
        return {CONDITIONS: condition.argmax(1).numpy().astype(np.min_scalar_type(condition.shape[1] - 1))}
    if kind == "part":
        inside = _inside(run)
        condition = condition[:, :-1, inside]
    if kind in ("part", "image"):
        level = _level(condition)
        if level is not None:
            return {CONDITIONS: (condition * level).round().numpy().astype(np.uint8), LEVEL: np.uint8(level)}
    return {CONDITIONS: condition.numpy()}


def told_before(run: Run, arrays: Mapping[str, Any], path: Path, count: int) -> Tensor | None:
    """What the file says that the model was told, (count, *condition_shape); None for a run that is told nothing.

    Reads what `kept` writes, and whole conditions of shape (count, *condition_shape).

    Raises:
        JensenError: the file says nothing.
        DataError: what it says does not fit.
    """
    import torch

    kind, shape = own_told(run), run.facts.condition_shape
    if kind is None or shape is None:
        return None
    stored = arrays.get(CONDITIONS)
    if stored is None:
        flag = {"label": " or give --label", "properties": " or give --attributes"}.get(kind, "")
        raise JensenError(
            f"{path} has no array 'conditions', and {run.path} is conditioned on {run.config.data.condition}: encode "
            f"again with `jensen encode {run.path}`{flag}"
        )
    if kind == "label" and stored.shape == (count,) and stored.dtype.kind in "iu":
        return _one_hot(stored, shape[0], path)
    forms = [(count, *shape)]
    if kind == "part":
        forms.append((count, shape[0] - 1, int(_inside(run).sum())))
    if stored.shape not in forms or stored.dtype.kind not in "fiub":
        raise DataError(
            f"{path} has conditions of shape {stored.shape}, {run.path} needs {(count, *shape)}: from another run?"
        )
    tensor = torch.from_numpy(stored.astype("float32"))
    if not torch.isfinite(tensor).all():
        raise DataError(f"{path} has conditions that are not finite")
    if LEVEL in arrays:
        tensor = tensor / _read_level(arrays[LEVEL], path)
    return tensor if stored.shape == forms[0] else _whole(run, tensor, shape)


def _inside(run: Run) -> Tensor:
    """Where an image is visible, (H, W) bool."""
    from jensen.data.visible import visible

    return visible(str(run.config.data.condition), *run.facts.shape[1:])[0] > 0


def _whole(run: Run, pixels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Visible pixels (B, C, pixels) in their places, with the channel that says which these are, (B, *shape)."""
    inside = _inside(run)
    out = pixels.new_zeros(len(pixels), *shape)
    out[:, :-1, inside] = pixels
    out[:, -1] = inside.float()
    return out


def _level(values: Tensor) -> int | None:
    """The least n <= 255 for which all values are k / n of whole k in float32, to the last bit; None: there is none."""
    import torch

    different = torch.unique(values)
    if len(different) > 256 or different.numel() == 0 or different[0] < 0 or different[-1] > 1:
        return None
    for level in range(1, 256):
        if torch.equal((different * level).round() / level, different):
            return level
    return None


def _one_hot(numbers: Any, classes: int, path: Path) -> Tensor:
    import torch

    labels = torch.from_numpy(numbers.astype("int64"))
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(f"{path} has labels from {int(labels.min())} to {int(labels.max())}, not of {classes} classes")
    return torch.nn.functional.one_hot(labels, classes).float()


def _read_level(stored: Any, path: Path) -> float:
    if stored.shape != () or stored.dtype.kind not in "iu" or not 1 <= int(stored) <= 255:
        raise DataError(f"{path}: {LEVEL} should be a number from 1 to 255")
    return float(stored)
