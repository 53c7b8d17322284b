"""A VAE learns digits under every likelihood of numbers: its bound on data it has not seen rises, and stays finite."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from jensen import VAE
from jensen.config import NetConfig
from jensen.likelihoods import GaussianOptimal, make_likelihood
from jensen.objectives import Elbo

NAMES = ["gaussian-optimal", "laplace", "student-t", "continuous-bernoulli", "beta-binomial"]


@pytest.mark.parametrize("name", NAMES)
def test_bound_of_unseen_digits_rises(name: str) -> None:
    x = torch.from_numpy(load_digits().images[:700]).float().unsqueeze(1) / 16
    learn, unseen = x[:600], x[600:]
    likelihood = make_likelihood(name, levels=17, sigma=0.5)
    model = VAE((1, 8, 8), 8, net=NetConfig(kind="mlp", width=64), likelihood=likelihood)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)

    def score() -> float:
        model.eval()
        with torch.no_grad():
            return float(Elbo()(model(unseen, samples=4)).score)

    before = score()
    for step in range(150):
        model.train()
        optimiser.zero_grad()
        Elbo()(model(learn[torch.arange(100) + 100 * (step % 6)])).value.backward()
        optimiser.step()
    after = score()
    assert after > before + 10
    if isinstance(model.likelihood, GaussianOptimal):
        with torch.no_grad():
            error = float((model(unseen, samples=20).likelihood.mean - unseen).square().mean())
        assert float(model.likelihood.variance) == pytest.approx(error, rel=0.25)
