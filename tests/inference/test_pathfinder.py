"""Pathfinder against inverse Hessians by their definition, normal targets, quadrature, and targets with two modes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fit_models import fitted, funnel, standard
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from jensen.errors import NonFiniteError
from jensen.inference.fit_result import FitResult
from jensen.inference.inverse_hessians import Approximation, along_path, inverse_hessian, laplace, next_diagonal
from jensen.inference.model import Model
from jensen.inference.pathfinder import climb, find, place
from jensen.inference.supports import bernoulli, positive, real
from jensen.inference.variational.path_mixture import PathMixture


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


def normal_target(size: int) -> MultivariateNormal:
    root = randn(size, size, seed=1) / math.sqrt(size)
    return MultivariateNormal(randn(size, seed=2), root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64))


def covariance(q: Approximation) -> Tensor:
    """By its definition: of draws that are linear in their noise."""
    noise = torch.eye(len(q.loc), dtype=torch.float64)
    root = q.draw(noise) - q.loc
    return root.T @ root


def pathfinder(model: Model, data: Any = None, **options: Any) -> FitResult:
    bound = fitted(model, data).bound
    ascent = climb(bound, **options)
    bound.load(ascent.flat)
    return FitResult(bound, ascent, "pathfinder")


# --- inverse Hessians -------------------------------------------------------------------------------------------------


def pairs(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Steps and changes of gradient of a quadratic with noise, s . y > 0."""
    moves = randn(count, size, seed=3)
    turns = moves @ torch.linalg.inv(normal_target(size).covariance_matrix) + 0.01 * randn(count, size, seed=4)
    assert bool(((moves * turns).sum(1) > 0).all())
    return moves, turns


@pytest.mark.parametrize(("count", "size"), [(1, 6), (3, 12), (5, 6), (9, 4)])
def test_the_inverse_hessian_is_that_of_successive_updates(count: int, size: int) -> None:
    moves, turns = pairs(count, size)
    diagonal = randn(size, seed=5).exp()
    expected = torch.diag(diagonal)
    for move, turn in zip(moves, turns, strict=True):
        rho = 1 / (move @ turn)
        left = torch.eye(size, dtype=torch.float64) - rho * torch.outer(move, turn)
        expected = left @ expected @ left.T + rho * torch.outer(move, move)
    found = inverse_hessian(diagonal, moves, turns)
    assert found is not None
    q = Approximation(torch.zeros(size, dtype=torch.float64), diagonal.log() / 2, *found)
    torch.testing.assert_close(covariance(q), expected)
    torch.testing.assert_close(2 * q.log_volume, torch.logdet(expected))
    torch.testing.assert_close(q.sd, expected.diagonal().sqrt())
    torch.testing.assert_close(covariance(q) @ turns[-1], moves[-1])  # the secant condition
    points = randn(5, size, seed=12)
    torch.testing.assert_close(q.log_prob(points), MultivariateNormal(q.loc, expected).log_prob(points))


def test_the_diagonal_is_that_of_the_updated_hessian() -> None:
    (move,), (turn,) = pairs(1, 7)
    diagonal = randn(7, seed=6).exp()
    hessian = (turn @ (diagonal * turn)) / (move @ turn) * torch.diag(1 / diagonal)
    along = hessian @ move
    updated = hessian - torch.outer(along, along) / (move @ along) + torch.outer(turn, turn) / (move @ turn)
    torch.testing.assert_close(next_diagonal(diagonal, move, turn), 1 / updated.diagonal())


def test_points_without_curvature_are_passed_over() -> None:
    positions = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
    gradients = torch.tensor([[-1.0], [-1.0], [-2.0], [-1.0]], dtype=torch.float64)  # curved at the last step alone
    found = list(along_path(positions, gradients))
    assert [point for point, _ in found] == [3]
    torch.testing.assert_close(found[0][1].loc, torch.tensor([4.0], dtype=torch.float64))
    torch.testing.assert_close(found[0][1].sd, torch.tensor([1.0], dtype=torch.float64))


def test_laplace_is_the_quadratic_expansion_or_nothing() -> None:
    target = normal_target(5)
    hessian = torch.linalg.inv(target.covariance_matrix)
    at = randn(5, seed=7)
    q = laplace(at, hessian @ (at - target.loc), hessian)
    assert q is not None
    torch.testing.assert_close(q.loc, target.loc)
    torch.testing.assert_close(covariance(q), target.covariance_matrix)
    saddle = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    for wrong in (saddle, -torch.eye(2, dtype=torch.float64), saddle * math.nan):
        assert laplace(at[:2], at[:2], wrong) is None


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 20, 60])
def test_normal_targets_are_found_exactly(size: int) -> None:
    target = normal_target(size)
    (finding,), evaluations = find(
        lambda x: target.log_prob(x) + 3.0,
        torch.zeros(1, size, dtype=torch.float64),
        generator=generator(),
        tolerance=1e-9,
    )
    assert finding.approximation is not None
    torch.testing.assert_close(finding.approximation.loc, target.loc, atol=1e-3, rtol=0)
    torch.testing.assert_close(covariance(finding.approximation), target.covariance_matrix, atol=2e-3, rtol=0.05)
    assert finding.elbo == pytest.approx(3.0, abs=0.02)  # the evidence
    assert finding.complete
    assert size < evaluations < 300


def test_many_coordinates_are_better_approximated_than_by_one_scale() -> None:
    """400, so that no Hessian is written down, with scales over two orders of magnitude."""
    scale = torch.logspace(-1, 1, 400, dtype=torch.float64)
    (finding,), evaluations = find(
        lambda x: Normal(0.5, scale).log_prob(x).sum(-1), torch.ones(1, 400, dtype=torch.float64), generator=generator()
    )
    assert finding.approximation is not None
    assert evaluations < 200
    one_scale = scale.pow(-2).mean().rsqrt()  # of the best N(m, s^2 I)
    assert finding.elbo > float((one_scale / scale).log().sum()) + 50


def test_the_bound_is_below_the_evidence_of_a_banana_and_reweighting_finds_its_moments() -> None:
    """x ~ N(0, 1), y ~ N(x^2 / 4, 1): log evidence 0, E y = 1/4, E x^2 = 1."""

    def log_density(z: Any) -> Tensor:
        return Normal(0.0, 1.0).log_prob(z.x) + Normal(z.x**2 / 4, 1.0).log_prob(z.y)

    result = pathfinder(standard({"x": real(), "y": real()}, log_density))
    assert result.converged
    assert -0.8 < result.elbo < 0.0 + 4 * result.elbo_se
    found = result.expectation(lambda z: {"y": z.y, "square": z.x**2})
    assert found["y"].reweighted
    assert float(found["y"].mean) == pytest.approx(0.25, abs=0.1)
    assert float(found["square"].mean) == pytest.approx(1.0, abs=0.15)


def logistic_regression() -> tuple[Model, dict[str, Tensor]]:
    x = torch.stack([torch.ones(60, dtype=torch.float64), randn(60, seed=8)], 1)
    chances = torch.sigmoid(x @ torch.tensor([-0.5, 1.2], dtype=torch.float64))
    y = (torch.rand(60, dtype=torch.float64, generator=generator(9)) < chances).double()

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        likelihood = Bernoulli(logits=data.x @ z.beta).log_prob(data.y)
        return {"prior": Normal(0.0, 2.0).log_prob(z.beta).sum(), "y": likelihood}

    return Model({"beta": real(2)}, log_joint, plates={"rows": 60}), {"x": x, "y": y}


def quadrature(model: Model, data: dict[str, Tensor]) -> tuple[float, Tensor, Tensor]:
    """Log evidence, means and standard deviations on a fine grid."""
    line = torch.linspace(-4, 4, 400, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    values = fitted(model, data).target.log_prob({"beta": grid})
    total = torch.logsumexp(values, 0)
    weights = (values - total).exp()
    mean = weights @ grid
    return float(total) + 2 * math.log(8 / 399), mean, (weights @ (grid - mean).square()).sqrt()


def test_a_logistic_regression_agrees_with_quadrature() -> None:
    model, data = logistic_regression()
    evidence, mean, sd = quadrature(model, data)
    result = pathfinder(model, data)
    assert result.pareto_k.usable
    assert evidence - 0.1 < result.elbo < evidence + 4 * result.elbo_se
    table = result.summary()
    for place_ in range(2):
        row = table[f"beta[{place_}]"]
        assert row["mean (IW)"] == pytest.approx(float(mean[place_]), abs=0.06 * float(sd[place_]))
        assert row["sd (IW)"] == pytest.approx(float(sd[place_]), rel=0.06)
        assert row["mean"] == pytest.approx(float(mean[place_]), abs=0.25 * float(sd[place_]))


def test_two_modes_are_both_found_and_weighted() -> None:
    """0.3 N(-3, 0.6^2) + 0.7 N(3, 0.5^2), times a constant that the bound finds."""

    def log_density(z: Any) -> Tensor:
        one, other = Normal(-3.0, 0.6).log_prob(z.x), Normal(3.0, 0.5).log_prob(z.x)
        return torch.logaddexp(one + math.log(0.3), other + math.log(0.7)) - 2.0

    result = pathfinder(standard({"x": real()}, log_density), n_starts=6)
    assert result.pareto_k.usable
    found = result.expectation(lambda z: z.x.gt(0).double())
    assert float(found.mean) == pytest.approx(0.7, abs=0.04)
    assert result.elbo == pytest.approx(-2.0, abs=0.03)
    assert float(result.sample(4_000)["x"].gt(0).double().mean()) == pytest.approx(0.7, abs=0.05)
    assert result.sample(500, seed=1)["x"].lt(0).any()


def test_positive_latents_are_approximated_on_their_logarithms() -> None:
    """A Gamma(5, 2) posterior: mean 5/2, sd sqrt(5)/2, evidence 1."""
    model = standard({"rate": positive()}, lambda z: torch.distributions.Gamma(5.0, 2.0).log_prob(z.rate))
    result = pathfinder(model)
    row = result.summary()["rate"]
    assert row["mean (IW)"] == pytest.approx(2.5, abs=0.1)
    assert row["sd (IW)"] == pytest.approx(math.sqrt(5) / 2, rel=0.1)
    assert -0.1 < result.elbo < 4 * result.elbo_se


def test_a_funnel_is_not_believed() -> None:
    result = pathfinder(funnel(4))
    assert not result.pareto_k.usable
    assert result.elbo < -0.3  # the evidence is 1


def test_the_same_seed_gives_the_same_result() -> None:
    model, data = logistic_regression()
    first, again, other = (pathfinder(model, data, seed=seed, n_starts=2) for seed in (0, 0, 1))
    assert torch.equal(first.ascent.flat, again.ascent.flat)
    assert not torch.equal(first.ascent.flat, other.ascent.flat)


def test_a_path_that_is_cut_off_is_not_converged() -> None:
    target = normal_target(30)
    model = standard({"x": real(30)}, lambda z: 100 * target.log_prob(z.x))
    result = pathfinder(model, evaluations=4, n_starts=1)
    whole = pathfinder(model, n_starts=1)
    assert whole.converged
    assert result.converged is (result.reason != "the path ended while its ELBO was rising")
    assert result.elbo <= whole.elbo + 4 * whole.elbo_se


def test_a_mean_field_is_placed_there() -> None:
    target = normal_target(3)
    model = standard({"x": real(2), "tau": positive()}, lambda z: _joint(target, z))
    family = fitted(model).family
    place(fitted(model).target, family, seed=3)
    x, tau = family.factors
    torch.testing.assert_close(torch.cat([x.loc, tau.loc[None]]).detach(), target.loc, atol=0.02, rtol=0)
    torch.testing.assert_close(
        torch.cat([x.log_scale, tau.log_scale[None]]).exp().detach(), target.stddev, atol=0, rtol=0.05
    )


def _joint(target: MultivariateNormal, z: Any) -> Tensor:
    return target.log_prob(torch.cat([z.x, z.tau.log()[None]])) - z.tau.log()


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: standard({"z": bernoulli(), "x": real()}, lambda z: z.z - z.x**2),
            ValueError,
            r"latents \['z'\] are discrete",
        ),
        (
            lambda: Model({"x": real()}, lambda z, d: -((z.x - z.a) ** 2), {"a": torch.zeros(())}),
            ValueError,
            "learns no parameters",
        ),
        (lambda: standard({"x": real()}, lambda z: 0 * z.x), NonFiniteError, "is the posterior proper"),
        (lambda: standard({"x": real()}, lambda z: torch.log(z.x - 50)), NonFiniteError, "not finite at 8 of 8 starts"),
    ],
)
def test_what_has_no_normal_approximation_is_refused(
    make: Callable[[], Model], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        climb(fitted(make()).bound)


def test_there_is_at_least_one_path() -> None:
    with pytest.raises(ValueError, match="n_starts should be at least 1"):
        climb(fitted(funnel()).bound, n_starts=0)


# --- its family -------------------------------------------------------------------------------------------------------


def mixture(count: int) -> PathMixture:
    factor = PathMixture({"x": real(3), "tau": positive()}, {}, 2, count)
    parts = []
    for k in range(count):
        directions = torch.linalg.qr(randn(4, 2, seed=20 + k)).Q
        parts.append(
            Approximation(randn(4, seed=k), 0.3 * randn(4, seed=5 + k), directions, 0.7 * randn(2, seed=9 + k))
        )
    factor.set(parts, randn(count, seed=11))
    return factor


def test_a_component_is_the_normal_distribution_of_its_covariance() -> None:
    factor = mixture(1)
    q = factor()
    draw = q.rsample(6, generator())
    whole = MultivariateNormal(q.loc, q.covariance)
    torch.testing.assert_close(q.log_prob(draw) + draw.log_jacobian, whole.log_prob(draw.point))
    torch.testing.assert_close(q.entropy(), whole.entropy())
    root = q.from_noise(torch.eye(4, dtype=torch.float64)).point - q.loc
    torch.testing.assert_close(root.T @ root, q.covariance)
    torch.testing.assert_close(draw.values["tau"], draw.point[:, 3].exp())
    assert torch.equal(draw.point, q.from_noise(randn(6, 4)).point)


def test_a_mixture_has_the_density_and_draws_of_its_components() -> None:
    factor = mixture(3)
    q = factor()
    weights = torch.softmax(factor.logits, 0)
    each = [component() for component in factor.components]
    draw = q.sample(40_000, generator())
    inside = [
        w * MultivariateNormal(c.loc, c.covariance).log_prob(draw.point).exp()
        for w, c in zip(weights, each, strict=True)
    ]
    torch.testing.assert_close(q.log_prob(draw), torch.stack(inside).sum(0).log() - draw.log_jacobian)
    mean = factor.mean()
    torch.testing.assert_close(mean, sum(w * c.loc for w, c in zip(weights, each, strict=True)))
    error = draw.point.std(0) / math.sqrt(40_000)
    assert bool(((draw.point.mean(0) - mean).abs() < 4.5 * error).all())
    with pytest.raises(TypeError, match="cannot be differentiated"):
        q.rsample(3)
