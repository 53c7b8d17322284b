"""Variational dropout: the KL against quadrature, noise on inputs against its closed form, alpha within bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn
from torch.func import vmap

from jensen.nn.variational_dropout import VariationalDropout, VariationalDropoutLinear, log_uniform_kl


def numeric_kl(alpha: float) -> float:
    """KL(N(1, alpha) || 1 / |w|) = E log|w| - entropy, by quadrature on both sides of the singularity at 0."""
    scale = math.sqrt(alpha)

    def integrand(w: float) -> float:
        density = math.exp(-((w - 1) ** 2) / (2 * alpha)) / (scale * math.sqrt(2 * math.pi))
        return math.log(abs(w)) * density

    above = quad(integrand, 0, 1 + 12 * scale, points=[1], limit=500, epsabs=1e-11)[0]
    below = quad(integrand, -12 * scale, 0, limit=500, epsabs=1e-11)[0]
    return float(above + below - 0.5 * math.log(2 * math.pi * math.e * alpha))


def test_cubic_against_quadrature() -> None:
    """Both are up to a constant: what may differ is the same everywhere."""
    for low, tolerance in ((0.05, 0.02), (1e-4, 0.05)):
        alphas = torch.linspace(low, 1.0, 41, dtype=torch.float64)
        difference = log_uniform_kl(alphas) - torch.tensor([numeric_kl(a) for a in alphas.tolist()])
        assert difference.max() - difference.min() < tolerance
    # Another coefficient, or a sign, would be seen: the cubic itself changes by far more than that.
    without = -0.5 * alphas.log()
    assert (log_uniform_kl(alphas) - without).abs().max() > 0.2


def test_kl_falls_as_noise_grows() -> None:
    kl = log_uniform_kl(torch.linspace(1e-3, 1.0, 1000, dtype=torch.float64))
    assert (kl.diff() < 0).all()


@pytest.mark.parametrize(
    ("layer", "noises"),
    [
        (VariationalDropoutLinear(3, 2, alpha=0.3), 6),
        (VariationalDropoutLinear(3, 2, alpha=0.3, alpha_per="unit"), 6),
        (VariationalDropoutLinear(3, 2, alpha=0.3, alpha_per="weight"), 6),
        (VariationalDropout(3, alpha=0.3), 3),
        (VariationalDropout(3, alpha=0.3, alpha_per="unit"), 3),
    ],
)
def test_kl_counts_each_noise_once(layer: Any, noises: int) -> None:
    assert layer.alpha.mean().item() == pytest.approx(0.3, rel=1e-6)
    expected = -noises * (0.5 * math.log(0.3) + 1.16145124 * 0.3 - 1.50204118 * 0.09 + 0.58629921 * 0.027)
    assert layer.kl_divergence().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alpha_per", ["layer", "unit"])
def test_noise_on_inputs_makes_outputs_correlate(alpha_per: Any) -> None:
    """B = (A * s) theta: Cov[b_o, b_p] = sum_k alpha_k a_k^2 theta_ok theta_pk; variant A has 0 off the diagonal."""
    noise = VariationalDropout(4, alpha_per=alpha_per).double()
    linear = nn.Linear(4, 2).double()
    with torch.no_grad():
        noise.alpha_logit.uniform_(-2, 2)
    x = torch.randn(3, 4, dtype=torch.float64)
    weight, alpha = linear.weight.detach(), (1 / (1 + (-noise.alpha_logit.detach()).exp())).expand(4)
    covariance = torch.einsum("k,ik,ok,pk->iop", alpha, x**2, weight, weight)
    assert covariance[:, 0, 1].abs().max() > 0.04

    with torch.no_grad():
        draws = vmap(lambda _: linear(noise(x)), randomness="different")(torch.zeros(20_000))
    centred = draws - linear(x).detach()
    for values, expected in (
        (centred, torch.zeros(3, 2)),
        (centred[..., :, None] * centred[..., None, :], covariance),
        (centred[:, 0] * centred[:, 1], torch.zeros(2)),  # between data
    ):
        z = (values.mean(0) - expected) / (values.std(0) / math.sqrt(len(values)))
        assert z.abs().max() < 4.5


@pytest.mark.parametrize(
    "layer", [VariationalDropoutLinear(3, 2, alpha_per="weight"), VariationalDropout(3, alpha_per="unit")]
)
def test_alpha_stays_below_one(layer: Any) -> None:
    """However hard the KL pulls."""
    optimiser = torch.optim.SGD(layer.parameters(), lr=50.0)
    for _ in range(50):
        optimiser.zero_grad()
        layer.kl_divergence().backward()
        optimiser.step()
    assert layer.alpha.min() > 0.95
    assert layer.alpha.max() <= 1
    assert torch.isfinite(layer.kl_divergence())


def test_harmful_noise_is_learned_away_and_harmless_noise_kept() -> None:
    """A feature that carries the signal ends with less noise than one that carries nothing."""
    x: Tensor = torch.randn(500, 2)
    y = 3 * x[:, :1]
    net = nn.Sequential(VariationalDropout(2, alpha_per="unit"), nn.Linear(2, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(600):
        optimiser.zero_grad()
        loss = 50 * (net(x) - y).square().mean() + net[0].kl_divergence() / len(x)
        loss.backward()
        optimiser.step()
    signal, nothing = net[0].alpha.tolist()
    assert signal < 0.01
    assert nothing > 0.4


def test_noise_can_be_kept_as_it_is() -> None:
    layer = VariationalDropout(3, alpha=0.25)
    layer.alpha_logit.requires_grad_(False)
    x = torch.ones(20_000, 3, requires_grad=True)
    y = layer(x)
    assert y.detach().var().item() == pytest.approx(0.25, rel=0.05)
    y.sum().backward()
    assert layer.alpha_logit.grad is None


def test_state_dtype_and_device_of_noise_on_inputs() -> None:
    layer, other = VariationalDropout(3, alpha_per="unit", alpha=0.2), VariationalDropout(3, alpha_per="unit")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(4, 5, 3)
    torch.manual_seed(1)
    y = layer.eval()(x)
    torch.manual_seed(1)
    assert torch.equal(other.train()(x), y)
    assert layer.to(torch.bfloat16).kl_divergence().dtype == torch.float32
    assert layer.double()(x.double()).dtype == torch.float64
    meta = layer.to("meta")
    assert meta(torch.zeros(2, 3, device="meta", dtype=torch.float64)).device.type == "meta"
    assert meta.kl_divergence().device.type == "meta"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VariationalDropout(0), "features should be at least 1"),
        (lambda: VariationalDropout(3, alpha=1.0), "alpha should lie between 0 and 1, got 1.0"),
        (lambda: VariationalDropout(3, alpha_per="weight"), "alpha_per should be one of layer, unit, got 'weight'"),
        (lambda: VariationalDropoutLinear(3, 2, alpha=0.0), "alpha should lie between 0 and 1"),
        (lambda: VariationalDropoutLinear(3, 2, alpha_per="row"), "one of layer, unit, weight, got 'row'"),
        (lambda: VariationalDropoutLinear(3, 0), "out_features should be at least 1"),
        (lambda: VariationalDropoutLinear(3, 2)(torch.zeros(2, 4)), r"shape \(\.\.\., 3\), got \(2, 4\)"),
        (lambda: VariationalDropout(3)(torch.zeros(2, 4)), r"shape \(\.\.\., 3\), got \(2, 4\)"),
    ],
)
def test_bad_settings_and_inputs(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_what_they_say_of_themselves() -> None:
    assert repr(VariationalDropout(3)) == "VariationalDropout(3, alpha_per='layer')"
    expected = "VariationalDropoutLinear(3, 2, bias=True, alpha_per='unit', estimator='local')"
    assert repr(VariationalDropoutLinear(3, 2, alpha_per="unit")) == expected
