"""Every picture: arrays in, matplotlib `Figure` out, one function each.

Figures are free of pyplot's global state: they need no display and no closing. `save` writes one to a file.
"""

from __future__ import annotations

from jensen.plots.files import png, save
from jensen.plots.images import image_grid, neighbours, reconstructions, walk
from jensen.plots.latent import kl_per_dimension, latent_space
from jensen.plots.random_latents import Decoded, LatentProbe, random_latents
from jensen.plots.tables import table_reconstructions, table_samples
from jensen.plots.training import curves, schedule

__all__ = [
    "Decoded",
    "LatentProbe",
    "curves",
    "image_grid",
    "kl_per_dimension",
    "latent_space",
    "neighbours",
    "png",
    "random_latents",
    "reconstructions",
    "save",
    "schedule",
    "table_reconstructions",
    "table_samples",
    "walk",
]
