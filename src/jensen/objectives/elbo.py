"""The evidence lower bound."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from jensen.bound import Output
from jensen.config import Schedule
from jensen.objectives.base import Context, Loss, Objective

__all__ = ["Elbo", "elbo_terms"]


class Elbo(Objective):
    """E_q[log p(x | z)] - KL(q(z | x) || p(z)), sums over dimensions, averaged over the batch (Kingma & Welling 2014).

    For a deterministic auto-encoder there is no KL: what remains is the reconstruction log-likelihood.

    Args:
        samples: draws of z a datum.
        kl: analytic (closed form where there is one) or monte-carlo.
        kl_weight: weight of the KL term by step, e.g. warm-up; the logged `elbo` is always the unweighted bound.
    """

    def __init__(
        self,
        samples: int = 1,
        kl: Literal["analytic", "monte-carlo"] = "analytic",
        kl_weight: Schedule | None = None,
    ) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"samples should be at least 1, got {samples}")
        if kl not in ("analytic", "monte-carlo"):
            raise ValueError(f"kl should be analytic or monte-carlo, got {kl!r}")
        self.samples = samples
        self.analytic = kl == "analytic"
        self.kl_weight = kl_weight or Schedule()

    def forward(self, output: Output, context: Context) -> Loss:
        terms = elbo_terms(output, self.analytic)
        score = terms.get("elbo", terms.get("log_likelihood"))
        assert score is not None
        if "rate" not in terms:
            value = terms["distortion"]
        else:
            value = torch.add(terms["distortion"], terms["rate"], alpha=self.kl_weight(context.step))
        for penalty in output.penalties.values():
            value = value + penalty
        return Loss(value, score.detach(), {name: term.detach() for name, term in terms.items()})


def elbo_terms(output: Output, analytic: bool = True, log_likelihood: Tensor | None = None) -> dict[str, Tensor]:
    """elbo, distortion -E_q[log p(x | z)] and rate KL(q || p), scalars in nats per example; and the penalties.

    A deterministic model has log_likelihood and distortion instead.
    """
    log_likelihood = output.average(output.log_likelihood() if log_likelihood is None else log_likelihood)
    if not output.probabilistic:
        return {"log_likelihood": log_likelihood, "distortion": -log_likelihood, **output.penalties}
    rate = output.average(output.rate(analytic))
    return {"elbo": log_likelihood - rate, "distortion": -log_likelihood, "rate": rate, **output.penalties}
