"""Linear systems and Newton's method by Hessian-vector products alone, where the Hessian is too large to write down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.inference.curvature import Problems
from jensen.inference.newton import Quadratic

__all__ = ["Solution", "conjugate_gradients", "newton_cg"]

_HALVINGS = 30
_SHARE = 0.01


@dataclass
class Solution:
    """X with H X = B, for K right-hand sides.

    Attributes:
        x: (K, P).
        energy: b^T H^-1 b / 2, from below, (K,).
        residual: |B - H X| / |B|, (K,).
        definite: whether no direction of negative or no curvature was met, (K,).
    """

    x: Tensor
    energy: Tensor
    residual: Tensor
    definite: Tensor


def conjugate_gradients(
    times: Callable[[Tensor], Tensor],
    right: Tensor,
    *,
    tolerance: float,
    products: int,
    precondition: Callable[[Tensor], Tensor] | None = None,
    energy: float | None = None,
) -> Solution:
    """Preconditioned conjugate gradients (Hestenes & Stiefel 1952), all right-hand sides at once.

    Args:
        times: V (K, P) -> V H, with H symmetric.
        right: (K, P).
        tolerance: of the residual's norm relative to that of the right-hand side.
        products: at most so many for each right-hand side.
        precondition: an approximation of the inverse of H, (K, P) -> (K, P).
        energy: stop, too, where five products in a row added less than this to the energy.
    """
    x, residual = torch.zeros_like(right), right.clone()
    size = right.norm(dim=-1).clamp(min=torch.finfo(right.dtype).tiny)
    total = torch.zeros_like(size)
    definite = torch.ones_like(size, dtype=torch.bool)
    going = residual.norm(dim=-1) > tolerance * size
    close = residual if precondition is None else precondition(residual)
    direction, inner = close, (residual * close).sum(-1)
    quiet = torch.zeros_like(size)
    for _ in range(products):
        if not bool(going.any()):
            break
        image = times(direction)
        bend = (direction * image).sum(-1)
        floor = torch.finfo(right.dtype).eps * direction.norm(dim=-1) * image.norm(dim=-1)
        definite &= (bend > floor) | ~going
        going &= definite
        step = torch.where(going, inner / torch.where(going, bend, 1.0), 0.0)
        x = x + step.unsqueeze(-1) * direction
        residual = residual - step.unsqueeze(-1) * image
        total = total + 0.5 * step * inner
        if energy is not None:
            quiet = torch.where(0.5 * step * inner < energy, quiet + 1, 0.0)
            going &= quiet < 5
        going &= residual.norm(dim=-1) > tolerance * size
        close = residual if precondition is None else precondition(residual)
        new = (residual * close).sum(-1)
        ratio = torch.where(going, new / torch.where(inner != 0, inner, 1.0), 0.0)
        direction, inner = close + ratio.unsqueeze(-1) * direction, new
    return Solution(x, total, residual.norm(dim=-1) / size, definite)


def newton_cg(
    problems: Problems,
    start: Tensor,
    *,
    tolerance: float,
    steps: int,
    products: int,
    metric: Callable[[Tensor], Tensor] | None = None,
) -> Quadratic:
    """Truncated Newton steps (Nocedal & Wright 2006, algorithm 7.1) for a problem too large for `newton`.

    Args:
        problems: the function, differentiable twice.
        start: (1, P).
        tolerance: settled where no negative curvature was met and the decrement is less than this.
        steps: Newton steps at most.
        products: Hessian-vector products of each at most.
        metric: an approximation of the inverse Hessian, (1, P) -> (1, P), that speeds conjugate gradients up.
    """
    x = start.detach().clone()
    value, gradient = problems(x)
    decrement = torch.full_like(value, torch.inf)
    definite = settled = torch.zeros_like(value, dtype=torch.bool)
    for _ in range(steps):
        with torch.no_grad():
            solution = conjugate_gradients(
                problems.product(x),
                -gradient,
                tolerance=1e-6,
                products=products,
                precondition=metric,
                energy=_SHARE * tolerance,
            )
        definite, decrement = solution.definite, torch.where(solution.definite, solution.energy, torch.inf)
        settled = definite & (decrement < tolerance)
        direction = solution.x if bool(solution.x.any()) else (-gradient if metric is None else metric(-gradient))
        found = _backtrack(problems, x, value, gradient, direction)
        if found is not None:
            x, value, gradient = found
        if found is None or bool(settled):
            break
    return Quadratic(x, value, gradient, decrement, definite, settled)


def _backtrack(
    problems: Problems, x: Tensor, value: Tensor, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The longest of the steps 1, 1/2, 1/4, ... that leads down, or None."""
    slope = (gradient * direction).sum(-1)
    noise = 16 * torch.finfo(value.dtype).eps * value.abs()
    for halving in range(_HALVINGS):
        length = 0.5**halving
        trial = x + length * direction
        new, turned = problems(trial)
        if bool(new <= value + 1e-4 * length * slope + noise):
            return trial, new, turned
    return None
