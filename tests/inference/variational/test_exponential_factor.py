"""Exponential families as factors: numbers by SciPy, extreme parameters, enumeration, what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats as st
import torch
from factor_cases import SIZES, seeded
from torch import Tensor

from jensen import families as f
from jensen.gradients import Pathwise, ScoreFunction
from jensen.gradients.posterior import Draw, Posterior
from jensen.inference import supports as s
from jensen.inference.model import Batch
from jensen.inference.supports import Variable
from jensen.inference.variational.exponential import ExponentialFactor, discrete_factor


def factor(family: type, variable: Variable, *raw: float | list[float]) -> ExponentialFactor:
    made = ExponentialFactor("z", variable, SIZES, family)
    with torch.no_grad():
        for parameter, value in zip(made.raw, raw, strict=True):
            parameter.copy_(torch.tensor(value, dtype=torch.float64))
    return made


def log_prob(made: ExponentialFactor, value: float | list[float]) -> float:
    z = torch.tensor([value], dtype=torch.float64)
    return float(made().log_prob(Draw({"z": z}, z)).detach())


def test_parameters_are_logarithms_and_log_odds() -> None:
    a, b = math.log(2.5), math.log(0.7)
    assert log_prob(factor(f.Gamma, s.positive(), a, b), 1.3) == pytest.approx(st.gamma.logpdf(1.3, 2.5, scale=1 / 0.7))
    inverse = factor(f.InverseGamma, s.positive(), a, b)
    assert log_prob(inverse, 1.3) == pytest.approx(st.invgamma.logpdf(1.3, 2.5, scale=0.7))
    assert log_prob(factor(f.Beta, s.unit_interval(), a, b), 0.3) == pytest.approx(st.beta.logpdf(0.3, 2.5, 0.7))
    assert log_prob(factor(f.Normal, s.real(), 0.4, b), 1.3) == pytest.approx(st.norm.logpdf(1.3, 0.4, 0.7))
    dirichlet = factor(f.Dirichlet, s.simplex(3), [a, b, 0.0])
    assert log_prob(dirichlet, [0.2, 0.5, 0.3]) == pytest.approx(st.dirichlet.logpdf([0.2, 0.5, 0.3], [2.5, 0.7, 1]))
    assert log_prob(factor(f.Bernoulli, s.bernoulli(), 0.8), 1.0) == pytest.approx(-math.log1p(math.exp(-0.8)))
    assert log_prob(factor(f.Poisson, s.poisson(), b), 3.0) == pytest.approx(st.poisson.logpmf(3, 0.7))
    probabilities = np.exp([0.8, -0.3, 0.0]) / np.exp([0.8, -0.3, 0.0]).sum()
    assert log_prob(factor(f.Categorical, s.categorical(3), [0.8, -0.3]), 1) == pytest.approx(
        math.log(probabilities[1])
    )


def test_extreme_log_odds_keep_their_gradient() -> None:
    """Through a probability, 60 would round to 1, whose log odds are infinite."""
    for family, variable, raw in [(f.Bernoulli, s.bernoulli(), 60.0), (f.Categorical, s.categorical(3), [60.0, -60.0])]:
        made = factor(family, variable, raw)
        q = made()
        draw = q.enumerate()
        (gradient,) = torch.autograd.grad(q.log_prob(draw).sum(), list(made.parameters()))
        assert torch.isfinite(q.log_prob(draw)).all()
        assert gradient.reshape(-1).tolist() == pytest.approx([-1.0] if family is f.Bernoulli else [-2.0, 1.0])


@pytest.mark.parametrize("raw", [-12.0, 12.0])
@pytest.mark.parametrize(
    ("family", "variable"),
    [
        (f.Gamma, s.positive(3)),
        (f.InverseGamma, s.positive(3)),
        (f.Beta, s.unit_interval(3)),
        (f.Dirichlet, s.simplex(3)),
    ],
)
def test_any_real_parameters_give_a_usable_q(family: type, variable: Variable, raw: float) -> None:
    made = ExponentialFactor("z", variable, SIZES, family)
    with torch.no_grad():
        for parameter in made.raw:
            parameter.fill_(max(raw, -4.0) if family is f.InverseGamma else raw)  # else draws above 1e308
    q = made()
    draw = q.rsample(50, seeded())
    assert torch.isfinite(q.log_prob(draw)).all()
    assert torch.isfinite(q.entropy()).all()
    gradients = torch.autograd.grad(q.log_prob(draw).mean() + q.entropy().sum(), list(made.parameters()))
    assert all(torch.isfinite(g).all() for g in gradients)


def test_enumerated_values_have_their_own_kind() -> None:
    q = discrete_factor("k", s.categorical(3, 2, plate="rows"), SIZES)()
    assert q.support_size == 3
    values = q.enumerate().values["k"]
    assert values.dtype == torch.int64
    assert values.shape == (3, 4, 2)
    assert [v.unique().tolist() for v in values] == [[0], [1], [2]]
    flags = discrete_factor("k", s.bernoulli(2), SIZES)().enumerate().values["k"]
    assert flags.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert flags.dtype == torch.float64


def test_a_minibatch_takes_its_rows() -> None:
    made = discrete_factor("k", s.categorical(3, plate="rows"), SIZES)
    with torch.no_grad():
        made.raw[0].copy_(torch.arange(8.0).reshape(4, 2))
    logits = made(Batch({}, torch.tensor([3, 1]))).q.natural_parameters.logits
    assert logits.tolist() == [[6.0, 7.0, 0.0], [2.0, 3.0, 0.0]]
    groups = discrete_factor("k", s.bernoulli(plate="groups"), SIZES)
    assert groups(Batch({}, torch.tensor([3, 1]))).elements == (3,)


def conjugate(z: Tensor) -> Tensor:
    """log p(x, z) of three counts and a Gamma(2, 1) prior: the posterior is Gamma(2 + 7, 1 + 3)."""
    counts = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    return st_gamma(z, 2.0, 1.0) + (counts * z.log().unsqueeze(-1) - z.unsqueeze(-1)).sum(-1)


def st_gamma(z: Tensor, a: float, b: float) -> Tensor:
    return (a - 1) * z.log() - b * z + a * math.log(b) - math.lgamma(a)


@pytest.mark.parametrize(
    "estimator", [Pathwise(), ScoreFunction(control_variate="leave_one_out")], ids=["pathwise", "score"]
)
def test_gamma_factor_climbs_to_the_conjugate_posterior(estimator: Pathwise | ScoreFunction) -> None:
    made = ExponentialFactor("z", s.positive(), SIZES, f.Gamma)
    made.place({"z": torch.tensor(0.5, dtype=torch.float64)}, 0.5)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.1)
    generator, late = seeded(1), []
    for step in range(300):
        optimiser.zero_grad()
        optimiser.param_groups[0]["lr"] = 0.1 / (1 + step / 40)
        estimate = estimator.estimate(Posterior([made()]), lambda v: {"joint": conjugate(v["z"])}, 60, generator)
        (-estimate.surrogate).backward()
        optimiser.step()
        if step >= 150:
            late.append(torch.stack([p.detach().exp() for p in made.raw]))
    concentration, rate = torch.stack(late).mean(0).tolist()
    assert concentration / rate == pytest.approx(9 / 4, rel=0.02)
    assert concentration == pytest.approx(9, rel=0.06)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"Gamma does not fit latent 'z', whose support is Real\(\): take Normal"):
        ExponentialFactor("z", s.real(), SIZES, f.Gamma)
    with pytest.raises(ValueError, match="Beta does not fit latent 'z', whose support is bernoulli: take Bernoulli"):
        ExponentialFactor("z", s.bernoulli(), SIZES, f.Beta)
    with pytest.raises(ValueError, match="take Gamma or InverseGamma"):
        ExponentialFactor("z", s.positive(), SIZES, f.Dirichlet)
    with pytest.raises(ValueError, match="no exponential family here has it"):
        ExponentialFactor("z", s.ordered(3), SIZES, f.Gamma)
    with pytest.raises(TypeError, match="Wishart' cannot be the factor of latent 'z': take one of Normal, Gamma"):
        ExponentialFactor("z", s.positive(), SIZES, f.Wishart)
    with pytest.raises(TypeError, match="latent 'z' is continuous"):
        discrete_factor("z", s.real(), SIZES)
    ExponentialFactor("z", s.unit_interval(), SIZES, f.Beta)
    with pytest.raises(ValueError, match="Beta does not fit latent 'z'"):
        ExponentialFactor("z", s.bounded(0.0, 2.0), SIZES, f.Beta)
