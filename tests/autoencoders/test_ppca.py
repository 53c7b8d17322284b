"""A VAE with linear nets is probabilistic PCA, whose likelihood scikit-learn knows exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from torch import Tensor, nn

from jensen.autoencoders import VAE
from jensen.bound import importance_weighted_bound, log_weights
from jensen.data import load_data
from jensen.likelihoods import Gaussian
from jensen.metrics import evaluate
from jensen.objectives import Elbo, elbo_terms
from jensen.training import train


def ppca(pca: PCA, spread: float = 1.0, shift: float = 0.0) -> VAE:
    """The closed-form solution as a VAE in float64; `spread` and `shift` make its posterior wrong.

    p(x | z) = N(W z + m, s2), W = U (L - s2)^1/2, so q(z | x) = N(L^-1 W^T (x - m), s2 L^-1): diagonal, as U is
    orthogonal (Tipping & Bishop 1999).
    """
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
    return PCA(2).fit(x), torch.tensor(x)


@pytest.mark.parametrize("k", [1, 2, 50])
def test_exact_posterior_makes_every_importance_weight_the_likelihood(fitted: tuple[PCA, Tensor], k: int) -> None:
    pca, x = fitted
    with torch.no_grad():
        weights = log_weights(ppca(pca)(x, samples=k))
    exact = pca.score_samples(x.numpy())
    np.testing.assert_allclose(weights.numpy(), np.broadcast_to(exact, (k, len(x))), rtol=1e-9)
    np.testing.assert_allclose(importance_weighted_bound(weights).numpy(), exact, rtol=1e-9)


def test_elbo_with_the_exact_posterior_is_the_likelihood(fitted: tuple[PCA, Tensor]) -> None:
    pca, x = fitted
    with torch.no_grad():
        output = ppca(pca)(x, samples=4000)
        terms = elbo_terms(output)
    error = output.log_likelihood().mean(1).std().item() / math.sqrt(4000)
    assert abs(terms["elbo"].item() - pca.score(x.numpy())) < 5 * error
    monte_carlo = elbo_terms(output, analytic=False)["elbo"].item()
    assert monte_carlo == pytest.approx(pca.score(x.numpy()), rel=1e-9)


@pytest.mark.parametrize(("spread", "shift"), [(1.3, 0.0), (0.8, 0.0), (1.0, 0.2), (1.2, -0.1)])
def test_wrong_posterior_costs_its_kl_and_importance_weights_win_it_back(
    fitted: tuple[PCA, Tensor], spread: float, shift: float
) -> None:
    pca, x = fitted
    exact = torch.tensor(pca.score_samples(x.numpy()))
    model, samples = ppca(pca, spread, shift), 6000
    with torch.no_grad():
        output = model(x, samples=samples)
        elbo = output.expectation(output.log_likelihood()) - output.rate()[0]
        weights = log_weights(output)
    # The gap of the ELBO is KL(q || exact posterior), here between Gaussians of variances a2 v and v, v = s2 / L.
    v = torch.tensor(pca.noise_variance_ / pca.explained_variance_)
    gap = (0.5 * (spread**2 - 1) - math.log(spread) + 0.5 * shift**2 / v).sum()
    error = output.log_likelihood().std(0) / math.sqrt(samples)
    assert ((exact - elbo - gap).abs() < 5 * error).all()
    assert elbo.mean() < exact.mean()
    relative = (weights - exact).exp()
    error = relative.std(0) / math.sqrt(samples)
    assert ((importance_weighted_bound(weights) - exact).abs() < 6 * error).all()


def test_evaluate_reports_the_exact_likelihood() -> None:
    data = load_data("iris")
    train_x = data.train.batch(torch.arange(len(data.train))).x.double().numpy()
    test_x = data.test.batch(torch.arange(len(data.test))).x.double().numpy()
    pca = PCA(2).fit(train_x)
    exact = pca.score_samples(test_x)
    right = evaluate(ppca(pca).float(), data.test, samples=200)
    assert right.log_likelihood == pytest.approx(exact.mean(), abs=1e-4)
    assert right.log_likelihood_error == pytest.approx(exact.std(ddof=1) / math.sqrt(len(exact)), rel=1e-3)
    wrong = evaluate(ppca(pca, 1.3).float(), data.test, samples=5000)
    assert wrong.elbo is not None
    assert wrong.log_likelihood is not None
    gap = 2 * (0.5 * (1.3**2 - 1) - math.log(1.3))
    assert wrong.log_likelihood == pytest.approx(exact.mean(), abs=0.01)
    assert wrong.elbo < wrong.log_likelihood
    assert wrong.elbo == pytest.approx(exact.mean() - gap, abs=5 * math.sqrt(0.5 * 4 / 30))  # one draw a datum
    assert right.active_units == 2


def test_training_a_linear_vae_reaches_the_likelihood_of_pca() -> None:
    """Its ELBO has no bad local optimum (Lucas et al. 2019), and at the optimum no gap."""
    data = load_data("iris")
    x = data.train.batch(torch.arange(len(data.train))).x
    best = PCA(2).fit(x.numpy()).score(x.numpy())
    model = VAE((4,), 2, likelihood="gaussian-learned", encoder=nn.Linear(4, 4), decoder=nn.Linear(2, 4))
    train(model, data, Elbo(8), epochs=700, batch_size=105, lr=0.03, decay="cosine", quiet=True)
    # The weights of the best validation epoch are kept; on the training data they can be no better than PCA.
    with torch.no_grad():
        output = model(x, samples=2000)
    elbo = elbo_terms(output)["elbo"].item()
    error = output.log_likelihood().mean(1).std().item() / math.sqrt(2000)
    assert best - 0.1 < elbo < best + 5 * error
    log_likelihood = importance_weighted_bound(log_weights(output)).mean().item()
    assert elbo - 0.01 < log_likelihood < best + 0.02
