"""Stochastic ascent of a black-box bound: noisy gradients, averaged iterates, and a stop that means something.

At one learning rate steps are made until the iterates are stationary and their average exact enough; then the rate
falls. The run has converged when the averages at successive rates, extrapolated to a rate of zero, agree to within a
tolerance of symmetrised KL divergence (Dhaka et al. 2020; Welandawe et al. 2022).
"""

from __future__ import annotations

import math
import time

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError
from jensen.inference import pathfinder
from jensen.inference.climb import Ascent
from jensen.inference.noisy import Comparison, Noisy, fresh_elbo
from jensen.inference.objective import Bound
from jensen.inference.optimisers import Rule, choose_rule
from jensen.inference.stages import Callback, End, Run
from jensen.inference.stepper import Stepper
from jensen.inference.steps import StepSize
from jensen.inference.steps import learning_rate as as_rate
from jensen.inference.variational.amortised import AmortisedNormal
from jensen.inference.variational.base import Factor

__all__ = ["climb"]

FINAL_DRAWS = 1000
"""of the ELBO that is reported"""
REACH = 2.0
"""further starts are uniform within this of zero, in the latents' real coordinates"""
BASE, PER_LATENT = 0.1, 5e-3
"""nats: the usual tolerance is the larger of the first and the second times how many numbers the latents are"""


def climb(
    bound: Bound,
    *,
    optimiser: str | Rule = "adam",
    learning_rate: float | StepSize = 0.1,
    samples: int = 8,
    batch_size: int | None = None,
    max_steps: int = 10_000,
    seconds: float | None = None,
    tol: float | None = None,
    pilot: bool = True,
    n_starts: int = 1,
    seed: int = 0,
    callback: Callback | None = None,
) -> Ascent:
    """Maximise a bound by noisy gradients of any estimator, on all the data or on minibatches.

    Steps are counted in q's own standard deviations (`optimisers`), iterates are averaged, and the learning rate falls
    by stages: what is asked for is an exactness, `tol`, not a schedule.

    Args:
        bound: of a model and q; its parameters are where the first start begins.
        optimiser: "adam", "rmsprop", "adagrad", "natural", or a `Rule`.
        learning_rate: of the first stage, in standard deviations of q; or a function of (step, gradient), such as
            `RobbinsMonro`, in which case averages over ever longer stretches are compared.
        samples: draws of each estimate; an odd number is rounded up where draws come in antithetic pairs.
        batch_size: rows of a minibatch; None for all of them. Up to 200 minibatches, the noise of which rows they have
            is mostly taken out near the optimum (`Noisy.refer`), where no latents are of single rows.
        max_steps: of each start; the default is about a minute's on a small model.
        seconds: of wall-clock time after which the climb ends, not converged, at the best average so far; None for no
            limit. How far it comes then depends on the machine. The pilot and the final ELBO are not cut short.
        tol: symmetrised KL in nats between q and where it would end up; half of it is about what is lost of the ELBO.
            Default 0.005 for each latent number (a location is then right to about 7% of its standard deviation), at
            least 0.1.
        pilot: begin where Pathfinder finds the best normal approximation, if there is a log density to run it on (no
            discrete latents, parameters of the model or encoders); it takes up to 200 gradients on all the data.
        n_starts: the first from q as it is, others at random; the one of the highest ELBO is kept.
        seed: of draws, minibatches and starts.
        callback: called every 50 steps with (steps, mean of their ELBO estimates in nats, parameters).

    Returns:
        The averaged parameters, which the bound is left at. Ctrl-C ends the climb: what was reached, not converged.

    Raises:
        ValueError, TypeError: an argument out of its range.
        NonFiniteError: NaN or infinity that smaller steps do not cure, at every start; the bound keeps the last
            average that was good.
    """
    _check(learning_rate, max_steps, tol, n_starts, seconds)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    rule, rate = choose_rule(optimiser), as_rate(learning_rate)
    begin = bound.flat()
    tol = _usual_tolerance(bound) if tol is None else tol
    found: list[tuple[End, Tensor, float, float]] = []
    evaluations, failures = 0, list[NonFiniteError]()
    for start in range(n_starts):
        pilots = _place(bound, begin, start, seed + start, pilot)
        evaluations += pilots
        noisy = Noisy(bound, samples, batch_size, 1000 * seed + 10 * start)
        run = Run(
            noisy,
            Stepper(bound, rule),
            Comparison(bound, seed),
            rate=rate,
            falls=callable(learning_rate),
            tol=tol,
            max_steps=max_steps,
            seed=seed,
            callback=callback,
            near=pilots > 0,
            deadline=deadline,
        )
        try:
            end = run.climb()
        except NonFiniteError as error:
            failures.append(error)
            continue
        finally:
            evaluations += noisy.evaluations
        found.append((end, *_best(bound, end.candidates, seed)))
        if end.reason.startswith("interrupted") or time.monotonic() >= deadline:
            break
    if not found:
        raise failures[-1]
    ascent = _ascent(bound, found, evaluations, tol)
    ascent.notes += [f"a start failed: {failure}" for failure in failures]
    return ascent


def _usual_tolerance(bound: Bound) -> float:
    model = bound.target.model
    return max(BASE, PER_LATENT * sum(v.full_shape(model.plates).numel() for v in model.latents.values()))


def _check(
    learning_rate: float | StepSize, max_steps: int, tol: float | None, n_starts: int, seconds: float | None
) -> None:
    if isinstance(learning_rate, str):
        raise ValueError(
            f"learning_rate must be a positive number or a function of (t, gradient), got {learning_rate!r}"
        )
    if max_steps < 1 or n_starts < 1:
        raise ValueError(f"max_steps and n_starts must be at least 1, got {max_steps} and {n_starts}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    if tol is not None and not tol > 0:
        raise ValueError(f"tol must be positive: noise leaves nothing exact; got {tol}")


def _place(bound: Bound, begin: Tensor, start: int, seed: int, pilot: bool) -> int:
    """Where a start begins: by Pathfinder if it can be, else as it is (the first one) or at random.

    Returns:
        The gradients that Pathfinder took, 0 where it was of no use.
    """
    bound.load(begin)
    target = bound.target
    learns = any(p.requires_grad for p in target.parameters())
    amortised = any(isinstance(factor, AmortisedNormal) for factor in bound.family.factors)
    if pilot and target.continuous and not learns and not amortised:
        try:
            return pathfinder.place(target, bound.family, seed=seed)[1]
        except NonFiniteError:  # no finite log density near zero, or no approximation: noisy steps may do better
            bound.load(begin)
    if start > 0:
        _scatter(bound, Generator().manual_seed(seed))
    return 0


@torch.no_grad()
def _scatter(bound: Bound, generator: Generator) -> None:
    """Random centres within `REACH` of zero; parameters of discrete factors moved by standard normal noise."""
    centre, scale = {}, {}
    sizes = bound.target.model.plates
    for name, variable in bound.target.model.latents.items():
        if not variable.discrete:
            shape = variable.unconstrained_shape(sizes)
            centre[name] = REACH * (2 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1)
            scale[name] = torch.ones(shape, dtype=torch.float64)
    bound.family.place(centre, scale)
    for factor in bound.family.factors:
        assert isinstance(factor, Factor)
        if not set(factor.names) & set(centre):
            for parameter in factor.parameters():
                parameter.add_(torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator))


def _best(bound: Bound, candidates: list[Tensor], seed: int) -> tuple[Tensor, float, float]:
    """The candidate of the highest ELBO, with its ELBO and standard error."""
    found = []
    for flat in candidates:
        bound.load(flat)
        found.append((flat, *fresh_elbo(bound, FINAL_DRAWS, seed + 7)))
    return max(found, key=lambda each: each[1] if math.isfinite(each[1]) else -math.inf)


def _height(each: tuple[End, Tensor, float, float]) -> float:
    return each[2] if math.isfinite(each[2]) else -math.inf


def _ascent(bound: Bound, found: list[tuple[End, Tensor, float, float]], evaluations: int, tol: float) -> Ascent:
    """The start of the highest ELBO; of those that are as good but for noise, one that converged."""
    top = max(found, key=_height)
    level = [each for each in found if _height(top) - _height(each) <= tol + 4 * math.hypot(top[3], each[3])]
    end, flat, elbo, error = max(level, key=lambda each: (each[0].converged, _height(each)))
    bound.load(flat)
    notes = []
    if len(level) < len(found):
        elbos = ", ".join(f"{each[2]:.2f}" for each in found)
        lower = len(found) - len(level)
        notes.append(f"{lower} of {len(found)} starts ended lower (ELBOs {elbos}): there may be several optima")
    return Ascent(
        flat=flat,
        elbo=elbo,
        elbo_se=error,
        trace=end.trace,
        converged=end.converged and math.isfinite(elbo),
        reason=end.reason,
        advice=end.advice,
        evaluations=evaluations,
        starts=[(e[2], e[0].converged) for e in found],
        notes=notes,
    )
