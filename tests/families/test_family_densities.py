"""Densities integrate to one, known values come out, draws are those of other samplers, small concentrations work."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats as st
import torch
from family_cases import CASES, seeded

from jensen.families import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Gamma,
    InverseGamma,
    MultivariateNormal,
    Normal,
    NormalGamma,
    NormalWishart,
    Poisson,
    Wishart,
)

F64 = torch.float64
SUPPORTS = {"Normal": (-np.inf, np.inf), "Gamma": (0, np.inf), "InverseGamma": (0, np.inf), "Beta": (0, 1)}


def tensor(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


@pytest.mark.parametrize("name", SUPPORTS)
@pytest.mark.parametrize("member", range(4))
def test_densities_of_one_dimension(name: str, member: int) -> None:
    """Total mass 1, entropy, mean statistics and KL by quadrature."""
    q, p = CASES[name].make(seed=1)[member], CASES[name].make(seed=2)[member]
    low, high = SUPPORTS[name]

    def integral(f: Any) -> float:
        def integrand(z: float) -> float:
            point = tensor(z)[0]
            log_prob = q.log_prob(point).item()
            return math.exp(log_prob) * f(point, log_prob) if log_prob > -700 else 0.0

        middle = q.sample((101,), seeded()).median().item()
        return sum(scipy.integrate.quad(integrand, a, b, limit=400)[0] for a, b in ((low, middle), (middle, high)))

    assert integral(lambda z, log: 1.0) == pytest.approx(1, abs=1e-6)
    assert integral(lambda z, log: -log) == pytest.approx(q.entropy().item(), abs=1e-5)
    assert integral(lambda z, log: log - p.log_prob(z).item()) == pytest.approx(q.kl_divergence(p).item(), abs=1e-5)
    for i, mean in enumerate(q.mean_parameters):
        assert integral(lambda z, log, i=i: q.sufficient_statistics(z)[i].item()) == pytest.approx(
            mean.item(), abs=1e-5
        )


@pytest.mark.parametrize("name", ["Categorical", "Bernoulli", "Poisson"])
def test_masses_add_up(name: str) -> None:
    q, p = CASES[name].make(seed=3), CASES[name].make(seed=4)
    z = torch.arange({"Categorical": 3, "Bernoulli": 2, "Poisson": 150}[name]).unsqueeze(-1).expand(-1, 4)
    logs = q.log_prob(z)
    probs = logs.exp()
    torch.testing.assert_close(probs.sum(0), torch.ones(4, dtype=F64))
    torch.testing.assert_close(-(probs * logs).sum(0), q.entropy())
    torch.testing.assert_close((probs * (logs - p.log_prob(z))).sum(0), q.kl_divergence(p))
    torch.testing.assert_close((probs * q.log_base_measure(z)).sum(0), probs.sum(0) * q.expected_log_base_measure())


def test_known_divergences() -> None:
    normal = Normal.from_standard(0.0, 1.0).kl_divergence(Normal.from_standard(1.0, 2.0)).item()
    assert normal == pytest.approx(0.44314718, abs=5e-9)
    assert normal == pytest.approx(math.log(2) + 2 / 8 - 0.5, abs=1e-15)
    bernoulli = Bernoulli.from_standard(0.4).kl_divergence(Bernoulli.from_standard(0.8)).item()
    assert bernoulli == pytest.approx(0.4 * math.log(0.5) + 0.6 * math.log(3), abs=1e-15)


@pytest.mark.parametrize(
    ("rate", "entropy"),
    [
        (1e-3, 0.0079081018046324831039),
        (0.3, 0.69114395909277896402),
        (1.0, 1.3048422422562514843),
        (10.0, 2.5614099352749091226),
        (49.9, 3.3722618502538649406),
        (50.1, 3.3742686583273050142),
        (200.0, 4.0676795014767309802),
        (1e4, 6.0241003854427113208),
    ],
)
def test_poisson_entropy(rate: float, entropy: float) -> None:
    """Against sums with 40 digits (mpmath), below and above where the series takes over."""
    q = Poisson.from_standard(rate)
    assert q.entropy().item() == pytest.approx(entropy, abs=1e-12)
    assert q.expected_log_base_measure().item() == pytest.approx(-entropy + rate * (1 - math.log(rate)), rel=1e-14)
    assert torch.autograd.gradcheck(
        lambda e: Poisson(Poisson.Natural(e)).entropy(), q.natural_parameters.log_rate.requires_grad_()
    )


def test_wishart_of_one_dimension_is_a_gamma() -> None:
    df, scale = tensor(0.7, 3.0), tensor(2.0, 0.4)
    other_df, other_scale = tensor(2.0, 1.0), tensor(1.0, 1.5)
    w, v = (Wishart.from_standard(n, s[:, None, None]) for n, s in ((df, scale), (other_df, other_scale)))
    g, h = (Gamma.from_standard(n / 2, 0.5 / s) for n, s in ((df, scale), (other_df, other_scale)))
    z = g.sample((9,), seeded())
    for ours, theirs in (
        (w.log_prob(z[..., None, None]), g.log_prob(z)),
        (w.entropy(), g.entropy()),
        (w.kl_divergence(v), g.kl_divergence(h)),
        (w.mean_parameters.log_det, g.mean_parameters.log),
        (w.mean_parameters.precision[:, 0, 0], g.mean_parameters.mean),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_beta_is_a_dirichlet_of_two() -> None:
    a, b = tensor(0.01, 3.0), tensor(2.0, 1e4)
    beta, dirichlet = Beta.from_standard(a, b), Dirichlet.from_standard(torch.stack([a, b], -1))
    torch.testing.assert_close(torch.stack(list(beta.mean_parameters), -1), dirichlet.mean_parameters.log)
    torch.testing.assert_close(beta.log_partition(), dirichlet.log_partition())
    torch.testing.assert_close(beta.entropy(), dirichlet.entropy())


def test_inverse_gamma_is_the_inverse_of_a_gamma() -> None:
    g, i = Gamma.from_standard(tensor(0.5, 3.0), 2.0), InverseGamma.from_standard(tensor(0.5, 3.0), 2.0)
    torch.testing.assert_close(i.mean_parameters.inverse, g.mean_parameters.mean)
    torch.testing.assert_close(i.mean_parameters.log, -g.mean_parameters.log)
    torch.testing.assert_close(i.sample((5,), seeded()), 1 / g.sample((5,), seeded()))


def test_moments_by_their_names() -> None:
    """The properties that models read, against textbook moments."""
    loc, covariance = tensor(1.0, -2.0), tensor([2.0, 0.5], [0.5, 1.0])
    eye = torch.eye(2, dtype=F64)
    torch.testing.assert_close(Normal.from_standard(3.0, 2.0).mean_parameters.square.item(), 13.0)
    m = MultivariateNormal.from_standard(loc, covariance).mean_parameters
    torch.testing.assert_close(m.outer, covariance + torch.outer(loc, loc))
    g = NormalGamma.from_standard(loc, torch.linalg.inv(covariance), 3.0, 2.0).mean_parameters
    torch.testing.assert_close(g.precision.item(), 1.5)
    torch.testing.assert_close(g.precision_mean, 1.5 * loc)
    torch.testing.assert_close(g.precision_outer, covariance + 1.5 * torch.outer(loc, loc))
    torch.testing.assert_close(g.log_precision.item(), float(torch.digamma(tensor(3.0)) - math.log(2)))
    w = NormalWishart.from_standard(loc, 0.5, 4.0, eye / 2).mean_parameters
    torch.testing.assert_close(w.precision, 2 * eye)
    torch.testing.assert_close(w.precision_mean, 2 * loc)
    torch.testing.assert_close(w.quadratic.item(), 2 / 0.5 + 2 * float(loc @ loc))
    log_det = float(torch.digamma(tensor(2.0)) + torch.digamma(tensor(1.5))) + 2 * math.log(2) - 2 * math.log(2)
    torch.testing.assert_close(w.log_det.item(), log_det)
    torch.testing.assert_close(Wishart.from_standard(4.0, eye / 2).mean_parameters.log_det.item(), log_det)


def test_natural_parameters_are_those_documented() -> None:
    """Other modules fill these fields by hand: their meaning must not change."""
    loc, precision = tensor(1.0, -2.0), tensor([2.0, 0.5], [0.5, 1.0])
    scale = torch.linalg.inv(precision)
    quadratic = loc @ precision @ loc
    expected = [
        (Normal.from_standard(3.0, 2.0), (0.75, 0.25)),
        (MultivariateNormal.from_standard(loc, scale), (precision @ loc, precision)),
        (Gamma.from_standard(3.0, 2.0), (2.0, -2.0)),
        (InverseGamma.from_standard(3.0, 2.0), (-4.0, -2.0)),
        (Wishart.from_standard(5.0, scale), (precision, 2.0)),
        (NormalGamma.from_standard(loc, precision, 3.0, 2.0), (precision @ loc, precision, 2 + quadratic / 2, 3.0)),
        (
            NormalWishart.from_standard(loc, 0.5, 5.0, scale),
            (0.5 * loc, 0.5, precision + 0.5 * torch.outer(loc, loc), 3.0),
        ),
        (Dirichlet.from_standard(tensor(1.0, 2.0, 0.5)), (tensor(0.0, 1.0, -0.5),)),
        (Beta.from_standard(3.0, 0.5), (2.0, -0.5)),
        (Categorical.from_standard(tensor(0.25, 0.75)), (tensor(0.25, 0.75).log(),)),
        (Bernoulli.from_standard(0.8), (math.log(4),)),
        (Poisson.from_standard(3.0), (math.log(3),)),
    ]
    for q, natural in expected:
        for ours, theirs in zip(q.natural_parameters, natural, strict=True):
            torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=F64))


@pytest.mark.parametrize("concentration", [1e-3, 0.02, 0.5, 1.0, 40.0])
def test_gamma_draws_are_gamma(concentration: float) -> None:
    """Kolmogorov-Smirnov; draws below the least positive number are kept at it, so they are compared from there on."""
    z = Gamma.from_standard(concentration, 2.0).sample((20_000,), seeded(1))
    tiny = torch.finfo(F64).tiny
    assert bool((z >= tiny).all())
    kept = z[z > tiny].numpy()
    law = st.gamma(concentration, scale=0.5)
    floor = law.cdf(tiny)
    assert abs(len(kept) / 20_000 - (1 - floor)) < 5 * math.sqrt(floor * (1 - floor) / 20_000) + 1e-12
    assert st.kstest(kept, lambda x: (law.cdf(x) - floor) / (1 - floor)).pvalue > 1e-4


@pytest.mark.parametrize("concentration", [1e-3, 0.05, 2.0])
def test_dirichlet_draws_with_small_concentrations(concentration: float) -> None:
    """No 0/0, on the simplex, and each proportion is Beta(a, 2 a)."""
    q = Dirichlet.from_standard(torch.full((3,), concentration, dtype=F64))
    z = q.sample((20_000,), seeded(2))
    torch.testing.assert_close(z.sum(-1), torch.ones(20_000, dtype=F64))
    assert bool(q.log_prob(z).isfinite().all())
    mean, variance = z.mean(0), z.var(0)
    exact = (2 / 9) / (3 * concentration + 1)
    assert float((mean - 1 / 3).abs().max()) < 5 * math.sqrt(exact / 20_000)
    assert float((variance - exact).abs().max()) < 0.05 * exact
    threshold = 1e-10
    below = (z[:, 0] < threshold).double().mean().item()
    share = st.beta.cdf(threshold, concentration, 2 * concentration)
    assert abs(below - share) < 5 * math.sqrt(share * (1 - share) / 20_000) + 1e-9


def test_beta_draws_are_beta() -> None:
    for a, b in ((0.5, 0.2), (3.0, 1.0), (1e-2, 5.0)):
        z = Beta.from_standard(a, b).sample((20_000,), seeded(3)).numpy()
        assert (z > 0).all()
        assert (z < 1).all()
        assert st.kstest(z[z > 1e-300], lambda x, a=a, b=b: _above(st.beta(a, b), x, 1e-300)).pvalue > 1e-4


def _above(law: Any, x: Any, floor: float) -> Any:
    return (law.cdf(x) - law.cdf(floor)) / (1 - law.cdf(floor))


def test_discrete_draws() -> None:
    """Chi-squared against the exact masses."""
    p = tensor(0.1, 0.0, 0.6, 0.3)
    z = Categorical.from_standard(p).sample((20_000,), seeded(4))
    assert not z.is_floating_point()
    counts = torch.bincount(z, minlength=4)
    assert counts[1] == 0
    assert st.chisquare(counts[[0, 2, 3]], 20_000 * p[[0, 2, 3]]).pvalue > 1e-4
    z = Poisson.from_standard(3.0).sample((20_000,), seeded(5))
    counts = torch.bincount(z.long().clamp(max=10), minlength=11)
    masses = np.append(st.poisson.pmf(np.arange(10), 3.0), st.poisson.sf(9, 3.0))
    assert st.chisquare(counts, 20_000 * masses).pvalue > 1e-4
    z = Bernoulli.from_standard(0.3).sample((20_000,), seeded(6))
    assert set(z.tolist()) == {0.0, 1.0}
    assert st.binomtest(int(z.sum()), 20_000, 0.3).pvalue > 1e-4


def test_matrix_draws() -> None:
    """Wishart draws against SciPy's, in the distribution of the trace, the log determinant and an element."""
    scale = np.array([[1.0, 0.4], [0.4, 0.6]])
    ours = Wishart.from_standard(2.5, torch.from_numpy(scale)).sample((5000,), seeded(7)).numpy()
    theirs = st.wishart.rvs(2.5, scale, size=5000, random_state=8)
    for f in (lambda m: np.trace(m, axis1=1, axis2=2), lambda m: np.linalg.slogdet(m)[1], lambda m: m[:, 1, 0]):
        assert st.ks_2samp(f(ours), f(theirs)).pvalue > 1e-4
    np.testing.assert_allclose(ours, ours.transpose(0, 2, 1), rtol=1e-12)


def test_conditional_draws() -> None:
    """The vector of a Normal-Gamma or Normal-Wishart draw, standardised by its own precision, is standard normal."""
    loc, precision = tensor(1.0, -2.0), tensor([2.0, 0.5], [0.5, 1.0])
    z = NormalGamma.from_standard(loc, precision, 0.7, 2.0).sample((5000,), seeded(9))
    whitened = (z.loc - loc) @ torch.linalg.cholesky(precision) * z.precision.sqrt().unsqueeze(-1)
    y = NormalWishart.from_standard(loc, 0.5, 3.0, precision).sample((5000,), seeded(10))
    factor = torch.linalg.cholesky(0.5 * y.precision)
    for noise in (whitened, ((y.loc - loc).unsqueeze(-2) @ factor).squeeze(-2)):
        for column in noise.T:
            assert st.kstest(column.numpy(), "norm").pvalue > 1e-4
        assert abs(np.corrcoef(noise.T)[0, 1]) < 5 / math.sqrt(5000)


def test_impossible_categories() -> None:
    q, p = Categorical.from_standard(tensor(0.5, 0.5, 0.0)), Categorical.from_standard(tensor(0.25, 0.25, 0.5))
    torch.testing.assert_close(q.entropy().item(), math.log(2))
    torch.testing.assert_close(q.kl_divergence(p).item(), math.log(2))
    assert p.kl_divergence(q).item() == math.inf
    assert q.kl_divergence(q).item() == 0
    assert q.log_prob(torch.tensor(2)).item() == -math.inf
    logits = tensor(0.0, 1.0, -math.inf).requires_grad_()
    member = Categorical.from_natural(logits)
    (gradient,) = torch.autograd.grad(member.entropy(), logits)
    (ordinary,) = torch.autograd.grad(Categorical(Categorical.Natural(logits[:2])).entropy(), logits)
    torch.testing.assert_close(gradient, ordinary)


def test_gradient_of_an_inner_product_at_one_hot_means() -> None:
    """A model's term <E[log pi], r> must give its whole gradient even where r is 0 (one-hot responsibilities)."""
    r = tensor(1.0, 0.0, 0.0).requires_grad_()
    eta = tensor(-1.0, -2.0, -3.0)
    (gradient,) = torch.autograd.grad(Categorical.inner((eta,), (r,)), r)
    torch.testing.assert_close(gradient, eta)


def test_numbers_become_double_and_mixed_precisions_the_wider() -> None:
    assert Gamma.from_standard(1, 2).entropy().dtype == F64
    assert Normal.from_standard(torch.zeros(2), 1.0).entropy().dtype == torch.float32
    assert Normal.from_standard(torch.zeros(2), tensor(1.0, 1.0)).entropy().dtype == F64
    assert Normal.from_standard(torch.zeros(2), 1.0).sample(generator=seeded()).dtype == torch.float32
