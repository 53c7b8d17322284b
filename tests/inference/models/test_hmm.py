"""Hidden Markov models against hmmlearn, bayespy, Gibbs draws, closed forms, and sums over all paths."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from jensen.errors import NotConjugateError
from jensen.families import Dirichlet, ExponentialFamily, NormalGamma, NormalWishart
from jensen.inference import ConjugateModel, Latent, State, Svi, check_conjugate, evaluate, infer
from jensen.inference.models.forward_backward import forward_backward
from jensen.inference.models.hmm import (
    LATENTS,
    CategoricalEmissions,
    Emissions,
    GaussianEmissions,
    dirichlet_prior,
    expected_probabilities,
    hidden_markov_model,
    posterior_of_states,
    random_starts,
)
from jensen.inference.models.mixture import mixture_prior
from jensen.inference.models.sequences import Sequences

REFERENCES = Path(__file__).parents[2] / "references" / "hmm.npz"
Families = Mapping[str, ExponentialFamily[Any, Any, Any]]


@pytest.fixture(scope="module")
def references() -> Any:
    """What tests/references/hmm.py wrote."""
    with np.load(REFERENCES) as file:
        return {name: torch.as_tensor(file[name]) for name in file.files}


def components(kind: str, means: Tensor, beta: Tensor, dof: Tensor, scale: Tensor) -> Any:
    """Emissions from hmmlearn's numbers: `scale` is the inverse scale of the Wishart distribution."""
    if kind == "full":
        return NormalWishart.from_standard(means, beta, dof, torch.linalg.inv(scale))
    precision = beta[:, None, None, None].expand(*means.shape, 1, 1)
    return NormalGamma.from_standard(means.unsqueeze(-1), precision, (dof / 2)[:, None].expand_as(means), scale / 2)


def gaussian_families(kind: str, references: Any, role: str) -> dict[str, Any]:
    given = {
        name: references[f"{kind}_{role}_{name}"] for name in ("startprob", "transmat", "means", "beta", "dof", "scale")
    }
    return {
        "initial": Dirichlet.from_standard(given["startprob"]),
        "transitions": Dirichlet.from_standard(given["transmat"]),
        "emissions": components(kind, *(given[name] for name in ("means", "beta", "dof", "scale"))),
    }


def categorical_families(references: Any, role: str) -> dict[str, Any]:
    names = zip(LATENTS, ("startprob", "transmat", "emissionprob"), strict=True)
    return {mine: Dirichlet.from_standard(references[f"categorical_{role}_{theirs}"]) for mine, theirs in names}


def random_problem(seed: int, kind: str) -> tuple[ConjugateModel, Sequences, Emissions, Families]:
    """Sequences of unequal length from nowhere in particular, priors and starts at random."""
    rng = np.random.default_rng(seed)
    k, dim, count = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 7))
    lengths = rng.integers(1, 25, count).tolist()
    total = sum(lengths)
    weight = float(rng.gamma(1.0) + 0.05)
    priors: dict[str, Any] = {
        "initial": dirichlet_prior(None, k, weight),
        "transitions": dirichlet_prior(k, k, weight, sticky=float(rng.integers(0, 3))),
    }
    emissions: Emissions
    if kind == "categorical":
        values = torch.as_tensor(rng.integers(0, dim + 1, total))
        priors["emissions"] = dirichlet_prior(k, dim + 1, weight)
        emissions = CategoricalEmissions()
    else:
        values = torch.as_tensor(rng.normal(size=(total, dim)) * 3 + rng.integers(0, 3, (total, 1)) * 4)
        inverse_scale = {"full": torch.eye(dim), "diag": torch.ones(dim), "spherical": torch.tensor(1.0)}[kind].double()
        prior = mixture_prior(
            kind,  # type: ignore[arg-type]
            k,
            concentration=1.0,
            mean=torch.as_tensor(rng.normal(size=dim)),
            mean_precision=weight,
            degrees_of_freedom=dim + weight,
            covariance_prior=inverse_scale,
        )
        priors["emissions"] = prior.components
        emissions = GaussianEmissions(kind)  # type: ignore[arg-type]
    data = Sequences(values, lengths)
    start = posterior_of_states(priors, emissions, data, torch.as_tensor(rng.dirichlet(np.ones(k), total)))
    return hidden_markov_model(priors, emissions, start), data, emissions, priors


KINDS = ["full", "diag", "spherical", "categorical"]


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_hmmlearn_gaussian_reaches_the_same_posterior_after_the_same_sweeps(kind: str, references: Any) -> None:
    """hmmlearn leaves N D log(2 pi) / 2 out of its bound (the script subtracts it) and reports it before a sweep.

    Its "diag" takes one Wishart distribution of a diagonal scale for all columns, ours a Gamma distribution a column:
    the same in one dimension, which is what is compared here.
    """
    model = hidden_markov_model(
        gaussian_families(kind, references, "prior"),
        GaussianEmissions(kind),  # type: ignore[arg-type]
        gaussian_families(kind, references, "start"),
    )
    elbo = references[f"{kind}_elbo"]
    data = Sequences(references[f"{kind}_x"], references[f"{kind}_lengths"])
    result = infer(model, data, max_steps=len(elbo), tol=0)
    torch.testing.assert_close(torch.tensor(result.elbo_trace, dtype=torch.float64), elbo, rtol=1e-9, atol=0)
    q = result.posterior
    names = {"initial": "startprob", "transitions": "transmat"}
    for mine, theirs in names.items():
        concentration = q[mine].standard_parameters.concentration
        torch.testing.assert_close(concentration, references[f"{kind}_{theirs}"], rtol=1e-7, atol=1e-7)
    expected = [references[f"{kind}_{name}"] for name in ("means", "beta", "dof", "scale")]
    theirs = components(kind, *expected)
    for mine, right in zip(q["emissions"].standard_parameters, theirs.standard_parameters, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-7, atol=1e-7)


def test_hmmlearn_categorical_reaches_the_same_posterior_after_the_same_sweeps(references: Any) -> None:
    priors, start = (categorical_families(references, role) for role in ("prior", "start"))
    data = Sequences(references["categorical_x"], references["categorical_lengths"])
    elbo = references["categorical_elbo"]
    result = infer(hidden_markov_model(priors, CategoricalEmissions(), start), data, max_steps=len(elbo), tol=0)
    torch.testing.assert_close(torch.tensor(result.elbo_trace, dtype=torch.float64), elbo, rtol=1e-9, atol=0)
    for mine, theirs in zip(LATENTS, ("startprob", "transmat", "emissionprob"), strict=True):
        concentration = result.posterior[mine].standard_parameters.concentration
        torch.testing.assert_close(concentration, references[f"categorical_{theirs}"], rtol=1e-7, atol=1e-7)


def test_bayespy_converges_to_the_same_elbo(references: Any) -> None:
    priors, start = (categorical_families(references, role) for role in ("prior", "start"))
    length = int(references["categorical_lengths"][0])
    data = Sequences(references["categorical_x"][:length])
    result = infer(hidden_markov_model(priors, CategoricalEmissions(), start), data, tol=1e-14, max_steps=3000)
    assert result.elbo == pytest.approx(references["bayespy_elbo"].item(), rel=1e-8)
    concentration = result.posterior["emissions"].standard_parameters.concentration
    in_order = concentration[concentration[:, 0].argsort()]
    torch.testing.assert_close(in_order, references["bayespy_emissions"], rtol=1e-4, atol=1e-4)


def test_gibbs_draws_have_the_same_means_and_predictive_density(references: Any) -> None:
    """Separated states, so that mean field loses little: means to a tenth of a posterior standard deviation."""
    x, test = references["gibbs_x"], references["gibbs_test"]
    data = Sequences(x, references["gibbs_lengths"])
    eye = torch.eye(2, dtype=torch.float64)
    priors: dict[str, Any] = {
        "initial": dirichlet_prior(None, 3, None),
        "transitions": dirichlet_prior(3, 3, None),
        "emissions": NormalWishart.from_standard(torch.zeros(3, 2, dtype=torch.float64), 0.5, 3.0, eye / 2),
    }
    nearest = torch.cdist(x, references["gibbs_means"]).argmin(1)
    emissions = GaussianEmissions("full")
    start = posterior_of_states(priors, emissions, data, torch.eye(3, dtype=torch.float64)[nearest])
    q = infer(hidden_markov_model(priors, emissions, start), data).posterior
    transitions = expected_probabilities(q["transitions"])
    for found, name in ((q["emissions"].standard_parameters.loc, "means"), (transitions, "transitions")):
        error = (found - references[f"gibbs_{name}"]).abs()
        allowed = 0.1 * references[f"gibbs_{name}_sd"] + 4 * references[f"gibbs_{name}_error"]
        assert bool((error < allowed).all()), error / allowed
    windows = Sequences(test, [5] * 20)
    drawn = torch.stack([_log_density_of_a_draw(q, windows, seed) for seed in range(400)])
    average, error = _log_mean(drawn)
    theirs, their_error = references["gibbs_windows"], references["gibbs_windows_error"]
    assert bool(((average - theirs).abs() < 4 * (error + their_error)).all())
    assert (average - theirs).mean().abs().item() < 0.02
    whole = torch.stack([_log_density_of_a_draw(q, Sequences(test), seed) for seed in range(400)])
    average, error = _log_mean(whole.squeeze(1))
    assert abs(average - references["gibbs_log_density"]) < 4 * (error + references["gibbs_log_density_error"])
    # the closed form (see score_samples) forgets what a sequence's own observations say about the parameters
    potentials = emissions.log_predictive(q["emissions"], windows)
    passed = forward_backward(potentials, expected_probabilities(q["initial"]).log(), transitions.log(), windows)
    each = torch.stack([part.sum() for part in windows.split(passed.log_steps)])
    assert (each - theirs).mean().abs().item() / 5 < 0.01
    assert (each - theirs).abs().max().item() / 5 < 0.05


def _log_density_of_a_draw(q: Any, data: Sequences, seed: int) -> Tensor:
    """log p(x | parameters) of each sequence, the parameters drawn from q."""
    generator = Generator().manual_seed(seed)
    pi, rows, states = (q[name].sample((), generator) for name in LATENTS)
    normal = torch.distributions.MultivariateNormal(states.loc, precision_matrix=states.precision)
    potentials = normal.log_prob(data.values.unsqueeze(1))
    found = forward_backward(potentials, pi.log(), rows.log(), data, smooth=False)
    return torch.stack([part.sum() for part in data.split(found.log_steps)])


def _log_mean(logs: Tensor) -> tuple[Tensor, Tensor]:
    """log of the mean of exp(logs) over the first dimension, and its Monte Carlo error."""
    ratio = (logs - logs.amax(0)).exp()
    return logs.amax(0) + ratio.mean(0).log(), ratio.std(0) / ratio.mean(0) / len(logs) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_that_of_all_paths(kind: str) -> None:
    """ELBO = log sum over paths of exp E[log p(x, path | parameters)] - KL of the parameters, written out."""
    rng = np.random.default_rng(5)
    lengths, k = [5, 1, 3], 2
    x = torch.as_tensor(rng.integers(0, 3, 9) if kind == "categorical" else rng.normal(size=(9, 2)))
    model, _, _, priors = next(
        problem for problem in (random_problem(s, kind) for s in range(100)) if _fits(problem, k, 2)
    )
    state = model.start()
    q = state.q
    log_pi, log_a = q["initial"].mean_parameters.log, q["transitions"].mean_parameters.log
    total = 0.0
    generator = Generator().manual_seed(0)
    if kind == "categorical":
        table = q["emissions"].mean_parameters.log
        log_p = table[:, x].T
    else:
        log_p = _expected_log_normal(q["emissions"], kind, x, generator)
    for part in log_p.split(lengths):
        scores = []
        for z in itertools.product(range(k), repeat=len(part)):
            moves = sum(log_a[z[t - 1], z[t]] for t in range(1, len(z)))
            scores.append(log_pi[z[0]] + moves + sum(part[t, z[t]] for t in range(len(z))))
        total += torch.stack(scores).logsumexp(0).item()
    total -= sum(q[name].kl_divergence(priors[name]).sum().item() for name in LATENTS)
    assert evaluate(model, state, Sequences(x, lengths)).elbo == pytest.approx(total, rel=1e-10)


def _fits(problem: Any, k: int, dim: int) -> bool:
    q = problem[0].start().q
    if q["initial"].event_shape != (k,):
        return False
    emission = q["emissions"]
    if isinstance(emission, Dirichlet):
        return bool(emission.event_shape == (dim + 1,))
    return bool(emission.natural_parameters[0].flatten(1).shape[1] == dim)


def _expected_log_normal(q: Any, kind: str, x: Tensor, generator: Generator) -> Tensor:
    """E[log N(x | k)] from standard parameters (Bishop 2006, eq. 10.64-65), not from mean parameters."""
    p = q.standard_parameters
    dim = x.shape[1]
    log_2pi = float(np.log(2 * np.pi))
    if kind == "full":
        away = x[:, None] - p.loc
        squares = dim / p.kappa + p.df * torch.einsum("nkd,kde,nke->nk", away, p.scale, away)
        halves = torch.stack([torch.digamma((p.df - d) / 2) for d in range(dim)]).sum(0)
        return 0.5 * (halves + dim * np.log(2) + torch.logdet(p.scale) - dim * log_2pi - squares)
    kappa = p.precision[..., 0, 0]
    log_t, t = torch.digamma(p.concentration) - p.rate.log(), p.concentration / p.rate
    if kind == "diag":
        away = x[:, None] - p.loc.squeeze(-1)
        return 0.5 * (log_t - log_2pi - 1 / kappa - t * away**2).sum(2)
    away = (x[:, None] - p.loc).square().sum(2)
    return 0.5 * (dim * (log_t - log_2pi - 1 / kappa) - t * away)


def test_one_state_is_exact() -> None:
    """K = 1: the bound is the evidence, in closed form, and the posterior Bayes' rule."""
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(30, 2)))
    eye = torch.eye(2, dtype=torch.float64)
    prior = NormalWishart.from_standard(torch.zeros(1, 2, dtype=torch.float64), 0.5, 4.0, eye.unsqueeze(0))
    priors: Families = {"initial": dirichlet_prior(None, 1, 1.0), "transitions": dirichlet_prior(1, 1, 1.0)}
    priors = {**priors, "emissions": prior}
    data = Sequences(x, [10, 1, 19])
    result = infer(hidden_markov_model(priors, GaussianEmissions("full"), priors), data)
    posterior: Any = result.posterior["emissions"]
    evidence = posterior.log_partition() - prior.log_partition() - 30 * np.log(2 * np.pi)
    assert result.elbo == pytest.approx(evidence.item(), rel=1e-12)
    kappa, loc = 30.5, x.sum(0) / 30.5
    torch.testing.assert_close(posterior.standard_parameters.loc[0], loc)
    inverse = eye + x.T @ x - kappa * torch.outer(loc, loc)
    torch.testing.assert_close(posterior.standard_parameters.scale[0], torch.linalg.inv(inverse))


def test_one_state_of_symbols_is_exact() -> None:
    symbols = torch.tensor([0, 1, 1, 2, 1, 0])
    priors = {"initial": dirichlet_prior(None, 1, 1.0), "transitions": dirichlet_prior(1, 1, 1.0)}
    priors["emissions"] = dirichlet_prior(1, 4, 0.5)
    result = infer(hidden_markov_model(priors, CategoricalEmissions(), priors), Sequences(symbols, [4, 2]))
    counts = torch.tensor([2.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    a = torch.full((4,), 0.5, dtype=torch.float64)
    evidence = (torch.lgamma(a + counts) - torch.lgamma(a)).sum() + torch.lgamma(a.sum()) - torch.lgamma(a.sum() + 6)
    assert result.elbo == pytest.approx(evidence.item(), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(15))
def test_the_elbo_never_decreases(kind: str, seed: int) -> None:
    """`infer` raises when it does; the trace is looked at as well."""
    model, data, *_ = random_problem(seed, kind)
    result = infer(model, data, tol=0, max_steps=25)
    steps = np.diff(result.elbo_trace)
    assert steps.min() > -1e-9 * (1 + abs(result.elbo))
    assert result.elbo_trace[0] < result.elbo or steps.max() < 1e-9 * abs(result.elbo)


@pytest.mark.parametrize("kind", KINDS)
def test_natural_steps_climb_to_the_same_bound(kind: str) -> None:
    model, data, *_ = random_problem(3, kind)
    whole = infer(model, data, tol=1e-13, max_steps=3000)
    steps = infer(model, data, method="natural", rho=0.7, tol=1e-13, max_steps=3000)
    assert steps.elbo == pytest.approx(whole.elbo, rel=1e-6)
    assert np.diff(steps.elbo_trace).min() > -1e-9 * abs(steps.elbo)


@pytest.mark.parametrize("kind", KINDS)
def test_separate_sequences_chunks_and_order_do_not_matter(kind: str) -> None:
    model, data, *_ = next(p for p in (random_problem(s, kind) for s in range(50)) if len(p[1]) > 3)
    once = infer(model, data, tol=0, max_steps=3)
    chunks = infer(model, data, tol=0, max_steps=3, chunk_size=2)
    order = torch.randperm(len(data), generator=Generator().manual_seed(1))
    shuffled = infer(model, data[order], tol=0, max_steps=3)
    for other in (chunks, shuffled):
        assert other.elbo_trace == pytest.approx(once.elbo_trace, rel=1e-12)
    state = State(q=once.posterior)
    each = sum(evaluate(model, state, data[i : i + 1]).elbo for i in range(len(data)))
    without = (len(data) - 1) * sum(-q.kl_divergence(model.latents[n].prior).sum().item() for n, q in state.q.items())
    assert each - without == pytest.approx(evaluate(model, state, data).elbo, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_observations_leave_only_the_path(kind: str) -> None:
    """A sequence with a missing end is a shorter sequence; a gap counts as steps of the path without observation."""
    model, _, emissions, priors = random_problem(8, kind)
    k = priors["initial"].event_shape[0]
    generator = np.random.default_rng(2)
    values = torch.as_tensor(generator.integers(0, 2, 7) if kind == "categorical" else generator.normal(size=(7, 3)))
    if kind != "categorical":
        values = values[:, : priors["emissions"].natural_parameters[0].flatten(1).shape[1]]
    nothing = -1 if kind == "categorical" else torch.nan
    state = model.start()
    open_end = values.clone()
    open_end[4:] = nothing
    whole = evaluate(model, state, Sequences(values[:4])).elbo
    with_end = evaluate(model, state, Sequences(open_end)).elbo
    log_a = state.q["transitions"].mean_parameters.log
    potentials = emissions.potentials(state.q["emissions"].mean_parameters, Sequences(values[:4]))
    end = forward_backward(potentials, state.q["initial"].mean_parameters.log, log_a, Sequences(values[:4]))
    lost = (end.filtered[-1] @ torch.linalg.matrix_power(log_a.exp(), 3) @ torch.ones(k, dtype=torch.float64)).log()
    assert with_end - whole == pytest.approx(lost.item(), rel=1e-9, abs=1e-10)  # exp E[log A] is not normalised
    gap = values.clone()
    gap[2] = nothing
    found = emissions.potentials(state.q["emissions"].mean_parameters, Sequences(gap))
    assert found[2].abs().max() == 0
    assert emissions.log_predictive(state.q["emissions"], Sequences(gap))[2].abs().max() == 0
    assert infer(model, Sequences(gap), tol=0, max_steps=3).elbo_trace == sorted(
        infer(model, Sequences(gap), tol=0, max_steps=3).elbo_trace
    )


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_the_predictive_density_of_a_state_is_the_average_over_its_posterior(kind: str) -> None:
    model, _, emissions, priors = random_problem(4, kind)
    dim = priors["emissions"].natural_parameters[0].flatten(1).shape[1]
    x = torch.as_tensor(np.random.default_rng(0).normal(size=(3, dim)) * 2 + 2)
    q = model.start().q["emissions"]
    draws: Any = q.sample((40_000,), Generator().manual_seed(0))
    loc = draws.loc.squeeze(-1) if kind == "diag" else draws.loc  # (S, K, D)
    away = x[:, None, None] - loc
    if kind == "full":
        quadratic = torch.einsum("nskd,skde,nske->nsk", away, draws.precision, away)
        log_det = torch.logdet(draws.precision)
    else:
        precision = draws.precision if kind == "diag" else draws.precision.unsqueeze(-1).expand_as(loc)
        quadratic, log_det = (precision * away**2).sum(-1), precision.log().sum(-1)
    density = (0.5 * (log_det - dim * np.log(2 * np.pi) - quadratic)).exp()
    mean, error = density.mean(1), density.std(1) / 200
    found = emissions.log_predictive(q, Sequences(x)).exp()
    assert bool(((found - mean).abs() < 5 * error + 1e-12).all())


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_sequence_has_the_states_observations(kind: str) -> None:
    """Sharp posteriors: what comes out of a state must be spread as that state says."""
    count = 4000
    path = torch.arange(2).repeat(count // 2)
    q: Any
    emissions: Emissions
    if kind == "categorical":
        emissions, q = CategoricalEmissions(), Dirichlet.from_standard(torch.tensor([[8e5, 2e5], [1e5, 9e5]]).double())
        found = emissions.draw(q, path, Generator().manual_seed(0))
        assert found[0::2].double().mean().item() == pytest.approx(0.2, abs=0.04)
        assert found[1::2].double().mean().item() == pytest.approx(0.9, abs=0.04)
        return
    big = 1e6
    covariance = torch.tensor([[2.0, 0.9], [0.9, 1.0]]).double() if kind == "full" else torch.eye(2).double() * 2
    means = torch.tensor([[3.0, -1.0], [-2.0, 5.0]]).double()
    two = torch.full((2,), big, dtype=torch.float64)
    if kind == "full":
        q = NormalWishart.from_standard(means, two, two, torch.linalg.inv(covariance * big).expand(2, 2, 2))
    elif kind == "diag":
        half = torch.full((2, 2), big, dtype=torch.float64)
        q = NormalGamma.from_standard(means.unsqueeze(-1), half[..., None, None], half, 2 * half)
    else:
        q = NormalGamma.from_standard(means, big * torch.eye(2).double().expand(2, 2, 2), two, 2 * two)
    emissions = GaussianEmissions(kind)  # type: ignore[arg-type]
    found = emissions.draw(q, path, Generator().manual_seed(0))
    for state in (0, 1):
        torch.testing.assert_close(found[state::2].mean(0), means[state], rtol=0, atol=0.15)
        torch.testing.assert_close(torch.cov(found[state::2].T), covariance, rtol=0, atol=0.2)


def test_the_model_is_accepted_as_profiled_and_refused_without_that() -> None:
    model, data, _, priors = random_problem(2, "full")
    check_conjugate(model, data)
    hidden = ConjugateModel(
        latents={n: Latent(model.start().q[n], prior=priors[n]) for n in LATENTS}, local_terms=model.local_terms
    )
    with pytest.raises(NotConjugateError, match="'paths' is not linear"):
        check_conjugate(hidden, data)


def test_minibatches_of_sequences_come_near_the_whole() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 30, 100).tolist()
    path = np.concatenate([(np.cumsum(generator.random(n) < 0.1) + generator.integers(2)) % 2 for n in lengths])
    symbols = np.where(generator.random(len(path)) < 0.1, 1 - path, path)
    data = Sequences(torch.as_tensor(symbols), lengths)
    priors = {"initial": dirichlet_prior(None, 2, 1.0), "transitions": dirichlet_prior(2, 2, 1.0)}
    priors["emissions"] = dirichlet_prior(2, 2, 1.0)
    start = posterior_of_states(priors, CategoricalEmissions(), data, 0.6 * torch.eye(2).double()[symbols] + 0.2)
    model = hidden_markov_model(priors, CategoricalEmissions(), start)
    whole = infer(model, data, tol=1e-12)
    svi = infer(model, data, method="svi", batch_size=10, max_steps=40, tol=0, seed=1)
    first = evaluate(model, model.start(), data).elbo
    assert whole.elbo > first + 10
    assert svi.elbo > whole.elbo - 0.02 * (whole.elbo - first)
    assert svi.elbo < whole.elbo + 1e-6


def test_a_stream_of_sequences_takes_the_posterior_as_prior() -> None:
    """One state: a stream in three batches is exactly the whole."""
    priors = {"initial": dirichlet_prior(None, 1, 1.0), "transitions": dirichlet_prior(1, 1, 1.0)}
    priors["emissions"] = dirichlet_prior(1, 3, 0.5)
    model = hidden_markov_model(priors, CategoricalEmissions(), priors)
    data = Sequences(torch.tensor([0, 1, 2, 2, 1, 1]), [1, 2, 3])
    svi = Svi(model, None)
    for i in range(3):
        svi.partial_fit(data[i : i + 1])
    whole = infer(model, data).posterior["emissions"].standard_parameters.concentration
    torch.testing.assert_close(svi.posterior["emissions"].standard_parameters.concentration, whole)


def test_random_starts_belong_together_and_follow_the_seed() -> None:
    calls: list[int] = []

    def make(seed: int) -> Families:
        calls.append(seed)
        return {name: Dirichlet.from_standard(torch.tensor([1.0 + seed, 1.0])) for name in LATENTS}

    starts: dict[str, Callable[[Any], Any]] = random_starts(make)
    for seed in (3, 4):
        generator = Generator().manual_seed(seed)
        drawn = [starts[name](generator).standard_parameters.concentration[0].item() for name in LATENTS]
        assert drawn == [1.0 + seed] * 3
    assert calls == [3, 4]


def test_priors_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"transition_prior must be a number or of shape \(3, 3\), got shape \(2, 2\)"):
        dirichlet_prior(3, 3, torch.ones(2, 2), name="transition_prior")
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive and finite"):
            dirichlet_prior(None, 3, bad)
    with pytest.raises(ValueError, match="sticky must be 0 or more"):
        dirichlet_prior(2, 2, 1.0, sticky=-1.0)
    with pytest.raises(ValueError, match="covariance must be"):
        GaussianEmissions("tied")
    sticky = dirichlet_prior(2, 2, None, sticky=3.0).standard_parameters.concentration
    torch.testing.assert_close(sticky, torch.tensor([[3.5, 0.5], [0.5, 3.5]]).double())
