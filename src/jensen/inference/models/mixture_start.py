"""Where a mixture's inference begins: rows labelled by k-means or by their nearest of K random rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from torch import Generator, Tensor

from jensen.inference.models.mixture import MixturePrior, updated
from jensen.inference.models.mixture_kernels import Points, statistics

__all__ = ["Init", "MixtureStart", "initial_labels"]

Init: TypeAlias = Literal["kmeans", "random"]

_MOST_ROWS = 20_000
"""that k-means looks at; the others join their nearest centre"""
_ROWS = 8192


@dataclass
class MixtureStart:
    """First q of weights and components, drawn together: `Latent.start` of each is a method of one object.

    Args:
        init: "kmeans", or "random": K different rows as centres.
        process: whether the weights are those of a Dirichlet process. Components are numbered by size then, and starts
            have K, K/2, K/4, ..., 1 clusters in turn: rows once spread over too many components rarely come together.
    """

    prior: MixturePrior
    points: Points
    count: int
    init: Init = "kmeans"
    process: bool = False
    _drawn: dict[str, Any] = field(default_factory=dict, repr=False)
    _starts: int = 0

    def weights(self, generator: Generator) -> Any:
        """A new start; its weights."""
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        clusters = self.count >> self._starts % self.count.bit_length() if self.process else self.count
        self._starts += 1
        labels = initial_labels(self.points, clusters, self.init, seed)
        if self.process:
            sizes = torch.bincount(labels, minlength=self.count)
            labels = torch.argsort(torch.argsort(sizes, descending=True, stable=True))[labels]
        sums = statistics(labels, self.points, self.count)
        self._drawn = updated(self.prior, sums, self.points.scatter if self.prior.covariance == "tied" else None)
        return self._drawn["weights"]

    def components(self, generator: Generator) -> Any:
        """The components of the start that `weights` drew."""
        return self._drawn["components"]


def initial_labels(points: Points, count: int, init: Init, seed: int) -> Tensor:
    """A component for each row, shape (N,). With fewer different rows than components, some stay empty.

    Distances are in units of the columns' standard deviations, but for spherical covariances, which know one unit.
    """
    rng = np.random.RandomState(seed)
    chosen = rng.choice(len(points), _MOST_ROWS, replace=False) if len(points) > _MOST_ROWS else slice(None)
    rows = points.x[torch.as_tensor(chosen) if isinstance(chosen, np.ndarray) else chosen].cpu().numpy()
    deviation = rows.std(0)
    unit = np.where(deviation > 0, deviation, 1.0) if points.covariance != "spherical" else np.ones(rows.shape[1])
    different = np.unique(rows / unit, axis=0)
    if init == "kmeans":
        clusters = min(count, len(different))
        centres = KMeans(clusters, n_init=1, random_state=rng).fit(rows / unit).cluster_centers_
    elif init == "random":
        centres = different[rng.permutation(len(different))[:count]]
    else:
        raise ValueError(f"init must be 'kmeans' or 'random', got {init!r}")
    return _nearest(points.x, centres * unit, unit)


def _nearest(x: Tensor, centres: npt.NDArray[np.float64], unit: npt.NDArray[np.float64]) -> Tensor:
    scale = torch.as_tensor(1 / unit).to(x)
    targets = torch.as_tensor(centres).to(x) * scale
    return torch.cat([torch.cdist(rows * scale, targets).argmin(1) for rows in x.split(_ROWS)])
