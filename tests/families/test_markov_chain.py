"""The Markov chain against enumeration of all its paths."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from family_cases import seeded

from jensen.families import MarkovChain, log_forward
from jensen.families.forward import log_forward_plain

F64 = torch.float64
STEPS, STATES = 4, 3
INF = math.inf


def potentials(seed: int, batch: tuple[int, ...] = (3,), steps: int = STEPS, scale: float = 1.0) -> tuple[Any, Any]:
    g = seeded(seed)
    return (
        scale * torch.randn((*batch, steps, STATES), generator=g, dtype=F64),
        scale * torch.randn((*batch, steps - 1, STATES, STATES), generator=g, dtype=F64),
    )


def forbid(transitions: Any) -> Any:
    """Left to right in the first chain; a single forbidden move in the second."""
    transitions = transitions.clone()
    transitions[0] = torch.where(torch.ones(STATES, STATES).triu() > 0, transitions[0], -INF)
    transitions[1, 1, 0, 2] = -INF
    return transitions


def enumerate_paths(states: Any, moves: Any, length: int) -> dict[tuple[int, ...], float]:
    """Each path of one chain with its unnormalised log probability, in plain Python."""
    scores = {}
    for path in itertools.product(range(STATES), repeat=length):
        score = sum(states[t, z].item() for t, z in enumerate(path))
        scores[path] = score + sum(moves[t, path[t], path[t + 1]].item() for t in range(length - 1))
    return scores


def log_sum(values: Any) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(v - top) for v in values))


CHAINS = {
    "full": (None, False),
    "lengths": ([4, 1, 3], False),
    "forbidden": (None, True),
    "lengths and forbidden": ([4, 3, 2], True),
}


@pytest.fixture(params=CHAINS, ids=str)
def chain(request: pytest.FixtureRequest) -> tuple[MarkovChain, list[dict[tuple[int, ...], float]]]:
    lengths, forbidden = CHAINS[request.param]
    states, moves = potentials(1)
    if forbidden:
        moves = forbid(moves)
    q = MarkovChain.from_natural(states, moves, lengths=None if lengths is None else torch.tensor(lengths))
    return q, [enumerate_paths(states[b], moves[b], lengths[b] if lengths else STEPS) for b in range(3)]


def test_against_all_paths(chain: Any) -> None:
    q, all_scores = chain
    for b, scores in enumerate(all_scores):
        log_total = log_sum(scores.values())
        probs = {path: math.exp(s - log_total) for path, s in scores.items()}
        assert q.log_partition()[b].item() == pytest.approx(log_total, abs=1e-12)
        entropy = -sum(p * math.log(p) for p in probs.values() if p > 0)
        assert q.entropy()[b].item() == pytest.approx(entropy, abs=1e-12)
        marginals, pairs = torch.zeros(STEPS, STATES, dtype=F64), torch.zeros(STEPS - 1, STATES, STATES, dtype=F64)
        for path, p in probs.items():
            padded = torch.tensor([*path, *[0] * (STEPS - len(path))])
            expected = math.log(p) if p > 0 else -INF
            assert q.log_prob(padded.expand(3, STEPS))[b].item() == pytest.approx(expected, abs=1e-12)
            for t, z in enumerate(path):
                marginals[t, z] += p
            for t in range(len(path) - 1):
                pairs[t, path[t], path[t + 1]] += p
        torch.testing.assert_close(q.mean_parameters.marginals[b], marginals, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(q.mean_parameters.pairs[b], pairs, rtol=1e-12, atol=1e-14)
        best = max(scores, key=lambda path: scores[path])
        assert q.viterbi()[b].tolist() == [*best, *[0] * (STEPS - len(best))]


def test_draws_follow_the_enumerated_probabilities(chain: Any) -> None:
    q, all_scores = chain
    count = 20_000
    draws = q.sample((count,), seeded(2))
    assert draws.shape == (count, 3, STEPS)
    for b, scores in enumerate(all_scores):
        log_total = log_sum(scores.values())
        found: dict[tuple[int, ...], int] = {}
        for path in map(tuple, draws[:, b].tolist()):
            found[path] = found.get(path, 0) + 1
        for path, score in scores.items():
            p = math.exp(score - log_total)
            padded = (*path, *[0] * (STEPS - len(path)))
            assert abs(found.pop(padded, 0) / count - p) <= 5 * (math.sqrt(p * (1 - p) / count) + (p > 0) / count)
        assert not found  # no path that is not among them


def test_statistics_of_paths(chain: Any) -> None:
    q, _ = chain
    z = q.sample((200,), seeded(3))
    t = q.sufficient_statistics(z)
    inner = torch.where(t.marginals > 0, q.natural_parameters.potentials, 0.0).sum((-2, -1))
    inner = inner + torch.where(t.pairs > 0, q.natural_parameters.transitions, 0.0).sum((-3, -2, -1))
    torch.testing.assert_close(inner - q.log_partition(), q.log_prob(z))


def test_round_trips(chain: Any) -> None:
    q, _ = chain
    for p in (
        MarkovChain.from_mean_parameters(*q.mean_parameters, lengths=q.lengths),
        MarkovChain.from_standard(*q.standard_parameters, lengths=q.lengths),
    ):
        torch.testing.assert_close(p.log_partition(), torch.zeros(3, dtype=F64))  # made of conditional probabilities
        for a, b in zip(p.mean_parameters, q.mean_parameters, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(q.kl_divergence(p), torch.zeros(3, dtype=F64), rtol=0, atol=1e-12)
        torch.testing.assert_close(p.kl_divergence(q), torch.zeros(3, dtype=F64), rtol=0, atol=1e-12)
    rows = q.standard_parameters.transition.sum(-1)
    torch.testing.assert_close(rows, torch.ones_like(rows))


def test_kl_divergence_against_all_paths(chain: Any) -> None:
    q, all_scores = chain
    p = MarkovChain.from_natural(*potentials(4), lengths=q.lengths)
    for b, scores in enumerate(all_scores):
        log_total, expected = log_sum(scores.values()), 0.0
        for path, score in scores.items():
            if score > -INF:
                padded = torch.tensor([*path, *[0] * (STEPS - len(path))]).expand(3, STEPS)
                expected += math.exp(score - log_total) * (score - log_total - p.log_prob(padded)[b].item())
        assert q.kl_divergence(p)[b].item() == pytest.approx(expected, abs=1e-12)


def test_fisher_information_against_all_paths() -> None:
    states, moves = potentials(5)
    lengths = torch.tensor([4, 2, 4])
    q = MarkovChain(MarkovChain.Natural(states, moves), lengths)
    fisher = q.fisher_information()
    for b in range(3):
        scores = enumerate_paths(states[b], moves[b], lengths[b].item())
        log_total = log_sum(scores.values())
        paths = torch.tensor([[*path, *[0] * (STEPS - len(path))] for path in scores])
        t = MarkovChain.minimal_mean(q[b].sufficient_statistics(paths))
        p = torch.tensor([math.exp(s - log_total) for s in scores.values()], dtype=F64)
        centred = t - p @ t
        torch.testing.assert_close(fisher[b], centred.T @ (p.unsqueeze(-1) * centred), rtol=1e-10, atol=1e-12)
    assert float(torch.linalg.eigvalsh(fisher[0])[0]) > 1e-6


def test_minimal_coordinates_of_any_gauge() -> None:
    """Factors that describe the same chain have the same minimal coordinates."""
    states, moves = potentials(6)
    shift = torch.randn(3, STEPS - 1, STATES, generator=seeded(7), dtype=F64)
    moved_states = states + torch.nn.functional.pad(shift, (0, 0, 1, 0)) + 3.0
    same = MarkovChain(MarkovChain.Natural(moved_states, moves - shift.unsqueeze(-2) - 1.0))
    q = MarkovChain(MarkovChain.Natural(states, moves))
    torch.testing.assert_close(
        MarkovChain.to_minimal(q.natural_parameters), MarkovChain.to_minimal(same.natural_parameters)
    )
    again = MarkovChain(q.expand_minimal(MarkovChain.to_minimal(q.natural_parameters)))
    torch.testing.assert_close(again.kl_divergence(q), torch.zeros(3, dtype=F64), rtol=0, atol=1e-12)
    with pytest.raises(TypeError, match="expand_minimal"):
        MarkovChain.from_minimal(torch.zeros(8))


@pytest.mark.parametrize("forbidden", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 1, 3]])
def test_log_forward_differentiates(forbidden: bool, lengths: list[int] | None) -> None:
    states, moves = potentials(8)
    if forbidden:
        moves = forbid(moves)
    kept = torch.tensor(lengths) if lengths else None
    allowed = moves > -INF
    value = log_forward(states, moves, kept)
    torch.testing.assert_close(value, log_forward_plain(states, moves, kept))

    def function(s: Any, m: Any) -> Any:
        return log_forward(s, torch.where(allowed, m, -INF), kept)

    inputs = (states.requires_grad_(), torch.where(allowed, moves, 0.0).requires_grad_())
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)
    moves.requires_grad_()
    for f in (log_forward, log_forward_plain):
        gradients = torch.autograd.grad(f(states, moves, kept)[1:].sum(), (states, moves))
        for g in gradients:
            assert bool(g.isfinite().all())
            assert float(g[0].abs().max()) == 0  # the first chain was left out
            assert float(g[2].abs().max()) > 0


def test_what_lies_beyond_a_length_does_not_matter() -> None:
    states, moves = potentials(9)
    lengths = torch.tensor([4, 1, 3])
    q = MarkovChain(MarkovChain.Natural(states.clone(), moves.clone()), lengths)
    states[1, 1:], states[2, 3:], moves[1], moves[2, 2:] = math.nan, INF, -INF, math.nan
    p = MarkovChain(MarkovChain.Natural(states, moves), lengths)
    torch.testing.assert_close(p.log_partition(), q.log_partition(), rtol=0, atol=0)
    torch.testing.assert_close(p.entropy(), q.entropy(), rtol=0, atol=0)
    torch.testing.assert_close(p.kl_divergence(q), torch.zeros(3, dtype=F64), rtol=0, atol=1e-14)
    short = MarkovChain(MarkovChain.Natural(states[2, :3], moves[2, :2]))
    torch.testing.assert_close(short.entropy(), q.entropy()[2])
    assert p.is_valid()


def test_lengths_follow_the_batch() -> None:
    lengths = torch.tensor([4, 1, 3])
    q = MarkovChain.from_natural(*potentials(10), lengths=lengths)
    torch.testing.assert_close(q[1:].entropy(), q.entropy()[1:])
    torch.testing.assert_close(q[2].entropy(), q.entropy()[2])
    torch.testing.assert_close(q.expand((2, 3)).entropy(), q.entropy().expand(2, 3))
    assert q.to(torch.float32).lengths.tolist() == [4, 1, 3]
    p = MarkovChain.from_natural(*potentials(11), lengths=lengths)
    for rho in (0.5, 1.0):
        torch.testing.assert_close(q.moved(p.natural_parameters, rho).lengths, lengths)
    with pytest.raises(ValueError, match="different lengths"):
        q.kl_divergence(MarkovChain.from_natural(*potentials(10)))


def test_one_step_is_a_categorical() -> None:
    states, moves = potentials(12, steps=1)
    q = MarkovChain.from_natural(states, moves)
    torch.testing.assert_close(q.log_partition(), states[:, 0].logsumexp(-1))
    torch.testing.assert_close(q.mean_parameters.marginals, states.softmax(-1))
    assert q.mean_parameters.pairs.shape == (3, 0, STATES, STATES)
    assert q.viterbi().tolist() == states[:, 0].argmax(-1, keepdim=True).tolist()
    assert q.sample((5,), seeded()).shape == (5, 3, 1)
    probs = q.mean_parameters.marginals[:, 0, :-1]
    expected = torch.diag_embed(probs) - probs.unsqueeze(-1) * probs.unsqueeze(-2)
    torch.testing.assert_close(q.fisher_information(), expected)
    again = MarkovChain.from_mean_parameters(*q.mean_parameters)
    torch.testing.assert_close(again.entropy(), q.entropy())


def test_factors_far_apart() -> None:
    """Exact where probabilities underflow: the one way out of an unlikely state decides in the end."""
    states = torch.zeros(3, 2, dtype=F64)
    moves = torch.tensor([[[0.0, -1e4], [-INF, 0.0]], [[-2e4, -INF], [-INF, 5.0]]], dtype=F64)
    q = MarkovChain.from_natural(states, moves)
    assert q.log_partition().item() == pytest.approx(5.0)
    torch.testing.assert_close(q.mean_parameters.marginals[:, 1], torch.ones(3, dtype=F64))
    closed = torch.tensor([[[0.0, -1e4], [-INF, 0.0]], [[-2e4, -INF], [-INF, -5e4]]], dtype=F64)
    p = MarkovChain.from_natural(states, closed)
    assert p.log_partition().item() == pytest.approx(-2e4)
    torch.testing.assert_close(p.mean_parameters.marginals[:, 0], torch.ones(3, dtype=F64))


def test_long_chains_against_the_recorded_recursion() -> None:
    states, moves = potentials(13, batch=(2,), steps=400, scale=30.0)
    for f in (states, moves):
        f.requires_grad_()
    ours, recorded = log_forward(states, moves), log_forward_plain(states, moves)
    torch.testing.assert_close(ours, recorded, rtol=1e-13, atol=0)
    for a, b in zip(
        torch.autograd.grad(ours.sum(), (states, moves)),
        torch.autograd.grad(recorded.sum(), (states, moves)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_transitions_shared_by_a_batch() -> None:
    states, moves = potentials(14)
    shared = moves[0].requires_grad_()
    value = log_forward(states, shared)
    torch.testing.assert_close(value, log_forward(states, shared.expand(3, -1, -1, -1)))
    (gradient,) = torch.autograd.grad(value.sum(), shared)
    torch.testing.assert_close(gradient.sum((-2, -1)), torch.full((STEPS - 1,), 3.0, dtype=F64))


def ones(*shape: int) -> Any:
    return torch.ones(shape, dtype=F64)


NAN_STATES = ones(2, 4, 3)
NAN_STATES[1, 2, 0] = math.nan
NATURAL = [
    ((ones(3), ones(3, 3, 3)), {}, r"potentials must be of shape (*batch, T, K), got (3,)"),
    ((ones(4, 3), ones(3, 3)), {}, r"transitions must be of shape (*batch, T - 1, K, K), got (3, 3)"),
    ((ones(4, 3), ones(3, 3, 2)), {}, "transitions must end in K x K, K = 3 the states of potentials, got (3, 3, 2)"),
    ((ones(4, 3), ones(4, 3, 3)), {}, "transitions must be of T - 1 = 3 steps, got 4"),
    ((ones(2, 4, 3), ones(5, 3, 3, 3)), {}, "batch shapes do not broadcast"),
    ((NAN_STATES, ones(3, 3, 3)), {}, "potentials[1, 2, 0] is nan; it must be finite or -inf"),
    ((ones(4, 3), INF * ones(3, 3, 3)), {}, "transitions[0, 0, 0] is inf; it must be finite or -inf"),
    ((ones(2, 4, 3), -INF * ones(3, 3, 3)), {}, "no path is possible in chain [0]"),
    ((ones(2, 4, 3), ones(3, 3, 3)), {"lengths": [4, 5]}, "lengths[1] is 5; it must be 1 to T = 4"),
    ((ones(2, 4, 3), ones(3, 3, 3)), {"lengths": [0, 5]}, "lengths[0] is 0; it must be 1 to T = 4"),
]


@pytest.mark.parametrize(("fields", "extra", "message"), NATURAL)
def test_refused_natural_parameters(fields: Any, extra: Any, message: str) -> None:
    with pytest.raises(ValueError, match="MarkovChain") as caught:
        MarkovChain.from_natural(*fields, **extra)
    assert message in str(caught.value)


def test_refused_lengths_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"lengths must be integers, got torch\.float32"):
        MarkovChain.from_natural(ones(4, 3), ones(3, 3, 3), lengths=torch.tensor(2.5))


def test_refused_probabilities() -> None:
    third = ones(3) / 3
    rows = ones(3, 3, 3) / 3
    wrong = rows.clone()
    wrong[2, 1] = 1.0
    for fields, message in [
        ((third[:2], rows), "transition must end in K x K, K = 2"),
        ((third * 2, rows), "initial, of shape (3,), must be on the simplex"),
        ((third, wrong), "transition[2, 1], of shape (3,), must be on the simplex"),
    ]:
        with pytest.raises(ValueError, match="MarkovChain") as caught:
            MarkovChain.from_standard(*fields)
        assert message in str(caught.value)
    marginals, pairs = third.expand(4, 3), rows / 3
    torch.testing.assert_close(MarkovChain.from_mean_parameters(marginals, pairs).entropy().item(), 4 * math.log(3))
    skewed = pairs.clone()
    skewed[1, 0, 0] += 0.1
    for given, message in [
        ((marginals * 1.1, pairs), "marginals[0] must be on the simplex"),
        ((marginals, skewed), "pairs[1] must add up to the marginals"),
        ((marginals, pairs[:2]), "pairs must be of T - 1 = 3 steps, got 2"),
    ]:
        with pytest.raises(ValueError, match="MarkovChain") as caught:
            MarkovChain.from_mean_parameters(*given)
        assert message in str(caught.value)


def test_dead_ends_and_no_path_at_all() -> None:
    """State 2 cannot be left nor reached after the start in chain 0; chain 1 has no path: values without NaN."""
    states, moves = potentials(15, batch=(2,))
    moves[0, :, 2, :] = moves[0, :, :, 2] = moves[1] = -INF
    q = MarkovChain(MarkovChain.Natural(states, moves))
    assert q.log_partition()[1].item() == -INF
    rows = q.standard_parameters.transition
    torch.testing.assert_close(rows[0, :, 2], torch.full((STEPS - 1, STATES), 1 / 3, dtype=F64))
    two = MarkovChain(MarkovChain.Natural(states[0, :, :2], moves[0, :, :2, :2]))
    torch.testing.assert_close(q[0].entropy(), two.entropy())
    states, moves = states.clone().requires_grad_(), moves.clone().requires_grad_()
    for f in (log_forward, log_forward_plain):
        marginals, pairs = torch.autograd.grad(f(states, moves).sum(), (states, moves))
        torch.testing.assert_close(marginals[0, :, :2], two.mean_parameters.marginals)
        assert float(marginals[0, :, 2].abs().max()) == 0
        for gradient in (marginals[1], pairs[1], pairs[0, :, 2], pairs[0, :, :, 2]):
            assert float(gradient.abs().max()) == 0
