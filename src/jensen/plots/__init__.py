"""Every picture: arrays in, matplotlib `Figure` out, one function each.

Figures are free of pyplot's global state: they need no display and no closing. `save` writes one to a file.
"""

from __future__ import annotations

from jensen.plots.animation import save_animation
from jensen.plots.calibration import confidences, reliability
from jensen.plots.codes import code_maps, code_usage
from jensen.plots.conditional import class_grid, inpainting
from jensen.plots.estimators import variance_ladder
from jensen.plots.factors import factor_matrix
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
from jensen.plots.level_kl import kl_of_levels, kl_of_levels_over_training
from jensen.plots.levels import (
    drawn_below,
    explained_by_top,
    latent_levels,
    level_names,
    shown_levels,
    top_levels,
    top_levels_of_signals,
)
from jensen.plots.matrices import emission_table, loadings, states
from jensen.plots.posterior import elbo_trace, pairs, prior_posterior
from jensen.plots.random_latents import Decoded, LatentProbe, random_latents
from jensen.plots.rate_quality import RateQuality, rate_quality
from jensen.plots.roc import most_anomalous, roc_curves
from jensen.plots.scaling import loglog_scaling
from jensen.plots.signals import signals, text_lines, text_pairs
from jensen.plots.tables import table_reconstructions, table_samples
from jensen.plots.tradeoff import TradeOff, tradeoff
from jensen.plots.training import curves, schedule
from jensen.plots.traversals import traversals

__all__ = [
    "Decoded",
    "GaussianPair",
    "LatentProbe",
    "RateQuality",
    "TradeOff",
    "ascent_paths",
    "class_grid",
    "code_maps",
    "code_usage",
    "confidences",
    "curves",
    "drawn_below",
    "elbo_curve",
    "elbo_trace",
    "ellipses",
    "emission_table",
    "explained_by_top",
    "factor_matrix",
    "fit_frame",
    "gradient_field",
    "image_grid",
    "inpainting",
    "intervals",
    "kl_of_levels",
    "kl_of_levels_over_training",
    "kl_per_dimension",
    "latent_levels",
    "latent_space",
    "level_names",
    "loadings",
    "loglog_scaling",
    "most_anomalous",
    "near_and_far",
    "neighbours",
    "pairs",
    "passes_to_optimum",
    "png",
    "prior_posterior",
    "random_latents",
    "rate_quality",
    "reconstructions",
    "relevance",
    "reliability",
    "roc_curves",
    "save",
    "save_animation",
    "schedule",
    "shown_levels",
    "signals",
    "states",
    "table_reconstructions",
    "table_samples",
    "text_lines",
    "text_pairs",
    "top_levels",
    "top_levels_of_signals",
    "topics",
    "tradeoff",
    "traversals",
    "variance_ladder",
    "walk",
]
