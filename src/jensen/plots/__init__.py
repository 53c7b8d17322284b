"""Every picture: arrays in, matplotlib `Figure` out, one function each.

Figures are free of pyplot's global state: they need no display and no closing. `save` writes one to a file.
"""

from __future__ import annotations

from jensen.plots.animation import save_animation
from jensen.plots.files import png, save
from jensen.plots.gradients import (
    GaussianPair,
    ascent_paths,
    fit_frame,
    gradient_field,
    near_and_far,
    passes_to_optimum,
)
from jensen.plots.images import image_grid, neighbours, reconstructions, walk
from jensen.plots.inference import elbo_curve, ellipses, intervals, relevance, topics
from jensen.plots.latent import kl_per_dimension, latent_space
from jensen.plots.matrices import emission_table, loadings, states
from jensen.plots.random_latents import Decoded, LatentProbe, random_latents
from jensen.plots.scaling import loglog_scaling
from jensen.plots.tables import table_reconstructions, table_samples
from jensen.plots.training import curves, schedule

__all__ = [
    "Decoded",
    "GaussianPair",
    "LatentProbe",
    "ascent_paths",
    "curves",
    "elbo_curve",
    "ellipses",
    "emission_table",
    "fit_frame",
    "gradient_field",
    "image_grid",
    "intervals",
    "kl_per_dimension",
    "latent_space",
    "loadings",
    "loglog_scaling",
    "near_and_far",
    "neighbours",
    "passes_to_optimum",
    "png",
    "random_latents",
    "reconstructions",
    "relevance",
    "save",
    "save_animation",
    "schedule",
    "states",
    "table_reconstructions",
    "table_samples",
    "topics",
    "walk",
]
