"""One battery for all likelihoods: oracles, quadrature, enumeration, finite differences, draws, extremes, masks.

The rows are in `likelihood_cases`; a new likelihood is a row there.
"""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from likelihood_cases import CASES, Array, Case, conditional, grid_and_weights
from scipy import stats
from torch import Tensor

from jensen.bound import Output
from jensen.config import LIKELIHOODS
from jensen.likelihoods import AutoregressiveLikelihood, make_likelihood

NAMES = list(CASES)
DRAWS = 4000
ELSEWHERE = {"table", "multinomial"}
"""Likelihoods with tests of their own: their values are no independent numbers of one kind."""


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """A row, in float64."""
    found = CASES[request.param]
    found.likelihood.double()
    return found


every = pytest.mark.parametrize("case", NAMES, indirect=True)


def has_mean(distribution: object) -> bool:
    return bool(getattr(distribution, "has_mean", True))


def test_every_name_of_the_configuration_is_here() -> None:
    assert set(LIKELIHOODS) - ELSEWHERE <= set(CASES)
    for name in LIKELIHOODS:
        if name not in ELSEWHERE:
            made = make_likelihood(name, levels=17, shape=CASES[name].shape)
            assert type(made) is type(CASES[name].likelihood)


@every
def test_log_prob_is_that_of_the_oracle(case: Case) -> None:
    x, planes = case.data(1, 4), case.planes(2, 4)
    found = case.distribution(planes).log_prob(x)
    assert found.shape == (2, 4, *case.shape)
    expected = case.log_prob(x.numpy(), planes.numpy())
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-7, atol=1e-9)
    case.likelihood.float()
    single = case.distribution(planes.float()).log_prob(x.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), found.detach().numpy(), rtol=2e-4, atol=2e-4)


@every
def test_half_precision_is_scored_in_single(case: Case) -> None:
    case.likelihood.float()
    planes, x = case.planes(3, dtype=torch.bfloat16), case.data(3).float()
    found = case.distribution(planes).log_prob(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, case.distribution(planes.float()).log_prob(x))


@every
def test_gradients_against_finite_differences(case: Case) -> None:
    x, planes = case.data(2), case.planes(2)
    learned = [p.requires_grad_() for p in (planes, *case.likelihood.parameters())]
    if isinstance(case.likelihood, AutoregressiveLikelihood) or planes.numel() > 500:  # too many for one at a time
        check_along(lambda: case.distribution(planes).log_prob(x).square().sum(), learned)
        return
    assert torch.autograd.gradcheck(lambda *p: case.distribution(p[0]).log_prob(x), learned)


def check_along(function: Callable[[], Tensor], inputs: list[Tensor]) -> None:
    """The gradient along a line, against a central difference; its step is short, as a net has kinks (ReLU)."""
    direction = [torch.randn_like(q) for q in inputs]
    gradients = torch.autograd.grad(function(), inputs)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))

    @torch.no_grad()
    def at(step: float) -> float:
        for value, d in zip(inputs, direction, strict=True):
            value += step * d
        result = float(function())
        for value, d in zip(inputs, direction, strict=True):
            value -= step * d
        return result

    assert slope == pytest.approx((at(1e-6) - at(-1e-6)) / 2e-6, rel=1e-5)


@every
def test_sums_or_integrates_to_one(case: Case) -> None:
    """Over the values of each place of a datum, whatever the others are."""
    with torch.no_grad():
        distribution = case.distribution(case.planes())
        if case.total is not None:
            total = case.total(distribution)
        elif case.likelihood.levels is None:
            assert not case.likelihood.discrete
            points, weights = grid_and_weights(case, distribution)
            total = (distribution.log_prob(points).exp() * weights).sum(0)
        elif case.apart:
            steps = torch.arange(case.likelihood.levels).double().view(-1, 1, 1, 1) / (case.likelihood.levels - 1)
            total = distribution.log_prob(steps).exp().sum(0)
        else:
            total = conditional(distribution, case.data(), case.likelihood.levels).sum(0)
    assert case.likelihood.discrete == (case.likelihood.levels is not None)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-8, atol=1e-8)


@every
def test_draws_have_the_mean(case: Case) -> None:
    distribution = case.distribution(case.planes())
    draws = distribution.sample(torch.Size([DRAWS if has_mean(distribution) else 1000]))
    assert draws.shape[1:] == case.shape
    assert not draws.requires_grad
    levels = case.likelihood.levels
    if has_mean(distribution):
        mean = distribution.mean
    else:
        # What is drawn has the mean of the means that its places have, given what was drawn before them.
        with pytest.raises(NotImplementedError, match="no mean in closed form"):
            _ = distribution.mean
        assert levels is not None
        steps = torch.arange(levels, dtype=torch.float64) / (levels - 1)
        with torch.no_grad():
            mean = torch.einsum("k,k...->...", steps, conditional(distribution, draws, levels)).mean(0)
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - mean).abs() <= 5 * error + 5 / len(draws)).all()  # 5 / n: of rare levels
    if levels is not None:
        assert set((draws * (levels - 1)).unique().tolist()) <= set(range(levels))


@every
def test_draws_have_the_distribution(case: Case) -> None:
    """Kolmogorov's test at each place against the oracle's cdf; of levels, a chi-square test."""
    planes = case.planes()
    draws = case.distribution(planes).sample(torch.Size([DRAWS]))
    if case.cdf is not None:
        ranks = case.cdf(draws.numpy(), planes.numpy()).reshape(DRAWS, -1)
        assert min(stats.kstest(column, "uniform").pvalue for column in ranks.T) > 1e-4
    levels = case.likelihood.levels
    if levels is None:
        return
    steps = np.broadcast_to(np.arange(levels).reshape(-1, 1, 1, 1) / (levels - 1), (levels, *case.shape))
    repeated = np.broadcast_to(planes.numpy(), (levels, *planes.shape))
    probabilities = np.exp(case.log_prob(steps, repeated)).reshape(levels, -1)
    drawn = (draws.flatten(1) * (levels - 1)).round().long().numpy()
    for place in range(drawn.shape[1] if case.apart else 1):
        check_counts(np.bincount(drawn[:, place], minlength=levels), DRAWS * probabilities[:, place])


def check_counts(counts: Array, expected: Array) -> None:
    """Pearson's test, of rare values together."""
    rare = expected < 5
    assert counts[rare].sum() <= expected[rare].sum() + 6 * math.sqrt(expected[rare].sum()) + 3
    if (~rare).sum() > 1:
        counts, expected = counts[~rare], expected[~rare]
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-5


@every
def test_extreme_decoder_outputs_stay_finite(case: Case) -> None:
    case.likelihood.float()
    extremes = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4])
    numbers = case.likelihood.channels
    if case.apart and numbers <= 3:  # all at each place
        together = torch.cartesian_prod(*[extremes] * numbers).view(-1, numbers)
        planes = together.repeat_interleave(case.shape[0], 1)[:, :, None, None].expand(-1, -1, *case.shape[1:]).clone()
    else:
        planes = extremes[torch.randint(5, (100, *case.planes(1).shape[1:]))]
    planes.requires_grad_()
    ends = (0.0, 1.0) if case.values is None else (0.0,)
    for x in (torch.full(case.shape, end) for end in ends):
        log_prob = case.distribution(planes).log_prob(x)
        assert torch.isfinite(log_prob).all()
        for gradient in torch.autograd.grad(log_prob.sum(), [planes, *case.likelihood.parameters()]):
            assert torch.isfinite(gradient).all()
    distribution = case.distribution(planes.detach())
    assert torch.isfinite(distribution.sample()).all()
    if has_mean(distribution):
        assert torch.isfinite(distribution.mean).all()


@every
def test_planes_are_the_parameters_one_after_the_other(case: Case) -> None:
    if not case.apart:
        return
    planes, x = case.planes(2, 3), case.data(1, 3)
    parts = planes.unflatten(-len(case.shape), (case.likelihood.channels, case.shape[0])).unbind(-1 - len(case.shape))
    found, expected = case.distribution(planes), case.likelihood(*parts)
    torch.testing.assert_close(found.log_prob(x), expected.log_prob(x))
    if has_mean(found):
        torch.testing.assert_close(found.mean, expected.mean)


@every
def test_shapes(case: Case) -> None:
    """(samples, batch, ...) of images, signals and tables, where the likelihood takes any."""
    others = [(2, 5), (4,)] if case.apart else []
    for shape in (case.shape, *others):
        planes = torch.randn(3, 2, case.likelihood.planes(shape), *shape[1:], dtype=torch.float64)
        distribution = case.likelihood.of_planes(planes, shape)
        assert distribution.batch_shape == (3, 2, *shape)
        assert distribution.sample((4,)).shape == (4, 3, 2, *shape)
        if has_mean(distribution):
            assert distribution.mean.shape == (3, 2, *shape)
        x = case.data(1, 2) if shape == case.shape else torch.zeros(1, 2, *shape, dtype=torch.float64)
        assert distribution.log_prob(x).shape == (3, 2, *shape)


@every
def test_missing_values_do_not_count(case: Case) -> None:
    """What stands in their place may be anything, also NaN, and they get no gradient."""
    x, planes = case.data(1, 3), case.planes(2, 3).requires_grad_()
    mask = torch.rand(1, 3, *case.shape) < 0.6
    hidden = x.masked_fill(~mask, math.nan)
    found = Output(hidden, case.distribution(planes), (), mask=mask.double()).log_likelihood()
    filled = x.masked_fill(~mask, 0.0)
    each = case.log_prob(filled.numpy(), planes.detach().numpy())
    expected = np.where(mask.numpy(), each, 0.0).sum((2, 3, 4))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-7)
    found.sum().backward()
    assert planes.grad is not None
    assert torch.isfinite(planes.grad).all()
    if case.apart:
        gradient = planes.grad.unflatten(2, (-1, case.shape[0]))
        assert float((gradient * ~mask.unsqueeze(2)).abs().max()) == 0.0


@every
def test_saved_and_loaded(case: Case) -> None:
    """All that it has learned is in its state dict."""
    other = copy.deepcopy(case.likelihood)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.3
    file = io.BytesIO()
    torch.save(other.state_dict(), file)
    file.seek(0)
    planes, x = case.planes(2), case.data(2)
    wanted = other.of_planes(planes, case.shape).log_prob(x)
    if other.state_dict():
        assert not torch.allclose(case.distribution(planes).log_prob(x), wanted)
    loaded = copy.deepcopy(case.likelihood)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(loaded.of_planes(planes, case.shape).log_prob(x), wanted)


@every
def test_wrong_number_of_parameters(case: Case) -> None:
    for wrong in (0, case.likelihood.channels + 1):
        with pytest.raises(ValueError, match=f"takes {case.likelihood.channels} parameter.*{wrong} were given"):
            case.likelihood(*[torch.zeros(case.shape)] * wrong)
