"""Forward-backward against all paths written out, and against the general Markov chain."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Generator, Tensor

from jensen.families import MarkovChain
from jensen.families.markov_chain import MarkovChainNatural
from jensen.inference.models.forward_backward import (
    _in_log_space,
    best_paths,
    choose_block_length,
    forward_backward,
    log_forward,
)
from jensen.inference.models.sequences import Sequences

BLOCKS = [1, 2, 3, None, 100]


def chain(seed: int, lengths: list[int], states: int, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Sequences]:
    """Random log factors, none of them normalised."""
    generator = Generator().manual_seed(seed)
    shapes = ((sum(lengths), states), (states,), (states, states))
    factors = [spread * torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes]
    return factors[0], factors[1], factors[2], Sequences(torch.zeros(sum(lengths)), lengths)


def path_scores(potentials: Tensor, initial: Tensor, transitions: Tensor) -> tuple[list[tuple[int, ...]], Tensor]:
    """Every path of one sequence, and the log of its factors' product."""
    steps, states = potentials.shape
    paths = list(itertools.product(range(states), repeat=steps))
    scores = []
    for z in paths:
        moves = [transitions[z[t - 1], z[t]] for t in range(1, steps)]
        scores.append(initial[z[0]] + sum(moves) + sum(potentials[t, z[t]] for t in range(steps)))
    return paths, torch.stack(scores)


@pytest.mark.parametrize("seed", range(4))
def test_local_term_and_gradient_are_those_of_all_paths(seed: int) -> None:
    potentials, initial, transitions, one = chain(seed, [5], 2)
    leaves = [t.requires_grad_() for t in (potentials, initial, transitions)]
    _, scores = path_scores(*leaves)
    expected = scores.logsumexp(0)
    found = log_forward(*leaves, one)
    assert found.item() == pytest.approx(expected.item(), rel=1e-13)
    for mine, right in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("block_length", BLOCKS)
@pytest.mark.parametrize("spread", [1.0, 30.0, 400.0])
def test_unequal_lengths_and_any_blocks_give_what_separate_paths_give(spread: float, block_length: int | None) -> None:
    """The largest spread overflows scaled probabilities, so that the passes in log space are tested too."""
    lengths = [4, 1, 6, 2, 6]
    potentials, initial, transitions, batch = chain(7, lengths, 3, spread)
    leaves = [t.requires_grad_() for t in (potentials, initial, transitions)]
    totals = torch.stack([path_scores(part, *leaves[1:])[1].logsumexp(0) for part in leaves[0].split(lengths)])
    marginals, starts, pairs = torch.autograd.grad(totals.sum(), leaves)
    found = forward_backward(*(t.detach() for t in leaves), batch, block_length=block_length)
    assert found.marginals is not None
    assert found.pairs is not None
    each = torch.stack([part.sum() for part in found.log_steps.split(lengths)])
    torch.testing.assert_close(each, totals.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.marginals, marginals, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.pairs, pairs, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.marginals[batch.starts].sum(0), starts, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("block_length", BLOCKS)
def test_filtered_probabilities_and_steps_are_those_of_the_beginnings(block_length: int | None) -> None:
    potentials, initial, transitions, batch = chain(3, [5, 3], 2)
    found = forward_backward(potentials, initial, transitions, batch, smooth=False, block_length=block_length)
    assert found.marginals is None
    paths, scores = path_scores(potentials[:4], initial, transitions)
    ends = torch.tensor([path[-1] for path in paths])
    probability = torch.softmax(scores, 0)
    expected = torch.stack([probability[ends == k].sum() for k in range(2)])
    torch.testing.assert_close(found.filtered[3], expected, rtol=1e-12, atol=0)
    before = path_scores(potentials[:3], initial, transitions)[1].logsumexp(0)
    assert found.log_steps[3].item() == pytest.approx((scores.logsumexp(0) - before).item(), rel=1e-12)


def test_it_is_the_general_chain_with_equal_transitions() -> None:
    lengths = [40, 7, 1, 23]
    potentials, initial, transitions, batch = chain(5, lengths, 4, 2.0)
    found = forward_backward(potentials, initial, transitions, batch)
    assert found.marginals is not None
    assert found.pairs is not None
    pairs = torch.zeros_like(transitions)
    for part, marginals in zip(potentials.split(lengths), found.marginals.split(lengths), strict=True):
        first = torch.cat([part[:1] + initial, part[1:]])
        q = MarkovChain(MarkovChainNatural(first, transitions.expand(len(part) - 1, -1, -1)))
        torch.testing.assert_close(q.mean_parameters.marginals, marginals, rtol=1e-10, atol=1e-12)
        pairs += q.mean_parameters.pairs.sum(0)
    torch.testing.assert_close(found.pairs, pairs, rtol=1e-10, atol=1e-12)


def test_long_sequences_cut_into_blocks_equal_one_pass() -> None:
    lengths = [3000, 1, 700, 50]
    arguments = chain(11, lengths, 3, 3.0)
    whole = forward_backward(*arguments, block_length=3000)
    for block_length in (17, 64, 699):
        cut = forward_backward(*arguments, block_length=block_length)
        torch.testing.assert_close(cut.log_steps, whole.log_steps, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(cut.marginals, whole.marginals, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(cut.pairs, whole.pairs, rtol=1e-10, atol=1e-9)
    assert choose_block_length(torch.tensor(lengths), 3) < 3000  # such a batch is cut
    assert choose_block_length(torch.full((1000,), 50), 8) == 50  # many short ones are not


def test_a_state_that_was_rounded_to_nothing_may_come_back() -> None:
    """Two states that never mix: the observations first favour one by 2,000 nats, then the other by more."""
    potentials = torch.zeros(6, 2, dtype=torch.float64)
    potentials[:3, 1], potentials[3:, 0] = -700.0, -900.0
    initial = torch.zeros(2, dtype=torch.float64)
    transitions = torch.tensor([[0.0, -5000.0], [-5000.0, 0.0]], dtype=torch.float64)
    batch = Sequences(torch.zeros(6))
    for block_length in (1, 2, None):
        found = forward_backward(potentials, initial, transitions, batch, block_length=block_length)
        assert found.log_steps.sum().item() == pytest.approx(-2100.0, rel=1e-12)
        torch.testing.assert_close(found.marginals, torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(6, 2))


def test_the_passes_in_log_space_are_the_same_where_both_work() -> None:
    arguments = chain(2, [9, 1, 4], 3)
    scaled, logs = forward_backward(*arguments), _in_log_space(*arguments)
    for name in ("log_steps", "filtered", "marginals", "pairs"):
        torch.testing.assert_close(getattr(scaled, name), getattr(logs, name), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_is_the_best_of_all_paths(seed: int) -> None:
    lengths = [5, 1, 6, 3]
    potentials, initial, transitions, batch = chain(seed, lengths, 3, 2.0)
    found = best_paths(potentials, initial, transitions, batch)
    for part, path in zip(potentials.split(lengths), found.split(lengths), strict=True):
        paths, scores = path_scores(part, initial, transitions)
        assert tuple(path.tolist()) == paths[int(scores.argmax())]


def test_the_gradient_scales_with_what_follows() -> None:
    potentials, initial, transitions, batch = chain(1, [4, 2], 2)
    potentials.requires_grad_()
    (once,) = torch.autograd.grad(log_forward(potentials, initial, transitions, batch), potentials)
    (thrice,) = torch.autograd.grad(3 * log_forward(potentials, initial, transitions, batch), potentials)
    torch.testing.assert_close(thrice, 3 * once)
