"""Residual cells of NVAE (Vahdat & Kautz 2020, figures 3 and 4): skip(x) + 0.1 f(x).

Fastest with weights and images in torch's channels_last layout, and with bf16 autocast, on a CPU with AVX512-BF16 too.
Every convolution behind which a batch normalisation stands goes without a bias, which would be subtracted again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jensen.nn.checkpointing import Checkpointed
from jensen.nn.condition import Layers, Modulated, film
from jensen.nn.depthwise import Depthwise
from jensen.nn.squeeze import SqueezeExcitation

__all__ = ["Cell", "DecoderCell", "EncoderCell"]

MOMENTUM, EPS = 0.05, 1e-5
RESIDUAL = 0.1  # weight of f: a deep sum of cells starts near the identity


class Cell(Checkpointed, Modulated):
    """skip(x) + 0.1 f(x), called with (x, embedding), embedding None where there is no condition."""

    def __init__(self, f: Layers, skip: nn.Module) -> None:
        super().__init__()
        self.f = f
        self.skip = skip

    def whole(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """The sum of both branches."""
        return torch.add(self.skip(x), self.f(x, embedding), alpha=RESIDUAL)


class EncoderCell(Cell):
    """Twice batch normalisation, Swish and a 3x3 convolution, then squeeze-and-excitation (figure 3 (b)).

    (batch, before, height, width) to (batch, after, height / stride, width / stride), rounded down; the skip branch is
    the identity or, where the shape changes, a mean over stride x stride pixels and a 1x1 convolution.

    Args:
        before: channels of the input.
        after: channels of the output.
        stride: 1, or 2 to halve the image, which must then have at least 2x2 pixels.
        embedding: size of a condition's embedding that modulates the last Swish (`Film`), 0: there is none.

    Raises:
        ValueError: another stride.
    """

    def __init__(self, before: int, after: int, stride: int = 1, embedding: int = 0) -> None:
        if stride not in (1, 2):
            raise ValueError(f"an encoder cell keeps the size (stride 1) or halves it (stride 2), got stride {stride}")
        # Zeros on both sides would round the size of an odd image up.
        pad = [nn.ZeroPad2d((1, 0, 1, 0))] if stride > 1 else []
        f = Layers(
            _norm(before),
            nn.SiLU(),
            *pad,
            nn.Conv2d(before, after, 3, stride, padding=0 if pad else 1, bias=False),
            _norm(after),
            *film(embedding, after),
            nn.SiLU(),
            nn.Conv2d(after, after, 3, padding=1),
            SqueezeExcitation(after),
        )
        pool = [nn.AvgPool2d(stride)] if stride > 1 else []
        super().__init__(f, nn.Sequential(*pool, *_width(before, after, always=bool(pool))))


class DecoderCell(Cell):
    """A depthwise separable convolution of many channels (figure 3 (a)), the image first enlarged if asked for.

    Batch normalisation, 1x1 convolution to `expansion` times the channels, batch normalisation, Swish, 5x5 depthwise
    convolution, batch normalisation, Swish, 1x1 convolution, batch normalisation, squeeze-and-excitation.
    (batch, before, height, width) to (batch, after, *size); the skip branch is the identity or, where the shape
    changes, a 1x1 convolution. An enlarged pixel is its nearest neighbour's copy: what works pixel by pixel stands
    before the enlarging, where it costs less.

    Args:
        before: channels of the input.
        after: channels of the output.
        size: (height, width) to enlarge to, None: the input's.
        expansion: channels of the depthwise convolution, in multiples of `before`.
        embedding: size of a condition's embedding that modulates the last Swish (`Film`), 0: there is none.
    """

    def __init__(
        self, before: int, after: int, size: tuple[int, int] | None = None, expansion: int = 6, embedding: int = 0
    ) -> None:
        hidden = expansion * before
        enlarge = [] if size is None else [nn.Upsample(size=size)]
        f = Layers(
            _norm(before),
            nn.Conv2d(before, hidden, 1, bias=False),
            _norm(hidden),
            nn.SiLU(),
            *enlarge,
            Depthwise(hidden, 5),
            _norm(hidden),
            *film(embedding, hidden),
            nn.SiLU(),
            nn.Conv2d(hidden, after, 1, bias=False),
            _norm(after),
            SqueezeExcitation(after),
        )
        super().__init__(f, nn.Sequential(*_width(before, after, always=bool(enlarge)), *enlarge))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)


def _width(before: int, after: int, always: bool) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 1)] if always or before != after else []
