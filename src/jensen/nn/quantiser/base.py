"""The contract of a quantiser: features to integers, integers to embeddings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

__all__ = ["Quantised", "Quantiser"]


@dataclass(frozen=True, slots=True)
class Quantised:
    """What a quantiser makes of features (batch, dim, *grid).

    Attributes:
        embedding: what the decoder sees, (batch, dim, *grid): in value `quantiser.embed(codes)`; its gradient reaches
            the features (straight through: unchanged, unless the quantiser says otherwise).
        codes: (batch, books, *grid) int64, in 0 .. levels - 1.
        log_q: where codes are drawn, log q(code | x) of every code, (batch, books, *grid, levels); None where they are
            a function of x.
        penalties: named scalars to add to the loss, in squared units of the features: sums over dimensions, books and
            grid, averaged over the batch, their weights included.
    """

    embedding: Tensor
    codes: Tensor
    log_q: Tensor | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)


class Quantiser(nn.Module, ABC):
    """Turns features into integer codes, and codes into the embeddings that a decoder sees.

    Attributes:
        dim: channels of features and embeddings.
        levels: values that a code takes, K.
        books: codes at each place of the grid.
        stochastic: whether codes are drawn, rather than a function of the features (in evaluation too).
    """

    dim: int
    levels: int
    books: int = 1
    stochastic: bool = False

    @abstractmethod
    def forward(self, features: Tensor) -> Quantised:
        """Quantise features (batch, dim, *grid), grid of one or two dimensions.

        In training mode it may learn from them beside the gradient (moving averages, revival of unused codes).
        """

    @abstractmethod
    def embed(self, codes: Tensor) -> Tensor:
        """Embeddings (batch, dim, *grid) of codes (batch, books, *grid) int64.

        Raises:
            ValueError: a code that there is not, or another number of books.
        """

    def __call__(self, features: Tensor) -> Quantised:
        quantised: Quantised = super().__call__(features)
        return quantised
