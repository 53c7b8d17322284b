"""From stored values to the numbers that a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.data.dataset import Source
from jensen.errors import ConfigError

__all__ = ["StaticBits", "Transform", "TransformName", "binarise", "dequantise", "static_binarise"]

TransformName = Literal["none", "binarise", "binarise-static", "dequantise"]

CHUNK = 2048


def binarise(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bernoulli draws, 0 or 1 in the same shape and dtype, of `probabilities` in [0, 1].

    Comparing uniform numbers is some four times as fast on the CPU as `torch.bernoulli`; 0 and 1 stay what they are.
    """
    noise = torch.rand(probabilities.shape, generator=generator, dtype=probabilities.dtype, device=probabilities.device)
    return noise.lt_(probabilities)


def dequantise(values: Tensor, levels: int, generator: torch.Generator | None = None) -> Tensor:
    """(value + u) / levels in [0, 1), float32, with u uniform in [0, 1), of levels 0 .. levels - 1.

    For a density p on [0, 1]^D and the discrete distribution P that it induces,
    log P(value) >= E_u log p((value + u) / levels) - D log levels (Theis, van den Oord and Bethge 2016).
    """
    noise = torch.rand(values.shape, generator=generator, dtype=torch.float32, device=values.device)
    # float32 has 16 of its 24 bits left behind the point of 255: a larger u would round up into the next level
    bits = 24 - max((levels - 1).bit_length(), 8)
    return noise.mul_(1.0 - 2.0**-bits).add_(values).div_(levels)


class StaticBits:
    """A source of grey levels seen through one fixed Bernoulli draw: 0 or 1, uint8.

    The draw of a pixel depends on the position of its image in `values`, its place in the image and `seed` alone
    (a hash of the three), so it is the same in whatever order and on whatever machine images are asked for.
    """

    def __init__(self, values: Source, levels: int, seed: int = 0) -> None:
        self.values, self.levels, self.seed = values, levels, seed

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor, /) -> Tensor:
        stored = self.values[index]
        size = math.prod(stored.shape[1:])
        grey = stored.cpu().numpy().reshape(len(index), size).astype(np.uint64)
        first = index.cpu().numpy().astype(np.uint64) * np.uint64(size)
        place: npt.NDArray[np.uint64] = np.add.outer(first, np.arange(size, dtype=np.uint64))
        words = _hash(place, self.seed) >> np.uint64(32)
        # words / 2^32 < grey / (levels - 1), in integers: the chance of a 1 is right to one part in 2^32
        ones = words * np.uint64(self.levels - 1) < grey << np.uint64(32)
        return torch.from_numpy(ones.astype(np.uint8)).view(stored.shape).to(stored.device)


def static_binarise(values: Source, levels: int, seed: int = 0) -> Source:
    """`values` binarised once and for all: a uint8 tensor for a tensor, else a lazy `StaticBits`."""
    bits = StaticBits(values, levels, seed)
    if not isinstance(values, Tensor):
        return bits
    out = torch.empty_like(values, dtype=torch.uint8)
    for start in range(0, len(values), CHUNK):
        index = torch.arange(start, min(start + CHUNK, len(values)))
        out[index] = bits[index]
    return out


def _hash(numbers: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """64 well-mixed bits of each number: the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    start = np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    x = numbers * np.uint64(0x9E3779B97F4A7C15) + start
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Transform:
    """Stored values (B, *shape) to float32 model input of the same shape, on the same device.

    - ``none``: value / (levels - 1) in [0, 1], from which rounding x (levels - 1) gives the level back; continuous
      values as they are, standardised if `mean` and `sd` are set;
    - ``binarise``: a Bernoulli draw of that, drawn anew at each call; binary data is left alone;
    - ``binarise-static``: as ``none``, on a source that has been binarised before (`static_binarise`);
    - ``dequantise``: see `dequantise`.

    Noise comes from torch's global generator of the device. Raises `ConfigError` for a transform that continuous
    values cannot have.
    """

    name: TransformName
    levels: int | None
    """of the stored values"""
    mean: Tensor | None = None
    """of the training split, (columns,) of a table, (channels, 1) of a signal; continuous values only"""
    sd: Tensor | None = None

    def __post_init__(self) -> None:
        if self.levels is None and self.name != "none":
            raise ConfigError(
                f"data.transform: {self.name} needs images with grey levels, but these values are continuous; use none"
            )

    def __call__(self, stored: Tensor) -> Tensor:
        if self.levels is None:
            values = stored.to(torch.float32)
            return values if self.mean is None or self.sd is None else (values - self.mean) / self.sd
        if self.name == "dequantise":
            return dequantise(stored, self.levels)
        unit = stored.to(torch.float32)
        if self.levels == 2:
            return unit
        unit.div_(self.levels - 1)
        return binarise(unit) if self.name == "binarise" else unit

    def to(self, device: torch.device) -> Transform:
        """The same with its statistics on `device`."""
        if self.mean is None or self.sd is None:
            return self
        return replace(self, mean=self.mean.to(device), sd=self.sd.to(device))
