"""The engine on hundreds of random small conjugate models: the bound climbs, and stays below the evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from random_models import LOG_2PI, Builder, F, graph_evidence, log_marginal, random_builder, t
from torch import Tensor

from jensen.errors import NotConjugateError
from jensen.families import Gamma, Normal, NormalWishart
from jensen.inference import ConjugateModel, Latent, check_conjugate, infer


def climb(builder: Builder, sweeps: int, **options: Any) -> list[float]:
    """The bound after each sweep; `infer` itself raises where it falls within one."""
    chunk = None if builder.rng.random() < 0.5 else int(builder.rng.integers(1, builder.rows + 1))
    return infer(builder.model(), builder.data(), tol=0, max_steps=sweeps, chunk_size=chunk, **options).elbo_trace


def check_climbs(seeds: range, sweeps: int) -> None:
    """Every fourth model is checked to be linear first, as `infer` does by default."""
    kinds: set[str] = set()
    for seed in seeds:
        builder = random_builder(seed)
        trace = np.array(climb(builder, sweeps, check=seed % 4 == 0))
        assert np.isfinite(trace).all(), seed
        fall = -np.diff(trace).min()
        assert fall <= 1e-9 * (1 + np.abs(trace).max()), (seed, trace)
        kinds |= {type(x.start).__name__ for x in builder.latents.values()}
    assert {"Normal", "Gamma", "Dirichlet", "Wishart"} < kinds


@pytest.mark.parametrize("batch", range(5))
def test_the_bound_never_falls(batch: int) -> None:
    """120 models; `make soak` takes 600 others."""
    check_climbs(range(24 * batch, 24 * (batch + 1)), sweeps=3)


@pytest.mark.soak
@pytest.mark.parametrize("batch", range(20))
def test_the_bound_never_falls_long(batch: int) -> None:
    check_climbs(range(10_000 + 30 * batch, 10_000 + 30 * (batch + 1)), sweeps=20)


def test_random_models_are_as_varied_as_they_claim() -> None:
    builders = [random_builder(seed) for seed in range(150)]
    shares = {
        "local latents": [any(x.local for x in b.latents.values()) for b in builders],
        "profiled": [bool(b.profiled) for b in builders],
        "assignments as latents": [any(n.startswith("z") for n in b.latents) for b in builders],
        "local precisions": [any(n.startswith("gamma") and x.local for n, x in b.latents.items()) for b in builders],
        "hierarchies": [any(n.startswith("prior of gamma") for n in b.global_terms) for b in builders],
        "larger blocks": [any(len(block) > 1 for block in b.blocks()) for b in builders],
        "five latents or more": [len(b.latents) > 4 for b in builders],
    }
    assert all(np.mean(share) > 0.1 for share in shares.values()), {n: np.mean(s) for n, s in shares.items()}


@pytest.mark.parametrize("batch", range(2))
def test_gaussian_graphs_stay_below_the_evidence(batch: int) -> None:
    exact = 0
    for seed in range(1000 + 30 * batch, 1000 + 30 * (batch + 1)):
        rng = np.random.default_rng(seed)
        builder = Builder(rng, rows=int(rng.integers(1, 6)))
        builder.gaussian_graph(fixed_precisions=True)
        evidence = graph_evidence(builder)
        elbo = climb(builder, 5, check=False)[-1]
        assert elbo <= evidence + 1e-9 * (1 + abs(evidence)), seed
        if len(builder.latents) == 1:  # nothing that q could lose
            assert elbo == pytest.approx(evidence, rel=1e-10)
            exact += 1
    assert exact


@pytest.mark.parametrize("batch", range(2))
def test_mixtures_stay_below_the_evidence(batch: int) -> None:
    gaps = []
    for seed in range(2000 + 15 * batch, 2000 + 15 * (batch + 1)):
        rng = np.random.default_rng(seed)
        builder = Builder(rng, rows=int(rng.integers(1, 5)))
        piece = builder.mixture(countable=True)
        evidence = piece.evidence(builder.columns)
        elbo = climb(builder, 6, check=False)[-1]
        assert elbo <= evidence + 1e-9 * (1 + abs(evidence)), seed
        gaps.append(evidence - elbo)
    assert 0 < np.median(gaps) < 5


def test_conjugate_pieces_by_themselves_reach_the_evidence() -> None:
    """Counts with one Gamma rate, and a normal vector with a joint Normal-Wishart q."""
    x = t([0.0, 3.0, 1.0, 2.0])
    rate = Gamma.from_standard(2.0, 0.5)
    counts = ConjugateModel(
        {"rate": Latent(Gamma.from_standard(1.0, 1.0), prior=rate)},
        lambda m, batch: (batch * m.rate.log - m.rate.mean - torch.lgamma(batch + 1)).sum(),
    )
    assert infer(counts, x).elbo == pytest.approx(log_marginal("poisson", x.numpy(), 2.0, 0.5), rel=1e-12)
    prior = NormalWishart.from_standard(torch.zeros(2, dtype=F), 0.5, 3.0, torch.eye(2, dtype=F))
    rows = t(np.random.default_rng(0).normal(size=(7, 2)))

    def term(m: Any, batch: Tensor) -> Tensor:
        linear = (batch * m.normal.precision_mean).sum()
        quadratic = (m.normal.minus_half_precision * (batch.T @ batch)).sum()
        return linear + quadratic + len(batch) * (m.normal.minus_half_quadratic + m.normal.half_log_det - LOG_2PI)

    result = infer(ConjugateModel({"normal": Latent(prior, prior=prior)}, term), rows)
    evidence = result.posterior["normal"].log_partition() - prior.log_partition() - 7 * LOG_2PI
    assert result.elbo == pytest.approx(evidence.item(), rel=1e-12)


@pytest.mark.parametrize("batch", range(2))
def test_a_term_that_is_not_linear_is_caught_with_the_latents_name(batch: int) -> None:
    curves: list[Callable[[Tensor], Tensor]] = [torch.square, torch.cos, lambda x: x**3 + x, lambda x: x.square().exp()]
    for seed in range(3000 + 20 * batch, 3000 + 20 * (batch + 1)):
        builder = random_builder(seed)
        check_conjugate(builder.model(), builder.data())
        name = str(builder.rng.choice(list(builder.latents)))
        curve = curves[int(builder.rng.integers(len(curves)))]
        place = int(builder.rng.integers(2))
        terms = builder.local_terms if builder.latents[name].local or place else builder.global_terms
        fields = builder.rng.random(4)

        def wrong(m: Any, batch: Any, name: str = name, curve: Any = curve, fields: Any = fields) -> Tensor:
            chosen = list(m[name])[int(fields[0] * len(m[name]))]
            return curve(0.3 * chosen).sum()

        terms["wrong"] = wrong
        with pytest.raises(NotConjugateError, match=rf"'wrong' is not linear .*\W'?{name}\b"):
            check_conjugate(builder.model(), builder.data())


def correlated(blocks: list[list[str]]) -> ConjugateModel:
    """A normal vector with unit precisions and off-diagonals 0.9, its three elements independent under q."""
    precision = t(0.1 * np.eye(3) + 0.9)
    shift = t([1.0, -2.0, 0.5])
    names = ["a", "b", "c"]

    def terms(m: Any) -> Tensor:
        mean, square = torch.stack([m[n].mean for n in names]), torch.stack([m[n].square for n in names])
        second = mean.unsqueeze(1) * mean
        second = second - torch.diag(second.diagonal()) + torch.diag(square)
        return shift @ mean - 0.5 * (precision * second).sum()

    start = Normal.from_standard(t(0.3), t(1.0))
    return ConjugateModel({n: Latent(start) for n in names}, global_terms=terms, blocks=blocks)


def test_one_element_at_a_time_converges_on_a_correlated_gaussian() -> None:
    result = infer(correlated([["a"], ["b"], ["c"]]), tol=1e-14, max_steps=2000)
    means = torch.stack([result.posterior[n].standard_parameters.loc for n in "abc"])
    torch.testing.assert_close(
        means, torch.linalg.solve(t(0.1 * np.eye(3) + 0.9), t([1.0, -2.0, 0.5])), atol=1e-5, rtol=0
    )
    for name in "abc":
        assert result.posterior[name].standard_parameters.scale.item() == pytest.approx(1)


def test_all_elements_at_once_are_refused_and_would_diverge() -> None:
    """The Jacobi iteration has the eigenvalue -1.8: its bound falls."""
    together = correlated([["a", "b", "c"]])
    with pytest.raises(NotConjugateError, match="'a', 'b', 'c' jointly"):
        infer(together)
    with pytest.raises(NotConjugateError, match="the ELBO fell"):
        infer(together, check=False)
