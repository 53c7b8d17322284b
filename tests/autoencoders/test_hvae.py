"""The naive hierarchy: q goes up from the data, and what follows from that for its KL."""

from __future__ import annotations

import math

import pytest
import torch
from deep_cases import NETS, binary, lively, made
from torch.distributions import kl_divergence


@pytest.mark.parametrize("net", NETS)
def test_upper_posteriors_see_the_data_through_the_level_below_alone(net: str) -> None:
    model, x = lively(made("hvae", net), 0.8), binary(2)
    with torch.no_grad():
        fixed = [torch.full(shape, 0.3 * i, dtype=torch.float64) for i, shape in enumerate(model.level_shapes[::-1])]
        for chosen in range(3):  # the code of one level stands still, and those above it with it
            drawn: list[int] = []

            def draw(q: torch.distributions.Normal, at: int = chosen, seen: list[int] = drawn) -> torch.Tensor:
                seen.append(len(seen))
                return fixed[at].expand_as(q.mean) if seen[-1] == at else q.mean

            levels, _ = model._walk(x, None, draw=draw, decoded=False)
            means = [level.posterior.mean[0] for level in levels[::-1] if level.posterior is not None]
            for i, mean in enumerate(means):
                same = torch.allclose(mean[0], mean[1], rtol=1e-12, atol=1e-12)
                assert same == (i > chosen)


@pytest.mark.parametrize("net", NETS)
def test_draws_of_a_datum_share_the_lowest_posterior(net: str) -> None:
    output = lively(made("hvae", net), 0.8)(binary(2), samples=3)
    *above, lowest = [level.posterior.mean for level in output.levels if level.posterior is not None]
    torch.testing.assert_close(lowest[0], lowest[1])
    assert all(not torch.allclose(mean[0], mean[1]) for mean in above)


def test_kl_below_the_top_is_that_of_the_draws() -> None:
    """A prior has seen the z that is below it: the closed form would take the two as independent."""
    model, samples = lively(made("hvae", scales=["1@6", "1@6"]), 0.8), 4000
    with torch.no_grad():
        output = model(binary(1), samples=samples)
    top, low = output.levels
    assert torch.equal(low.kl(), low.log_q() - low.log_p())
    assert top.posterior is not None
    assert top.prior is not None
    torch.testing.assert_close(top.kl(), kl_divergence(top.posterior, top.prior))
    assert low.posterior is not None
    assert low.prior is not None
    difference = (kl_divergence(low.posterior, low.prior) - low.kl()).flatten()
    assert abs(difference.mean()) > 10 * difference.std() / math.sqrt(samples)
