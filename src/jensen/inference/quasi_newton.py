"""L-BFGS for many independent problems at once, each at its own pace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.inference.curvature import Problems

__all__ = ["Descent", "Path", "inverse_times", "quasi_newton"]

_ARMIJO, _CURVATURE = 1e-4, 0.9
_TRIALS = 30
_MEMORY = 10


@dataclass
class Path:
    """Where the descent went, its start first.

    Attributes:
        positions: (R, steps, P); the last one repeated where a problem ended sooner.
        gradients: (R, steps, P).
        values: (R, steps).
        lengths: how many of them are real, (R,).
    """

    positions: Tensor
    gradients: Tensor
    values: Tensor
    lengths: Tensor


@dataclass
class Descent:
    """Where R problems stand.

    Attributes:
        x: (R, P).
        value: (R,).
        gradient: (R, P).
        settled: whether two steps in a row gained, and promised, less than the tolerance, (R,).
        stuck: whether no step along the gradient led down, (R,).
        moves: the last steps, (R, memory, P), oldest first; zero where there were fewer.
        turns: the changes of gradient along them.
        path: if asked for.
    """

    x: Tensor
    value: Tensor
    gradient: Tensor
    settled: Tensor
    stuck: Tensor
    moves: Tensor
    turns: Tensor
    path: Path | None = None


class _State:
    """What belongs to a problem under way; every tensor leads with the problems."""

    def __init__(self, x: Tensor, value: Tensor, gradient: Tensor) -> None:
        rows, size = x.shape
        self.rows = torch.arange(rows, device=x.device)
        self.x, self.value, self.gradient = x, value, gradient
        self.moves = x.new_zeros(rows, _MEMORY, size)  # s, oldest first
        self.turns = x.new_zeros(rows, _MEMORY, size)  # y
        self.direction = -gradient
        self.slope = -(gradient * gradient).sum(-1)
        # One unit of length at most: nothing is known of the curvature yet.
        self.length = (1 / gradient.norm(dim=-1)).clamp(max=1.0)
        self.low, self.high = torch.zeros_like(value), torch.full_like(value, torch.inf)
        self.low_value, self.low_slope, self.low_gradient = value, self.slope, gradient
        self.high_value = torch.full_like(value, torch.inf)
        self.trials = torch.zeros_like(self.rows)
        self.calm = torch.zeros_like(self.rows)

    def keep(self, which: Tensor) -> None:
        for name, tensor in vars(self).items():
            setattr(self, name, tensor[which])

    def aim(self, which: Tensor) -> None:
        """A new direction, and a new line search along it, for some problems."""
        step = -inverse_times(self.moves, self.turns, self.gradient)
        slope = (step * self.gradient).sum(-1)
        wrong = ~(slope < 0) & which  # rounding; NaN
        if bool(wrong.any()):
            self.forget(wrong)
            step = torch.where(wrong.unsqueeze(-1), -self.gradient, step)
            slope = (step * self.gradient).sum(-1)
        known = self.moves[:, -1, 0].ne(0) | self.moves[:, -1].ne(0).any(-1)
        unit = torch.where(known, 1.0, (1 / self.gradient.norm(dim=-1)).clamp(max=1.0))
        fresh = {
            "direction": step,
            "low_gradient": self.gradient,
            "slope": slope,
            "length": unit,
            "low": torch.zeros_like(slope),
            "high": torch.full_like(slope, torch.inf),
            "low_value": self.value,
            "low_slope": slope,
            "trials": torch.zeros_like(self.trials),
        }
        if not bool(which.all()):
            fresh = {name: _choose(which, new, getattr(self, name)) for name, new in fresh.items()}
        vars(self).update(fresh)

    def forget(self, which: Tensor) -> None:
        """No memory of the curvature for some problems."""
        gone = which[:, None, None]
        self.moves, self.turns = self.moves.masked_fill(gone, 0.0), self.turns.masked_fill(gone, 0.0)

    def take(self, which: Tensor, point: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Go there, and remember the pair (s, y)."""
        move, turn = point - self.x, gradient - self.gradient
        product = (move * turn).sum(-1)
        good = which & (product > 1e-14 * move.norm(dim=-1) * turn.norm(dim=-1))
        moves = torch.cat([self.moves[:, 1:], move.unsqueeze(1)], 1)
        turns = torch.cat([self.turns[:, 1:], turn.unsqueeze(1)], 1)
        if bool(good.all()):
            self.x, self.gradient, self.value, self.moves, self.turns = point, gradient, value, moves, turns
            return
        self.moves, self.turns = _choose(good, moves, self.moves), _choose(good, turns, self.turns)
        self.x, self.gradient = _choose(which, point, self.x), _choose(which, gradient, self.gradient)
        self.value = torch.where(which, value, self.value)


def _choose(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new rows where `which`, the old ones elsewhere."""
    return torch.where(which.reshape(-1, *(1 for _ in new.shape[1:])), new, old)


def quasi_newton(
    problems: Problems, start: Tensor, *, tolerance: float, evaluations: int, path: bool = False
) -> Descent:
    """L-BFGS (Nocedal & Wright 2006, algorithm 7.5 in its compact form, equation 7.24) with a bracketing line search.

    Steps satisfy Armijo's condition up to rounding and the weak curvature condition. All problems are evaluated
    together, and each is at its own trial of its own line search; finished ones leave.

    Args:
        problems: the functions.
        start: (R, P), where the values are finite.
        tolerance: a problem has settled when two steps in a row gained, and the model promises, less than this.
        evaluations: gradients that each problem may use.
        path: keep where it went.
    """
    value, gradient = problems(start)
    state = _State(start.detach(), value, gradient)
    no = torch.zeros_like(value, dtype=torch.bool)
    pairs = (torch.zeros_like(state.moves), torch.zeros_like(state.turns))
    result = Descent(start.detach().clone(), value.clone(), gradient.clone(), no, no.clone(), *pairs)
    visits = [(state.rows, state.x, state.gradient, state.value)]
    at_rest = state.slope == 0
    _leave(state, result, at_rest & value.isfinite(), at_rest & ~value.isfinite())
    for _ in range(evaluations - 1):
        if len(state.rows) == 0:
            break
        accepted, drop = _trial(problems, state)
        if bool(accepted.any()):
            state.aim(accepted)
            if path:
                visits.append(tuple(t[accepted] for t in (state.rows, state.x, state.gradient, state.value)))  # type: ignore[arg-type]
        calm = (drop < tolerance) & (-0.5 * state.slope < tolerance)
        state.calm = torch.where(accepted, (state.calm + 1) * calm, state.calm)
        _leave(state, result, state.calm >= 2, _retry(state))
    _leave(state, result, torch.zeros_like(state.rows, dtype=torch.bool), None)
    if path:
        result.path = _assemble(visits, len(start))
    return result


def _leave(state: _State, result: Descent, settled: Tensor, stuck: Tensor | None) -> None:
    """Write the problems that end into the result; all that are left if `stuck` is None."""
    ends = torch.ones_like(settled) if stuck is None else settled | stuck
    if not bool(ends.any()):
        return
    rows = state.rows[ends]
    result.x[rows], result.value[rows], result.gradient[rows] = state.x[ends], state.value[ends], state.gradient[ends]
    result.moves[rows], result.turns[rows] = state.moves[ends], state.turns[ends]
    result.settled[rows] = settled[ends]
    if stuck is not None:
        result.stuck[rows] = (stuck & ~settled)[ends]
    state.keep(~ends)


def _trial(problems: Problems, s: _State) -> tuple[Tensor, Tensor]:
    """One evaluation of every line search; which ended with a step taken, and what it gained."""
    point = s.x + s.length.unsqueeze(-1) * s.direction
    value, gradient = problems(point)
    slope = (gradient * s.direction).sum(-1)
    rounding = 4 * torch.finfo(value.dtype).eps * s.value.abs()
    lower = value <= s.value + _ARMIJO * s.length * s.slope + rounding
    level = slope >= _CURVATURE * s.slope
    accepted = lower & level
    drop = s.value - value
    if bool(accepted.all()):  # most of the time
        s.take(accepted, point, value, gradient)
        return accepted, drop
    s.high, s.high_value = torch.where(lower, s.high, s.length), torch.where(lower, s.high_value, value)
    ahead = lower & ~level
    # Extrapolate along the slopes' secant while no upper end is known.
    bend = (slope - s.low_slope) / (s.length - s.low)
    reach = (-slope / bend).where(bend > 0, torch.full_like(bend, torch.inf))
    onward = s.length + reach.clamp(min=s.length, max=9 * s.length)
    s.low, s.low_value = torch.where(ahead, s.length, s.low), torch.where(ahead, value, s.low_value)
    s.low_slope = torch.where(ahead, slope, s.low_slope)
    s.low_gradient = torch.where(ahead.unsqueeze(-1), gradient, s.low_gradient)
    width = s.high - s.low
    excess = s.high_value - s.low_value - s.low_slope * width
    inside = s.low + (-0.5 * s.low_slope * width**2 / excess).nan_to_num(nan=0.0).clamp(
        min=0.1 * width, max=0.9 * width
    )
    s.length = torch.where(s.high.isinf(), onward, inside)
    s.trials = s.trials + 1
    s.take(accepted, point, value, gradient)
    return accepted, drop


def _retry(s: _State) -> Tensor:
    """Line searches that found nothing start again along the gradient; which did so without success."""
    tired = s.trials >= _TRIALS
    lost = torch.zeros_like(tired)
    if not bool(tired.any()):
        return lost
    partly = tired & (s.low > 0)  # lower, but still steep: better than nothing
    if bool(partly.any()):
        s.take(partly, s.x + s.low.unsqueeze(-1) * s.direction, s.low_value, s.low_gradient)
    lost = tired & ~partly & ~s.moves[:, -1].ne(0).any(-1)
    again = tired & ~lost
    if bool(again.any()):
        s.forget(again & ~partly)
        s.aim(again)
    return lost


def inverse_times(moves: Tensor, turns: Tensor, vector: Tensor) -> Tensor:
    """The inverse Hessian that pairs (s, y) imply, (R, memory, P) each, oldest first, times a vector, (R, P).

    Pairs that are zero do not count. Positive definite where s . y > 0 (Nocedal & Wright 2006, equation 7.24).
    """
    products = moves @ turns.mT
    empty = (products.diagonal(dim1=-2, dim2=-1) == 0).to(vector.dtype)
    upper = products.triu() + torch.diag_embed(empty)
    curved = turns @ turns.mT
    last, norm = products[:, -1, -1], curved[:, -1, -1]
    scale = torch.where(norm > 0, last / norm, 1.0)[:, None, None]
    along = torch.linalg.solve_triangular(upper, moves @ vector.unsqueeze(-1), upper=True)
    inner = products.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * along + scale * (
        curved @ along - turns @ vector.unsqueeze(-1)
    )
    top = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
    result: Tensor = scale * vector.unsqueeze(-1) + moves.mT @ top - scale * (turns.mT @ along)
    return result.squeeze(-1)


def _assemble(visits: list[tuple[Tensor, Tensor, Tensor, Tensor]], rows: int) -> Path:
    """The visits sorted by problem."""
    who = torch.cat([v[0] for v in visits])
    lengths = torch.bincount(who, minlength=rows)
    order = torch.argsort(who, stable=True)
    first = torch.cumsum(lengths, 0) - lengths
    steps = torch.arange(int(lengths.max()), device=who.device)
    index = order[first.unsqueeze(-1) + torch.minimum(steps, lengths.unsqueeze(-1) - 1)]
    x, gradient, value = (torch.cat([v[i] for v in visits])[index] for i in (1, 2, 3))
    return Path(x, gradient, value, lengths)
