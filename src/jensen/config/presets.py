"""Settings of published deep VAEs by name, and small ones that train on a laptop in minutes.

Where they are published: Ladder VAE, Sønderby et al. 2016, section 3 and its code; the convolutional one, the README of
addtt/ladder-vae-pytorch; NVAE, Vahdat & Kautz 2020, table 6, and the commands and defaults of NVlabs/NVAE. What differs
from them is named in each preset's line, or here.

All: a tenth of the training data is held out for validation, by which the best weights are chosen, and the learning
rate decays from step to step, not from epoch to epoch.

ladder-conv: blocks without gates, a standard normal at the top where the published prior is learned, and grids of 7x7,
3x3 and 1x1 places.

NVAE: its models of CIFAR-10 and CelebA have a normalising flow in the posterior and see mirrored images too; its MNIST
is padded to 32x32, where ours has grids of 7x7 and 3x3 places in place of 8x8 and 4x4. Inputs lie in [0, 1], there in
[-1, 1]. Convolutions have no weight normalisation, so that the spectral penalty is on the weights themselves, there on
the normalised ones, and it counts the linear layers of squeeze-and-excitation too. Skip branches that change the size
take means over 2x2 pixels and a 1x1 convolution on the way up, nearest neighbours on the way down, there bilinear ones.
Of the posterior's mean only the change to the prior's is clamped to (-5, 5): the prior's own is free, and where it is
very large the KL loses digits in float32 (at 10,000, of a KL of 0.0991 nats 0.0945 is computed). With several GPUs
batch normalisation has the statistics of each.
"""

from __future__ import annotations

import difflib
from copy import deepcopy
from typing import Any, NamedTuple

from jensen.errors import ConfigError

__all__ = ["PRESETS", "Preset", "preset"]


class Preset(NamedTuple):
    """Settings under a name."""

    about: str
    """in a line"""
    values: dict[str, Any]
    """sections, keys and values of `jensen.config.Config`, as in a YAML file; the rest is as by default"""


def _warm_up(share: float, start: float = 0.0) -> dict[str, Any]:
    return {"kind": "linear", "start": start, "end": 1.0, "share": share}


def _sonderby(kind: str, data: str, scales: tuple[str, ...]) -> dict[str, Any]:
    """Fully connected, batch normalisation, KL warm-up over 200 of 2,000 epochs."""
    return {
        "data": {"name": data},
        "model": {
            "kind": kind,
            "likelihood": "bernoulli",
            "scales": list(scales),
            "net": {"kind": "mlp", "depth": 2, "activation": "leaky-relu", "normalisation": "batch"},
        },
        "objective": {"kl_weight": _warm_up(0.1)},
        "train": {"epochs": 2000, "batch_size": 256, "optimiser": "adam", "lr": 2e-4, "eps": 1e-4},
    }


def _nvae(
    scales: tuple[str, ...],
    *,
    downsampling: int,
    stem: int,
    spectral: float,
    epochs: int,
    batch_size: int,
    likelihood: str,
    warmup_epochs: float = 5.0,
    lr: float = 1e-2,
    lr_min: float = 1e-4,
) -> dict[str, Any]:
    """Two cells a group on each way, KL annealed over 30% of the training, Adamax with a cosine decay.

    `stem` is without the cell that changes the size, which the published number counts.
    """
    return {
        "model": {
            "kind": "nvae",
            "likelihood": likelihood,
            "scales": list(scales),
            "stem": stem,
            "downsampling": downsampling,
            "spectral": spectral,
            "net": {"kind": "cells", "depth": 2},
        },
        "objective": {"kind": "balanced", "kl_weight": _warm_up(0.3, start=1e-4)},
        "train": {
            "epochs": epochs,
            "batch_size": batch_size,
            "optimiser": "adamax",
            "lr": lr,
            "lr_min": lr_min,
            "eps": 1e-3,
            "weight_decay": 3e-4,
            "warmup_share": warmup_epochs / epochs,
            "decay": "cosine",
        },
    }


def _with(values: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """The settings with some keys of a section in place of those that they have."""
    return {**values, **{name: {**values.get(name, {}), **changes} for name, changes in sections.items()}}


_FIVE = ("64@512", "32@256", "16@128", "8@64", "4@32")
_COLOUR = "discretised-logistic-mixture"
_MINUTES = {"epochs": 100, "batch_size": 128, "lr": 1e-3}

PRESETS: dict[str, Preset] = {
    "hvae-mnist": Preset(
        "hierarchical VAE of five levels, else as ladder-mnist",
        _sonderby("hvae", "mnist", _FIVE),
    ),
    "ladder-mnist": Preset(
        "Ladder VAE of five levels, fully connected, as published", _sonderby("ladder", "mnist", _FIVE)
    ),
    "ladder-omniglot": Preset("the same on OMNIGLOT", _sonderby("ladder", "omniglot", _FIVE)),
    "ladder-conv": Preset(
        "convolutional Ladder VAE of three levels, with KL warm-up",
        {
            "data": {"name": "mnist"},
            "model": {
                "kind": "ladder",
                "likelihood": "bernoulli",
                "scales": ["32@64", "32@64", "32@64"],
                "downsampling": 4,
                "net": {"kind": "conv", "depth": 4, "activation": "elu", "normalisation": "batch"},
            },
            "objective": {"kl_weight": _warm_up(0.1)},
            "train": {"epochs": 200, "batch_size": 64, "optimiser": "adamax", "lr": 3e-4},
        },
    ),
    "nvae-mnist": Preset(
        "NVAE of 15 groups, as published: two GPUs for a day",
        _with(
            _nvae(
                ("10x20@128", "5x20@256"),
                downsampling=4,
                stem=2,
                spectral=1e-2,
                epochs=400,
                batch_size=400,
                likelihood="bernoulli",
            ),
            data={"name": "mnist"},
        ),
    ),
    "nvae-cifar10": Preset(
        "NVAE of 30 groups, published, no flow: 8 GPUs, two days",
        _with(
            _nvae(
                ("30x20@256",),
                downsampling=2,
                stem=1,
                spectral=1e-2,
                epochs=400,
                batch_size=256,
                likelihood=_COLOUR,
            ),
            data={"name": "cifar10"},
        ),
    ),
    "nvae-celeba64": Preset(
        "NVAE of 35 groups for 64x64 colours, no flow (give --data)",
        _nvae(
            ("20x20@128", "10x20@256", "5x20@512"),
            downsampling=2,
            stem=1,
            spectral=1e-1,
            epochs=90,
            batch_size=128,
            likelihood=_COLOUR,
        ),
    ),
    "hvae-small": Preset(
        "hierarchical VAE of three levels on digits: a minute",
        _with(_sonderby("hvae", "digits", ("16@128", "8@64", "4@32")), train=_MINUTES),
    ),
    "ladder-small": Preset(
        "Ladder VAE of three levels on digits: a minute",
        _with(_sonderby("ladder", "digits", ("16@128", "8@64", "4@32")), train=_MINUTES),
    ),
    "nvae-small": Preset(
        "NVAE of three groups on two scales on digits: minutes",
        _with(
            _nvae(
                ("2x4@32", "4@64"),
                downsampling=2,
                stem=1,
                spectral=1e-2,
                epochs=50,
                batch_size=64,
                likelihood="bernoulli",
                warmup_epochs=2.5,
            ),
            data={"name": "digits"},
        ),
    ),
}


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset, for ``Config(**preset("ladder-mnist"))``; a new dictionary each time, to be changed.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"no preset {name!r}{guess} (choices: {', '.join(PRESETS)})")
    return deepcopy(PRESETS[name].values)
