"""A sigmoid belief network small enough to be summed over: its evidence, the best factorised q, and what `fit` finds.

Only the score function applies to its latents where they are not enumerated; following them through the log joint is
what makes the score of each row multiply its own terms only.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli

from jensen.gradients import Estimator, ScoreFunction
from jensen.inference import FitResult, Model, bernoulli, fit, prepare

F = torch.float64
ROWS, HIDDEN, VISIBLE = 4, 3, 5
GENERATOR = torch.Generator().manual_seed(5)
PRIOR = torch.randn(HIDDEN, generator=GENERATOR, dtype=F)
WEIGHT = 1.5 * torch.randn(HIDDEN, VISIBLE, generator=GENERATOR, dtype=F)
BIAS = 0.5 * torch.randn(VISIBLE, generator=GENERATOR, dtype=F)
X = torch.randint(0, 2, (ROWS, VISIBLE), generator=GENERATOR).to(F)
STATES = torch.tensor(list(product([0.0, 1.0], repeat=HIDDEN)), dtype=F)


def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
    return {
        "hidden": Bernoulli(logits=PRIOR).log_prob(z.hidden).sum(-1),
        "visible": Bernoulli(logits=z.hidden @ WEIGHT + BIAS).log_prob(data.x).sum(-1),
    }


def network() -> Model:
    return Model({"hidden": bernoulli(HIDDEN, plate="rows")}, log_joint, plates={"rows": ROWS})


def joint_table() -> Tensor:
    """log p(x, h) at every h, (rows, 2 ** hidden), written out anew."""
    logits = STATES @ WEIGHT + BIAS
    visible = (X[:, None] * logits - torch.nn.functional.softplus(logits)).sum(-1)
    return visible + (STATES * PRIOR - torch.nn.functional.softplus(PRIOR)).sum(-1)


def exact_elbo(probabilities: Tensor) -> float:
    """E_q[log p(x, h) - log q(h)] by summing over all states, for independent units on with these probabilities."""
    p = probabilities.clamp(1e-300, 1)[:, None]
    log_q = (STATES * p.log() + (1 - STATES) * (1 - p).clamp(1e-300, 1).log()).sum(-1)
    return float((log_q.exp() * (joint_table() - log_q)).sum())


def best_factorised() -> tuple[Tensor, float]:
    """The best of coordinate ascent from many starts, row by row: probabilities (rows, hidden), and the ELBO."""
    table, generator = joint_table(), torch.Generator().manual_seed(0)
    best = torch.full((ROWS,), -torch.inf, dtype=F)
    kept = torch.zeros(ROWS, HIDDEN, dtype=F)
    for _ in range(30):
        q = torch.rand(ROWS, HIDDEN, generator=generator, dtype=F)
        for _ in range(100):
            for unit in range(HIDDEN):
                others = [k for k in range(HIDDEN) if k != unit]
                weights = (STATES * q[:, None] + (1 - STATES) * (1 - q[:, None]))[..., others].prod(-1)
                on = STATES[:, unit]
                q[:, unit] = torch.sigmoid((weights * table * (2 * on - 1)).sum(1))
        log_q = (STATES * q[:, None].log() + (1 - STATES) * (1 - q[:, None]).log()).sum(-1)
        elbo = (log_q.exp() * (table - log_q)).sum(1)
        kept[elbo > best], best = q[elbo > best], torch.maximum(elbo, best)
    return kept, float(best.sum())


def probabilities(result: FitResult) -> Tensor:
    factor: Any = result.bound.family(result.bound.target.whole).factors[0]
    found: Tensor = factor.enumerate().values["hidden"][1] * factor.log_prob(factor.enumerate())[1].exp()
    return found.detach()


@pytest.mark.parametrize("control_variate", ["leave_one_out", "average"])
def test_the_score_function_reaches_the_best_factorised_posterior(control_variate: Any) -> None:
    estimator = ScoreFunction(rao_blackwell=True, control_variate=control_variate)
    result = fit(network(), {"x": X}, estimator=estimator, samples=20, tol=0.05)
    assert result.method == "stochastic"
    assert result.converged
    q, optimum = best_factorised()
    evidence = float(joint_table().logsumexp(1).sum())
    found = exact_elbo(probabilities(result))
    assert optimum < evidence - 0.01  # else q would have nothing to be judged by
    assert found <= optimum + 1e-9
    assert found == pytest.approx(optimum, abs=0.01)
    torch.testing.assert_close(probabilities(result), q, atol=0.05, rtol=0)
    assert float(result.elbo) == pytest.approx(found, abs=5 * float(result.elbo_se) + 1e-3)
    assert float(result.elbo) <= evidence + 5 * float(result.elbo_se)


def test_enumeration_reaches_it_exactly() -> None:
    result = fit(network(), {"x": X})
    q, optimum = best_factorised()
    assert result.method == "deterministic"
    assert result.converged
    assert exact_elbo(probabilities(result)) == pytest.approx(optimum, abs=1e-6)
    assert float(result.elbo) == pytest.approx(optimum, abs=1e-6)
    torch.testing.assert_close(probabilities(result), q, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "estimator",
    [ScoreFunction(), ScoreFunction(rao_blackwell=True, control_variate="leave_one_out")],
    ids=["score", "score + RB + leave-one-out"],
)
def test_following_the_latents_leaves_the_gradient_unbiased(estimator: Estimator) -> None:
    """The gradient of `exact_elbo` by autograd is the mean of the estimates, z-test over 600 of them."""
    bound = prepare(network(), {"x": X}, estimator=estimator)
    assert bound.target.dependence({"hidden": torch.zeros(1, ROWS, HIDDEN, dtype=F)}).terms == {
        "hidden": {"hidden": "aligned"},
        "visible": {"hidden": "aligned"},
    }
    (logits,) = bound.family.parameters()
    with torch.no_grad():
        logits.copy_(torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=F))
    leaf = logits.detach().reshape(ROWS, HIDDEN).requires_grad_()
    q = leaf.sigmoid()
    log_q = (STATES * q[:, None].log() + (1 - STATES) * (1 - q[:, None]).log()).sum(-1)
    (exact,) = torch.autograd.grad((log_q.exp() * (joint_table() - log_q)).sum(), leaf)
    generator = torch.Generator().manual_seed(2)
    draws = torch.stack(
        [
            torch.autograd.grad(bound(samples=4, generator=generator).surrogate, logits)[0].reshape(ROWS, HIDDEN)
            for _ in range(600)
        ]
    )
    z = (draws.mean(0) - exact) / (draws.std(0) / 600**0.5)
    assert float(z.abs().max()) < 4
