"""Pathfinder: the best normal approximation on an optimiser's way up the log density.

Zhang, Carpenter, Gelman & Vehtari (2022), "Pathfinder: parallel quasi-Newton variational inference", JMLR 23(306). An
L-BFGS descent of -log p from a wide start passes through the posterior's bulk; at each of its points the inverse
Hessian that it has seen makes a normal distribution, and the one of the highest ELBO is kept. Where Hessians can be
written down, the Laplace approximation at the path's end is a candidate too: the only one that is exact for a normal
posterior of many correlated numbers. Several descents find several modes, or tell that they did not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError
from jensen.inference.climb import Ascent
from jensen.inference.curvature import Problems
from jensen.inference.evaluated import chunk_of, evaluate_draws
from jensen.inference.inverse_hessians import Approximation, along_path, laplace
from jensen.inference.objective import Bound
from jensen.inference.quasi_newton import quasi_newton
from jensen.inference.target import Target, unvalidated
from jensen.inference.variational.base import Family
from jensen.inference.variational.layout import continuous
from jensen.inference.variational.path_mixture import PathMixture
from jensen.inference.verdict import pareto_k

__all__ = ["Finding", "climb", "find", "place"]

LogDensity = Callable[[Tensor], Tensor]
"""(S, D) -> log density in nats, (S,), up to a constant"""

_REACH = 2.0  # starts are uniform within this of zero, as the paper and Stan have it
_TRIES = 20
_FRESH = 1_000  # draws of an ELBO that is reported
_FALLEN = 3  # points after the best one that show that it was one
_NEGLIGIBLE = 1e-4
_ROUNDS = 30  # of the mixture weights
_DENSE = 300  # coordinates up to which the Hessian at the end is written down


@dataclass(frozen=True)
class Finding:
    """The best normal approximation along one path.

    Attributes:
        approximation: None where the path has none.
        elbo: nats, on fresh draws; -inf without an approximation.
        error: its standard error.
        trace: ELBO estimates along the path, nats.
        complete: whether the path ended at a mode (a step there promises less than the tolerance, or none leads up) or
            its ELBO had passed its best.
    """

    approximation: Approximation | None
    elbo: float
    error: float
    trace: list[float]
    complete: bool


def find(
    log_density: LogDensity,
    starts: Tensor,
    *,
    generator: Generator,
    draws: int = 20,
    fresh: int = _FRESH,
    evaluations: int = 300,
    tolerance: float = 1e-4,
    chunk: int = 100_000,
) -> tuple[list[Finding], int]:
    """Pathfinder from each start, and the gradients that all took together (a Hessian counts D).

    Args:
        log_density: of real coordinates.
        starts: (R, D), where the log density is finite.
        generator: of the draws.
        draws: for the ELBO at each point of a path.
        fresh: for the ELBO of the best one.
        evaluations: gradients that each path may take.
        tolerance: nats; a path ends when two steps in a row gain less.
        chunk: points at which the log density may be evaluated at once.
    """
    problems = Problems(lambda x: -log_density(x))
    descent = quasi_newton(problems, starts, tolerance=tolerance, evaluations=evaluations, path=True)
    path = descent.path
    assert path is not None
    findings = []
    for row, length in enumerate(path.lengths.tolist()):
        points = [q for _, q in along_path(path.positions[row, :length], path.gradients[row, :length])]
        ended = bool(descent.settled[row] | descent.stuck[row])
        if starts.shape[1] <= _DENSE:
            end, slope = descent.x[row], descent.gradient[row]
            last = laplace(end, slope, problems.hessian(end.unsqueeze(0))[0])
            if last is not None:
                points.append(last)
                # Rounding may keep a line search busy at the mode itself: what a Newton step promises tells.
                ended = ended or float(0.5 * slope @ (end - last.loc)) < tolerance
        noise = torch.randn(draws, starts.shape[1], dtype=starts.dtype, generator=generator).to(starts.device)
        elbos = _elbos(log_density, points, noise, chunk).mean(1).tolist() if points else []
        if not elbos or max(elbos) == -math.inf:
            findings.append(Finding(None, -math.inf, 0.0, elbos, False))
            continue
        best = max(range(len(elbos)), key=elbos.__getitem__)
        again = torch.randn(fresh, starts.shape[1], dtype=starts.dtype, generator=generator).to(starts.device)
        values = _elbos(log_density, [points[best]], again, chunk)[0]
        complete = ended or best < len(elbos) - _FALLEN
        error = float(values.std()) / math.sqrt(fresh) if bool(values.isfinite().all()) else math.inf
        findings.append(Finding(points[best], float(values.mean()), error, elbos, complete))
    return findings, problems.evaluations + problems.products


@torch.no_grad()
def _elbos(log_density: LogDensity, candidates: Sequence[Approximation], noise: Tensor, chunk: int) -> Tensor:
    """log p - log q of each candidate at each of its draws, (candidates, K), nats; -inf where it is NaN.

    Where q is p they are all equal, which the closed form of the entropy would not make them.
    """
    points = torch.cat([q.draw(noise) for q in candidates])
    values = torch.cat([log_density(part) for part in points.split(chunk)]).reshape(len(candidates), -1)
    volume = torch.stack([q.log_volume for q in candidates]).unsqueeze(1)
    log_q = -volume - 0.5 * noise.square().sum(1) - 0.5 * points.shape[1] * math.log(2 * math.pi)
    return (values - log_q).nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def climb(
    bound: Bound,
    *,
    seed: int = 0,
    n_starts: int = 8,
    draws: int = 20,
    evaluations: int = 300,
    tolerance: float = 1e-4,
) -> Ascent:
    """Pathfinder from several starts; q becomes the mixture of their normal approximations.

    The family of the bound is replaced: Pathfinder's q is its own. Its weights are those that cover the posterior best;
    importance weights against the whole mixture (`FitResult.pareto_k`), not against each path's own distribution as in
    the paper, correct what is left.

    Converged means that the best path was complete (`Finding`), that the mixture's ELBO is finite, and that at least
    half of the starts have an approximation of finite ELBO: where most fail, the log joint is not what the latents'
    supports say, or those that are left are an accident.

    Args:
        bound: of a model whose latents are continuous and that has no parameters of its own.
        seed: of starts and draws.
        n_starts: paths.
        draws, evaluations, tolerance: see `find`.

    Raises:
        ValueError: a discrete latent; parameters to learn; n_starts below 1.
        NonFiniteError: the log joint is not finite at any start, or no path has an approximation.
    """
    target = bound.target
    _check(target, n_starts)
    generator = Generator().manual_seed(seed)
    with unvalidated():
        findings, gradients = find(
            target.log_density,
            _starts(target, n_starts, generator),
            generator=generator,
            draws=draws,
            evaluations=evaluations,
            tolerance=tolerance,
            chunk=chunk_of(target, 100_000),
        )
    best = max(findings, key=lambda finding: finding.elbo)
    if best.approximation is None:
        raise NonFiniteError(
            "pathfinder found no normal approximation: the log density is not finite around any point of its paths; "
            "is the posterior proper?"
        )
    with unvalidated():
        bound.family = _family(target, findings, generator).to(target.device)
    return _ascent(bound, findings, best, gradients, generator)


def place(
    target: Target, family: Family, *, seed: int = 0, n_starts: int = 1, evaluations: int = 200
) -> tuple[Finding, int]:
    """Start a family where Pathfinder's best normal approximation is: centres and standard deviations.

    Returns:
        The finding that it was placed at, and the gradients that were taken (a Hessian counts D).

    Raises:
        ValueError, NonFiniteError: as `climb`.
    """
    _check(target, n_starts)
    generator = Generator().manual_seed(seed)
    with unvalidated():
        starts = _starts(target, n_starts, generator)
        findings, gradients = find(target.log_density, starts, generator=generator, fresh=100, evaluations=evaluations)
    best = max(findings, key=lambda finding: finding.elbo)
    if best.approximation is None:
        raise NonFiniteError("pathfinder found no normal approximation to start from")
    q, split = best.approximation, target.coordinates.split
    centre, scale = split(q.loc.unsqueeze(0)), split(q.sd.unsqueeze(0))
    family.place({n: v[0] for n, v in centre.items()}, {n: v[0] for n, v in scale.items()})
    return best, gradients


def _check(target: Target, n_starts: int) -> None:
    discrete = [name for name, variable in target.model.latents.items() if variable.discrete]
    if discrete:
        raise ValueError(
            f"pathfinder needs a log density, but latents {discrete} are discrete: sum over them yourself, "
            'or take method="stochastic"'
        )
    if target.theta is not None and any(p.requires_grad for p in target.theta.parameters()):
        raise ValueError('pathfinder learns no parameters of the model: take method="deterministic" or "stochastic"')
    if n_starts < 1:
        raise ValueError(f"n_starts should be at least 1, but is {n_starts}")


def _starts(target: Target, count: int, generator: Generator) -> Tensor:
    """Uniform within 2 of zero, each drawn again, nearer to zero, until the log density is finite there."""
    size = target.coordinates.size
    found = torch.zeros(count, size, dtype=torch.float64)
    left = torch.ones(count, dtype=torch.bool)
    for trial in range(_TRIES):
        reach = _REACH * 0.8**trial
        proposed = reach * (2 * torch.rand(count, size, dtype=torch.float64, generator=generator) - 1)
        with torch.no_grad():
            finite = target.log_density(proposed.to(target.device)).isfinite().cpu()
        found = torch.where((left & finite).unsqueeze(-1), proposed, found)
        left = left & ~finite
        if not bool(left.any()):
            return found.to(target.device)
    raise NonFiniteError(f"the log density is not finite at {int(left.sum())} of {count} starts around zero")


def _family(target: Target, findings: list[Finding], generator: Generator) -> Family:
    """The mixture of those that matter."""
    kept = [f for f in findings if f.approximation is not None and f.elbo > -math.inf]
    parts = [f.approximation for f in kept if f.approximation is not None]
    weights = _weights(target, parts, torch.tensor([f.elbo for f in kept], dtype=torch.float64), generator)
    matter = (weights > _NEGLIGIBLE).nonzero().flatten().tolist()
    chosen = [parts[place] for place in matter]
    rank = max(q.directions.shape[1] for q in chosen)
    factor = PathMixture(continuous(target.model), target.model.plates, rank, len(chosen))
    factor.set(chosen, weights[matter].log())
    return Family([factor])


@torch.no_grad()
def _weights(target: Target, parts: Sequence[Approximation], elbos: Tensor, generator: Generator) -> Tensor:
    """Of the mixture, (K,): those that cover the posterior best, as far as importance weights can say.

    Expectation maximisation of E_p[log q] over the weights alone, p being draws of all components with smoothed
    importance weights against their even mixture. Where k-hat says that these mean nothing, exp(ELBO): a path that got
    stuck counts for nothing, one in another mode for about the mode's mass.
    """
    cautious = torch.softmax(elbos, 0)
    if len(parts) == 1:
        return cautious
    noise = torch.randn(_FRESH, len(parts[0].loc), dtype=torch.float64, generator=generator).to(parts[0].loc.device)
    points = torch.cat([q.draw(part) for q, part in zip(parts, noise.tensor_split(len(parts)), strict=True)])
    log_q = torch.stack([q.log_prob(points) for q in parts], 1)
    log_p = torch.cat([target.log_density(part) for part in points.split(chunk_of(target, len(points)))])
    diagnosis = pareto_k((log_p - torch.logsumexp(log_q, 1)).cpu())
    if not diagnosis.usable:
        return cautious
    importance, log_q = diagnosis.log_weights.exp().unsqueeze(1), log_q.cpu()
    weights = torch.full_like(cautious, 1 / len(parts))
    for _ in range(_ROUNDS):
        weights = (importance * torch.softmax(log_q + weights.log(), 1)).sum(0)
    return weights


@torch.no_grad()
def _ascent(bound: Bound, findings: list[Finding], best: Finding, gradients: int, generator: Generator) -> Ascent:
    q = bound.family(bound.target.whole)
    elbos = evaluate_draws(bound.target, q, _FRESH, generator).log_ratios
    elbo = float(elbos.mean())
    reason, advice = _ending(findings, best)
    return Ascent(
        flat=bound.flat(),
        elbo=elbo,
        elbo_se=float(elbos.std()) / math.sqrt(_FRESH),
        trace=best.trace,
        converged=advice is None and math.isfinite(elbo),
        reason=reason,
        advice=advice,
        evaluations=gradients,
        starts=[(finding.elbo, finding.complete) for finding in findings],
    )


def _ending(findings: Sequence[Finding], best: Finding) -> tuple[str, str | None]:
    """Why the paths ended, and what to try if they did not converge."""
    failed = sum(finding.elbo == -math.inf for finding in findings)
    if 2 * failed > len(findings):
        return (
            f"{failed} of {len(findings)} starts found no normal approximation of finite ELBO",
            "look for a log joint that is NaN or -inf where the latents' supports allow them to be",
        )
    if not best.complete:
        return "the path ended while its ELBO was rising", "allow more gradients: evaluations="
    after = len(best.trace) - best.trace.index(max(best.trace)) - 1
    return (f"the path passed its highest ELBO {after} points before its end" if after else _AT_BEST), None


_AT_BEST = "the path ended at its best"
