"""Features on a grid to one or two levels of integer codes, and codes to what a decoder sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.nn.quantiser.base import Quantised, Quantiser
from jensen.nn.spatial import CONVOLUTIONS, make_spatial_decoder, make_spatial_encoder

__all__ = ["CodeHierarchy", "Codes", "code_shares"]


@dataclass(frozen=True, slots=True)
class Codes:
    """What `CodeHierarchy` makes of features (batch, features, *grid).

    Attributes:
        seen: what the decoder sees, (batch, channels, *grid).
        levels: what each quantiser made, the top level first.
    """

    seen: Tensor
    levels: tuple[Quantised, ...]

    def penalties(self) -> dict[str, Tensor]:
        """The quantisers' penalties, each the sum over levels."""
        total: dict[str, Tensor] = {}
        for level in self.levels:
            for name, value in level.penalties.items():
                total[name] = total[name] + value if name in total else value
        return total


class CodeHierarchy(nn.Module):
    """One quantiser on a grid, or two, the upper on a grid of half the size (Razavi, van den Oord & Vinyals 2019).

    With two (Generating diverse high-fidelity images with VQ-VAE-2, algorithm 1): the features are encoded further and
    quantised at the top; what is decoded from that stands beside the features as these are quantised at the bottom,
    and beside the bottom's embeddings in what the decoder sees.

    Args:
        quantisers: one or two, the top level first.
        features: channels of the features; with one quantiser its `dim`.
        grid: of the features.
        net: width, residual units, activation and normalisation of the nets between two levels.

    Raises:
        ConfigError: the grid is too small for another one of half the size.
        ValueError: the channels do not fit the quantiser, or the quantisers differ in `levels`.
    """

    def __init__(
        self, quantisers: Sequence[Quantiser], features: int, grid: tuple[int, ...], net: NetConfig | None = None
    ) -> None:
        super().__init__()
        if len({quantiser.levels for quantiser in quantisers}) != 1:
            raise ValueError(f"quantisers should have equally many codes, got {[q.levels for q in quantisers]}")
        self.quantisers = nn.ModuleList(quantisers)
        self.code_levels = quantisers[0].levels
        self.grids: tuple[tuple[int, ...], ...] = (grid,)
        self.channels = dim = quantisers[-1].dim
        self.top_encoder: nn.Module | None = None
        if len(quantisers) == 1:
            if features != dim:
                raise ValueError(f"the encoder should give {dim} features, the quantiser's dim, but gives {features}")
            return
        net, top = net or NetConfig(), quantisers[0].dim
        self.grids = (tuple(side // 2 for side in grid), grid)
        self.channels = 2 * dim
        self.top_encoder = make_spatial_encoder(net, (features, *grid), top, 2)
        self.top_decoder = make_spatial_decoder(net, top, (dim, *grid), 2)
        self.bottom: nn.Module = CONVOLUTIONS[len(grid)](features + dim, dim, 1)

    @property
    def stochastic(self) -> bool:
        """Whether codes are drawn."""
        return any(self._quantiser(i).stochastic for i in range(len(self.quantisers)))

    @property
    def code_shapes(self) -> tuple[tuple[int, ...], ...]:
        """(books, *grid) of each level, the top first."""
        return tuple((self._quantiser(i).books, *grid) for i, grid in enumerate(self.grids))

    def nets(self) -> list[nn.Module]:
        """The networks between two levels."""
        return [] if self.top_encoder is None else [self.top_encoder, self.top_decoder]

    def forward(self, features: Tensor, likeliest: bool = False) -> Codes:
        """Quantise features (batch, features, *grid).

        Args:
            features: from the encoder.
            likeliest: take the most probable codes where the quantiser draws them, and let it learn nothing from these
                features even in training mode.
        """
        if self.top_encoder is None:
            only = self._quantise(0, features, likeliest)
            return Codes(only.embedding, (only,))
        top = self._quantise(0, self.top_encoder(features), likeliest)
        told = self.top_decoder(top.embedding)
        bottom = self._quantise(1, self.bottom(torch.cat([features, told], 1)), likeliest)
        return Codes(torch.cat([bottom.embedding, told], 1), (top, bottom))

    def embed(self, codes: Sequence[Tensor]) -> Tensor:
        """What the decoder sees of codes (batch, books, *grid) of each level, top first: (batch, channels, *grid).

        Raises:
            ValueError: a code that there is not.
        """
        embeddings = [self._quantiser(i).embed(level) for i, level in enumerate(codes)]
        return embeddings[0] if len(codes) == 1 else torch.cat([embeddings[1], self.top_decoder(embeddings[0])], 1)

    def _quantise(self, level: int, features: Tensor, likeliest: bool) -> Quantised:
        quantiser = self._quantiser(level)
        if not likeliest:
            return quantiser(features)
        training = quantiser.training
        quantised = quantiser.eval()(features)
        quantiser.train(training)
        if quantised.log_q is None:
            return quantised
        codes = quantised.log_q.argmax(-1)
        return replace(quantised, codes=codes, embedding=quantiser.embed(codes))

    def _quantiser(self, level: int) -> Quantiser:
        quantiser = self.quantisers[level]
        assert isinstance(quantiser, Quantiser)
        return quantiser

    def __call__(self, features: Tensor, likeliest: bool = False) -> Codes:
        codes: Codes = super().__call__(features, likeliest)
        return codes


def code_shares(codes: Tensor, levels: int) -> Tensor:
    """How often each of the K codes occurs among (samples, batch, books, *grid), as shares, (books, K)."""
    rows = codes.flatten(0, 1).movedim(1, 0).flatten(1)
    counts = torch.zeros(len(rows), levels, device=codes.device)
    counts.scatter_add_(1, rows, counts.new_ones(()).expand_as(rows))
    return counts / rows.shape[1]
