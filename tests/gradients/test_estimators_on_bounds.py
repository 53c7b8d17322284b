"""Estimators within the bound of a black-box model: its parameters learned with q, minibatches, one flat vector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gradient_cases import flat_gradient
from torch import Tensor
from torch.distributions import Normal

from jensen.gradients import Enumeration, Estimator, Mixed, Pathwise, ScoreFunction, automatic
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.supports import categorical, real
from jensen.inference.target import Target
from jensen.inference.variational import mean_field

ROWS = torch.tensor([-2.1, -1.2, 0.3, 0.9, 1.1, 2.4], dtype=torch.float64)


def mixture(estimator: Estimator, samples: int = 4) -> Bound:
    """Rows x_i ~ N(mu[z_i], 1), mu_k ~ N(0, 2^2), the weights parameters of the model; q moved off its start."""

    def log_joint(z: Any, data: Any) -> dict[str, Tensor]:
        return {
            "centres": Normal(0.0, 2.0).log_prob(z.mu).sum(),
            "labels": z.weights.log_softmax(0)[z.label],
            "likelihood": Normal(z.mu[z.label], 1.0).log_prob(data.x),
        }

    weights = torch.tensor([0.4, -0.2], dtype=torch.float64)
    latents = {"mu": real(2), "label": categorical(2, plate="rows")}
    model = Model(latents, log_joint, parameters={"weights": weights}, plates={"rows": len(ROWS)})
    bound = Bound(Target(model, {"x": ROWS}), mean_field(model), estimator, samples)
    start = bound.flat()
    bound.load(start + 0.5 * torch.randn(start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    return bound


def exact_gradient(bound: Bound) -> Tensor:
    """Of the bound's closed form, in all parameters."""
    mu, label = bound.family().factors
    log_r = label.log_prob(label.enumerate()).T  # type: ignore[arg-type]
    weights = dict(bound.target.named_parameters())["theta.weights"]
    loc, log_scale = mu.loc, mu.log_scale  # type: ignore[attr-defined]
    half = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    square = (ROWS[:, None] - loc).square() + (2 * log_scale).exp()
    rows = (log_r.exp() * (weights.log_softmax(0) - half - 0.5 * square - log_r)).sum()
    prior = (-half - torch.tensor(2.0).double().log() - (loc.square() + (2 * log_scale).exp()) / 8).sum()
    return flat_gradient(rows + prior + (log_scale + 0.5 + half).sum(), list(bound.parameters()))


@pytest.mark.parametrize("scored", [False, True])
def test_minibatches_of_all_latents_are_unbiased(scored: bool) -> None:
    """Batches of two of six rows and many draws: the mean over seeds is the closed form's gradient."""
    label: Estimator = ScoreFunction(True, "leave_one_out") if scored else Enumeration()
    bound = mixture(Mixed({"label": label}, default=Pathwise()), samples=10)
    exact, leaves = exact_gradient(bound), list(bound.parameters())
    generator = torch.Generator()
    batches = torch.combinations(torch.arange(len(ROWS)), 2)
    found = []
    for seed in range(20):
        generator.manual_seed(seed)
        each = [flat_gradient(bound(bound.target.batch(b), generator=generator).surrogate, leaves) for b in batches]
        found.append(torch.stack(each).mean(0))
    draws = torch.stack(found)
    error = draws.std(0) / len(draws) ** 0.5
    assert float(((draws.mean(0) - exact).abs() / (error + 1e-9)).max()) < 4.2
    assert exact.abs().min() > 0.05  # none of them is right by being zero


def test_the_automatic_choice_has_the_gradient_of_its_value() -> None:
    """At fixed noise, with labels enumerated: numeric differences in every parameter, theta among them."""
    bound = mixture(Pathwise())
    q = bound.family()
    with torch.no_grad():
        bound.estimator = automatic(q, bound.target.dependence(q.sample(1, torch.Generator().manual_seed(0))))
    assert repr(bound.estimator) == "Mixed({'mu': Pathwise(), 'label': Enumeration(limit=64)})"
    noise = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flat = bound.flat()
    gradient = torch.func.grad(bound.value)(flat, noise)
    step = 1e-5 * torch.eye(len(flat), dtype=torch.float64)
    with torch.no_grad():
        values = [bound.value(flat + s, noise) - bound.value(flat - s, noise) for s in step]
    torch.testing.assert_close(torch.stack(values) / 2e-5, gradient, rtol=1e-7, atol=1e-7)
    starts = torch.stack([flat, flat + 0.1, flat - 0.3])
    together = torch.func.vmap(bound.value, in_dims=(0, None))(starts, noise)
    torch.testing.assert_close(together, torch.stack([bound.value(s, noise) for s in starts]))
