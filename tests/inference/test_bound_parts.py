"""The engine's parts one by one: scaling, entropies, hyperparameters, local optima, precision, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from jensen.errors import NonFiniteError, NotConjugateError
from jensen.families import Beta, Categorical, Dirichlet, Gamma, InverseGamma, Normal, Poisson
from jensen.inference import (
    Adaptive,
    Columns,
    ConjugateModel,
    Latent,
    Moments,
    Parameter,
    RobbinsMonro,
    State,
    Svi,
    check_conjugate,
    evaluate,
    infer,
)
from jensen.inference.ascent import bound
from jensen.inference.update import fit_local, update

LOG_2PI = math.log(2 * math.pi)


def real(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def effects(s: float = 1.3) -> ConjugateModel:
    """x_n ~ N(mu + z_n, 1), z_n ~ N(0, s^2): a local and a global latent and a hyperparameter."""

    def terms(m: Moments, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * (m.mu.mean + m.z.mean) + m.mu.square + 2 * m.mu.mean * m.z.mean + m.z.square
        return (-0.5 * LOG_2PI - 0.5 * square).sum()

    return ConjugateModel(
        {
            "mu": Latent(Normal.from_standard(0.5, 0.7), Normal.from_standard(0.0, 5.0)),
            "z": Latent(
                lambda x: Normal.from_standard(0.1 * x, 0.5),
                lambda m: Normal.from_standard(0.0, m.s),
                local=True,
            ),
        },
        terms,
        parameters={"s": Parameter(torch.tensor(s, dtype=torch.float64), constraints.positive)},
    )


def observed(rows: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return 1.0 + 2.5 * torch.randn(rows, generator=generator, dtype=torch.float64)


def with_local(model: ConjugateModel, x: Tensor) -> State:
    return replace(model.start(), local=model.start_local(x))


# --- sums ---


def test_minibatches_of_local_latents_average_to_the_whole():
    x, model = observed(), effects()
    state = with_local(model, x)
    names = ["mu", "z", "s"]
    whole = evaluate(model, state, x, names)
    parts = [evaluate(model, with_local(model, x[i::4]), x[i::4], names, scale=4.0) for i in range(4)]
    assert sum(p.elbo for p in parts) / 4 == pytest.approx(whole.elbo, rel=1e-12)
    assert float(sum(p.gradients["s"] for p in parts)) / 4 == pytest.approx(float(whole.gradients["s"]), rel=1e-12)
    for field in (0, 1):
        mean = sum(p.targets["mu"][field] for p in parts) / 4
        assert float(mean) == pytest.approx(float(whole.targets["mu"][field]), rel=1e-12)
        assert torch.allclose(parts[1].targets["z"][field], whole.targets["z"][field][1::4], rtol=1e-12)


def test_the_gradient_in_a_hyperparameter_by_finite_differences_and_in_chunks():
    x = observed()
    found = evaluate(effects(), with_local(effects(), x), x, ["s"], chunk_size=7)
    step = 1e-6
    high, low = (evaluate(effects(1.3 + d), with_local(effects(1.3 + d), x), x).elbo for d in (step, -step))
    assert float(found.gradients["s"]) == pytest.approx((high - low) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_differentiable_bound_is_the_same_bound(scale):
    x, model = observed(), effects()
    state = with_local(model, x)
    assert float(bound(model, state, x, scale=scale)) == pytest.approx(
        evaluate(model, state, x, scale=scale).elbo, rel=1e-13
    )


def test_plain_minibatches_scale_their_rows():
    """Two passes with tiny steps: the first estimate of a minibatch is the scaled bound of that batch."""
    x, model = observed(), effects()
    svi = Svi(model, total_size=len(x), rho=1e-12, plain=True, local_tol=1e-12)
    estimate = svi.partial_fit(x[:10])
    state = fit_local(model, model.start(), x[:10], tol=1e-12, max_steps=100)
    assert estimate == pytest.approx(evaluate(model, state, x[:10], scale=4.0).elbo, rel=1e-9)


def test_the_bound_of_all_rows_counts_the_globals_once():
    x, model = observed(), effects()
    svi = Svi(model, total_size=len(x), local_tol=1e-13)
    whole = svi.elbo(x, chunk_size=1000)
    assert svi.elbo(x, chunk_size=7) == pytest.approx(whole, rel=1e-12)
    state = fit_local(model, model.start(), x, tol=1e-13, max_steps=100)
    assert whole == pytest.approx(evaluate(model, state, x).elbo, rel=1e-12)


def test_a_poisson_latent_leaves_its_base_measure_out():
    """z ~ Poisson(3) alone: q becomes the prior, and the bound is log 1, with a prior and with a term in its place."""
    start = Poisson.from_standard(1.0)
    given = infer(ConjugateModel({"z": Latent(start, Poisson.from_standard(3.0))}))
    written = infer(ConjugateModel({"z": Latent(start)}, global_terms=lambda m: m.z.mean * math.log(3.0) - 3.0))
    for result in (given, written):
        assert result.elbo == pytest.approx(0.0, abs=1e-12)
        assert float(result.posterior["z"].mean_parameters.mean) == pytest.approx(3.0)


# --- local optima and streams ---


def topics() -> tuple[ConjugateModel, Tensor]:
    """Documents' topics as local latents, their words' topics profiled out: one update is not yet the optimum."""
    generator = torch.Generator().manual_seed(0)
    words = torch.softmax(2 * torch.randn(3, 8, generator=generator, dtype=torch.float64), 1).log()
    counts = torch.randint(0, 6, (12, 8), generator=generator).double()

    def terms(m: Moments, x: Tensor) -> dict[str, Tensor]:
        return {"words": (x * (m.theta.log[:, :, None] + words).logsumexp(1)).sum() + 0 * m.rate.mean}

    prior = Dirichlet.from_standard(real(0.5, 0.5, 0.5))
    local = Latent(lambda x: Dirichlet.from_standard(torch.ones(len(x), 3).double()), prior, local=True)
    rate = Latent(Gamma.from_standard(1.0, 1.0), Gamma.from_standard(1.0, 1.0))
    return ConjugateModel({"theta": local, "rate": rate}, terms, profiled=frozenset({"words"})), counts


def test_profiled_local_latents_are_brought_to_their_optimum():
    model, counts = topics()
    state = fit_local(model, model.start(), counts, tol=1e-14, max_steps=1000)
    again = update(model, state, evaluate(model, state, counts, ["theta"]), 1.0)
    for a, b in zip(state.local["theta"].natural_parameters, again.local["theta"].natural_parameters, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    cavi = infer(model, counts, tol=1e-14)
    assert Svi(model, len(counts), local_tol=1e-14, local_steps=1000).elbo(counts) == pytest.approx(cavi.elbo, abs=1e-8)


def test_svi_learns_hyperparameters():
    x = observed(200)
    cavi = infer(effects(), x, tol=1e-12, max_steps=2000)
    assert float(cavi.parameters["s"]) ** 2 == pytest.approx(float(x.var(correction=0)) - 1, rel=0.02)
    for options in ({"method": "svi"}, {"method": "natural", "rho": 0.1}):
        found = infer(effects(), x, batch_size=50, max_steps=60, tol=0, **options)
        assert float(found.parameters["s"]) == pytest.approx(float(cavi.parameters["s"]), rel=0.05)


def test_a_stream_averages_hyperparameters_over_its_rows():
    x = observed(400)
    svi = Svi(effects(), total_size=None, local_tol=1e-10, local_steps=500)
    for batch in x.split(100):
        svi.partial_fit(batch)
    assert float(svi.state.parameters["s"]) ** 2 == pytest.approx(float(x.var(correction=0)) - 1, rel=0.1)


def test_a_stream_takes_global_terms_once():
    """mu's prior written as a global term: it must not be counted again with every batch."""

    def terms(m: Moments, x: Tensor) -> Tensor:
        return (-0.5 * LOG_2PI - 0.5 * (x**2 - 2 * x * m.mu.mean + m.mu.square)).sum()

    start = Normal.from_standard(0.0, 1.0)
    written = ConjugateModel({"mu": Latent(start)}, terms, lambda m: -0.5 * 4.0 * (m.mu.square - 2 * m.mu.mean + 1))
    svi, x = Svi(written, total_size=None), observed()
    for batch in x.split(10):
        svi.partial_fit(batch)
    precision = 4.0 + len(x)
    assert float(svi.posterior["mu"].natural_parameters.precision) == pytest.approx(precision)
    assert float(svi.posterior["mu"].natural_parameters.precision_mean) == pytest.approx(4.0 + float(x.sum()))


def test_a_model_of_local_latents_alone():
    x = observed()
    alone = ConjugateModel(
        {"z": Latent(lambda b: Normal.from_standard(0 * b, 1.0), lambda m: Normal.from_standard(0.0, m.s), local=True)},
        lambda m, b: (-0.5 * LOG_2PI - 0.5 * (b**2 - 2 * b * m.z.mean + m.z.square)).sum(),
        parameters={"s": Parameter(torch.tensor(1.0).double(), constraints.positive)},
    )
    cavi = infer(alone, x, tol=1e-12, max_steps=500)
    svi = infer(alone, x, method="svi", batch_size=20, max_steps=100, tol=0)
    assert float(svi.parameters["s"]) == pytest.approx(float(cavi.parameters["s"]), rel=0.02)


def test_sampled_terms_of_local_latents():
    """A normal factor by draws: the scale of each local q comes near sqrt(1/2)."""
    exact = Latent(lambda x: Normal.from_standard(0 * x, 1.0), Normal.from_standard(0.0, 1.0), local=True)
    model = ConjugateModel(
        {"z": exact},
        sampled_terms=lambda z, x: torch.distributions.Normal(z.z, 1.0).log_prob(x).sum(1),
        samples=100,
    )
    x = observed(6)
    state = fit_local(model, model.start(), x, tol=0, max_steps=100, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(state.local["z"].standard_parameters.scale, torch.full((6,), 0.5**0.5).double(), rtol=0.08)
    assert torch.allclose(state.local["z"].standard_parameters.loc, x / 2, atol=0.15)


def test_gradient_ascent_on_sampled_terms():
    latents = {"mu": Latent(Normal.from_standard(0.0, 1.0), Normal.from_standard(1.0, 3.0))}
    x = observed(20)
    model = ConjugateModel(
        latents,
        sampled_terms=lambda z, b: torch.distributions.Normal(z.mu[:, None], 1.0).log_prob(b).sum(1),
        samples=50,
    )
    found = infer(model, x, method="gradient", rho=lambda t, g: 0.5 / (1 + t / 20), max_steps=300).posterior["mu"]
    precision = 1 / 9 + len(x)
    assert float(found.standard_parameters.loc) == pytest.approx(float((1 / 9 + x.sum()) / precision), abs=0.05)
    assert float(found.standard_parameters.scale) == pytest.approx(precision**-0.5, rel=0.1)


def test_draws_of_hyperparameters_steps_come_from_the_seed():
    model = ConjugateModel(
        {"mu": Latent(Normal.from_standard(0.0, 1.0), lambda m: Normal.from_standard(m.location, 1.0))},
        sampled_terms=lambda z, b: torch.distributions.Normal(z.mu[:, None] + z.location, 1.0).log_prob(b).sum(1),
        parameters={"location": Parameter(torch.tensor(0.0).double())},
    )
    values = []
    for state in (0, 1):
        torch.manual_seed(state)
        values.append(infer(model, observed(10), method="natural", max_steps=3, seed=4).elbo)
    assert values[0] == values[1]


# --- precision ---


def mean_and_precision() -> ConjugateModel:
    def terms(m: Moments, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square
        return 0.5 * (m.tau.log - LOG_2PI - m.tau.mean * square).sum()

    mu, tau = Normal.from_standard(0.0, 1e8), Gamma.from_standard(1e-3, 1e-3)
    return ConjugateModel({"mu": Latent(mu, mu), "tau": Latent(tau, tau)}, terms)


@pytest.mark.parametrize("away", [0.0, 1e3, 1e4, 1e5, 1e6])
def test_rounding_on_data_far_from_zero_is_no_fault_of_the_model(away):
    x = observed() + away
    result = infer(mean_and_precision(), x, tol=1e-13, max_steps=50)
    assert float(result.posterior["mu"].standard_parameters.loc) == pytest.approx(float(x.mean()), rel=1e-6)


def test_float32_data_and_float64_latents():
    result = infer(mean_and_precision(), observed().float(), tol=1e-12, max_steps=50)
    assert float(result.posterior["mu"].standard_parameters.loc) == pytest.approx(float(observed().mean()), abs=1e-4)


@pytest.mark.parametrize("away", [0.0, 1e4, 1e6])
def test_the_square_of_a_mean_is_found_wherever_the_data_are(away):
    right = mean_and_precision()

    def wrong(m: Moments, x: Tensor) -> Tensor:
        return 0.5 * (m.tau.log - LOG_2PI - m.tau.mean * (x - m.mu.mean) ** 2).sum()

    with pytest.raises(NotConjugateError, match="latent 'mu'"):
        check_conjugate(replace(right, local_terms=wrong), observed() + away)
    check_conjugate(right, observed() + away)


def test_a_product_of_two_latents_is_not_convex_jointly():
    latents = {n: Latent(Normal.from_standard(1.0, 1.0), Normal.from_standard(0.0, 1.0)) for n in "ab"}
    for sign in (1.0, -1.0):
        model = ConjugateModel(
            latents,
            global_terms=lambda m, sign=sign: {"ab": sign * m.a.mean * m.b.mean},
            profiled=frozenset({"ab"}),
            blocks=[["a", "b"]],
        )
        with pytest.raises(NotConjugateError, match="not convex"):
            check_conjugate(model)


def test_global_terms_are_checked_too():
    model = ConjugateModel(
        {"a": Latent(Normal.from_standard(1.0, 1.0))}, global_terms=lambda m: -(m.a.mean**2) - 0.5 * m.a.square
    )
    with pytest.raises(NotConjugateError, match=r"'global'.*latent 'a'"):
        check_conjugate(model)


# --- what is refused ---


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (None, ValueError, "local_terms gave None: return"),
        (0.5, TypeError, "'local' must be a floating tensor, got float"),
        ({"a": None}, TypeError, "'a' must be a floating tensor, got NoneType"),
        ({"prior of mu": torch.tensor(0.0)}, None, None),
    ],
)
def test_what_terms_may_be(given, kind, message):
    model = replace(mean_and_precision(), local_terms=lambda m, x: given)
    if kind is None:  # the engine's own prior terms are global: no clash
        check_conjugate(model, observed())
        with pytest.raises(ValueError, match="two terms are called 'prior of mu'"):
            evaluate(replace(model, global_terms=lambda m: given), model.start(), observed())
    else:
        with pytest.raises(kind, match=message):
            infer(model, observed())


@pytest.mark.parametrize(
    ("start", "prior", "kind", "message"),
    [
        (Gamma.from_standard(1.0, 1.0), InverseGamma.from_standard(1.0, 1.0), TypeError, "latent 'a': start and prior"),
        (Gamma.from_standard(1.0, 1.0), Beta.from_standard(1.0, 1.0), TypeError, "latent 'a': start and prior"),
        (Dirichlet.from_standard(real(1, 1, 1)), Dirichlet.from_standard(real(1, 1)), TypeError, "one event shape"),
        (
            Normal.from_standard(0.0, 1.0),
            Normal.from_standard(real(0, 1), 1.0),
            ValueError,
            "latent 'a': the prior's batch",
        ),
        (
            Normal.from_standard(real(0, 1, 2), 1.0),
            Normal.from_standard(real(0, 1), 1.0),
            ValueError,
            "does not broadcast",
        ),
    ],
)
def test_priors_are_of_the_latents_family(start, prior, kind, message):
    for given in (prior, lambda m: prior):
        with pytest.raises(kind, match=message):
            infer(ConjugateModel({"a": Latent(start, given)}))


def test_a_wrong_sign_is_found_by_svi_too():
    right = mean_and_precision()

    def wrong(m: Moments, x: Tensor) -> Tensor:
        square = x**2 - 2 * x * m.mu.mean + m.mu.square
        return 0.5 * (-m.tau.log - LOG_2PI - m.tau.mean * square).sum()

    with pytest.raises(NotConjugateError, match="latent 'tau': the update is no Gamma: concentration"):
        infer(replace(right, local_terms=wrong), observed(), method="svi", batch_size=10)


def test_starts_of_other_rows_begin_anew():
    x, model = observed(), effects()
    one = infer(model, x[:1], max_steps=3).state
    fresh = State(q=one.q, parameters=one.parameters)
    assert infer(model, x[:10], start=one, max_steps=5).elbo == infer(model, x[:10], start=fresh, max_steps=5).elbo
    with pytest.raises(ValueError, match="the start lacks mu, s"):
        infer(model, x, start=State(q={}))


def test_gradient_ascent_stops_at_values_that_are_not_finite():
    model = ConjugateModel(
        {"a": Latent(Normal.from_standard(0.0, 1.0), Normal.from_standard(0.0, 1.0))},
        lambda m, x: m.a.mean - x.sum().log(),
    )
    with pytest.raises(NonFiniteError, match="the ELBO is"):
        infer(model, torch.zeros(3).double(), method="gradient")


def test_adaptive_steps_are_one_a_block_and_begin_anew():
    x = observed()
    size = Adaptive(largest=0.7)
    runs = [
        infer(effects(), x, method=method, rho=size, batch_size=batch, max_steps=4, tol=0).elbo_trace
        for method, batch in (("natural", None), ("natural", None), ("svi", 10), ("svi", 10))
    ]
    assert runs[0] == runs[1]
    assert runs[2] == runs[3]
    broken = Adaptive()
    broken(0, real(1, 2))
    broken(1, real(math.nan, 2))
    assert broken(2, real(1, 2)) <= broken.largest
    assert math.isfinite(broken.memory)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "gradient", "rho": "adaptive"}, "'adaptive' is for natural gradients"),
        ({"method": "gradient", "rho": Adaptive(), "batch_size": 5}, "'adaptive' is for natural gradients"),
        ({"method": "svi", "rho": lambda t, g: 2.0}, "the function gave 2.0 at step 0"),
        ({"method": "natural", "rho": lambda t, g: math.nan}, "the function gave nan at step 0"),
        ({"method": "gradient", "chunk_size": 5}, "chunk_size is for the sweeps of cavi and natural"),
    ],
)
def test_step_sizes_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        infer(effects(), observed(), **arguments)


def test_learning_rates_may_follow_a_schedule():
    found = infer(effects(), observed(), method="gradient", rho=RobbinsMonro(), max_steps=5, tol=0)
    assert found.elbo_trace[-1] > found.elbo_trace[0]


def test_models_and_data_are_checked():
    normal = Normal.from_standard(0.0, 1.0)
    cases = [
        (lambda: ConjugateModel({}), ValueError, "at least one latent"),
        (lambda: ConjugateModel({"a b": Latent(normal)}), ValueError, "'a b' cannot name"),
        (lambda: ConjugateModel({"a": Latent(normal)}, profiled="a"), TypeError, "set of names"),
        (lambda: Latent(0.0), TypeError, "start must be a family"),
        (lambda: Latent(normal, 0.0), TypeError, "prior must be a family"),
        (
            lambda: Latent(lambda x: x, Categorical.from_standard(real(0.5, 0.5, 0.0)), local=True),
            ValueError,
            "zero probabilities",
        ),
        (lambda: Parameter(1.0), TypeError, "floating tensor"),
        (lambda: Parameter(torch.tensor(1)), TypeError, "floating tensor"),
        (lambda: Parameter(torch.tensor(-1.0), constraints.positive), ValueError, "-1.0 is not GreaterThan"),
        (lambda: infer(effects()), ValueError, "need data"),
        (lambda: infer(effects(), [1.0, 2.0]), TypeError, "data must be a tensor, Columns"),
        (lambda: Svi(effects(), None, rho=0.5), ValueError, "a stream"),
        (lambda: Svi(effects(), None, plain=True), ValueError, "a stream"),
        (lambda: Svi(effects(), 5).partial_fit(observed(6)), ValueError, "more than total_size = 5"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()


def test_any_python_name_can_be_a_latents():
    model = ConjugateModel({"items": Latent(Normal.from_standard(0.0, 1.0))}, global_terms=lambda m: -m["items"].square)
    written = replace(model, global_terms=lambda m: -m.items.square)
    assert infer(model).elbo == infer(written).elbo


def test_numpy_data_become_a_tensor():
    x = observed()
    assert infer(effects(), x.numpy(), max_steps=3).elbo == infer(effects(), x, max_steps=3).elbo
    assert len(Columns(x=x)[:3]) == 3
