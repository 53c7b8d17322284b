"""Exponential families: natural and mean parameters, log-partition, entropy, KL, sampling; one file each."""

from __future__ import annotations

from jensen.families.base import ExponentialFamily
from jensen.families.normal import Normal

__all__ = ["ExponentialFamily", "Normal"]
