"""A VAE whose decoder is told the pixels before (PixelVAE), and one whose pixels are categorical."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor

from jensen import evaluate, load_data, train
from jensen.autoencoders import VAE, AutoEncoder, EncoderDecoder, make_model, resolve
from jensen.config import AutoregressiveConfig, Config, ModelConfig, NetConfig
from jensen.errors import ConfigError
from jensen.likelihoods import AutoregressiveLikelihood, Gaussian, make_autoregressive_likelihood
from jensen.objectives import Elbo

SHAPE = (2, 3, 4)
NET = NetConfig(kind="mlp", width=8)
SMALL = AutoregressiveConfig(width=8, depth=2)
KINDS: list[type[EncoderDecoder]] = [VAE, AutoEncoder]


def pixel_vae(kind: type[EncoderDecoder] = VAE, **choices: Any) -> EncoderDecoder:
    model = kind(SHAPE, 3, net=NET, likelihood="autoregressive", levels=5, autoregressive=SMALL, **choices).double()
    with torch.no_grad():
        for parameter in model.likelihood.parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter))
    return model


def data(n: int = 6) -> Tensor:
    return torch.randint(5, (n, *SHAPE)).double() / 4


@torch.no_grad()
def by_hand(model: EncoderDecoder, x: Tensor, z: Tensor, condition: Tensor | None = None) -> Tensor:
    """log p(x | z) of each datum, from the decoder's planes and the net asked for one value after the other."""
    net = model.likelihood.get_submodule("net")
    planes = model.decoder.net(z) if condition is None else model.decoder.net(z, condition)
    state, total = net.begin(len(x), planes), torch.zeros(len(x), dtype=torch.float64)
    for place in (x * 4).round().long().permute(0, 2, 3, 1).reshape(len(x), -1).T:
        scores = torch.from_numpy(log_softmax(net.logits(state).numpy(), -1))
        total += scores.gather(-1, place[:, None])[:, 0]
        net.feed(state, place)
    return total


def test_the_elbo_is_that_of_the_formula() -> None:
    model, x = pixel_vae(), data()
    output = model(x, samples=3)
    (level,) = output.levels
    q = model.posterior(x)  # type: ignore[operator]
    log_likelihood = torch.stack([by_hand(model, x, z) for z in level.z])
    kl = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).sum(-1)
    torch.testing.assert_close(output.log_likelihood(), log_likelihood)
    loss = Elbo()(output)
    torch.testing.assert_close(loss.terms["elbo"], (log_likelihood - kl).mean())
    loss.value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())


def test_the_elbo_of_categorical_pixels() -> None:
    model, x = VAE(SHAPE, 3, net=NET, likelihood="categorical", levels=5).double(), data()
    output = model(x, samples=2)
    for z, found in zip(output.levels[0].z, output.log_likelihood(), strict=True):
        logits = model.decoder.net(z).view(6, 5, *SHAPE)
        expected = logits.log_softmax(1).gather(1, (x * 4).round().long()[:, None]).sum((1, 2, 3, 4))
        torch.testing.assert_close(found, expected)
    steps = torch.arange(5, dtype=torch.float64) / 4
    mean = torch.einsum("nk...,k->n...", model.decoder.net(model.encode(x)).view(6, 5, *SHAPE).softmax(1), steps)
    torch.testing.assert_close(model.reconstruct(x), mean)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("conditioning", "condition_shape"), [("concat", None), ("concat", (3,)), ("film", (3,))])
def test_what_is_decoded_is_a_draw(
    kind: type[EncoderDecoder], conditioning: str, condition_shape: tuple[int, ...] | None
) -> None:
    model, x = pixel_vae(kind, conditioning=conditioning, condition_shape=condition_shape), data()
    condition = None if condition_shape is None else torch.eye(3, dtype=torch.float64).repeat(2, 1)
    z = model.encode(x, condition).detach().requires_grad_()
    torch.manual_seed(1)
    decoded = model.decode(z, condition)
    torch.manual_seed(1)
    assert torch.equal(decoded, model.decode(z, condition))
    assert not decoded.requires_grad
    again = model.reconstruct(x, condition)
    assert decoded.shape == again.shape == x.shape
    assert not torch.equal(decoded, again)
    for drawn in (decoded, again):
        assert set((4 * drawn).unique().tolist()) <= {0, 1, 2, 3, 4}
    if isinstance(model, VAE):
        assert model.sample(4, condition=None if condition is None else condition[0]).shape == (4, *SHAPE)
        assert model.neighbours(x, 2, condition).shape == (2, *x.shape)
    assert model.interpolate(x[0], x[1], 3, condition=None if condition is None else condition[0]).shape == (3, *SHAPE)
    output = model(x, condition=condition)
    expected = by_hand(model, x, output.levels[0].z[0].detach(), condition)
    torch.testing.assert_close(output.log_likelihood()[0], expected)


def test_draws_have_the_mean_that_their_code_says() -> None:
    """Of the first value, which nothing stands before, by its logits."""
    model = pixel_vae()
    net, z = model.likelihood.get_submodule("net"), torch.randn(2, 3, dtype=torch.float64)
    with torch.no_grad():
        chances = net.logits(net.begin(2, model.decoder.net(z))).softmax(-1)
        drawn = model.decode(z.expand(3000, 2, 3))[..., 0, 0, 0]
    for level in range(5):
        share, p = ((4 * drawn).round() == level).double().mean(0), chances[:, level]
        assert ((share - p).abs() <= 5 * (p * (1 - p) / 3000).sqrt()).all()


@pytest.mark.parametrize("likelihood", ["autoregressive", "categorical"])
def test_trained_and_evaluated_like_any(likelihood: str) -> None:
    digits = load_data("digits", transform="none", limit=256)
    small = {"autoregressive": SMALL} if likelihood == "autoregressive" else {}
    torch.manual_seed(0)
    model = VAE(digits.shape, 2, net=NET, likelihood=likelihood, levels=digits.levels, **small)
    history = train(model, digits, quiet=True, epochs=3, batch_size=32, lr=5e-3)
    assert history["valid/elbo"][-1] > history["valid/elbo"][0] + 5
    found = evaluate(model, load_data("digits", transform="none").test, samples=3)
    assert found.log_likelihood is not None
    assert found.elbo is not None
    assert found.log_likelihood > found.elbo
    assert found.bits_per_dim == pytest.approx(-found.log_likelihood / (64 * math.log(2)))
    assert found.bits_per_dim < math.log2(17)


@pytest.mark.parametrize("kind", ["vae", "autoencoder"])
def test_every_knob_arrives(kind: str) -> None:
    class Facts:
        shape = target_shape = (1, 8, 8)
        levels, condition_shape, symbols = 17, None, ()

    knobs = {"kind": "transformer", "width": 12, "depth": 1, "heads": 3, "dropout": 0.25}
    config = resolve(Config(model={"kind": kind, "likelihood": "autoregressive", "autoregressive": knobs}), Facts())
    assert config.data.transform == "none"
    model = make_model(config.model, Facts())
    assert model.config == config.model
    assert model.config is not None
    assert model.config.autoregressive == AutoregressiveConfig(**knobs)
    likelihood = model.likelihood
    assert isinstance(likelihood, AutoregressiveLikelihood)
    assert likelihood.net.context == likelihood.channels > 1
    expected = make_autoregressive_likelihood(
        (1, 8, 8), 17, AutoregressiveConfig(**knobs), channels=likelihood.channels
    )
    assert {n: p.shape for n, p in likelihood.named_parameters()} == {
        n: p.shape for n, p in expected.named_parameters()
    }
    categorical = resolve(Config(model={"kind": kind, "likelihood": "categorical"}), Facts())
    assert categorical.data.transform == "none"
    assert make_model(categorical.model, Facts()).likelihood.channels == 17
    assert model.likelihood.net in compiled(model)


def compiled(model: Any) -> list[Any]:
    """The modules that `compile_nets` compiles; nothing is run."""
    model.compile_nets()
    return [module for module in model.modules() if module._compiled_call_impl is not None]


def test_an_own_likelihood() -> None:
    likelihood = make_autoregressive_likelihood(SHAPE, 5, SMALL, channels=2)
    model = VAE(SHAPE, 3, net=NET, likelihood=likelihood)
    assert model.config is None
    assert model.decoder.net(torch.randn(1, 3)).shape == (1, 4, 3, 4)
    assert model(data().float()).log_likelihood().shape == (1, 6)


def test_what_does_not_fit() -> None:
    for likelihood in ("bernoulli", Gaussian()):
        with pytest.raises(ValueError, match="network of likelihood autoregressive"):
            VAE(SHAPE, 3, net=NET, likelihood=likelihood, autoregressive=SMALL)
    with pytest.raises(ConfigError, match=r"needs images .* has shape \(4,\)"):
        VAE(SHAPE, 3, net=NET, likelihood="autoregressive", target_shape=(4,))
    for likelihood in ("autoregressive", "categorical"):
        with pytest.raises(ConfigError, match=f"{likelihood} needs grey levels or symbols"):
            VAE(SHAPE, 3, net=NET, likelihood=likelihood, levels=None)
    with pytest.raises(ConfigError, match="a mean over the classes, which likelihood autoregressive has not"):
        ModelConfig(kind="semi-supervised", likelihood="autoregressive")
