"""The autoregressive distribution: against enumeration, and against its net asked for one value after the other."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import jensen.likelihoods.autoregressive as module
from jensen.autoencoders import Decoder
from jensen.config import AutoregressiveConfig
from jensen.likelihoods import Autoregressive, AutoregressiveLikelihood, make_autoregressive_likelihood
from jensen.likelihoods.levels import OnLevels
from jensen.nn.autoregressive import AutoregressiveNet, make_autoregressive

Net = AutoregressiveNet[Any]
KINDS = ("pixelcnn", "transformer")


def net_of(shape: tuple[int, ...], levels: int, context: int = 0, kind: str = "pixelcnn", seed: int = 0) -> Net:
    """A small net in float64 that says something: its weights are far from those it starts with."""
    net = make_autoregressive(AutoregressiveConfig(kind=kind, width=8, depth=2), shape, levels, context).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


def every(shape: tuple[int, ...], levels: int) -> Tensor:
    """All data that there are, (levels ** values, *shape) int64."""
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape)


@torch.no_grad()
def naive(net: Net, rows: Tensor, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
    """log p of each value of integers (rows, *shape), by the way that draws go."""
    state = net.begin(len(rows), context)
    order = rows.movedim(1, -1)
    found = []
    for value in order.flatten(1).T:
        logits = net.logits(state) / temperature
        found.append(logits.log_softmax(-1).gather(-1, value[:, None])[:, 0])
        net.feed(state, value)
    return torch.stack(found, -1).view(order.shape).movedim(-1, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [True, False])
def test_a_grid_of_four_values_sums_to_one(kind: str, unit: bool) -> None:
    data = every((1, 2, 2), 3)
    context = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    distribution = Autoregressive(net_of((1, 2, 2), 3, 3, kind), context, unit=unit)
    log_prob = distribution.log_prob((data / 2 if unit else data)[:, None]).sum((-3, -2, -1))
    assert log_prob.shape == (81, 2)
    assert log_prob.std() > 0.1
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(2, dtype=torch.float64))
    assert (log_prob[:, 0] - log_prob[:, 1]).abs().max() > 0.1  # the context tells


def test_two_latent_values_of_a_decoder() -> None:
    """p(x | z) through the decoder sums to one for each z, and is that of the net told the decoder's planes."""
    net = net_of((1, 2, 2), 3, 2)
    likelihood = AutoregressiveLikelihood(net, 2)
    linear = nn.Linear(2, 8).double()
    decoder = Decoder(nn.Sequential(linear, nn.Unflatten(1, (2, 2, 2))), likelihood, (1, 2, 2))
    z = torch.randn(2, 2, dtype=torch.float64)
    data = every((1, 2, 2), 3)
    log_prob = decoder(z).log_prob(data[:, None] / 2).sum((-3, -2, -1))
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(2, dtype=torch.float64))
    for i in range(2):
        planes = linear(z[i]).view(1, 2, 2, 2).expand(81, -1, -1, -1)
        torch.testing.assert_close(log_prob[:, i], naive(net, data, planes).sum((-3, -2, -1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 2, 3), (1, 7), (2, 5)])
def test_log_prob_is_that_of_one_value_after_the_other(kind: str, shape: tuple[int, ...]) -> None:
    net = net_of(shape, 4, 2, kind)
    x = torch.randint(4, (1, 5, *shape))
    context = torch.randn(2, 1, 2, *shape[1:], dtype=torch.float64)  # samples lead; the same for all data
    distribution = Autoregressive(net, context, (2, 5))
    assert distribution.batch_shape == (2, 5, *shape)
    assert distribution.event_shape == ()
    found = distribution.log_prob(x)
    assert found.shape == (2, 5, *shape)
    for i in range(2):
        expected = naive(net, x[0], context[i].expand(5, *context.shape[2:]))
        torch.testing.assert_close(found[i], expected)


def test_shapes_broadcast_as_those_of_independent_values() -> None:
    net = net_of((1, 2, 2), 3)
    data = torch.randint(3, (6, 1, 2, 2))
    expected = naive(net, data)
    alone = Autoregressive(net, batch_shape=(4, 1))
    assert alone.batch_shape == (4, 1, 1, 2, 2)
    torch.testing.assert_close(alone.log_prob(data), expected.expand(4, 6, 1, 2, 2))
    assert alone.log_prob(data[0]).shape == (4, 1, 1, 2, 2)
    assert alone.sample((5,)).shape == (5, 4, 1, 1, 2, 2)
    ones = torch.ones((), dtype=torch.int64)
    torch.testing.assert_close(Autoregressive(net).log_prob(ones), naive(net, ones.expand(1, 1, 2, 2))[0])
    context = torch.randn(3, 2, 1, 1, dtype=torch.float64)  # the same at every place
    told = Autoregressive(net_of((1, 2, 2), 3, 2), context, (5, 3))
    assert told.log_prob(data[:5, None]).shape == (5, 3, 1, 2, 2)
    for i in range(3):
        found = told.log_prob(data[:5, None])[:, i]
        torch.testing.assert_close(found, naive(told.net, data[:5], context[i].expand(5, 2, 1, 1)))


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net = net_of((1, 2, 3), 3, 2)
    distribution = Autoregressive(net, torch.randn(3, 1, 2, 2, 3, dtype=torch.float64))
    x = torch.randint(3, (7, 1, 2, 3))
    whole = distribution.log_prob(x)
    assert whole.requires_grad
    sizes: list[int] = []
    handle = net.register_forward_pre_hook(lambda net, inputs: sizes.append(len(inputs[0])))
    for limit, most in (("VALUES_AT_ONCE", 5), ("LOGITS_AT_ONCE", 2)):
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(module, limit, 36 if limit == "LOGITS_AT_ONCE" else 30)
            torch.testing.assert_close(distribution.log_prob(x), whole)
        assert max(sizes) == most
        assert sum(sizes) == 21
        sizes.clear()
    handle.remove()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_frequencies_of_draws_against_enumeration(kind: str, temperature: float) -> None:
    net = net_of((1, 2, 2), 3, 1, kind)
    context = torch.tensor([-0.5, 0.5], dtype=torch.float64).view(2, 1, 1, 1)
    distribution = Autoregressive(net, context, unit=True)
    n = 10_000
    draws = distribution.sample((n,)) if temperature == 1 else distribution.draw((n,), temperature=temperature)
    assert draws.shape == (n, 2, 1, 2, 2)
    assert draws.dtype == torch.float64
    digits = (draws * 2).round().long().flatten(-3)
    data = every((1, 2, 2), 3)
    for i in range(2):
        counts = torch.bincount((digits[:, i] * torch.tensor([27, 9, 3, 1])).sum(-1), minlength=81).numpy()
        expected = n * naive(net, data, context[i].expand(81, 1, 1, 1), temperature).sum((-3, -2, -1)).exp().numpy()
        rare = expected < 5
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum() + 1e-9)
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3


def test_the_most_probable_value_each_time() -> None:
    net = net_of((2, 2, 2), 4)
    state, greedy = net.begin(1), []
    for _ in range(8):
        greedy.append(net.logits(state).argmax(-1))
        net.feed(state, greedy[-1])
    expected = torch.stack(greedy).view(2, 2, 2).movedim(-1, 0)
    distribution = Autoregressive(net, batch_shape=(3,))
    for choice in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        assert torch.equal(distribution.draw((2,), **choice), expected.expand(2, 3, 2, 2, 2))
    with pytest.raises(ValueError, match="top_k"):
        distribution.draw(top_k=0)


def test_draws_are_reproducible_and_leave_the_net_as_it_was() -> None:
    net = make_autoregressive(AutoregressiveConfig(width=8, depth=2, dropout=0.5), (1, 3, 3), 4)
    assert net.training
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(Autoregressive(net).sample((4,)))
    assert torch.equal(*draws)
    assert net.training
    assert not torch.equal(draws[0], Autoregressive(net).sample((4,)))


def test_scores_are_in_single_precision_or_wider() -> None:
    net = make_autoregressive(AutoregressiveConfig(width=8, depth=2), (1, 3, 3), 4, 1)
    x, context = torch.randint(4, (2, 1, 3, 3)), torch.randn(2, 1, 3, 3)
    expected = Autoregressive(net, context).log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = Autoregressive(net, context.bfloat16()).log_prob(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_a_net_that_knows_nothing_costs_log_k() -> None:
    net = net_of((1, 3, 3), 7)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    log_prob = Autoregressive(net, unit=True).log_prob(torch.randint(7, (5, 1, 3, 3)) / 6)
    torch.testing.assert_close(log_prob, torch.full_like(log_prob, -math.log(7)))


def test_support() -> None:
    net = net_of((1, 2, 2), 3)
    integers, unit = Autoregressive(net).support, Autoregressive(net, unit=True).support
    assert integers.is_discrete
    assert unit.is_discrete
    assert integers.check(torch.tensor([-1, 0, 2, 3])).tolist() == [False, True, True, False]
    assert isinstance(unit, OnLevels)
    assert unit.check(torch.tensor([-0.5, 0.0, 0.3, 0.5, 1.0, 1.5])).tolist() == [False, True, False, True, True, False]


def test_what_is_impossible() -> None:
    told, alone = net_of((1, 2, 2), 3, 2), net_of((1, 2, 2), 3)
    with pytest.raises(ValueError, match="needs a context of 2 channels"):
        Autoregressive(told)
    with pytest.raises(ValueError, match="context should be none"):
        Autoregressive(alone, torch.zeros(1, 1, 2, 2))
    for wrong in ((3, 2, 2), (2, 2, 3), (2, 2), (2,)):
        with pytest.raises(ValueError, match=r"context should be \(\.\.\., 2, 2, 2\), or 1 along the grid"):
            Autoregressive(told, torch.zeros(wrong))
    for low, name in ((torch.tensor(-1), "-1"), (torch.tensor(3), "3")):
        with pytest.raises(ValueError, match=rf"values should be 0 \.\. 2, got {name}"):
            Autoregressive(alone).log_prob(low)
    with pytest.raises(ValueError, match="should be integers"):
        Autoregressive(alone).log_prob(torch.tensor(0.5))
    for value in (0.3, -0.5, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"values should be k / 2 with k in 0 \.\. 2, but one is"):
            Autoregressive(alone, unit=True).log_prob(torch.tensor(value))
    with pytest.raises(ValueError, match="2 planes for each of 1 channels need a net with context 2, got 0"):
        AutoregressiveLikelihood(alone, 2)
    with pytest.raises(ValueError, match=r"about data of shape \(1, 2, 2\), got \(1, 4\)"):
        AutoregressiveLikelihood(told, 2).of_planes(torch.zeros(2, 4), (1, 4))


def test_a_likelihood_without_a_decoder() -> None:
    likelihood = make_autoregressive_likelihood((1, 2, 2), 3, AutoregressiveConfig(width=8, depth=1))
    assert (likelihood.channels, likelihood.levels, likelihood.discrete) == (0, 3, True)
    data = every((1, 2, 2), 3)
    with torch.no_grad():
        total = likelihood().log_prob(data / 2).sum((-3, -2, -1)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)
    told = make_autoregressive_likelihood((1, 4), 3, AutoregressiveConfig(width=8, depth=1), context=5)
    assert told.given(torch.randn(2, 5, 1)).sample().shape == (2, 1, 4)
