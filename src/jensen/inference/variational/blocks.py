"""Block-structured families: named groups of latents that depend on each other, everything else independent."""

from __future__ import annotations

from collections.abc import Sequence

from jensen.inference.model import Model
from jensen.inference.variational.base import Factor, Family, FamilyMaker
from jensen.inference.variational.exponential import discrete_factor
from jensen.inference.variational.full_rank import FullRankNormal
from jensen.inference.variational.gaussian import DiagonalNormal

__all__ = ["blocks"]


def blocks(groups: Sequence[Sequence[str]]) -> FamilyMaker:
    """A family with a full covariance inside each group of latents, and independent coordinates elsewhere.

    In a group whose latents are all on one plate, those of the same row depend on each other and rows are independent
    (N covariances of D x D, open to minibatches); otherwise everything in the group does. Discrete latents have their
    own factor.

        fit(model, data, family=blocks([["intercept", "slope"], ["mu", "tau"]]))

    Raises (when the family is made):
        ValueError: a group is empty or names a latent that the model does not have; a latent is in two groups.
        TypeError: a latent in a group is discrete.
    """
    named = [tuple(group) for group in groups]
    if not all(named):
        raise ValueError("blocks: a group of no latents")

    def make(model: Model) -> Family:
        joined = [name for group in named for name in group]
        unknown = sorted(set(joined) - set(model.latents))
        if unknown:
            raise ValueError(f"blocks name {unknown}, but the model's latents are {list(model.latents)}")
        factors: list[Factor] = []
        for group in named:
            variables = {name: model.latents[name] for name in group}
            plates = {v.plate for v in variables.values()}
            rowwise = len(plates) == 1 and None not in plates
            factors.append(FullRankNormal(variables, model.plates, rowwise))
        for name, variable in model.latents.items():
            if name not in joined:
                alone = discrete_factor if variable.discrete else DiagonalNormal
                factors.append(alone(name, variable, model.plates))
        return Family(factors)

    return make
