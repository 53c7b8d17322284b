"""Deterministic ascent: the bound at fixed draws, climbed by second-order methods, its draws enough or made more.

Giordano, Ingram & Broderick (2024), "Black box variational inference with a deterministic objective: faster, more
accurate, and even more black box", JMLR 25(18), fix the draws once and minimise exactly. Here the draws match the
normal's first moments, many independent sets of them say how far their optima are from that of the true bound, and a
few more steps with all sets together go most of that way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from jensen.inference.climb import Ascent
from jensen.inference.corrections import corrected
from jensen.inference.curvature import Problems
from jensen.inference.draws import Draws, matched, pairs, understated
from jensen.inference.fixed_draws import (
    FreshValue,
    apart,
    at_draws,
    at_sets,
    fresh_elbo,
    model_parameters,
    reach_of,
    starts_of,
)
from jensen.inference.linear_response import Response, linear_response, response_of_mean
from jensen.inference.minimise import Minimum, minimise
from jensen.inference.objective import Bound
from jensen.inference.standing import APART, Standing
from jensen.inference.target import unvalidated
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.inference.variational.low_rank import LowRankNormal

__all__ = ["Callback", "climb"]

Callback = Callable[[int, float], object]
"""(gradients so far, ELBO in nats at the present draws)"""

_FEWEST, _FEW, _MOST_AT_FIRST = 16, 24, 512
_SETS, _FEW_SETS = 16, 4
_FRESH = 1024
_AFFORDABLE = 200_000
"""numbers in one intermediate result of all draws together, beyond which fewer draws and sets are tried first"""
_DEAR = 10_000_000
"""the same for fresh draws"""
_PLENTY = 0.25
"""of the tolerance: what few sets must leave at most"""
_QUADRATIC = 1.0
"""nats between a set's optimum and that of all sets, up to which the bound's second order between them is trusted"""
_ALIKE = 2e-3, 0.05
"""nats between sets, below which the Hessian of one set, and of four, is that of all to within a percent or so"""
_IDLE = 1e-6
"""of loadings: more of them than the posterior needs leave directions that hardly change q"""
_TRACED = 2000
"""parameters up to which the way of the first ascent is kept"""
_MANY = 30
"""parameters from which on a few gradients tell their spread"""
_PER_PARAMETER = 5e-4
"""nats for each parameter that finite draws may cost: a mean is then off by 0.03 standard deviations"""
_ELSEWHERE = 1.0
"""nats of KL between the q of two starts that are at different optima"""


def climb(
    bound: Bound,
    *,
    n_starts: int = 4,
    draws: int | None = None,
    max_draws: int = 16_384,
    tol: float = 0.02,
    evaluations: int = 500,
    seed: int = 0,
    callback: Callback | None = None,
) -> Ascent:
    """Maximise a bound whose draws are standard normal noise transformed, on all the data.

    Several starts climb together at few draws. The best then faces independent sets of draws: their gradients say how
    much of the bound its own draws cost (g^T H^-1 g / 2); if that is little it goes on to the optimum of all sets
    together, else its draws are multiplied. Converged means that a Newton step promises less than 1e-6 nats, the
    Hessian is positive definite, the draws leave the bound short by `tol` at most, and fresh draws give the same ELBO.

    Args:
        bound: with `noise_size`.
        n_starts: the first at zero, the others random.
        draws: to begin with; by default two for each dimension of the noise, 16 to 512.
        max_draws: in all sets together.
        tol: nats by which finite draws may leave the bound short in expectation; 5e-4 for each parameter, if more.
        evaluations: gradients that each start may use at each number of draws.
        seed: of starts and draws.
        callback: told of progress after each round.

    Returns:
        Where the climb ended. Ctrl-C after the first optimum ends it there: not converged.

    Raises:
        ValueError: an option out of its range, or a bound that fixed draws do not suit.
        NonFiniteError: the bound is not finite at any start.
    """
    if bound.noise_size is None:
        raise ValueError('q has factors whose draws are not made of normal noise: use method="stochastic"')
    if not (n_starts >= 1 and tol > 0 and evaluations >= 1):
        raise ValueError(f"n_starts, tol and evaluations must be positive, got {n_starts}, {tol} and {evaluations}")
    if (draws is not None and draws < 2) or max_draws < 2 * _SETS:
        raise ValueError(f"draws must be at least 2 and max_draws at least {2 * _SETS}, got {draws} and {max_draws}")
    with unvalidated():
        bound.profile()
        return _Climb(bound, tol, max_draws, evaluations, seed, callback).run(n_starts, draws)


class _Climb:
    def __init__(
        self, bound: Bound, tol: float, max_draws: int, evaluations: int, seed: int, callback: Callback | None
    ) -> None:
        self.bound, self.max_draws, self.evaluations, self.callback = bound, max_draws, evaluations, callback
        self.size = bound.noise_size or 0
        self.like = bound.flat()
        self.tol = max(tol, _PER_PARAMETER * len(self.like))
        root = Generator().manual_seed(seed)
        seeds = torch.randint(2**62, (3,), generator=root).tolist()
        self.starts, self.fresh, fixed = (Generator().manual_seed(s) for s in seeds)
        self.draws = Draws(self.size, fixed) if self.size else None
        self.reach = reach_of(bound)
        low_rank = any(isinstance(factor, LowRankNormal) for factor in bound.family.factors)
        self.idle = _IDLE if low_rank and not bool(model_parameters(bound).any()) else 0.0
        self.gradients = 0
        self.numbers = 1.0

    # --- the way ----------------------------------------------------------------------------------------------------

    def run(self, n_starts: int, draws: int | None) -> Ascent:
        if len(self.like) == 0:
            return self.nothing_free()
        self.numbers = self._numbers()
        best = self.explore(n_starts, draws or self._first_draws())
        if not self.size:
            best.response = Response(at_draws(self.bound, self.noise(1)), best.x, hessian=best.hessian, idle=self.idle)
        try:
            self.refine(best)
        except KeyboardInterrupt:
            best.settled, best.response, best.moves = False, None, None
            best.reason = f"interrupted at the optimum of {best.draws:,} draws"
            best.advice = "Let it go on to see how much these draws cost."
        return self.judge(best)

    def refine(self, best: Standing) -> None:
        """More draws, until they are enough."""
        while self.size and best.settled and not self.polish(best):
            more = 4 * best.draws
            if more * _SETS > self.max_draws:
                best.reason = (
                    f"{best.draws * _SETS:,} draws may still leave the bound {best.remaining:.2g} nats short, more "
                    f"than {self.tol:.2g}"
                )
                best.advice = "Allow more by max_draws, take a family with fewer parameters, or raise tol."
                best.settled = False
                break
            self.grow(best, more)

    def nothing_free(self) -> Ascent:
        """The bound of a model all of whose latents are enumerated at their best q."""
        value = self._elbo(self.like, self.noise(1), self._fresh(2)).elbo
        return Ascent(self.like, value, 0.0, [value], True, "q is known in closed form", starts=[(value, True)])

    def explore(self, n_starts: int, draws: int) -> Standing:
        """All starts at few draws."""
        problems = at_draws(self.bound, self.noise(draws))
        starts = starts_of(self.bound, n_starts, problems, self.starts, self.evaluations)
        self.gradients += starts.gradients
        found = self._minimise(problems, starts.flat, path=len(self.like) <= _TRACED)
        noise = self._fresh(_FRESH // 2)
        elbos = [self._elbo(x, self.noise(draws), noise).elbo for x in found.x]
        order = sorted(range(len(elbos)), key=lambda r: elbos[r] if elbos[r] == elbos[r] else -torch.inf)
        r = order[-1]
        best = Standing(found.x[r], draws, -float(found.value[r]), bool(found.converged[r]), found.reasons[r])
        best.hessian = None if found.hessian is None else found.hessian[r]
        best.starts = [(elbos[s], bool(found.converged[s])) for s in starts.of_start if s is not None]
        if found.path is not None:
            best.trace = (-found.path.values[r, : int(found.path.lengths[r])]).tolist()
        best.trace.append(best.elbo)
        best.level = [
            s is not None
            and s != r
            and bool(found.converged[s])
            and abs(elbos[s] - elbos[r]) <= APART
            and apart(self.bound, found.x[s], found.x[r]) > _ELSEWHERE
            for s in starts.of_start
        ].count(True)
        self._told(best)
        return best

    def grow(self, best: Standing, draws: int) -> None:
        """From where it stands to the optimum of more draws."""
        found = self._minimise(at_draws(self.bound, self.noise(draws)), best.x.unsqueeze(0))
        best.x, best.draws, best.elbo = found.x[0], draws, -float(found.value[0])
        best.settled, best.reason = bool(found.converged[0]), found.reasons[0]
        best.hessian = None if found.hessian is None else found.hessian[0]
        best.trace.append(best.elbo)
        self._told(best)

    def polish(self, best: Standing) -> bool:
        """Measure what the draws cost, and go on with all sets if it is little; whether that was so."""
        problems = at_draws(self.bound, self.noise(best.draws))
        response = Response(problems, best.x, hessian=best.hessian, idle=self.idle)
        # As many decorrelated draws as dimensions would all have the same distance from zero: larger sets, and fewer.
        together = 2 if best.draws < 4 * self.size and not self._costly(best.draws) else 1
        most, size = _SETS // together, best.draws // 2 * together
        few = self._costly(best.draws * _SETS) and len(best.x) >= _MANY and most > _FEW_SETS
        halves, values, gradients = self._sets(_FEW_SETS if few else most, size, best.x)
        moves = -response.solve(gradients)
        if not (response.definite and bool(values.isfinite().all())):
            best.settled, best.reason = False, "the Hessian is not positive definite at the optimum"
            return True
        more = understated(max(2, size), self.size)  # sets that are matched by themselves are too much alike
        if few and more * _spread(gradients, moves) / _FEW_SETS > _PLENTY * self.tol:
            added = self._sets(most - _FEW_SETS, size, best.x)
            halves, gradients = torch.cat([halves, added[0]]), torch.cat([gradients, added[2]])
            moves = -response.solve(gradients)
        count, spread = len(halves), _spread(gradients, moves)
        best.spread, best.remaining = together * spread, more * spread / count
        best.moves = (moves - moves.mean(0)) * (more / (count * (count - 1))) ** 0.5
        self._count(problems)
        # All together are matched once more as one set: the error of matching, O(D / draws), is then that of many.
        return best.remaining <= self.tol and self._together(
            best, pairs(matched(halves.flatten(0, 1))).to(self.like), response
        )

    def _sets(self, count: int, size: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Halves of independent sets of draws, and minus the bound and its gradients at them."""
        halves = torch.randn(count, size, self.size, dtype=torch.float64, generator=self.fresh)
        values, gradients = at_sets(self.bound, pairs(matched(halves)).to(self.like), x)
        self.gradients += count
        return halves, values, gradients

    def _together(self, best: Standing, noise: Tensor, response: Response) -> bool:
        """To the optimum of all sets with the Hessian of one, or with new ones; False if it is too far for that."""
        problems = at_draws(self.bound, noise, recordable=False)
        stop = max(1e-6, 1e-3 * best.remaining)
        found = corrected(problems, best.x, response.solve, stop, _QUADRATIC)
        if found is None:
            self._count(problems)
            return False
        x, value = found.x, found.value
        if not found.settled:
            newton = self._minimise(problems, x.unsqueeze(0))
            x, value = newton.x[0], float(newton.value[0])
            best.settled, best.reason = bool(newton.converged[0]), newton.reasons[0]
        best.x, best.elbo = x, -value
        best.trace.append(best.elbo)
        self._count(problems)
        if found.settled and best.spread < _ALIKE[problems.costly]:
            best.response = response
        else:
            sets = min(4 if best.spread < _ALIKE[1] or self._costly(_SETS * best.draws) else _SETS, _SETS)
            problems = at_draws(self.bound, noise[: sets * best.draws], recordable=False)
            best.response = Response(problems, x, idle=self.idle)
            self._count(problems)
            if not best.response.definite and sets * best.draws < len(noise):  # a part of the draws, not their optimum
                problems = at_draws(self.bound, noise, recordable=False)
                best.response = Response(problems, x, idle=self.idle)
                self._count(problems)
        best.draws, best.together = len(noise), noise
        self._told(best)
        return True

    # --- the verdict ------------------------------------------------------------------------------------------------

    def judge(self, best: Standing) -> Ascent:
        """What comes of it, and whether it is to be believed."""
        fitted = self.noise(best.draws) if best.together is None else best.together
        fresh = self._elbo(best.x, fitted, self._fresh(_FRESH))
        covariance = sd = response = None
        if best.response is not None and best.settled:
            if not best.response.definite:
                best.settled, best.reason = False, "the Hessian is not positive definite at the optimum"
            theta = model_parameters(self.bound)
            response = best.response.fixing(~theta) if bool(theta.any()) else best.response
            covariance = linear_response(self.bound, best.x, response)
        if best.moves is not None:
            moved = response_of_mean(self.bound, best.x, best.moves)
            sd = None if moved is None else moved.square().sum(0).sqrt()
        if self.size:
            self._agreement(best, fresh.elbo, fresh.error)
        best.note_disagreement()
        best.explain(self.bound, self.reach)
        return Ascent(
            flat=best.x,
            elbo=fresh.elbo,
            elbo_se=fresh.error,
            trace=best.trace,
            converged=best.settled,
            reason=best.reason,
            advice=best.advice,
            evaluations=self.gradients,
            starts=best.starts,
            linear_response=covariance,
            response=None if covariance is None else response,
            monte_carlo=sd,
            notes=best.notes,
        )

    def _agreement(self, best: Standing, elbo: float, error: float) -> None:
        gap = best.elbo - elbo
        allowed = self.tol + 4 * error
        if best.settled and not abs(gap) <= allowed:
            best.settled = False
            best.reason = (
                f"fresh draws give an ELBO of {elbo:.2f} ± {error:.2f} nats, not the {best.elbo:.2f} of the draws that "
                "were fitted"
            )
            best.advice = "Give more draws: draws=..., max_draws=...; heavy tails of log p / q need very many."
        elif best.settled:
            best.reason = f"{best.reason}; {best.draws:,} draws leave the bound about {best.remaining:.1e} nats short"

    # --- small things -----------------------------------------------------------------------------------------------

    def noise(self, draws: int) -> Tensor:
        if self.draws is None:
            return self.like.new_empty(1, 0)
        return self.draws.matched(draws).to(self.like)

    def _elbo(self, x: Tensor, fitted: Tensor, fresh: Tensor) -> FreshValue:
        """On fresh draws, discrete factors at their best for those that were fitted."""
        self.bound.settle(x, fitted)
        return fresh_elbo(self.bound, x, fresh)

    def _fresh(self, draws: int) -> Tensor:
        if not self.size:
            return self.like.new_empty(2, 0)
        if draws * self.numbers > _DEAR:
            draws //= 4
        return pairs(torch.randn(draws // 2, self.size, dtype=torch.float64, generator=self.fresh)).to(self.like)

    def _numbers(self) -> float:
        """Numbers in the largest intermediate result of one draw."""
        if not self.size:
            return 1.0
        problems = at_draws(self.bound, self.noise(_FEWEST), recordable=False)
        problems(self.like.unsqueeze(0))
        return problems.largest / _FEWEST

    def _costly(self, draws: int) -> bool:
        return draws * self.numbers > _AFFORDABLE

    def _first_draws(self) -> int:
        """Two for each dimension, so that they can be decorrelated; fewer if these are many and q is independent."""
        usual = min(_MOST_AT_FIRST, max(_FEWEST, 2 * self.size))
        if self._costly(usual) and all(type(factor) is DiagonalNormal for factor in self.bound.family.factors):
            return min(usual, max(_FEW, 2 * int(_AFFORDABLE / self.numbers / 2)))
        return usual

    def _minimise(self, problems: Problems, starts: Tensor, path: bool = False) -> Minimum:
        found = minimise(problems, starts, evaluations=self.evaluations, reach=self.reach, idle=self.idle, path=path)
        self._count(problems)
        return found

    def _count(self, problems: Problems, more: int = 0) -> None:
        self.gradients += problems.evaluations + problems.products + more

    def _told(self, best: Standing) -> None:
        if self.callback is not None:
            self.callback(self.gradients, best.elbo)


def _spread(gradients: Tensor, moves: Tensor) -> float:
    """Nats between the optimum of one set and that of all, from gradients (K, P) and Newton steps."""
    return -0.5 * float(((gradients - gradients.mean(0)) * (moves - moves.mean(0))).sum()) / (len(moves) - 1)
