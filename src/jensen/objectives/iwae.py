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
        """The bound of a batch, and the terms of the ELBO.

        Raises:
            ValueError: a level of the model is deterministic, and has no importance weights; or its z is a draw of a
                discrete q that is to learn, which it cannot from a weight at z (see `Level.score_only`).
        """
        if output.log_weights is None and any(level.score_only for level in output.levels):
            raise ValueError(
                "importance weights at draws of a discrete code have no gradient that pulls q to the prior: use the "
                "ELBO with kl analytic; to measure only, use torch.no_grad()"
            )
        log_likelihood = output.log_likelihood()
        bound = importance_weighted_bound(log_weights(output, log_likelihood), output.log_weights).mean()
        value = -bound
        for penalty in output.penalties.values():
            value = value + penalty
        with torch.no_grad():
            terms = {"iwae": bound, **elbo_terms(output, log_likelihood=log_likelihood)}
        return Loss(value, bound.detach(), {name: term.detach() for name, term in terms.items()})
