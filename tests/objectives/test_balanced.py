"""KL balancing by hand: dear levels that say more than their share, while the KL warms up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.bound import Level, Output
from jensen.config import ObjectiveConfig, Schedule
from jensen.objectives import Balanced, Context, Elbo, make_objective

WARM_UP = Schedule(kind="linear", start=0.2, end=1.0, steps=10)
HALF = Context(step=5)
"""where WARM_UP is at 0.6"""


def deep(*dims: tuple[int, ...], samples: int = 1, apart: float = 1.0) -> tuple[Output, list[Tensor]]:
    """Levels of these shapes, with posteriors and priors of their own for each sample; and the posteriors' means."""
    levels, means = [], []
    for i, dim in enumerate(dims):
        shape = (samples, 6, *dim)
        prior = Normal(torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) + 0.5)
        mean = (prior.loc + torch.randn(shape, dtype=torch.float64) * (1 + i % 3) * apart).requires_grad_()
        q = Normal(mean, torch.rand(shape, dtype=torch.float64) + 0.2)
        levels.append(Level(q.rsample(), q, prior))
        means.append(mean)
    decoded = torch.stack([level.z.flatten(2).mean(2) for level in levels]).sum(0)
    likelihood = Normal(decoded.unsqueeze(2), torch.ones((), dtype=torch.float64))
    return Output(torch.randn(1, 6, 1, dtype=torch.float64), likelihood, tuple(levels)), means


def closed(q: Normal, p: Normal) -> Tensor:
    """KL of normals, by its formula."""
    ratio = q.scale / p.scale
    return 0.5 * (ratio**2 + ((q.loc - p.loc) / p.scale) ** 2 - 1) - ratio.log()


def of_levels(output: Output) -> Tensor:
    """KL of each level in nats, mean over batch and samples."""
    kls = [closed(level.posterior, level.prior) for level in output.levels]
    return torch.stack([kl.flatten(2).sum(2).mean() for kl in kls])


def normalised(weights: Tensor) -> Tensor:
    return weights * len(weights) / weights.sum()


def balanced(output: Output, context: Context = HALF, **choices: Any) -> Tensor:
    """The weighted KL, as it enters the loss."""
    found = Balanced(kl_weight=WARM_UP, **choices)(output, context)
    rate = (found.value + output.log_likelihood().mean()) / 0.6
    torch.testing.assert_close(found.terms["balanced_rate"], rate.detach())
    return rate


@pytest.mark.parametrize("samples", [1, 3])
def test_weights_by_hand(samples: int) -> None:
    """One level of 4 numbers, two of 2 x 3, and two of 2 x 3 x 3: sizes 4, 3 and 9."""
    output, _ = deep((4,), (2, 3), (2, 3), (2, 3, 3), (2, 3, 3), samples=samples)
    kl = of_levels(output)
    gamma = normalised((kl + 0.01) / torch.tensor([4.0, 3, 3, 9, 9], dtype=torch.float64))
    assert gamma.mean().item() == pytest.approx(1)
    assert not torch.allclose(gamma, torch.ones_like(gamma), atol=0.2)
    torch.testing.assert_close(balanced(output), (gamma * kl).sum())


def test_sizes_are_those_of_the_authors_code() -> None:
    """Two groups at 2 x 2, four at 4 x 4, three at 8 x 8: 4^i / groups, the smallest 1, and KL over it."""
    groups = {2: 2, 4: 4, 8: 3}
    output, _ = deep(*((5, side, side) for side, count in groups.items() for _ in range(count)))
    alpha = torch.tensor([4.0**i / count for i, count in enumerate(groups.values()) for _ in range(count)])
    kl = of_levels(output)
    gamma = normalised((kl + 0.01) / (alpha / alpha.min()))
    torch.testing.assert_close(balanced(output), (gamma * kl).sum())


def test_equal_shares_cost_the_kl() -> None:
    """A level four times as large with four times the KL is at its share (but for the 0.01)."""
    ones = torch.ones(1, 3, 8, dtype=torch.float64)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    levels = tuple(Level(ones[..., :d], Normal(ones[..., :d], one), Normal(zero, one)) for d in (2, 8))
    output = Output(ones[..., :1], Normal(ones[..., :1], one), levels)
    assert balanced(output).item() == pytest.approx(5.0, abs=0.02)


def test_a_silent_level_is_cheap_and_not_free() -> None:
    output, means = deep((3,), (3,))
    silent = output.levels[0].prior
    q = Normal(silent.loc + (means[0] - silent.loc) * 1e-2, silent.scale)
    levels = (Level(q.rsample(), q, silent), output.levels[1])
    whole = Output(output.target, output.likelihood, levels)
    kl = of_levels(whole)
    assert kl[0] < 1e-3
    gamma = normalised(kl.detach() + 0.01)
    assert 0.019 / kl[1] < gamma[0] < 0.023 / kl[1]
    (found,) = torch.autograd.grad(balanced(whole), [means[0]], retain_graph=True)
    (plain,) = torch.autograd.grad(kl[0], [means[0]])
    torch.testing.assert_close(found, gamma[0] * plain)


@pytest.mark.parametrize("samples", [1, 2])
def test_no_gradient_goes_through_the_weights(samples: int) -> None:
    output, means = deep((4,), (2, 3), samples=samples)
    kl = of_levels(output)
    gamma = normalised((kl.detach() + 0.01) / torch.tensor([4.0, 6.0]))
    found = torch.autograd.grad(balanced(output), means, retain_graph=True)
    plain = torch.autograd.grad(kl.sum(), means)
    for weight, mine, theirs in zip(gamma, found, plain, strict=True):
        torch.testing.assert_close(mine, weight * theirs)


@pytest.mark.parametrize(
    ("schedule", "step"), [(WARM_UP, 10), (WARM_UP, 500), (Schedule(), 0), (Schedule(end=0.3), 2)], ids=str
)
def test_it_is_the_elbo_where_nothing_rises(schedule: Schedule, step: int) -> None:
    output, _ = deep((4,), (2, 3), samples=2)
    found, plain = (kind(kl_weight=schedule)(output, Context(step=step)) for kind in (Balanced, Elbo))
    assert found.value.item() == plain.value.item()
    assert found.terms["balanced_rate"].item() == found.terms["rate"].item()


@pytest.mark.parametrize("step", [0, 5, 9])
def test_models_are_compared_by_the_elbo(step: int) -> None:
    output, _ = deep((4,), (2, 3))
    found, plain = (kind(kl_weight=WARM_UP)(output, Context(step=step)) for kind in (Balanced, Elbo))
    assert found.score.item() == plain.score.item() == found.terms["elbo"].item()
    assert found.value.item() != plain.value.item()


def test_one_level_is_the_elbo(made: Callable[..., Any]) -> None:
    output, _ = made(3)
    found, plain = (kind(kl_weight=WARM_UP)(output, HALF) for kind in (Balanced, Elbo))
    torch.testing.assert_close(found.value, plain.value, rtol=1e-14, atol=0)


def test_sampled_kl() -> None:
    """Estimates of single data may be negative: their sizes count, as in the authors' code."""
    output, _ = deep((3,), (5,), apart=0.1)
    each = torch.stack([(level.log_q() - level.log_p()).sum(2).mean(0) for level in output.levels])
    assert (each < 0).any()
    gamma = normalised((each.abs().mean(1) + 0.01) / torch.tensor([3.0, 5.0]))
    torch.testing.assert_close(balanced(output, kl="monte-carlo"), (gamma * each.mean(1)).sum())


def test_deterministic_levels_stand_aside() -> None:
    output, _ = deep((4,), (2, 3))
    fixed = Level(torch.randn(1, 6, 7, dtype=torch.float64), None, None)
    levels = (output.levels[0], fixed, output.levels[1])
    torch.testing.assert_close(balanced(Output(output.target, output.likelihood, levels)), balanced(output))


def test_weights_are_those_of_all_devices() -> None:
    first, second = deep((4,), (2, 3))[0], deep((4,), (2, 3))[0]
    kls = [of_levels(output).detach() for output in (first, second)]
    context = Context(step=5, gather=lambda values: torch.stack(kls))
    gamma = normalised(((kls[0] + kls[1]) / 2 + 0.01) / torch.tensor([4.0, 6.0]))
    assert not torch.allclose(gamma, normalised((kls[0] + 0.01) / torch.tensor([4.0, 6.0])), rtol=0.01)
    torch.testing.assert_close(balanced(first, context).detach(), (gamma * kls[0]).sum())


def test_enumerated_samples_count_by_their_weight(forms: dict[str, Callable[[], Any]]) -> None:
    output, _ = forms["enumerated"]()
    y, z = output.levels
    expected = (output.log_weights.exp() * z.kl().sum(-1)).sum(0).mean() + y.kl()[0].mean()
    found = Balanced(kl_weight=WARM_UP)(output, HALF)
    torch.testing.assert_close((found.value - found.terms["distortion"]) / 0.6, expected)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule(), "--kl-weight-schedule linear --kl-weight-share 0.3"),
        (Schedule(kind="linear", start=1.0, end=0.5, steps=3), "this is the ELBO: levels are balanced only while"),
        (WARM_UP, "below 1: at most 10 steps (of one level: the ELBO)"),
        (Schedule(kind="linear", share=0.3), "below 1: at most 30% of the training"),
    ],
)
def test_what_it_says_of_itself(schedule: Schedule, words: str) -> None:
    objective = make_objective(ObjectiveConfig(kind="balanced", kl_weight=schedule))
    assert isinstance(objective, Balanced)
    assert words in objective.describe(10, 784)
