"""Nets between data and a grid: sizes, what each place sees, conditions, and symbols."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.errors import ConfigError
from jensen.nn.spatial import (
    SpatialDecoder,
    SpatialEncoder,
    grid_sizes,
    make_spatial_decoder,
    make_spatial_encoder,
    spatial_kind,
)

SHAPES = [(1, 7, 9), (3, 28, 28), (1, 33, 20), (2, 37), (1, 128)]
NET = NetConfig(width=6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("downsampling", [1, 2, 4])
@pytest.mark.parametrize("normalisation", ["none", "batch", "group"])
def test_any_size_goes_to_its_grid_and_back(shape: tuple[int, ...], downsampling: int, normalisation: str) -> None:
    net = NetConfig(width=6, normalisation=normalisation)
    encoder = make_spatial_encoder(net, shape, 5, downsampling)
    decoder = make_spatial_decoder(net, 5, shape, downsampling)
    x = torch.randn(3, *shape, requires_grad=True)
    features = encoder(x)
    assert features.shape == (3, 5, *(side // downsampling for side in shape[1:]))
    out = decoder(features)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).all()), "some pixel is seen by no code"
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None, name


def test_it_is_the_net_of_the_paper() -> None:
    """Two 4x4 convolutions of stride 2, two blocks of a 3x3 and a 1x1, 256 channels; and back."""
    block = 256 * 256 * 9 + 256 + 256 * 256 + 256
    strided = (3 * 16 + 1) * 256 + (256 * 16 + 1) * 256
    encoder = SpatialEncoder((3, 32, 32), 64, channels=256)
    assert _count(encoder) == strided + 2 * block + (256 + 1) * 64
    decoder = SpatialDecoder(64, (3, 32, 32), channels=256)
    assert _count(decoder) == (64 * 9 + 1) * 256 + 2 * block + (256 * 16 + 1) * 256 + 256 * 3 * 16 + 3
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0]) for c in convolutions] == [(4, 2), (4, 2), *[(3, 1), (1, 1)] * 2, (1, 1)]


def _count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 64)])
def test_a_place_of_the_grid_stands_for_so_many_pixels(shape: tuple[int, ...]) -> None:
    """Moved by 4 pixels, the features are the same one place further; and so back."""
    encoder = make_spatial_encoder(NetConfig(width=6, depth=1), shape, 5, 4)
    decoder = make_spatial_decoder(NetConfig(width=6, depth=1), 5, shape, 4)
    x = torch.randn(1, *shape)
    before, after = encoder(x), encoder(x.roll(4, -1))
    torch.testing.assert_close(after[..., 4:-3], before[..., 3:-4])
    torch.testing.assert_close(decoder(before.roll(1, -1))[..., 16:-12], decoder(before)[..., 12:-16])


def test_sizes() -> None:
    assert grid_sizes((7, 9), 4) == [(7, 9), (3, 4), (1, 2)]
    assert grid_sizes((5,), 1) == [(5,)]
    for downsampling in (0, 3, 6):
        with pytest.raises(ValueError, match="downsampling should be a power of 2"):
            grid_sizes((32, 32), downsampling)
    with pytest.raises(ValueError, match="data of size 32x3"):
        grid_sizes((32, 3), 4)


def test_what_does_not_fit_is_refused() -> None:
    assert spatial_kind(NetConfig(), (1, 4, 4)) == spatial_kind(NetConfig(kind="conv"), (1, 4)) == "conv"
    with pytest.raises(ConfigError, match=r"\(10,\): use model vae for tables"):
        spatial_kind(NetConfig(), (10,))
    for kind in ("mlp", "resnet"):
        with pytest.raises(ConfigError, match=f"net {kind} ends in a vector, but codes lie on a grid: use net conv"):
            make_spatial_encoder(NetConfig(kind=kind), (1, 8, 8), 4, 2)
    with pytest.raises(ConfigError, match="data of size 3x3"):
        make_spatial_decoder(NET, 4, (1, 3, 3), 4)
    with pytest.raises(ConfigError, match="a condition of 4x4 pixels cannot be channels of data of 8x8"):
        make_spatial_encoder(NET, (1, 8, 8), 4, 2, (1, 4, 4))


CONDITIONS = [((1, 9, 10), (3,)), ((1, 9, 10), (2, 9, 10)), ((2, 21), (3,))]


@pytest.mark.parametrize("conditioning", ["concat", "embedding", "film"])
@pytest.mark.parametrize(("shape", "condition_shape"), CONDITIONS)
def test_conditions_reach_both_nets(
    shape: tuple[int, ...], condition_shape: tuple[int, ...], conditioning: str
) -> None:
    encoder = make_spatial_encoder(NET, shape, 5, 2, condition_shape, conditioning)  # type: ignore[arg-type]
    decoder = make_spatial_decoder(NET, 5, shape, 2, condition_shape, conditioning)  # type: ignore[arg-type]
    x, condition = torch.randn(4, *shape), torch.randn(4, *condition_shape)
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        if parameter.ndim > 1 and not bool(parameter.any()):  # film starts as the identity
            assert conditioning == "film", name
            nn.init.normal_(parameter)
    told = encoder(x, condition)
    assert told.shape == (4, 5, *(side // 2 for side in shape[1:]))
    assert not torch.allclose(told, encoder(x, condition.flip(0)))
    out = decoder(told, condition)
    assert out.shape == x.shape
    assert not torch.allclose(out, decoder(told, condition.flip(0)))
    # Rows of several draws, the batch running fastest, are told the condition of their datum.
    torch.testing.assert_close(
        decoder(told.repeat(3, *[1] * (told.ndim - 1)), condition), out.repeat(3, *[1] * len(shape))
    )


def test_an_image_of_another_size_is_embedded() -> None:
    encoder = make_spatial_encoder(NET, (1, 8, 8), 5, 2, (1, 6, 5), "embedding")
    decoder = make_spatial_decoder(NET, 5, (1, 8, 8), 2, (1, 6, 5), "concat")
    condition = torch.randn(2, 1, 6, 5, requires_grad=True)
    decoder(encoder(torch.randn(2, 1, 8, 8), condition), condition).sum().backward()
    assert condition.grad is not None
    assert bool(condition.grad.any())


def test_an_image_as_condition_of_the_decoder_keeps_its_places() -> None:
    """A change in one corner of the condition does not reach the opposite corner of the output."""
    decoder = make_spatial_decoder(NetConfig(width=6, depth=1), 5, (1, 64, 64), 4, (1, 64, 64))
    condition = torch.zeros(1, 1, 64, 64, requires_grad=True)
    out = decoder(torch.randn(1, 5, 16, 16), condition)
    (reach,) = torch.autograd.grad(out[0, 0, 0, 0], condition)
    assert bool(reach[..., :8, :8].any())
    assert not bool(reach[..., 40:, 40:].any())


@pytest.mark.parametrize("condition_shape", [None, (3,)])
def test_symbols_are_looked_up(condition_shape: tuple[int, ...] | None) -> None:
    """Renaming the symbols, and the rows of the table with them, changes nothing."""
    net = make_spatial_encoder(NET, (2, 12), 5, 4, condition_shape, symbols=7)
    condition = [] if condition_shape is None else [torch.randn(3, *condition_shape)]
    x = torch.randint(7, (3, 2, 12))
    before = net(x / 6, *condition)
    renamed = torch.randperm(7)
    table = next(m for m in net.modules() if isinstance(m, nn.Embedding))
    with torch.no_grad():
        old = table.weight.clone()
        table.weight[renamed] = old
    torch.testing.assert_close(net(renamed[x] / 6, *condition), before)
    assert not torch.allclose(net(x / 6, *condition), before)


def test_every_symbol_of_a_large_alphabet_finds_its_own_row() -> None:
    levels = 65_536

    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    from jensen.nn.spatial import Symbols

    symbols = Symbols(levels, 1, Rows())
    with torch.no_grad():
        symbols.table.weight.copy_(torch.arange(levels)[:, None])
    x = (torch.arange(levels) / (levels - 1)).view(1, 1, -1)
    assert torch.equal(symbols(x).flatten().long(), torch.arange(levels))
