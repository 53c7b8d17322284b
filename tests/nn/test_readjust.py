"""Statistics of batch normalisation against those of all data at once, and back again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from jensen.autoencoders.model import compile_net
from jensen.nn.readjust import readjusted


def feed(net: nn.Module, batches: list[Tensor]) -> Callable[[], object]:
    """Runs the net on one batch after another, again from the first after the last."""
    queue: Iterator[Tensor] = itertools.cycle(batches)
    return lambda: net(next(queue))


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def trained() -> nn.Sequential:
    """A net with statistics and modes that are no defaults."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 3, 1))
    net.append(nn.BatchNorm2d(3, momentum=None))
    for _ in range(3):
        net(torch.randn(5, 2, 6, 6))
    net.eval()
    net[1].train()
    return net


@pytest.mark.parametrize("sizes", [(40,), (7, 30, 2, 11), (2,) * 50])
@pytest.mark.parametrize(("layer", "places"), [(nn.BatchNorm1d(3), ()), (nn.BatchNorm1d(3), (4,))])
def test_statistics_are_those_of_all_data_at_once(
    layer: nn.BatchNorm1d, places: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """Batches of unlike sizes, means and scales: the mean of their variances would miss most of it."""
    batches = [torch.randn(n, 3, *places) * (1 + i % 3) + 5 * (i % 4) for i, n in enumerate(sizes)]
    every = torch.cat(batches).double().movedim(1, 0).flatten(1)
    with readjusted(layer, feed(layer, batches), batches=len(batches)):
        torch.testing.assert_close(layer.running_mean, every.mean(1).float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(layer.running_var, every.var(1).float(), rtol=1e-5, atol=1e-5)


def test_as_the_layer_itself_would_have_it_of_one_batch() -> None:
    x = torch.randn(6, 4, 5, 5) * 3 + 1
    layer, own = nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=1.0)
    own(x)
    with readjusted(layer, lambda: layer(x), batches=3):
        # Thrice the same data: the mean is the same, and the variance but for its n / (n - 1).
        torch.testing.assert_close(layer.running_mean, own.running_mean)
        torch.testing.assert_close(layer.running_var, own.running_var * (149 / 150) * (450 / 449))


def test_a_large_mean_does_not_drown_the_variance() -> None:
    layer = nn.BatchNorm1d(1)
    batches = [torch.randn(64, 1, dtype=torch.float64) * 0.1 + 1000 for _ in range(200)]
    with readjusted(layer, feed(layer, [batch.float() for batch in batches]), batches=200):
        assert layer.running_var.item() == pytest.approx(torch.cat(batches).var().item(), rel=1e-3)


def test_deeper_layers_see_what_the_batch_at_hand_makes_of_it() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3), nn.BatchNorm1d(3, affine=False))
    batches = [torch.randn(8, 2) * 4 + 7 for _ in range(5)]
    inner = torch.cat(
        [net[1]((batch - batch.mean(0)) / (batch.var(0, correction=0) + 1e-5).sqrt()) for batch in batches]
    )
    with readjusted(net.eval(), feed(net, batches), batches=5):
        torch.testing.assert_close(net[2].running_mean, inner.mean(0).detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(net[2].running_var, inner.var(0).detach(), rtol=1e-5, atol=1e-5)


def test_a_layer_used_twice_a_pass_pools_both() -> None:
    layer = nn.BatchNorm1d(2)
    first, second = torch.randn(9, 2), torch.randn(4, 2) + 3
    with readjusted(layer, lambda: (layer(first), layer(second)), batches=2):
        every = torch.cat([first, second] * 2)
        torch.testing.assert_close(layer.running_mean, every.mean(0))
        torch.testing.assert_close(layer.running_var, every.var(0))


def test_it_normalises_what_it_was_readjusted_to() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)).eval()
    x = torch.randn(200, 3) * 5 + 2
    assert net(x).std() > 1.2
    with readjusted(net, lambda: net(x[torch.randint(200, (50,))]), batches=40), torch.no_grad():
        made = net(x)
    torch.testing.assert_close(made.mean(0), torch.zeros(3), rtol=0, atol=0.1)
    torch.testing.assert_close(made.std(0), torch.ones(3), rtol=0, atol=0.1)


def test_everything_is_as_before_afterwards() -> None:
    net = trained()
    before, modes = state(net), [module.training for module in net.modules()]
    hooks = [len(module._forward_pre_hooks) for module in net.modules()]
    with readjusted(net, lambda: net(torch.randn(4, 2, 6, 6)), batches=3):
        assert not same(before, state(net))
        assert not any(module.training for module in net.modules())
    assert same(before, state(net))
    assert [module.training for module in net.modules()] == modes
    assert [len(module._forward_pre_hooks) for module in net.modules()] == hooks


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["run", "body"])
def test_an_exception_leaves_nothing_behind(error: type[BaseException], where: str) -> None:
    net = trained()
    before, modes = state(net), [module.training for module in net.modules()]
    calls = itertools.count()

    def run() -> None:
        net(torch.randn(4, 2, 6, 6))
        if where == "run" and next(calls) == 1:
            raise error

    def body() -> None:
        with readjusted(net, run, batches=3):
            assert where == "body"
            raise error

    with pytest.raises(error):
        body()
    assert same(before, state(net))
    assert [module.training for module in net.modules()] == modes
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_only_batch_normalisation_trains_and_nothing_has_gradients() -> None:
    net = trained()
    seen = []

    def run() -> None:
        out = net(torch.randn(4, 2, 6, 6))
        seen.append([module.training for module in net])
        assert not out.requires_grad

    with readjusted(net, run, batches=2):
        assert net(torch.randn(4, 2, 6, 6)).requires_grad
    assert seen == [[False, True, False, False, False, True]] * 2


def test_layers_that_are_not_reached_keep_their_statistics() -> None:
    net = trained()
    without = nn.BatchNorm1d(3, track_running_stats=False)
    before = state(net)
    with readjusted(nn.ModuleList([net, without]), lambda: net[1](torch.randn(3, 4, 2, 2)), batches=2):
        after = state(net)
        assert without.training
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_constant_features_have_variance_zero() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    x = torch.full((4, 2), 0.1)
    with readjusted(net, lambda: net(x), batches=5), torch.no_grad():
        assert (net[0].running_var < 1e-12).all()
        assert (net[0].running_var >= 0).all()
        assert torch.isfinite(net(x)).all()


def test_a_single_value_a_channel_is_refused_by_the_layer() -> None:
    layer = nn.BatchNorm1d(2)
    before = state(layer)
    with (
        pytest.raises(ValueError, match="more than 1 value per channel"),
        readjusted(layer, lambda: layer(torch.ones(1, 2))),
    ):
        pass
    assert same(before, state(layer))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_what_is_not_finite_is_named(bad: float) -> None:
    """The square of 1e30 is none that float32 has."""
    net = trained()
    before, modes = state(net), [module.training for module in net.modules()]
    x = torch.randn(4, 3, 2, 2)
    x[1, 2, 0, 1] = bad
    with pytest.raises(ValueError, match="the batch normalisation 5 had inputs"), readjusted(net, lambda: net[5](x)):
        pass
    assert same(before, state(net))
    assert [module.training for module in net.modules()] == modes


def test_a_net_without_batch_normalisation_is_not_run() -> None:
    with readjusted(nn.Linear(2, 2), lambda: pytest.fail("there is nothing to readjust")):
        pass


def test_there_are_batches() -> None:
    with (
        pytest.raises(ValueError, match="batches should be at least 1, got 0"),
        readjusted(nn.BatchNorm1d(2), lambda: None, batches=0),
    ):
        pass


def test_a_compiled_net_is_readjusted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code may have been traced without the hooks, or with those of an earlier call."""
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    monkeypatch.setattr(torch, "compile", lambda call, **_: torch._dynamo.optimize("eager")(call))
    compile_net(net)
    compiled = net._compiled_call_impl
    for shift in (3.0, -5.0):
        x = torch.randn(64, 2) + shift
        with torch.no_grad():
            net(x)
            inner = net[0](x)
        with readjusted(net, lambda x=x: net(x), batches=2):
            torch.testing.assert_close(net[1].running_mean, inner.mean(0), rtol=1e-5, atol=1e-5)
    assert net._compiled_call_impl is compiled
