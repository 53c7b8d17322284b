"""Estimators whose sweeps are not the engine's own: the best of several starts, kept whatever happens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from sklearn.exceptions import ConvergenceWarning

from jensen.estimators.base import VariationalEstimator
from jensen.inference import Result, State

__all__ = ["ClimbingEstimator"]

Callback = Callable[[int, float, State], object]


class ClimbingEstimator(VariationalEstimator):
    """A `VariationalEstimator` that may also climb with functions of its own."""

    def _climb(self, runs: Iterable[Callable[[Callback], Result]]) -> Result:
        """Make each run, which calls what it is given with (step, ELBO, state), and keep the best result.

        After Ctrl-C the best posterior so far is kept, and the interruption goes on.
        """
        done: list[Result] = []
        unfinished: list[Result] = []

        def remember(step: int, elbo: float, state: State) -> None:
            trace = unfinished[0].elbo_trace if unfinished else []
            trace.append(elbo)
            unfinished[:] = [Result(state.q, elbo, trace, False, "interrupted", step)]
            if self.on_step is not None:
                self.on_step(step, elbo, state)

        try:
            for run in runs:
                unfinished.clear()
                done.append(run(remember))
        except KeyboardInterrupt:
            if done or unfinished:
                self._keep(max(done + unfinished, key=lambda result: result.elbo))
            raise
        best = max(done, key=lambda result: result.elbo)
        self._keep(best)
        if not best.converged:
            warnings.warn(
                f"{type(self).__name__} has not converged: {best.reason}; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        return best
