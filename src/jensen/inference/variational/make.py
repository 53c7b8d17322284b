"""Families for a model: what covers which latent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jensen.families import ExponentialFamily
from jensen.inference.model import Model
from jensen.inference.variational.base import Factor, Family
from jensen.inference.variational.exponential import ExponentialFactor, discrete_factor
from jensen.inference.variational.gaussian import DiagonalNormal

__all__ = ["mean_field"]


def mean_field(model: Model, choices: Mapping[str, type[ExponentialFamily[Any, Any, Any]]] | None = None) -> Family:
    """A factor for each latent: independent normal distributions of its real coordinates, or what is chosen.

    Args:
        model: a black-box model.
        choices: families of the library by latent, e.g. `{"rate": Gamma}` for a positive one. Discrete latents have
            their own: Bernoulli, Categorical or Poisson.

    Raises:
        ValueError: a choice for a latent that the model does not have, or whose support is another.
    """
    choices = dict(choices or {})
    unknown = sorted(set(choices) - set(model.latents))
    if unknown:
        raise ValueError(f"families chosen for {unknown}, but the model's latents are {list(model.latents)}")
    return Family([_factor(model, name, choices.get(name)) for name in model.latents])


def _factor(model: Model, name: str, choice: Any) -> Factor:
    variable = model.latents[name]
    if choice is not None:
        return ExponentialFactor(name, variable, model.plates, choice)
    if variable.discrete:
        return discrete_factor(name, variable, model.plates)
    return DiagonalNormal(name, variable, model.plates)
