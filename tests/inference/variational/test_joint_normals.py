"""Full-rank, low-rank and block-structured normal factors against torch's distributions and Gaussian targets."""

from __future__ import annotations

import pytest
import torch
from factor_cases import CASES, DATA, LOCAL, MIXED, SIZES, seeded
from torch import Tensor

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference import supports as s
from jensen.inference.model import Batch, Model
from jensen.inference.variational.blocks import blocks
from jensen.inference.variational.full_rank import FullRankNormal, FullRankPosterior, full_rank
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.inference.variational.low_rank import LowRankNormal, LowRankPosterior, low_rank


def points(q: FactorPosterior, loc: Tensor) -> Tensor:
    return loc.detach() + torch.randn(6, *loc.shape, dtype=torch.float64, generator=seeded(11))


@pytest.mark.parametrize("name", ["full rank", "full rank, rows joined", "full rank, rowwise"])
def test_full_rank_is_torchs_multivariate_normal(name: str) -> None:
    q = CASES[name].make()(DATA)
    assert isinstance(q, FullRankPosterior)
    peer = torch.distributions.MultivariateNormal(q.loc, scale_tril=q.scale_tril)
    at = points(q, q.loc)
    torch.testing.assert_close(q.log_prob(Draw({}, at)), peer.log_prob(at))
    torch.testing.assert_close(q.log_prob(Draw({}, at, torch.tensor(0.7))), peer.log_prob(at) - 0.7)
    torch.testing.assert_close(q.entropy(), peer.entropy())
    noise = torch.eye(q.loc.shape[-1], dtype=torch.float64)
    noise = noise.reshape(len(noise), *(1 for _ in q.elements), -1).expand(-1, *q.loc.shape)
    columns = (q.from_noise(noise).point - q.loc).movedim(0, -1)  # one unit of noise each: the factor's columns
    torch.testing.assert_close(columns, peer.scale_tril)
    draws = q.sample(30_000, seeded(1)).point
    flat = draws.reshape(len(draws), -1)
    wanted = torch.block_diag(*peer.covariance_matrix.reshape(-1, *peer.covariance_matrix.shape[-2:]))
    torch.testing.assert_close(torch.cov(flat.T), wanted.detach(), rtol=0.05, atol=0.08)


@pytest.mark.parametrize("name", ["low rank", "low rank, rowwise"])
def test_low_rank_is_torchs_low_rank_multivariate_normal(name: str) -> None:
    q = CASES[name].make(spread=0.8)(DATA)
    assert isinstance(q, LowRankPosterior)
    scale = q.log_scale.exp()
    peer = torch.distributions.LowRankMultivariateNormal(q.loc, scale.unsqueeze(-1) * q.loadings, scale.square())
    at = points(q, q.loc)
    torch.testing.assert_close(q.log_prob(Draw({}, at)), peer.log_prob(at))
    torch.testing.assert_close(q.entropy(), peer.entropy())
    torch.testing.assert_close(q.covariance, peer.covariance_matrix)
    draws = q.sample(60_000, seeded(1)).point
    found = torch.cov(draws.reshape(len(draws), -1).T)
    wanted = torch.block_diag(*peer.covariance_matrix.reshape(-1, *peer.covariance_matrix.shape[-2:]))
    correlation = wanted.diagonal().sqrt()
    assert ((found - wanted) / correlation / correlation[:, None]).abs().max() < 0.03


def test_low_rank_parameters_are_standard_deviations_and_loadings_without_rotations() -> None:
    factor = LowRankNormal({"z": s.real(5)}, {}, 3)
    with torch.no_grad():
        factor.lower.copy_(torch.randn(factor.lower.shape, dtype=torch.float64, generator=seeded(4)))
        factor.log_scale.copy_(torch.linspace(-2.0, 1.0, 5))
    q = factor()
    torch.testing.assert_close(q.covariance.diagonal().sqrt(), factor.log_scale.exp())
    assert factor.lower.shape == (5 * 3 - 3,)
    assert (q.loadings.triu(1) == 0).all()
    assert (q.loadings.tril() != 0).sum() == 12


def climb(factor: torch.nn.Module, log_density: object, draws: int = 64) -> None:
    """L-BFGS on fixed draws, centred and whitened so that a Gaussian target is met exactly."""
    q = factor(None)
    noise = torch.randn(draws, *q.noise_shape, dtype=torch.float64, generator=seeded(2))
    noise = noise - noise.mean(0)
    noise = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / draws)).T
    optimiser = torch.optim.LBFGS(
        factor.parameters(), max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        q = factor(None)
        draw = q.from_noise(noise)
        loss = -(log_density(draw.point) + q.entropy()).mean()  # type: ignore[operator]
        loss.backward()
        return loss

    optimiser.step(closure)


def test_full_rank_finds_a_correlated_normal() -> None:
    root = torch.randn(4, 4, dtype=torch.float64, generator=seeded(3))
    target = torch.distributions.MultivariateNormal(
        torch.arange(4.0, dtype=torch.float64), root @ root.T + 0.2 * torch.eye(4, dtype=torch.float64)
    )
    factor = FullRankNormal({"z": s.real(4)}, {})
    climb(factor, target.log_prob)
    q = factor()
    torch.testing.assert_close(q.loc.detach(), target.loc, rtol=0, atol=1e-5)
    torch.testing.assert_close(q.scale_tril.detach(), target.scale_tril, rtol=0, atol=1e-5)


def test_low_rank_finds_a_factor_model_and_leaves_its_start() -> None:
    loadings = 2 * torch.randn(5, 1, dtype=torch.float64, generator=seeded(3))
    target = torch.distributions.LowRankMultivariateNormal(
        torch.ones(5, dtype=torch.float64), loadings, torch.linspace(0.2, 2.0, 5, dtype=torch.float64)
    )
    factor = LowRankNormal({"z": s.real(5)}, {}, 1)
    climb(factor, target.log_prob)
    torch.testing.assert_close(factor().covariance.detach(), target.covariance_matrix, rtol=0, atol=1e-4)
    torch.testing.assert_close(factor().loc.detach(), target.loc, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["full rank, rowwise", "low rank, rowwise", "diagonal, rows", "Gamma, rows", "amortised"]
)
def test_a_minibatch_is_some_rows_of_the_whole(name: str) -> None:
    factor = CASES[name].make()
    index = torch.tensor([2, 0])
    whole, part = factor(DATA), factor(Batch({"x": DATA.x[index]}, index))
    assert part.elements[0] == 2
    torch.testing.assert_close(part.entropy(), whole.entropy()[index])
    draw = part.sample(3, seeded())
    assert all(len(v[0]) == 2 for v in draw.values.values())


def test_what_joins_rows_refuses_a_minibatch() -> None:
    factor = CASES["full rank, rows joined"].make()
    factor(DATA)
    with pytest.raises(ValueError, match=r"q joins the rows of v, w, .* on 2 of their 4 rows: use all the data"):
        factor(Batch({}, torch.tensor([2, 0])))


def test_rows_of_another_plate_than_that_of_minibatches_are_all_there() -> None:
    variables = {"g": s.real(2, plate="groups"), "h": s.positive(plate="groups")}
    factor = FullRankNormal(variables, SIZES, rowwise=True)
    assert factor(Batch({}, torch.tensor([3, 0, 1]))).loc.shape == (3, 3)
    values = factor(Batch({}, torch.tensor([1, 0]))).sample(5, seeded()).values
    assert (values["g"].shape, values["h"].shape) == ((5, 3, 2), (5, 3))


def model(**latents: s.Variable) -> Model:
    return Model(latents, lambda z, data: torch.zeros(()), plates=SIZES)


def test_families_cover_every_latent_of_a_model() -> None:
    everything = model(**MIXED, **LOCAL, k=s.categorical(3, plate="rows"))
    for family in (full_rank(everything), low_rank(3)(everything)):
        assert sorted(family.names) == ["a", "b", "c", "k", "v", "w"]
        assert [len(f.names) for f in family.factors] == [5, 1]
        values = family(DATA).sample(4, seeded())
        assert values["k"].dtype == torch.int64
        assert values["v"].shape == (4, 4, 2)
    discrete = model(k=s.bernoulli(2))
    assert full_rank(discrete).names == low_rank(2)(discrete).names == ("k",)
    assert isinstance(low_rank(3)(everything).factors[0], LowRankNormal)
    assert low_rank(50)(model(a=s.real(2))).factors[0].rank == 2


def test_blocks_join_what_is_named_and_nothing_else() -> None:
    everything = model(**MIXED, **LOCAL, k=s.bernoulli(plate="rows"))
    family = blocks([["v", "w"], ["b", "a"]])(everything)
    kinds = {f.names: f for f in family.factors}
    assert set(kinds) == {("v", "w"), ("b", "a"), ("c",), ("k",)}
    assert kinds["v", "w"]().elements == (4,)  # rows apart: a covariance of 3 x 3 for each
    assert kinds["v", "w"].lower.shape == (4, 3)
    assert kinds["b", "a"]().elements == ()
    assert isinstance(kinds["c",], DiagonalNormal)
    assert blocks([["a", "w"]])(everything).factors[0]().loc.shape == (6,)  # a global and a local one: all joined
    values = family(Batch({}, torch.tensor([1, 3]))).sample(2, seeded())
    assert (values["v"].shape, values["k"].shape, values["c"].shape) == ((2, 2, 2), (2, 2), (2, 3))


def test_errors_name_what_is_wrong() -> None:
    everything = model(**MIXED, k=s.bernoulli(2))
    with pytest.raises(ValueError, match=r"blocks name \['x'\], but the model's latents are \['a', 'b', 'c', 'k'\]"):
        blocks([["a", "x"]])(everything)
    with pytest.raises(ValueError, match=r"latents \['a'\] are in more than one factor"):
        blocks([["a", "b"], ["a"]])(everything)
    with pytest.raises(ValueError, match="group of no latents"):
        blocks([[]])
    with pytest.raises(TypeError, match=r"latents \['k'\] are discrete"):
        blocks([["a", "k"]])(everything)
    with pytest.raises(ValueError, match="not all on one plate"):
        FullRankNormal(MIXED, SIZES, rowwise=True)
    with pytest.raises(ValueError, match="at least one latent"):
        FullRankNormal({}, SIZES)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        low_rank(0)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        LowRankNormal(MIXED, SIZES, 0)
