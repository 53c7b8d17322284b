"""Residual quantisation: several codebooks, each of what the ones before have left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from jensen.nn.quantiser.base import Quantised
from jensen.nn.quantiser.codebook import Codebook
from jensen.nn.quantiser.nearest import StraightThrough
from jensen.nn.quantiser.places import PlacewiseQuantiser
from jensen.nn.quantiser.vector import lookup_space, weighted

__all__ = ["ResidualQuantiser"]


class ResidualQuantiser(PlacewiseQuantiser):
    """The sum of `books` embeddings, the i-th the one nearest to what the sum of those before has left.

    r_1 = z_e, r_{i+1} = r_i - sg[e_i], e_i the nearest to r_i in book i (Zeghidour et al. 2021, SoundStream, algorithm
    1). The gradient goes through the sum unchanged. Penalties are sums over the books of ||sg[r_i] - e_i||^2 and beta
    ||r_i - sg[e_i]||^2, like those of `VectorQuantiser`.

    With `cosine` each book tells only the direction of what is left, so sums of several books need not come closer.

    Args:
        levels: K of each book.
        dim: channels of features and embeddings.
        books: number of codebooks.
        codebook, decay, commitment, initial, revival, cosine, projection: as in `VectorQuantiser`, for all books; the
            projection is one for all.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        levels: int = 512,
        dim: int = 64,
        *,
        books: int = 4,
        codebook: Literal["ema", "loss"] = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        initial: Literal["k-means", "random"] = "k-means",
        revival: float = 0.1,
        cosine: bool = False,
        projection: int | None = None,
    ) -> None:
        super().__init__(levels, dim, books)
        self.commitment = commitment
        self.into, self.out, inner = lookup_space(dim, projection, cosine, commitment)
        self.codebooks = nn.ModuleList(
            Codebook(levels, inner, learned=codebook, decay=decay, initial=initial, revival=revival, cosine=cosine)
            for _ in range(books)
        )

    def _quantise(self, features: Tensor) -> Quantised:
        features = self.into(features)
        left, total, codes = features, torch.zeros_like(features), []
        penalties: dict[str, Tensor] = {}
        for book in self._books():
            found = book(left)
            nearest = found.embedding.detach()
            left, total = left - nearest, total + nearest
            codes.append(found.codes)
            penalties = {name: penalties.get(name, 0.0) + value for name, value in found.penalties.items()}
        embedding = StraightThrough.apply(features, total)  # type: ignore[no-untyped-call]
        return Quantised(self.out(embedding), torch.stack(codes, 1), penalties=weighted(penalties, self.commitment))

    def _embed(self, codes: Tensor) -> Tensor:
        first, *others = (book.lookup(code) for book, code in zip(self._books(), codes.unbind(1), strict=True))
        embedding: Tensor = self.out(sum(others, start=first))
        return embedding

    def _books(self) -> Iterator[Codebook]:
        for book in self.codebooks:
            assert isinstance(book, Codebook)
            yield book
