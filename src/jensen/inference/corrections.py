"""From the optimum of a few draws to that of many by the Hessian of the few, corrected on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from jensen.inference.curvature import Problems

__all__ = ["Corrected", "corrected"]

_STEPS = 25


@dataclass
class Corrected:
    """Where it led.

    Attributes:
        x: (P,).
        value: there.
        settled: whether a step promised less than was asked for.
    """

    x: Tensor
    value: float
    settled: bool


def corrected(
    problems: Problems, x: Tensor, inverse: Callable[[Tensor], Tensor], stop: float, furthest: float
) -> Corrected | None:
    """Full steps of BFGS (Nocedal & Wright 2006, algorithm 7.4) whose first inverse Hessian is a good one.

    Args:
        problems: one function of P parameters.
        x: near its minimum, (P,).
        inverse: (K, P) -> (K, P), of the Hessian of a function like it.
        stop: where a step promises less than this it ends.
        furthest: what the first step may promise at most.

    Returns:
        None where the first step promises more, or nothing; unsettled at the best point where a step led up.
    """
    found, slopes = problems(x.unsqueeze(0))
    value, gradient = float(found[0]), slopes[0]
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(_STEPS):
        step = -_times(pairs, inverse, gradient)
        promised = -0.5 * float(gradient @ step)
        if number == 0 and not 0 <= promised < furthest:
            return None
        if 0 <= promised < stop:
            return Corrected(x, value, True)
        found, slopes = problems((x + step).unsqueeze(0))
        if not (promised > 0 and float(found[0]) < value + 1e-9 * abs(value)):
            break
        turn = slopes[0] - gradient
        product = step @ turn
        if float(product) > 0:
            pairs.append((step, turn, product))
        x, value, gradient = x + step, float(found[0]), slopes[0]
    return Corrected(x, value, False)


def _times(pairs: list[tuple[Tensor, Tensor, Tensor]], inverse: Callable[[Tensor], Tensor], vector: Tensor) -> Tensor:
    """The inverse Hessian that `inverse` and pairs (s, y, s . y) imply, times a vector."""
    shares = []
    for move, turn, product in reversed(pairs):
        share = move @ vector / product
        vector = vector - share * turn
        shares.append(share)
    result = inverse(vector.unsqueeze(0))[0]
    for (move, turn, product), share in zip(pairs, reversed(shares), strict=True):
        result = result + (share - turn @ result / product) * move
    return result
