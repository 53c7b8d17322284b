"""What several networks share: nonlinearities, normalisation, and sizes of images under stride 2."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

__all__ = ["activation", "halvings", "norm1d", "norm2d"]

_ACTIVATIONS: dict[str, Callable[[bool], nn.Module]] = {
    "relu": lambda inplace: nn.ReLU(inplace),
    "leaky-relu": lambda inplace: nn.LeakyReLU(0.1, inplace),
    "elu": lambda inplace: nn.ELU(),
    "gelu": lambda inplace: nn.GELU(),
    "silu": lambda inplace: nn.SiLU(),
    "softplus": lambda inplace: nn.Softplus(),
    "tanh": lambda inplace: nn.Tanh(),
}


def activation(name: str, inplace: bool = True) -> nn.Module:
    """The nonlinearity called `name`, overwriting its input where it can and `inplace`; ValueError if there is none."""
    if name not in _ACTIVATIONS:
        raise ValueError(f"no activation {name!r}; there are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name](inplace)


def norm1d(name: str, features: int) -> list[nn.Module]:
    """Normalisation after a linear layer: none, batch, or group (one group: layer normalisation)."""
    if name == "group":
        return [nn.LayerNorm(features)]
    return [nn.BatchNorm1d(features)] if name == "batch" else []


def norm2d(name: str, channels: int) -> list[nn.Module]:
    """Normalisation after a convolution: none, batch, or group (up to 8 groups)."""
    if name == "group":
        return [nn.GroupNorm(math.gcd(8, channels), channels)]
    return [nn.BatchNorm2d(channels)] if name == "batch" else []


def halvings(size: tuple[int, int], depth: int | None) -> list[tuple[int, int]]:
    """Sizes of an image as stride-2 layers halve it (rounding down), the input size first.

    Halves `depth` times, or, where depth is None, until the smaller side is at most 4 pixels.

    Raises:
        ValueError: the image is too small to be halved `depth` times.
    """
    sizes = [size]
    while (min(sizes[-1]) > 4) if depth is None else (len(sizes) <= depth):
        height, width = sizes[-1]
        if min(height, width) < 2:
            raise ValueError(f"an image of {size[0]}x{size[1]} cannot be halved {depth} times: use a smaller depth")
        sizes.append((height // 2, width // 2))
    return sizes
