"""Learned priors and the full-covariance posterior in a VAE."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.autoencoders import VAE, SemiSupervisedVAE
from jensen.autoencoders.priors import MixturePrior, VampPrior
from jensen.autoencoders.vae import FullGaussian
from jensen.bound import importance_weighted_bound, log_weights
from jensen.chained import FullNormal
from jensen.config import Config
from jensen.config.columns import Column
from jensen.data import load_data
from jensen.errors import ConfigError
from jensen.likelihoods import Gaussian
from jensen.metrics import information
from jensen.objectives import Context, Dip, Elbo, FreeBits, Mmd, TotalCorrelation
from jensen.training import fit, resume, train

FAMILIES = [(prior, posterior) for prior in ("standard", "mixture", "vampprior") for posterior in ("diagonal", "full")]


def small(prior: str, posterior: str = "diagonal", **choices: object) -> VAE:
    torch.manual_seed(0)
    if prior != "standard":
        choices.setdefault("components", 7)
    return VAE((1, 4, 4), 2, net="mlp", prior=prior, posterior=posterior, **choices)  # type: ignore[arg-type]


@pytest.mark.parametrize(("prior", "posterior"), FAMILIES)
def test_importance_weights_average_to_the_evidence(prior: str, posterior: str) -> None:
    """Against log p(x) by quadrature over both latents."""
    model = small(prior, posterior).double().train()
    x = torch.rand(3, 1, 4, 4).round().double()
    model(x)  # a VampPrior begins here
    model.eval()
    axis = torch.linspace(-6, 6, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        p = model.prior()
        log_p = p.log_prob(grid).sum(-1) if p.batch_shape else Normal(0.0, 1.0).log_prob(grid).sum(-1)
        likelihood = model.decoder(grid.unsqueeze(1), None)
        log_joint = likelihood.log_prob(x.unsqueeze(0)).flatten(2).sum(2) + log_p.unsqueeze(1)
        exact = log_joint.logsumexp(0) + 2 * math.log(float(axis[1] - axis[0]))
        torch.manual_seed(1)
        found = importance_weighted_bound(log_weights(model(x, samples=40_000)))
    torch.testing.assert_close(found, exact, atol=0.03, rtol=0)


@pytest.mark.parametrize(("prior", "posterior"), FAMILIES)
def test_the_rate_of_either_form_is_the_same(prior: str, posterior: str) -> None:
    model = small(prior, posterior).train()
    x = torch.rand(3, 1, 4, 4).round()
    model(x)
    with torch.no_grad():
        output = model(x, samples=20_000)
    torch.testing.assert_close(output.rate().mean(0), output.rate(analytic=False).mean(0), atol=0.03, rtol=0)


def test_vampprior_is_the_mean_of_posteriors_at_its_inputs() -> None:
    model = small("vampprior", components=5).train()
    data = torch.rand(8, 1, 4, 4)
    model(data)
    assert isinstance(model.mixture, VampPrior)
    inputs = model.mixture.inputs.detach().clone()
    nearest = torch.cdist(inputs.flatten(1), data.flatten(1)).min(1).values
    assert float(nearest.max()) < 0.1  # data and a little noise
    model(torch.rand(8, 1, 4, 4))
    assert torch.equal(model.mixture.inputs, inputs)  # begins once
    z = torch.randn(9, 2)
    each = model.posterior(inputs).log_prob(z.unsqueeze(1)).sum(-1)
    expected = each.logsumexp(1) - math.log(5)
    torch.testing.assert_close(model.prior().log_prob(z).sum(-1), expected)


def test_vampprior_begins_once_also_after_loading() -> None:
    model = small("vampprior", components=5).train()
    model(torch.rand(8, 1, 4, 4))
    again = small("vampprior", components=5).train()
    again.load_state_dict(deepcopy(model.state_dict()))
    again(torch.rand(8, 1, 4, 4))
    assert isinstance(model.mixture, VampPrior)
    assert isinstance(again.mixture, VampPrior)
    assert torch.equal(model.mixture.inputs, again.mixture.inputs)


def test_vampprior_begins_in_training_only() -> None:
    model = small("vampprior", components=5).eval()
    with torch.no_grad():
        model(torch.rand(8, 1, 4, 4))
    assert isinstance(model.mixture, VampPrior)
    assert not bool(model.mixture.begun)
    assert not bool(model.mixture.inputs.any())


def test_vampprior_of_a_table_begins_with_what_the_encoder_sees() -> None:
    columns = [Column(name="a"), Column(name="b", kind="categorical", categories=("p", "q"))]
    model = VAE((2,), 2, net="mlp", likelihood="table", columns=columns, prior="vampprior", components=5).train()
    rows = torch.tensor([[math.nan, 1.0], [3.0, math.nan]])
    model(rows, mask=~rows.isnan())
    assert isinstance(model.mixture, VampPrior)
    seen = torch.tensor([[0.0, 0, 0, 1], [3, 1, 0, 0]])  # value, whether known, one-hot
    assert float(torch.cdist(model.mixture.inputs.detach(), seen).min(1).values.max()) < 0.1


def test_numbers_of_a_full_covariance_go_row_by_row() -> None:
    out = torch.tensor([[1.0, 2, 3, 4, 0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    q = FullGaussian(nn.Identity())(out)
    assert q.loc.tolist() == [[1, 2, 3, 4]]
    expected = [[1.0, 0, 0, 0], [0.1, 1, 0, 0], [0.2, 0.3, 1, 0], [0.4, 0.5, 0.6, 1]]
    torch.testing.assert_close(q.tril, torch.tensor([expected]))


@pytest.mark.parametrize("settings", [{"deterministic": True}, {"auto_batch": True}])
def test_vampprior_begins_again_after_steps_that_were_undone(settings: dict[str, Any]) -> None:
    data = load_data("digits", limit=64)
    options: dict[str, Any] = {"epochs": 1, "batch_size": 32, "accelerator": "cpu", "quiet": True}
    models = []
    for more in ({}, settings):
        torch.manual_seed(0)
        models.append(VAE((1, 8, 8), 2, net="mlp", prior="vampprior", components=5))
        train(models[-1], data, **options, **more)
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(one, other)


def test_vampprior_does_not_keep_a_batch_that_was_left_out() -> None:
    model = small("vampprior", components=5).train()
    prior = model.mixture
    assert isinstance(prior, VampPrior)
    prior.begin(torch.full((8, 1, 4, 4), math.nan))
    prior.begun.fill_(False)  # as a step that is left out puts buffers back
    prior.begin(torch.rand(8, 1, 4, 4))
    assert bool(prior.inputs.isfinite().all())


@pytest.mark.parametrize("objective", [TotalCorrelation(), FreeBits(), Dip(), Mmd()])
@pytest.mark.parametrize(("prior", "posterior"), [("mixture", "diagonal"), ("standard", "full")])
def test_objectives_of_single_latents_refuse_what_depends_on_others(
    objective: Elbo, prior: str, posterior: str
) -> None:
    output = small(prior, posterior)(torch.rand(4, 1, 4, 4).round())
    with pytest.raises(ValueError, match="depend on each other"):
        objective(output, Context(dataset_size=64))


def test_a_mixture_prior_learns_a_mixture() -> None:
    torch.manual_seed(0)
    true = Normal(torch.tensor([[-3.0, 0.0], [3.0, 1.0]]), torch.tensor([[0.5, 1.0], [1.0, 0.5]]))
    chosen = (torch.rand(4_000) < 0.3).long()
    data = Normal(true.loc[chosen], true.scale[chosen]).sample()
    weights = torch.tensor([0.7, 0.3]).log()
    best = (true.log_prob(data.unsqueeze(1)).sum(-1) + weights).logsumexp(1).mean()
    prior = MixturePrior(2, 2)
    climb = torch.optim.Adam(prior.parameters(), lr=0.05)
    for _ in range(300):
        climb.zero_grad()
        loss = -prior(_unused).log_prob(data).sum(-1).mean()
        loss.backward()
        climb.step()
    assert abs(float((-loss - best).detach())) < 0.01  # five parameters a component fitted to 4,000 points
    torch.testing.assert_close(
        prior(_unused).log_weights.exp().sort().values, torch.tensor([0.3, 0.7]), atol=0.03, rtol=0
    )


def _unused(features: Tensor) -> Normal:
    raise AssertionError("a mixture has nothing to ask of the encoder")


def test_a_full_posterior_is_exact_for_a_linear_model() -> None:
    """Its ELBO is log p(x), and importance weights do not vary; independent latents lose 1/2 (log det of the shape)."""
    torch.manual_seed(0)
    weight = torch.randn(6, 3, dtype=torch.float64)
    sigma = 0.5
    covariance = torch.linalg.inv(torch.eye(3).double() + weight.T @ weight / sigma**2)
    tril = torch.linalg.cholesky(covariance)
    rows, columns = torch.tril_indices(3, 3, -1)
    below = tril[rows, columns] / tril.diagonal()[rows]
    # The logarithm is softly clamped: what goes in is the inverse of that.
    log_diagonal = 7.0 * torch.atanh(tril.diagonal().log() / 7.0)

    class Exact(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = x @ (weight @ covariance) / sigma**2
            return torch.cat([mean, log_diagonal.expand(len(x), 3), below.expand(len(x), 3)], 1)

    decoder = nn.Linear(3, 6, bias=False).double()
    decoder.weight.data = weight
    model = VAE((6,), 3, posterior="full", likelihood=Gaussian(sigma), encoder=Exact(), decoder=decoder)  # type: ignore[arg-type]
    x = torch.randn(5, 6, dtype=torch.float64)
    evidence = torch.distributions.MultivariateNormal(
        torch.zeros(6).double(), weight @ weight.T + sigma**2 * torch.eye(6).double()
    ).log_prob(x)
    with torch.no_grad():
        weights = log_weights(model(x, samples=7))
    torch.testing.assert_close(weights, evidence.expand(7, 5), atol=1e-9, rtol=0)


def test_numbers_of_a_full_posterior() -> None:
    for latent in range(1, 30):
        q = FullGaussian(nn.Identity())(torch.zeros(2, FullGaussian.numbers(latent)))
        assert q.loc.shape == (2, latent)
        assert q.tril.shape == (2, latent, latent)


@pytest.mark.parametrize(("prior", "posterior"), [("mixture", "full"), ("vampprior", "diagonal")])
def test_a_run_resumes_exactly(prior: str, posterior: str, tmp_path: Path) -> None:
    settings = {
        "data": {"limit": 64},
        "model": {"latent": 3, "net": {"width": 16}, "prior": prior, "components": 7, "posterior": posterior},
    }
    whole = fit(Config(**settings, train={"epochs": 3, "ema": 0.9}), tmp_path / "whole", quiet=True)
    fit(Config(**settings, train={"epochs": 1, "ema": 0.9}), tmp_path / "cut", quiet=True)
    cut = resume(tmp_path / "cut", epochs=3, quiet=True)
    one, other = whole.model("last").state_dict(), cut.model("last").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.history()["valid/elbo"][-1] > whole.history()["valid/elbo"][0]
    loaded = whole.model()
    assert isinstance(loaded, VAE)
    assert isinstance(loaded.posterior(torch.zeros(1, 1, 8, 8)), FullNormal) == (posterior == "full")
    assert loaded.sample(4).shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": {"components": 3}}, "components is for prior mixture or vampprior"),
        ({"model": {"kind": "autoencoder", "posterior": "full"}}, "posterior full is for model vae"),
        ({"model": {"kind": "ladder", "posterior": "full"}}, "posterior full is for model vae"),
        ({"model": {"prior": "vampprior"}, "data": {"condition": "label"}}, "without a condition"),
        ({"model": {"prior": "mixture"}, "objective": {"kind": "dip"}}, "one latent at a time"),
        ({"model": {"posterior": "full"}, "objective": {"kind": "total-correlation"}}, "one latent at a time"),
    ],
)
def test_what_has_no_meaning_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Config(**settings)  # type: ignore[arg-type]


def test_models_refuse_it_too() -> None:
    with pytest.raises(ValueError, match="without a condition"):
        VAE((4,), 2, prior="vampprior", condition_shape=(3,))
    with pytest.raises(ValueError, match="components is a number"):
        VAE((4,), 2, components=3)
    with pytest.raises(ValueError, match="posterior should be"):
        VAE((4,), 2, posterior="fuller")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="for model vae"):
        SemiSupervisedVAE((4,), 2, condition_shape=(3,), prior="mixture")  # type: ignore[arg-type]


def test_information_refuses_what_it_cannot_take_apart() -> None:
    from jensen.data import load_data

    with pytest.raises(ValueError, match="latent by latent"):
        information(VAE((1, 8, 8), 2, prior="mixture").eval(), load_data("digits").test, codes=10)
