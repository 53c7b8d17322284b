"""The decomposition under the aggregate posterior of a split: integrals, closed forms, and calibrated errors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from jensen.autoencoders import VAE, AutoEncoder
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.bound import Output
from jensen.config import NetConfig
from jensen.data import Batch
from jensen.metrics.information import Information, information

GRID = np.linspace(-9, 9, 721)
STEP = GRID[1] - GRID[0]


@dataclass
class Rows:
    """A split from tensors, which remembers what it was asked for."""

    x: Tensor
    condition: Tensor | None = None
    levels: int | None = None
    transform: str = "none"
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        self.asked += index.tolist()
        condition = None if self.condition is None else self.condition[index]
        return Batch(self.x[index], self.x[index], None, index, condition=condition)


def linear_model(weight: Tensor, sigma: Tensor) -> VAE:
    """q(z | x) = N(A x, diag sigma^2)."""
    latent, features = weight.shape
    encoder = nn.Linear(features, 2 * latent)
    with torch.no_grad():
        encoder.weight.zero_()
        encoder.weight[:latent] = weight
        encoder.bias[:latent] = 0
        encoder.bias[latent:] = 7 * torch.atanh(sigma.log() / 7)
    return VAE((features,), latent, likelihood="gaussian", encoder=encoder, decoder=nn.Linear(latent, features))


def small() -> tuple[VAE, Rows]:
    """Two latents that depend on each other, of different widths, for eight data."""
    model = linear_model(torch.tensor([[1.2, 0.4], [0.5, -0.8]]), torch.tensor([0.4, 0.7]))
    return model, Rows(torch.randn(8, 2, generator=torch.Generator().manual_seed(4)))


def by_quadrature(model: VAE, rows: Rows) -> dict[str, float]:
    q = model.posterior(rows.x)
    loc, scale = q.loc.detach().numpy(), q.scale.detach().numpy()
    one = stats.norm.pdf(GRID[:, None], loc[:, None], scale[:, None])  # (N, grid, 2)
    parts = one[:, :, None, 0] * one[:, None, :, 1]
    marginals = one.mean(0)
    q_z, product, prior = parts.mean(0), np.multiply.outer(*marginals.T), stats.norm.pdf(GRID)

    def kl(p: np.ndarray, q: np.ndarray, cell: float) -> float:
        return float((p * np.log((p + 1e-300) / (q + 1e-300))).sum() * cell)

    return {
        "index_code_mi": float(np.mean([kl(part, q_z, STEP**2) for part in parts])),
        "total_correlation": kl(q_z, product, STEP**2),
        "dimension_wise_kl": sum(kl(marginals[:, d], prior, STEP) for d in range(2)),
        "rate": kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean().item(),
        "marginal_kl": kl(q_z, np.multiply.outer(prior, prior), STEP**2),
    }


def test_against_integrals_with_calibrated_errors() -> None:
    """Over 60 seeds the deviations, in standard errors, have mean 0 and variance 1."""
    model, rows = small()
    exact = by_quadrature(model, rows)
    assert exact["index_code_mi"] + exact["marginal_kl"] == pytest.approx(exact["rate"], rel=1e-4)
    assert exact["total_correlation"] > 0.1
    seeds = 60
    found = [information(model, rows, codes=400, seed=seed) for seed in range(seeds)]
    for name, value in exact.items():
        z = np.array([(getattr(some, name) - value) / getattr(some, f"{name}_error") for some in found])
        assert abs(z.mean()) < 4 / math.sqrt(seeds), name
        assert stats.chi2.ppf(1e-4, seeds) < (z**2).sum() < stats.chi2.ppf(1 - 1e-4, seeds), name


def test_the_parts_add_up() -> None:
    model, rows = small()
    found = information(model, rows, codes=1200)
    total = found.index_code_mi + found.total_correlation + found.dimension_wise_kl
    assert found.rate == pytest.approx(total, rel=1e-5)
    assert found.marginal_kl == pytest.approx(found.rate - found.index_code_mi, rel=1e-5)
    assert found.dimension_wise_kl == pytest.approx(sum(found.per_dimension_kl), rel=1e-5)
    assert len(found.per_dimension_kl) == len(found.per_dimension_kl_error) == 2
    assert (found.components, found.codes) == (8, 1200)


def test_linear_encoder_of_gaussian_data() -> None:
    """q(z) = N(0, A A^T + sigma^2): all in closed form, for data whose covariance is exactly one."""
    x = torch.randn(6000, 3, dtype=torch.float64)
    x = x - x.mean(0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / len(x)), x.T, upper=False).T
    a = torch.tensor([[0.9, 0.0, 0.3], [0.6, 0.5, 0.0], [0.0, 0.0, 0.2]])
    sigma = torch.tensor([0.8, 0.6, 0.9])
    found = information(linear_model(a, sigma), Rows(x.float()), codes=10_000)
    covariance = (a @ a.T + torch.diag(sigma**2)).double()
    variances = covariance.diagonal()
    mi = 0.5 * (covariance.logdet() - 2 * sigma.log().sum()).item()
    tc = 0.5 * (variances.log().sum() - covariance.logdet()).item()
    kl = 0.5 * (variances - 1 - variances.log())
    # 0.005 for the aggregate of finitely many posteriors: about exp(MI) / 2 N.
    assert math.exp(mi) / (2 * 6000) < 0.001
    assert found.index_code_mi == pytest.approx(mi, abs=4 * found.index_code_mi_error + 0.005)
    assert found.total_correlation == pytest.approx(tc, abs=4 * found.total_correlation_error + 0.005)
    assert found.dimension_wise_kl == pytest.approx(kl.sum().item(), abs=4 * found.dimension_wise_kl_error + 0.005)
    for value, error, expected in zip(found.per_dimension_kl, found.per_dimension_kl_error, kl.tolist(), strict=True):
        assert value == pytest.approx(expected, abs=4 * error + 0.002)
    assert found.index_code_mi_error < 0.02
    assert 0.1 < tc < 1
    assert not found.saturated
    assert found.warnings == []


def test_codes_of_independent_factors_have_no_total_correlation() -> None:
    """On a grid of factors q(z) is the product of its marginals, so that every single code gives zero."""
    x = torch.cartesian_prod(torch.linspace(-1.5, 2, 12), torch.randn(15))
    found = information(
        linear_model(torch.diag(torch.tensor([1.0, 2.0])), torch.tensor([0.2, 0.3])), Rows(x), codes=500
    )
    assert found.total_correlation == pytest.approx(0, abs=1e-5)
    assert found.total_correlation_error < 1e-5
    assert found.index_code_mi > 2


def test_codes_that_tell_all_data_apart_end_at_the_logarithm_of_their_number() -> None:
    x = 10 * torch.arange(50.0)[:, None]
    found = information(linear_model(torch.ones(1, 1), torch.tensor([0.01])), Rows(x), codes=100)
    assert found.index_code_mi == pytest.approx(math.log(50), rel=1e-5)
    assert found.saturated
    assert "within 0.5 nat of ln 50 = 3.91" in found.warnings[0]
    assert "at most ln N = 3.91, which it reaches" in found.table()[0][2]


def test_a_code_that_says_nothing() -> None:
    found = information(linear_model(torch.zeros(2, 2), torch.ones(2)), Rows(torch.randn(20, 2)), codes=100)
    for name in ("index_code_mi", "total_correlation", "dimension_wise_kl", "rate", "marginal_kl"):
        assert getattr(found, name) == pytest.approx(0, abs=1e-5)


def test_each_datum_has_its_own_prior_and_condition() -> None:
    torch.manual_seed(2)
    model = VAE((4,), 2, likelihood="gaussian", net=NetConfig(width=8), condition_shape=(3,), prior="learned")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    rows = Rows(torch.randn(600, 4), torch.eye(3).repeat(200, 1))
    found = information(model, rows, codes=4000)
    q, p = model.posterior(rows.x, condition=rows.condition), model.prior(rows.condition)
    exact = kl_divergence(q, p).sum(1).mean().item()
    assert exact > 0.1
    assert found.rate == pytest.approx(exact, abs=4 * found.rate_error)
    # The same codes from the wrong prior would not do.
    assert abs(exact - kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean().item()) > 8 * found.rate_error
    # No p(z), so no KL from one: what is left of the rate has a name of its own.
    assert found.conditional_prior
    assert found.prior_term is not None
    total = found.index_code_mi + found.total_correlation + found.prior_term
    assert found.rate == pytest.approx(total, rel=1e-5)
    for name in ("dimension_wise_kl", "marginal_kl"):
        assert getattr(found, name) is getattr(found, f"{name}_error") is None
    assert found.per_dimension_kl is found.per_dimension_kl_error is None
    rows = {name: (value, meaning) for name, value, meaning in found.table()}
    assert list(rows) == ["mutual information", "total correlation", "prior term", "rate"]
    assert "I(x, c; z)" in rows["mutual information"][1]
    assert "no KL and may be negative" in rows["prior term"][1]
    assert rows["prior term"][0].startswith(f"{found.prior_term:z.3f} ± ")
    assert "KL(q(z|x,c) || p(z|c))" in rows["rate"][1]
    (warning,) = found.warnings
    assert "no one p(z)" in warning
    assert "read the rate," in warning
    assert Information(**json.loads(json.dumps(found.to_dict()))) == found


def test_a_prior_that_moves_with_the_condition_alone() -> None:
    """z says which of two conditions there is and nothing else: a rate of 0 beside ln 2 nats of I(x, c; z)."""
    encoder, decoder = _Moved(4), _Moved(1)
    model = VAE((2,), 2, likelihood="gaussian", encoder=encoder, decoder=decoder, condition_shape=(1,), prior="learned")
    assert model.prior_net is not None
    model.prior_net.net = _Told()
    rows = Rows(torch.randn(40, 2), torch.tensor([-20.0, 20.0]).repeat(20)[:, None])
    found = information(model, rows, codes=800)
    assert found.rate == pytest.approx(0, abs=1e-5)
    assert found.index_code_mi == pytest.approx(math.log(2), abs=1e-5)
    assert found.prior_term == pytest.approx(-2 * math.log(2), abs=1e-5)  # both dimensions tell it
    # One condition for all: p(z | c) is one distribution, and KLs from it are what they are called.
    same = information(model, Rows(rows.x, torch.full((40, 1), 3.0)), codes=800)
    assert not same.conditional_prior
    assert same.dimension_wise_kl == pytest.approx(0, abs=1e-5)
    assert same.marginal_kl == pytest.approx(0, abs=1e-5)
    assert same.prior_term is None
    assert same.warnings == []


class _Told(nn.Module):
    """(mean, log sigma) of two latents: the condition, 0."""

    def forward(self, condition: Tensor) -> Tensor:
        return torch.cat([condition.expand(-1, 2), condition.new_zeros(len(condition), 2)], 1)


class _Moved(nn.Module):
    """The same beside an input that it does not look at; or as many zeros as a decoder of two values needs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        told: Tensor = _Told()(condition)
        return told if self.width == 4 else x.new_zeros(len(x), 2)


@pytest.mark.parametrize("known", [0, 6, 9])
def test_an_enumerated_label_by_quadrature(known: int) -> None:
    """q(z | x) is a mixture over the label where it is unknown."""
    model = SemiSupervisedVAE((3,), 1, likelihood="gaussian", net=NetConfig(width=8), condition_shape=(3,))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    condition = torch.eye(3).repeat(3, 1)
    condition[known:] = 0
    rows = Rows(torch.randn(9, 3), condition)
    grid = np.linspace(-60, 60, 12_001)
    with torch.no_grad():
        output: Output = model(rows.x, condition=condition)
        q = output.levels[1].posterior
        assert isinstance(q, Normal)
        assert output.log_weights is not None
        share = output.log_weights.exp().numpy()
        one = stats.norm.pdf(grid[:, None, None], q.loc[..., 0].numpy(), q.scale[..., 0].numpy())  # (grid, K, N)
    parts = (share * one).sum(1)
    step = grid[1] - grid[0]
    np.testing.assert_allclose(parts.sum(0) * step, 1.0, rtol=1e-6)
    q_z = parts.mean(1, keepdims=True)
    mi = float((parts * np.log((parts + 1e-300) / (q_z + 1e-300))).sum(0).mean() * step)
    log_ratio = np.log(q_z[:, 0] + 1e-300) - stats.norm.logpdf(grid)
    marginal = float((q_z[:, 0] * log_ratio).sum() * step)
    found = information(model, rows, codes=6000)
    assert found.index_code_mi == pytest.approx(mi, abs=4 * found.index_code_mi_error)
    assert found.marginal_kl == pytest.approx(marginal, abs=4 * found.marginal_kl_error)
    assert found.total_correlation == pytest.approx(0, abs=1e-5)  # there is one latent
    assert found.components == 9
    assert mi > 10 * found.index_code_mi_error
    # The rate is that of z: without the class, of which the rate of the bound has something.
    assert found.enumerated_label
    assert not found.conditional_prior
    (meaning,) = [meaning for name, _, meaning in found.table() if name == "rate of z"]
    assert "with the class summed out" in meaning
    assert found.rate == pytest.approx(mi + marginal, abs=4 * found.rate_error)
    if known == 0:
        assert output.expectation(output.rate()).mean().item() > mi + marginal + 0.01
    assert "rate of the ELBO is larger" in found.notes[0]


def test_each_datum_is_encoded_once() -> None:
    """So that data that are binarised at random are one data set."""
    _, rows = small()
    rows = Rows(rows.x.repeat(200, 1))
    information(small()[0], rows, codes=50)
    assert rows.asked == list(range(1600))


def test_seeds_modes_and_progress() -> None:
    model, rows = small()
    model.train()
    state = torch.random.get_rng_state()
    told: list[tuple[int, int]] = []
    first = information(model, rows, codes=1100, progress=lambda done, of: told.append((done, of)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.training
    assert told == [(500, 1100), (1000, 1100), (1100, 1100)]
    assert first == information(model, rows, codes=1100)
    assert first != information(model, rows, codes=1100, seed=1)


def test_table_and_dictionary() -> None:
    found = Information(50, 9, 1.0, 0.1, -1e-9, 0.2, 0.5, 0.05, 3.5, 0.3, 2.5, 0.25, [0.4, -1e-9], [0.01, 0.02])
    rows = {name: (value, meaning) for name, value, meaning in found.table()}
    assert rows["mutual information"][0] == "1.000 ± 0.100"
    assert rows["mutual information"][1].endswith("at most ln N = 3.91")
    assert rows["total correlation"][0] == "0.000 ± 0.200"
    assert rows["dimension-wise KL"][0] == "0.500 ± 0.050"
    assert rows["rate"][0] == "3.500 ± 0.300"
    assert rows["marginal KL"][0] == "2.500 ± 0.250"
    assert rows["KL per latent"][0] == "0.40 0.00"
    assert Information(**json.loads(json.dumps(found.to_dict()))) == found


def test_what_has_no_information() -> None:
    model, rows = small()
    with pytest.raises(ValueError, match="at least 2 codes and some data, got 1 codes"):
        information(model, rows, codes=1)
    with pytest.raises(ValueError, match="got 10000 codes and 0 examples"):
        information(model, Rows(torch.zeros(0, 2)))
    with pytest.raises(ValueError, match="one level of latents with a posterior and a prior"):
        information(AutoEncoder((2,), 2, likelihood="gaussian", net=NetConfig(width=4)), rows)
