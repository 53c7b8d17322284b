"""Devices, precision and processes."""

from __future__ import annotations

import logging

from lightning_fabric import Fabric

from jensen.config import TrainConfig
from jensen.errors import ConfigError

__all__ = ["make_fabric"]


def make_fabric(config: TrainConfig) -> Fabric:
    """Devices, precision and processes as the configuration asks.

    Raises:
        ConfigError: this machine has no such accelerator, or fewer devices.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces what the user has just asked for
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=config.strategy,
            precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        )
    except (ValueError, RuntimeError, ImportError) as error:
        raise ConfigError(f"train: these devices cannot be used: {' '.join(str(error).split())}") from None
    if config.batch_size % (config.devices * config.nodes):
        raise ConfigError(
            f"train: batch_size {config.batch_size} should be a multiple of the {config.devices * config.nodes} devices"
        )
    fabric.launch()
    return fabric
