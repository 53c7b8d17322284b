"""Vector quantisation: the nearest of K embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from jensen.nn.quantiser.base import Quantised
from jensen.nn.quantiser.codebook import Codebook
from jensen.nn.quantiser.places import PlacewiseQuantiser, Projection

__all__ = ["COSINE_DIM", "VectorQuantiser", "lookup_space", "weighted"]

COSINE_DIM = 8  # of the space of angles: Yu et al. 2022 (Vector-quantized image modeling, table 4) found 4 to 32 best


class VectorQuantiser(PlacewiseQuantiser):
    """The nearest of K embeddings, by Euclidean distance or by angle (van den Oord et al. 2017, eq. 1 to 3).

    The gradient at the embedding goes to the features unchanged (straight through). Penalties, with z_e the features
    and e their embeddings,

        codebook: ||sg[z_e] - e||^2 (only for codebooks learned by loss),    commitment: beta ||z_e - sg[e]||^2,

    are sums over places and dimensions, averaged over the batch, like all terms in nats of an example: the same for any
    batch size, and of the same weight against the likelihood for any size of image.

    Sonnet's loss, mean((x - y)^2) / var(x) + beta' mean((z_e - e)^2), has means over all elements. Its first term times
    D_x / 2, for D_x values in x, is the negative log-likelihood in nats of a Gaussian with sigma^2 = var(x), up to a
    constant. So its setting beta' is here

        beta = beta' D_x / (2 places D),

    the codebook loss of weight D_x / (2 places D) only scaling the step of the codebook. On 32 x 32 colour images with
    8 x 8 codes of 64 dimensions, 0.25 there is 0.094 here.

    Args:
        levels: K.
        dim: channels of features and embeddings.
        codebook: learned by moving averages (ema) or by the codebook penalty (loss): see `Codebook`.
        decay: of the moving averages.
        commitment: beta.
        initial: first embeddings: k-means of the first batch in training, or random.
        revival: codes used less than this share of the mean are put on features of the batch; 0: never.
        cosine: features and embeddings are scaled to length 1. Penalties are then of those.
        projection: dimensions of the space in which codes are looked up, by linear maps there and back (Yu et al.
            2022); None: that of the features, or for `cosine` at most 8. Without maps where it equals `dim`. Penalties
            are of that space.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        levels: int = 512,
        dim: int = 64,
        *,
        codebook: Literal["ema", "loss"] = "ema",
        decay: float = 0.99,
        commitment: float = 0.25,
        initial: Literal["k-means", "random"] = "k-means",
        revival: float = 0.1,
        cosine: bool = False,
        projection: int | None = None,
    ) -> None:
        super().__init__(levels, dim)
        self.commitment = commitment
        self.into, self.out, inner = lookup_space(dim, projection, cosine, commitment)
        self.codebook = Codebook(
            levels, inner, learned=codebook, decay=decay, initial=initial, revival=revival, cosine=cosine
        )

    def _quantise(self, features: Tensor) -> Quantised:
        found = self.codebook(self.into(features))
        return Quantised(
            self.out(found.embedding), found.codes[:, None], penalties=weighted(found.penalties, self.commitment)
        )

    def _embed(self, codes: Tensor) -> Tensor:
        embedding: Tensor = self.out(self.codebook.lookup(codes[:, 0]))
        return embedding


def lookup_space(dim: int, projection: int | None, cosine: bool, commitment: float) -> tuple[nn.Module, nn.Module, int]:
    """Maps from features of `dim` channels to the space of the codes and back, and its dimension.

    Raises:
        ValueError: a number is out of its range.
    """
    if commitment < 0 or (projection is not None and projection < 1):
        raise ValueError(f"commitment should be 0 or more and projection positive, got {commitment} and {projection}")
    if projection is None:
        projection = min(dim, COSINE_DIM) if cosine else dim
    if projection == dim:
        return nn.Identity(), nn.Identity(), dim
    return Projection(dim, projection), Projection(projection, dim), projection


def weighted(penalties: Mapping[str, Tensor], commitment: float) -> dict[str, Tensor]:
    """With the weight of the commitment; the codebook's is 1."""
    return {name: commitment * value if name == "commitment" else value for name, value in penalties.items()}
