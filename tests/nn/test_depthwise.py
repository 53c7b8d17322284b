"""The depthwise convolution: gradients of its bf16 path, by finite differences and against torch's."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from jensen.nn.depthwise import Depthwise, _LowPrecisionDepthwise


@pytest.mark.parametrize(("kernel", "size"), [(3, (1, 1)), (5, (2, 3)), (5, (7, 4))])
def test_gradients_of_the_depthwise_convolution(kernel: int, size: tuple[int, int]) -> None:
    layer = Depthwise(4, kernel).double()
    x = torch.randn(3, 4, *size, dtype=torch.float64, requires_grad=True)
    function = _LowPrecisionDepthwise.apply
    torch.testing.assert_close(function(x, layer.weight), layer(x))  # type: ignore[no-untyped-call]
    assert torch.autograd.gradcheck(function, (x, layer.weight))


def test_depthwise_convolution_under_autocast_is_as_exact_as_torchs() -> None:
    layer = Depthwise(12, 5)
    exact = copy.deepcopy(layer).double()
    x = torch.randn(16, 12, 9, 9).to(memory_format=torch.channels_last)

    def gradient(layer: Depthwise, forward: Callable[[Depthwise, Tensor], Tensor], x: Tensor) -> Tensor:
        y = forward(layer, x)
        return torch.autograd.grad(y.float().square().sum(), layer.weight)[0].double()

    truth = gradient(exact, Depthwise.forward, x.double())
    with torch.autocast("cpu", torch.bfloat16):
        errors = [(gradient(layer, way, x) - truth).norm() for way in (Depthwise.forward, nn.Conv2d.forward)]
    assert errors[0] < 1.5 * errors[1] < 0.02 * truth.norm()


def test_gradients_of_weights_are_summed_over_the_batch_in_float32() -> None:
    """Each datum's gradient is rounded to bf16, their sum is not: with its 8 bits 1 + 2^-10 would be 1."""
    layer = Depthwise(1, 1)
    x = torch.tensor([1.0, 2.0**-10]).view(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.item() == 1 + 2.0**-10
