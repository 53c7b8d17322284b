"""Pareto smoothed importance sampling against ArviZ, against tails whose shape is known, and its verdict in words."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from jensen.inference.psis import effective_size, fit_pareto, khat_threshold, pareto_smooth, tail_length
from jensen.inference.verdict import ParetoK, pareto_k


def peer(log_ratios: np.ndarray) -> tuple[np.ndarray, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
        weights, khat = arviz.psislw(log_ratios.copy())
    return np.asarray(weights), float(khat)


# --- against a peer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draws", [30, 101, 1_000, 4_000])
@pytest.mark.parametrize("spread", [0.01, 0.5, 1.0, 3.0, 30.0, 300.0])
def test_weights_and_khat_are_those_of_arviz(draws: int, spread: float) -> None:
    log_ratios = np.random.default_rng(draws).normal(size=draws) * spread + 1e3
    weights, khat = peer(log_ratios)
    ours = pareto_smooth(torch.from_numpy(log_ratios))
    assert ours.khat == pytest.approx(khat, abs=1e-8)
    np.testing.assert_allclose(ours.log_weights.numpy(), weights, atol=1e-8)


def test_impossible_draws_have_no_weight_and_agree_with_arviz() -> None:
    log_ratios = np.random.default_rng(1).standard_t(4, size=500)
    log_ratios[::7] = -np.inf
    weights, khat = peer(log_ratios)
    ours = pareto_smooth(torch.from_numpy(log_ratios))
    assert ours.khat == pytest.approx(khat, abs=1e-8)
    np.testing.assert_allclose(ours.log_weights.exp().numpy(), np.exp(weights), atol=1e-10)
    assert (ours.log_weights[::7] == -math.inf).all()


# --- against what is known --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.5, 0.9])
def test_the_fit_finds_shape_and_scale_of_a_pareto_sample(shape: float) -> None:
    sample = np.sort(stats.genpareto.rvs(shape, scale=2.5, size=20_000, random_state=3))
    k, sigma = fit_pareto(torch.from_numpy(sample))
    # The maximum likelihood estimates' standard errors are (1 + k) / sqrt(n) and about sigma sqrt(2 (1 + k) / n).
    assert k == pytest.approx(shape, abs=4 * (1 + shape) / math.sqrt(20_000))
    assert sigma == pytest.approx(2.5, rel=4 * math.sqrt(2 * (1 + shape) / 20_000))


@pytest.mark.parametrize("variance", [0.6, 1.5, 2.0, 2.5])
def test_khat_of_a_gaussian_for_a_wider_one_is_one_less_the_ratio_of_variances(variance: float) -> None:
    # p = N(0, v), q = N(0, 1): P(p / q > t) falls like t^(-1 / k) up to logarithms, with k = 1 - 1 / v for v > 1.
    z = torch.randn(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    khat = pareto_smooth(-0.5 * z.square() / variance + 0.5 * z.square()).khat
    if variance < 1:
        assert khat < 0.1  # bounded ratios
    else:
        assert khat == pytest.approx(1 - 1 / variance, abs=0.12)


@pytest.mark.parametrize(("target", "proposal"), [(3.0, 6.0), (2.0, 4.0), (4.0, 5.0)])
def test_khat_of_student_tails_is_one_less_the_ratio_of_freedoms(target: float, proposal: float) -> None:
    # p ~ t_a, q ~ t_b with b > a: r ~ |z|^(b - a) and P(|z| > u) ~ u^-b, so k = (b - a) / b.
    z = stats.t.rvs(proposal, size=200_000, random_state=5)
    log_ratios = stats.t.logpdf(z, target) - stats.t.logpdf(z, proposal)
    assert pareto_smooth(torch.from_numpy(log_ratios)).khat == pytest.approx(1 - target / proposal, abs=0.1)


def test_a_gaussian_for_a_student_posterior_has_no_finite_moment() -> None:
    z = stats.norm.rvs(size=20_000, random_state=2)
    log_ratios = stats.t.logpdf(z, 2) - stats.norm.logpdf(z)
    heavy, light = pareto_smooth(torch.from_numpy(log_ratios)).khat, pareto_smooth(torch.from_numpy(-log_ratios)).khat
    assert heavy > 0.7 > 0.2 > light


def test_smoothed_weights_average_better_than_raw_ones() -> None:
    """Mean of N(0, 2) squared by draws of N(0, 1), over 200 repeats: truth 2, as the paper's section 2 shows."""
    raw, smooth = [], []
    for seed in range(200):
        z = torch.randn(1_000, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        log_ratios = 0.25 * z.square()
        raw.append(float((torch.softmax(log_ratios, 0) * z.square()).sum()))
        smooth.append(float((pareto_smooth(log_ratios).log_weights.exp() * z.square()).sum()))
    error = [math.sqrt(np.mean((np.array(values) - 2) ** 2)) for values in (smooth, raw)]
    assert error[0] < 0.95 * error[1]


def test_equal_ratios_are_an_exact_q() -> None:
    smoothed = pareto_smooth(torch.full((400,), -7.0, dtype=torch.float64))
    assert smoothed.khat == -math.inf
    torch.testing.assert_close(smoothed.log_weights, torch.full((400,), -math.log(400), dtype=torch.float64))
    assert effective_size(smoothed.log_weights) == pytest.approx(400)


def test_ratios_of_a_few_discrete_values_have_no_tail() -> None:
    chosen = torch.arange(3_000) % 3
    smoothed = pareto_smooth(torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)[chosen])
    assert smoothed.khat == -math.inf
    found = torch.bincount(chosen, smoothed.log_weights.exp())
    torch.testing.assert_close(found, torch.softmax(torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64), 0))
    assert pareto_k(torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)[chosen]).verdict.startswith("good")


def test_ties_at_the_end_of_the_tail_belong_to_it() -> None:
    """Four ratios above a block of 500 equal ones, as a rare combination of discrete values makes them."""
    ratios = torch.cat([torch.linspace(-2, -1, 496), torch.zeros(500), torch.full((4,), 0.5)]).double()
    smoothed = pareto_smooth(ratios)
    assert smoothed.khat < 0.5
    exact = torch.softmax(ratios, 0)
    assert float(smoothed.log_weights.exp()[496:].sum()) == pytest.approx(float(exact[496:].sum()), rel=0.05)


def test_effective_size_counts_draws_that_matter() -> None:
    assert effective_size(torch.tensor([0.5, 0.5, 0.0]).double().log()) == pytest.approx(2)
    assert effective_size(torch.tensor([0.8, 0.1, 0.1]).double().log()) == pytest.approx(1 / 0.66)


def test_threshold_and_tail_of_the_paper() -> None:
    assert khat_threshold(100) == pytest.approx(0.5)
    assert khat_threshold(1_000) == pytest.approx(2 / 3)
    assert khat_threshold(10_000) == 0.7
    assert [tail_length(s) for s in (100, 225, 4_000)] == [20, 45, 190]
    assert tail_length(4_000, 0.5) == math.ceil(3 * math.sqrt(8_000))


def test_too_few_draws_have_no_khat() -> None:
    assert pareto_smooth(torch.randn(10, dtype=torch.float64)).khat == math.inf


@pytest.mark.parametrize(
    ("log_ratios", "words"),
    [
        (torch.zeros(3, 2), r"shape \(S,\) with S >= 2, but has shape \(3, 2\)"),
        (torch.tensor([0.0, math.nan, 1.0]), "1 of 3 are NaN"),
        (torch.tensor([0.0, math.inf, math.nan]), "2 of 3 are NaN"),
        (torch.full((5,), -math.inf), "all -inf"),
    ],
)
def test_ratios_that_cannot_be_smoothed_are_refused(log_ratios: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pareto_smooth(log_ratios)


# --- the verdict ------------------------------------------------------------------------------------------------------


def pareto_sample(shape: float, draws: int = 2_000) -> torch.Tensor:
    """Log ratios whose tail has that shape: quantiles, so that nothing is left to chance."""
    levels = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    return -shape * torch.log1p(-levels)


@pytest.mark.parametrize(
    ("shape", "usable", "word"),
    [(0.3, True, "good"), (0.6, True, "usable"), (0.85, False, "unusable"), (1.6, False, "misses")],
)
def test_the_verdict_follows_the_shape(shape: float, usable: bool, word: str) -> None:
    diagnosis = pareto_k(pareto_sample(shape))
    tail = tail_length(2_000)  # the weak prior draws k towards 1/2
    assert diagnosis.value == pytest.approx((tail * shape + 5) / (tail + 10), abs=0.05)
    assert diagnosis.usable is usable
    assert diagnosis.verdict.startswith(word) or word in diagnosis.verdict
    assert f"{diagnosis.value:.2f}" in str(diagnosis)
    assert ("full_rank" in diagnosis.verdict) is not usable


def test_between_the_threshold_of_few_draws_and_07_more_draws_are_asked_for() -> None:
    diagnosis = pareto_k(pareto_sample(0.65, draws=200))
    assert diagnosis.threshold < diagnosis.value < 0.7
    assert not diagnosis.usable
    assert "draw more" in diagnosis.verdict


def test_draws_without_a_density_make_it_unusable_and_are_counted() -> None:
    ratios = torch.randn(1_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1
    ratios[:3] = math.nan
    broken = pareto_k(ratios)
    assert (broken.invalid, broken.usable) == (3, False)
    assert "3 of 1,000" in broken.verdict
    ratios[:3] = -math.inf
    zero = pareto_k(ratios)
    assert zero.usable
    assert "-inf at 3 of 1,000" in zero.verdict
    assert not pareto_k(torch.full((50,), -math.inf)).usable


@pytest.mark.parametrize(("probability", "words"), [(0.55, "q is close"), (0.95, "q itself is not the posterior (55%")])
def test_bounded_ratios_do_not_make_q_the_posterior(probability: float, words: str) -> None:
    # q is fair, p is not: k-hat is -inf for any coin; of the draws 1 / E_q[(p / q)^2] are effective, 0.99 and 0.55
    ratios = torch.tensor([2 * probability, 2 * (1 - probability)], dtype=torch.float64).log().repeat(2_000)
    diagnosis = pareto_k(ratios)
    assert diagnosis.value < 0.5
    assert diagnosis.usable
    assert words in diagnosis.verdict


def test_khat_compares_as_the_number_that_it_is() -> None:
    light, heavy = (
        pareto_k(torch.from_numpy(stats.genpareto.rvs(shape, size=4_000, random_state=0)).log()) for shape in (0.2, 1.5)
    )
    assert float(heavy) == heavy.value
    assert light < 0.7 < heavy
    assert light < heavy
    assert not heavy < light
    assert light <= light.value
    assert light >= light.value
    assert heavy > 1
    assert heavy >= np.float64(heavy.value)
    assert not heavy <= 0.7
    assert max(light, heavy) is heavy
    with pytest.raises(TypeError):
        _ = light < "0.7"


def test_too_narrow_a_q_is_told_where_corrected_spreads_are() -> None:
    said = ParetoK(0.85, 0.7, 4_000, 10.0, 0, 0, torch.zeros(0)).verdict
    assert "sd (LR)" in said
    assert "a richer family than this one" in said
    assert 'family="full_rank"' not in said
