"""One battery over autoregressive nets: order, probabilities, incremental against full, and what they can learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jensen.config import AutoregressiveConfig
from jensen.nn import AutoregressiveNet, CodeTransformer, GatedPixelCNN, make_autoregressive
from jensen.nn.autoregressive.channels import ChannelLogits

Net = AutoregressiveNet[Any]
Make = Callable[..., Net]
NETS: dict[str, Make] = {
    "pixelcnn": lambda shape, levels=3, context=0, **more: GatedPixelCNN(
        shape, levels, **{"width": 8, "depth": 4, "context": context, **more}
    ),
    "transformer": lambda shape, levels=3, context=0, **more: CodeTransformer(
        shape, levels, **{"width": 8, "depth": 2, "heads": 2, "context": context, **more}
    ),
}
SHAPES = [(1, 3, 4), (1, 4, 3), (3, 2, 3), (1, 5), (2, 4), (1, 1, 4), (2, 3, 1), (1, 1, 1)]
TRAINING = 120
"""steps of training, on batches of 128"""
both = pytest.mark.parametrize("make", NETS.values(), ids=NETS)


def strong(net: Net) -> Net:
    """In float64, its logits far from equal."""
    for module in net.modules():
        if isinstance(module, ChannelLogits):
            torch.nn.init.normal_(module.weight, std=0.5)
            torch.nn.init.normal_(module.bias, std=0.5)
    return net.double()


def context_for(net: Net, rows: int, everywhere: bool = False) -> Tensor | None:
    if not net.context:
        return None
    grid = [1] * (len(net.shape) - 1) if everywhere else net.shape[1:]
    return torch.randn(rows, net.context, *grid, dtype=torch.float64)


def in_order(x: Tensor, dims: int) -> Tensor:
    """(batch, channels, *grid, ...) with `dims` dimensions of the grid to (batch, sequence, ...), as one reads."""
    return x.movedim(1, 1 + dims).flatten(1, 1 + dims)


def log_prob(net: Net, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Nats of each row, (batch,)."""
    return net(x, context).log_softmax(-1).gather(-1, x[..., None]).flatten(1).sum(1)


def every_grid(shape: tuple[int, ...], levels: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape)


@both
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_jacobian_is_causal_and_has_no_blind_spot(make: Make, shape: tuple[int, ...], context: int) -> None:
    net = strong(make(shape, context=context))
    leaves: list[Tensor] = []

    def capture(module: object, inputs: object, out: Tensor) -> Tensor:
        leaves.append(out.detach().requires_grad_())
        return leaves[-1]

    hook = net.embedding.register_forward_hook(capture)
    logits = in_order(net(torch.randint(3, (1, *shape)), context_for(net, 1)), len(shape) - 1)[0]
    hook.remove()
    weights = torch.randn(3, dtype=torch.float64)
    for i, factor in enumerate(logits):
        (gradient,) = torch.autograd.grad((factor * weights).sum(), leaves, retain_graph=True, materialize_grads=True)
        reached = gradient.flatten(0, -2).abs().sum(1) > 0  # the embedding's output is in the order of reading
        assert reached.tolist() == [j < i for j in range(len(logits))]


@both
@pytest.mark.parametrize("shape", SHAPES[:5])
def test_another_value_changes_what_follows_and_nothing_before(make: Make, shape: tuple[int, ...]) -> None:
    net = strong(make(shape, context=1))
    context = context_for(net, 1)
    x = torch.randint(3, (1, *shape))
    length = math.prod(shape)
    channels, *grid = shape
    with torch.no_grad():
        before = in_order(net(x, context), len(grid))[0]
        for j in range(length):
            sequence = in_order(x, len(grid)).clone()
            sequence[0, j] = (sequence[0, j] + 1) % 3
            other = sequence.view(1, *grid, channels).movedim(-1, 1)
            change = (in_order(net(other, context), len(grid))[0] - before).abs().amax(1)
            assert change[: j + 1].max() < 1e-13
            assert (change[j + 1 :] > 1e-9).all()


@both
@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 2), (1, 4), (4, 1, 1)])
@pytest.mark.parametrize("context", [0, 2])
def test_probabilities_of_all_grids_sum_to_one(make: Make, shape: tuple[int, ...], context: int) -> None:
    net = strong(make(shape, context=context))
    x = every_grid(shape, 3)
    assert len(x) == 81
    told = context_for(net, 1)
    with torch.no_grad():
        log_p = log_prob(net, x, None if told is None else told.expand(len(x), *told.shape[1:]))
    assert torch.logsumexp(log_p, 0).abs() < 1e-12
    assert log_p.std() > 0.3  # no uniform distribution, of which it would be easy


@both
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("shape", [*SHAPES, (1, 8, 8), (1, 30)])
def test_incremental_equals_full(make: Make, shape: tuple[int, ...], context: int, everywhere: bool) -> None:
    net = strong(make(shape, context=context))
    x, told = torch.randint(3, (2, *shape)), context_for(net, 2, everywhere)
    with torch.no_grad():
        expected = in_order(net(x, told), len(shape) - 1)
        state = net.begin(2, told)
        for i, value in enumerate(in_order(x, len(shape) - 1).unbind(1)):
            torch.testing.assert_close(net.logits(state), expected[:, i], rtol=0, atol=1e-10)
            torch.testing.assert_close(net.logits(state), expected[:, i], rtol=0, atol=1e-10)  # asking changes nothing
            net.feed(state, value)
        with pytest.raises(ValueError, match="values are there"):
            net.logits(state)
        with pytest.raises(ValueError, match="values are there"):
            net.feed(state, x.flatten(1)[:, 0])


@both
def test_rows_do_not_see_each_other(make: Make) -> None:
    net = strong(make((2, 2, 2), context=1))
    x, told = torch.randint(3, (5, 2, 2, 2)), context_for(net, 5)
    assert told is not None
    with torch.no_grad():
        together = net(x, told)
        state = net.begin(5, told)
        alone = [net.begin(1, told[i : i + 1]) for i in range(5)]
        torch.testing.assert_close(together, torch.cat([net(x[i : i + 1], told[i : i + 1]) for i in range(5)]))
        for value in in_order(x, 2).unbind(1):
            torch.testing.assert_close(net.logits(state), torch.cat([net.logits(one) for one in alone]))
            net.feed(state, value)
            for i, one in enumerate(alone):
                net.feed(one, value[i : i + 1])


@both
@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 5)])
def test_context_everywhere_is_the_same_in_every_place_and_reaches_every_factor(
    make: Make, shape: tuple[int, ...]
) -> None:
    net = strong(make(shape, context=3))
    x, told = torch.randint(3, (2, *shape)), context_for(net, 2, everywhere=True)
    assert told is not None
    logits = net(x, told.requires_grad_())
    torch.testing.assert_close(logits, net(x, told.expand(-1, -1, *shape[1:])))
    for factor in logits.flatten(0, -2):
        (gradient,) = torch.autograd.grad((factor * torch.randn_like(factor)).sum(), told, retain_graph=True)
        assert ((gradient != 0).all(1).sum()) == 1  # of its own row, and of no other


@both
@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 2, 2), (2, 6)])
def test_every_weight_learns(make: Make, shape: tuple[int, ...]) -> None:
    net = strong(make(shape, context=2))
    x = torch.randint(3, (64, *shape))
    log_prob(net, x, context_for(net, 64)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.flatten(1 if "embedding" in name else 0).abs().sum(-1).gt(0).all(), name


@both
def test_untrained_net_is_near_uniform_and_dropout_is_of_training_alone(make: Make) -> None:
    x = torch.randint(64, (32, 1, 5, 5))
    net = make((1, 5, 5), 64, dropout=0.5, width=32)
    with torch.no_grad():
        assert (-log_prob(net.eval(), x).mean() / 25 - math.log(64)).abs() < 0.1
        assert torch.equal(net(x), net(x))
        assert not torch.allclose(net.train()(x), net(x))


@both
def test_dropout_keeps_the_order(make: Make) -> None:
    net = make((1, 3, 3), 3, dropout=0.5).double()
    x = torch.zeros(1, 1, 3, 3, dtype=torch.int64)
    other = x.clone()
    other[0, 0, 1, 1] = 1
    logits = []
    for values in (x, other):
        torch.manual_seed(1)
        logits.append(net(values).detach().flatten(1, 3)[0])
    change = (logits[1] - logits[0]).abs().amax(1)
    assert change[:5].max() < 1e-13
    assert change[5:].max() > 1e-6


@both
def test_a_chain_is_learned_up_to_its_entropy(make: Make) -> None:
    """1-D: x_i | x_(i - 1) from a known matrix; a net that is trained a little is within 0.005 nats a value."""
    steps = torch.tensor([[0.8, 0.1, 0.1], [0.05, 0.05, 0.9], [0.3, 0.6, 0.1]], dtype=torch.float64)
    length = 8

    def source(n: int) -> tuple[Tensor, Tensor]:
        values = [torch.randint(3, (n,))]
        for _ in range(length - 1):
            values.append(torch.multinomial(steps[values[-1]], 1)[:, 0])
        x = torch.stack(values, 1)
        return x[:, None], steps.log()[x[:, :-1], x[:, 1:]].sum(1) - math.log(3)

    state = torch.full((3,), 1 / 3, dtype=torch.float64)
    entropy = math.log(3)
    for _ in range(length - 1):
        entropy -= float((state[:, None] * steps * steps.log()).sum())
        state = state @ steps
    _check_source(make((1, length), 3, width=16, depth=2), source, entropy)


@both
def test_a_field_of_columns_is_learned_up_to_its_entropy(make: Make) -> None:
    """2-D: x_ij | x_(i - 1)j from a known matrix, the top row uniform: what is above is a row away in the order."""
    steps = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]], dtype=torch.float64)
    side = 4

    def source(n: int) -> tuple[Tensor, Tensor]:
        rows = [torch.randint(3, (n, side))]
        for _ in range(side - 1):
            rows.append(torch.multinomial(steps[rows[-1].flatten()], 1).view(n, side))
        x = torch.stack(rows, 1)
        return x[:, None], steps.log()[x[:, :-1], x[:, 1:]].sum((1, 2)) - side * math.log(3)

    state = torch.full((3,), 1 / 3, dtype=torch.float64)
    entropy = side * math.log(3)
    for _ in range(side - 1):
        entropy -= side * float((state[:, None] * steps * steps.log()).sum())
        state = state @ steps
    _check_source(make((1, side, side), 3, width=16, depth=2), source, entropy)


@both
def test_channels_of_a_place_are_learned_up_to_their_entropy(make: Make) -> None:
    """Three channels: uniform, uniform, and mostly the larger of the two, a function of both that is not linear."""
    sure = 0.9
    log_p = torch.tensor([sure, (1 - sure) / 2, (1 - sure) / 2], dtype=torch.float64).log()

    def source(n: int) -> tuple[Tensor, Tensor]:
        first, second = torch.randint(3, (2, n, 2))
        wrong = torch.multinomial(log_p.exp(), n * 2, replacement=True).view(n, 2)
        x = torch.stack([first, second, (torch.maximum(first, second) + wrong) % 3], 1)
        return x, (log_p[wrong] - 2 * math.log(3)).sum(1)

    entropy = 2 * (2 * math.log(3) - float((log_p * log_p.exp()).sum()))
    _check_source(make((3, 2), 3, width=16, depth=2), source, entropy)


def _check_source(net: Net, source: Callable[[int], tuple[Tensor, Tensor]], entropy: float) -> None:
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, TRAINING)
    for _ in range(TRAINING):
        loss = -log_prob(net, source(128)[0]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    x, log_p = source(4_000)
    with torch.no_grad():
        excess = (log_p - log_prob(net, x)) / math.prod(net.shape)  # a value; its mean is KL(source || net)
    error = float(log_p.std() / math.sqrt(len(x)))
    assert abs(float(-log_p.mean()) - entropy) < 5 * error  # the test's own source
    noise = float(excess.std() / math.sqrt(len(x)))
    assert -4 * noise < float(excess.mean()) < 0.005


@pytest.mark.parametrize("kind", ["pixelcnn", "transformer"])
def test_built_from_a_configuration(kind: Any) -> None:
    net = make_autoregressive(AutoregressiveConfig(kind=kind, width=16, depth=3, dropout=0.1), (2, 4, 4), 7, 5)
    assert isinstance(net, GatedPixelCNN if kind == "pixelcnn" else CodeTransformer)
    assert (net.shape, net.levels, net.context, len(net.layers)) == ((2, 4, 4), 7, 5, 3)
    assert net.embedding.weight.shape == (2, 7, 16)
    assert net(torch.zeros(1, 2, 4, 4, dtype=torch.int64), torch.zeros(1, 5, 1, 1)).shape == (1, 2, 4, 4, 7)


@both
def test_what_does_not_fit_is_refused(make: Make) -> None:
    net, told = make((1, 2, 3)), make((1, 2, 3), context=2)
    x = torch.zeros(4, 1, 2, 3, dtype=torch.int64)
    for wrong in (x[:, 0], x.float(), x[..., :2]):
        with pytest.raises(ValueError, match=r"expected int64 values of \(batch, 1x2x3\)"):
            net(wrong)
    with pytest.raises(IndexError):
        net(x + 3)
    with pytest.raises(ValueError, match="made without a context"):
        net.begin(4, torch.zeros(4, 1, 1, 1))
    with pytest.raises(ValueError, match="needs a context of 2 channels"):
        told(x)
    for size in ((4, 1, 1, 1), (3, 2, 1, 1), (4, 2, 3, 2), (4, 2), (4, 2, 1)):
        with pytest.raises(ValueError, match=r"expected a context of \(4, 2, 2, 3\)"):
            told(x, torch.zeros(size))
    for shape in ((3,), (1, 2, 3, 4), (1, 0, 2)):
        with pytest.raises(ValueError, match=r"expected a shape \(channels, length\)"):
            make(shape)
    with pytest.raises(ValueError, match="levels should be at least 1"):
        make((1, 2, 2), 0)
    with pytest.raises(ValueError, match="depth"):
        make((1, 2, 2), depth=0)
