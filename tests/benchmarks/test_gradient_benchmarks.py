"""The benchmarks of gradients compare like with like: the same gradient by hand, latents that are followed."""

from __future__ import annotations

import torch
from benchmarks.bbvi import ESTIMATORS, OURS, QUICK, REFERENCE, belief_network, climb, mixture
from benchmarks.gradient_cost import bound, by_hand, likelihood, ours
from torch.distributions import Bernoulli

from jensen.gradients import Pathwise
from jensen.inference import mean_field


def test_the_gradient_by_hand_is_ours() -> None:
    torch.testing.assert_close(by_hand(30, 4)(), ours(bound(30, 4, mean_field, Pathwise()))(), rtol=1e-10, atol=1e-10)


def test_the_likelihood_is_a_bernoulli() -> None:
    logits, answers = torch.randn(5, dtype=torch.float64), torch.tensor([0.0, 1, 1, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(likelihood(logits, answers), Bernoulli(logits=logits).log_prob(answers))


def test_rows_are_scored_by_their_own_terms() -> None:
    for problem in (mixture(QUICK), belief_network(QUICK)):
        target, family = problem.make()
        found = target.dependence(family(target.whole).sample(1, torch.Generator().manual_seed(0))).terms
        kinds = [latents[problem.scored] for latents in found.values() if problem.scored in latents]
        assert kinds == ["aligned", "aligned"]


def test_less_variance_climbs_higher() -> None:
    problem = mixture(QUICK)
    ends = {name: climb(problem, name, QUICK).elbo for name in ("score", OURS, REFERENCE)}
    assert set(ends) < set(ESTIMATORS)
    assert ends["score"] < ends[OURS] < ends[REFERENCE]
