"""Conditional networks: one battery over nets, ways of conditioning, and conditions of every shape."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from jensen.config import NetConfig
from jensen.errors import ConfigError
from jensen.nn import MLP, Conditional, Conditioning, Film, make_decoder, make_encoder

NETS = ["mlp", "conv", "resnet"]
WAYS: list[Conditioning] = ["concat", "embedding", "film"]
SIZES = [(1, 9, 6), (3, 5, 7)]
CASES = list(itertools.product(NETS, WAYS, ["label", "attributes", "image"], SIZES))
BATCH, LATENT = 6, 3


def condition_of(kind: str, shape: tuple[int, ...], rows: int = BATCH) -> Tensor:
    if kind == "label":
        return torch.eye(4)[torch.arange(rows) % 4]
    return torch.randn(rows, 2) if kind == "attributes" else torch.rand(rows, 2, *shape[1:])


def config(net: str, **changes: object) -> NetConfig:
    return NetConfig(**{"kind": net, "width": 8, "activation": "silu", **changes})


def pair(net: NetConfig, shape: tuple[int, ...], condition: Tensor, way: Conditioning) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder whose FiLM layers are not the identity that they start as."""
    given = tuple(condition.shape[1:])
    nets = (make_encoder(net, shape, LATENT, given, way), make_decoder(net, LATENT, shape, given, way))
    for module in (layer for one in nets for layer in one.modules() if isinstance(layer, Film)):
        nn.init.normal_(module.linear.weight, std=0.3)
    return nets


@pytest.mark.parametrize(("net", "way", "kind", "shape"), CASES)
def test_condition_reaches_the_output_and_every_weight_learns(
    net: str, way: Conditioning, kind: str, shape: tuple[int, int, int]
) -> None:
    condition = condition_of(kind, shape).requires_grad_()
    for module, x, out in zip(
        pair(config(net), shape, condition, way),
        (torch.randn(BATCH, *shape), torch.randn(BATCH, LATENT)),
        ((LATENT,), shape),
        strict=True,
    ):
        y = module(x, condition)
        assert y.shape == (BATCH, *out)
        gradients = torch.autograd.grad((y * torch.randn_like(y)).sum(), [condition, *module.parameters()])
        assert (gradients[0] != 0).all()  # every number of the condition, every pixel of an image
        for (name, _), gradient in zip(module.named_parameters(), gradients[1:], strict=True):
            assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize(("net", "way", "kind", "shape"), CASES)
def test_rows_do_not_mix(net: str, way: Conditioning, kind: str, shape: tuple[int, int, int]) -> None:
    """In eval mode every row is a function of its own input and its own condition."""
    condition = condition_of(kind, shape)
    order = torch.randperm(BATCH)
    for module, x in zip(
        pair(config(net, normalisation="batch"), shape, condition, way),
        (torch.randn(BATCH, *shape), torch.randn(BATCH, LATENT)),
        strict=True,
    ):
        module.eval()
        with torch.no_grad():
            y = module(x, condition)
            torch.testing.assert_close(module(x[order], condition[order]), y[order])
            torch.testing.assert_close(torch.cat([module(x[i : i + 1], condition[i : i + 1]) for i in order]), y[order])


@pytest.mark.parametrize(("net", "way"), list(itertools.product(NETS, WAYS)))
@pytest.mark.parametrize("kind", ["label", "image"])
def test_a_condition_of_fewer_rows_is_repeated(net: str, way: Conditioning, kind: str) -> None:
    shape = (1, 8, 8)
    condition = condition_of(kind, shape)
    _, decoder = pair(config(net), shape, condition, way)
    z = torch.randn(3, BATCH, LATENT)
    expected = torch.stack([decoder(one, condition) for one in z])
    torch.testing.assert_close(decoder(z.flatten(0, 1), condition).unflatten(0, (3, BATCH)), expected)
    alone = decoder(z[0], condition[:1])
    torch.testing.assert_close(alone, decoder(z[0], condition[:1].expand_as(condition)))


@pytest.mark.parametrize(("net", "normalisation"), list(itertools.product(NETS, ["none", "batch", "group"])))
def test_film_starts_as_the_net_without_a_condition(net: str, normalisation: str) -> None:
    shape = (2, 9, 8)
    choices = config(net, normalisation=normalisation, depth=2)
    for make, x in (
        (lambda *given: make_encoder(choices, shape, LATENT, *given), torch.randn(BATCH, *shape)),
        (lambda *given: make_decoder(choices, LATENT, shape, *given), torch.randn(BATCH, LATENT)),
    ):
        plain, told = make(), make((4,), "film")
        layers = [m for m in told.net.modules() if isinstance(m, Film)]
        assert len(layers) == sum(isinstance(m, nn.SiLU) for m in plain.modules())  # one before every nonlinearity
        inside = {id(p) for layer in layers for p in layer.parameters()}
        rest = [p for p in told.net.parameters() if id(p) not in inside]
        with torch.no_grad():
            for mine, its in zip(rest, plain.parameters(), strict=True):
                mine.copy_(its)
        for label in torch.eye(4):
            torch.testing.assert_close(told(x, label.expand(BATCH, 4)), plain(x), rtol=0, atol=0)


def test_film_is_its_formula() -> None:
    """Perez et al. 2018, eq. 2, with gamma = 1 + what is learned, per feature and per channel."""
    layer = Film(2, 3)
    nn.init.normal_(layer.linear.weight)
    nn.init.normal_(layer.linear.bias)
    c = torch.randn(5, 2)
    weight, bias = layer.linear.weight, layer.linear.bias
    scale, shift = 1 + c @ weight[:3].T + bias[:3], c @ weight[3:].T + bias[3:]
    x = torch.randn(5, 3)
    torch.testing.assert_close(layer(x, c), scale * x + shift)
    image = torch.randn(5, 3, 2, 4)
    found = layer(image, c)
    for b, channel in itertools.product(range(5), range(3)):
        torch.testing.assert_close(found[b, channel], scale[b, channel] * image[b, channel] + shift[b, channel])


def test_concat_is_its_formula() -> None:
    shape, condition = (1, 4, 5), torch.randn(BATCH, 2)
    x, z = torch.randn(BATCH, *shape), torch.randn(BATCH, LATENT)
    encoder, decoder = pair(config("mlp"), shape, condition, "concat")
    torch.testing.assert_close(encoder(x, condition), encoder.net(torch.cat([x.flatten(1), condition], 1)))
    torch.testing.assert_close(decoder(z, condition), decoder.net(torch.cat([z, condition], 1)))
    encoder, _ = pair(config("conv"), shape, condition, "concat")
    planes = torch.stack([torch.stack([value.expand(4, 5) for value in row]) for row in condition])
    torch.testing.assert_close(encoder(x, condition), encoder.net(torch.cat([x, planes], 1)))
    image = torch.rand(BATCH, 3, 4, 5)
    encoder, decoder = pair(config("resnet"), shape, image, "concat")
    torch.testing.assert_close(encoder(x, image), encoder.net(torch.cat([x, image], 1)))
    # Beside a code an image is encoded: its pixels would drown the code.
    torch.testing.assert_close(decoder(z, image), decoder.net(torch.cat([z, decoder.embed(image)], 1)))
    assert decoder.embed(image).shape == (BATCH, 64)


def test_embedding_of_a_label_is_a_table() -> None:
    _, decoder = pair(config("mlp"), (7,), torch.eye(4), "embedding")
    linear = next(m for m in decoder.embed.modules() if isinstance(m, nn.Linear))
    table = linear.weight.T + linear.bias
    z, labels = torch.randn(BATCH, LATENT), torch.tensor([2, 0, 1, 3, 3, 2])
    expected = decoder.net(torch.cat([z, table[labels]], 1))
    torch.testing.assert_close(decoder(z, torch.eye(4)[labels]), expected)


@pytest.mark.parametrize("net", ["conv", "resnet"])
def test_an_image_of_another_size(net: str) -> None:
    condition = torch.rand(BATCH, 2, 7, 4)
    with pytest.raises(ConfigError, match=r"condition of 7x4 pixels.*image of 8x8; use conditioning embedding or film"):
        make_encoder(config(net), (1, 8, 8), LATENT, (2, 7, 4))
    for way in WAYS[1:]:
        encoder, _ = pair(config(net), (1, 8, 8), condition, way)
        assert encoder(torch.rand(BATCH, 1, 8, 8), condition).shape == (BATCH, LATENT)


@pytest.mark.parametrize(("net", "way"), list(itertools.product(NETS, WAYS)))
def test_conditional_net_in_channels_last_and_bf16(net: str, way: Conditioning) -> None:
    shape, condition = (3, 12, 10), torch.rand(BATCH, 1, 12, 10)
    x, z = torch.randn(BATCH, *shape), torch.randn(BATCH, LATENT)
    encoder, decoder = pair(config(net), shape, condition, way)
    expected = encoder(x, condition), decoder(z, condition)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(x, condition), decoder(z, condition)
    last = torch.channels_last
    found = (
        encoder.to(memory_format=last)(x.contiguous(memory_format=last), condition.contiguous(memory_format=last)),
        decoder.to(memory_format=last)(z, condition),
    )
    for exact, other, low in zip(expected, found, rough, strict=True):
        torch.testing.assert_close(other, exact, rtol=1e-4, atol=1e-5)
        assert low.dtype == torch.bfloat16
        torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.05)


def test_any_shape_of_condition_is_a_vector_unless_it_is_an_image() -> None:
    condition = torch.randn(BATCH, 2, 5)
    for net, way in itertools.product(NETS, WAYS):
        encoder, decoder = pair(config(net), (1, 6, 6), condition, way)
        assert encoder(torch.rand(BATCH, 1, 6, 6), condition).shape == (BATCH, LATENT)
        assert decoder(torch.rand(BATCH, LATENT), condition).shape == (BATCH, 1, 6, 6)


def test_unconditional_nets_are_as_they_were() -> None:
    """Names of the weights are those of checkpoints written before there were conditions."""
    assert list(MLP(4, [5], 2, normalisation="batch").state_dict())[:2] == ["0.weight", "0.bias"]
    names = {
        "mlp": {"1.0.weight", "1.0.bias", "1.2.weight", "1.2.bias"},
        "conv": {f"convolutions.0.{p}" for p in ("weight", "bias")}
        | {f"head.{i}.{p}" for i in (0, 2, 4) for p in ("weight", "bias")},
        "resnet": {f"body.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")}
        | {f"body.{i}.f.{j}.{p}" for i in (1, 3) for j in (1, 3) for p in ("weight", "bias")}
        | {"head.weight", "head.bias"},
    }
    for net, expected in names.items():
        encoder = make_encoder(config(net), (1, 8, 8), LATENT)
        assert not isinstance(encoder, Conditional)
        assert set(encoder.state_dict()) == expected
