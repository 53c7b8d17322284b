"""The Gaussian mixture: fast passes against plain formulas, bound and predictive density against exact ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from jensen.families import Categorical
from jensen.inference import ConjugateModel, Latent, check_conjugate, infer
from jensen.inference.models.mixture import (
    MixturePrior,
    coefficients,
    expected_log_weights,
    mixture_model,
    mixture_prior,
    updated,
)
from jensen.inference.models.mixture_kernels import Points, features, log_evidence, log_joint, statistics
from jensen.inference.models.mixture_predictive import (
    components_from,
    expected_covariances,
    expected_means,
    expected_weights,
    mean_precisions_and_degrees,
    placed,
    predictive,
)
from jensen.inference.models.mixture_start import MixtureStart, initial_labels

COVARIANCES = ["full", "diag", "spherical", "tied"]
WEIGHTS = ["dirichlet", "process"]

every_covariance = pytest.mark.parametrize("covariance", COVARIANCES)
every_weight_prior = pytest.mark.parametrize("weights", WEIGHTS)


def problem(seed: int, n: int = 60, dim: int = 3, count: int = 4, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Rows of `count` clusters with covariances of their own, and random responsibilities."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(count, size=n)
    shapes = rng.normal(size=(count, dim, dim)) / dim**0.5 + 0.3 * np.eye(dim)
    x = spread * rng.normal(size=(count, dim))[labels] + np.einsum(
        "nij,nj->ni", shapes[labels], rng.normal(size=(n, dim))
    )
    return torch.from_numpy(x - x.mean(0)), torch.from_numpy(rng.dirichlet(np.ones(count), size=n))


def prior_of(x: Tensor, covariance: Any, count: int, weights: Any = "dirichlet", **changes: Any) -> MixturePrior:
    dim = x.shape[1]
    w = torch.diag(x.var(0, correction=0)) + 0.1
    settings: dict[str, Any] = {
        "concentration": 0.7,
        "mean": torch.linspace(-1, 1, dim, dtype=torch.float64),
        "mean_precision": 0.6,
        "degrees_of_freedom": dim + 1.5,
        "covariance_prior": {"diag": w.diagonal(), "spherical": w.diagonal().mean()}.get(covariance, w),
        **changes,
    }
    return mixture_prior(covariance, count, weight_prior=weights, **settings)


def started(prior: MixturePrior, points: Points, r: Tensor) -> dict[str, Any]:
    return updated(prior, statistics(r, points, r.shape[1]), points.scatter)


def expected_log_joint(prior: MixturePrior, q: dict[str, Any], x: Tensor) -> Tensor:
    """E_q[log pi_k + log N(x_n | mu_k, Lambda_k^-1)] the long way, from the textbook's parameters, (N, K)."""
    p = q["components"].standard_parameters
    dim = x.shape[1]
    means = expected_means(prior.covariance, q["components"])
    centred = x[:, None] - means
    if prior.covariance in ("full", "tied"):
        steps = torch.arange(dim, dtype=torch.float64)
        log_det = torch.digamma((p.df[..., None] - steps) / 2).sum(-1) + dim * math.log(2) + torch.logdet(p.scale)
        quadratic = p.df * torch.einsum("nki,kij,nkj->nk", centred, p.scale.expand(means.shape[0], dim, dim), centred)
        quadratic = quadratic + dim / p.kappa
    elif prior.covariance == "diag":
        log_det = (torch.digamma(p.concentration) - p.rate.log()).sum(-1)
        precision = p.concentration / p.rate
        quadratic = (precision * centred**2 + 1 / p.precision[..., 0, 0]).sum(-1)
    else:
        log_det = dim * (torch.digamma(p.concentration) - p.rate.log())
        quadratic = p.concentration / p.rate * (centred**2).sum(-1) + dim / p.precision[:, 0, 0]
    weights = q["weights"].standard_parameters
    if hasattr(weights, "concentration"):
        log_weights = torch.digamma(weights.concentration) - torch.digamma(weights.concentration.sum())
    else:
        a, b = weights
        log_v = torch.digamma(a) - torch.digamma(a + b)
        log_rest = (torch.digamma(b) - torch.digamma(a + b)).cumsum(0)
        log_weights = torch.cat([log_v[:1], log_v[1:] + log_rest[:-1], log_rest[-1:]])
    return log_weights + 0.5 * (log_det - quadratic - dim * math.log(2 * math.pi))


def joint_coefficients(prior: MixturePrior, q: dict[str, Any]) -> Tensor:
    return coefficients(
        prior.covariance, expected_log_weights(q["weights"].mean_parameters), q["components"].mean_parameters
    )


# --- passes over the data ---------------------------------------------------------------------------------------------


@every_covariance
@every_weight_prior
def test_features_times_coefficients_are_the_expected_log_joint(covariance: Any, weights: Any) -> None:
    x, r = problem(0)
    prior, points = prior_of(x, covariance, 4, weights), Points(x, covariance, 7)
    q = started(prior, points, r)
    found = log_joint(joint_coefficients(prior, q), points)
    if covariance == "tied":
        found = found + (x @ q["components"].mean_parameters.minus_half_precision * x).sum(-1, keepdim=True)
    torch.testing.assert_close(found, expected_log_joint(prior, q, x), rtol=1e-10, atol=1e-10)


@every_covariance
@pytest.mark.parametrize("options", [{}, {"chunk_size": 1}, {"chunk_size": 7}, {"chunk_size": 7, "cache": True}])
def test_one_pass_gives_value_and_gradient_of_the_plain_formula(covariance: Any, options: dict[str, Any]) -> None:
    x, _ = problem(1, n=50)
    points = Points(x, covariance, **options)
    generator = torch.Generator().manual_seed(0)
    eta = torch.randn(4, len(features(x, covariance)), dtype=torch.float64, generator=generator, requires_grad=True)
    for _ in range(2):  # the second pass reads the cache
        value = log_evidence(eta, points)
        (gradient,) = torch.autograd.grad(3 * value, eta)
        plain = (eta @ features(x, covariance)).logsumexp(0).sum()
        (expected,) = torch.autograd.grad(3 * plain, eta)
        torch.testing.assert_close(value, plain, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-11)
    with torch.no_grad():
        torch.testing.assert_close(log_evidence(eta, points), plain.detach(), rtol=1e-12, atol=1e-12)


def test_a_pass_survives_components_thousands_of_nats_apart() -> None:
    x = torch.tensor([[-100.0], [100.0]], dtype=torch.float64)
    eta = torch.tensor(
        [[0.0, -50.0, -0.5], [0.0, 50.0, -0.5], [-1e5, 0.0, 0.0]], dtype=torch.float64, requires_grad=True
    )
    points = Points(x, "diag")
    (gradient,) = torch.autograd.grad(log_evidence(eta, points), eta)
    t = features(x, "diag")
    torch.testing.assert_close(gradient[0], t[:, 0])
    torch.testing.assert_close(gradient[1], t[:, 1])
    assert float(gradient[2].abs().max()) < 1e-100


def test_part_of_the_points_has_their_settings_and_no_stale_cache() -> None:
    x, _ = problem(2, n=20)
    points = Points(x, "full", 6, cache=True, log_scale=1.5)
    eta = torch.randn(3, 10, dtype=torch.float64)
    whole = log_evidence(eta, points)
    assert points[:] is points
    parts = [points[:5], points[torch.arange(5, 20)]]
    assert [len(p) for p in parts] == [5, 15]
    assert {(p.chunk_size, p.log_scale, p.covariance) for p in parts} == {(6, 1.5, "full")}
    torch.testing.assert_close(sum(log_evidence(eta, p) for p in parts), whole)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation returned."""

    size = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and not function.is_view:
                self.size = max(self.size, tensor.numel())
        return result


@every_covariance
def test_a_sweep_holds_nothing_of_the_size_of_rows_times_components(covariance: Any) -> None:
    n, dim, count, chunk = 2000, 3, 20, 50
    x, _ = problem(3, n=n, dim=dim)
    prior, points = prior_of(x, covariance, count), Points(x, covariance, chunk)
    labels = torch.arange(n) % count
    with Largest() as largest:
        model = mixture_model(prior, updated(prior, statistics(labels, points, count), points.scatter))
        infer(model, points, max_steps=2, tol=0)
    assert chunk * count <= largest.size < n * dim  # not even another copy of the rows


# --- the update -------------------------------------------------------------------------------------------------------


def textbook_sweep(prior: MixturePrior, q: dict[str, Any], x: Tensor) -> tuple[Tensor, ...]:
    """E-step and M-step of Bishop (2006), eq. 10.46-10.63: counts, kappa, means, inverse scales or rates, df."""
    r = expected_log_joint(prior, q, x).softmax(-1)
    counts = r.sum(0)
    p = prior.components.standard_parameters
    diagonal_kappa = prior.covariance in ("diag", "spherical")
    kappa0 = p.precision.reshape(-1)[0] if diagonal_kappa else p.kappa[0]
    m0 = expected_means(prior.covariance, prior.components)[0]
    means = r.T @ x / counts[:, None]
    kappa = kappa0 + counts
    loc = (kappa0 * m0 + counts[:, None] * means) / kappa[:, None]
    centred = x[:, None] - means
    within = torch.einsum("nk,nki,nkj->kij", r, centred, centred)
    off = means - m0
    between = (kappa0 * counts / kappa)[:, None, None] * off[:, :, None] * off[:, None, :]
    scatter = within + between
    if prior.covariance == "full":
        return counts, kappa, loc, torch.linalg.inv(p.scale) + scatter, p.df + counts
    if prior.covariance == "tied":
        return counts, kappa, loc, torch.linalg.inv(p.scale) + scatter.sum(0), p.df + len(x)
    squares = scatter.diagonal(dim1=-2, dim2=-1)
    if prior.covariance == "diag":
        return counts, kappa, loc, p.rate + squares / 2, p.concentration + counts[:, None] / 2
    return counts, kappa, loc, p.rate + squares.sum(-1) / 2, p.concentration + counts * x.shape[1] / 2


@every_covariance
@every_weight_prior
def test_a_sweep_is_the_textbooks(covariance: Any, weights: Any) -> None:
    x, r = problem(4)
    prior, points = prior_of(x, covariance, 4, weights), Points(x, covariance)
    q = started(prior, points, r)
    counts, kappa, loc, matrix, number = textbook_sweep(prior, q, x)
    found = infer(mixture_model(prior, q), points, max_steps=1, tol=0).posterior
    p: Any = found["components"].standard_parameters
    torch.testing.assert_close(expected_means(covariance, found["components"]), loc, rtol=1e-10, atol=1e-10)
    if covariance in ("full", "tied"):
        torch.testing.assert_close(torch.linalg.inv(p.scale), matrix, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(p.df, number, rtol=1e-10, atol=0)
        torch.testing.assert_close(p.kappa, kappa, rtol=1e-10, atol=0)
    else:
        torch.testing.assert_close(p.rate, matrix, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(p.concentration, number, rtol=1e-10, atol=0)
        one = p.precision[..., 0, 0] if covariance == "spherical" else p.precision[:, 0, 0, 0]
        torch.testing.assert_close(one, kappa, rtol=1e-10, atol=0)
    weight: Any = found["weights"].standard_parameters
    if weights == "dirichlet":
        torch.testing.assert_close(weight.concentration, 0.7 + counts, rtol=1e-10, atol=0)
    else:
        torch.testing.assert_close(weight.concentration1, 1 + counts[:-1], rtol=1e-10, atol=0)
        rest = counts.flip(0).cumsum(0).flip(0)[1:]
        torch.testing.assert_close(weight.concentration0, 0.7 + rest, rtol=1e-10, atol=0)


@every_covariance
@every_weight_prior
def test_profiling_the_assignments_out_is_the_same_as_keeping_them(covariance: Any, weights: Any) -> None:
    """The generic engine with a Categorical assignment for each row takes the same path."""
    x, r = problem(5, n=40)
    prior, points = prior_of(x, covariance, 4, weights), Points(x, covariance)
    q = started(prior, points, r)
    fast = mixture_model(prior, q)

    def terms(m: Any, batch: Tensor) -> Tensor:
        eta = coefficients(covariance, expected_log_weights(m.weights), m.components)
        table = (eta @ features(batch, covariance)).T
        if covariance == "tied":
            table = table + (batch @ m.components.minus_half_precision * batch).sum(-1, keepdim=True)
        return (m.z.probs * table).sum()

    def start(batch: Tensor) -> Categorical:
        return Categorical(Categorical.Natural(torch.zeros(len(batch), 4, dtype=torch.float64)))

    latents = {**fast.latents, "z": Latent(start, local=True)}
    plain = ConjugateModel(
        latents,
        local_terms=terms,
        blocks=[
            ["z"],
            ["weights", "components"],
        ],
    )
    ours, theirs = infer(fast, points, max_steps=5, tol=0), infer(plain, x, max_steps=5, tol=0)
    for name in ("weights", "components"):
        for a, b in zip(
            ours.posterior[name].natural_parameters, theirs.posterior[name].natural_parameters, strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    last = infer(plain, x, max_steps=6, tol=0, check=False)
    # the bound with the assignments at their optimum lies between that before and after they are brought there
    assert theirs.elbo - 1e-9 <= ours.elbo <= last.elbo + 1e-9


@every_covariance
def test_terms_are_linear_but_for_the_profiled_one(covariance: Any) -> None:
    x, r = problem(6)
    prior, points = prior_of(x, covariance, 4, "process"), Points(x, covariance)
    check_conjugate(mixture_model(prior, started(prior, points, r)), points)


def test_the_bound_never_falls_on_a_hundred_random_problems() -> None:
    rng = np.random.default_rng(0)
    for seed in range(120):
        covariance, weights = COVARIANCES[seed % 4], WEIGHTS[seed // 4 % 2]
        n, dim, count = int(rng.integers(1, 40)), int(rng.integers(1, 5)), int(rng.integers(1, 7))
        x, r = problem(seed, n, dim, count, spread=float(rng.uniform(0, 6)))
        prior = prior_of(
            x + 1e-3 * torch.randn_like(x), covariance, count, weights,
            concentration=float(10 ** rng.uniform(-3, 2)),
            mean_precision=float(10 ** rng.uniform(-3, 2)),
            degrees_of_freedom=dim - 1 + float(10 ** rng.uniform(-1, 1.5)),
            covariance_prior=float(10 ** rng.uniform(-2, 2)) * {
                "diag": torch.ones(dim, dtype=torch.float64), "spherical": torch.tensor(1.0, dtype=torch.float64)
            }.get(covariance, torch.eye(dim, dtype=torch.float64)),
        )  # fmt: skip
        points = Points(x, covariance)
        result = infer(mixture_model(prior, started(prior, points, r)), points, max_steps=15, tol=0, check=False)
        trace = np.array(result.elbo_trace)
        assert (np.diff(trace) >= -1e-10 * (1 + np.abs(trace[1:]))).all(), (seed, np.diff(trace).min())


@pytest.mark.parametrize(("method", "options"), [("natural", {"rho": 0.7}), ("svi", {"batch_size": 100})])
@every_covariance
def test_other_ways_up_reach_the_same_bound(covariance: Any, method: str, options: dict[str, Any]) -> None:
    x, _ = problem(7, n=400, spread=6.0)
    prior, points = prior_of(x, covariance, 4), Points(x, covariance)
    start = MixtureStart(prior, points, 4)
    model = mixture_model(prior, {"weights": start.weights, "components": start.components})
    best = infer(model, points, seed=1)
    other = infer(model, points, method=method, seed=1, max_steps=60, tol=1e-9, **options)
    assert other.elbo <= best.elbo + 1e-6
    assert other.elbo == pytest.approx(best.elbo, abs=1e-3 if method == "natural" else 2.0)


# --- exact answers ----------------------------------------------------------------------------------------------------


@every_covariance
def test_with_one_component_the_bound_is_the_evidence_and_that_the_product_of_predictive_densities(
    covariance: Any,
) -> None:
    x, _ = problem(8, n=12)
    prior = prior_of(x, covariance, 1)
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    points = Points(x, covariance)
    elbo = infer(mixture_model(prior, started(prior, points, ones)), points, max_steps=1).elbo
    evidence = float(predictive(covariance, prior.weights, prior.components).log_prob(x[:1]))
    for n in range(1, len(x)):
        q = started(prior, Points(x[:n], covariance), ones[:n])
        evidence += float(predictive(covariance, q["weights"], q["components"]).log_prob(x[n : n + 1]))
    assert elbo == pytest.approx(evidence, rel=1e-11)


@every_covariance
@every_weight_prior
def test_the_predictive_density_is_a_student_mixture(covariance: Any, weights: Any) -> None:
    x, r = problem(9)
    prior, points = prior_of(x, covariance, 4, weights), Points(x, covariance)
    q = started(prior, points, r)
    p: Any = q["components"].standard_parameters
    means, dim = expected_means(covariance, q["components"]).numpy(), x.shape[1]
    density = np.zeros(len(x))
    for k, weight in enumerate(expected_weights(q["weights"]).tolist()):
        if covariance in ("full", "tied"):
            df = (p.df if covariance == "tied" else p.df[k]).item() - dim + 1
            inverse = torch.linalg.inv(p.scale if covariance == "tied" else p.scale[k]).numpy()
            kappa = p.kappa[k].item()
            shape = inverse * (1 + kappa) / (kappa * df)
            density += weight * scipy.stats.multivariate_t(means[k], shape, df).pdf(x.numpy())
        elif covariance == "diag":
            kappa = p.precision[k, :, 0, 0].numpy()
            a, b = p.concentration[k].numpy(), p.rate[k].numpy()
            scale = np.sqrt(b * (1 + kappa) / (a * kappa))
            density += weight * scipy.stats.t(2 * a, means[k], scale).pdf(x.numpy()).prod(-1)
        else:
            kappa, a, b = p.precision[k, 0, 0].item(), p.concentration[k].item(), p.rate[k].item()
            shape = np.eye(dim) * b * (1 + kappa) / (a * kappa)
            density += weight * scipy.stats.multivariate_t(means[k], shape, 2 * a).pdf(x.numpy())
    found = predictive(covariance, q["weights"], q["components"]).log_prob(x)
    np.testing.assert_allclose(found.numpy(), np.log(density), rtol=1e-10)


@every_covariance
@every_weight_prior
def test_the_predictive_density_is_the_mean_over_draws_of_the_posterior(covariance: Any, weights: Any) -> None:
    x, r = problem(10, n=80, dim=2)
    prior, points = prior_of(x, covariance, 4, weights), Points(x, covariance)
    q = started(prior, points, r)
    generator, draws = torch.Generator().manual_seed(0), 20_000
    drawn = q["components"].sample((draws,), generator)
    pi = q["weights"].sample((draws,), generator)
    if weights == "process":
        one = pi.new_ones(draws, 1)
        pi = torch.cat([pi, one], -1) * torch.cat([one, (1 - pi).cumprod(-1)], -1)
    at = x[:5]
    if covariance in ("full", "tied"):
        precision = drawn.precision if covariance == "full" else drawn.precision.unsqueeze(1)
    elif covariance == "diag":
        precision = torch.diag_embed(drawn.precision)
    else:
        precision = drawn.precision[..., None, None] * torch.eye(2, dtype=torch.float64)
    loc = drawn.loc.squeeze(-1) if covariance == "diag" else drawn.loc
    centred = at[:, None, None] - loc
    log_normal = (
        0.5 * torch.logdet(precision)
        - 0.5 * torch.einsum("nski,skij,nskj->nsk", centred, precision.expand(draws, 4, 2, 2), centred)
        - math.log(2 * math.pi)
    )
    density = (pi * log_normal.exp()).sum(-1)
    found = predictive(covariance, q["weights"], q["components"]).log_prob(at).exp()
    assert bool(((density.mean(-1) - found).abs() < 5 * density.std(-1) / draws**0.5).all())


@every_covariance
def test_the_predictive_density_integrates_to_one_and_its_draws_follow_it(covariance: Any) -> None:
    x, r = problem(11, n=80, dim=1)
    prior, points = prior_of(x, covariance, 4, degrees_of_freedom=6.0), Points(x, covariance)
    q = started(prior, points, r)
    found = predictive(covariance, q["weights"], q["components"])
    grid = torch.linspace(-300, 300, 600_001, dtype=torch.float64).unsqueeze(-1)
    density = found.log_prob(grid).exp()
    cumulative = torch.cumulative_trapezoid(density, dx=0.001)
    assert float(cumulative[-1]) == pytest.approx(1, abs=1e-6)
    draws, labels = found.sample(20_000, torch.Generator().manual_seed(0))
    test = scipy.stats.kstest(draws[:, 0].numpy(), lambda v: np.interp(v, grid[1:, 0].numpy(), cumulative.numpy()))
    assert test.pvalue > 0.001
    shares = torch.bincount(labels, minlength=4) / len(labels)
    torch.testing.assert_close(shares, found.weights.to(shares), rtol=0, atol=0.02)


@every_covariance
def test_draws_have_the_components_covariances(covariance: Any) -> None:
    x, _ = problem(12, n=50, dim=2)
    prior = prior_of(x, covariance, 1, degrees_of_freedom=12.0)
    found = predictive(covariance, prior.weights, prior.components)
    draws, _ = found.sample(100_000, torch.Generator().manual_seed(0))
    dof = found.degrees_of_freedom[0]
    factor = found.factor[0] if found.factor.dim() == 3 else torch.diag(found.factor[0].expand(2))
    expected = torch.linalg.inv(factor.mT @ factor) * dof / (dof - 2)
    torch.testing.assert_close(torch.cov(draws.T), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(draws.mean(0), found.loc[0], rtol=0, atol=0.03)


# --- parameters and starts --------------------------------------------------------------------------------------------


@every_covariance
def test_components_move_with_their_rows(covariance: Any) -> None:
    """A posterior placed elsewhere is that of the moved rows under the moved prior."""
    x, r = problem(13)
    dim = x.shape[1]
    centre, scale = torch.tensor([5.0, -2.0, 0.5]).double(), torch.tensor([2.0, 4.0, 0.5]).double()
    if covariance == "spherical":
        scale = torch.full((dim,), 2.0, dtype=torch.float64)
    prior, points = prior_of(x, covariance, 4), Points(x, covariance)
    moved = MixturePrior(covariance, prior.weights, placed(prior.components, centre, scale))
    there = Points(centre + scale * x, covariance)
    q, expected = started(prior, points, r), started(moved, there, r)
    found = placed(q["components"], centre, scale)
    for a, b in zip(found.natural_parameters, expected["components"].natural_parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@every_covariance
def test_components_come_back_from_the_arrays_that_people_read(covariance: Any) -> None:
    x, r = problem(14)
    prior, points = prior_of(x, covariance, 4), Points(x, covariance)
    q = started(prior, points, r)["components"]
    again = components_from(
        covariance,
        expected_means(covariance, q),
        expected_covariances(covariance, q),
        *mean_precisions_and_degrees(covariance, q),
    )
    for a, b in zip(q.natural_parameters, again.natural_parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_expected_weights_of_sticks() -> None:
    x, r = problem(15)
    prior, points = prior_of(x, "full", 4, "process"), Points(x, "full")
    q = started(prior, points, r)["weights"]
    draws = q.sample((200_000,), torch.Generator().manual_seed(0))
    rest = torch.cat([draws.new_ones(len(draws), 1), (1 - draws).cumprod(-1)], -1)
    pi = torch.cat([draws * rest[:, :-1], rest[:, -1:]], -1)
    torch.testing.assert_close(expected_weights(q), pi.mean(0), rtol=0, atol=1e-3)
    assert float(expected_weights(q).sum()) == pytest.approx(1, abs=1e-14)
    logs = pi.log().mean(0)
    torch.testing.assert_close(expected_log_weights(q.mean_parameters), logs, rtol=0, atol=5e-3)


def test_a_prior_says_what_is_wrong() -> None:
    x, _ = problem(16)
    with pytest.raises(ValueError, match="at least 1 component"):
        prior_of(x, "full", 0)
    with pytest.raises(ValueError, match="weight_prior must be"):
        prior_of(x, "full", 2, "uniform")
    with pytest.raises(ValueError, match="covariance must be"):
        prior_of(x, "banded", 2, covariance_prior=torch.eye(3).double())
    with pytest.raises(ValueError, match="concentration"):
        prior_of(x, "full", 2, concentration=-1.0)
    with pytest.raises(ValueError, match="df is 1"):
        prior_of(x, "full", 2, degrees_of_freedom=1.0)


@pytest.mark.parametrize("init", ["kmeans", "random"])
def test_starts_are_deterministic_and_use_the_rows(init: Any) -> None:
    x, _ = problem(17, n=200, spread=30.0)
    points = Points(x, "full")
    labels = initial_labels(points, 4, init, seed=3)
    assert torch.equal(labels, initial_labels(points, 4, init, seed=3))
    assert set(labels.tolist()) == {0, 1, 2, 3}
    others = [initial_labels(points, 4, init, seed=s) for s in range(4, 9)]
    assert any(not torch.equal(labels, other) for other in others)


@pytest.mark.parametrize("init", ["kmeans", "random"])
def test_starts_with_fewer_different_rows_than_components(init: Any) -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 5.0]], dtype=torch.float64).repeat(6, 1)
    labels = initial_labels(Points(x, "diag"), 5, init, seed=0)
    assert len(set(labels.tolist())) == 2
    assert len(set(labels[::2].tolist())) == 1


def test_k_means_of_many_rows_looks_at_some_and_labels_all() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=50_000)
    x = torch.from_numpy(20.0 * truth[:, None] + rng.normal(size=(50_000, 2)))
    labels = initial_labels(Points(x, "full"), 3, "kmeans", seed=0).numpy()
    assert all(len(set(labels[truth == k])) == 1 for k in range(3))
    assert len(set(labels)) == 3


def test_a_process_starts_with_its_components_by_size() -> None:
    x, _ = problem(18, n=300, spread=20.0)
    points, prior = Points(x, "full"), prior_of(problem(18)[0], "full", 6, "process")
    start = MixtureStart(prior, points, 6, process=True)
    used = []
    for seed in range(8):
        q = start.weights(torch.Generator().manual_seed(seed))
        counts = q.standard_parameters.concentration1 - 1
        assert bool((counts.diff() <= 0).all())
        last = q.standard_parameters.concentration0[-1] - 0.7  # what the last stick of all is left
        used.append(int((counts > 0).sum()) + int(last > 0.5))
    assert used == [6, 3, 1, 6, 3, 1, 6, 3]
