"""Expectations over small discrete latents, exactly."""

from __future__ import annotations

from torch import Generator, Tensor

from jensen.gradients.estimator import Estimator, Part
from jensen.gradients.posterior import FactorPosterior, Posterior

__all__ = ["Enumeration"]


class Enumeration(Estimator):
    """Every value that a discrete latent can take, weighted with its probability: no draws, no variance.

    Where the elements of a plate enter the terms one by one ("aligned"), all rows are enumerated side by side: K
    evaluations of the log joint for K values. Elements that a term mixes are enumerated jointly: K to the power of
    their number.

    Args:
        limit: evaluations of the log joint, for each draw of what is not enumerated, above which it is refused.
    """

    def __init__(self, limit: int = 4096) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self.limit = limit

    def __repr__(self) -> str:
        return "Enumeration()" if self.limit == 4096 else f"Enumeration(limit={self.limit})"

    def objection(self, factor: FactorPosterior) -> str | None:
        return None if factor.support_size is not None else "it can take infinitely many values"

    def needs_dependence(self, q: Posterior) -> bool:
        return True

    def part(self, factor: FactorPosterior, samples: int, generator: Generator | None, noise: Tensor | None) -> Part:
        entropy = factor.entropy()
        if entropy is None:
            log_q = factor.log_prob(factor.enumerate())
            possible = log_q > -float("inf")
            finite = log_q.where(possible, 0.0)
            entropy = -(finite.exp() * finite).where(possible, 0.0).sum(0)
        return Part(factor, None, entropy.unsqueeze(0), limit=self.limit)
