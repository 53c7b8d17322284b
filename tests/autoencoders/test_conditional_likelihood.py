"""Conditional VAEs against a model whose p(x | c) is known in closed form, with given weights and trained."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from jensen.autoencoders import VAE
from jensen.bound import Output, importance_weighted_bound, log_weights
from jensen.config import NetConfig
from jensen.nn import Conditioning

LATENT = 2


def elbo(output: Output) -> Tensor:
    return output.log_likelihood() - output.rate()


class Table(nn.Module):
    """The Gaussian of each class, as a prior network puts it out: mean and what is softly clamped to log sigma."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("raw", torch.cat([mean, 7 * torch.atanh(scale.log() / 7)], -1))

    def forward(self, condition: Tensor) -> Tensor:
        raw: Tensor = condition @ self.raw
        return raw


class LinearGaussian:
    """x = W z + V c + noise, z | c ~ N(m_c, diag s_c^2), W^T W diagonal, so that the exact posterior factorises too."""

    sigma = 0.6
    classes = 3

    def __init__(self) -> None:
        numbers = np.random.default_rng(5)
        basis, _ = np.linalg.qr(numbers.normal(size=(4, LATENT)))
        self.w = torch.from_numpy(basis * [1.5, 0.8])
        self.v = torch.from_numpy(numbers.normal(size=(4, self.classes)))
        self.mean = torch.from_numpy(numbers.normal(size=(self.classes, LATENT)))
        self.scale = torch.from_numpy(numbers.uniform(0.4, 1.8, size=(self.classes, LATENT)))

    def exact(self, x: Tensor, label: Tensor) -> Tensor:
        """log p(x | c) by scipy, from the joint covariance."""
        values = []
        for row, k in zip(x.numpy(), label.tolist(), strict=True):
            mean = self.w @ self.mean[k] + self.v[:, k]
            covariance = self.w @ self.scale[k].square().diag() @ self.w.T + self.sigma**2 * torch.eye(4)
            values.append(multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(row))
        return torch.tensor(values)

    def model(self, shift: float = 0.0, widen: float = 1.0) -> VAE:
        """As a VAE, q the exact posterior or beside it."""
        this = self

        class Encoder(nn.Module):
            def forward(self, x: Tensor, condition: Tensor) -> Tensor:
                precision = 1 / (condition @ this.scale) ** 2
                posterior = precision + this.w.square().sum(0) / this.sigma**2
                pull = (x - condition @ this.v.T) @ this.w / this.sigma**2 + precision * (condition @ this.mean)
                scale = widen / posterior.sqrt()
                return torch.cat([pull / posterior + shift, 7 * torch.atanh(scale.log() / 7)], 1)

        class Generator(nn.Module):
            def forward(self, z: Tensor, condition: Tensor) -> Tensor:
                return z @ this.w.T + condition @ this.v.T

        made = VAE(
            (4,),
            LATENT,
            likelihood="gaussian",
            sigma=self.sigma,
            encoder=Encoder(),
            decoder=Generator(),
            condition_shape=(self.classes,),
            prior="learned",
        )
        assert made.prior_net is not None
        made.prior_net.net = Table(self.mean, self.scale)
        return made.double()

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        label = torch.arange(n) % self.classes
        z = self.mean[label] + self.scale[label] * torch.randn(n, LATENT, dtype=torch.float64)
        return z @ self.w.T + self.v.T[label] + self.sigma * torch.randn(n, 4, dtype=torch.float64), label


def test_with_the_exact_posterior_the_bound_is_the_conditional_likelihood() -> None:
    truth = LinearGaussian()
    x, label = truth.draw(7)
    exact = truth.exact(x, label)
    output = truth.model()(x, samples=5, condition=torch.eye(3, dtype=torch.float64)[label])
    # With the exact posterior every importance weight is p(x | c), whatever z.
    torch.testing.assert_close(log_weights(output), exact.expand(5, 7))
    # The wrong class is another density.
    other = (label + 1) % 3
    wrong = truth.model()(x, samples=2, condition=other)
    torch.testing.assert_close(log_weights(wrong), truth.exact(x, other).expand(2, 7))
    assert not torch.allclose(exact, truth.exact(x, other), atol=0.1)


def test_with_another_posterior_the_bound_is_below() -> None:
    truth = LinearGaussian()
    x, label = truth.draw(6)
    exact = truth.exact(x, label)
    made = truth.model(shift=0.15, widen=1.2)
    output = made(x, samples=20_000, condition=label)
    # The gap is the KL between two Gaussians of known shift and ratio.
    precise = 1 / truth.model().posterior(x, label).variance
    gap = (0.5 * (1.2**2 - 1 + 0.15**2 * precise) - math.log(1.2)).sum(1)
    assert (gap > 0.05).all()
    values = elbo(output)
    error = values.std(0) / math.sqrt(20_000)
    assert ((values.mean(0) - (exact - gap)).abs() < 5 * error).all()
    weights = log_weights(output)
    spread = (weights - exact).exp().std(0) / math.sqrt(20_000)
    assert ((importance_weighted_bound(weights) - exact).abs() < 6 * spread).all()


def test_rate_is_against_the_prior_of_the_condition() -> None:
    """KL(N(m, s^2) || N(mu, t^2)) = log t/s + (s^2 + (m - mu)^2) / 2 t^2 - 1/2, per dimension."""
    truth = LinearGaussian()
    made = truth.model()
    x, label = truth.draw(6)
    q, mean, scale = made.posterior(x, label), truth.mean[label], truth.scale[label]
    expected = (scale / q.scale).log() + (q.variance + (q.loc - mean) ** 2) / (2 * scale**2) - 0.5
    output = made(x, condition=label)
    torch.testing.assert_close(output.rate(), expected.sum(1)[None])
    prior = made.prior(label)
    torch.testing.assert_close(prior.loc, mean)
    torch.testing.assert_close(prior.scale, scale)
    assert output.levels[0].prior.batch_shape == (1, 6, LATENT)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_come_from_the_prior_of_the_condition(temperature: float) -> None:
    truth = LinearGaussian()
    made = truth.model()
    n = 30_000
    labels = torch.arange(n) % 3
    for condition, label in ((labels, labels), (torch.tensor(2), torch.full((n,), 2))):
        draws = made.sample(n, temperature, condition)
        for k in label.unique().tolist():
            ours = draws[label == k] - truth.v[:, k]
            z = ours @ truth.w / truth.w.square().sum(0)
            scale = temperature * truth.scale[k]
            torch.testing.assert_close(z @ truth.w.T, ours)
            assert ((z.mean(0) - truth.mean[k]).abs() < 5 * scale / math.sqrt(len(z))).all()
            assert ((z.var(0) / scale**2 - 1).abs() < 5 * math.sqrt(2 / len(z))).all()


def fitted(model: VAE, x: Tensor, condition: Tensor | None, steps: int = 300, lr: float = 2e-2) -> VAE:
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * (1 - step / steps)
        rows = torch.randint(len(x), (64,))
        optimiser.zero_grad()
        told = None if condition is None else condition[rows]
        (-elbo(model(x[rows], condition=told)).mean()).backward()
        optimiser.step()
    return model


@pytest.mark.parametrize(("way", "prior"), [("concat", "learned"), ("embedding", "standard"), ("film", "learned")])
def test_a_trained_model_uses_its_condition(way: Conditioning, prior: str) -> None:
    """On data of known density: near log p(x | c), above log p(x), and the right class is the likeliest."""
    truth = LinearGaussian()
    truth.v = truth.v * 2
    x, label = truth.draw(6000)
    choices: dict[str, Any] = {
        "net": NetConfig(width=32, activation="silu"),
        "likelihood": "gaussian",
        "sigma": truth.sigma,
        "conditioning": way,
        "prior": prior,
    }
    made = fitted(VAE((4,), LATENT, condition_shape=(3,), **choices), x.float(), torch.eye(3)[label])
    x, label = truth.draw(900)
    every = torch.stack([truth.exact(x, torch.full_like(label, k)) for k in range(3)])
    exact, marginal = every[label, torch.arange(900)], every.logsumexp(0) - math.log(3)
    assert exact.mean() > marginal.mean() + 0.8
    with torch.no_grad():
        found = torch.stack(
            [
                importance_weighted_bound(log_weights(made(x.float(), samples=32, condition=torch.full((900,), k))))
                for k in range(3)
            ]
        ).double()
        bound = elbo(made(x.float(), samples=16, condition=label)).mean()
    # Above log p(x), which no model without the condition can exceed; below log p(x | c).
    assert marginal.mean() + 0.4 < bound < exact.mean()
    right = found[label, torch.arange(900)]
    assert exact.mean() - 0.3 < right.mean() < exact.mean() + 0.02
    accuracy = (found.argmax(0) == label).double().mean()
    best = (every.argmax(0) == label).double().mean()
    assert best - 0.05 < accuracy


def test_a_model_without_the_condition_is_worse() -> None:
    truth = LinearGaussian()
    truth.v = truth.v * 2
    x, label = truth.draw(6000)
    choices: dict[str, Any] = {
        "net": NetConfig(width=32, activation="silu"),
        "likelihood": "gaussian",
        "sigma": truth.sigma,
    }
    told = fitted(VAE((4,), LATENT, condition_shape=(3,), **choices), x.float(), torch.eye(3)[label])
    untold = fitted(VAE((4,), LATENT, **choices), x.float(), None)
    x, label = truth.draw(900)
    with torch.no_grad():
        values = [
            elbo(told(x.float(), samples=16, condition=label)).mean(),
            elbo(untold(x.float(), samples=16)).mean(),
        ]
    assert values[0] > values[1] + 0.8
