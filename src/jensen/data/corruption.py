"""Corruptions for denoising: the model sees the corrupted values and is scored on the clean ones."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen.config import Corruption
from jensen.errors import ConfigError

__all__ = ["corrupt", "gaussian", "masking", "salt_and_pepper"]


def gaussian(x: Tensor, strength: float, generator: torch.Generator | None = None, *, clip: bool = True) -> Tensor:
    """`x` plus normal noise of standard deviation `strength`; `clip` keeps values in [0, 1]."""
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    noisy = noise.mul_(strength).add_(x)
    return noisy.clamp_(0.0, 1.0) if clip else noisy


def salt_and_pepper(x: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """`x` with a share `strength` of its values set to 0 or to 1, with equal chances."""
    u = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    salt = torch.lt(u, 0.5 * strength, out=torch.empty_like(u))
    return u.ge_(strength).mul_(x).add_(salt)


def masking(x: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """`x` with a share `strength` of its values set to 0 (in a standardised table or signal: to the mean)."""
    u = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return u.ge_(strength).mul_(x)


def corrupt(
    x: Tensor, kind: Corruption, strength: float, generator: torch.Generator | None = None, *, image: bool = True
) -> Tensor:
    """`x` corrupted in the named way; `x` itself for "none".

    `strength` is the standard deviation of gaussian noise, otherwise the share of values hit, in (0, 1]. Noise comes
    from `generator`, or torch's global generator of the device. Raises `ConfigError` for salt-and-pepper where
    values are not confined to [0, 1] as those of an `image` are: in a table or signal of continuous values, 0 and 1
    are values like any other.
    """
    check_corruption(kind, image=image)
    if kind == "gaussian":
        return gaussian(x, strength, generator, clip=image)
    if kind == "salt-and-pepper":
        return salt_and_pepper(x, strength, generator)
    if kind == "masking":
        return masking(x, strength, generator)
    return x


def check_corruption(kind: Corruption, *, image: bool) -> None:
    """Raise `ConfigError` if data of this kind cannot be corrupted so."""
    if kind == "salt-and-pepper" and not image:
        raise ConfigError("data.corruption: salt-and-pepper is for images; use gaussian or masking")
