"""Convolutional networks of stride 2 for images of any size."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from jensen.nn.blocks import activation, halvings, norm2d
from jensen.nn.condition import Layers, Modulated, film
from jensen.nn.mlp import MLP

__all__ = ["ConvDecoder", "ConvEncoder"]

HIDDEN = (256, 256)


class ConvEncoder(nn.Module, Modulated):
    """4x4 convolutions of stride 2, two hidden layers of 256: (batch, channel, height, width) to (batch, features).

    With 32 channels and `depth` None, a 64x64 image passes four convolutions down to 4x4: the encoder of Burgess et
    al. 2018 (Understanding disentangling in beta-VAE, appendix A.1). Other sizes get as many as bring the smaller side
    down to 4 pixels at most.

    Raises:
        ValueError: the image is too small for `depth`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_features: int,
        channels: int = 32,
        depth: int | None = None,
        nonlinearity: str = "relu",
        normalisation: str = "none",
        embedding: int = 0,
    ) -> None:
        super().__init__()
        sizes = halvings(shape[1:], depth)
        layers: list[nn.Module] = []
        for i in range(len(sizes) - 1):
            layers += [
                nn.Conv2d(shape[0] if i == 0 else channels, channels, 4, stride=2, padding=1),
                *norm2d(normalisation, channels),
                *film(embedding, channels),
                activation(nonlinearity),
            ]
        self.convolutions = Layers(*layers)
        kept = (channels if layers else shape[0]) * sizes[-1][0] * sizes[-1][1]
        self.head = MLP(kept, HIDDEN, out_features, nonlinearity, embedding=embedding)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        features: Tensor = self.head(self.convolutions(x, embedding).flatten(1), embedding)
        return features


class ConvDecoder(nn.Module, Modulated):
    """The transpose of `ConvEncoder`: (batch, in_features) to (batch, channel, height, width), exactly the size asked.

    Raises:
        ValueError: the image is too small for `depth`.
    """

    def __init__(
        self,
        in_features: int,
        shape: tuple[int, int, int],
        channels: int = 32,
        depth: int | None = None,
        nonlinearity: str = "relu",
        normalisation: str = "none",
        embedding: int = 0,
    ) -> None:
        super().__init__()
        sizes = halvings(shape[1:], depth)[::-1]
        first = channels if len(sizes) > 1 else shape[0]
        self.start = (first, *sizes[0])
        self.head = MLP(in_features, HIDDEN, math.prod(self.start), nonlinearity, embedding=embedding)
        layers: list[nn.Module] = []
        for i, (small, large) in enumerate(pairwise(sizes)):
            last = i == len(sizes) - 2
            # A stride-2 layer rounds odd sizes down: the padding puts the lost row or column back.
            odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])
            after = shape[0] if last else channels
            layers += [
                *film(embedding, channels),
                activation(nonlinearity),
                nn.ConvTranspose2d(channels, after, 4, stride=2, padding=1, output_padding=odd),
                *([] if last else norm2d(normalisation, after)),
            ]
        self.convolutions = Layers(*layers)

    def forward(self, z: Tensor, embedding: Tensor | None = None) -> Tensor:
        image: Tensor = self.convolutions(self.head(z, embedding).unflatten(1, self.start), embedding)
        return image
