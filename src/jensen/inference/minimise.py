"""Minimise many independent smooth functions at once: L-BFGS first, then Newton's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.inference.conjugate_gradients import newton_cg
from jensen.inference.curvature import Problems
from jensen.inference.newton import Quadratic, newton
from jensen.inference.quasi_newton import Descent, Path, inverse_times, quasi_newton

__all__ = ["DENSE", "EXACT", "Minimum", "Path", "minimise"]

DENSE = 300
"""parameters up to which Hessians are written down"""
EXACT = 1000
"""the same where a shortcut to them is known"""
_HANDOVER = 1e-3
"""promised decrease below which Newton's method takes over"""
_NEWTON_STEPS = 50
"""at least, whatever L-BFGS has used"""
_CG_STEPS, _CG_PRODUCTS = 20, 200


@dataclass
class Minimum:
    """Where R minimisations ended. Values are in the function's units; for a negative bound these are nats.

    Attributes:
        x: (R, P).
        value: (R,).
        gradient_norm: (R,).
        decrement: what a quadratic model at the last point (or one Newton step before it) promises to be left to gain,
            g^T H^-1 g / 2, (R,); infinite where the Hessian is not positive definite. Free of the parameters' units.
        converged: whether the Hessian is positive definite and the decrement below the tolerance, (R,).
        reasons: why each ended, in words.
        evaluations: gradients, over all problems.
        products: Hessian-vector products, over all problems; a Hessian counts P.
        hessian: (R, P, P), where it was written down.
        path: of the quasi-Newton part, if asked for.
    """

    x: Tensor
    value: Tensor
    gradient_norm: Tensor
    decrement: Tensor
    converged: Tensor
    reasons: list[str]
    evaluations: int
    products: int
    hessian: Tensor | None = None
    path: Path | None = None


def minimise(
    function: Callable[[Tensor], Tensor] | Problems,
    start: Tensor,
    *,
    tolerance: float = 1e-6,
    evaluations: int = 500,
    second_order: bool = True,
    dense: int = DENSE,
    reach: Tensor | None = None,
    idle: float = 0.0,
    path: bool = False,
) -> Minimum:
    """Minimise R functions of P parameters each, from R starts.

    L-BFGS goes until its model promises little, then Newton's method with exact Hessians in a trust region (P <=
    `dense`) or with conjugate gradients finishes and says whether this is a minimum. Values that are not finite count
    as infinite. The criterion does not depend on the parameters' units.

    Args:
        function: (R, P) -> (R,), row r of row r alone (make it by `torch.func.vmap`), for any number of rows;
            differentiable twice if `second_order`. Or such `Problems`, whose counts go on.
        start: (R, P); a start where the function is not finite is not moved.
        tolerance: decrement below which a problem has converged, in units of the function.
        evaluations: gradients that each problem may use.
        second_order: without, L-BFGS goes on alone, and its own approximation of the inverse Hessian stands for H^-1.
        dense: largest P whose Hessians are written down; `EXACT`, where the problems have an exact shortcut to them.
        reach: for Newton's method, how far a parameter may be taken to be foreseeable, (P,); see `newton`.
        idle: for Newton's method, what does not count; see `newton`.
        path: keep the positions and gradients of L-BFGS.

    Raises:
        ValueError: the start is not a matrix, or an option is out of its range.
    """
    if start.ndim != 2:
        raise ValueError(f"start must be (problems, parameters), got shape {tuple(start.shape)}")
    if not (tolerance > 0 and evaluations >= 1):
        raise ValueError(f"tolerance and evaluations must be positive, got {tolerance} and {evaluations}")
    problems = function if isinstance(function, Problems) else Problems(function)
    size = start.shape[1]
    dense = max(dense, EXACT) if problems.columns is not None else dense
    if not problems.measured:
        problems(start[:1])  # tells what a Hessian costs
    soon = second_order and size <= dense and not problems.costly
    first = min(evaluations, 20 + size) if soon else evaluations
    handover = _HANDOVER if soon else tolerance
    descent = quasi_newton(problems, start, tolerance=handover, evaluations=first, path=path)
    if not second_order:
        result = _alone(descent, tolerance)
    elif size <= dense:
        left = max(_NEWTON_STEPS, evaluations - problems.evaluations // len(start))
        result = newton(problems, descent.x, tolerance=tolerance, steps=left, reach=reach, idle=idle)
    else:
        result = _large(problems, descent, tolerance)
    return Minimum(
        result.x,
        result.value,
        result.gradient.norm(dim=-1),
        result.decrement,
        result.settled,
        [_reason(result, r, tolerance) for r in range(len(start))],
        problems.evaluations,
        problems.products,
        result.hessian,
        descent.path,
    )


def _alone(descent: Descent, tolerance: float) -> Quadratic:
    """L-BFGS's own judgement."""
    step = inverse_times(descent.moves, descent.turns, descent.gradient)
    decrement = 0.5 * (descent.gradient * step).sum(-1)
    settled = (descent.settled | descent.stuck) & (decrement < tolerance) & descent.value.isfinite()
    return Quadratic(descent.x, descent.value, descent.gradient, decrement, torch.ones_like(settled), settled)


def _large(problems: Problems, descent: Descent, tolerance: float) -> Quadratic:
    """Newton's method by conjugate gradients, one problem after the other, with L-BFGS's matrix as preconditioner."""

    def polish(r: int) -> Quadratic:
        pairs = descent.moves[r : r + 1], descent.turns[r : r + 1]
        return newton_cg(
            problems,
            descent.x[r : r + 1],
            tolerance=tolerance,
            steps=_CG_STEPS,
            products=_CG_PRODUCTS,
            metric=lambda vector: inverse_times(*pairs, vector),
        )

    each = [polish(r) for r in range(len(descent.x))]
    fields = ("x", "value", "gradient", "decrement", "definite", "settled")
    return Quadratic(*(torch.cat([getattr(q, name) for q in each]) for name in fields))


def _reason(result: Quadratic, r: int, tolerance: float) -> str:
    if not bool(result.value[r].isfinite()):
        return "the function is not finite at the start"
    decrement = float(result.decrement[r])
    if bool(result.settled[r]):
        return f"a Newton step promises {decrement:.1e}, less than {tolerance:.1e}"
    if not bool(result.definite[r]):
        return "the Hessian is not positive definite: the function is flat or falls in some direction"
    return f"a Newton step still promises {decrement:.1e}, more than {tolerance:.1e}, at the limit of evaluations"
