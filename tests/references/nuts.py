"""A small no-U-turn sampler, for reference draws: NumPy alone, nothing shared with the package.

Hoffman & Gelman 2014, algorithm 6 (slice sampling over the trajectory, dual averaging of the step size), with a
diagonal mass matrix estimated in the warm-up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Floats = np.ndarray
Target = Callable[[Floats], tuple[float, Floats]]
"""position -> (log density up to a constant, its gradient)"""

WORST_ERROR = 1000.0
DEPTH = 10
ACCEPTANCE = 0.8


class Sampler:
    """One chain."""

    def __init__(self, target: Target, start: Floats, rng: np.random.Generator) -> None:
        self.rng = rng
        self.scale = np.ones_like(start)
        self.target = target
        self.x = start
        self.step = 0.1

    def energy(self, x: Floats, p: Floats) -> tuple[float, Floats]:
        log_density, gradient = self.target(x * self.scale)
        return log_density - 0.5 * float(p @ p), gradient * self.scale

    def leapfrog(self, x: Floats, p: Floats, step: float) -> tuple[Floats, Floats]:
        p = p + 0.5 * step * self.target(x * self.scale)[1] * self.scale
        x = x + step * p
        return x, p + 0.5 * step * self.target(x * self.scale)[1] * self.scale

    def tree(self, x, p, log_u, way, depth, first):
        """(x-, p-, x+, p+, a draw of the subtree, its size, whether to go on, acceptance sum, count)."""
        if depth == 0:
            x, p = self.leapfrog(x, p, way * self.step)
            joint = self.energy(x, p)[0]
            fits = log_u <= joint
            return x, p, x, p, x, int(fits), log_u - WORST_ERROR < joint, min(1.0, np.exp(min(0, joint - first))), 1
        xm, pm, xp, pp, draw, n, on, a, na = self.tree(x, p, log_u, way, depth - 1, first)
        if on:
            if way < 0:
                xm, pm, _, _, other, n2, on2, a2, na2 = self.tree(xm, pm, log_u, way, depth - 1, first)
            else:
                _, _, xp, pp, other, n2, on2, a2, na2 = self.tree(xp, pp, log_u, way, depth - 1, first)
            if n2 and self.rng.random() < n2 / (n + n2):
                draw = other
            a, na, n = a + a2, na + na2, n + n2
            on = on2 and (xp - xm) @ pm >= 0 and (xp - xm) @ pp >= 0
        return xm, pm, xp, pp, draw, n, on, a, na

    def move(self) -> float:
        """One transition; the mean acceptance."""
        x = self.x / self.scale
        p = self.rng.normal(size=x.shape)
        first = self.energy(x, p)[0]
        log_u = first - self.rng.exponential()
        xm = xp = draw = x
        pm = pp = p
        n, depth, on = 1, 0, True
        while on and depth < DEPTH:
            way = 1 if self.rng.random() < 0.5 else -1
            if way < 0:
                xm, pm, _, _, other, n2, on2, a, na = self.tree(xm, pm, log_u, way, depth, first)
            else:
                _, _, xp, pp, other, n2, on2, a, na = self.tree(xp, pp, log_u, way, depth, first)
            if on2 and self.rng.random() < min(1.0, n2 / n):
                draw = other
            n += n2
            on = on2 and (xp - xm) @ pm >= 0 and (xp - xm) @ pp >= 0
            depth += 1
        self.x = draw * self.scale
        return a / na


def sample(target: Target, start: Floats, draws: int, warmup: int, rng: np.random.Generator) -> Floats:
    """(draws, D) after `warmup` transitions that set step size and scales."""
    chain = Sampler(target, start, rng)
    for stage in (warmup // 2, warmup - warmup // 2):
        centre, total, log_mean, seen = np.log(10 * chain.step), 0.0, 0.0, []
        for t in range(1, stage + 1):
            total += ACCEPTANCE - chain.move()
            log_step = centre - np.sqrt(t) / 0.05 * total / (t + 10)
            log_mean = t**-0.75 * log_step + (1 - t**-0.75) * log_mean
            chain.step = float(np.exp(log_step))
            seen.append(chain.x)
        chain.step = float(np.exp(log_mean))
        chain.scale = np.std(seen[len(seen) // 2 :], axis=0)
    chain_draws = np.empty((draws, len(start)))
    for i in range(draws):
        chain.move()
        chain_draws[i] = chain.x
    return chain_draws


def chains(target: Target, size: int, count: int, draws: int, warmup: int, seed: int) -> Floats:
    """(count, draws, size) from different starts."""
    results = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        results.append(sample(target, 0.5 * rng.normal(size=size), draws, warmup, rng))
    return np.stack(results)


def mean_and_error(values: Floats, batches: int = 25) -> tuple[Floats, Floats]:
    """Mean over (chains, draws, ...) and its Monte Carlo standard error, by batch means."""
    count, draws = values.shape[:2]
    length = draws // batches
    means = values[:, : length * batches].reshape(count * batches, length, *values.shape[2:]).mean(1)
    return values.mean((0, 1)), means.std(0, ddof=1) / np.sqrt(len(means))
