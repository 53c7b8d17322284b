"""A codebook that is learned and stays alive: the part that vector and residual quantisers share."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.nn.quantiser.k_means import k_means, spread_rows
from jensen.nn.quantiser.nearest import assign

__all__ = ["Codebook", "Found", "unit"]

SMOOTHING = 1e-5  # Laplace's, of the counts: as if every code had been used this often
SHORTEST = 1e-4  # length below which a feature is not scaled to 1, so that its gradient stays bounded
FEATURES_FOR_INITIAL = 2**18  # at most, over all devices
BATCHES_JUDGED = 10  # of recent use, if they have a feature for every code


class Found(NamedTuple):
    """Codes of features (batch, dim, places).

    Attributes:
        embedding: (batch, dim, places), with the straight-through gradient.
        codes: (batch, places) int64.
        penalties: `commitment`, and `codebook` where that is learned by it; summed over dimensions and places,
            averaged over the batch, without weights.
    """

    embedding: Tensor
    codes: Tensor
    penalties: dict[str, Tensor]


class Codebook(nn.Module):
    """K embeddings, (levels, dim), of which the nearest stands for a feature.

    Learned by moving averages (van den Oord et al. 2017, appendix A.1): with n_k features whose nearest code is k, of
    sum s_k,

        N_k <- decay N_k + (1 - decay) n_k,    m_k <- decay m_k + (1 - decay) s_k,    e_k = m_k / N'_k,

    N'_k the counts with Laplace smoothing, (N_k + eps) N / (N + K eps), N = sum_k N_k; or by the gradient of
    ||sg[z] - e||^2. With torch.distributed, n_k and s_k are sums over all processes, and what is random comes from the
    first: codebooks stay equal. Every process is expected to have as many features.

    In training, before features are looked up:
    - the first batch gives the first codes, the centroids of its k-means (`initial="k-means"`);
    - a code used less than `revival` times as often as the mean is put on a random feature of the batch, and counts as
      used as often as the mean, so it gets a fair time to find its use. What counts is a moving average over some ten
      batches (as many more as batches have too few features for ten a code), not N_k: that needs hundreds of steps to
      tell that a code is dead.

    All of its state is in `state_dict`.

    Args:
        levels: K.
        dim: dimension of features and embeddings.
        learned: ema (moving averages) or loss (a parameter).
        decay: of the moving averages (ema).
        initial: k-means, or random: normal with variance 1 / dim.
        revival: share of the mean use below which a code is moved; 0: never.
        cosine: features and embeddings are scaled to length 1, so that the nearest is the one of least angle.
    """

    def __init__(
        self,
        levels: int,
        dim: int,
        *,
        learned: Literal["ema", "loss"] = "ema",
        decay: float = 0.99,
        initial: Literal["k-means", "random"] = "k-means",
        revival: float = 0.1,
        cosine: bool = False,
    ) -> None:
        super().__init__()
        self.levels, self.dim, self.learned, self.decay, self.revival = levels, dim, learned, decay, revival
        self.initial, self.cosine = initial, cosine
        self.embedding: Tensor
        self.usage: Tensor
        self.sums: Tensor
        self.recent: Tensor
        self.started: Tensor
        embedding = torch.randn(levels, dim) / dim**0.5
        if cosine:
            embedding = unit(embedding, 1)
        if learned == "loss":
            self.embedding = nn.Parameter(embedding)
        else:
            self.register_buffer("embedding", embedding)
            self.register_buffer("sums", embedding.clone())
            self.register_buffer("usage", torch.ones(levels))
        self.register_buffer("recent", torch.ones(levels))
        # Not a bool: gloo sends none.
        self.register_buffer("started", torch.tensor(int(initial == "random")))
        self._has_started: bool | None = None  # of the buffer, where known: a look at it would wait for the device

    def forward(self, features: Tensor) -> Found:
        """Codes of features (batch, dim, places), of the embeddings' type."""
        if self.cosine:
            features = unit(features, 1)
        if self.training:
            self._keep_alive(features.detach())
        found = assign(features, self.values(), statistics=self.training)
        if found.counts is not None and found.sums is not None:
            self._count(found.counts, found.sums, found.codes.numel())
        penalties = {"commitment": found.commitment / len(features)}
        if self.learned == "loss":
            penalties["codebook"] = found.distance / len(features)
        return Found(found.embedding, found.codes, penalties)

    def lookup(self, codes: Tensor) -> Tensor:
        """Embeddings (batch, dim, places) of codes (batch, places) int64."""
        return F.embedding(codes, self.values()).transpose(1, 2)

    def values(self) -> Tensor:
        """The embeddings as they are used, (levels, dim)."""
        return unit(self.embedding, 1) if self.cosine else self.embedding

    def extra_repr(self) -> str:
        """What it is made of."""
        return (
            f"levels={self.levels}, dim={self.dim}, learned={self.learned!r}, decay={self.decay}, "
            f"initial={self.initial!r}, revival={self.revival}, cosine={self.cosine}"
        )

    @torch.no_grad()
    def _keep_alive(self, features: Tensor) -> None:
        """First codes, or revival, from features (batch, dim, places)."""
        if self._has_started is None:
            self._has_started = bool(self.started)
        if not self._has_started:
            self._start(features)
        elif self.revival > 0:
            dead = self.recent < self.revival * self.recent.mean()
            chosen = spread_rows(features.shape[0] * features.shape[2], self.levels, features.device)
            self._put(dead, _from_first(_rows(features, chosen)))

    def _start(self, features: Tensor) -> None:
        every = features.shape[0] * features.shape[2]
        world = dist.get_world_size() if _distributed() else 1
        most = max(1, FEATURES_FOR_INITIAL // world)
        # In their order where all are taken: the joint batch is then that of a single process.
        chosen = torch.arange(every, device=features.device)
        if every > most:
            chosen = torch.randperm(every, device=features.device)[:most]
        rows = _gathered(_rows(features, chosen))
        if not _distributed() or dist.get_rank() == 0:
            centroids, counts = k_means(rows, self.levels, on_sphere=self.cosine)
            counts = counts * (every * world / len(rows))
        else:
            centroids, counts = torch.empty_like(self.embedding), torch.empty_like(self.recent)
        centroids, counts = _from_first(centroids), _from_first(counts)
        self.embedding.copy_(centroids)
        self.recent.copy_(counts)
        if self.learned == "ema":
            self.usage.copy_(counts.clamp(min=1.0))  # a centroid without features stays where it is
            self.sums.copy_(centroids * self.usage[:, None])
        self.started.fill_(1)
        self._has_started = True

    def _put(self, where: Tensor, embedding: Tensor) -> None:
        """Put the codes at `where` to an embedding, with the mean use; without waiting for the device."""
        self.recent.copy_(torch.where(where, self.recent.mean(), self.recent))
        self.embedding.copy_(torch.where(where[:, None], embedding, self.embedding))
        if self.learned == "ema":
            self.usage.copy_(torch.where(where, self.usage.mean(), self.usage))
            self.sums.copy_(torch.where(where[:, None], embedding * self.usage[:, None], self.sums))

    @torch.no_grad()
    def _count(self, counts: Tensor, sums: Tensor, features: int) -> None:
        """One step of the moving averages, after so many features."""
        if _distributed():
            dist.all_reduce(counts)
            features = features * dist.get_world_size()
        self.recent.lerp_(counts, min(1.0, features / self.levels) / BATCHES_JUDGED)
        if self.learned == "loss":
            return
        if _distributed():
            dist.all_reduce(sums)
        self.usage.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        if self.cosine:  # the length, which the counts are for, is 1; what has faded away stays where it was
            lengths = self.sums.norm(dim=1, keepdim=True)
            seen = lengths > torch.finfo(lengths.dtype).tiny
            self.embedding.copy_(torch.where(seen, self.sums / lengths, self.embedding))
            return
        total = self.usage.sum()
        smooth = (self.usage + SMOOTHING) * (total / (total + self.levels * SMOOTHING))
        self.embedding.copy_(self.sums / smooth[:, None])

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._has_started = None


def unit(values: Tensor, dim: int) -> Tensor:
    """`values` scaled to length 1 along `dim`; what is shorter than 1e-4 becomes not that long."""
    return F.normalize(values, dim=dim, eps=SHORTEST)


def _rows(features: Tensor, chosen: Tensor) -> Tensor:
    """Rows (n, dim) of features (batch, dim, places), by their number example by example."""
    places = features.shape[2]
    return features[chosen // places, :, chosen % places]


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _from_first(values: Tensor) -> Tensor:
    """Those of the first process, in all."""
    if _distributed():
        values = values.contiguous()
        dist.broadcast(values, src=0)
    return values


def _gathered(rows: Tensor) -> Tensor:
    """Rows of all processes, those of the first process first."""
    if not _distributed():
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
