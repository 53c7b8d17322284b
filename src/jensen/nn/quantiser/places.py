"""What all quantisers share: checks, one axis for any grid, and full precision."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.nn.quantiser.base import Quantised, Quantiser

__all__ = ["PlacewiseQuantiser", "Projection"]


class PlacewiseQuantiser(Quantiser):
    """A quantiser that does the same at every place of a grid, of one or two dimensions.

    Everything is computed in the type of its numbers (float32, or float64 after `.double()`), under autocast too, and
    so is the embedding that it returns.

    Args:
        levels: K, values that a code takes.
        dim: channels of features and embeddings.
        books: codes at each place.

    Raises:
        ValueError: not positive, or fewer than two levels.
    """

    def __init__(self, levels: int, dim: int, books: int = 1) -> None:
        super().__init__()
        if levels < 2 or dim < 1 or books < 1:
            raise ValueError(f"a quantiser needs two levels, one dimension and one book, got {levels}, {dim}, {books}")
        self.levels, self.dim, self.books = levels, dim, books
        self._number: Tensor
        self.register_buffer("_number", torch.zeros(()), persistent=False)  # of the type to compute in

    @abstractmethod
    def _quantise(self, features: Tensor) -> Quantised:
        """Of features (batch, dim, places): the same, with `places` for the grid everywhere."""

    @abstractmethod
    def _embed(self, codes: Tensor) -> Tensor:
        """Embeddings (batch, dim, places) of codes (batch, books, places)."""

    def forward(self, features: Tensor) -> Quantised:
        """Quantise features (batch, dim, *grid).

        Raises:
            ValueError: another number of channels, or a grid of no or more than two dimensions.
        """
        if features.ndim not in (3, 4) or features.shape[1] != self.dim or 0 in features.shape:
            raise ValueError(
                f"features should have shape (batch, {self.dim}, length) or (batch, {self.dim}, height, width), "
                f"got {tuple(features.shape)}"
            )
        grid = features.shape[2:]
        with torch.autocast(features.device.type, enabled=False):
            found = self._quantise(features.to(self._number.dtype).flatten(2))
        log_q = found.log_q
        return Quantised(
            found.embedding.unflatten(2, grid),
            found.codes.unflatten(2, grid),
            None if log_q is None else log_q.unflatten(2, grid),
            found.penalties,
        )

    def embed(self, codes: Tensor) -> Tensor:
        """Embeddings (batch, dim, *grid) of codes (batch, books, *grid) int64.

        Raises:
            ValueError: a code that there is not, another number of books, or no integers.
        """
        if codes.ndim not in (3, 4) or codes.shape[1] != self.books:
            raise ValueError(
                f"codes should have shape (batch, {self.books}, length) or (batch, {self.books}, height, width), "
                f"got {tuple(codes.shape)}"
            )
        if codes.dtype.is_floating_point or codes.dtype.is_complex or codes.dtype == torch.bool:
            raise ValueError(f"codes should be integers, got {codes.dtype}")
        grid, codes = codes.shape[2:], codes.long()
        if codes.numel():
            least, most = (int(value) for value in codes.aminmax())
            if least < 0 or most >= self.levels:
                raise ValueError(f"codes should be in 0 .. {self.levels - 1}, got some in {least} .. {most}")
        with torch.autocast(codes.device.type, enabled=False):
            embedding: Tensor = self._embed(codes.flatten(2)).unflatten(2, grid)
        return embedding


class Projection(nn.Linear):
    """A linear map of the channels of (batch, channels, places), the same at every place."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, places) to (batch, other channels, places)."""
        moved: Tensor = F.linear(input.transpose(1, 2), self.weight, self.bias)
        return moved.transpose(1, 2)
