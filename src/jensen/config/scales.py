"""The architecture of a deep VAE, in a word a scale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["DEFAULT_SCALES", "Scale", "parse_scales"]

WORD = re.compile(r"(?:(\d+)x)?(\d+)@(\d+)")

DEFAULT_SCALES: dict[str, tuple[str, ...]] = {
    "mlp": ("64@512", "32@256", "16@128", "8@64", "4@32"),
    "conv": ("2x8@32", "2x16@64"),
    "cells": ("2x8@32", "2x16@64"),
}
"""By kind of net; mlp: Sønderby et al. 2016, section 3."""


class Scale(NamedTuple):
    """Some groups of latents that see as many features.

    Attributes:
        groups: levels of the hierarchy on this scale.
        latents: latent numbers of a group (of a fully connected net), or channels of latents.
        width: units or channels of the nets.
    """

    groups: int
    latents: int
    width: int


def parse_scales(words: Sequence[str]) -> tuple[Scale, ...]:
    """Scales from words ``[GROUPSx]LATENTS@WIDTH``, e.g. ``64@512`` or ``10x20@64``.

    Raises:
        ValueError: a word is none such, a number in it is 0, there are none, or one string is given in their place.
    """
    if isinstance(words, str):
        raise ValueError(f"scales should be several words, e.g. [{words!r}], but is the string {words!r}")
    if not words:
        raise ValueError("scales should have at least one word, e.g. 64@512")
    scales = []
    for word in words:
        match = WORD.fullmatch(word.strip())
        if match is None:
            raise ValueError(f"scale {word!r} should be LATENTS@WIDTH or GROUPSxLATENTS@WIDTH, e.g. 64@512 or 10x20@64")
        scale = Scale(*(int(number or 1) for number in match.groups()))
        if min(scale) < 1:
            raise ValueError(f"scale {word!r} should have no zeros, e.g. 64@512 or 10x20@64")
        scales.append(scale)
    return tuple(scales)
