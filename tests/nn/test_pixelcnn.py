"""Gated PixelCNN: its stacks against masked convolutions, what it sees, how a label enters, what drawing costs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.nn import GatedPixelCNN
from jensen.nn.autoregressive import draw
from jensen.nn.autoregressive.gated import GatedLayer


def seen_by(net: GatedPixelCNN, place: tuple[int, ...]) -> Tensor:
    """Which places the (only) factor of a place depends on, a boolean grid."""
    leaves: list[Tensor] = []

    def capture(module: object, inputs: object, out: Tensor) -> Tensor:
        leaves.append(out.detach().requires_grad_())
        return leaves[-1]

    hook = net.embedding.register_forward_hook(capture)
    logits = net(torch.randint(net.levels, (1, *net.shape)))[(0, 0, *place)]
    hook.remove()
    (logits * torch.randn_like(logits)).sum().backward()
    assert leaves[0].grad is not None
    return leaves[0].grad.abs().sum((0, -2, -1)).view(net.shape[1:]) > 0


def masked_gate(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, 1)
    return value.tanh() * gate.sigmoid()


@pytest.mark.parametrize("first", [True, False])
def test_layer_is_the_masked_convolutions_of_the_paper(first: bool) -> None:
    """The shifted kernels against square ones whose forbidden weights, random here, are masked."""
    width, half = 4, 3 if first else 1
    offsets = (3, 2, 1) if first else (1, 0)
    layer = GatedLayer(width, rows=half + (not first), side=half, offsets=offsets, first=first).double()
    nn.init.normal_(layer.bias)
    v, h = torch.randn(2, 2, width, 6, 5, dtype=torch.float64)
    assert layer.horizontal is not None
    # Vertical: rows above the present one in the first layer (mask A), and the present one too in the others (mask B);
    # there, row i of the stack knows the values above row i.
    size = 2 * half + 1
    square, mask = torch.randn(2 * width, width, size, size, dtype=torch.float64), torch.zeros(size, size)
    visible = half if first else half + 1
    mask[:visible] = 1
    square[:, :, :visible] = layer.vertical.weight.detach()
    hidden = F.conv2d(v, square * mask, layer.vertical.bias, padding=half)
    row, mask = torch.randn(2 * width, width, 1, size, dtype=torch.float64), torch.zeros(1, size)
    mask[:, :visible] = 1
    row[..., :visible] = layer.horizontal.detach()
    given = F.conv2d(h, row * mask, padding=(0, half)) + F.conv2d(hidden, layer.link.weight[..., None, None])
    out = masked_gate(given + layer.bias[:, None, None])
    out = F.conv2d(out, layer.out.weight[..., None, None], layer.out.bias)
    expected = (masked_gate(hidden), out[:, :width] if first else h + out[:, :width], out[:, width:])
    for ours, theirs in zip(layer(v.permute(0, 2, 3, 1), h.permute(0, 2, 3, 1)), expected, strict=True):
        torch.testing.assert_close(ours.permute(0, 3, 1, 2), theirs)


def test_first_layer_sees_half_of_a_square_of_seven() -> None:
    net = GatedPixelCNN((1, 9, 11), 4, width=8, depth=1).double()
    expected = torch.zeros(9, 11, dtype=torch.bool)
    expected[2:5, 2:9] = True
    expected[5, 2:5] = True
    assert torch.equal(seen_by(net, (5, 5)), expected)


def test_reach_grows_by_a_row_and_a_column_a_layer() -> None:
    net = GatedPixelCNN((1, 12, 16), 4, width=8, depth=4).double()
    seen = seen_by(net, (10, 8))
    rows, columns = torch.arange(12)[:, None], torch.arange(16)
    before = (rows < 10) | ((rows == 10) & (columns < 8))
    assert torch.equal(seen.any(1), (rows[:, 0] >= 10 - 6) & (rows[:, 0] <= 10))
    assert torch.equal(seen[10], (columns >= 8 - 6) & (columns < 8))
    assert not (seen & ~before).any()
    assert seen[9, 2:15].all()  # to the right as far as to the left: no blind spot
    assert seen[7:10, 5:12].all()


def test_default_depth_sees_all_of_eight_by_eight() -> None:
    net = GatedPixelCNN((1, 8, 8), 4, width=8).double()
    for place in ((7, 0), (7, 7), (4, 3)):
        at = 8 * place[0] + place[1]
        assert torch.equal(seen_by(net, place).flatten(), torch.arange(64) < at)


@pytest.mark.parametrize(("length", "depth"), [(64, 7), (128, 8), (5, 3), (2, 1)])
def test_gaps_in_a_row_double_so_that_few_layers_see_all(length: int, depth: int) -> None:
    net = GatedPixelCNN((1, length), 4, width=8, depth=depth).double()
    assert all(not layer.rows for layer in net.layers if isinstance(layer, GatedLayer))  # there is nothing above
    for place in (length - 1, length // 2, 0):
        assert torch.equal(seen_by(net, (place,)), torch.arange(length) < place)


def test_a_label_as_planes_adds_a_vector_to_every_layer() -> None:
    """V^T h of the paper: with h one-hot, that label's column of V beside the biases."""
    net = GatedPixelCNN((2, 3, 4), 5, width=4, depth=3, context=3).double()
    x = torch.randint(5, (6, 2, 3, 4))
    for label in range(3):
        plain = GatedPixelCNN((2, 3, 4), 5, width=4, depth=3).double()
        state = copy.deepcopy(net.state_dict())
        for i in range(3):
            vertical, horizontal = state.pop(f"layers.{i}.told.weight")[:, label].chunk(2)
            state[f"layers.{i}.vertical.bias"] += vertical
            state[f"layers.{i}.bias"] += horizontal
        plain.load_state_dict(state)
        planes = F.one_hot(torch.full((6,), label), 3).double()[..., None, None]
        torch.testing.assert_close(net(x, planes), plain(x))


def test_variance_is_kept_through_the_layers() -> None:
    net = GatedPixelCNN((1, 8, 8), 16, width=64, depth=12)
    spread: list[float] = []
    for layer in net.layers:
        assert isinstance(layer, GatedLayer)
        layer.vertical.register_forward_hook(lambda module, inputs, out: spread.append(out[..., 4:, 2:-2].std().item()))
    net(torch.randint(16, (8, 1, 8, 8)))
    assert len(spread) == 12
    assert 0.5 < min(spread) <= max(spread) < 2


def test_drawing_advances_the_vertical_stack_once_a_row_and_the_horizontal_once_a_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = GatedPixelCNN((2, 4, 5), 3, width=4, depth=3)
    heights: list[int] = []
    widths: list[int] = []
    for layer in net.layers:
        assert isinstance(layer, GatedLayer)
        layer.vertical.register_forward_hook(lambda module, inputs, out: heights.append(out.shape[2]))
        layer.out.register_forward_hook(lambda module, inputs, out: widths.append(out.ndim))
    monkeypatch.setattr(GatedPixelCNN, "forward", None)
    draw(net, 2)
    assert heights == [1] * (4 * 3)
    assert widths == [2] * (4 * 5 * 3)
