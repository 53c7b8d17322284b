"""Residual cells of NVAE (Vahdat & Kautz 2020, figures 3 and 4): skip(x) + 0.1 f(x).

Fastest with weights and images in torch's channels_last layout, and with bf16 autocast, on a CPU with AVX512-BF16 too.
Every convolution behind which a batch normalisation stands goes without a bias, which would be subtracted again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from jensen.nn.condition import Layers, Modulated, film

__all__ = ["Cell", "DecoderCell", "Depthwise", "EncoderCell", "SqueezeExcitation"]

MOMENTUM, EPS = 0.05, 1e-5
RESIDUAL = 0.1  # weight of f: a deep sum of cells starts near the identity


class SqueezeExcitation(nn.Module):
    """Each channel times a gate in (0, 1), made of the means of all channels (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.net = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def gate(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) to (batch, channels, 1, 1)."""
        gate: Tensor = self.net(x.mean((2, 3)))
        return gate[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Depthwise(nn.Conv2d):
    """Each channel convolved with an odd kernel of its own, no bias, the size kept."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))
            out: Tensor = _LowPrecisionDepthwise.apply(x, self.weight)  # type: ignore[no-untyped-call]
            return out
        return super().forward(x)


class _LowPrecisionDepthwise(torch.autograd.Function):
    """The same, the gradient of the float32 weights as a depthwise convolution, too: of images by their gradients.

    torch's own way to it is six times slower on a CPU in bf16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        padding = weight.shape[-1] // 2
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            # The kernel is odd, so that the transposed convolution keeps the size as well.
            of_x = F.conv_transpose2d(gradient, weight.to(x.dtype), padding=padding, groups=len(weight))
        if ctx.needs_input_grad[1]:
            planes, kernels = x.contiguous().flatten(0, 1), gradient.contiguous().flatten(0, 1)[:, None]
            each = F.conv2d(planes[None], kernels, padding=padding, groups=len(planes))
            of_weight = each.view(len(x), *weight.shape).sum(0, dtype=weight.dtype)
        return of_x, of_weight


class Cell(nn.Module, Modulated):
    """skip(x) + 0.1 f(x), called with (x, embedding), embedding None where there is no condition.

    With `checkpointing` a training pass keeps only the cell's input and computes the rest again for the gradient: the
    same gradients and running statistics for less memory and another forward pass. (Ignored under torch.compile, which
    decides itself what it keeps.)

    Args:
        f: the residual branch.
        skip: the other branch.
    """

    checkpointing: bool = False

    def __init__(self, f: Layers, skip: nn.Module) -> None:
        super().__init__()
        self.f = f
        self.skip = skip

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        keep = not (self.checkpointing and self.training and torch.is_grad_enabled())
        if keep or torch.compiler.is_compiling():
            return self.whole(x, embedding)
        out: Tensor = checkpoint(
            self.whole, x, embedding, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts
        )
        return out

    def whole(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """The sum of both branches."""
        return torch.add(self.skip(x), self.f(x, embedding), alpha=RESIDUAL)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _StatisticsKept(self)


class _StatisticsKept(AbstractContextManager[None]):
    """The running statistics of batch normalisation, which know of this batch already, stay as they are."""

    def __init__(self, net: nn.Module) -> None:
        norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
        self.norms = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]

    def __enter__(self) -> None:
        for norm, _, _ in self.norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *exception: object) -> None:
        for norm, momentum, batches in self.norms:
            norm.momentum, norm.num_batches_tracked = momentum, batches


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
