"""A depthwise convolution whose weights' gradient is fast on a CPU in bf16, too."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["Depthwise"]


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
