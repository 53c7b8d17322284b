"""Walks between codes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["path_between"]


def path_between(start: Tensor, end: Tensor, steps: int, path: Literal["linear", "spherical"] = "linear") -> Tensor:
    """Points from `start` to `end`, both included: (steps, latent).

    spherical (White 2016, Sampling generative networks) turns the direction at constant angular speed while the length
    goes linearly, so that midpoints keep the length that draws of N(0, I) have; a linear path passes near the centre,
    where in many dimensions the prior has no mass. Where the two are (anti)parallel it is the linear path.

    Raises:
        ValueError: fewer than two steps, or no such path.
    """
    if steps < 2:
        raise ValueError(f"steps should be at least 2, got {steps}")
    if path not in ("linear", "spherical"):
        raise ValueError(f"path should be linear or spherical, got {path!r}")
    t = torch.linspace(0.0, 1.0, steps, dtype=start.dtype, device=start.device)[:, None]
    linear = torch.lerp(start, end, t)
    lengths = torch.stack([start.norm(), end.norm()])
    cosine = (start @ end) / lengths.prod().clamp_min(1e-12)
    angle = torch.acos(cosine.clamp(-1.0, 1.0))
    if path == "linear" or lengths.min() < 1e-6 or angle < 1e-4 or angle > math.pi - 1e-4:
        return linear
    direction = (
        torch.sin((1 - t) * angle) * start / lengths[0] + torch.sin(t * angle) * end / lengths[1]
    ) / angle.sin()
    return direction * torch.lerp(lengths[0], lengths[1], t)
