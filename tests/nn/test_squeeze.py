"""Squeeze-and-excitation: a gate a channel."""

from __future__ import annotations

import torch

from jensen.nn.squeeze import SqueezeExcitation


def test_gates_lie_between_zero_and_one() -> None:
    layer = SqueezeExcitation(6)
    x = 5 * torch.randn(50, 6, 3, 3)
    gate = layer(x) / x
    assert bool(((gate > 0) & (gate < 1)).all())
    torch.testing.assert_close(gate, gate.mean((2, 3), keepdim=True).expand_as(x), rtol=1e-3, atol=1e-6)
    assert gate.std(0).min() > 0
    shuffled = x.flatten(2)[:, :, torch.randperm(9)].view_as(x)
    torch.testing.assert_close(layer(shuffled) / shuffled, gate, rtol=1e-3, atol=1e-6)  # of means over pixels alone
