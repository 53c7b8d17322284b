"""Mixture of discretised logistics: against sums over all values of a pixel, and a reference written in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, log_softmax, logsumexp
from torch import Tensor, nn

from jensen.autoencoders import VAE, make_model
from jensen.autoencoders.vqvae import VQVAE
from jensen.bound import Output
from jensen.config import Config, NetConfig
from jensen.data import load_data
from jensen.likelihoods import (
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    LogisticMixtureOnLevels,
    LogisticOnLevels,
    make_likelihood,
)
from jensen.likelihoods.discretised_logistic import log_mass
from jensen.metrics import evaluate

Array = np.ndarray[Any, Any]
CHANNELS = (1, 2, 3, 4)


def mixture(channels: int, *lead: int, levels: int = 5, components: int = 3, seed: int = 0) -> LogisticMixtureOnLevels:
    """One pixel a row, float64, of components that differ."""
    likelihood = DiscretisedLogisticMixture(levels, components)
    shape = (channels, 1)
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randn((*lead, likelihood.planes(shape), 1), generator=generator, dtype=torch.float64)
    return likelihood.of_planes(planes, shape)


def every_pixel(levels: int, channels: int) -> Tensor:
    """All values of a pixel, (levels ** channels, channels, 1)."""
    values = torch.arange(levels, dtype=torch.float64) / (levels - 1)
    return torch.cartesian_prod(*[values] * channels).view(-1, channels, 1)


def reference(planes: Array, x: Array, levels: int, components: int) -> Array:
    """log p(x) of each pixel (batch, *grid), in float64, by differences of sigmoids; planes as the docstring says."""
    channels, half = x.shape[1], 0.5 / (levels - 1)
    kinds = np.split(planes, planes.shape[1] // components, 1)  # (batch, K, *grid) each
    joint = log_softmax(kinds[0], 1)
    coefficients = iter(kinds[1 + 2 * channels :])
    start = np.linspace(0, 1, components).reshape(-1, *[1] * (x.ndim - 2))
    for c in range(channels):
        location, scale = start + kinds[1 + c], np.exp(6 * np.tanh(kinds[1 + channels + c] / 6) - 2)
        for before in range(c):
            location = location + np.tanh(next(coefficients)) * (x[:, before, None] - 0.5)
        value = x[:, c, None]
        upper = np.where(value > 1 - half, np.inf, (value + half - location) / scale)
        lower = np.where(value < half, -np.inf, (value - half - location) / scale)
        sign = np.where(value > location, -1, 1)  # from whichever tail is smaller
        joint = joint + np.log(sign * (expit(sign * upper) - expit(sign * lower)))
    assert next(coefficients, None) is None
    return np.asarray(logsumexp(joint, 1))


@pytest.mark.parametrize(("channels", "planes"), [(1, 30), (2, 60), (3, 100), (4, 150)])
def test_planes_of_ten_components(channels: int, planes: int) -> None:
    likelihood = make_likelihood("discretised-logistic-mixture", levels=256)
    assert isinstance(likelihood, DiscretisedLogisticMixture)
    assert likelihood.planes((channels, 8, 8)) == likelihood.planes((channels, 5)) == planes
    assert likelihood.planes((7,)) == 30 * 7
    assert likelihood.extra_repr() == "levels=256, components=10"


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("levels", "components"), [(2, 3), (17, 1), (256, 4)])
def test_log_prob_is_that_of_the_reference(channels: int, levels: int, components: int) -> None:
    shape = (channels, 2, 3)
    likelihood = DiscretisedLogisticMixture(levels, components)
    planes = torch.randn(5, likelihood.planes(shape), 2, 3, dtype=torch.float64)
    x = torch.randint(levels, (5, *shape)).double() / (levels - 1)
    x[0], x[1] = 0.0, 1.0
    found = likelihood.of_planes(planes, shape).log_prob(x)
    assert found.shape == x.shape
    expected = reference(planes.numpy(), x.numpy(), levels, components)
    np.testing.assert_allclose(found.sum(1).numpy(), expected, rtol=1e-9)
    single = likelihood.of_planes(planes.float(), shape).log_prob(x.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.sum(1).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_probabilities_of_a_pixel_add_up_to_one(channels: int) -> None:
    """Together, and each channel's given those before it."""
    levels = 5
    log_prob = mixture(channels, 4).log_prob(every_pixel(levels, channels).unsqueeze(1))  # (pixels, 4, channels, 1)
    torch.testing.assert_close(log_prob.sum(-2).exp().sum(0), torch.ones(4, 1, dtype=torch.float64), rtol=0, atol=1e-12)
    for c in range(channels):
        own = log_prob[:, :, c].exp().view(levels**c, levels, -1, 4)  # (before, own, after, 4)
        torch.testing.assert_close(own.sum(1), torch.ones_like(own[:, 0]), rtol=0, atol=1e-12)
        torch.testing.assert_close(own, own[:, :, :1].expand_as(own), rtol=1e-9, atol=0)  # nothing of those after it


@pytest.mark.parametrize("shape", [(1, 3, 2), (1, 4), (5,)])
def test_one_component_of_one_channel_is_a_discretised_logistic(shape: tuple[int, ...]) -> None:
    one, plain = DiscretisedLogisticMixture(17, 1), DiscretisedLogistic(17)
    weight, mean, log_scale = torch.randn(3, 2, *shape)
    x = torch.randint(17, (2, *shape)) / 16
    found = one.of_planes(torch.cat([weight, mean, log_scale], 1), shape)
    expected = plain(mean, log_scale)
    torch.testing.assert_close(found.log_prob(x), expected.log_prob(x), rtol=0, atol=2e-6)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(one(weight, mean, log_scale).log_prob(x), expected.log_prob(x), rtol=0, atol=2e-6)
    assert found.batch_shape == found.sample().shape == (2, *shape)


def test_features_are_pixels_of_one_channel() -> None:
    likelihood = DiscretisedLogisticMixture(9, 2)
    planes, x = torch.randn(4, 6, 5), torch.randint(9, (4, 5)) / 8
    found = likelihood.of_planes(planes.flatten(1), (5,))
    expected = likelihood.of_planes(planes, (1, 5))
    assert torch.equal(found.log_prob(x), expected.log_prob(x.unsqueeze(1)).squeeze(1))
    assert torch.equal(found.mean, expected.mean.squeeze(1))
    assert found.sample((3,)).shape == (3, 4, 5)


@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivatives_against_finite_differences(channels: int) -> None:
    likelihood = DiscretisedLogisticMixture(9, 2)
    shape = (channels, 1)
    planes = torch.randn(3, likelihood.planes(shape), 1, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([0.0, 1.0, 0.25], dtype=torch.float64)[(torch.arange(3)[:, None] + torch.arange(channels)) % 3]
    x = x.unsqueeze(-1)

    def scored(planes: Tensor, value: Tensor) -> Tensor:
        return likelihood.of_planes(planes, shape).log_prob(value)

    x.requires_grad_()
    assert torch.autograd.gradcheck(scored, (planes, x))
    assert torch.autograd.gradgradcheck(scored, (planes, x), fast_mode=True)


def test_many_at_once_by_vmap() -> None:
    likelihood = DiscretisedLogisticMixture(9, 2)
    shape = (3, 2)
    planes, x = torch.randn(4, likelihood.planes(shape), 2), torch.randint(9, (4, *shape)) / 8

    def score(planes: Tensor, x: Tensor) -> Tensor:
        return likelihood.of_planes(planes, shape).log_prob(x).sum()

    found = torch.func.vmap(torch.func.grad(score))(planes, x)
    planes.requires_grad_()
    score(planes, x).backward()
    assert planes.grad is not None
    torch.testing.assert_close(found, planes.grad)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_sample_frequencies(channels: int) -> None:
    """Of all values of a pixel together, so that the channels hang together as they should."""
    levels, draws = 4, 40_000
    distribution = mixture(channels, levels=levels, seed=3)
    drawn = distribution.sample(torch.Size([draws // 2, 2])).flatten(0, 1)
    assert drawn.shape == (draws, channels, 1)
    steps = drawn * (levels - 1)
    assert torch.equal(steps, steps.round())
    index = (
        steps.squeeze(-1) @ torch.tensor([float(levels) ** (channels - 1 - c) for c in range(channels)]).double()
    ).long()
    counts = torch.bincount(index, minlength=levels**channels).double().numpy()
    expected = distribution.log_prob(every_pixel(levels, channels)).sum((-2, -1)).exp().numpy() * draws
    kept = expected > 8
    counts, expected = np.append(counts[kept], counts[~kept].sum()), np.append(expected[kept], expected[~kept].sum())
    assert len(expected) > levels
    kept = expected > 1
    assert stats.chisquare(counts[kept], expected[kept] * counts[kept].sum() / expected[kept].sum()).pvalue > 1e-3


def test_samples_of_neighbours_are_independent_and_of_their_own_components() -> None:
    """Two places of a batch that are certain of different colours: each draws its own."""
    likelihood = DiscretisedLogisticMixture(256, 2)
    planes = torch.full((2, likelihood.planes((3, 1, 2)), 1, 2), -100.0)  # log scales at their least
    planes[:, 14:] = 0.0  # no coefficients
    colours = torch.tensor([[[0.2, 0.4], [0.6, 0.8], [0.4, 0.2]], [[1.0, 0.0], [0.4, 0.6], [0.0, 1.0]]])
    chosen = torch.tensor([[0, 1], [1, 1]])
    for b in range(2):
        for place in range(2):
            k = int(chosen[b, place])
            planes[b, k, 0, place] = 100.0
            for c in range(3):
                planes[b, 2 + 2 * c + k, 0, place] = colours[b, c, place] - k  # the second starts at 1
    drawn = likelihood.of_planes(planes, (3, 1, 2)).sample((50,))
    assert drawn.shape == (50, 2, 3, 1, 2)
    assert (drawn.squeeze(-2) - colours).abs().max() < 0.01


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_mean_against_enumeration(channels: int) -> None:
    levels = 9
    distribution = mixture(channels, 200, levels=levels)
    pixels = every_pixel(levels, channels).unsqueeze(1)
    weights = distribution.log_prob(pixels).sum(-2, keepdim=True).exp()
    exact = (weights * pixels).sum(0)
    error = (distribution.mean - exact).abs()
    assert error[:, 0].max() < 1e-12
    # Locations all over the line and half of the logistics wide: the line bends, by so much.
    assert error.max() < 0.15
    assert error.square().mean().sqrt() < 0.02


def test_mean_is_exact_without_coefficients_and_inside() -> None:
    levels = 17
    pixels = every_pixel(levels, 2).unsqueeze(1)
    for low, coefficient in ((0.2, 0.0), (0.4, 0.9)):  # anywhere; or within the range, narrow as grey levels go
        location = low + (1 - 2 * low) * torch.rand(2, 50, 3, 1, dtype=torch.float64)
        log_scale = torch.full((2, 50, 3, 1), -2.0 if coefficient == 0 else -4.0, dtype=torch.float64)
        distribution = LogisticMixtureOnLevels(
            torch.randn(50, 3, 1, dtype=torch.float64),
            list(location),
            list(log_scale),
            [torch.full((50, 3, 1), coefficient, dtype=torch.float64)],
            levels=levels,
            grid=1,
        )
        exact = (distribution.log_prob(pixels).sum(-2, keepdim=True).exp() * pixels).sum(0)
        torch.testing.assert_close(distribution.mean, exact, rtol=0, atol=1e-12 if coefficient == 0 else 2e-3)


@pytest.mark.parametrize("levels", [17, 18, 64, 256])
def test_mean_of_one_logistic_is_the_sum_over_levels(levels: int) -> None:
    location = torch.cat([torch.linspace(-0.5, 1.5, 401), torch.tensor([-1e4, -30.0, 30.0, 1e4])]).double()
    worst = 0.0
    for log_scale in np.linspace(-8, 4, 25):
        survival = [expit((location.numpy() - (k - 0.5) / (levels - 1)) / np.exp(log_scale)) for k in range(1, levels)]
        found = LogisticOnLevels(location, torch.full_like(location, log_scale), levels).mean
        worst = max(worst, float(np.abs(found.numpy() - sum(survival) / (levels - 1)).max()))
    assert worst < (1e-12 if levels == 17 else 0.002 / (levels - 1))


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("levels", [2, 256])
def test_extreme_decoder_outputs_stay_finite(channels: int, levels: int) -> None:
    likelihood, shape = DiscretisedLogisticMixture(levels, 3), (channels, 8, 8)
    extremes = torch.tensor([-1e4, -50.0, 0.0, 0.5, 50.0, 1e4])
    planes = extremes[torch.randint(len(extremes), (20, likelihood.planes(shape), 8, 8))].requires_grad_()
    for x in (0.0, 0.5 if levels == 256 else 1.0, 1.0):
        distribution = likelihood.of_planes(planes, shape)
        log_prob = distribution.log_prob(torch.tensor(x))
        assert log_prob.shape == (20, *shape)
        assert torch.isfinite(log_prob).all()
        assert (log_prob.sum(1) < 1e-4).all()
        (gradient,) = torch.autograd.grad(log_prob.sum(), planes)
        assert torch.isfinite(gradient).all()
    for shown in (distribution.mean, distribution.sample()):
        assert ((shown >= 0) & (shown <= 1 + 1e-6)).all()


def test_low_precision_is_scored_in_single() -> None:
    likelihood = DiscretisedLogisticMixture()
    planes = torch.randn(2, 100, 4, 4).bfloat16()
    x = torch.randint(256, (2, 3, 4, 4)) / 255
    found = likelihood.of_planes(planes, (3, 4, 4))
    assert found.log_prob(x).dtype == found.mean.dtype == torch.float32
    assert torch.equal(found.log_prob(x), likelihood.of_planes(planes.float(), (3, 4, 4)).log_prob(x))


def test_values_and_samples_broadcast() -> None:
    """Draws in front of the parameters' batch, and a batch of data that all draws of a code share."""
    likelihood, shape = DiscretisedLogisticMixture(9, 2), (3, 2, 2)
    planes, x = torch.randn(4, 1, likelihood.planes(shape), 2, 2), torch.randint(9, (1, 5, *shape)) / 8
    found = likelihood.of_planes(planes, shape).log_prob(x)
    assert found.shape == (4, 5, *shape)
    for s in range(4):
        expected = likelihood.of_planes(planes[s].expand(5, -1, 2, 2), shape).log_prob(x[0])
        torch.testing.assert_close(found[s], expected)
    assert likelihood.of_planes(planes, shape).sample((2, 3)).shape == (2, 3, 4, 1, *shape)


def test_a_mask_of_last_channels_sums_them_out() -> None:
    distribution = mixture(3, 1, 1, levels=5)
    pixels = every_pixel(5, 3).unsqueeze(1)
    joint = distribution.log_prob(pixels.unsqueeze(1)).sum((-2, -1)).view(5, 5, 5)
    observed = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 3, 1)
    known = torch.tensor([0.25, 0.75, math.nan], dtype=torch.float64).view(1, 1, 3, 1)
    found = Output(known, distribution, (), mask=observed).log_likelihood()
    assert found.item() == pytest.approx(joint[1, 3].logsumexp(0).item(), rel=1e-12)


def kept_bytes(score: Any, planes: Tensor) -> int:
    """Memory that the backward pass needs beyond the planes."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = score(planes)
    kept.pop(planes.untyped_storage().data_ptr(), None)
    assert result.requires_grad
    return sum(kept.values())


def test_memory_is_less_than_half_of_the_plain_form() -> None:
    """The same in one piece, with every step recorded: to the same value and gradient."""
    likelihood, shape = DiscretisedLogisticMixture(), (3, 16, 16)
    x = torch.randint(256, (4, *shape)) / 255

    def plain(planes: Tensor) -> Tensor:
        logits, location, log_scale, a = planes.split([10, 30, 30, 30], 1)
        location, log_scale, a = (part.view(4, 3, 10, 16, 16) for part in (location, log_scale, a))
        location = location + torch.linspace(0, 1, 10).view(-1, 1, 1)
        red, green, blue, colour = location[:, 0], location[:, 1], location[:, 2], x.unsqueeze(2)
        a = torch.tanh(a)
        green = green + a[:, 0] * (colour[:, 0] - 0.5)
        blue = blue + a[:, 1] * (colour[:, 0] - 0.5) + a[:, 2] * (colour[:, 1] - 0.5)
        location = torch.stack([red, green, blue], 1)
        masses = log_mass(colour, location, 6 * torch.tanh(log_scale / 6) - 2, 0.5 / 255)
        joint: Tensor = logits.log_softmax(1) + masses.sum(1)
        return joint.logsumexp(1).sum()

    def ours(planes: Tensor) -> Tensor:
        return likelihood.of_planes(planes, shape).log_prob(x).sum()

    planes = torch.randn(4, 100, 16, 16, requires_grad=True)
    torch.testing.assert_close(ours(planes), plain(planes))
    gradients = [torch.autograd.grad(score(planes), planes)[0] for score in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
    assert kept_bytes(ours, planes) < 0.5 * kept_bytes(plain, planes)


@pytest.mark.parametrize("components", [-1, 0])
def test_components_should_be_one_at_least(components: int) -> None:
    with pytest.raises(ValueError, match="components should be at least 1"):
        DiscretisedLogisticMixture(256, components)


def trained(model: nn.Module, x: Tensor, steps: int) -> list[float]:
    """Bits per dimension at each step."""
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    history = []
    for _ in range(steps):
        output = model(x)
        loss = output.rate().mean() - output.log_likelihood().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item() / math.log(2) / x[0].numel())
    return history


def test_channels_that_move_together_cost_less_than_by_themselves() -> None:
    """Pixels of two colours, with noise that the channels share: fitted without any net."""
    generator = torch.Generator().manual_seed(2)
    kinds = torch.tensor([[0.8, 0.3, 0.2], [0.2, 0.4, 0.8]])[torch.arange(400) % 2]
    noise = 0.03 * torch.randn(400, 1, generator=generator) * torch.tensor([1.0, 0.5, -0.5])
    x = (((kinds + noise).clamp(0, 1) * 255).round() / 255).unsqueeze(-1)
    bits = []
    for likelihood in (DiscretisedLogistic(), DiscretisedLogisticMixture(256, 2)):
        planes = torch.randn(likelihood.planes((3, 1)), 1, generator=generator).requires_grad_()
        optimiser = torch.optim.Adam([planes], 0.1)
        for _ in range(250):
            optimiser.zero_grad()
            loss = -likelihood.of_planes(planes, (3, 1)).log_prob(x).sum((1, 2)).mean() / (3 * math.log(2))
            loss.backward()
            optimiser.step()
        bits.append(loss.item())
    # The kind is 1 bit, and the noise of red log2(255 * 0.03 * sqrt(2 pi e)) = 5.0; that of green and blue would be 4.0
    # each, if red told nothing.
    assert (1 + 5) / 3 < bits[1] < (1 + 5 + 4 + 4) / 3 - 0.3
    assert bits[0] > 6.0


def test_a_vae_on_digits_trains_and_is_evaluated() -> None:
    torch.manual_seed(0)
    data = load_data("digits", transform="none")
    config = Config(
        model={"likelihood": "discretised-logistic-mixture", "latent": 4, "net": {"kind": "mlp", "width": 32}}
    )
    model = make_model(config.model, data)
    model.likelihood.check_data(data.levels, "none")
    history = trained(model, data.train.batch(torch.arange(64)).x, 60)
    assert history[-1] < 0.8 * history[0]
    found = evaluate(model, data.valid, samples=3)
    assert found.bits_per_dim is not None
    assert 0 < found.bits_per_dim < math.log2(17)
    assert found.log_likelihood is not None
    assert found.elbo is not None
    assert found.log_likelihood >= found.elbo
    assert found.psnr is not None


def test_convolutional_nets_and_codes_have_its_planes() -> None:
    torch.manual_seed(0)
    x = torch.randint(256, (2, 3, 16, 16)) / 255
    for model in (
        VAE((3, 16, 16), 2, net=NetConfig(kind="conv", width=4), likelihood="discretised-logistic-mixture"),
        VQVAE((3, 16, 16), net=NetConfig(width=4), likelihood="discretised-logistic-mixture"),
    ):
        output = model(x)
        assert output.likelihood.batch_shape[-3:] == (3, 16, 16)
        assert output.log_likelihood().shape[-1] == 2
        assert model.reconstruct(x).shape == x.shape
        history = trained(model, x, 15)
        assert history[-1] < history[0] - 0.2
