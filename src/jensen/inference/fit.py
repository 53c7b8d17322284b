"""`fit`: black-box variational inference, its way up chosen to suit the model."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from jensen.errors import NotConvergedWarning
from jensen.gradients import Enumeration, Estimator, Pathwise, Posterior, automatic
from jensen.inference import deterministic, pathfinder, stochastic_ascent
from jensen.inference.climb import Ascent
from jensen.inference.fit_result import FitResult
from jensen.inference.model import Model
from jensen.inference.objective import Bound
from jensen.inference.target import Target
from jensen.inference.trouble import hint
from jensen.inference.variational import FAMILIES, Family, mean_field

__all__ = ["METHODS", "fit", "prepare"]

METHODS = ("auto", "deterministic", "stochastic", "pathfinder")
CHECKED = 8
"""draws at which the log joint is checked"""
BLAMED = 200
"""draws that say which term made the ELBO infinite"""

_CLIMBS: Mapping[str, Callable[..., Ascent]] = {
    "deterministic": deterministic.climb,
    "stochastic": stochastic_ascent.climb,
    "pathfinder": pathfinder.climb,
}

FamilyChoice: TypeAlias = str | Family | Mapping[str, Any] | Callable[[Model], Family]


def fit(
    model: Model,
    data: Any = None,
    family: FamilyChoice | None = None,
    method: str = "auto",
    *,
    estimator: Estimator | None = None,
    seed: int = 0,
    **options: Any,
) -> FitResult:
    """Maximise the ELBO of a model over a family q, and the model's own parameters.

    Args:
        model: a black-box model.
        data: a tensor, a mapping of tensors, arrays, lists and numbers, or `Columns`.
        family: "mean_field" (the default), "full_rank", "low_rank", "flow"; families of the library by latent, e.g.
            `{"rate": Gamma}`, the others normal; a function of the model that makes one, or a `Family` (changed).
        method: "deterministic": fixed draws and second-order ascent. "stochastic": new draws (and minibatches) at each
            step. "pathfinder": normal approximations along an optimisation path. "auto": the first where all draws
            can be differentiated or enumerated, there are no minibatches and q has no network; else the second.
        estimator: of the gradient; default each factor of q the best that it allows (`gradients.automatic`).
        seed: of starts and draws; the same seed gives the same result.
        options: of the method: `deterministic.climb`, `stochastic_ascent.climb`, `pathfinder.climb`.

    Warns:
        NotConvergedWarning: the criterion of the method was not met; says why and what to try.

    Raises:
        ValueError, TypeError: shapes, names or options that do not fit.
        NonFiniteError: the log joint is NaN or infinite at the start, or became so; names the term.
        Exception: of the log joint itself, with the latents' shapes in a note.
    """
    if not isinstance(model, Model):
        raise TypeError(f"fit needs a jensen.inference.Model first, got {type(model).__name__}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "pathfinder" and (family is not None or estimator is not None):
        raise ValueError("pathfinder finds a family of its own: leave family and estimator out")
    if method != "auto":
        _check_options(method, options)
    bound = prepare(model, data, "mean_field" if family is None else family, estimator, seed)
    chosen = _choose(bound, options) if method == "auto" else method
    _check_options(chosen, options)
    if options.get("batch_size") is not None:
        with torch.no_grad():
            q = bound.family(bound.target.whole)
            bound.target.check_rows(q.sample(1, torch.Generator().manual_seed(seed)), int(options["batch_size"]))
    ascent = _CLIMBS[chosen](bound, seed=seed, **options)
    bound.load(ascent.flat)
    if not math.isfinite(ascent.elbo):
        ascent.reason += _blamed(bound, seed)
    result = FitResult(bound, ascent, method=chosen)
    if not ascent.converged:
        advice = f" {ascent.advice}" if ascent.advice else ""
        warnings.warn(f"not converged: {ascent.reason}.{advice}", NotConvergedWarning, stacklevel=2)
    return result


def prepare(
    model: Model,
    data: Any = None,
    family: FamilyChoice = "mean_field",
    estimator: Estimator | None = None,
    seed: int = 0,
) -> Bound:
    """The bound of a model at its data, checked at a few draws of the family's start."""
    target = Target(model, data)
    made = make_family(model, family).to(target.device)
    with torch.no_grad():
        q = _first(made, target)
        values = q.sample(CHECKED, torch.Generator().manual_seed(seed))
        target.check(values)
        if estimator is None:
            discrete = any(not factor.has_rsample for factor in q.factors)
            estimator = automatic(q, target.dependence(values) if discrete else None)
    return Bound(target, made, estimator)


def _first(family: Family, target: Target) -> Posterior:
    """q as it starts; what a family that reads the data (amortised) may trip over is explained."""
    try:
        q: Posterior = family(target.whole)
    except Exception as error:
        advice = hint(error, target.data)
        if advice:
            error.add_note(f"while q was made of the data{advice}")
        raise
    return q


def make_family(model: Model, family: FamilyChoice) -> Family:
    """A family from its name, a mapping, a function of the model, or as it is."""
    if isinstance(family, Family):
        return family
    if isinstance(family, str):
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, a mapping or a function, got {family!r}")
        return FAMILIES[family](model)
    if isinstance(family, Mapping):
        return mean_field(model, family)
    made = family(model)
    if not isinstance(made, Family):
        raise TypeError(f"the function for the family should return a Family, got {type(made).__name__}")
    return made


def _check_options(method: str, options: Mapping[str, Any]) -> None:
    """Options that this way up does not have, and which has them."""
    known = {name: list(inspect.signature(climb).parameters)[1:] for name, climb in _CLIMBS.items()}
    wrong = next((name for name in options if name not in known[method]), None)
    if wrong is None:
        return
    others = [f"method={name!r}" for name in known if wrong in known[name]]
    listed = ", ".join(name for name in known[method] if name != "seed")
    elsewhere = f"; {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it" if others else ""
    raise TypeError(f"method={method!r} has no option {wrong!r}: it has {listed}{elsewhere}")


@torch.no_grad()
def _blamed(bound: Bound, seed: int) -> str:
    """Which terms are not finite at how many draws of q; empty where q itself is not."""
    values = bound.family(bound.target.whole).sample(BLAMED, torch.Generator().manual_seed(seed + 1))
    if not all(bool(value.isfinite().all()) for value in values.values()):
        return "; draws of q are infinite"
    found = bound.target.terms(values)
    shares = {n: float((~t.reshape(len(t), -1).isfinite().all(1)).double().mean()) for n, t in found.items()}
    words = [f"term {name!r} is NaN or infinite at {share:.0%} of q's draws" for name, share in shares.items() if share]
    return "".join(f"; {each}" for each in words)


def _choose(bound: Bound, options: Mapping[str, Any]) -> str:
    """Fixed draws where every draw is noise transformed or an enumerated value, and the data are whole."""
    if options.get("batch_size") is not None or not bound.family.fixed_draws:
        return "stochastic"
    ways = [(factor, bound.estimator.way(factor)) for factor in bound.family(bound.target.whole).factors]
    fixed = all(
        isinstance(way, Enumeration) or (isinstance(way, Pathwise) and factor.noise_shape is not None)
        for factor, way in ways
    )
    return "deterministic" if fixed else "stochastic"
