"""The engine: the update, its local and global parts, hyperparameters, sampled terms, what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from jensen.errors import NonFiniteError, NotConjugateError
from jensen.families import Categorical, Dirichlet, Gamma, MultivariateNormal, Normal
from jensen.inference import (
    Columns,
    ConjugateModel,
    Latent,
    Moments,
    Parameter,
    State,
    Svi,
    check_conjugate,
    evaluate,
    infer,
)
from jensen.inference.ascent import bound

LOG_2PI = math.log(2 * math.pi)


def data(rows: int = 60) -> Tensor:
    return torch.as_tensor(np.random.default_rng(0).normal([-3.0, 0.0, 4.0], 0.8, size=(rows // 3, 3)).T.reshape(-1))


def unit_mixture(explicit: bool) -> ConjugateModel:
    """Three unit-variance Gaussians with unknown means and weights; assignments as latents or profiled out."""
    means = Normal.from_standard(torch.tensor([-1.0, 0.1, 1.0], dtype=torch.float64), 0.7)
    latents = {
        "weights": Latent(
            Dirichlet.from_standard(torch.ones(3).double()), Dirichlet.from_standard(2 * torch.ones(3).double())
        ),
        "means": Latent(means, Normal.from_standard(torch.zeros(3).double(), 5.0)),
    }

    def scores(m: Moments, x: Tensor) -> Tensor:
        x = x[:, None]
        return m.weights.log - 0.5 * (x**2 - 2 * x * m.means.mean + m.means.square) - 0.5 * LOG_2PI

    if not explicit:
        return ConjugateModel(
            latents, lambda m, x: {"data": scores(m, x).logsumexp(1).sum()}, profiled=frozenset({"data"})
        )
    latents["z"] = Latent(lambda x: Categorical.from_standard(torch.full((len(x), 3), 1 / 3).double()), local=True)
    return ConjugateModel(latents, lambda m, x: (m.z.probs * scores(m, x)).sum())


def normal_mean(x_precision: float = 2.0) -> ConjugateModel:
    """x_n ~ N(mu, 1/2), mu ~ N(1, 3^2): everything is in closed form."""

    def terms(m: Moments, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square
        return (0.5 * math.log(x_precision / (2 * math.pi)) - 0.5 * x_precision * square).sum()

    return ConjugateModel({"mu": Latent(Normal.from_standard(0.0, 1.0), Normal.from_standard(1.0, 3.0))}, terms)


def exact_mean(x: Tensor) -> tuple[float, float, float]:
    """Mean, variance and log evidence of `normal_mean` by linear algebra on the joint Gaussian."""
    n = len(x)
    covariance = 0.5 * torch.eye(n).double() + 9.0
    evidence = torch.distributions.MultivariateNormal(torch.ones(n).double(), covariance).log_prob(x)
    variance = 1 / (1 / 9 + 2 * n)
    return float(variance * (1 / 9 + 2 * x.sum())), variance, float(evidence)


def test_one_step_reaches_the_posterior_and_the_bound_is_the_evidence():
    x = data()
    mean, variance, evidence = exact_mean(x)
    result = infer(normal_mean(), x, max_steps=2)
    assert float(result.posterior["mu"].mean_parameters.mean) == pytest.approx(mean, abs=1e-12)
    assert float(result.posterior["mu"].standard_parameters.scale) == pytest.approx(variance**0.5, abs=1e-12)
    assert result.elbo_trace[0] == pytest.approx(evidence, abs=1e-9)


def test_assignments_as_latents_and_profiled_out_climb_the_same_way():
    x = data()
    profiled, explicit = (infer(unit_mixture(e), x, max_steps=8, tol=0) for e in (False, True))
    for name in ("weights", "means"):
        for a, b in zip(
            profiled.posterior[name].natural_parameters, explicit.posterior[name].natural_parameters, strict=True
        ):
            # explicit: z, weights, means in turn; profiled: z optimal at each of weights and means
            assert torch.allclose(a, b, rtol=0.05, atol=0.05)
    long = [infer(unit_mixture(e), x, tol=1e-14).elbo for e in (False, True)]
    assert long[0] == pytest.approx(long[1], abs=1e-8)
    assert set(explicit.local) == {"z"}
    assert explicit.local["z"].batch_shape == (len(x),)


def test_the_bound_of_the_mixture_by_hand():
    x, model = data(9), unit_mixture(False)
    state = model.start()
    weights, means = state.q["weights"].to_torch(), state.q["means"].to_torch()
    prior = model.latents
    generator = torch.Generator().manual_seed(0)
    pi = torch.as_tensor(np.random.default_rng(1).dirichlet([1, 1, 1], size=400_000))
    log_pi = pi.log().mean(0)
    mu = state.q["means"].sample((400_000,), generator)
    scores = log_pi - 0.5 * (x[:, None, None] - mu).pow(2).mean(1) - 0.5 * LOG_2PI
    kl = torch.distributions.kl_divergence(weights, prior["weights"].prior.to_torch())
    kl = kl + torch.distributions.kl_divergence(means, prior["means"].prior.to_torch()).sum()
    assert evaluate(model, state, x).elbo == pytest.approx(float(scores.logsumexp(1).sum() - kl), abs=0.05)


def test_targets_are_the_gradient_by_finite_differences():
    x, model = data(12), unit_mixture(False)
    state = model.start()
    found = evaluate(model, state, x, ["means"])
    m = {n: q.mean_parameters for n, q in state.q.items()}
    step = 1e-6
    for field in (0, 1):
        for k in range(3):
            values = []
            for sign in (-1, 1):
                fields = [f.clone() for f in m["means"]]
                fields[field][k] += sign * step
                moments = Moments(m | {"means": type(m["means"])(*fields)})
                prior = model.latents["means"].prior
                term = prior.inner(prior.natural_parameters, moments.means).sum()
                values.append(float(model.local_terms(moments, x)["data"] + term))
            slope = (values[1] - values[0]) / (2 * step)
            assert float(found.targets["means"][field][k]) == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 7, 59])
def test_chunks_change_nothing(explicit, chunk_size):
    x = data()
    whole = infer(unit_mixture(explicit), x, max_steps=5, tol=0)
    parts = infer(unit_mixture(explicit), x, max_steps=5, tol=0, chunk_size=chunk_size)
    assert parts.elbo_trace == pytest.approx(whole.elbo_trace, rel=1e-12)
    for name, q in whole.posterior.items():
        for a, b in zip(q.natural_parameters, parts.posterior[name].natural_parameters, strict=True):
            assert torch.allclose(a, b, rtol=1e-11)


def test_minibatch_targets_are_unbiased():
    x, model = data(), unit_mixture(False)
    state = model.start()
    whole = evaluate(model, state, x, ["weights", "means"])
    parts = [evaluate(model, state, x[i::4], ["weights", "means"], scale=4.0) for i in range(4)]
    assert sum(p.elbo for p in parts) / 4 == pytest.approx(whole.elbo, rel=1e-12)
    for name in whole.targets:
        for field, target in enumerate(whole.targets[name]):
            assert torch.allclose(sum(p.targets[name][field] for p in parts) / 4, target, rtol=1e-11)


def test_a_minibatch_of_everything_with_a_whole_step_is_coordinate_ascent():
    x = data()
    for explicit in (False, True):
        model = unit_mixture(explicit)
        svi = Svi(model, total_size=len(x), rho=1.0)
        for _ in range(3):
            svi.partial_fit(x)
        cavi = infer(model, x, max_steps=3, tol=0)
        for name, q in svi.posterior.items():
            for a, b in zip(q.natural_parameters, cavi.posterior[name].natural_parameters, strict=True):
                assert torch.allclose(a, b, rtol=1e-12)


def test_a_stream_without_local_latents_ends_at_the_posterior_of_all():
    x = data()
    mean, variance, _ = exact_mean(x)
    svi = Svi(normal_mean(), total_size=None)
    for batch in x.split([1, 10, 19, 30]):
        svi.partial_fit(batch)
    assert float(svi.posterior["mu"].standard_parameters.loc) == pytest.approx(mean, abs=1e-12)
    assert float(svi.posterior["mu"].standard_parameters.scale) == pytest.approx(variance**0.5, abs=1e-12)


def test_svi_ends_near_coordinate_ascent():
    x = data(300)
    cavi = infer(unit_mixture(False), x, tol=1e-12)
    svi = infer(unit_mixture(False), x, method="svi", batch_size=30, max_steps=60, tol=0)
    assert svi.elbo == pytest.approx(cavi.elbo, abs=0.5)
    assert svi.elbo <= cavi.elbo + 1e-6
    assert svi.steps == 600
    adaptive = infer(unit_mixture(False), x, method="svi", rho="adaptive", batch_size=30, max_steps=60, tol=0)
    assert adaptive.elbo == pytest.approx(cavi.elbo, abs=0.5)


@pytest.mark.parametrize("method", ["natural", "gradient"])
def test_other_ways_end_at_the_same_place(method):
    x = data()
    cavi = infer(unit_mixture(False), x, tol=1e-13)
    other = infer(unit_mixture(False), x, method=method, tol=1e-13, max_steps=5000)
    assert other.elbo == pytest.approx(cavi.elbo, abs=1e-5)
    assert other.steps > cavi.steps
    assert all(b >= a - 1e-8 for a, b in zip(other.elbo_trace, other.elbo_trace[1:], strict=False))


def test_natural_gradient_is_inverse_fisher_times_euclidean():
    """In minimal natural coordinates of a full normal and a Gamma at once."""
    x = Columns(x=torch.randn(20, 2, generator=torch.Generator().manual_seed(0)).double())
    start = MultivariateNormal.from_standard(
        torch.tensor([0.3, -0.2]).double(), torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double()
    )
    prior = MultivariateNormal.from_standard(torch.zeros(2).double(), torch.eye(2).double())

    def terms(m: Moments, batch: Columns) -> Tensor:
        square = (batch.x**2).sum(1) - 2 * batch.x @ m.mu.mean + m.mu.outer.diagonal().sum()
        return (m.tau.log - LOG_2PI - 0.5 * m.tau.mean * square).sum()

    model = ConjugateModel(
        {"mu": Latent(start, prior), "tau": Latent(Gamma.from_standard(2.0, 3.0), Gamma.from_standard(1.0, 1.0))}, terms
    )
    state = model.start()
    for name, q in state.q.items():
        target = evaluate(model, state, x, [name]).targets[name]
        natural = q.to_minimal(target) - q.to_minimal(q.natural_parameters)
        eta = q.to_minimal(q.natural_parameters).requires_grad_()
        moved = State({**state.q, name: type(q)(q.from_minimal(eta))})
        (euclidean,) = torch.autograd.grad(bound(model, moved, x), eta)
        assert torch.allclose(torch.linalg.solve(q.fisher_information(), euclidean), natural, rtol=1e-9, atol=1e-9)


def test_hyperparameters_reach_the_marginal_likelihood_estimate():
    """x_n ~ N(z_n, 1), z_n ~ N(0, s^2): the best s^2 is mean(x^2) - 1."""
    x = 2.0 * torch.randn(200, generator=torch.Generator().manual_seed(3)).double()
    model = ConjugateModel(
        {
            "z": Latent(
                lambda batch: Normal.from_standard(torch.zeros(len(batch)).double(), 1.0),
                prior=lambda m: Normal.from_standard(0.0, m.s),
                local=True,
            )
        },
        lambda m, batch: (-0.5 * LOG_2PI - 0.5 * (batch**2 - 2 * batch * m.z.mean + m.z.square)).sum(),
        parameters={"s": Parameter(torch.tensor(1.0).double(), constraints.positive)},
    )
    result = infer(model, x, tol=1e-13, max_steps=500)
    best = float((x**2).mean() - 1)
    assert float(result.parameters["s"]) ** 2 == pytest.approx(best, rel=1e-4)
    evidence = torch.distributions.Normal(torch.zeros(()).double(), math.sqrt(best + 1)).log_prob(x).sum()
    assert result.elbo == pytest.approx(float(evidence), abs=1e-6)


def test_hyperparameters_of_global_priors_need_no_rows():
    seen = []
    model = normal_mean()

    def terms(m: Moments, x: Tensor) -> Tensor:
        seen.append(len(x))
        return model.local_terms(m, x)

    learned = ConjugateModel(
        {"mu": Latent(Normal.from_standard(0.0, 1.0), lambda m: Normal.from_standard(m.location, 3.0))},
        terms,
        parameters={"location": Parameter(torch.tensor(0.0).double())},
    )
    result = infer(learned, data(), tol=1e-13, check=False)
    assert float(result.parameters["location"]) == pytest.approx(
        float(result.posterior["mu"].mean_parameters.mean), abs=1e-5
    )
    assert sum(n == 60 for n in seen) <= result.steps + 2, "each sweep passes over the rows once"


def test_sampled_terms_give_the_conjugate_answer():
    """The normal mean again, its likelihood as a log factor at draws."""
    x = data()
    mean, variance, evidence = exact_mean(x)
    exact = normal_mean()
    model = ConjugateModel(
        exact.latents,
        sampled_terms=lambda z, batch: torch.distributions.Normal(z.mu[:, None], 0.5**0.5).log_prob(batch).sum(1),
        samples=200,
    )
    result = infer(model, x, method="natural", rho=lambda t, g: 1 / (t + 1), max_steps=200)
    assert float(result.posterior["mu"].standard_parameters.loc) == pytest.approx(mean, abs=0.1 * variance**0.5)
    assert float(result.posterior["mu"].standard_parameters.scale) == pytest.approx(variance**0.5, rel=0.05)
    assert np.mean(result.elbo_trace[-50:]) == pytest.approx(evidence, abs=0.1)
    with pytest.raises(ValueError, match="whole steps may overshoot"):
        infer(model, x)


def test_the_same_seed_gives_the_same_result_and_restarts_the_best():
    def model() -> ConjugateModel:
        fixed = unit_mixture(False)

        def start(generator: torch.Generator) -> Normal:
            return Normal.from_standard(6 * torch.rand(3, generator=generator).double() - 3, 0.5)

        return ConjugateModel(
            {**fixed.latents, "means": Latent(start, fixed.latents["means"].prior)},
            fixed.local_terms,
            profiled=fixed.profiled,
        )

    x = data()
    single = [infer(model(), x, seed=seed, max_steps=3, tol=0) for seed in range(5)]
    assert len({r.elbo for r in single}) > 1
    assert infer(model(), x, seed=0, n_init=5, max_steps=3, tol=0).elbo == max(r.elbo for r in single)
    assert infer(model(), x, seed=4, max_steps=3, tol=0).elbo_trace == single[4].elbo_trace
    torch.manual_seed(99)
    again = infer(model(), x, method="svi", batch_size=7, max_steps=2, seed=1)
    torch.manual_seed(7)
    assert infer(model(), x, method="svi", batch_size=7, max_steps=2, seed=1).elbo_trace == again.elbo_trace


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_term_that_is_not_linear_is_named():
    linear = normal_mean()
    wrong = ConjugateModel(
        linear.latents, lambda m, x: {"data": linear.local_terms(m, x), "oops": -(m.mu.mean**2) * len(x)}
    )
    with pytest.raises(NotConjugateError, match=r"'oops'.*latent 'mu'"):
        infer(wrong, data())
    check_conjugate(linear, data())
    check_conjugate(ConjugateModel(wrong.latents, wrong.local_terms, nonconjugate=frozenset({"oops"})), data())


def test_a_block_that_is_not_linear_jointly_is_named():
    def terms(m: Moments, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square
        return (0.5 * m.tau.log - 0.5 * LOG_2PI - 0.5 * m.tau.mean * square).sum()

    latents = {
        "mu": Latent(Normal.from_standard(0.0, 1.0), Normal.from_standard(0.0, 10.0)),
        "tau": Latent(Gamma.from_standard(1.0, 1.0), Gamma.from_standard(1.0, 1.0)),
    }
    infer(ConjugateModel(latents, terms), data())
    with pytest.raises(NotConjugateError, match=r"'mu', 'tau' jointly.*separate blocks"):
        infer(ConjugateModel(latents, terms, blocks=[["mu", "tau"]]), data())


def test_a_false_claim_to_be_profiled_is_found():
    x = data()
    model = normal_mean()
    concave = ConjugateModel(
        model.latents,
        lambda m, x: {"data": model.local_terms(m, x) - len(x) * m.mu.mean**2},
        profiled=frozenset({"data"}),
    )
    with pytest.raises(NotConjugateError, match="not convex"):
        infer(concave, x)


def test_a_fall_of_the_bound_stops_coordinate_ascent():
    """q(a) q(b) of a Gaussian with precision [[1, 2], [2, 1]]-like coupling updated at once, unchecked: it diverges."""
    coupling = torch.full((3, 3), 0.9).double() + 0.1 * torch.eye(3).double()

    def terms(m: Moments) -> Tensor:
        z = torch.stack([m.a.mean, m.b.mean, m.c.mean])
        squares = torch.stack([m.a.square, m.b.square, m.c.square])
        return (
            -0.5 * (z @ (coupling - torch.eye(3).double()) @ z + squares.sum())
            + (z * torch.tensor([1.0, -2.0, 0.5]).double()).sum()
        )

    latents = {name: Latent(Normal.from_standard(0.0, 1.0)) for name in "abc"}
    sequential = infer(ConjugateModel(latents, global_terms=terms), tol=1e-13)
    at = torch.stack([sequential.posterior[n].standard_parameters.loc for n in "abc"])
    assert torch.allclose(at, torch.linalg.solve(coupling, torch.tensor([1.0, -2.0, 0.5]).double()), atol=1e-5)
    jacobi = ConjugateModel(latents, global_terms=terms, blocks=[["a", "b", "c"]])
    with pytest.raises(NotConjugateError, match="jointly"):
        infer(jacobi)
    with pytest.raises(NotConjugateError, match=r"the ELBO fell from .* in sweep \d+, updating a, b, c"):
        infer(jacobi, check=False)


def test_a_wrong_sign_is_no_distribution():
    model = normal_mean()
    wrong = ConjugateModel(model.latents, lambda m, x: -model.local_terms(m, x))
    with pytest.raises(NotConjugateError, match=r"latent 'mu': the update is no Normal"):
        infer(wrong, data())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_names_the_term(value):
    x = data()
    x[5] = value
    with pytest.raises(NonFiniteError, match="the term 'local' is"):
        infer(normal_mean(), x)


def test_nan_in_an_update_names_the_latent():
    """A term that is finite with a gradient that is not."""
    model = normal_mean()
    wrong = ConjugateModel(
        model.latents, lambda m, x: model.local_terms(m, x) + (m.mu.mean - m.mu.mean.detach()).abs().sqrt()
    )
    with pytest.raises(NonFiniteError, match="latent 'mu': the update's precision_mean"):
        infer(wrong, data(), check=False)


def test_nothing_is_lost_by_a_bad_batch():
    x = data()
    svi = Svi(normal_mean(), total_size=len(x))
    svi.partial_fit(x[:10])
    before = svi.posterior["mu"].natural_parameters
    with pytest.raises(NonFiniteError):
        svi.partial_fit(torch.full((10,), math.nan).double())
    assert svi.posterior["mu"].natural_parameters is before
    assert svi.steps == 1
    with pytest.raises(ValueError, match="no rows"):
        svi.partial_fit(x[:0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "newton"}, "method must be one of cavi, gradient, natural, svi, got 'newton'"),
        ({"tol": -1.0}, "tol must be 0 or more"),
        ({"max_steps": 0}, "max_steps must be at least 1"),
        ({"n_init": 0}, "n_init must be at least 1"),
        ({"rho": 0.5}, "cavi takes whole steps"),
        ({"batch_size": 5}, "cavi takes whole steps"),
        ({"method": "natural", "rho": 1.5}, r"rho must be in \(0, 1\]"),
        ({"method": "svi", "rho": "sometimes"}, "rho must be a number, a function or 'adaptive'"),
        ({"method": "svi", "chunk_size": 5}, "chunk_size is for the sweeps"),
        ({"method": "gradient", "rho": -1.0}, "must be positive"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        infer(normal_mean(), data(), **arguments)


def test_models_are_checked():
    normal = Normal.from_standard(0.0, 1.0)
    with pytest.raises(ValueError, match="blocks must name every latent once"):
        ConjugateModel({"a": Latent(normal), "b": Latent(normal)}, blocks=[["a"]])
    with pytest.raises(ValueError, match="same name"):
        ConjugateModel({"a": Latent(normal)}, parameters={"a": Parameter(torch.tensor(1.0))})
    with pytest.raises(ValueError, match="local latent 'z': start must be a function"):
        ConjugateModel({"z": Latent(normal, local=True)})
    with pytest.raises(ValueError, match="one q for each of the 6 rows"):
        infer(
            ConjugateModel(
                {"z": Latent(lambda x: normal.expand((4,)), normal, local=True)}, lambda m, x: m.z.mean.sum()
            ),
            data(6),
        )
    with pytest.raises(ValueError, match="must be one number"):
        infer(ConjugateModel({"a": Latent(normal, normal)}, lambda m, x: m.a.mean * x), data(6))
    with pytest.raises(AttributeError, match="no latent or parameter 'b'; there are: a"):
        infer(ConjugateModel({"a": Latent(normal, normal)}, lambda m, x: m.b.mean), data(6))
    with pytest.raises(ValueError, match="need data"):
        infer(normal_mean())
    with pytest.raises(ValueError, match="no rows"):
        infer(normal_mean(), data()[:0])


def test_columns():
    columns = Columns(x=torch.arange(6), y=torch.arange(12).reshape(6, 2))
    assert len(columns) == 6
    assert columns[1:3].y.tolist() == [[2, 3], [4, 5]]
    assert columns[torch.tensor([5, 0])].x.tolist() == [5, 0]
    with pytest.raises(ValueError, match="same number of rows"):
        Columns(x=torch.arange(6), y=torch.arange(5))
    with pytest.raises(AttributeError, match="no column 'z'"):
        _ = columns.z


def test_ctrl_c_between_sweeps_comes_through():
    reached = []

    def interrupt(step: int, elbo: float, state: State) -> None:
        reached.append((step, state))
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        infer(unit_mixture(False), data(), tol=0, callback=interrupt)
    assert [step for step, _ in reached] == [1, 2]
    assert set(reached[-1][1].q) == {"weights", "means"}
