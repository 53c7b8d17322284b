"""A hidden Markov chain as an explicit latent of the engine, and profiled out: the same optimum."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jensen.families import Dirichlet, MarkovChain, log_forward
from jensen.inference import ConjugateModel, Latent, Moments, infer

STATES, SYMBOLS, STEPS = 2, 3, 6


def sequences() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(SYMBOLS, (8, STEPS), generator=generator)


def model(explicit: bool) -> ConjugateModel:
    generator = torch.Generator().manual_seed(1)

    def rows(n: int, size: int) -> Latent:
        start = 1 + torch.rand(n, size, generator=generator, dtype=torch.float64)
        return Latent(Dirichlet.from_standard(start), Dirichlet.from_standard(torch.ones(size).double()))

    def potentials(m: Moments, x: Tensor) -> tuple[Tensor, Tensor]:
        unary = m.emissions.log.T[x].clone()
        unary = torch.cat([unary[:, :1] + m.initial.log, unary[:, 1:]], 1)
        return unary, m.transitions.log.expand(len(x), STEPS - 1, STATES, STATES)

    latents = {"initial": rows(1, STATES), "transitions": rows(STATES, STATES), "emissions": rows(STATES, SYMBOLS)}
    if not explicit:
        return ConjugateModel(
            latents, lambda m, x: {"paths": log_forward(*potentials(m, x)).sum()}, profiled=frozenset({"paths"})
        )

    def terms(m: Moments, x: Tensor) -> Tensor:
        unary, pairs = potentials(m, x)
        return (m.path.marginals * unary).sum() + (m.path.pairs * pairs).sum()

    def start(x: Tensor) -> MarkovChain:
        return MarkovChain.from_natural(
            torch.zeros(len(x), STEPS, STATES).double(), torch.zeros(len(x), STEPS - 1, STATES, STATES).double()
        )

    return ConjugateModel({**latents, "path": Latent(start, local=True)}, terms)


def test_explicit_and_profiled_chains_agree():
    x = sequences()
    explicit, profiled = (infer(model(e), x, tol=1e-13, max_steps=3000) for e in (True, False))
    assert explicit.elbo == pytest.approx(profiled.elbo, abs=1e-7)
    for name in ("initial", "transitions", "emissions"):
        a, b = (r.posterior[name].standard_parameters.concentration for r in (explicit, profiled))
        assert torch.allclose(a, b, atol=1e-3)
    assert explicit.local["path"].mean_parameters.marginals.sum(-1).allclose(torch.ones(8, STEPS).double())


def test_minibatches_of_chains():
    """A chain has one update to its optimum, so that both forms take the same global steps."""
    options = {"method": "svi", "batch_size": 4, "max_steps": 3, "tol": 0}
    explicit, profiled = (
        infer(replace(model(e), blocks=blocks), sequences(), **options)
        for e, blocks in (
            (True, [["path"], ["initial", "transitions", "emissions"]]),
            (False, [["initial", "transitions", "emissions"]]),
        )
    )
    assert explicit.elbo_trace == pytest.approx(profiled.elbo_trace, abs=1e-9)
    assert explicit.elbo == pytest.approx(profiled.elbo, abs=1e-9)
