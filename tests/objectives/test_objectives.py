"""Objectives against sums by hand, gradients by hand, and a likelihood by quadrature."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.autoencoders import VAE, AutoEncoder
from jensen.bound import Level, Output, importance_weighted_bound, log_weights
from jensen.config import ObjectiveConfig
from jensen.errors import ConfigError
from jensen.objectives import Context, Elbo, Iwae, Schedule, elbo_terms, make_objective


def example(samples: int = 3, batch: int = 6) -> Output:
    q = Normal(torch.randn(1, batch, 2), torch.rand(1, batch, 2) + 0.5)
    z = q.rsample(torch.Size([samples]))[:, 0]
    p = Normal(torch.randn(samples, batch, 5), torch.tensor(0.7))
    return Output(torch.randn(1, batch, 5), p, (Level(z, q, Normal(torch.tensor(0.0), torch.tensor(1.0))),))


def part(output: Output, rows: slice) -> Output:
    (level,) = output.levels
    q, p = level.posterior, output.likelihood
    assert isinstance(q, Normal)
    assert isinstance(p, Normal)
    cut = Level(level.z[:, rows], Normal(q.loc[:, rows], q.scale[:, rows]), level.prior)
    return replace(
        output, target=output.target[:, rows], likelihood=Normal(p.loc[:, rows], p.scale[:, rows]), levels=(cut,)
    )


def with_penalties(output: Output) -> Output:
    return replace(output, penalties={"codebook": torch.tensor(3.0), "spectral": torch.tensor(0.25)})


def test_elbo_is_likelihood_less_rate_averaged_over_the_batch() -> None:
    output = example()
    loss = Elbo(3)(output)
    distortion = -output.log_likelihood().mean().item()
    rate = output.rate().mean().item()
    assert loss.value.item() == pytest.approx(distortion + rate, rel=1e-5)
    assert loss.score.item() == pytest.approx(-distortion - rate, rel=1e-5)
    assert {k: v.item() for k, v in loss.terms.items()} == pytest.approx(
        {"elbo": -distortion - rate, "distortion": distortion, "rate": rate}, rel=1e-5
    )
    assert not any(term.requires_grad for term in (*loss.terms.values(), loss.score))


@pytest.mark.parametrize("objective", [Elbo(3), Elbo(3, "monte-carlo"), Iwae(3)])
def test_the_mean_of_two_halves_is_the_whole(objective: Elbo | Iwae) -> None:
    output = example()
    halves = [objective(part(output, rows)) for rows in (slice(0, 3), slice(3, 6))]
    whole = objective(output)
    torch.testing.assert_close(whole.value, (halves[0].value + halves[1].value) / 2)
    torch.testing.assert_close(whole.score, (halves[0].score + halves[1].score) / 2)


@pytest.mark.parametrize("objective", [Elbo(3), Iwae(3)])
def test_penalties_are_added_once_and_the_score_stays(objective: Elbo | Iwae) -> None:
    output = example()
    plain, penalised = objective(output), objective(with_penalties(output))
    assert (penalised.value - plain.value).item() == pytest.approx(3.25, rel=1e-5)
    assert penalised.score.item() == plain.score.item()
    assert penalised.terms["codebook"].item() == 3.0
    assert penalised.terms["spectral"].item() == 0.25


def test_kl_weight_follows_the_step_and_the_logged_bound_does_not() -> None:
    output = example()
    objective = Elbo(3, kl_weight=Schedule(kind="linear", start=0.0, end=2.0, steps=10))
    terms = elbo_terms(output)
    for step, weight in ((0, 0.0), (5, 1.0), (10, 2.0), (99, 2.0)):
        loss = objective(output, Context(step=step))
        assert loss.value.item() == pytest.approx((terms["distortion"] + weight * terms["rate"]).item(), rel=1e-5)
        assert loss.terms["elbo"].item() == loss.score.item() == pytest.approx(terms["elbo"].item(), rel=1e-6)


def test_every_knob_moves_the_loss() -> None:
    output = example()
    base = Elbo(3)(output).value.item()
    others = [Elbo(3, "monte-carlo"), Elbo(3, kl_weight=Schedule(end=0.5)), Iwae(3)]
    found = [base, *(objective(output).value.item() for objective in others)]
    assert len({round(value, 4) for value in found}) == 4
    assert Elbo(7).samples == 7
    assert Iwae(7).samples == 7


def test_configured_objectives() -> None:
    elbo = make_objective(
        ObjectiveConfig(samples=2, kl="monte-carlo", kl_weight=Schedule(kind="cosine", end=0.5, steps=9))
    )
    assert isinstance(elbo, Elbo)
    assert (elbo.samples, elbo.analytic, elbo.kl_weight(9)) == (2, False, 0.5)
    iwae = make_objective(ObjectiveConfig(kind="iwae", samples=8))
    assert isinstance(iwae, Iwae)
    assert iwae.samples == 8


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="samples should be at least 1, got 0"):
        Elbo(0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Iwae(0)
    with pytest.raises(ValueError, match="kl should be analytic or monte-carlo, got 'exact'"):
        Elbo(kl="exact")  # type: ignore[arg-type]


def test_an_autoencoder_is_scored_by_its_reconstruction() -> None:
    model = AutoEncoder((4,), 2, likelihood="gaussian")
    x = torch.randn(6, 4)
    loss = Elbo()(model(x))
    expected = (0.5 * (x - model.reconstruct(x)) ** 2 + 0.5 * math.log(2 * math.pi)).sum(1).mean()
    assert loss.value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.score.item() == pytest.approx(-expected.item(), rel=1e-5)
    assert set(loss.terms) == {"log_likelihood", "distortion"}
    with pytest.raises(ValueError, match="deterministic"):
        Iwae(2)(model(x))


def test_iwae_of_one_sample_is_the_elbo() -> None:
    output = example(samples=1)
    one, elbo = Iwae(1)(output), Elbo(1, "monte-carlo")(output)
    torch.testing.assert_close(one.value, elbo.value)
    assert one.terms["iwae"].item() == pytest.approx(elbo.terms["elbo"].item(), rel=1e-5)


class Linear(nn.Module):
    """log w_k = log N(x; a z_k, 1) + log N(z_k; 0, 1) - log N(z_k; b x, 1), z_k = b x + eps_k, for scalars a, b."""

    def __init__(self, eps: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.7).double()), nn.Parameter(torch.tensor(0.2).double())
        self.eps = eps

    def forward(self, x: Tensor) -> Output:
        q = Normal((self.b * x)[None, :, None], torch.ones(1, dtype=torch.float64))
        z = q.loc + self.eps
        p = Normal(self.a * z, torch.ones(1, dtype=torch.float64))
        one = torch.ones((), dtype=torch.float64)
        return Output(x[None, :, None], p, (Level(z, q, Normal(one * 0, one)),))


def test_iwae_gradient_by_hand() -> None:
    """Sum over k of normalised weights times the gradient of log w_k (Burda et al. 2016, eq. 13)."""
    x = torch.tensor([0.5, -1.5], dtype=torch.float64)
    model = Linear(torch.randn(4, 2, 1, dtype=torch.float64))
    Iwae(4)(model(x)).value.backward()
    a, b, eps = model.a.item(), model.b.item(), model.eps[..., 0].numpy()
    z = b * x.numpy() + eps
    residual = x.numpy() - a * z
    log_w = -0.5 * residual**2 - 0.5 * z**2 + 0.5 * eps**2
    share = np.exp(log_w) / np.exp(log_w).sum(0)
    by_a = (share * residual * z).sum(0).mean()
    by_b = (share * (residual * a - z) * x.numpy()).sum(0).mean()
    assert model.a.grad is not None
    assert model.b.grad is not None
    assert -model.a.grad.item() == pytest.approx(by_a, rel=1e-9)
    assert -model.b.grad.item() == pytest.approx(by_b, rel=1e-9)


def test_elbo_gradient_against_finite_differences() -> None:
    x = torch.tensor([0.5, -1.5], dtype=torch.float64)
    model = Linear(torch.randn(4, 2, 1, dtype=torch.float64))
    Elbo(4)(model(x)).value.backward()
    for parameter in model.parameters():
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-5
                values.append(Elbo(4)(model(x)).value.item())
                parameter -= sign * 1e-5
        assert parameter.grad is not None
        assert parameter.grad.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


@pytest.fixture(scope="module")
def nonlinear() -> tuple[VAE, Tensor, Tensor]:
    """A VAE of one latent and a nonlinear decoder, data, and their log p(x) by quadrature over z."""
    torch.manual_seed(3)
    decoder = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 6))
    nn.init.normal_(decoder[0].weight, std=2.0)
    nn.init.normal_(decoder[2].weight, std=1.5)
    model = VAE((6,), 1, likelihood="bernoulli", encoder=nn.Linear(6, 2), decoder=decoder).double()
    x = (torch.rand(5, 6, dtype=torch.float64) < 0.5).double()
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    with torch.no_grad():
        logits = decoder(z[:, None])
        log_p = (x[:, None] * logits - nn.functional.softplus(logits)).sum(-1)
        joint = log_p - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        exact = torch.trapezoid(joint.exp(), z, dim=1).log()
    return model, x, exact


def test_importance_weighted_bound_tends_to_the_likelihood_by_quadrature(nonlinear: tuple[VAE, Tensor, Tensor]) -> None:
    model, x, exact = nonlinear
    with torch.no_grad():
        weights = log_weights(model(x, samples=100_000))
    relative = (weights - exact).exp()
    error = relative.std(0) / math.sqrt(len(relative))
    assert ((importance_weighted_bound(weights) - exact).abs() < 5 * error).all()


def test_bound_rises_with_k_on_average(nonlinear: tuple[VAE, Tensor, Tensor]) -> None:
    model, x, exact = nonlinear
    means, errors = [], []
    with torch.no_grad():
        weights = log_weights(model(x, samples=24_000))
        for k in (1, 4, 16, 64):
            bounds = importance_weighted_bound(weights.view(k, -1)).view(-1, 5)
            means.append(bounds.mean(0))
            errors.append(bounds.std(0) / math.sqrt(len(bounds)))
        elbo = elbo_terms(model(x, samples=24_000))["elbo"]
    assert abs(means[0].mean() - elbo) < 5 * errors[0].mean()
    for i in range(3):
        assert (means[i + 1] > means[i] - 5 * (errors[i] + errors[i + 1])).all()
        assert means[i + 1].mean() > means[i].mean()
    assert (means[-1] < exact + 5 * errors[-1]).all()
    assert means[0].mean() < exact.mean() - 0.05  # there was a gap to close


@pytest.mark.parametrize("weight", [{"end": -1.0}, {"kind": "linear", "start": -1.0, "end": 1.0, "steps": 3}])
def test_a_negative_kl_weight_is_refused(weight: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="kl_weight should be 0 or more"):
        Elbo(kl_weight=Schedule(**weight))
    with pytest.raises(ConfigError, match="kl_weight should be 0 or more"):
        ObjectiveConfig(kl_weight=Schedule(**weight))
