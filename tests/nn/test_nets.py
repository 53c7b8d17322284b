"""One battery for all networks: any image size, every weight learns, layouts and precisions agree."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from jensen.config import NetConfig
from jensen.errors import ConfigError
from jensen.nn import MLP, activation, halvings, make_decoder, make_encoder, net_kind

IMAGES = [(1, 28, 28), (3, 33, 47), (1, 64, 64), (2, 8, 8), (1, 5, 5), (1, 3, 2)]
KINDS = ["mlp", "conv", "resnet"]
CASES = [(kind, shape) for kind, shape in itertools.product(KINDS, IMAGES)] + [("mlp", (4,))]


def config(kind: str, **changes: object) -> NetConfig:
    return NetConfig(**{"kind": kind, "width": 8, **changes})


def pair(net: NetConfig, shape: tuple[int, ...], latent: int = 3) -> nn.Sequential:
    return nn.Sequential(make_encoder(net, shape, latent), make_decoder(net, latent, shape))


@pytest.mark.parametrize(("kind", "shape"), CASES)
@pytest.mark.parametrize("normalisation", ["none", "batch", "group"])
def test_shapes_and_gradients(kind: str, shape: tuple[int, ...], normalisation: str) -> None:
    net = pair(config(kind, normalisation=normalisation, activation="silu"), shape)
    x = torch.randn(5, *shape)
    assert net[0](x).shape == (5, 3)
    y = net(x)
    assert y.shape == x.shape
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        # Behind a bias that batch normalisation takes away again, the gradient is rounding error.
        assert parameter.grad.abs().sum() > 0 or normalisation != "none", name


@pytest.mark.parametrize(("kind", "shape"), [case for case in CASES if len(case[1]) == 3])
def test_every_pixel_matters_and_is_made(kind: str, shape: tuple[int, ...]) -> None:
    net = pair(config(kind, activation="silu"), shape)
    x = torch.randn(1, *shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(net[0](x).square().sum(), x)
    assert (gradient != 0).all()  # a stride-2 layer of odd size rounds down, but its window sees the last row too
    z = torch.randn(64, 3)
    assert (net[1](z).var(0) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalisation", ["none", "batch", "group"])
def test_channels_last_is_the_same_function(kind: str, normalisation: str) -> None:
    net = pair(config(kind, normalisation=normalisation), (3, 12, 16)).eval()
    x = torch.randn(4, 3, 12, 16)
    expected = net(x)
    found = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_autocast_is_nearly_the_same_function(kind: str) -> None:
    net = pair(config(kind), (1, 16, 16))
    x = torch.rand(4, 1, 16, 16)
    expected = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x)
    assert found.dtype == torch.bfloat16
    assert not torch.equal(found.float(), expected)
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.02)


def test_burgess_64() -> None:
    """Burgess et al. 2018, appendix A.1: four 4x4 convolutions of 32 channels, two layers of 256; and its mirror."""
    encoder = make_encoder(NetConfig(), (1, 64, 64), 20)
    decoder = make_decoder(NetConfig(), 10, (1, 64, 64))
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    linear = [(m.in_features, m.out_features) for m in encoder.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == [(1, 32), (32, 32), (32, 32), (32, 32)]
    assert {(m.kernel_size, m.stride) for m in convolutions} == {((4, 4), (2, 2))}
    assert linear == [(512, 256), (256, 256), (256, 20)]
    up = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(m.in_channels, m.out_channels) for m in up] == [(32, 32), (32, 32), (32, 32), (32, 1)]
    linear = [(m.in_features, m.out_features) for m in decoder.modules() if isinstance(m, nn.Linear)]
    assert linear == [(10, 256), (256, 256), (256, 512)]
    # By hand: weights + biases, layer by layer.
    middle = 3 * (32 * 32 * 16 + 32)
    assert count(encoder) == (16 * 32 + 32) + middle + (512 * 256 + 256) + (256 * 256 + 256) + (256 * 20 + 20)
    assert count(decoder) == (10 * 256 + 256) + (256 * 256 + 256) + (256 * 512 + 512) + middle + (32 * 16 + 1)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_mlp_is_its_formula() -> None:
    net = MLP(4, [5, 6], 2, "tanh").double()
    first, second, third = (m for m in net if isinstance(m, nn.Linear))
    x = torch.randn(3, 4, dtype=torch.float64)
    hidden = torch.tanh(torch.tanh(x @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    torch.testing.assert_close(net(x), hidden @ third.weight.T + third.bias)
    assert [type(m) for m in MLP(4, [], 2)] == [nn.Linear]


def test_default_sizes() -> None:
    encoder = make_encoder(NetConfig(), (1, 28, 28), 40)  # the MLP 784-400-40
    assert count(encoder) == 784 * 400 + 400 + 400 * 40 + 40


@pytest.mark.parametrize("kind", KINDS)
def test_every_knob_changes_the_net(kind: str) -> None:
    shape = (1, 16, 16)
    base = pair(config(kind, depth=2), shape)
    assert count(pair(config(kind, depth=1), shape)) != count(base)
    assert count(pair(config(kind, depth=2, width=9), shape)) != count(base)
    assert count(pair(config(kind, depth=2, normalisation="group"), shape)) > count(base)
    x = torch.randn(2, *shape)
    outputs = []
    for name in ("relu", "leaky-relu", "elu", "gelu", "silu", "softplus", "tanh"):
        net = pair(config(kind, depth=2, activation=name), shape)
        net.load_state_dict(base.state_dict())
        outputs.append(net(x))
    assert all(not torch.allclose(a, b, atol=1e-7) for a, b in itertools.combinations(outputs, 2))


@pytest.mark.parametrize("inplace", ["relu", "leaky-relu"])
@pytest.mark.parametrize("normalisation", ["none", "batch", "group"])
def test_residual_block_adds_to_its_input(inplace: str, normalisation: str) -> None:
    """An in-place nonlinearity on the identity path would change what is added, and the gradient."""
    from jensen.nn.resnet import ResidualBlock

    block = ResidualBlock(4, inplace, normalisation).eval()
    x = torch.randn(2, 4, 5, 5)
    kept = x.clone()
    with torch.no_grad():
        y = block(x)
        assert torch.equal(x, kept)
        torch.testing.assert_close(y - x, block.f(kept.clone()))


def test_groups_share_the_channels() -> None:
    net = make_encoder(config("conv", width=12, normalisation="group"), (1, 16, 16), 2)
    assert {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)} == {math.gcd(8, 12)}


def test_halvings_by_hand() -> None:
    assert halvings((64, 64), None) == [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]
    assert halvings((33, 47), None) == [(33, 47), (16, 23), (8, 11), (4, 5)]
    assert halvings((28, 28), 2) == [(28, 28), (14, 14), (7, 7)]
    assert halvings((4, 9), None) == [(4, 9)]
    assert halvings((5, 5), 2) == [(5, 5), (2, 2), (1, 1)]


def test_image_too_small_for_the_depth() -> None:
    for make in (lambda net: make_encoder(net, (1, 5, 5), 3), lambda net: make_decoder(net, 3, (1, 5, 5))):
        make(config("conv", depth=2))
        with pytest.raises(ConfigError, match="5x5 cannot be halved 3 times: use a smaller depth"):
            make(config("conv", depth=3))


@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_no_convolutions_on_a_table(kind: str) -> None:
    with pytest.raises(ConfigError, match="needs images"):
        make_encoder(config(kind), (4,), 2)


def test_what_auto_means() -> None:
    assert net_kind(NetConfig(), (1, 64, 64)) == "conv"
    assert net_kind(NetConfig(), (1, 32, 40)) == "conv"
    assert net_kind(NetConfig(), (1, 28, 64)) == "mlp"
    assert net_kind(NetConfig(), (300,)) == "mlp"
    assert net_kind(NetConfig(kind="resnet"), (1, 5, 5)) == "resnet"


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="no activation 'swish'"):
        activation("swish")
