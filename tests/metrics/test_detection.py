"""AUROC and average precision of cases made by hand, and scores that need no model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from jensen.metrics import detection, isolation_forest_scores, pca_scores, roc


def test_areas_by_hand() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    anomalous = torch.tensor([True, False, True, False, False])
    found = detection(scores, anomalous)
    assert found.auroc == pytest.approx(5 / 6)  # of six pairs one is the wrong way round
    assert found.average_precision == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert (found.anomalies, found.others) == (2, 3)
    q1, q2 = (5 / 6) / (2 - 5 / 6), 2 * (5 / 6) ** 2 / (1 + 5 / 6)
    variance = (5 / 6 * (1 / 6) + (q1 - 25 / 36) + 2 * (q2 - 25 / 36)) / 6
    assert found.auroc_error == pytest.approx(math.sqrt(variance))


def test_auroc_is_the_share_of_pairs_in_order_with_ties_as_halves() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (60,), generator=generator).double()
    scores[3] = torch.inf
    anomalous = torch.rand(60, generator=generator) < 0.3
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, b in itertools.product(scores[anomalous].tolist(), scores[~anomalous].tolist())
    ]
    assert detection(scores, anomalous).auroc == pytest.approx(sum(pairs) / len(pairs))
    false, true = roc(scores, anomalous)
    area = ((false[1:] - false[:-1]) * (true[1:] + true[:-1]) / 2).sum()
    assert area == pytest.approx(sum(pairs) / len(pairs))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_the_standard_error_is_about_the_spread_over_samples() -> None:
    """Exponential scores, for which the formula is exact in its pairs."""
    torch.manual_seed(0)
    anomalous = torch.arange(120) < 40
    areas, errors = [], []
    for _ in range(100):
        scores = torch.empty(120).exponential_(1.0)
        scores[:40] *= 3
        found = detection(scores, anomalous)
        areas.append(found.auroc)
        errors.append(found.auroc_error)
    spread = torch.tensor(areas).std().item()
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.25)
    assert sum(areas) / len(areas) == pytest.approx(0.75, abs=0.02)  # P(3 E > E') = 3 / 4


def test_a_perfect_score_and_its_opposite() -> None:
    anomalous = torch.tensor([True] * 3 + [False] * 5)
    assert detection(anomalous.float(), anomalous).auroc == 1
    assert detection(-anomalous.float(), anomalous).auroc == 0


@pytest.mark.parametrize(
    ("scores", "anomalous", "message"),
    [
        (torch.zeros(3), torch.tensor([True, False]), "should be \\(N,\\)"),
        (torch.zeros(2), torch.tensor([1, 0]), "truth values"),
        (torch.tensor([0.0, torch.nan]), torch.tensor([True, False]), "score 1 is NaN"),
        (torch.zeros(2), torch.tensor([True, True]), "2 of 2 are"),
        (torch.zeros(2), torch.tensor([False, False]), "0 of 2 are"),
    ],
)
def test_what_has_no_curve_is_refused(scores: torch.Tensor, anomalous: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detection(scores, anomalous)


def test_principal_components_by_hand() -> None:
    """Training data on a line: the error is the squared distance from it."""
    along = torch.linspace(-3, 3, 50)[:, None] * torch.tensor([3.0, 4.0]) / 5 + torch.tensor([1.0, 0.0])
    away = torch.tensor([[1.0, 0.0], [1.0 - 4 / 5, 3 / 5], [1.0 + 8 / 5, -6 / 5]])
    assert pca_scores(along, away).tolist() == pytest.approx([0, 1, 4], abs=1e-5)


def test_gaps_take_the_mean_of_their_column() -> None:
    along = torch.linspace(-3, 3, 50)[:, None] * torch.tensor([3.0, 4.0]) / 5 + torch.tensor([1.0, 0.0])
    gap = torch.tensor([[torch.nan, 0.0], [1.0, torch.nan]])
    assert pca_scores(along, gap).tolist() == pytest.approx([0, 0], abs=1e-5)


def test_an_isolation_forest_finds_what_lies_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(300, 1, 2, 2, generator=generator)
    data = torch.cat(
        [torch.randn(100, 1, 2, 2, generator=generator), 6 + torch.randn(20, 1, 2, 2, generator=generator)]
    )
    scores = isolation_forest_scores(train, data, seed=1)
    assert detection(scores, torch.arange(120) >= 100).auroc > 0.99
    assert torch.equal(scores, isolation_forest_scores(train, data, seed=1))


def test_gaps_are_filled_by_what_training_data_have_in_the_mean() -> None:
    train = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([5.0, 0.0, -5.0])
    rows = torch.tensor([[torch.nan, 1.0, -9.0], [-40.0, 0.0, torch.nan]])
    filled = torch.where(rows.isnan(), train.mean(0), rows)
    for scores in (pca_scores, isolation_forest_scores):
        torch.testing.assert_close(scores(train, rows), scores(train, filled), rtol=1e-5, atol=1e-5)
