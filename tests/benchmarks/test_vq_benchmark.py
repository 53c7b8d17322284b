"""The quantisers' benchmark: both contenders do the same, and what is measured is what is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmarks.vq import COMMITMENT, DIM, Case, agreement, growth, laid_out, our_step, peer_step, problem

SMALL = Case(100, True, 1, batch=3, side=4)


@pytest.mark.parametrize("images", [True, False])
def test_our_step_is_the_gradient_of_what_is_said(images: bool) -> None:
    case = replace(SMALL, images=images)
    features, gradient, codebook = laid_out(case)
    found = our_step(case)()
    channels = 1 if images else 2
    rows = features.movedim(channels, -1)
    near = codebook[(rows[..., None, :] - codebook).square().sum(-1).argmin(-1)].movedim(-1, channels)
    expected = gradient + 2 * COMMITMENT / case.batch * (features - near)
    torch.testing.assert_close(found, expected if images else expected.transpose(1, 2))


@pytest.mark.parametrize("images", [True, False])
def test_the_peers_step_is_the_same_but_for_the_means_over_elements(images: bool) -> None:
    pytest.importorskip("vector_quantize_pytorch")
    case = replace(SMALL, images=images)
    _, gradient, _ = laid_out(case)
    ours, its = our_step(case)(), peer_step(case)()
    if not images:
        ours = ours.transpose(1, 2)
    # Its commitment is a mean over all elements, ours a sum, averaged over the batch.
    torch.testing.assert_close(its - gradient, (ours - gradient) * case.batch / gradient.numel())


def test_agreement_is_found() -> None:
    pytest.importorskip("vector_quantize_pytorch")
    assert agreement(SMALL).startswith("K 100, images: 100% of the codes are the same")


def test_growth_is_what_a_step_takes() -> None:
    """At least embeddings and gradient, and far less than scores of all vectors and codes."""
    case = Case(2048, True, 1, batch=16)
    mine = growth(our_step, case, 1)
    each = case.vectors * DIM * 4 / 1e6
    assert 2 * each < mine < 0.5 * case.vectors * case.levels * 4 / 1e6


def test_the_problem_is_the_same_each_time() -> None:
    for first, second in zip(problem(SMALL), problem(SMALL), strict=True):
        assert torch.equal(first, second)
