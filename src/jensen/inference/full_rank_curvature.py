"""The Hessian of a full-rank normal's bound at its own draws from those of the log density: D columns, not P."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from jensen.inference.curvature import Problems
from jensen.inference.objective import Bound
from jensen.inference.variational.full_rank import FullRankNormal

__all__ = ["FullRankCurvature", "is_full_rank"]


def is_full_rank(bound: Bound) -> bool:
    """Whether q is one normal distribution with a full covariance of all real coordinates, and nothing else is free."""
    factors = bound.family.factors
    if not (bound.target.continuous and bound.target.vectorised and len(factors) == 1):
        return False
    factor = factors[0]
    if type(factor) is not FullRankNormal or factor.layout.rows:
        return False
    size = bound.target.coordinates.size
    same = list(factor.names) == list(bound.target.coordinates.slices)
    return same and len(bound.flat()) == 2 * size + size * (size - 1) // 2


class FullRankCurvature:
    """Hessians of minus the bound in (loc, log_scale, lower) at given draws e, exactly, by the chain rule.

    Every parameter p moves one coordinate i(p) of u = loc + s C e alone: by a_p = 1, s_i (C e)_i, or s_i e_j. With
    f = -log density, d2/dp dq is the mean over draws of f''_i(p)i(q) a_p a_q, and of f'_i times the second derivative
    of u_i where i(p) = i(q) = i. The entropy is linear in log_scale.

    Args:
        bound: for which `is_full_rank` holds.
        noise: the bound's fixed draws, (M, D).

    Attributes:
        columns: of Hessians of the log density at one draw, D.
    """

    def __init__(self, bound: Bound, noise: Tensor) -> None:
        self._noise, self.columns = noise, noise.shape[1]
        self._density = Problems(lambda u: -bound.target.log_density(u))
        place = bound.at(torch.arange(len(bound.flat())))
        factor = cast(FullRankNormal, bound.family.factors[0])
        names = {id(parameter): name for name, parameter in bound.named_parameters()}
        self._order = torch.cat([place[names[id(p)]] for p in (factor.loc, factor.log_scale, factor.lower)])
        self._order = self._order.to(noise.device)
        below = torch.tril_indices(self.columns, self.columns, -1, device=noise.device)
        self._row, self._column = below
        each = torch.arange(self.columns, device=noise.device)
        self._moved = torch.cat([each, each, self._row])

    def __call__(self, flat: Tensor) -> Tensor:
        """(R, P) -> (R, P, P)."""
        return torch.stack([self._one(row) for row in flat])

    def _one(self, flat: Tensor) -> Tensor:
        loc, log_scale, lower = flat[self._order].split([self.columns, self.columns, len(self._row)])
        scale, noise, count = log_scale.exp(), self._noise, len(self._noise)
        unit = torch.eye(self.columns, dtype=flat.dtype, device=flat.device)
        unit[self._row, self._column] = lower
        moved = scale * (noise @ unit.T)
        along = scale[self._row] * noise[:, self._column]
        moves = torch.cat([torch.ones_like(moved), moved, along], 1)
        curvature = self._density.hessian(loc + moved)
        hessian = flat.new_zeros(len(flat), len(flat))
        for bent, move in zip(curvature, moves, strict=True):
            spread = bent.index_select(0, self._moved).index_select(1, self._moved)
            hessian += spread.mul_(move).mul_(move.unsqueeze(1))
        hessian /= count
        _, slope = self._density(loc + moved)
        logs = torch.arange(self.columns, 2 * self.columns, device=flat.device)
        lowers = torch.arange(2 * self.columns, len(flat), device=flat.device)
        hessian[logs, logs] += (slope * moved).mean(0)
        mixed = (slope[:, self._row] * along).mean(0)
        hessian[logs[self._row], lowers] += mixed
        hessian[lowers, logs[self._row]] += mixed
        result = torch.empty_like(hessian)
        result[self._order.unsqueeze(1), self._order] = hessian
        return result
