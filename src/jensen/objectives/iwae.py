"""The importance-weighted bound."""

from __future__ import annotations

import torch

from jensen.bound import Output, importance_weighted_bound, log_weights
from jensen.objectives.base import Context, Loss, Objective
from jensen.objectives.elbo import elbo_terms

__all__ = ["Iwae"]


class Iwae(Objective):
    """E[log 1/k sum_k p(x, z_k) / q(z_k | x)] (Burda, Grosse & Salakhutdinov 2016, eq. 8); k = 1 is the ELBO.

    Args:
        samples: k, draws of z a datum.
    """

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        if samples < 1:
            raise ValueError(f"samples (k) should be at least 1, got {samples}")
        self.samples = samples

    def forward(self, output: Output, context: Context) -> Loss:
        """Raises ValueError for a model with a deterministic level, which has no importance weights."""
        log_likelihood = output.log_likelihood()
        bound = importance_weighted_bound(log_weights(output, log_likelihood), output.log_weights).mean()
        value = -bound
        for penalty in output.penalties.values():
            value = value + penalty
        with torch.no_grad():
            terms = {"iwae": bound, **elbo_terms(output, log_likelihood=log_likelihood)}
        return Loss(value, bound.detach(), {name: term.detach() for name, term in terms.items()})
