"""Draws of autoregressive nets against the probabilities that the full forward gives, all enumerated."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from jensen.nn import AutoregressiveNet, CodeTransformer, GatedPixelCNN
from jensen.nn.autoregressive import draw, sampling
from jensen.nn.autoregressive.channels import ChannelLogits
from jensen.nn.autoregressive.sampling import restrict

Net = AutoregressiveNet[Any]
KINDS = ["pixelcnn", "transformer"]
both = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, shape: tuple[int, ...] = (1, 2, 2), levels: int = 3, context: int = 0) -> Net:
    """A small net with logits far from equal."""
    if kind == "pixelcnn":
        net: Net = GatedPixelCNN(shape, levels, width=8, depth=3, context=context)
    else:
        net = CodeTransformer(shape, levels, width=8, depth=2, heads=2, context=context)
    for module in net.modules():
        if isinstance(module, ChannelLogits):
            torch.nn.init.normal_(module.weight, std=0.4)
    return net


@torch.no_grad()
def table(net: Net, context: Tensor | None = None, temperature: float = 1.0, **restricted: Any) -> Tensor:
    """Probability of each of the grids of 4 values from 0, 1, 2; digits in the order of reading."""
    channels, *grid = net.shape
    digits = torch.tensor(list(itertools.product(range(3), repeat=4)))
    x = digits.view(81, *grid, channels).movedim(-1, 1)
    logits = net(x, None if context is None else context.expand(81, *context.shape[1:])).double()
    log_p = restrict(logits, temperature, **restricted).log_softmax(-1)
    return log_p.gather(-1, x[..., None]).flatten(1).sum(1).exp()


def counts(x: Tensor) -> Tensor:
    digits = x.movedim(1, -1).flatten(1)
    return torch.bincount(digits @ torch.tensor([27, 9, 3, 1]), minlength=81)


def p_value(observed: Tensor, probabilities: Tensor) -> float:
    """Of a chi-square test; rare grids counted together, impossible ones not drawn at all."""
    assert observed[probabilities == 0].sum() == 0
    expected = probabilities * observed.sum()
    rare = expected < 5
    pairs = [(observed[~rare], expected[~rare])]
    if expected[rare].sum() >= 5:
        pairs.append((observed[rare].sum()[None], expected[rare].sum()[None]))
    f = torch.cat([one for one, _ in pairs]).double()
    g = torch.cat([one for _, one in pairs])
    return float(scipy.stats.chisquare(f, g * f.sum() / g.sum()).pvalue)


@both
@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 2), (2, 1, 2)])
def test_frequencies_are_the_probabilities(kind: str, shape: tuple[int, ...]) -> None:
    net = make(kind, shape)
    probabilities = table(net)
    assert probabilities.sum() == pytest.approx(1, abs=1e-9)
    observed = counts(draw(net, 8_000))
    assert p_value(observed, probabilities) > 1e-3
    assert p_value(observed, torch.full((81,), 1 / 81, dtype=torch.float64)) < 1e-6  # the test can tell


@both
@pytest.mark.parametrize(
    "restricted", [{"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.7}, {"temperature": 1.5, "top_k": 2, "top_p": 0.6}]
)
def test_frequencies_are_those_of_the_restricted_factors(kind: str, restricted: dict[str, Any]) -> None:
    net = make(kind)
    probabilities = table(net, **restricted)
    assert probabilities.sum() == pytest.approx(1, abs=1e-9)
    observed = counts(draw(net, 8_000, **restricted))
    assert p_value(observed, probabilities) > 1e-3
    assert ((table(net) - probabilities).abs().sum() / 2) > 0.02  # what was asked for matters


@both
def test_each_row_follows_its_own_context(kind: str) -> None:
    net = make(kind, context=2)
    told = 2 * torch.eye(2)[torch.arange(12_000) % 2][..., None, None]
    x = draw(net, 12_000, told)
    tables = [table(net, told[i : i + 1]) for i in range(2)]
    for i in range(2):
        assert p_value(counts(x[i::2]), tables[i]) > 1e-3
    assert ((tables[0] - tables[1]).abs().sum() / 2) > 0.1
    assert p_value(counts(x[::2]), tables[1]) < 1e-6


@both
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 9)])
def test_top_k_of_one_is_the_greedy_sequence(kind: str, shape: tuple[int, ...]) -> None:
    net = make(kind, shape, 6, context=1).eval()
    told = torch.randn(5, 1, *shape[1:])
    x = torch.zeros(5, *shape, dtype=torch.int64)
    places = list(itertools.product(*(range(size) for size in shape[1:])))
    with torch.no_grad():
        for place in places:
            for channel in range(shape[0]):
                at = (slice(None), channel, *place)
                x[at] = net(x, told)[at].argmax(-1)
    assert len(x.flatten(1).unique(dim=0)) > 1
    assert torch.equal(draw(net, 5, told, top_k=1), x)
    assert torch.equal(draw(net, 5, told, top_p=1e-6), x)


def kept(logits: Tensor, **restricted: Any) -> list[int]:
    return restrict(logits, **restricted).isfinite().nonzero().flatten().tolist()


def test_restrict_keeps_the_right_values() -> None:
    logits = torch.tensor([0.05, 0.5, 0.15, 0.3], dtype=torch.float64).log()
    assert kept(logits, top_k=1) == [1]
    assert kept(logits, top_k=3) == [1, 2, 3]
    assert kept(logits, top_k=4) == [0, 1, 2, 3]
    assert kept(logits, top_p=0.49) == [1]
    assert kept(logits, top_p=0.51) == [1, 3]
    assert kept(logits, top_p=0.79) == [1, 3]
    assert kept(logits, top_p=0.81) == [1, 2, 3]
    assert kept(logits, top_p=1.0) == [0, 1, 2, 3]
    # Squared and normalised: 0.685, 0.247, 0.062, 0.007.
    assert kept(logits, top_p=0.6, temperature=0.5) == [1]
    # Of the two that top_k leaves, the first has 0.625.
    assert kept(logits, top_p=0.6) == [1, 3]
    assert kept(logits, top_p=0.6, top_k=2) == [1]
    torch.testing.assert_close(restrict(logits, 0.5), logits * 2)


def test_top_p_is_the_smallest_set() -> None:
    logits = torch.randn(30, 6, dtype=torch.float64) * 2
    for row in logits:
        probabilities = row.softmax(-1)
        for p in (0.1, 0.5, 0.9, 0.99):
            every = (set(s) for k in range(1, 7) for s in itertools.combinations(range(6), k))
            enough = [s for s in every if probabilities[list(s)].sum() >= p]
            smallest = min(enough, key=lambda s: (len(s), -float(probabilities[list(s)].sum())))
            assert set(kept(row, top_p=p)) == smallest
    together = restrict(logits, top_p=0.5)
    assert torch.equal(together, torch.stack([restrict(row, top_p=0.5) for row in logits]))


def test_equal_logits_leave_top_k_of_them() -> None:
    assert restrict(torch.zeros(3, 8), top_k=2).isfinite().sum(1).tolist() == [2, 2, 2]
    assert restrict(torch.zeros(8, dtype=torch.bfloat16)).dtype == torch.float32


@both
def test_lower_temperature_is_sharper(kind: str) -> None:
    net = make(kind)
    entropies = []
    for temperature in (0.2, 1.0, 5.0):
        shares = counts(draw(net, 4_000, temperature=temperature)) / 4_000
        entropies.append(float(torch.special.entr(shares).sum()))
    assert entropies[0] + 0.5 < entropies[1] < entropies[2] - 0.1


@both
def test_portions_are_as_good_as_all_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = make(kind, (1, 3, 3), 5, context=2)
    told = torch.randn(20, 2, 3, 3)
    expected = draw(net, 20, told, top_k=1)
    begun: list[int] = []
    begin = type(net).begin

    def counted(self: Net, batch: int, context: Tensor | None = None) -> Any:
        begun.append(batch)
        return begin(self, batch, context)  # type: ignore[arg-type]

    monkeypatch.setattr(type(net), "begin", counted)
    monkeypatch.setattr(sampling, "NUMBERS_AT_ONCE", 7 * (net.state_size + 4 * 5 + 9))
    calls: list[tuple[int, int]] = []
    drawn = draw(net, 20, told, top_k=1, progress=lambda done, all_: calls.append((done, all_)))
    assert begun == [7, 7, 6]
    assert torch.equal(drawn, expected)
    assert calls[-1] == (180, 180)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


@both
def test_state_size_bounds_what_a_state_keeps(kind: str) -> None:
    """Within a factor of 4, whatever the sizes; counted when the last value but one is there."""
    for shape, context in (((1, 8, 8), 0), ((2, 5, 7), 3), ((1, 40), 0)):
        net = make(kind, shape, context=context)
        with torch.no_grad():
            state = net.begin(1, torch.zeros(1, context, *[1] * (len(shape) - 1)) if context else None)
            for _ in range(torch.Size(shape).numel() - 1):
                net.feed(state, torch.zeros(1, dtype=torch.int64))
        memories = [state] if kind == "transformer" else state.layers
        lists = [
            getattr(one, name)
            for one in memories
            for name in ("keys", "values", "above", "row", "given")
            if hasattr(one, name)
        ]
        tensors = [tensor for one in lists for tensor in (one if isinstance(one, list) else [one])]
        numbers = sum(tensor.numel() for tensor in tensors)
        assert net.state_size / 4 < numbers <= net.state_size


@both
def test_modes_are_as_they_were_also_after_an_error(kind: str) -> None:
    net = make(kind, context=1)
    net.train()
    frozen = next(iter(net.children()))
    frozen.eval()
    seen: list[bool] = []

    def stop(done: int, all_: int) -> None:
        seen.append(any(module.training for module in net.modules()))
        if done > 3:
            raise KeyboardInterrupt

    told = torch.zeros(3, 1, 1, 1)
    x = draw(net, 3, told)
    assert (x.shape, x.dtype) == ((3, 1, 2, 2), torch.int64)
    with pytest.raises(KeyboardInterrupt):
        draw(net, 3, told, progress=stop)
    assert seen == [False, False]
    assert all(module.training == (module is not frozen) for module in net.modules())
    assert torch.is_grad_enabled()


@both
def test_draws_in_bfloat16(kind: str) -> None:
    net = make(kind, (2, 3, 3), 5, context=1)
    told = torch.randn(32, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        x = draw(net, 32, told, top_k=1)
    # Rounding turns what is nearly a tie, and then all that follows: most rows are those of float32.
    assert (x == draw(net, 32, told, top_k=1)).flatten(1).all(1).float().mean() > 0.5


def test_options_are_checked() -> None:
    net, told = make("pixelcnn"), make("pixelcnn", context=2)
    for options, message in (
        ({"n": 0}, "n should be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature should be above 0, got 0.0"),
        ({"temperature": float("nan")}, "temperature should be above 0"),
        ({"top_k": 0}, "top_k should be from 1 to the 3 values that there are, got 0"),
        ({"top_k": 4}, "top_k should be from 1 to the 3"),
        ({"top_p": 0.0}, "top_p should be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.1}, "top_p should be above 0 and at most 1"),
        ({"context": torch.zeros(2, 1, 1, 1)}, "made without a context"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(net, **{"n": 2, **options})
    with pytest.raises(ValueError, match="needs a context of 2 channels"):
        draw(told, 3)
    with pytest.raises(ValueError, match=r"expected a context of \(3, 2, 2, 2\)"):
        draw(told, 3, torch.zeros(2, 2, 1, 1))
