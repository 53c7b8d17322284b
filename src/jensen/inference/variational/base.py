"""Families q(z) of black-box models: products of factors, modules whose forward returns the posterior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from jensen.gradients.posterior import FactorPosterior, Posterior
from jensen.inference.model import Model

__all__ = ["Factor", "Family", "FamilyMaker", "rows_of"]


class Factor(nn.Module, ABC):
    """q of some latents, with its parameters.

    Attributes:
        names: the latents.
        plate: the plate along which each row has parameters of its own; None for global latents.
        fixed_draws: whether a climb on fixed draws is sound; not where parameters are so many (a network's) that they
            would fit the draws.
    """

    names: tuple[str, ...]
    plate: str | None = None
    fixed_draws: bool = True

    @abstractmethod
    def forward(self, batch: Any = None) -> FactorPosterior:
        """q at the present parameters, for the rows of a batch where the latents are on the plate of the rows."""

    @abstractmethod
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Set the parameters: q centred at real coordinates `centre`, by latent, with standard deviation `scale`.

        Latents that are missing from `centre`, and discrete ones, stay where they are.
        """

    def mean(self) -> Tensor:
        """E_q of the real coordinates of all latents of the factor, flat, (D,); empty for discrete latents."""
        raise TypeError(f"{type(self).__name__} does not know the mean of its coordinates")


class Family(nn.Module):
    """q(z): one factor or several, independent of each other.

    Args:
        factors: each latent in exactly one.

    Raises:
        ValueError: a latent in two factors.
    """

    def __init__(self, factors: Sequence[Factor]) -> None:
        super().__init__()
        names = [name for factor in factors for name in factor.names]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"latents {twice} are in more than one factor of q")
        self.factors = nn.ModuleList(factors)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all latents."""
        return tuple(name for factor in self._each for name in factor.names)

    @property
    def _each(self) -> list[Factor]:
        return cast("list[Factor]", list(self.factors))

    @property
    def fixed_draws(self) -> bool:
        """Whether a climb on fixed draws is sound for all factors."""
        return all(factor.fixed_draws for factor in self._each)

    def forward(self, batch: Any = None) -> Posterior:
        return Posterior([factor(batch) for factor in self._each])

    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Set all factors' parameters; see `Factor.place`."""
        for factor in self._each:
            factor.place(centre, scale)

    def mean(self) -> Tensor:
        """E_q of the real coordinates, (D,), in the order of the factors."""
        return torch.cat([factor.mean().reshape(-1) for factor in self._each])


FamilyMaker: TypeAlias = Callable[[Model], Family]


def rows_of(parameter: Tensor, plate: str | None, batch: Any) -> Tensor:
    """The rows' part of a parameter whose first dimension runs over the plate of the rows: those of the batch's index.

    Args:
        plate: None for a parameter that is not cut.
    """
    index = None if plate is None else getattr(batch, "index", None)
    return parameter if index is None else parameter[index]
