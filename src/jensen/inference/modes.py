"""Modes of a log density, as places to start a climb of the bound from: one draw's work instead of many draws'."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.inference.curvature import Problems
from jensen.inference.minimise import DENSE, minimise
from jensen.inference.target import Target

__all__ = ["Modes", "modes_of"]

_SAME = 1e-3
"""nats between two points, as the curvature at one of them counts, below which they are the same mode"""
_EVALUATIONS = 100
"""more than the ascent to a proper mode takes; where there is none the bound's own climb is the way"""
_PROBES = 32
_TOLERANCE = 1e-4


@dataclass
class Modes:
    """What climbs of a log density from some starts found.

    Attributes:
        centres: of the modes, each once, (K, D).
        sds: of normal distributions that bend like the density there, (K, D): those of a mean-field q whose posterior
            is normal.
        of_start: for each start the number of its mode, or None where its climb found none.
        gradients: of the log density.
    """

    centres: Tensor
    sds: Tensor
    of_start: list[int | None]
    gradients: int


def modes_of(target: Target, starts: Tensor, evaluations: int) -> Modes:
    """Climb log p(x, z(u)) + log |dz / du| from starts (R, D), all at once.

    Only proper maxima count: a Newton step promises nothing, and the Hessian is negative definite. With D > `DENSE`
    the curvatures are estimated, and L-BFGS's word is taken.
    """
    problems = Problems(lambda u: -target.log_density(u), recordable=target.vectorised)
    dense = starts.shape[1] <= DENSE
    limit = min(evaluations, _EVALUATIONS)
    found = minimise(problems, starts, tolerance=_TOLERANCE, evaluations=limit, second_order=dense)
    centres: list[Tensor] = []
    curvatures: list[Tensor] = []
    of_start: list[int | None] = []
    for r in range(len(starts)):
        if not bool(found.converged[r]):
            of_start.append(None)
            continue
        known = [k for k, (c, h) in enumerate(zip(centres, curvatures, strict=True)) if _near(found.x[r] - c, h)]
        if not known:
            centres.append(found.x[r])
            curvatures.append(_curvature(problems, found.x[r], None if found.hessian is None else found.hessian[r]))
        of_start.append(known[0] if known else len(centres) - 1)
    sds = [(h.diagonal() if h.ndim == 2 else h).clamp(min=torch.finfo(h.dtype).tiny).rsqrt() for h in curvatures]
    empty = starts.new_empty(0, starts.shape[1])
    return Modes(
        torch.stack(centres) if centres else empty,
        torch.stack(sds) if sds else empty,
        of_start,
        problems.evaluations + problems.products,
    )


def _curvature(problems: Problems, x: Tensor, hessian: Tensor | None) -> Tensor:
    """The Hessian (D, D), or an estimate of its diagonal (D,)."""
    if hessian is not None:
        return hessian
    probes = torch.randn(_PROBES, len(x), dtype=x.dtype, generator=torch.Generator().manual_seed(0)).sign().to(x.device)
    products = problems.product(x.unsqueeze(0))(probes.unsqueeze(1)).squeeze(1)
    diagonal = (probes * products).mean(0).abs()
    return diagonal.maximum(1e-3 * diagonal.mean())


def _near(difference: Tensor, curvature: Tensor) -> bool:
    bent = curvature @ difference if curvature.ndim == 2 else curvature * difference
    return float(0.5 * difference @ bent) < _SAME
