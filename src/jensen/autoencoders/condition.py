"""What a model is told beside its input: checked, and class labels made one-hot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["checked_condition", "checked_mask", "checked_shape", "one_hot", "require_tensor"]


def checked_condition(
    condition: Tensor | None, shape: tuple[int, ...] | None, lead: tuple[int | None, ...], *, exact: bool = True
) -> Tensor | None:
    """The condition as it was given, or a ValueError that says what is expected; None for a model without one.

    NaNs are looked for on the CPU only: elsewhere the program would have to wait for the device.

    Args:
        condition: (*own, *shape).
        shape: of one condition; None: the model has none.
        lead: leading dimensions of what it belongs to; None: of any size.
        exact: whether `own` has to be `lead`, or only broadcastable to it.

    Raises:
        TypeError: it is no tensor.
        ValueError: it is missing, not expected, of another shape, of integers, or NaN.
    """
    require_tensor(condition, shape, lead, exact=exact)
    if shape is None:
        if condition is not None:
            raise ValueError("this model takes no condition: it was made without condition_shape")
        return None
    if condition is None:
        raise ValueError(f"this model needs a condition: {_expected(shape, lead, exact)}")
    own = condition.shape[: max(0, condition.ndim - len(shape))]
    if condition.shape[len(own) :] != shape or not _fits(own, lead, exact):
        raise ValueError(f"condition should have {_expected(shape, lead, exact)}, got {tuple(condition.shape)}")
    if not condition.is_floating_point():
        raise ValueError(f"condition should be of floating point, got {condition.dtype}")
    if condition.device.type == "cpu" and bool(condition.isnan().any()):
        raise ValueError("condition holds NaN: every condition has to be known")
    return condition


def require_tensor(
    condition: object, shape: tuple[int, ...] | None, lead: tuple[int | None, ...], *, exact: bool = True
) -> None:
    """Raise `TypeError` for a condition that is neither a tensor nor None, such as a number or a list.

    Arguments: `checked_condition`.
    """
    if condition is not None and not isinstance(condition, Tensor):
        expected = "none, as the model was made without condition_shape" if shape is None else "one of "
        if shape is not None:
            expected += _expected(shape, lead, exact)
        raise TypeError(f"condition should be a tensor, {expected}; got {type(condition).__name__} {condition!r:.50}")


def checked_shape(shape: object, *, own: bool = False) -> tuple[int, ...] | None:
    """`condition_shape` as a tuple; None: there is no condition.

    Args:
        shape: as the user gave it.
        own: whether encoder and decoder are networks of the user, which take conditions of any shape.

    Raises:
        TypeError: it is no sequence of whole numbers.
        ValueError: a number is not positive, or there are not one or three.
    """
    if shape is None:
        return None
    if isinstance(shape, int):
        raise TypeError(f"condition_shape should be a tuple, ({shape},) for {shape} classes or numbers, got {shape}")
    if not isinstance(shape, Sequence) or not all(isinstance(size, int) for size in shape):
        raise TypeError(f"condition_shape should be a tuple of whole numbers, got {shape!r}")
    sizes = tuple(shape)
    if any(size < 1 for size in sizes):
        raise ValueError(f"condition_shape should be of positive numbers, got {sizes}")
    if len(sizes) not in (1, 3) and not own:
        hint = f"; an image of one channel is (1, {sizes[0]}, {sizes[1]})" if len(sizes) == 2 else ""
        raise ValueError(
            f"condition_shape should be (classes,), (attributes,) or (channel, height, width), got {sizes}{hint}"
        )
    return sizes


def checked_mask(mask: Tensor | None, batch: int, shape: tuple[int, ...]) -> Tensor | None:
    """The mask with a leading dimension for samples, (1, 1 or batch, *shape); ValueError for another shape."""
    if mask is None:
        return None
    if mask.shape[1:] != shape or mask.shape[0] not in (1, batch):
        raise ValueError(f"mask should have shape {(batch, *shape)} or {(1, *shape)}, got {tuple(mask.shape)}")
    return mask.unsqueeze(0)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Integer labels (...) as vectors (..., classes).

    Raises:
        ValueError: a label is no class, or labels are truth values; values are looked at on the CPU only.
    """
    if labels.dtype == torch.bool:
        raise ValueError("labels should be integers, got truth values")
    if labels.device.type == "cpu" and labels.numel():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise ValueError(f"labels should be in 0 .. {classes - 1}, got {low if low < 0 else high}")
    return (labels.unsqueeze(-1) == torch.arange(classes, device=labels.device)).to(dtype)


def _fits(own: tuple[int, ...], lead: tuple[int | None, ...], exact: bool) -> bool:
    if len(own) > len(lead) or (exact and len(own) < len(lead)):
        return False
    behind = lead[len(lead) - len(own) :]
    return all(size in (None, mine) or (mine == 1 and not exact) for mine, size in zip(own, behind, strict=True))


def _expected(shape: tuple[int, ...], lead: tuple[int | None, ...], exact: bool) -> str:
    def written(sizes: tuple[int | None, ...]) -> str:
        inner = ", ".join("batch" if size is None else str(size) for size in sizes)
        return f"({inner},)" if len(sizes) == 1 else f"({inner})"

    text = f"shape {written((*lead, *shape))}"
    if lead and not exact:
        text += f", or {written(shape)} for all"
    if len(shape) == 1:
        text += f", or int64 class labels of shape {written(lead)}"
    return text
