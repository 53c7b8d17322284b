"""Unused codes come to life within tens of steps, and codes that are used as they should be are left alone."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from jensen.nn.quantiser.codebook import Codebook


def clustered(centres: Tensor, count: int) -> Tensor:
    """Features (1, dim, count) close around a few centres."""
    chosen = centres[torch.randint(len(centres), (count,))]
    return (chosen + 0.02 * torch.randn_like(chosen)).T[None]


@pytest.mark.parametrize("learned", ["ema", "loss"])
@pytest.mark.parametrize("initial", ["k-means", "random"])
def test_features_that_spread_find_their_codes_soon(
    learned: Literal["ema", "loss"], initial: Literal["k-means", "random"]
) -> None:
    """As in training: at first all features are alike, and k-means has no use for most codes; then they come apart."""
    centres = torch.randn(5, 4)
    codebook = Codebook(128, 4, learned=learned, initial=initial)
    for _ in range(3):
        codebook(clustered(centres, 1000))
    for _ in range(40):
        found = codebook(3 * torch.randn(1, 4, 1000))
    assert len(found.codes.unique()) > 0.8 * 128


def test_centroids_without_features_are_moved_at_once() -> None:
    codebook = Codebook(50, 4)
    codebook(torch.randn(1, 4, 20))  # each has a centroid of its own, 30 have none
    before = codebook.embedding.clone()
    rows = torch.randn(400, 4)
    codebook._keep_alive(rows.T[None])
    moved = (codebook.embedding != before).any(1)
    assert int(moved.sum()) == 30
    assert torch.cdist(codebook.embedding[moved], rows).min(1).values.max() < 1e-3
    found = codebook(torch.randn(1, 4, 400))
    assert len(found.codes.unique()) > 40


@pytest.mark.parametrize("features", [64, 16])
def test_fairly_used_codes_stay(features: int) -> None:
    """Batches with fewer features than codes say little of each: a fair code is seldom taken for dead."""
    codes = 64
    codebook = Codebook(codes, 4, initial="random")
    centres = 10 * torch.randn(codes, 4)
    with torch.no_grad():
        codebook.embedding.copy_(centres)
        codebook.sums.copy_(centres)
    moved = 0
    for _ in range(400):
        before = codebook.embedding.clone()
        codebook._keep_alive(clustered(centres, features))
        moved += int((codebook.embedding != before).any(1).sum())
        codebook(clustered(centres, features))
    assert moved < 0.002 * 400 * codes


def test_recent_use_is_an_average_over_ten_batches_or_ten_features_a_code() -> None:
    for features, rate in ((200, 0.1), (20, 0.04)):
        codebook = Codebook(50, 4, initial="random", revival=0.0)
        found = codebook(torch.randn(1, 4, features))
        counts = torch.bincount(found.codes.flatten(), minlength=50).float()
        torch.testing.assert_close(codebook.recent, (1 - rate) + rate * counts)
