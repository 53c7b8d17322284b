"""Which latent knows which of the factors that made the data."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from jensen import plots
from jensen.data import Split
from jensen.metrics.disentanglement import encode_pool
from jensen.metrics.disentanglement.labelled import equal_width_bins, labelled
from jensen.metrics.disentanglement.mutual_information import entropies, mutual_information
from jensen.report.html import Picture
from jensen.report.material import Material

__all__ = ["factors"]

EXAMPLES = 10_000
BINS = 20
MOST_LATENTS = 16


def factors(material: Material, split: Split, kl: Tensor) -> Picture:
    """Mutual information of each latent with each factor.

    Args:
        material: a run whose model has a posterior.
        split: data with factors.
        kl: of each latent in nats, (latent,): the most informative come first.
    """
    pool = encode_pool(material.model, split, EXAMPLES)
    codes = pool.codes[:, -material.model.latent :]  # without a class, which stands before them
    varies = (pool.factors != pool.factors[:1]).any(0)
    names = [name for name, kept in zip(split.factor_names, varies.tolist(), strict=True) if kept]
    title = "Which latent knows which factor"
    if not names:
        return Picture("factors", title, "None of the data's factors varies, so there is nothing to know.")
    data = labelled(codes, pool.factors[:, varies], metric="the report", bins=BINS)
    matrix = mutual_information(equal_width_bins(data.codes, BINS), data.classes)
    known = entropies(data.classes)
    gaps, told = None, ""
    if len(matrix) > 1:
        first, second = np.sort(matrix, axis=0)[[-1, -2]]
        gaps = (first - second) / known
        told = (
            " Under each factor stands its mutual information gap (MIG): the best latent's lead over the second best, "
            f"as a share of all there is to know of the factor. Their mean is {gaps.mean():.2f}; 1 would be one latent "
            "a factor that knows all of it."
        )
    if material.run.config.model.prior == "learned":
        told += (
            " The model is told something of each example and its prior p(z | c) follows that: a part of this matrix, "
            "perhaps all, is what it was told."
        )
    order = kl.argsort(descending=True, stable=True)[:MOST_LATENTS].tolist()
    return Picture(
        "factors",
        title,
        f"Mutual information, in nats, of each latent's mean with each factor that made the data, from {len(data):,} "
        "training examples. The best latent of each factor is framed: in a disentangled code every factor has a latent "
        f"of its own. The scale ends at the most that there is to know of any factor.{told}",
        f"Matrix of {len(order)} latents and {len(names)} factors.",
        plots.factor_matrix(
            np.maximum(matrix, 0.0)[order], names, [f"z{place}" for place in order], gaps=gaps, entropies=known
        ),
    )
