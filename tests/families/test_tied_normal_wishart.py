"""Means that share a precision matrix: against Normal-Wishart, torch.distributions and Monte Carlo."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jensen.families import NormalWishart
from jensen.families.tied_normal_wishart import TiedNormalWishart

COUNT, DIM = 3, 2


def member(seed: int = 0, batch: tuple[int, ...] = (), count: int = COUNT) -> TiedNormalWishart:
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(*batch, DIM, DIM, generator=g, dtype=torch.float64)
    loc = torch.randn(*batch, count, DIM, generator=g, dtype=torch.float64)
    kappa = 0.3 + 3 * torch.rand(*batch, count, generator=g, dtype=torch.float64)
    df = 2.5 + 5 * torch.rand(batch, generator=g, dtype=torch.float64)
    scale = a @ a.mT / DIM + 0.3 * torch.eye(DIM, dtype=torch.float64)
    return TiedNormalWishart.from_standard(loc, kappa, df, scale)


def assert_fields_close(a: tuple[Tensor, ...], b: tuple[Tensor, ...], rtol: float = 1e-9) -> None:
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol)


def test_with_one_mean_it_is_the_normal_wishart_distribution() -> None:
    q = member(count=1)
    loc, kappa, df, scale = q.standard_parameters
    other = NormalWishart.from_standard(loc[0], kappa[0], df, scale)
    assert_fields_close(q.log_partition()[None], other.log_partition()[None])
    assert_fields_close(q.entropy()[None], other.entropy()[None])
    mean, expected = q.mean_parameters, other.mean_parameters
    assert_fields_close(mean[:1], expected[:1])
    assert_fields_close((mean[1][0], mean[2], mean[3]), expected[1:])


@pytest.mark.parametrize("batch", [(), (4,)])
def test_mean_parameters_are_the_gradient_of_the_log_partition(batch: tuple[int, ...]) -> None:
    q = member(batch=batch)
    leaves = [f.detach().clone().requires_grad_() for f in q.natural_parameters]
    gradients = torch.autograd.grad(TiedNormalWishart(q.Natural(*leaves)).log_partition().sum(), leaves)
    symmetric = [(g + g.mT) / 2 if e == 2 else g for g, e in zip(gradients, q.event_dims, strict=True)]
    assert_fields_close(tuple(symmetric), q.mean_parameters)


def test_every_parameter_set_leads_back() -> None:
    q = member(batch=(4,))
    assert_fields_close(
        TiedNormalWishart.from_standard(*q.standard_parameters).natural_parameters, q.natural_parameters
    )
    assert_fields_close(TiedNormalWishart.from_natural(*q.natural_parameters).natural_parameters, q.natural_parameters)
    again = TiedNormalWishart.from_mean_parameters(*q.mean_parameters)
    assert_fields_close(again.natural_parameters, q.natural_parameters, rtol=1e-7)
    free = TiedNormalWishart.from_unconstrained(q.unconstrained())
    assert_fields_close(free.natural_parameters, q.natural_parameters)


def test_density_is_that_of_a_wishart_matrix_and_normal_vectors() -> None:
    q = member()
    loc, kappa, df, scale = q.standard_parameters
    draw = q.sample((5,), torch.Generator().manual_seed(1))
    expected = torch.distributions.Wishart(df, covariance_matrix=scale).log_prob(draw.precision)
    for k in range(COUNT):
        normal = torch.distributions.MultivariateNormal(
            loc[k].expand(5, DIM), precision_matrix=kappa[k] * draw.precision
        )
        expected = expected + normal.log_prob(draw.loc[:, k])
    torch.testing.assert_close(q.log_prob(draw), expected, rtol=1e-9, atol=1e-9)


def test_draws_entropy_and_divergence_agree() -> None:
    q, p = member(0), member(1)
    draws = q.sample((40_000,), torch.Generator().manual_seed(2))
    for statistic, expected in zip(q.sufficient_statistics(draws), q.mean_parameters, strict=True):
        error = statistic.std(0) / len(statistic) ** 0.5
        assert bool(((statistic.mean(0) - expected).abs() <= 5 * error + 1e-12).all())
    log_q, log_p = q.log_prob(draws), p.log_prob(draws)
    assert abs(float(-log_q.mean() - q.entropy())) < 5 * float(log_q.std()) / 200
    difference = log_q - log_p
    assert abs(float(difference.mean() - q.kl_divergence(p))) < 5 * float(difference.std()) / 200
    assert float(q.kl_divergence(q)) == pytest.approx(0, abs=1e-12)


def test_fisher_matrix_is_the_derivative_of_the_minimal_mean() -> None:
    q = member(batch=(2,))
    fisher = q.fisher_information()[1]
    here = q[1]
    names = q.Natural._fields
    step, column = 1e-5, 0
    for field, e in enumerate(q.event_dims):
        for index in torch.ones_like(here.natural_parameters[field]).nonzero():
            place = tuple(index.tolist())
            if e == 2 and place[0] < place[1]:
                continue
            moved = []
            for sign in (-1, 1):
                fields = [f.clone() for f in here.natural_parameters]
                fields[field][place] += sign * step
                if e == 2 and place[0] != place[1]:
                    fields[field][place[::-1]] += sign * step
                moved.append(q.minimal_mean(TiedNormalWishart(q.Natural(*fields)).mean_parameters))
            slope = (moved[1] - moved[0]) / (2 * step)
            torch.testing.assert_close(fisher[:, column], slope, rtol=1e-5, atol=1e-6, msg=names[field])
            column += 1
    assert column == len(fisher)
    assert float(torch.linalg.eigvalsh(fisher)[0]) > 0


def test_invalid_parameters_are_named() -> None:
    loc, kappa, df, scale = member().standard_parameters
    make = TiedNormalWishart.from_standard
    with pytest.raises(ValueError, match=r"kappa\[1\] is -1"):
        make(loc, torch.tensor([1.0, -1.0, 1.0]), df, scale)
    with pytest.raises(ValueError, match="df is 1; it must be greater than D - 1 = 1"):
        make(loc, kappa, 1.0, scale)
    with pytest.raises(ValueError, match=r"scale.*positive definite"):
        make(loc, kappa, df, -scale)
    with pytest.raises(ValueError, match=r"loc\[2, 0\].*finite"):
        make(loc.clone().index_fill(0, torch.tensor(2), torch.nan), kappa, df, scale)
    with pytest.raises(ValueError, match=r"needs loc \(K, D\)"):
        make(loc, kappa[:2], df, scale)
    with pytest.raises(ValueError, match="K D = 3 x 2 elements"):
        TiedNormalWishart.from_natural(loc.flatten()[:4], kappa, scale, df)
    with pytest.raises(ValueError, match="these natural parameters give"):
        TiedNormalWishart.from_natural(loc.flatten(), kappa, -scale, df)
    with pytest.raises(TypeError, match=r"torch\.distributions"):
        member().to_torch()
