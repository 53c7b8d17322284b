"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jensen.bound import Output
from jensen.config import Schedule
from jensen.objectives.base import Context, Loss, Objective

__all__ = ["Elbo", "Price", "elbo_terms"]


class Price(NamedTuple):
    """What an objective asks for the code, in place of the KL.

    Attributes:
        value: scalar in nats per example, added to the distortion.
        terms: named scalars to log.
        final: the price that the same code has at the end of a schedule of the objective's own, by which models of
            different epochs are compared; None: `value`.
        auxiliary: see `Loss`.
    """

    value: Tensor
    terms: Mapping[str, Tensor]
    final: Tensor | None = None
    auxiliary: Tensor | None = None


class Elbo(Objective):
    """E_q[log p(x | z)] - KL(q(z | x) || p(z)), sums over dimensions, averaged over the batch (Kingma & Welling 2014).

    For a deterministic auto-encoder there is no KL: what remains is the reconstruction log-likelihood.

    The other objectives of this family are this one with another `price` for the code than the KL. What is minimised
    is distortion + kl_weight(step) x price; models are compared by the ELBO where the price is the KL, else by
    -(distortion + price), which is what they were trained for.

    Args:
        samples: draws of z a datum.
        kl: analytic (closed form where there is one) or monte-carlo.
        kl_weight: weight of the price by step, e.g. warm-up; the logged `elbo` is always the unweighted bound.
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

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        """What the code costs; `rate` is the mean KL over the batch, a scalar in nats."""
        return Price(rate, {})

    def forward(self, output: Output, context: Context) -> Loss:
        terms = elbo_terms(output, self.analytic)
        if "rate" not in terms:
            if type(self) is not Elbo:
                raise ValueError(
                    f"{type(self).__name__} needs a posterior, but every level of the model is deterministic"
                )
            price = None
            value, score = terms["distortion"], terms["log_likelihood"]
        else:
            price = self.price(output, terms["rate"], context)
            value = torch.add(terms["distortion"], price.value, alpha=self.kl_weight(context.step))
            final = price.value if price.final is None else price.final
            score = terms["elbo"] if price.value is terms["rate"] else -terms["distortion"] - final
            terms |= price.terms
        for penalty in output.penalties.values():
            value = value + penalty
        logged = {name: term.detach() for name, term in terms.items()}
        return Loss(value, score.detach(), logged, None if price is None else price.auxiliary)


def elbo_terms(output: Output, analytic: bool = True, log_likelihood: Tensor | None = None) -> dict[str, Tensor]:
    """elbo, distortion -E_q[log p(x | z)] and rate KL(q || p), scalars in nats per example; and the penalties.

    A deterministic model has log_likelihood and distortion instead.
    """
    log_likelihood = output.average(output.log_likelihood() if log_likelihood is None else log_likelihood)
    if not output.probabilistic:
        return {"log_likelihood": log_likelihood, "distortion": -log_likelihood, **output.penalties}
    rate = output.average(output.rate(analytic))
    return {"elbo": log_likelihood - rate, "distortion": -log_likelihood, "rate": rate, **output.penalties}
