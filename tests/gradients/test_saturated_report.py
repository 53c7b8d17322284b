"""The variance report at a q that is all but certain: draws that are all alike are not called biased."""

from __future__ import annotations

import math

import torch
from torch.distributions import Normal

from jensen.gradients import variance_report
from jensen.inference import Model, bernoulli
from jensen.inference.variational import mean_field


def test_draws_that_are_all_alike_have_no_standard_error() -> None:
    y = torch.tensor([-3.0, -2.0, 3.0, 4.0], dtype=torch.float64)
    logits = torch.tensor([-18.0, -12.0, 18.0, 20.0], dtype=torch.float64)
    model = Model(
        {"b": bernoulli(plate="rows")},
        lambda z, data: {"y": Normal(6 * z.b - 3, 1.0).log_prob(y)},
        plates={"rows": 4},
    )
    family = mean_field(model)
    with torch.no_grad():
        next(iter(family.parameters())).copy_(logits)
    report = variance_report(model, family, repeats=20)
    assert report.reference == "enumeration"
    # d/dl of p f(1) + (1 - p) f(0) + H, with H' = -p (1 - p) l
    p = logits.sigmoid()
    difference = Normal(3.0, 1.0).log_prob(y) - Normal(-3.0, 1.0).log_prob(y)
    torch.testing.assert_close(report.gradient, p * (1 - p) * (difference - logits), rtol=1e-6, atol=1e-12)
    score = report["score + RB + leave-one-out"]
    assert score.variance < 1e-20
    assert math.isnan(score.z) or score.z < 2
    assert "all draws alike" in str(report) or score.z < 2
