"""What every picture checks about its input, and the one conversion to NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Array", "Floats", "as_array", "as_images", "as_labels", "same_shape"]

Array = torch.Tensor | npt.NDArray[Any] | Sequence[Any]
Floats = npt.NDArray[np.float64]


def as_array(name: str, value: Array, *, dimensions: int, finite: bool = True) -> Floats:
    """`value` as float64 with that many dimensions, none of them empty; `ValueError` otherwise."""
    if isinstance(value, torch.Tensor):
        value = value.detach().to("cpu", torch.float64).numpy()
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} should be an array of numbers, but is {type(value).__name__}") from None
    if array.ndim != dimensions:
        raise ValueError(f"{name} should have {dimensions} dimension(s), but has shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} should not be empty, but has shape {array.shape}")
    if finite and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{name} should be finite, but {bad} of {array.size} values are NaN or infinite")
    return array


def as_images(name: str, value: Array) -> Floats:
    """(B, C, H, W) as (B, H, W) in grey or (B, H, W, 3) in colour, clipped to [0, 1].

    One channel is grey and three are red, green, blue; of any other number the mean over channels is shown.
    """
    images = as_array(name, value, dimensions=4)
    dtype = value.dtype if isinstance(value, torch.Tensor | np.ndarray) else None
    integer = str(dtype).replace("torch.", "").startswith(("int", "uint"))
    if integer and images.max() > 1:
        raise ValueError(
            f"{name} should hold values in [0, 1], but holds integers up to {images.max():.0f}: "
            "divide them by the number of grey levels less one"
        )
    shown: Floats = images.clip(0.0, 1.0)
    shown = shown.transpose(0, 2, 3, 1) if shown.shape[1] == 3 else shown.mean(axis=1)
    return shown


def as_labels(value: Array, count: int, class_names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Class indices (count,), each with a name where names are given."""
    labels = as_array("labels", value, dimensions=1)
    if len(labels) != count:
        raise ValueError(f"labels should have one entry a code ({count}), but there are {len(labels)}")
    if (labels != np.round(labels)).any() or labels.min() < 0:
        raise ValueError("labels should be class indices 0, 1, ...")
    if len(class_names) and labels.max() >= len(class_names):
        raise ValueError(f"labels go up to {labels.max():.0f}, but class_names has only {len(class_names)} entries")
    return labels.astype(np.int64)


def same_shape(first: str, a: Floats, second: str, b: Floats) -> None:
    """`ValueError` unless both arrays have one shape."""
    if a.shape != b.shape:
        raise ValueError(f"{first} and {second} should have one shape, but have {a.shape} and {b.shape}")
