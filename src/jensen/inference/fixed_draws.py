"""The bound at fixed draws as functions to minimise, its starts, and its values on fresh draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError
from jensen.gradients import Posterior
from jensen.inference.curvature import Problems
from jensen.inference.full_rank_curvature import FullRankCurvature, is_full_rank
from jensen.inference.mean_field_curvature import MeanFieldCurvature, is_mean_field
from jensen.inference.modes import modes_of
from jensen.inference.objective import Bound
from jensen.inference.variational.base import Factor

__all__ = [
    "FreshValue",
    "Starts",
    "apart",
    "at_draws",
    "at_sets",
    "factor_of",
    "fresh_elbo",
    "model_parameters",
    "reach_of",
    "starts_of",
]

_WIDTH, _NARROW, _TRIES = 2.0, 0.1, 10
_REACH = 2.0
_COMPARED = 50
_FORWARD = 2_000_000


def _mapped(bound: Bound, function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """The function of each row of the arguments, together if the log joint can be vectorised."""
    if bound.target.vectorised:
        mapped: Tensor = torch.func.vmap(function)(*arguments)
        return mapped
    return torch.stack([function(*each) for each in zip(*arguments, strict=True)])


def at_draws(bound: Bound, noise: Tensor, *, recordable: bool = True) -> Problems:
    """Minus the bound at draws (M, N), (R, P) -> (R,); `recordable` where more than a few gradients are needed."""
    shortcut: MeanFieldCurvature | FullRankCurvature | None = None
    if is_mean_field(bound):
        shortcut = MeanFieldCurvature(bound)
    elif is_full_rank(bound):
        shortcut = FullRankCurvature(bound, noise)
    return Problems(
        lambda flat: -_mapped(bound, lambda each: bound.value(each, noise), flat),
        recordable=recordable and bound.target.vectorised,
        shortcut=shortcut,
        columns=shortcut.columns if isinstance(shortcut, FullRankCurvature) else None,
    )


def at_sets(bound: Bound, sets: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the bound at each of K sets of draws (K, M, N), (K,), and its gradients at `flat`, (K, P)."""
    values, gradients = [], []
    for part in sets.split(max(1, _FORWARD // max(1, sets[0].numel()))):

        def function(x: Tensor, part: Tensor = part) -> Tensor:
            return -_mapped(bound, bound.value, x, part)

        value, gradient = Problems(function)(flat.expand(len(part), -1))
        values.append(value)
        gradients.append(gradient)
    return torch.cat(values), torch.cat(gradients)


@dataclass
class FreshValue:
    """An ELBO on draws that nothing was fitted to.

    Attributes:
        elbo: nats.
        error: its standard error, from independent pairs of draws.
    """

    elbo: float
    error: float


@torch.no_grad()
def fresh_elbo(bound: Bound, flat: Tensor, noise: Tensor) -> FreshValue:
    """The ELBO at antithetic draws, (M, N), whose pairs follow each other; some at a time."""
    size = max(2, 2 * (_FORWARD // max(1, 2 * noise.shape[1])))
    draws = torch.cat([bound.per_draw(flat, part) for part in noise.split(size)])
    values = draws.reshape(-1, 2).mean(1)
    # |noise|^2, whose expectation is known, is most of the noise: at the optimum of a normal q every coordinate's
    # log joint bends by -1 in units of its standard deviation.
    control = noise[::2].square().sum(1) - noise.shape[1]
    spread = float(control.var()) if len(control) > 2 else 0.0
    if spread > 0:
        slope = float(((values - values.mean()) * (control - control.mean())).sum()) / ((len(control) - 1) * spread)
        values = values - slope * control
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0
    return FreshValue(float(values.mean()), error)


@torch.no_grad()
def apart(bound: Bound, first: Tensor, second: Tensor) -> float:
    """KL of q at one vector of parameters from that at another in nats, by draws; of factors that are not profiled."""
    generator = Generator().manual_seed(0)
    total = 0.0
    for a, b in zip(_q_at(bound, first).factors, _q_at(bound, second).factors, strict=True):
        draw = a.sample(_COMPARED, generator)
        total += float((a.log_prob(draw) - b.log_prob(draw)).reshape(_COMPARED, -1).sum(1).mean())
    return total


def _q_at(bound: Bound, flat: Tensor) -> Posterior:
    parts = {n.removeprefix("family."): p for n, p in bound.at(flat).items() if n.startswith("family.")}
    q: Posterior = torch.func.functional_call(bound.family, parts, (bound.target.whole,))
    return q


def reach_of(bound: Bound) -> Tensor:
    """How far a parameter can be foreseen, (P,): a few units of a logarithm, unknown for others."""
    reach = torch.full_like(bound.flat(), torch.inf)
    for name, place in bound.at(torch.arange(len(reach))).items():
        if name.rpartition(".")[2].startswith("log_"):
            reach[place.reshape(-1)] = _REACH
    return reach


def model_parameters(bound: Bound) -> Tensor:
    """Which of the parameters are the model's own, (P,) of booleans."""
    own = torch.zeros(len(bound.flat()), dtype=torch.bool)
    for name, place in bound.at(torch.arange(len(own))).items():
        if not name.startswith("family."):
            own[place.reshape(-1)] = True
    return own.to(bound.flat().device)


def factor_of(bound: Bound, index: int) -> str:
    """Whose parameter it is, in words."""
    for name, place in bound.at(torch.arange(len(bound.flat()))).items():
        if index in place.reshape(-1).tolist():
            latents = _latents_of(bound, name)
            return f"{name.rpartition('.')[2]} of q({', '.join(latents)})" if latents else f"parameter {name}"
    raise IndexError(index)


def _latents_of(bound: Bound, name: str) -> tuple[str, ...]:
    """The latents whose factor of q a parameter is part of; none for the model's own."""
    parts = name.split(".")
    if parts[:2] != ["family", "factors"]:
        return ()
    return cast(Factor, bound.family.factors[int(parts[2])]).names


@dataclass
class Starts:
    """Where a climb of the bound begins.

    Attributes:
        flat: parameters, (R, P).
        of_start: for each start that was asked for, the row that it led to; None where there is none.
        gradients: that finding them took.
    """

    flat: Tensor
    of_start: list[int | None]
    gradients: int = 0


def starts_of(bound: Bound, count: int, problems: Problems, generator: Generator, evaluations: int) -> Starts:
    """Parameters to start from: q at modes of the log density that climbs from `count` points lead to.

    The points are zero and others uniform in (-2, 2) of the real coordinates. A point from which no mode is found
    (there is none in a funnel, or with improper priors), or every point if latents are discrete, is a start itself,
    with a narrow q; where the bound is not finite there, it is drawn again, nearer and nearer to zero.

    Raises:
        NonFiniteError: there is none at which the bound is finite.
    """
    kept = bound.flat()
    try:
        return _starts(bound, count, problems, generator, evaluations, kept)
    finally:
        bound.load(kept)


def _starts(
    bound: Bound, count: int, problems: Problems, generator: Generator, evaluations: int, kept: Tensor
) -> Starts:
    points = [_point(bound, 0.0 if r == 0 else _WIDTH, generator) for r in range(count)]
    rows: list[Tensor] = []
    of_start: list[int | None] = [None] * count
    gradients = 0
    if bound.target.continuous:
        modes = modes_of(bound.target, torch.stack(points), evaluations)
        gradients, of_start = modes.gradients, list(modes.of_start)
        for centre, sd in zip(modes.centres, modes.sds, strict=True):
            rows.append(_placed(bound, kept, centre, sd, None))
    for r in range(count):
        if of_start[r] is None:
            of_start[r] = len(rows)
            rows.append(_placed(bound, kept, points[r], _NARROW, generator if r else None))
    flat = torch.stack(rows)
    for attempt in range(_TRIES):
        bad = ~problems(flat)[0].isfinite()
        if not bool(bad.any()):
            return Starts(flat, of_start, gradients)
        shrunk = 0.7**attempt
        for r in bad.nonzero()[:, 0].tolist():
            flat[r] = _placed(bound, kept, _point(bound, _WIDTH * shrunk, generator), _NARROW * shrunk, generator)
    good = problems(flat)[0].isfinite()
    if not bool(good.any()):
        raise NonFiniteError(
            f"the ELBO is NaN or infinite at every one of {len(flat) * (_TRIES + 1)} starts: look for overflow, or for "
            "values outside of a distribution's support, in the log joint"
        )
    new = (torch.cumsum(good, 0) - 1).tolist()
    return Starts(flat[good], [new[r] if r is not None and bool(good[r]) else None for r in of_start], gradients)


def _point(bound: Bound, width: float, generator: Generator) -> Tensor:
    uniform = torch.rand(bound.target.coordinates.size, dtype=torch.float64, generator=generator)
    return (width * (2 * uniform - 1)).to(bound.flat())


def _placed(bound: Bound, kept: Tensor, centre: Tensor, scale: Tensor | float, generator: Generator | None) -> Tensor:
    """Parameters with q of continuous latents placed, and that of discrete ones disturbed by a generator."""
    coordinates = bound.target.coordinates
    bound.load(kept)
    if coordinates.size:
        parts = {name: part[0] for name, part in coordinates.split(centre.unsqueeze(0)).items()}
        scales: float | dict[str, Tensor] = 0.0
        if isinstance(scale, Tensor):
            scales = {name: part[0] for name, part in coordinates.split(scale.unsqueeze(0)).items()}
        else:
            scales = scale
        bound.family.place(parts, scales)
    flat = bound.flat()
    if generator is None:
        return flat
    latents = bound.target.model.latents
    for name, place in bound.at(torch.arange(len(flat))).items():
        own = _latents_of(bound, name)
        if own and all(latents[latent].discrete for latent in own):
            noise = torch.randn(place.numel(), dtype=torch.float64, generator=generator)
            flat[place.reshape(-1)] += noise.to(flat)
    return flat
