"""The Hessian of a Gaussian mean field's bound from a few Hessians of the log density: D columns instead of 2 D."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen.inference.curvature import Problems
from jensen.inference.draws import matched, pairs
from jensen.inference.objective import Bound
from jensen.inference.variational.gaussian import DiagonalNormal

__all__ = ["MeanFieldCurvature", "is_mean_field"]

_DRAWS, _FEWEST = 32, 16
_NUMBERS = 10_000_000
"""in one intermediate result of all Hessians of the log density, up to which there are as many draws as that"""
_ENTRIES = 50_000_000


def is_mean_field(bound: Bound) -> bool:
    """Whether q is independent normal distributions of all real coordinates, and nothing else is free."""
    factors = bound.family.factors
    size = bound.target.coordinates.size
    return (
        bound.target.continuous
        and all(type(factor) is DiagonalNormal for factor in factors)
        and len(bound.flat()) == 2 * size
        and _DRAWS * size**2 <= _ENTRIES
    )


class MeanFieldCurvature:
    """Hessians of minus the bound in (loc, log_scale), by Stein's identity from those of f = -log density.

    With u = m + s e, e standard normal, and A = E f''(u): d2/dm dm is A, d2/dm_i dlog s_j is E f''_ij s_j e_j, and
    d2/dlog s_i dlog s_j is E (f''_ij - A_ij) s_i e_i s_j e_j + 2 delta_ij A_ii s_i^2 (Opper & Archambeau 2009, whose
    identities for the gradient are differentiated once more). A itself does not meet e, so that for a normal posterior
    any few draws give the exact Hessian.

    Args:
        bound: for which `is_mean_field` holds.
        seed: of the draws.
    """

    def __init__(self, bound: Bound, seed: int = 0) -> None:
        self.size = bound.target.coordinates.size
        self._density = Problems(lambda u: -bound.target.log_density(u))
        self._density(bound.flat().new_zeros(1, self.size))
        draws = min(_DRAWS, max(_FEWEST, 2 * (_NUMBERS // (2 * self.size * self._density.largest))))
        halves = torch.randn(draws // 2, self.size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        self._noise = pairs(matched(halves)).to(bound.flat())
        place = bound.at(torch.arange(2 * self.size))
        loc, log_scale = ([], [])  # type: tuple[list[Tensor], list[Tensor]]
        slots = {latent: k for k, factor in enumerate(bound.family.factors) for latent in factor.names}  # type: ignore[union-attr]
        for latent in bound.target.coordinates.slices:
            prefix = f"family.factors.{slots[latent]}."
            loc.append(place[prefix + "loc"].reshape(-1))
            log_scale.append(place[prefix + "log_scale"].reshape(-1))
        self._order = torch.cat([*loc, *log_scale]).to(self._noise.device)

    def __call__(self, flat: Tensor) -> Tensor:
        """(R, 2 D) -> (R, 2 D, 2 D)."""
        return torch.stack([self._one(row) for row in flat])

    def _one(self, flat: Tensor) -> Tensor:
        ordered = flat[self._order]
        loc, scale = ordered[: self.size], ordered[self.size :].exp()
        moved = scale * self._noise
        curvature = self._density.hessian(loc + moved)
        mean = curvature.mean(0)
        mixed = torch.einsum("mij,mj->ij", curvature, moved) / len(moved)
        scales = torch.einsum("mij,mi,mj->ij", curvature - mean, moved, moved) / len(moved)
        scales = scales + torch.diag(2 * mean.diagonal() * scale**2)
        hessian = torch.cat([torch.cat([mean, mixed], 1), torch.cat([mixed.T, scales], 1)])
        result = torch.empty_like(hessian)
        result[self._order.unsqueeze(1), self._order] = hessian
        return result
