"""Residual networks for images of any size."""

from __future__ import annotations

from torch import Tensor, nn

from jensen.nn.blocks import activation, halvings, norm2d
from jensen.nn.condition import Layers, Modulated, film

__all__ = ["ResidualBlock", "ResnetDecoder", "ResnetEncoder"]


class ResidualBlock(nn.Module, Modulated):
    """x + f(x), f two 3x3 convolutions, each behind normalisation and nonlinearity (He et al. 2016)."""

    def __init__(self, channels: int, nonlinearity: str, normalisation: str, embedding: int = 0) -> None:
        super().__init__()
        self.f = Layers(
            *norm2d(normalisation, channels),
            *film(embedding, channels),
            # What comes in is also the identity path: an in-place nonlinearity would overwrite it.
            activation(nonlinearity, inplace=False),
            nn.Conv2d(channels, channels, 3, padding=1),
            *norm2d(normalisation, channels),
            *film(embedding, channels),
            activation(nonlinearity),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        out: Tensor = x + self.f(x, embedding)
        return out


class ResnetEncoder(nn.Module, Modulated):
    """Residual blocks between stride-2 convolutions; channels double with each halving, up to four times `channels`.

    (batch, channel, height, width) to (batch, features).

    Args:
        shape: (channel, height, width) of the image.
        out_features: size of the output.
        channels: channels at full size.
        blocks: residual blocks a size.
        nonlinearity: name of the activation.
        normalisation: none, batch or group.
        embedding: size of a condition's embedding that modulates every hidden layer (`Film`), 0: there is none.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        out_features: int,
        channels: int = 32,
        blocks: int = 1,
        nonlinearity: str = "relu",
        normalisation: str = "none",
        embedding: int = 0,
    ) -> None:
        super().__init__()
        sizes = halvings(shape[1:], None)
        widths = _widths(channels, len(sizes))
        layers: list[nn.Module] = [nn.Conv2d(shape[0], widths[0], 3, padding=1)]
        for i, width in enumerate(widths):
            if i > 0:
                layers.append(nn.Conv2d(widths[i - 1], width, 4, stride=2, padding=1))
            layers += [ResidualBlock(width, nonlinearity, normalisation, embedding) for _ in range(blocks)]
        self.body = Layers(*layers, *film(embedding, widths[-1]), activation(nonlinearity))
        self.head = nn.Linear(widths[-1] * sizes[-1][0] * sizes[-1][1], out_features)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        features: Tensor = self.head(self.body(x, embedding).flatten(1))
        return features


class ResnetDecoder(nn.Module, Modulated):
    """The mirror of `ResnetEncoder`, enlarging by nearest neighbours: (batch, in_features) to (batch, *shape)."""

    def __init__(
        self,
        in_features: int,
        shape: tuple[int, int, int],
        channels: int = 32,
        blocks: int = 1,
        nonlinearity: str = "relu",
        normalisation: str = "none",
        embedding: int = 0,
    ) -> None:
        super().__init__()
        sizes = halvings(shape[1:], None)[::-1]
        widths = _widths(channels, len(sizes))[::-1]
        self.start = (widths[0], *sizes[0])
        self.head = nn.Linear(in_features, widths[0] * sizes[0][0] * sizes[0][1])
        layers: list[nn.Module] = []
        for i, width in enumerate(widths):
            if i > 0:
                layers += [nn.Upsample(size=sizes[i]), nn.Conv2d(widths[i - 1], width, 3, padding=1)]
            layers += [ResidualBlock(width, nonlinearity, normalisation, embedding) for _ in range(blocks)]
        last = nn.Conv2d(widths[-1], shape[0], 3, padding=1)
        self.body = Layers(*layers, *film(embedding, widths[-1]), activation(nonlinearity), last)

    def forward(self, z: Tensor, embedding: Tensor | None = None) -> Tensor:
        image: Tensor = self.body(self.head(z).unflatten(1, self.start), embedding)
        return image


def _widths(channels: int, sizes: int) -> list[int]:
    return [channels * min(2**i, 4) for i in range(sizes)]
