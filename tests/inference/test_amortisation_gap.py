"""The amortisation gap: zero for an exact encoder, a known KL for a wrong one, a numerical optimum elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import scipy.stats as st
import torch
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from torch import Tensor, nn

from jensen.autoencoders import VAE
from jensen.inference.amortisation import amortisation_gap
from jensen.likelihoods import Gaussian


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_vae(pca: PCA, spread: float = 1.0, shift: float = 0.0) -> VAE:
    """Probabilistic PCA (Tipping & Bishop 1999); its encoder's scale `spread` times too large, its mean `shift` off."""
    variances, noise = torch.tensor(pca.explained_variance_), float(pca.noise_variance_)
    loadings = torch.tensor(pca.components_.T) * (variances - noise).sqrt()
    mean = torch.tensor(pca.mean_)
    features, latent = loadings.shape
    encoder, decoder = nn.Linear(features, 2 * latent).double(), nn.Linear(latent, features).double()
    log_sigma = (spread * (noise / variances).sqrt()).log()
    with torch.no_grad():
        weight = loadings.T / variances[:, None]
        encoder.weight.copy_(torch.cat([weight, torch.zeros_like(weight)]))
        encoder.bias.copy_(torch.cat([shift - weight @ mean, 7 * torch.atanh(log_sigma / 7)]))
        decoder.weight.copy_(loadings)
        decoder.bias.copy_(mean)
    return VAE((features,), latent, likelihood=Gaussian(math.sqrt(noise)), encoder=encoder, decoder=decoder).double()


@pytest.fixture(scope="module")
def fitted() -> tuple[PCA, Tensor]:
    x = load_iris().data
    return PCA(2).fit(x), torch.tensor(x[::5])


def test_no_gap_where_the_encoder_is_exact(fitted: tuple[PCA, Tensor]) -> None:
    pca, x = fitted
    exact = torch.tensor(pca.score_samples(x.numpy()))
    found = amortisation_gap(
        linear_vae(pca), x, steps=50, evaluation_samples=20, importance_samples=20, generator=seeded()
    )
    torch.testing.assert_close(found.amortised, exact)
    torch.testing.assert_close(found.optimised, exact)
    torch.testing.assert_close(found.log_likelihood, exact)
    assert found.gap.abs().max() < 1e-8
    assert found.approximation is not None
    assert found.approximation.abs().max() < 1e-8
    assert abs(found.last_gain) < 1e-8


@pytest.mark.parametrize(("spread", "shift"), [(1.4, 0.0), (0.7, 0.1), (1.0, -0.2)])
def test_gap_of_a_wrong_encoder_is_its_kl_from_the_posterior(
    fitted: tuple[PCA, Tensor], spread: float, shift: float
) -> None:
    pca, x = fitted
    found = amortisation_gap(
        linear_vae(pca, spread, shift), x, steps=300, importance_samples=50, batch_size=20, generator=seeded(1)
    )
    exact = torch.tensor(pca.score_samples(x.numpy()))
    v = torch.tensor(pca.noise_variance_ / pca.explained_variance_)  # of the exact posterior
    kl = (0.5 * (spread**2 - 1) - math.log(spread) + 0.5 * shift**2 / v).sum()
    assert kl > 0.05
    torch.testing.assert_close(found.optimised, exact, rtol=0, atol=2e-3)
    torch.testing.assert_close(found.log_likelihood, exact, rtol=0, atol=2e-3)
    assert ((found.gap - kl).abs() < 5 * found.gap_error + 2e-3).all()
    assert found.gap.mean().item() == pytest.approx(kl.item(), rel=0.05)
    torch.testing.assert_close(found.scale, v.sqrt().expand(len(x), 2), rtol=0.02, atol=0)


def bent_vae() -> VAE:
    """One latent, three pixels, a decoder bent enough that no normal q is exact, an encoder that never learned."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        decoder = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 3))
        encoder = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(3.0)
    return VAE((3,), 1, likelihood="bernoulli", encoder=encoder, decoder=decoder).double()


def by_quadrature(model: VAE, x: Tensor) -> tuple[list[float], list[float]]:
    """The best ELBO over all normal q, and log p(x), of each datum."""
    grid = np.linspace(-9, 9, 6001)
    with torch.no_grad():
        pixels = model.decoder(torch.tensor(grid)[:, None, None]).log_prob(x).sum(-1).numpy()
    bounds, likelihoods = [], []
    for column in pixels.T:
        joint = column + st.norm.logpdf(grid)

        def minus_elbo(parameters: np.ndarray, joint: np.ndarray = joint) -> float:
            log_q = st.norm.logpdf(grid, parameters[0], math.exp(parameters[1]))
            return -float(np.trapezoid(np.exp(log_q) * (joint - log_q), grid))

        starts = [(m, s) for m in (-2.0, -0.7, 0.0, 0.7, 2.0) for s in (-1.0, 0.0)]
        bounds.append(max(-scipy.optimize.minimize(minus_elbo, start, method="Nelder-Mead").fun for start in starts))
        likelihoods.append(float(np.log(np.trapezoid(np.exp(joint), grid))))
    return bounds, likelihoods


def test_against_quadrature_where_no_normal_posterior_is_exact() -> None:
    model = bent_vae()
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    best, likelihood = by_quadrature(model, x)
    found = amortisation_gap(model, x, steps=600, evaluation_samples=4000, importance_samples=4000, generator=seeded(2))
    assert found.log_likelihood is not None
    assert found.approximation is not None
    error = 5 * 1.5 / math.sqrt(4000)
    # from its own start each q climbs to a local optimum: never above the best one, and there for most of them
    assert all(o < b + error for o, b in zip(found.optimised.tolist(), best, strict=True))
    near = [abs(o - b) < error for o, b in zip(found.optimised.tolist(), best, strict=True)]
    assert sum(near) >= 3
    assert found.log_likelihood.tolist() == pytest.approx(likelihood, abs=0.05)
    assert (found.gap > -5 * found.gap_error).all()
    assert found.gap.mean() > 0.1
    assert (found.approximation > -0.05).all()
    assert found.approximation.max() > 0.02


def test_the_model_is_left_as_it_was() -> None:
    model = bent_vae()
    model.encoder.net = nn.Sequential(nn.BatchNorm1d(3).double(), model.encoder.net)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = (torch.rand(5, 3, generator=seeded(3), dtype=torch.float64) > 0.5).double()
    found = amortisation_gap(model, x, steps=8, evaluation_samples=10, generator=seeded())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model.encoder.net[0].training
    assert all(p.grad is None for p in model.parameters())
    assert found.log_likelihood is None
    assert found.approximation is None
    again = amortisation_gap(model, x, steps=8, evaluation_samples=10, generator=seeded())
    assert torch.equal(found.optimised, again.optimised)


def test_a_climb_that_fails_keeps_the_encoders_q(fitted: tuple[PCA, Tensor]) -> None:
    """A step size that throws q far away must not make it worse than it was."""
    pca, x = fitted
    model = linear_vae(pca, 6.0)
    found = amortisation_gap(model, x, steps=4, lr=1e6, generator=seeded())
    torch.testing.assert_close(found.loc, model.posterior(x).loc.detach())
    assert (found.gap == 0).all()
    assert found.last_gain < 0


def test_summary_holds_means_and_errors(fitted: tuple[PCA, Tensor]) -> None:
    pca, x = fitted
    found = amortisation_gap(linear_vae(pca, 1.4), x, steps=20, importance_samples=5, generator=seeded())
    lines = str(found).splitlines()
    assert lines[0] == "nats per datum, 30 data"
    assert f"{found.gap.mean().item():.3f}" in lines[3]
    assert f"± {found.amortised.std().item() / math.sqrt(30):.3f}" in lines[1]
    assert lines[5].startswith("approximation gap")
    assert "approximation" not in str(replace(found, log_likelihood=None))


def test_errors(fitted: tuple[PCA, Tensor]) -> None:
    pca, x = fitted
    model = linear_vae(pca)
    with pytest.raises(ValueError, match="at least one datum"):
        amortisation_gap(model, x[:0])
    with pytest.raises(ValueError, match=r"steps >= 4.* got 0, 8, 500, 0, 250"):
        amortisation_gap(model, x, steps=0)
    model.posterior = lambda x: torch.distributions.Laplace(x[:, :2], 1.0)  # type: ignore[method-assign]
    with pytest.raises(TypeError, match="should be a torch Normal, got Laplace"):
        amortisation_gap(model, x)
