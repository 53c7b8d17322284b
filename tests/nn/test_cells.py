"""NVAE's residual cells: values by hand, shapes, parameters; and that computing again changes nothing."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.nn.cells import Cell, DecoderCell, EncoderCell
from jensen.nn.condition import Film

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
MAKERS: dict[str, Callable[..., Cell]] = {
    "encoder": lambda **more: EncoderCell(5, 5, **more),
    "encoder, halved": lambda **more: EncoderCell(5, 8, 2, **more),
    "decoder": lambda **more: DecoderCell(5, 5, expansion=2, **more),
    "decoder, enlarged": lambda **more: DecoderCell(5, 3, (7, 9), expansion=2, **more),
}


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Batch normalisation by its formula."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gated(x: Tensor, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor) -> Tensor:
    """Squeeze-and-excitation."""
    hidden = (x.mean((2, 3)) @ down.T + down_bias).clamp(min=0)
    return x / (1 + torch.exp(-(hidden @ up.T + up_bias)))[:, :, None, None]


def disturbed(cell: Cell) -> Cell:
    """Scales and shifts of normalisation and of FiLM are not what they start as."""
    for module in cell.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
        elif isinstance(module, Film):
            nn.init.normal_(module.linear.weight, std=0.3)
    return cell


def saved_to(kept: list[Tensor]) -> torch.autograd.graph.saved_tensors_hooks:
    """Lists what autograd keeps for the backward pass."""

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)


def test_encoder_cell_by_hand() -> None:
    cell = disturbed(EncoderCell(4, 4)).double()
    n1, b1, c1, n2, b2, c2, d2, *excitation = cell.f.parameters()
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    y = F.conv2d(swish(norm(x, n1, b1)), c1, padding=1)
    y = gated(F.conv2d(swish(norm(y, n2, b2)), c2, d2, padding=1), *excitation)
    torch.testing.assert_close(cell(x), x + 0.1 * y)


def test_halving_encoder_cell_by_hand() -> None:
    """Output pixel (i, j) sees rows 2i - 1 to 2i + 1 and columns 2j - 1 to 2j + 1, zeros where there are none."""
    cell = disturbed(EncoderCell(3, 6, 2)).double()
    n1, b1, c1, n2, b2, c2, d2, *excitation = cell.f.parameters()
    skip, skip_bias = cell.skip.parameters()
    x = torch.randn(3, 3, 5, 6, dtype=torch.float64)
    whole = F.conv2d(swish(norm(x, n1, b1)), c1, padding=1)
    y = whole[:, :, :4:2, :6:2]
    y = gated(F.conv2d(swish(norm(y, n2, b2)), c2, d2, padding=1), *excitation)
    pooled = sum(x[:, :, i:4:2, j:6:2] for i in (0, 1) for j in (0, 1)) / 4
    assert isinstance(pooled, Tensor)
    expected = torch.einsum("oi,nihw->nohw", skip[:, :, 0, 0], pooled) + skip_bias[:, None, None] + 0.1 * y
    torch.testing.assert_close(cell(x), expected)


@pytest.mark.parametrize("size", [None, (8, 6), (8, 12)])
def test_decoder_cell_by_hand(size: tuple[int, int] | None) -> None:
    """An image enlarged before everything else, which for whole factors is the same as before the 5x5 convolution."""
    cell = disturbed(DecoderCell(4, 4, size, expansion=3)).double()
    n1, b1, c1, n2, b2, c2, n3, b3, c3, n4, b4, *excitation = cell.f.parameters()
    x = torch.randn(3, 4, 4, 3, dtype=torch.float64)
    large = x if size is None else x.repeat_interleave(size[0] // 4, 2).repeat_interleave(size[1] // 3, 3)
    y = torch.einsum("oi,nihw->nohw", c1[:, :, 0, 0], norm(large, n1, b1))
    y = F.conv2d(swish(norm(y, n2, b2)), c2, padding=2, groups=12)
    y = torch.einsum("oi,nihw->nohw", c3[:, :, 0, 0], swish(norm(y, n3, b3)))
    skip = large
    if size is not None:
        weight, bias = cell.skip.parameters()
        skip = torch.einsum("oi,nihw->nohw", weight[:, :, 0, 0], large) + bias[:, None, None]
    torch.testing.assert_close(cell(x), skip + 0.1 * gated(norm(y, n4, b4), *excitation))


def test_enlarged_to_an_odd_size() -> None:
    """4 to 7: in eval mode the same as if the nearest neighbours had been copied first."""
    cell = disturbed(DecoderCell(4, 3, (7, 7))).double().eval()
    plain = DecoderCell(4, 3).double().eval()
    plain.f.load_state_dict({name.replace("f.5", "f.4"): value for name, value in _without_upsample(cell).items()})
    plain.skip[0].load_state_dict(cell.skip[0].state_dict())  # type: ignore[index]
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64)
    nearest = torch.arange(7) * 4 // 7
    torch.testing.assert_close(cell(x), plain(x[:, :, nearest][:, :, :, nearest]))


def _without_upsample(cell: Cell) -> dict[str, Tensor]:
    layers = [layer for layer in cell.f if not isinstance(layer, nn.Upsample)]
    return nn.Sequential(*layers).state_dict()


def test_published_settings_of_normalisation() -> None:
    for make in MAKERS.values():
        norms = [module for module in make().modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms
        assert {(one.eps, one.momentum) for one in norms} == {(1e-5, 0.05)}


@pytest.mark.parametrize(("channels", "hidden"), [(16, 4), (128, 8)])
def test_parameters(channels: int, hidden: int) -> None:
    excitation = 2 * channels * hidden + hidden + channels
    encoder = 2 * 2 * channels + 2 * 9 * channels**2 + channels
    decoder = 2 * (2 + 2 * 6) * channels + 2 * 6 * channels**2 + 6 * 25 * channels
    count = [sum(p.numel() for p in cell(channels, channels).parameters()) for cell in (EncoderCell, DecoderCell)]
    assert count == [encoder + excitation, decoder + excitation]
    halved = sum(p.numel() for p in EncoderCell(channels, 2 * channels, 2).skip.parameters())
    assert halved == 2 * channels**2 + 2 * channels


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 3), (7, 4), (9, 9)])
def test_shapes(size: tuple[int, int]) -> None:
    x = torch.randn(3, 5, *size)
    assert EncoderCell(5, 5)(x).shape == DecoderCell(5, 5)(x).shape == x.shape
    assert EncoderCell(5, 7)(x).shape == DecoderCell(5, 7)(x).shape == (3, 7, *size)
    larger = (2 * size[0] + 1, size[1])
    assert DecoderCell(5, 7, larger)(x).shape == (3, 7, *larger)
    if min(size) > 1:
        assert EncoderCell(5, 7, 2)(x).shape == (3, 7, size[0] // 2, size[1] // 2)


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="stride 3"):
        EncoderCell(4, 4, 3)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        DecoderCell(4, 4)(torch.randn(1, 4, 1, 1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "embedding"), list(itertools.product(MAKERS, [0, 3])))
def test_checkpointing_changes_nothing(name: str, embedding: int, device: str) -> None:
    """Nothing but the memory: gradients, running statistics and their count are the same, also when asked twice."""
    ours = disturbed(MAKERS[name](embedding=embedding)).double().to(device)
    again = copy.deepcopy(ours)
    again.checkpointing = True
    x = torch.randn(4, 5, 4, 6, dtype=torch.float64, device=device)
    given = torch.randn(4, 3, dtype=torch.float64, device=device) if embedding else None
    found = []
    for cell in (ours, again):
        kept: list[Tensor] = []
        inputs = [tensor.clone().requires_grad_() for tensor in (x, given) if tensor is not None]
        with saved_to(kept):
            y = cell(*inputs)
        leaves = [*inputs, *cell.parameters()]
        gradients = [torch.autograd.grad(y.square().sum(), leaves, retain_graph=retain) for retain in (True, False)]
        found.append([y, *gradients[0], *gradients[1], *cell.buffers()])
        # What a checkpoint keeps is no business of autograd's.
        assert (sum(tensor.numel() for tensor in kept) > 5 * x.numel()) == (cell is ours)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)
    counts = [module.num_batches_tracked for module in again.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [int(count) for count in counts if count is not None] == [1] * len(counts)


def test_checkpointing_is_for_training() -> None:
    """In eval mode and without gradients the cell computes once."""
    cell = DecoderCell(4, 4)
    cell.checkpointing = True
    calls = []
    cell.f.register_forward_pre_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 4, 3, 3, requires_grad=True)
    cell(x).sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        cell(x)
    cell.eval()(x).sum().backward()
    assert len(calls) == 4


@pytest.mark.parametrize("name", MAKERS)
def test_film_starts_as_the_identity_and_learns(name: str) -> None:
    told, plain = MAKERS[name](embedding=3), MAKERS[name]()
    for target, source in zip(
        (p for n, p in told.named_parameters() if "linear" not in n), plain.parameters(), strict=True
    ):
        target.data.copy_(source.data)
    x, embedding = torch.randn(4, 5, 4, 6), torch.randn(4, 3)
    torch.testing.assert_close(told(x, embedding), plain(x))
    torch.testing.assert_close(told(x, embedding), plain(x, embedding))  # one that is told nothing does not mind
    disturbed(told)
    assert (told(x, embedding) - told(x, -embedding)).abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "checkpointing"), list(itertools.product(MAKERS, [False, True])))
def test_half_precision(name: str, checkpointing: bool, device: str) -> None:
    """bf16 autocast: statistics and weights' gradients in float32, close to those of float32."""
    cell = disturbed(MAKERS[name]()).to(device)
    exact = copy.deepcopy(cell)
    cell.checkpointing = checkpointing
    x = torch.randn(8, 5, 4, 6, device=device)
    with torch.autocast(device, torch.bfloat16):
        y = cell(x)
    target = torch.randn_like(y)
    for one, out in ((cell, y), (exact, exact(x))):
        (out.float() * target).sum().backward()
        assert out.isfinite().all()
        assert {buffer.dtype for buffer in one.buffers()} == {torch.float32, torch.int64}
    got, wanted = (
        torch.cat([p.grad.flatten() for p in one.parameters() if p.grad is not None]) for one in (cell, exact)
    )
    assert got.dtype == torch.float32
    assert (got - wanted).norm() <= 0.05 * wanted.norm()
    for buffer, other_buffer in zip(cell.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(buffer, other_buffer, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", MAKERS)
def test_layout_is_kept(name: str) -> None:
    """Images in channels_last stay so, forward and backward, in float32 and bf16: that is where the speed is."""
    cell = MAKERS[name]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 5, 4, 6).to(memory_format=torch.channels_last).requires_grad_()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = cell(x)
        (gradient,) = torch.autograd.grad(y.float().square().sum(), x)
        assert y.is_contiguous(memory_format=torch.channels_last)
        assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_compiled() -> None:
    """Traced, under autocast and with checkpointing (the code generator is not ours to test)."""
    cell = disturbed(MAKERS["decoder, enlarged"]())
    cell.checkpointing = True
    x = torch.randn(4, 5, 4, 6)
    found = []
    for run in (cell, torch.compile(cell, backend="aot_eager")):
        with torch.autocast("cpu", torch.bfloat16):
            y = run(x)
        found.append([y, *torch.autograd.grad(y.float().square().sum(), list(cell.parameters()))])
    for one, other in zip(*found, strict=True):
        assert (one - other).float().norm() <= 0.05 * one.float().norm() + 0.02
