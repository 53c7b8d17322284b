"""VQ-VAE: its bound by hand, the straight-through gradient, codes there and back, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jensen import VQVAE, Elbo
from jensen.autoencoders.point_mass import PointMass
from jensen.bound import importance_weighted_bound, log_weights
from jensen.config import ModelConfig, NetConfig, QuantiserConfig
from jensen.errors import ConfigError
from jensen.likelihoods import Gaussian
from jensen.nn.quantiser import VectorQuantiser
from jensen.objectives import Context

NET = NetConfig(width=8, depth=1)
SMALL = QuantiserConfig(codes=5, dim=4, initial="random")


def own_nets(levels: int = 3, **knobs: object) -> VQVAE:
    """Images of 4 x 4, codes of 2 x 2; one convolution on each side."""
    quantiser = VectorQuantiser(levels, 2, initial="random", **knobs)  # type: ignore[arg-type]
    encoder, decoder = nn.Conv2d(1, 2, 2, stride=2), nn.ConvTranspose2d(2, 1, 2, stride=2)
    return VQVAE(
        (1, 4, 4), downsampling=2, quantiser=quantiser, encoder=encoder, decoder=decoder, likelihood="gaussian"
    )


@pytest.mark.parametrize("codebook", ["ema", "loss"])
def test_the_bound_by_hand(codebook: str) -> None:
    """Every number from the formulas, with the nearest code found by going through all of them."""
    model = own_nets(codebook=codebook, commitment=0.3).eval()
    x = torch.rand(2, 1, 4, 4)
    features = model.encoder(x).detach().double().numpy()
    every = model.quantiser.embed((torch.arange(3)[:, None, None, None].expand(3, 1, 2, 2),))
    table = every[:, :, 0, 0].detach().double().numpy()  # (K, D)
    distortion, distance = 0.0, 0.0
    codes = np.zeros((2, 2, 2), dtype=int)
    for n in range(2):
        embeddings = np.zeros((2, 2, 2))
        for i in range(2):
            for j in range(2):
                squares = [((features[n, :, i, j] - e) ** 2).sum() for e in table]
                codes[n, i, j] = int(np.argmin(squares))
                distance += min(squares) / 2
                embeddings[:, i, j] = table[codes[n, i, j]]
        y = model.decoder.net(torch.tensor(embeddings).float()[None]).detach().double().numpy()
        distortion += (8 * math.log(2 * math.pi) + ((x[n].numpy() - y[0]) ** 2).sum() / 2) / 2
    loss = Elbo()(model(x), Context(0, 2))
    assert model.encode(x).tolist() == codes.reshape(2, 4).tolist()
    assert loss.terms["distortion"].item() == pytest.approx(distortion, rel=1e-5)
    assert loss.terms["rate"].item() == pytest.approx(4 * math.log(3), rel=1e-6)
    assert loss.terms["elbo"].item() == pytest.approx(-distortion - 4 * math.log(3), rel=1e-5)
    expected = {"commitment": 0.3 * distance} | ({"codebook": distance} if codebook == "loss" else {})
    penalties = {name: loss.terms[name].item() for name in expected}
    assert penalties == pytest.approx(expected, rel=1e-4)
    assert loss.value.item() == pytest.approx(distortion + 4 * math.log(3) + sum(expected.values()), rel=1e-5)
    bits = -loss.terms["elbo"].item() / (16 * math.log(2))  # bits per dimension: pixels, and 4 codes of log2 3 bits
    assert bits == pytest.approx(distortion / (16 * math.log(2)) + 4 * math.log2(3) / 16, rel=1e-5)


@pytest.mark.parametrize("codebook", ["ema", "loss"])
def test_the_gradient_goes_straight_through(codebook: str) -> None:
    """At the encoder's output it is that at the decoder's input, and that of the commitment."""
    model = own_nets(codebook=codebook, commitment=0.3, revival=0.0)
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept[name] = inputs[0] if name == "seen" else output
            kept[name].retain_grad()

        return hook

    model.encoder.register_forward_hook(keep("features"))
    model.decoder.net.register_forward_hook(keep("seen"))
    x = torch.rand(6, 1, 4, 4)
    before = model.quantiser.embed(model.codes(x)).detach()
    Elbo()(model(x), Context(0, 6)).value.backward()
    features, seen = kept["features"], kept["seen"]
    assert features.grad is not None
    assert seen.grad is not None
    torch.testing.assert_close(seen, before)
    torch.testing.assert_close(features.grad, seen.grad + 2 * 0.3 * (features - before) / 6)
    assert bool(seen.grad.any())


@pytest.mark.parametrize("hierarchy", [1, 2])
@pytest.mark.parametrize("kind", ["vector", "residual", "finite-scalar"])
def test_the_loss_and_its_gradient_do_not_change_with_the_batch(kind: str, hierarchy: Literal[1, 2]) -> None:
    knobs = {"values": (3, 3)} if kind == "finite-scalar" else {"codes": 5, "initial": "random"}
    quantiser = QuantiserConfig(kind=kind, dim=4, **knobs)
    model = VQVAE((1, 8, 8), downsampling=2, hierarchy=hierarchy, quantiser=quantiser, net=NET).eval()
    x = torch.rand(3, 1, 8, 8)
    results = []
    for batch in (x, x.repeat(4, 1, 1, 1)):
        model.zero_grad()
        value = Elbo()(model(batch), Context(0, 3)).value
        value.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((value.detach(), gradient))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hierarchy", [1, 2])
@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 28, 28), (1, 33, 20), (2, 37)])
def test_any_size_and_its_codes(shape: tuple[int, ...], hierarchy: Literal[1, 2]) -> None:
    model = VQVAE(shape, downsampling=2, hierarchy=hierarchy, quantiser=SMALL, net=NET).eval()
    grid = tuple(side // 2 for side in shape[1:])
    top = tuple(side // 4 for side in shape[1:])
    assert model.code_shapes == ((1, *grid),) if hierarchy == 1 else ((1, *top), (1, *grid))
    assert model.latent == math.prod(grid) + (math.prod(top) if hierarchy == 2 else 0)
    x = torch.rand(4, *shape)
    codes = model.encode(x)
    assert codes.dtype == torch.int64
    assert codes.shape == (4, model.latent)
    levels = model.codes(x)
    assert [level.shape for level in levels] == [(4, *sizes) for sizes in model.code_shapes]
    assert torch.equal(codes, torch.cat([level.flatten(1) for level in levels], 1))
    output = model(x)
    assert all(torch.equal(level.z[0], codes) for level, codes in zip(output.levels, levels, strict=True))
    torch.testing.assert_close(output.rate(), torch.full((1, 4), model.latent * math.log(5)))
    torch.testing.assert_close(model.decode(codes), output.likelihood.mean[0])
    torch.testing.assert_close(model.decode(codes), model.reconstruct(x))
    for codes_as in (codes.float(), codes.to(torch.int16), codes.view(2, 2, -1)):
        torch.testing.assert_close(model.decode(codes_as).flatten(0, -1 - len(shape)), model.reconstruct(x))
    assert model.decode(codes[0]).shape == shape
    grids = model.grids(codes.view(2, 2, -1))
    assert [grid.shape for grid in grids] == [(2, 2, *sizes) for sizes in model.code_shapes]
    assert torch.equal(model.flat(grids), codes.view(2, 2, -1))


def test_two_levels_know_of_each_other() -> None:
    """Other codes at the top change what the bottom quantises, and what is decoded from the same bottom."""
    model = VQVAE((1, 16, 16), downsampling=2, hierarchy=2, quantiser=SMALL, net=NET).eval()
    x = torch.rand(6, 1, 16, 16)
    top, bottom = model.codes(x)
    other = model.flat(((top + 1) % 5, bottom))
    assert not torch.allclose(model.decode(other), model.reconstruct(x))
    bottom_only = model.flat((top, (bottom + 1) % 5))
    assert not torch.allclose(model.decode(bottom_only), model.reconstruct(x))
    before = model.quantiser.top_decoder
    model.quantiser.top_decoder = Shifted(before)
    assert not torch.equal(model.codes(x)[1], bottom)


def test_what_is_decoded_from_the_top_learns_on_both_its_ways() -> None:
    """It stands beside the features as the bottom is quantised, and beside the bottom's embeddings in the decoder."""
    model = VQVAE((1, 16, 16), downsampling=2, hierarchy=2, quantiser=SMALL, net=NET).eval()
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept[name] = output if name == "told" else inputs[0]
            kept[name].retain_grad()

        return hook

    model.quantiser.top_decoder.register_forward_hook(keep("told"))
    model.quantiser.bottom.register_forward_hook(keep("bottom"))
    model.decoder.net.register_forward_hook(keep("seen"))
    Elbo()(model(torch.rand(3, 1, 16, 16)), Context(0, 3)).value.backward()
    told, bottom, seen = (kept[name].grad for name in ("told", "bottom", "seen"))
    assert told is not None
    assert bottom is not None
    assert seen is not None
    by_bottom, by_decoder = bottom[:, -told.shape[1] :], seen[:, -told.shape[1] :]
    assert bool(by_bottom.any())
    assert bool(by_decoder.any())
    torch.testing.assert_close(told, by_bottom + by_decoder)


class Shifted(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = 10 * self.net(x) + 1
        return shifted


def test_more_samples_of_a_function_of_x_tell_nothing_new() -> None:
    model = VQVAE((1, 8, 8), downsampling=2, quantiser=SMALL, net=NET)
    assert not model.stochastic
    output = model.eval()(torch.rand(3, 1, 8, 8), samples=7)
    (level,) = output.levels
    assert isinstance(level.posterior, PointMass)
    assert level.z.shape == (1, 3, 1, 4, 4)
    weights = log_weights(output)
    elbo = output.log_likelihood()[0] - output.rate()[0]
    torch.testing.assert_close(importance_weighted_bound(weights), elbo)
    torch.testing.assert_close(importance_weighted_bound(weights.expand(7, 3)), elbo)


def test_levels_without_decoding() -> None:
    model = VQVAE((1, 8, 8), downsampling=2, quantiser=SMALL, net=NET).eval()
    x = torch.rand(3, 1, 8, 8)
    decoded: list[object] = []
    model.decoder.register_forward_hook(lambda *_: decoded.append(1))
    (level,), weights = model.levels(x)
    assert (weights, decoded) == (None, [])
    assert torch.equal(level.z, model(x).levels[0].z)
    torch.testing.assert_close(level.kl(), torch.full((1, 3, 1, 4, 4), math.log(5)))


def test_looking_at_codes_teaches_the_codebook_nothing() -> None:
    model = VQVAE((1, 8, 8), downsampling=2, quantiser=QuantiserConfig(codes=5, dim=4), net=NET).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(3, 1, 8, 8)
    model.encode(x)
    model.interpolate(x[0], x[1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    model(x)
    assert not all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_report_counts_codes() -> None:
    model = own_nets(levels=6).eval()
    x = torch.rand(5, 1, 4, 4)
    counts = np.bincount(model.encode(x).flatten().numpy(), minlength=6) / 20
    used = counts[counts > 0]
    report = model.report(model(x))
    assert report["perplexity"].item() == pytest.approx(math.exp(-(used * np.log(used)).sum()), rel=1e-5)
    assert report["codes_used"].item() == pytest.approx(len(used) / 6)
    both = VQVAE(
        (1, 8, 8), downsampling=2, hierarchy=2, quantiser=QuantiserConfig(kind="residual", codes=5, dim=4, books=3)
    )
    names = {"perplexity_top", "codes_used_top", "perplexity_bottom", "codes_used_bottom"}
    values = both.report(both(torch.rand(2, 1, 8, 8)))
    assert set(values) == names
    assert all(1 <= value <= 5 for name, value in values.items() if "perplexity" in name)


def test_uniform_codes_are_sampled() -> None:
    """Each code with probability 1 / K, all combinations: 2 codes of 3 values decode to 9 pictures."""
    quantiser = VectorQuantiser(3, 2, initial="random")
    encoder, decoder = nn.Conv2d(1, 2, 2, stride=2), nn.ConvTranspose2d(2, 1, 2, stride=2)
    model = VQVAE(
        (1, 2, 4), downsampling=2, quantiser=quantiser, encoder=encoder, decoder=decoder, likelihood="gaussian"
    )
    draws = model.eval().sample(9000)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    distance = (draws[:, None] - model.decode(every)).flatten(2).abs().amax(2)
    counts = torch.bincount(distance.argmin(1), minlength=9)
    assert distance.amin(1).max() < 1e-5
    assert ((counts - 1000).abs() < 5 * math.sqrt(1000)).all()
    for choice in ({"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.9}):
        with pytest.raises(ValueError, match="train a prior first"):
            model.sample(2, **choice)
    for n, temperature in ((0, 1.0), (2, 0.0), (2, math.nan)):
        with pytest.raises(ValueError, match="should be"):
            model.sample(n, temperature)


def test_interpolation_quantises_what_lies_between() -> None:
    model = own_nets(levels=8).eval()
    x = torch.rand(2, 1, 4, 4)
    walk = model.interpolate(x[0], x[1], 5)
    torch.testing.assert_close(walk[[0, -1]], model.reconstruct(x))
    features = model.encoder(x)
    between = torch.lerp(features[:1], features[1:], 0.25)
    torch.testing.assert_close(walk[1:2], model.decoder.net(model.quantiser(between).seen))
    with pytest.raises(ValueError, match="path spherical is for codes of a normal prior"):
        model.interpolate(x[0], x[1], path="spherical")


def test_codes_that_are_none_are_refused() -> None:
    model = VQVAE((1, 8, 8), downsampling=4, quantiser=SMALL, net=NET)
    with pytest.raises(ValueError, match=r"codes should have 4 numbers each, got shape \(2, 5\)"):
        model.decode(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="codes should be whole numbers"):
        model.decode(torch.tensor([0.0, 1.0, 2.5, 0.0]))
    with pytest.raises(ValueError, match="codes should be whole numbers"):
        model.decode(torch.tensor([0.0, 1.0, math.nan, 0.0]))
    for wrong in (5, -1):
        with pytest.raises(ValueError, match=r"codes should be in 0 .. 4, got"):
            model.decode(torch.tensor([0, 1, wrong, 0]))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"codes on a grid need images .* shape \(10,\): use model vae for tables"):
        VQVAE((10,))
    with pytest.raises(ConfigError, match="net mlp ends in a vector"):
        VQVAE((1, 8, 8), net="mlp")
    with pytest.raises(ConfigError, match="data of size 4x4"):
        VQVAE((1, 4, 4), downsampling=4, hierarchy=2)
    with pytest.raises(ValueError, match="hierarchy should be 1 or 2 levels of codes, got 3"):
        VQVAE((1, 8, 8), hierarchy=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="should give 64 features, the quantiser's dim, but gives 2"):
        VQVAE((1, 8, 8), downsampling=2, encoder=nn.Conv2d(1, 2, 2, stride=2))
    with pytest.raises(ValueError, match=r"to a grid \(4, 4\), which is no downsampling 4"):
        VQVAE((1, 8, 8), encoder=nn.Conv2d(1, 64, 2, stride=2))
    with pytest.raises(ValueError, match="encoder should give features on a grid"):
        VQVAE((1, 8, 8), encoder=nn.Sequential(nn.Flatten(), nn.Linear(64, 64)))
    with pytest.raises(ValueError, match="give levels, the number of them"):
        VQVAE((1, 8), symbols=True, levels=None, likelihood="gaussian")
    with pytest.raises(ValueError, match="autoregressive is the network of likelihood autoregressive"):
        VQVAE((1, 8, 8), autoregressive=ModelConfig().autoregressive)
    model = VQVAE((1, 8, 8), quantiser=SMALL, net=NET)
    with pytest.raises(ValueError, match="x should have shape"):
        model.encode(torch.rand(2, 1, 8, 9))
    with pytest.raises(ValueError, match="takes no condition"):
        model.encode(torch.rand(2, 1, 8, 8), torch.rand(2, 3))


def test_configuration_is_kept() -> None:
    model = VQVAE((1, 8, 8), downsampling=2, hierarchy=2, quantiser=SMALL, net=NET, likelihood="gaussian", sigma=0.1)
    expected = {"kind": "vqvae", "downsampling": 2, "hierarchy": 2, "likelihood": "gaussian", "sigma": 0.1}
    assert model.config == ModelConfig(**expected, quantiser=SMALL, net=NET)
    assert own_nets().config is None
    assert VQVAE((1, 8, 8), likelihood=Gaussian()).config is None


def test_something_else_is_predicted() -> None:
    """A target on no such grid is decoded from all embeddings in one row."""
    model = VQVAE((1, 8, 8), downsampling=2, quantiser=SMALL, net=NET, target_shape=(3,), likelihood="gaussian").eval()
    x, target = torch.rand(5, 1, 8, 8), torch.rand(5, 3)
    output = model(x, target)
    assert output.likelihood.mean.shape == (1, 5, 3)
    torch.testing.assert_close(model.reconstruct(x), output.likelihood.mean[0])
    half = VQVAE((3, 8, 8), downsampling=2, quantiser=SMALL, net=NET, target_shape=(1, 9, 8), likelihood="gaussian")
    assert half.decoder.code_dims == 3
    assert half.sample(2).shape == (2, 1, 9, 8)


def test_what_is_missing_is_not_scored() -> None:
    model = VQVAE((1, 8, 8), downsampling=2, quantiser=SMALL, net=NET, likelihood="gaussian").eval()
    x = torch.rand(2, 1, 8, 8)
    mask = (torch.rand(2, 1, 8, 8) < 0.5).float()
    output = model(x, mask=mask)
    errors = (x - output.likelihood.mean[0]).square() / 2 + math.log(2 * math.pi) / 2
    torch.testing.assert_close(output.log_likelihood()[0], -(errors * mask).flatten(1).sum(1))
