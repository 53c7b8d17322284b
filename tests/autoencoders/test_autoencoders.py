"""VAE and AutoEncoder: every method against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jensen.autoencoders import VAE, AutoEncoder, EncoderDecoder, path_between
from jensen.bound import log_weights
from jensen.config import LIKELIHOODS, AutoregressiveConfig, NetConfig
from jensen.errors import ConfigError
from jensen.likelihoods import Gaussian

SHAPES = [(1, 8, 8), (2, 5, 7), (4,)]
KINDS: list[type[EncoderDecoder]] = [VAE, AutoEncoder]
NET = NetConfig(width=8)
SMALL = AutoregressiveConfig(width=8, depth=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("likelihood", sorted({*LIKELIHOODS} - {"table", "multinomial"}))
def test_shapes_and_gradients(kind: type[EncoderDecoder], shape: tuple[int, ...], likelihood: str) -> None:
    small = {"autoregressive": SMALL} if likelihood == "autoregressive" else {}
    if likelihood == "autoregressive" and len(shape) == 1:  # a table has no grid to go through
        with pytest.raises(ConfigError, match=r"needs images.*or signals.*has shape \(4,\)"):
            kind(shape, 3, net=NET, likelihood=likelihood, levels=17)
        return
    model = kind(shape, 3, net=NET, likelihood=likelihood, levels=17, **small)
    x = torch.randint(17, (5, *shape)).float() / 16
    output = model(x, samples=4)
    samples = 4 if kind is VAE else 1
    assert output.target.shape == (1, 5, *shape)
    assert output.log_likelihood().shape == (samples, 5)
    assert output.rate().shape == (1, 5)
    assert output.likelihood.batch_shape == output.likelihood.sample().shape == (samples, 5, *shape)
    if likelihood != "autoregressive":
        assert output.likelihood.mean.shape == (samples, 5, *shape)
    assert model.encode(x).shape == (5, 3)
    assert model.reconstruct(x).shape == (5, *shape)
    assert model.decode(torch.randn(2, 6, 3)).shape == (2, 6, *shape)
    assert model.decode(torch.randn(3)).shape == shape
    (output.rate().mean() - output.log_likelihood().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_parameters_are_not_mixed_up(kind: type[EncoderDecoder]) -> None:
    """Channels of the decoder: first the means of all channels of the datum, then their log sigmas."""
    first = torch.arange(2 * 3 * 2 * 2).float().view(1, 12, 2) / 10

    class Fixed(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return first.view(1, 6, 2, 2).expand(len(z), 6, 2, 2).contiguous() + z[:, :1, None, None]

    model = kind((3, 2, 2), 1, likelihood="gaussian-per-pixel", decoder=Fixed(), net=NetConfig(kind="mlp"))
    z = torch.tensor([[[0.0], [1.0]], [[2.0], [3.0]], [[4.0], [5.0]]])  # (3 samples, 2 data, 1)
    distribution = model.decoder(z)
    parts = first.view(2, 3, 2, 2)
    for s, b in ((0, 0), (1, 0), (2, 1)):
        torch.testing.assert_close(distribution.mean[s, b], parts[0] + z[s, b])
        torch.testing.assert_close(distribution.stddev[s, b], (7 * torch.tanh((parts[1] + z[s, b]) / 7)).exp())


@pytest.mark.parametrize("kind", KINDS)
def test_methods_follow_from_the_nets(kind: type[EncoderDecoder]) -> None:
    model = kind((4,), 2, likelihood="bernoulli", encoder=nn.Linear(4, 4 if kind is VAE else 2), net=NET)
    x = torch.rand(6, 4)
    net = model.encoder.net if isinstance(model, VAE) else model.encoder
    code = net(x)[:, :2]
    torch.testing.assert_close(model.encode(x), code)
    torch.testing.assert_close(model.reconstruct(x), torch.sigmoid(model.decoder.net(code)))
    torch.testing.assert_close(model.decode(code), torch.sigmoid(model.decoder.net(code)))
    walk = model.interpolate(x[0], x[1], 5)
    assert walk.shape == (5, 4)
    torch.testing.assert_close(walk[[0, -1]], model.reconstruct(x[:2]))
    torch.testing.assert_close(walk[2], model.decode((code[0] + code[1]) / 2))


def test_posterior_of_a_vae() -> None:
    model = VAE((4,), 2, likelihood="gaussian", net=NET)
    x = torch.randn(3, 4)
    raw = model.encoder.net(x)
    q = model.posterior(x)
    torch.testing.assert_close(q.loc, raw[:, :2])
    torch.testing.assert_close(q.scale, (7 * torch.tanh(raw[:, 2:] / 7)).exp())
    prior = model.prior()
    assert (prior.loc.item(), prior.scale.item()) == (0.0, 1.0)


def test_draws_of_z_have_the_posterior_mean_and_spread() -> None:
    model = VAE((4,), 2, likelihood="gaussian", net=NET)
    x = torch.randn(3, 4)
    q = model.posterior(x)
    (level,) = model(x, samples=20_000).levels
    assert level.z.shape == (20_000, 3, 2)
    check_moments(level.z, q.loc, q.scale)
    single = torch.stack([model(x).levels[0].z[0] for _ in range(2000)])
    check_moments(single, q.loc, q.scale)
    # Data of one batch must not share their noise.
    eps = (level.z - q.loc) / q.scale
    correlation = np.corrcoef(eps.flatten(1).detach().numpy().T)
    assert np.abs(correlation - np.eye(6)).max() < 0.05


def check_moments(z: Tensor, mean: Tensor, scale: Tensor) -> None:
    n = len(z)
    assert ((z.mean(0) - mean).abs() < 5 * scale / math.sqrt(n)).all()
    assert ((z.var(0) / scale**2 - 1).abs() < 5 * math.sqrt(2 / n)).all()


class Identity(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.clone()


def identity(latent: int = 2) -> VAE:
    """Codes are decoded to themselves."""
    return VAE((latent,), latent, likelihood="gaussian", encoder=nn.Linear(latent, 2 * latent), decoder=Identity())


def test_neighbours_are_mu_plus_sigma_eps() -> None:
    model = identity()
    x = torch.randn(3, 2)
    q = model.posterior(x)
    near = model.neighbours(x, 20_000)
    assert near.shape == (20_000, 3, 2)
    check_moments(near, q.loc, q.scale)
    with pytest.raises(ValueError, match="n should be at least 1, got 0"):
        model.neighbours(x, 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_from_the_prior(temperature: float) -> None:
    draws = identity().sample(20_000, temperature)
    assert draws.shape == (20_000, 2)
    check_moments(draws, torch.zeros(2), torch.full((2,), temperature))


@pytest.mark.parametrize(("n", "temperature"), [(0, 1.0), (3, 0.0), (3, -1.0), (3, math.inf), (3, math.nan)])
def test_impossible_samples(n: int, temperature: float) -> None:
    with pytest.raises(ValueError, match=r"n should be|temperature should be"):
        identity().sample(n, temperature)


def test_an_autoencoder_has_nothing_to_sample_from() -> None:
    with pytest.raises(TypeError, match=r"no prior over its codes.*Train a VAE"):
        AutoEncoder((4,), 2).sample(3)
    output = AutoEncoder((4,), 2)(torch.rand(3, 4))
    with pytest.raises(ValueError, match="deterministic"):
        log_weights(output)


def test_spherical_path_turns_evenly_while_the_length_goes_linearly() -> None:
    start, end = torch.randn(16, dtype=torch.float64), 3 * torch.randn(16, dtype=torch.float64)
    path = path_between(start, end, 7, "spherical")
    torch.testing.assert_close(path[[0, -1]], torch.stack([start, end]))
    lengths = path.norm(dim=1)
    torch.testing.assert_close(lengths, torch.linspace(start.norm().item(), end.norm().item(), 7, dtype=torch.float64))
    directions = path / lengths[:, None]
    steps = torch.acos((directions[1:] * directions[:-1]).sum(1))
    torch.testing.assert_close(steps, steps.mean().expand(6))
    whole = torch.acos(directions[0] @ directions[-1])
    torch.testing.assert_close(steps.sum(), whole)  # the short way round


def test_linear_path() -> None:
    start, end = torch.tensor([0.0, 2.0]), torch.tensor([4.0, -2.0])
    expected = torch.tensor([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0], [3.0, -1.0], [4.0, -2.0]])
    torch.testing.assert_close(path_between(start, end, 5), expected)


@pytest.mark.parametrize("end", [[-2.0, 0.0], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
def test_spherical_path_without_a_plane_is_linear(end: list[float]) -> None:
    start, stop = torch.tensor([1.0, 0.0]), torch.tensor(end)
    torch.testing.assert_close(path_between(start, stop, 4, "spherical"), path_between(start, stop, 4, "linear"))


@pytest.mark.parametrize("factor", [-1.3, 1.3])
def test_spherical_path_is_finite_near_parallel_in_single_precision(factor: float) -> None:
    for _ in range(50):
        start = torch.randn(16)
        path = path_between(start, factor * start * (1 + 1e-7 * torch.randn(16)), 9, "spherical")
        assert torch.isfinite(path).all()
        torch.testing.assert_close(path[[0, -1]], torch.stack([start, factor * start]), rtol=1e-3, atol=1e-3)
        assert path.norm(dim=1).max() <= 1.301 * start.norm()


def test_impossible_paths() -> None:
    start = torch.randn(3)
    with pytest.raises(ValueError, match="steps should be at least 2, got 1"):
        path_between(start, start, 1)
    with pytest.raises(ValueError, match="path should be linear or spherical, got 'cubic'"):
        path_between(start, start, 3, "cubic")  # type: ignore[arg-type]


def test_own_nets_are_used_even_if_empty() -> None:
    encoder, decoder = nn.Sequential(), nn.Linear(2, 4)
    model = VAE((4,), 2, likelihood="gaussian", encoder=encoder, decoder=decoder)
    x = torch.randn(3, 4)
    torch.testing.assert_close(model.encode(x), x[:, :2])
    torch.testing.assert_close(model.reconstruct(x), decoder(x[:, :2]))
    assert model.config is None


@pytest.mark.parametrize("kind", KINDS)
def test_another_target_than_the_input(kind: type[EncoderDecoder]) -> None:
    model = kind((1, 28, 28), 3, net=NetConfig(kind="conv", width=4), target_shape=(1,), likelihood="bernoulli")
    x, target = torch.rand(5, 1, 28, 28), torch.ones(5, 1)
    output = model(x, target)
    assert output.target.shape == (1, 5, 1)
    probability = output.likelihood.mean
    torch.testing.assert_close(output.log_likelihood(), probability.log()[..., 0])
    assert model.reconstruct(x).shape == (5, 1)
    assert model.interpolate(x[0], x[1], 3).shape == (3, 1)
    with pytest.raises(ValueError, match=r"target should have shape \(5, 1\), got \(5, 1, 28, 28\)"):
        model(x)


@pytest.mark.parametrize("kind", KINDS)
def test_denoising_scores_the_clean_target(kind: type[EncoderDecoder]) -> None:
    model = kind((4,), 2, likelihood="gaussian", net=NET)
    noisy, clean = torch.randn(3, 4), torch.randn(3, 4)
    output = model(noisy, clean)
    expected = -0.5 * (clean - output.likelihood.mean).square().sum(-1) - 2 * math.log(2 * math.pi)
    torch.testing.assert_close(output.log_likelihood(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_shapes(kind: type[EncoderDecoder]) -> None:
    model = kind((1, 8, 8), 3, net=NET)
    x = torch.rand(2, 1, 8, 8)
    for wrong in (torch.rand(2, 64), torch.rand(2, 1, 8, 7), torch.rand(1, 8, 8)):
        for method in (model, model.encode, model.reconstruct):
            with pytest.raises(ValueError, match=r"x should have shape \(batch, 1, 8, 8\), got"):
                method(wrong)
    with pytest.raises(ValueError, match="target should have shape"):
        model(x, x[:1])
    for wrong in (torch.rand(2, 4), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="codes should have 3 numbers each"):
            model.decode(wrong)


def test_impossible_models() -> None:
    with pytest.raises(ValueError, match="latent"):
        VAE((4,), 0)
    with pytest.raises(ConfigError, match="needs images"):
        VAE((4,), 2, net="conv")
    with pytest.raises(ConfigError, match="likelihood"):
        VAE((4,), 2, likelihood="poisson")
    with pytest.raises(ConfigError, match="kind"):
        VAE((4,), 2, net="transformer")
    with pytest.raises(ConfigError, match="grey levels"):
        VAE((4,), 2, likelihood="discretised-logistic", levels=None)


@pytest.mark.parametrize("kind", KINDS)
def test_double_precision_throughout(kind: type[EncoderDecoder]) -> None:
    model = kind((4,), 2, likelihood="gaussian-learned", net=NET).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    output = model(x)
    assert output.log_likelihood().dtype == output.rate().dtype == model.encode(x).dtype == torch.float64
    if isinstance(model, VAE):
        assert model.sample(2).dtype == model.neighbours(x).dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_bf16_keeps_codes_and_sums_in_single_precision(kind: type[EncoderDecoder], net: str) -> None:
    model = kind((1, 8, 8), 3, net=NetConfig(kind=net, width=8), likelihood="gaussian")
    x = torch.rand(5, 1, 8, 8)
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    assert found.levels[0].z.dtype == found.log_likelihood().dtype == found.rate().dtype == torch.float32
    torch.testing.assert_close(found.log_likelihood(), expected.log_likelihood(), rtol=0.02, atol=0.02)


def test_own_likelihood() -> None:
    model = AutoEncoder((4,), 2, likelihood=Gaussian(0.25), net=NET)
    assert model.likelihood is model.decoder.likelihood
    assert model(torch.randn(3, 4)).likelihood.stddev.unique().item() == 0.25
    assert model.config is None


def test_state_is_what_it_learns() -> None:
    """No buffers that a checkpoint would have to know of: the prior is a constant."""
    names = set(VAE((4,), 2, likelihood="gaussian-learned", net=NET).state_dict())
    assert all(name.endswith((".weight", ".bias", "likelihood.log_sigma")) for name in names)
