"""k-means of a batch of features, for the first codes of a codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jensen.nn.quantiser.nearest import assign, nearest

__all__ = ["k_means", "spread_rows"]

ROUNDS = 8  # in which seeds are drawn
FEATURES_A_CODE = 64  # more do not make better first codes


@torch.no_grad()
def k_means(rows: Tensor, codes: int, *, iterations: int = 10, on_sphere: bool = False) -> tuple[Tensor, Tensor]:
    """Centroids (codes, dim) of rows (n, dim), and how many rows each has, (codes,).

    Seeds are drawn in a few rounds, each by the squared distance to the seeds of the rounds before: k-means++ (Arthur &
    Vassilvitskii 2007) with many seeds at a time, as in Bahmani et al. 2012. Then Lloyd's iterations on at most
    64 rows a code. A centroid without rows stays where it is. With fewer rows than codes the others lie scattered
    around rows.

    Args:
        rows: float32 or wider, at least one.
        codes: number of centroids.
        iterations: of Lloyd's.
        on_sphere: rows have length 1, and so have the centroids.
    """
    share = max(1.0, len(rows) / (FEATURES_A_CODE * codes))
    if share > 1:
        rows = rows[torch.randperm(len(rows), device=rows.device)[: FEATURES_A_CODE * codes]]
    centroids = _seeds(rows, codes)
    if on_sphere:
        centroids = F.normalize(centroids, dim=1)
    counts = rows.new_zeros(codes)
    for _ in range(iterations):
        found = assign(rows.t()[None], centroids, statistics=True)
        assert found.counts is not None
        assert found.sums is not None
        counts, means = found.counts, found.sums / found.counts.clamp(min=1)[:, None]
        moved = F.normalize(means, dim=1) if on_sphere else means
        centroids = torch.where(counts[:, None] > 0, moved, centroids)
    return centroids, counts * share


def spread_rows(rows: int, count: int, device: torch.device) -> Tensor:
    """Indices of `count` rows at random, (count,): each once, or as nearly as often as can be."""
    return torch.randperm(rows, device=device)[torch.arange(count, device=device) % rows]


def _seeds(rows: Tensor, codes: int) -> Tensor:
    if len(rows) <= codes:
        seeds = rows[torch.arange(codes, device=rows.device) % len(rows)].clone()
        # Not all at one point: as features move, those that no feature chose yet get some.
        seeds[len(rows) :] += 0.1 * rows.std(0, correction=0) * torch.randn_like(seeds[len(rows) :])
        return seeds
    seeds = rows[spread_rows(len(rows), -(-codes // ROUNDS), rows.device)]
    apart = (rows - seeds[nearest(rows, seeds)]).square().sum(1)
    while len(seeds) < codes:
        # The largest of d^2 / Exponential(1) are a draw without replacement by d^2, also where many are 0.
        keys = apart / torch.empty_like(apart).exponential_().clamp(min=torch.finfo(apart.dtype).tiny)
        new = rows[keys.topk(min(-(-codes // ROUNDS), codes - len(seeds))).indices]
        apart = torch.minimum(apart, (rows - new[nearest(rows, new)]).square().sum(1))
        seeds = torch.cat([seeds, new])
    return seeds
