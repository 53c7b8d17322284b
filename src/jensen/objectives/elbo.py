"""The evidence lower bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from jensen.bound import Output
from jensen.config import Schedule
from jensen.objectives.base import Context, Loss, Objective, check_weight
from jensen.objectives.codes import apart_from_labels

__all__ = ["Elbo", "Price", "elbo_terms"]


class Price(NamedTuple):
    """What an objective asks for the code, in place of the KL.

    Attributes:
        value: scalar in nats per example, added to the distortion.
        terms: named scalars to log.
        final: the price by which models of different epochs are compared, where the objective's own changes by the
            step or is too steep to compare by; None: `value`.
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
    is distortion + kl_weight(step) x price. Models are compared by -(distortion + price), the price at the end of a
    schedule of its own and at a kl_weight of 1 whatever `kl_weight` is, so that epochs of a warm-up compare: that is
    the ELBO where the price is the KL.

    Labels that samples enumerate (a discrete level beside others, where the output has `log_weights`) are no code whose
    size could be chosen: the KL of a known label is -log p(y), whatever the encoder. No objective prices them; their
    KL is added to its price at weight 1, and logged as `label_kl`. `rate` and `elbo` are those of all levels.

    Args:
        samples: draws of z a datum.
        kl: analytic (closed form where there is one) or monte-carlo. At draws of a discrete code q cannot learn from
            the latter, which is refused.
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
        check_weight("kl_weight", min(self.kl_weight.start, self.kl_weight.end))

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        """What the code costs; `rate` is the mean KL over the batch, a scalar in nats.

        Enumerated labels are neither in the rate nor among the levels of the output.
        """
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
            price, of_labels = self._priced(output, terms["rate"], context)
            value = torch.add(terms["distortion"], price.value, alpha=self.kl_weight(context.step))
            score = -terms["distortion"] - (price.value if price.final is None else price.final)
            terms |= {**price.terms, **of_labels}
        for penalty in output.penalties.values():
            value = value + penalty
        logged = {name: term.detach() for name, term in terms.items()}
        return Loss(value, score.detach(), logged, None if price is None else price.auxiliary)

    def _priced(self, output: Output, rate: Tensor, context: Context) -> tuple[Price, dict[str, Tensor]]:
        """The price of the code and of the labels, and what is logged of the latter."""
        others, labels = apart_from_labels(output)
        if not labels:
            return self.price(output, rate, context), {}
        codes, enumerated = replace(output, levels=others), replace(output, levels=labels)
        label_kl = output.average(enumerated.rate(self.analytic))
        price = self.price(codes, output.average(codes.rate(self.analytic)), context)
        final = None if price.final is None else price.final + label_kl
        return price._replace(value=price.value + label_kl, final=final), {"label_kl": label_kl}


def elbo_terms(output: Output, analytic: bool = True, log_likelihood: Tensor | None = None) -> dict[str, Tensor]:
    """elbo, distortion -E_q[log p(x | z)] and rate KL(q || p), scalars in nats per example; and the penalties.

    A deterministic model has log_likelihood and distortion instead.

    Raises:
        ValueError: q is to learn from the rate and cannot: Monte Carlo at draws of a discrete z (see `Level.kl`).
    """
    log_likelihood = output.average(output.log_likelihood() if log_likelihood is None else log_likelihood)
    if not output.probabilistic:
        return {"log_likelihood": log_likelihood, "distortion": -log_likelihood, **output.penalties}
    rate = output.average(output.rate(analytic, learning=True))
    return {"elbo": log_likelihood - rate, "distortion": -log_likelihood, "rate": rate, **output.penalties}
