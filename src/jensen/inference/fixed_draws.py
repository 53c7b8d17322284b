"""The bound at fixed draws as functions to minimise, its starts, and its values on fresh draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError
from jensen.inference.curvature import Problems
from jensen.inference.objective import Bound

__all__ = ["FreshValue", "at_draws", "at_sets", "factor_of", "fresh_elbo", "model_parameters", "reach_of", "starts_of"]

_WIDTH, _TRIES = 2.0, 10
_REACH = 2.0
_FORWARD = 2_000_000


def _mapped(bound: Bound, function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """The function of each row of the arguments, together if the log joint can be vectorised."""
    if bound.target.vectorised:
        mapped: Tensor = torch.func.vmap(function)(*arguments)
        return mapped
    return torch.stack([function(*each) for each in zip(*arguments, strict=True)])


def at_draws(bound: Bound, noise: Tensor, *, recordable: bool = True) -> Problems:
    """Minus the bound at draws (M, N) as a function of parameters, (R, P) -> (R,); recorded where many are asked for."""
    return Problems(
        lambda flat: -_mapped(bound, lambda each: bound.value(each, noise), flat),
        recordable=recordable and bound.target.vectorised,
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


class FreshValue:
    """An ELBO on draws that nothing was fitted to.

    Attributes:
        elbo: nats.
        error: its standard error, from independent pairs of draws.
    """

    def __init__(self, pairs: Tensor) -> None:
        self.elbo = float(pairs.mean())
        self.error = float(pairs.std() / len(pairs) ** 0.5)


@torch.no_grad()
def fresh_elbo(bound: Bound, flat: Tensor, noise: Tensor) -> FreshValue:
    """The ELBO at antithetic draws, (M, N), whose pairs follow each other; some at a time."""
    size = max(2, 2 * (_FORWARD // max(1, 2 * noise.shape[1])))
    draws = torch.cat([bound.per_draw(flat, part) for part in noise.split(size)])
    return FreshValue(draws.reshape(-1, 2).mean(1))


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
            parts = name.split(".")
            if parts[:2] != ["family", "factors"]:
                return f"parameter {name}"
            latents = bound.family.factors[int(parts[2])].names
            return f"{parts[-1]} of q({', '.join(map(str, latents))})"
    raise IndexError(index)


def starts_of(bound: Bound, count: int, problems: Problems, scale: float, generator: Generator) -> Tensor:
    """Parameters to start from, (count, P): q narrow and at zero, then at points uniform in (-2, 2) of the coordinates.

    A start at which the bound is not finite is drawn again, nearer and nearer to zero.

    Raises:
        NonFiniteError: there is none at which it is finite.
    """
    kept = bound.flat()
    try:
        rows = torch.stack([_start(bound, kept, 0.0 if r == 0 else _WIDTH, scale, generator) for r in range(count)])
        for attempt in range(_TRIES):
            bad = ~problems(rows)[0].isfinite()
            if not bool(bad.any()):
                return rows
            width = _WIDTH * 0.7**attempt
            for r in bad.nonzero()[:, 0].tolist():
                rows[r] = _start(bound, kept, width, scale * 0.7**attempt, generator)
    finally:
        bound.load(kept)
    good = problems(rows)[0].isfinite()
    if not bool(good.any()):
        raise NonFiniteError(
            f"the ELBO is NaN or infinite at every one of {count * (_TRIES + 1)} starts: look for overflow, or for "
            "values outside of a distribution's support, in the log joint, and give q's family a start by `place`"
        )
    return rows[good]


def _start(bound: Bound, kept: Tensor, width: float, scale: float, generator: Generator) -> Tensor:
    """Parameters of one start: q of continuous latents placed, that of discrete ones disturbed."""
    coordinates = bound.target.coordinates
    bound.load(kept)
    if coordinates.size:
        centre = width * (2 * torch.rand(1, coordinates.size, dtype=torch.float64, generator=generator) - 1)
        centre = centre.to(kept)
        bound.family.place({name: part[0] for name, part in coordinates.split(centre).items()}, scale)
    flat = bound.flat()
    latents = bound.target.model.latents
    for name, place in bound.at(torch.arange(len(flat))).items():
        parts = name.split(".")
        if parts[:2] == ["family", "factors"] and width:
            factor = bound.family.factors[int(parts[2])]
            if all(latents[str(latent)].discrete for latent in factor.names):
                noise = torch.randn(place.numel(), dtype=torch.float64, generator=generator)
                flat[place.reshape(-1)] += noise.to(flat)
    return flat
