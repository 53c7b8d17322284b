"""Newton's method in a trust region, with exact Hessians, for many independent problems at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.inference.curvature import Problems

__all__ = ["Quadratic", "newton"]

_GOOD, _POOR = 0.75, 0.25
_SECULAR_STEPS = 8
_SMALLEST_RADIUS = 1e-12
_SHORT = 1e-3
"""units of the function that a step gains, below which a costly Hessian is kept"""


@dataclass
class Quadratic:
    """Where R problems stand, and their second-order models there.

    Attributes:
        x: (R, P).
        value: (R,).
        gradient: (R, P).
        decrement: g^T H^-1 g / 2, what the model still promises, (R,); infinite where H is not positive definite.
        definite: whether H is positive definite, beyond rounding, (R,).
        settled: whether the decrement fell below the tolerance, (R,).
        hessian: H at the last point or one small step before it, (R, P, P); None where it was not written down.
    """

    x: Tensor
    value: Tensor
    gradient: Tensor
    decrement: Tensor
    definite: Tensor
    settled: Tensor
    hessian: Tensor | None = None


class _Model:
    """g . p + p^T H p / 2 in coordinates in which H has a unit diagonal, diagonalised."""

    def __init__(self, gradient: Tensor, hessian: Tensor, reach: Tensor | None, idle: float = 0.0) -> None:
        diagonal = hessian.diagonal(dim1=-2, dim2=-1)
        pull = torch.zeros_like(gradient)
        if reach is not None:
            # A coordinate of known scale, seen to be flatter than its gradient over its reach, is stiffened.
            pull = (gradient.abs() / reach - diagonal).clamp(min=0.0)
        size = (diagonal + pull).abs().sqrt()
        self.unit = torch.where(size > 0, 1 / size, 1.0)  # (R, P)
        scaled = self.unit.unsqueeze(-1) * (hessian + torch.diag_embed(pull)) * self.unit.unsqueeze(-2)
        self.eigenvalues, self.vectors = torch.linalg.eigh(scaled)
        self.slope = ((self.unit * gradient).unsqueeze(-2) @ self.vectors).squeeze(-2)
        if idle > 0:  # directions in which nothing is to be gained over a unit's length do not count
            nothing = (self.eigenvalues.abs() <= idle) & (self.slope.abs() <= idle)
            self.eigenvalues = torch.where(nothing, 1.0, self.eigenvalues)
        size_p = gradient.shape[-1]
        floor = 8 * size_p * torch.finfo(gradient.dtype).eps * self.eigenvalues.abs().amax(-1)
        self.definite = self.eigenvalues.amin(-1) > floor
        safe = torch.where(self.eigenvalues > 0, self.eigenvalues, 1.0)
        self.decrement = torch.where(self.definite, 0.5 * (self.slope**2 / safe).sum(-1), torch.inf)
        # Flat, not falling: nothing to gain where H bends, no slope where it does not.
        bent = self.eigenvalues > floor.unsqueeze(-1)
        flat_slope = torch.where(bent, 0.0, self.slope).abs().amax(-1)
        rest = torch.where(bent, 0.5 * self.slope**2 / safe, 0.0).sum(-1)
        self.flat = ~self.definite & (self.eigenvalues[:, 0] > -floor) & (flat_slope <= 1e-9) & (rest <= 1e-9)
        self.natural = 1 + (self.slope / self.eigenvalues.abs().maximum(floor.clamp(min=1e-8).unsqueeze(-1))).norm(
            dim=-1
        )
        if reach is not None and bool((pull > 0).any()):
            self._unstiffened(gradient, hessian, size_p)

    def _unstiffened(self, gradient: Tensor, hessian: Tensor, size: int) -> None:
        """What the Hessian itself promises, not the stiffened one."""
        raw = hessian.diagonal(dim1=-2, dim2=-1)
        unit = torch.where(raw > 0, raw, 1.0).rsqrt()
        factor, failed = torch.linalg.cholesky_ex(unit.unsqueeze(-1) * hessian * unit.unsqueeze(-2))
        self.definite = self.definite & (failed == 0) & (raw > 0).all(-1)
        half = torch.linalg.solve_triangular(factor, (unit * gradient).unsqueeze(-1), upper=False).squeeze(-1)
        self.decrement = torch.where(self.definite, 0.5 * half.square().sum(-1), torch.inf).nan_to_num(nan=torch.inf)

    def keep(self, which: Tensor) -> None:
        for name, tensor in vars(self).items():
            setattr(self, name, tensor[which])

    def replace(self, which: Tensor, other: _Model) -> None:
        for name, tensor in vars(self).items():
            tensor[which] = vars(other)[name]

    def step(self, radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best p of scaled length `radius` at most: p (R, P), its scaled length, and the promised decrease (R,)."""
        lowest = self.eigenvalues.amin(-1)
        slope = self.slope
        radius = torch.where(self.definite, radius, radius.minimum(self.natural))
        if bool((~self.definite).any()):
            # Where the gradient has nothing along a direction of negative curvature, a nudge breaks the tie.
            nudge = 1e-6 * (lowest.abs() * radius).clamp(min=1e-10)
            first = torch.where(slope[:, 0] < 0, -1.0, 1.0) * slope[:, 0].abs().maximum(nudge)
            slope = torch.where(
                (~self.definite).unsqueeze(-1) & (torch.arange(slope.shape[-1], device=slope.device) == 0),
                first.unsqueeze(-1),
                slope,
            )
        # From the left of the root of 1 / |p| = 1 / radius, which is concave, Newton's method climbs to it.
        shift = ((slope.abs() / radius.unsqueeze(-1)) - self.eigenvalues).amax(-1).clamp(min=0.0)
        shift = torch.where(self.definite, shift, shift.maximum(-lowest * (1 + 1e-8)))
        for _ in range(_SECULAR_STEPS):
            bent = self.eigenvalues + shift.unsqueeze(-1)
            p = slope / bent
            length = p.norm(dim=-1)
            over = length > radius * 1.01
            if not bool(over.any()):
                break
            growth = length**2 / (p**2 / bent).sum(-1) * (length / radius - 1)
            shift = torch.where(over, shift + growth, shift)
        bent = self.eigenvalues + shift.unsqueeze(-1)
        p = -slope / bent
        length = p.norm(dim=-1)
        gain = -(self.slope * p).sum(-1) - 0.5 * (self.eigenvalues * p**2).sum(-1)
        return self.unit * (self.vectors @ p.unsqueeze(-1)).squeeze(-1), length, gain


def newton(
    problems: Problems, start: Tensor, *, tolerance: float, steps: int, reach: Tensor | None = None, idle: float = 0.0
) -> Quadratic:
    """Newton steps in a trust region whose shape follows the Hessian's diagonal (Moré & Sorensen 1983).

    The subproblem is solved exactly from an eigendecomposition, so that a step that failed is shortened without a new
    Hessian, directions of negative curvature are followed down, and the units of the coordinates do not matter.

    Args:
        problems: the functions, differentiable twice.
        start: (R, P).
        tolerance: a problem has settled where H is positive definite and g^T H^-1 g / 2 is less than this; one more
            step is taken from there.
        steps: evaluations that each problem may use.
        reach: how far a step of one coordinate can be foreseen at most, (P,): 1 or so for a logarithm, infinite where
            its scale is unknown.
        idle: curvature and slope, in coordinates in which H has a unit diagonal, up to which a direction does not
            count: for parameters of which some combinations change nothing.
    """
    value, gradient = problems(start)
    done = Quadratic(
        start.detach().clone(),
        value.clone(),
        gradient.clone(),
        torch.full_like(value, torch.inf),
        *(torch.zeros_like(value, dtype=torch.bool) for _ in range(2)),
    )
    rows = torch.arange(len(start), device=start.device)
    x = start.detach().clone()
    hessian = _clean(problems.hessian(x))
    done.hessian = hessian.clone()
    model = _Model(gradient, hessian, reach, idle)
    radius = torch.full_like(value, torch.inf)
    for _ in range(steps):
        p, length, gain = model.step(radius)
        calm = model.definite & (model.decrement < tolerance) & value.isfinite()
        trial = x + p
        new, slope = problems(trial)
        ratio = (value - new) / gain
        noise = 16 * torch.finfo(value.dtype).eps * value.abs().clamp(min=1.0)
        # Below rounding the values tell nothing: the gradient's size in the model's own metric does.
        better = (ratio > 1e-4) | ((gain < noise) & (new <= value + noise))
        better &= new.isfinite()
        taken = better & (gain > 0)
        radius = _resize(radius, length, ratio, new.isfinite(), (gain < noise) & taken)
        x = torch.where(taken.unsqueeze(-1), trial, x)
        value = torch.where(taken, new, value)
        gradient = torch.where(taken.unsqueeze(-1), slope, gradient)
        ends = calm | model.flat | (radius < _SMALLEST_RADIUS) | ~(gain > 0) | ~value.isfinite()
        going = ~ends
        if bool(ends.any()):
            _write(done, rows[ends], x[ends], value[ends], gradient[ends], hessian[ends], model, ends, calm[ends])
            rows, x, value, gradient, hessian, radius, taken = (
                t[going] for t in (rows, x, value, gradient, hessian, radius, taken)
            )
            model.keep(going)
        if len(rows) == 0:
            return done
        if bool(taken.any()):
            # A step of a few hundredths of a standard deviation leaves the Hessian as it is, near enough.
            kept = taken & problems.costly & (gain[going] < _SHORT) & ((ratio[going] - 1).abs() < 0.5)
            if bool((taken & ~kept).any()):
                hessian[taken & ~kept] = _clean(problems.hessian(x[taken & ~kept]))
            model.replace(taken, _Model(gradient[taken], hessian[taken], reach, idle))
    everyone = torch.ones_like(rows, dtype=torch.bool)
    _write(done, rows, x, value, gradient, hessian, model, everyone, ~everyone)
    return done


def _write(
    done: Quadratic,
    rows: Tensor,
    x: Tensor,
    value: Tensor,
    gradient: Tensor,
    hessian: Tensor,
    model: _Model,
    ends: Tensor,
    calm: Tensor,
) -> None:
    assert done.hessian is not None
    done.x[rows], done.value[rows], done.gradient[rows], done.hessian[rows] = x, value, gradient, hessian
    done.decrement[rows], done.definite[rows], done.settled[rows] = model.decrement[ends], model.definite[ends], calm


def _resize(radius: Tensor, length: Tensor, ratio: Tensor, finite: Tensor, negligible: Tensor) -> Tensor:
    """The next radius from how well the model foretold the step."""
    shorter = torch.where(finite, _POOR, 0.1) * length
    grown = torch.where(length > 0.9 * radius, 2.5 * radius, radius)
    result = torch.where((ratio > _GOOD) & finite, grown, radius)
    return torch.where(((ratio < _POOR) | ~finite) & ~negligible, shorter, result)


def _clean(hessian: Tensor) -> Tensor:
    """A Hessian that is not finite becomes the identity: a gradient step, in the radius that is left."""
    good = hessian.isfinite().all(-1).all(-1)
    if bool(good.all()):
        return hessian
    return torch.where(
        good[:, None, None], hessian, torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device)
    )
