"""Bayesian layers against closed forms: moments of what they put out, unbiased gradients, their variance, the KL."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from jensen.nn.bayesian import BayesianConv2d, BayesianLinear
from jensen.nn.variational_dropout import VariationalDropoutLinear
from jensen.nn.weight_noise import Estimator, GaussianWeights

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
SIGMAS = 5.0  # of a z-test; about a hundred numbers are compared at a time


def spread(layer: nn.Module) -> Any:
    """In float64, with scales that differ from weight to weight."""
    layer = layer.double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.endswith("log_scale"):
                parameter.uniform_(-1.5, 0.0)
    return layer


def calls(layer: nn.Module, x: Tensor, count: int) -> Tensor:
    """Independent calls of the layer, (count, *output)."""
    with torch.no_grad():
        return vmap(lambda _: layer(x), randomness="different")(torch.zeros(count))


def check_mean(draws: Tensor, expected: Tensor) -> None:
    """The mean over the first dimension is `expected`, within what chance does."""
    error = draws.std(0) / math.sqrt(len(draws))
    z = (draws.mean(0) - expected) / error.clamp_min(1e-12)
    assert z.abs().max() < SIGMAS, z.abs().max()


def check_covariance(draws: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Of (count, values), around the true mean."""
    centred = draws - mean
    check_mean(centred[:, :, None] * centred[:, None, :], covariance)


def blocks(covariance: Tensor, data: int, between: bool) -> Tensor:
    """(data x values, data x values), without what is between data unless asked."""
    values = len(covariance) // data
    if between:
        return covariance
    return covariance * torch.kron(torch.eye(data), torch.ones(values, values)).to(covariance)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("bias", [True, False])
def test_moments_of_a_linear_layer(estimator: Estimator, bias: bool) -> None:
    layer = spread(BayesianLinear(4, 2, bias, estimator=estimator))
    x = torch.randn(3, 4, dtype=torch.float64)
    scale = layer.weight_log_scale.detach().exp()
    mean = x @ layer.weight_loc.detach().T + (layer.bias_loc.detach() if bias else 0.0)
    # Cov[y_io, y_jp] is 0 for o != p, and sum_k x_ik x_jk scale_ok^2 (+ bias) for o = p.
    shared = torch.einsum("ik,jk,ok->ijo", x, x, scale**2)
    if bias:
        shared = shared + layer.bias_log_scale.detach().exp() ** 2
    covariance = torch.einsum("ijo,op->iojp", shared, torch.eye(2, dtype=torch.float64)).reshape(6, 6)
    draws = calls(layer, x, 20_000).flatten(1)
    check_mean(draws, mean.flatten())
    check_covariance(draws, mean.flatten(), blocks(covariance, 3, between=estimator == "shared"))


def test_flipout_turns_the_signs_of_inputs_too() -> None:
    """Two equal data: noises d, e are uncorrelated, and E[d^2 e^2] = (sum_k v_k)^2 + 2 sum_k v_k^2, v_k = x_k^2 s_k^2.

    With the outputs' signs alone they would differ by a sign only: 3 (sum_k v_k)^2.
    """
    layer = spread(BayesianLinear(3, 1, bias=False, estimator="flipout"))
    x = torch.tensor([0.5, -1.0, 1.5], dtype=torch.float64)
    v = (x**2 * layer.weight_log_scale.detach().exp() ** 2)[0]
    squares = (calls(layer, x.expand(2, 3), 100_000).squeeze(-1) - x @ layer.weight_loc.detach()[0]).square()
    check_mean(squares.prod(1), v.sum() ** 2 + 2 * (v**2).sum())


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("alpha_per", ["layer", "unit", "weight"])
def test_moments_of_variational_dropout_a(estimator: Estimator, alpha_per: Any) -> None:
    layer = VariationalDropoutLinear(4, 2, alpha_per=alpha_per, estimator=estimator).double()
    with torch.no_grad():
        layer.alpha_logit.uniform_(-2, 2)
    x = torch.randn(2, 4, dtype=torch.float64)
    weight, alpha = layer.weight.detach(), (1 / (1 + (-layer.alpha_logit.detach()).exp())).expand(2, 4)
    mean = (x @ weight.T + layer.bias.detach()).flatten()
    shared = torch.einsum("ik,jk,ok->ijo", x, x, alpha * weight**2)
    covariance = torch.einsum("ijo,op->iojp", shared, torch.eye(2, dtype=torch.float64)).reshape(4, 4)
    draws = calls(layer, x, 20_000).flatten(1)
    check_mean(draws, mean)
    check_covariance(draws, mean, blocks(covariance, 2, between=estimator == "shared"))


CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": (3, 2), "stride": 2, "padding": 1, "groups": 2},
    {"kernel_size": 3, "padding": "same", "dilation": (1, 2), "bias": False},
]


def convolution(estimator: Estimator, settings: dict[str, Any]) -> tuple[BayesianConv2d, Tensor, Tensor, Tensor]:
    """A layer, two inputs, and the true mean and covariance of what it puts out, through unfolded patches."""
    layer = spread(BayesianConv2d(2, 2, **settings, estimator=estimator))
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    plain = nn.Conv2d(2, 2, **settings).double()

    def output(weight: Tensor, bias: Tensor) -> Tensor:
        values = {"weight": weight, "bias": bias} if settings.get("bias", True) else {"weight": weight}
        return functional_call(plain, values, x).flatten()

    weight, scale = layer.weight_loc.detach(), layer.weight_log_scale.detach().exp()
    bias = torch.zeros(2, dtype=torch.float64) if layer.bias_loc is None else layer.bias_loc.detach()
    bias_scale = bias if layer.bias_log_scale is None else layer.bias_log_scale.detach().exp()
    by_weight, by_bias = torch.func.jacrev(output, (0, 1))(weight, bias)  # linear: these are the coefficients
    factor = torch.cat([(by_weight * scale).flatten(1), by_bias * bias_scale], 1)
    return layer, x, output(weight, bias), factor @ factor.T


@pytest.mark.parametrize("estimator", ["flipout", "shared", "separate"])
@pytest.mark.parametrize("settings", CONVOLUTIONS)
def test_true_draws_of_a_kernel(estimator: Estimator, settings: dict[str, Any]) -> None:
    layer, x, mean, covariance = convolution(estimator, settings)
    draws = calls(layer, x, 8_000).flatten(1)
    check_mean(draws, mean)
    check_covariance(draws, mean, blocks(covariance, 2, between=estimator == "shared"))


@pytest.mark.parametrize("settings", CONVOLUTIONS)
def test_local_convolution_leaves_out_the_covariance_of_positions(settings: dict[str, Any]) -> None:
    layer, x, mean, covariance = convolution("local", settings)
    draws = calls(layer, x, 8_000).flatten(1)
    check_mean(draws, mean)
    check_covariance(draws, mean, covariance.diag().diag())
    deviation = covariance.diag().sqrt()
    correlation = blocks(covariance / torch.outer(deviation, deviation), 2, between=False)
    assert (correlation - torch.eye(len(correlation))).abs().max() > 0.5  # what is left out is not small


def linear_gradients(
    estimator: Estimator, x: Tensor, y: Tensor, layer: BayesianLinear, count: int
) -> dict[str, Tensor]:
    """Draws of the gradient of the mean Gaussian log-likelihood, (count, *parameter) each."""
    layer.estimator = estimator
    parameters = dict(layer.named_parameters())

    def objective(values: dict[str, Tensor], _: Tensor) -> Tensor:
        return -0.5 * (functional_call(layer, values, x) - y).square().sum(1).mean()

    return vmap(grad(objective), in_dims=(None, 0), randomness="different")(parameters, torch.zeros(count))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_those_of_the_expectation(estimator: Estimator) -> None:
    """E_q[-(y - x w)^2 / 2] = -((y - x m)^2 + x^2 s^2) / 2, differentiated by hand of autograd."""
    layer = spread(BayesianLinear(3, 2))
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    variance = x**2 @ (2 * layer.weight_log_scale).exp().T + (2 * layer.bias_log_scale).exp()
    expected = -0.5 * ((y - x @ layer.weight_loc.T - layer.bias_loc) ** 2 + variance).sum(1).mean()
    exact = dict(
        zip(dict(layer.named_parameters()), torch.autograd.grad(expected, list(layer.parameters())), strict=True)
    )
    found = linear_gradients(estimator, x, y, layer, 8_000)
    assert found.keys() == exact.keys()
    for name, draws in found.items():
        check_mean(draws.detach(), exact[name])


def deep(make: Callable[..., GaussianWeights]) -> nn.Sequential:
    return nn.Sequential(make(3, 4), nn.Tanh(), make(4, 2))


@pytest.mark.parametrize("make", [BayesianLinear, VariationalDropoutLinear])
def test_estimators_agree_through_a_nonlinearity(make: Any) -> None:
    net = spread(deep(make))
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0])
    parameters = dict(net.named_parameters())

    def objective(values: dict[str, Tensor], _: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(functional_call(net, values, x), y)

    found: dict[str, dict[str, Tensor]] = {}
    for estimator in ESTIMATORS:
        for layer in net:
            if isinstance(layer, GaussianWeights):
                layer.estimator = estimator
        sample = vmap(grad(objective), in_dims=(None, 0), randomness="different")
        found[estimator] = sample(parameters, torch.zeros(6_000))
    for estimator in ("local", "flipout", "shared"):
        for name in parameters:
            a, b = found[estimator][name].detach(), found["separate"][name].detach()
            error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
            assert ((a.mean(0) - b.mean(0)) / error).abs().max() < SIGMAS, (estimator, name)


def test_variance_falls_with_the_batch_for_local_noise_alone() -> None:
    """Kingma, Salimans & Welling 2015, section 2.1: the same data 8 times over, so that only the noise varies."""
    layer = spread(BayesianLinear(3, 1))
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)

    def variance(estimator: Estimator, times: int) -> float:
        draws = linear_gradients(estimator, x.repeat(times, 1), y.repeat(times, 1), layer, 20_000)
        return sum(values.detach().var(0).sum().item() for values in draws.values())

    assert variance("local", 8) / variance("local", 1) == pytest.approx(1 / 8, rel=0.05)
    assert variance("separate", 8) / variance("separate", 1) == pytest.approx(1 / 8, rel=0.05)
    assert variance("shared", 8) / variance("shared", 1) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("prior_scale", [0.3, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_kl_in_closed_form(prior_scale: float, bias: bool) -> None:
    for layer in (
        spread(BayesianLinear(3, 2, bias, prior_scale=prior_scale)),
        spread(BayesianConv2d(2, 3, 2, bias=bias, prior_scale=prior_scale)),
    ):
        locs = [p.detach().flatten() for n, p in layer.named_parameters() if n.endswith("_loc")]
        scales = [p.detach().exp().flatten() for n, p in layer.named_parameters() if n.endswith("_scale")]
        loc, scale = torch.cat(locs), torch.cat(scales)
        assert len(loc) == len(scale) == sum(p.numel() for p in layer.parameters()) // 2
        q = torch.distributions.MultivariateNormal(loc, torch.diag(scale**2))
        prior = torch.distributions.MultivariateNormal(
            torch.zeros_like(loc), prior_scale**2 * torch.eye(len(loc), dtype=torch.float64)
        )
        expected = torch.distributions.kl_divergence(q, prior)
        torch.testing.assert_close(layer.kl_divergence(), expected, rtol=1e-12, atol=0)


def test_kl_is_zero_at_the_prior() -> None:
    layer = BayesianLinear(3, 2, prior_scale=0.5, initial_scale=0.5).double()
    nn.init.zeros_(layer.weight_loc)
    nn.init.zeros_(layer.bias_loc)
    assert layer.kl_divergence().item() == pytest.approx(0.0, abs=1e-7)  # the logarithm of 0.5 was rounded to float32


def test_scale_to_start_from() -> None:
    layer = BayesianLinear(5, 4, initial_scale=0.2)
    scale = layer.posterior().weight_scale
    torch.testing.assert_close(scale, torch.full_like(scale, 0.2))
    assert layer.weight_loc.abs().max() <= 1 / math.sqrt(5)


def test_an_input_of_zeros_has_a_gradient() -> None:
    """The standard deviation is 0 there, and the square root's slope infinite."""
    layer = BayesianLinear(3, 2, bias=False)
    layer(torch.zeros(2, 3)).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() == 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_other_leading_dimensions(estimator: Estimator) -> None:
    layer = BayesianLinear(3, 2, estimator=estimator)
    x = torch.randn(4, 5, 3)
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    torch.testing.assert_close(y, layer(x.reshape(20, 3)).reshape(4, 5, 2))
    assert layer(x[0, 0]).shape == (2,)


LAYERS: list[tuple[Callable[..., GaussianWeights], tuple[int, ...]]] = [
    (lambda **options: BayesianLinear(3, 2, **options), (4, 3)),
    (lambda **options: VariationalDropoutLinear(3, 2, **options), (4, 3)),
    (lambda **options: BayesianConv2d(3, 2, 2, **options), (4, 3, 5, 5)),
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_every_parameter_learns(estimator: Estimator, make: Any, shape: tuple[int, ...]) -> None:
    layer = make(estimator=estimator)
    (layer(torch.randn(shape)).square().mean() + layer.kl_divergence()).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_precisions_and_devices(estimator: Estimator, make: Any, shape: tuple[int, ...]) -> None:
    layer = make(estimator=estimator)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(shape))
    assert y.dtype == torch.bfloat16 or estimator == "separate"  # torch.vmap knows no autocast
    assert torch.isfinite(y).all()
    assert layer.kl_divergence().dtype == torch.float32
    assert layer.to(torch.bfloat16).kl_divergence().dtype == torch.float32
    assert layer.double()(torch.randn(shape, dtype=torch.float64)).dtype == torch.float64
    # On a device without memory, any tensor made elsewhere would be refused.
    layer = layer.to("meta")
    assert layer(torch.randn(shape, dtype=torch.float64, device="meta")).device.type == "meta"
    assert layer.kl_divergence().device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_gpu_agrees_in_its_moments(estimator: Estimator, make: Any, shape: tuple[int, ...]) -> None:
    layer, x = make(estimator=estimator).double(), torch.randn(shape, dtype=torch.float64)
    here, there = calls(layer, x, 2_000), calls(layer.cuda(), x.cuda(), 2_000).cpu()
    error = ((here.var(0) + there.var(0)) / 2_000).sqrt()
    assert ((here.mean(0) - there.mean(0)) / error).abs().max() < SIGMAS
    assert (here.var(0) / there.var(0)).log().abs().max() < 0.3


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_saved_and_loaded(make: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    layer, other, x = make(), make(), torch.randn(shape)
    save_file(layer.state_dict(), tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    torch.manual_seed(3)
    expected = layer(x)
    torch.manual_seed(3)
    assert torch.equal(other(x), expected)
    assert torch.equal(other.kl_divergence(), layer.kl_divergence())


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_noise_follows_the_global_seed_in_training_and_evaluation(make: Any, shape: tuple[int, ...]) -> None:
    layer, x = make(), torch.randn(shape)
    torch.manual_seed(5)
    first = layer.train()(x)
    assert not torch.equal(layer(x), first)
    torch.manual_seed(5)
    assert torch.equal(layer.eval()(x), first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BayesianLinear(0, 2), "in_features should be at least 1, got 0"),
        (lambda: BayesianLinear(2, -1), "out_features should be at least 1, got -1"),
        (lambda: BayesianLinear(2, 2, prior_scale=0.0), "prior_scale should be positive and finite, got 0.0"),
        (lambda: BayesianLinear(2, 2, initial_scale=math.nan), "initial_scale should be positive and finite, got nan"),
        (lambda: BayesianLinear(2, 2, estimator="exact"), "should be one of local, flipout, shared, separate"),  # type: ignore[arg-type]
        (lambda: BayesianConv2d(2, 0, 3), "out_channels should be at least 1"),
        (lambda: BayesianConv2d(2, 2, (3, 0)), "kernel_width should be at least 1"),
        (lambda: BayesianConv2d(3, 2, 3, groups=2), r"groups \(2\) should divide both 3 input and 2 output channels"),
    ],
)
def test_bad_settings(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_inputs() -> None:
    with pytest.raises(ValueError, match=r"input should have shape \(\.\.\., 3\), got \(4, 2\)"):
        BayesianLinear(3, 2)(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"input should have shape \(batch, 3, h, w\), got \(3, 5, 5\)"):
        BayesianConv2d(3, 2, 3)(torch.zeros(3, 5, 5))
    with pytest.raises(ValueError, match="estimator should be one of"):
        BayesianLinear(3, 2).estimator = "global"  # type: ignore[assignment]


def test_what_they_say_of_themselves() -> None:
    assert repr(BayesianLinear(3, 2)) == "BayesianLinear(3, 2, bias=True, prior_scale=1, estimator='local')"
    assert "kernel_size=(2, 2), stride=1" in repr(BayesianConv2d(3, 2, 2, estimator="flipout"))
