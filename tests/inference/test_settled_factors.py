"""Discrete factors that are given their best q: what is impossible, or nearly so, blurs nothing else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from jensen.inference import Model, categorical, fit, real
from jensen.inference.supports import bernoulli
from jensen.inference.variational.exponential import ExponentialFactor, discrete_factor

FAR = 2000.0
"""nats: exp of minus so much is 0"""


def settled(factor: ExponentialFactor, log_q: Tensor) -> Tensor:
    """Probabilities of all values, (values, *elements), of the factor settled at these."""
    factor.settle(log_q)
    q = factor()
    return q.log_prob(q.enumerate()).exp()


@pytest.mark.parametrize("nothing", [-FAR, -math.inf])
@pytest.mark.parametrize("places", [(2,), (0,), (1,), (0, 2), (0, 1)])
def test_impossible_values_leave_the_others_as_they_are(nothing: float, places: tuple[int, ...]) -> None:
    odds = torch.tensor([[1.0, 5.0], [3.0, 2.0], [6.0, 3.0]], dtype=torch.float64)
    log_q = odds.log()
    for place in places:
        log_q[place], odds[place] = nothing, 0.0
    found = settled(discrete_factor("k", categorical(3, plate="rows"), {"rows": 2}), log_q)
    torch.testing.assert_close(found, odds / odds.sum(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sure", [0, 1])
def test_a_sure_switch(sure: int) -> None:
    log_q = torch.full((2, 3), -math.inf, dtype=torch.float64)
    log_q[sure] = 0.0
    found = settled(discrete_factor("b", bernoulli(plate="rows"), {"rows": 3}), log_q)
    torch.testing.assert_close(found[sure], torch.ones(3, dtype=torch.float64))


def test_a_mixture_with_a_component_far_from_all_data() -> None:
    y = torch.tensor([-1.1, -0.4, 0.2, 0.9, 1.6, 2.3], dtype=torch.float64)
    means = torch.tensor([-0.5, 1.5, 100.0], dtype=torch.float64)  # log odds against the last: thousands

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        third = torch.full((len(y),), -math.log(3), dtype=torch.float64)
        return {
            "shift": Normal(0.0, 0.01).log_prob(z.shift),
            "k": third,
            "y": Normal(z.shift + means[z.k], 1.0).log_prob(data.y),
        }

    model = Model({"shift": real(), "k": categorical(3, plate="rows")}, log_joint, plates={"rows": len(y)})
    result = fit(model, {"y": y}, seed=0)
    evidence = (torch.logsumexp(-0.5 * (y[:, None] - means).square(), 1) - math.log(3 * math.sqrt(2 * math.pi))).sum()
    assert result.converged
    assert abs(result.elbo - float(evidence)) < 1e-2  # the shift is all but known
    share = result.sample(4000)["k"].eq(0).double().mean(0)
    expected = torch.sigmoid(-0.5 * ((y + 0.5).square() - (y - 1.5).square()))
    torch.testing.assert_close(share, expected, atol=0.04, rtol=0)
