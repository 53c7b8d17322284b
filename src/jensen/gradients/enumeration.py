"""Expectations over small discrete latents, exactly."""

from __future__ import annotations

from torch import Generator, Tensor

from jensen.gradients.estimator import Estimator, Part, entropy_of
from jensen.gradients.posterior import FactorPosterior, Posterior

__all__ = ["Enumeration"]


class Enumeration(Estimator):
    """Every value that a discrete latent can take, weighted with its probability: no draws, no variance.

    Where the elements of a plate enter the terms one by one ("aligned"), all rows are enumerated side by side: K
    evaluations of the log joint for K values. Elements that a term mixes are enumerated jointly: K to the power of
    their number.

    Args:
        limit: evaluations of the log joint, for each draw of what is not enumerated, above which it is refused.
        profile: put the best q in the place of the given one where it is known (`configurations.profilable`); the bound
            is then that of all other latents alone, at its maximum over these.
    """

    def __init__(self, limit: int = 4096, profile: bool = False) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self.limit, self.profile = limit, profile

    def __repr__(self) -> str:
        given = [] if self.limit == 4096 else [f"limit={self.limit}"]
        return f"Enumeration({', '.join([*given, *(['profile=True'] if self.profile else [])])})"

    def objection(self, factor: FactorPosterior) -> str | None:
        return None if factor.support_size is not None else "it can take infinitely many values"

    def needs_dependence(self, q: Posterior) -> bool:
        return True

    def part(self, factor: FactorPosterior, samples: int, generator: Generator | None, noise: Tensor | None) -> Part:
        entropy = factor.entropy()
        entropy = entropy_of(factor.log_prob(factor.enumerate())) if entropy is None else entropy
        return Part(factor, None, entropy.unsqueeze(0), limit=self.limit, profile=self.profile)
