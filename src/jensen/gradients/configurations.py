"""Values of discrete latents, put side by side: as few evaluations of the log joint as its terms allow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from jensen.gradients.posterior import FactorPosterior
from jensen.gradients.signal import DependenceMap, Relation, plate_dimension, relation

__all__ = ["average_terms", "evaluations", "profilable"]

Plan = tuple[Relation, ...]
"""For each enumerated factor: left at one value, rows side by side, or all elements jointly."""

_ORDER: Mapping[str, int] = {"absent": 0, "aligned": 1, "mixed": 2}


def average_terms(
    terms: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    factors: Sequence[FactorPosterior],
    drawn: Mapping[str, Tensor],
    dependence: DependenceMap | None,
    limit: int,
    profiled: Sequence[FactorPosterior] = (),
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Terms of the log joint, their expectation over all values of the enumerated factors taken.

    Args:
        terms: (samples, *shape) by latent -> (samples, *plates) by term.
        factors: to be enumerated.
        drawn: values of all other latents, (samples, *shape).
        dependence: which term depends on which latent.
        limit: evaluations that may be made for each draw.
        profiled: those of the factors that are replaced by the best ones for the other latents' draws.

    Returns:
        (samples, *plates) by term, samples being 1 if nothing was drawn; and log q of each value, (values, *elements),
        of the best q of each profiled factor, by its first latent.

    Raises:
        ValueError: more evaluations than the limit.
    """
    best: dict[str, Tensor] = {}
    if not factors:
        return dict(terms(drawn)), best
    averaged: dict[str, Tensor] = {}
    plans = _plans(dependence, factors)
    _check(plans, factors, limit)
    for plan in plans:
        found, log_q = _evaluate(terms, factors, plan, drawn)
        for place, factor in enumerate(factors):
            if any(factor is other for other in profiled) and plan[place] == "aligned":
                best[factor.names[0]] = log_q[place] = _best(found, factor, dependence)
        for name, values in found.items():
            needed = _plan_of(dependence, name, factors)
            if name not in averaged and _covers(plan, needed):
                averaged[name] = _weighted(name, values, log_q, factors, plan, needed)
            elif not any(_covers(other, needed) for other in plans):
                plans.append(needed)  # a term that the dependence does not know
                _check(plans, factors, limit)
    return averaged, best


def profilable(factor: FactorPosterior, others: Sequence[FactorPosterior], dependence: DependenceMap | None) -> bool:
    """Whether the best q of an enumerated factor is known in closed form, given the draws of all other latents.

    It is where each row has one element of it, which enters the terms by itself and beside no other enumerated one:
    log q(k) is then the sum of the expected terms at k, up to a constant (coordinate ascent).
    """
    if dependence is None or factor.plate is None or len(factor.elements) != 1:
        return False
    entered = [term for term in dependence if relation(dependence, term, factor) != "absent"]
    return bool(entered) and all(
        relation(dependence, term, factor) == "aligned"
        and all(relation(dependence, term, other) == "absent" for other in others if other is not factor)
        for term in entered
    )


def _best(found: Mapping[str, Tensor], factor: FactorPosterior, dependence: DependenceMap | None) -> Tensor:
    """log q of a profilable factor's best q, (values, rows), from terms at each value, (values, samples, *plates)."""
    total: Tensor | float = 0.0
    for name, values in found.items():
        if relation(dependence, name, factor) == "absent":
            continue
        row = 2 + plate_dimension(name, values.shape[2:], factor)
        rest = [d for d in range(2, values.dim()) if d != row]
        total = total + (values.sum(rest) if rest else values).mean(1)
    assert isinstance(total, Tensor)
    return total.log_softmax(0)


def evaluations(factors: Sequence[FactorPosterior], dependence: DependenceMap | None) -> int:
    """How often the log joint is evaluated to enumerate these factors."""
    return sum(_size(plan, factors) for plan in _plans(dependence, factors))


def _plan_of(dependence: DependenceMap | None, term: str, factors: Sequence[FactorPosterior]) -> Plan:
    return tuple(relation(dependence, term, factor) for factor in factors)


def _covers(plan: Plan, needed: Plan) -> bool:
    """Whether a term that needs `needed` can be averaged over the configurations of `plan`."""
    return all(_ORDER[a] >= _ORDER[b] for a, b in zip(plan, needed, strict=True))


def _plans(dependence: DependenceMap | None, factors: Sequence[FactorPosterior]) -> list[Plan]:
    """What the terms need, less what another plan covers."""
    if dependence is None:
        return [tuple("mixed" for _ in factors)]
    needed = dict.fromkeys(_plan_of(dependence, term, factors) for term in dependence)
    return [plan for plan in needed if not any(other != plan and _covers(other, plan) for other in needed)]


def _free(factor: FactorPosterior, how: Relation) -> torch.Size:
    """Shape of the elements that take their values independently of each other, rows side by side counted once."""
    if how == "absent":
        return torch.Size()
    return factor.elements[1:] if how == "aligned" else factor.elements


def _size(plan: Plan, factors: Sequence[FactorPosterior]) -> int:
    counts = [
        1 if how == "absent" else (factor.support_size or 1) ** _free(factor, how).numel()
        for factor, how in zip(factors, plan, strict=True)
    ]
    return math.prod(counts)


def _check(plans: Sequence[Plan], factors: Sequence[FactorPosterior], limit: int) -> None:
    total = sum(_size(plan, factors) for plan in plans)
    if total <= limit:
        return
    worst = max(plans, key=lambda plan: _size(plan, factors))
    jointly = [
        f"{', '.join(f.names)} ({f.support_size} values, {_free(f, how).numel()} elements jointly)"
        for f, how in zip(factors, worst, strict=True)
        if how != "absent"
    ]
    count = f"{total:,}" if total < 1e15 else f"about 1e{len(str(total)) - 1}"
    raise ValueError(
        f"enumerating {' and '.join(jointly)} takes {count} evaluations of the log joint, more than limit={limit}: put "
        "the latent on a plate and leave its terms unsummed along it, so that rows are enumerated side by side, score "
        "it (ScoreFunction), or raise Enumeration(limit=...)"
    )


def _numbers(factors: Sequence[FactorPosterior], plan: Plan) -> list[Tensor]:
    """Which of its own configurations each factor has in each of all, (C,) for each factor."""
    every, repeat = torch.arange(_size(plan, factors)), 1
    found = []
    for factor, how in zip(factors, plan, strict=True):
        own = _size((how,), [factor])
        found.append(every // repeat % own)
        repeat *= own
    return found


def _index(factor: FactorPosterior, how: Relation, number: Tensor) -> Tensor:
    """Which value each element takes, (C, *elements): the digits of the configuration's number."""
    size, free = factor.support_size or 1, _free(factor, how)
    digits = number[:, None] // size ** torch.arange(free.numel()) % size
    each = digits.reshape(len(number), *[1] * (len(factor.elements) - len(free)), *free)
    return each.expand(len(number), *factor.elements)


def _evaluate(
    terms: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    factors: Sequence[FactorPosterior],
    plan: Plan,
    drawn: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Terms, (C, samples, *plates), at each configuration and draw, and each factor's log q there, (C, *elements)."""
    samples = len(next(iter(drawn.values()))) if drawn else 1
    values: dict[str, Tensor] = {}
    log_q: list[Tensor] = []
    for factor, how, number in zip(factors, plan, _numbers(factors, plan), strict=True):
        every = factor.enumerate()
        probabilities = factor.log_prob(every)
        index = _index(factor, how, number).to(probabilities.device)
        log_q.append(probabilities.gather(0, index))
        for name, value in every.values.items():
            place = index.reshape(*index.shape, *[1] * (value.dim() - index.dim()))
            chosen = value.gather(0, place.expand(len(index), *value.shape[1:]))
            values[name] = chosen.unsqueeze(1).expand(-1, samples, *value.shape[1:]).flatten(0, 1)
    count = _size(plan, factors)
    for name, value in drawn.items():
        values[name] = value.unsqueeze(0).expand(count, *value.shape).flatten(0, 1)
    return {n: t.reshape(count, samples, *t.shape[1:]) for n, t in terms(values).items()}, log_q


def _weighted(
    name: str,
    term: Tensor,
    log_q: Sequence[Tensor],
    factors: Sequence[FactorPosterior],
    plan: Plan,
    needed: Plan,
) -> Tensor:
    """Expectation of a term, (C, samples, *plates) -> (samples, *plates), over the factors that it depends on."""
    matters = [how != "absent" for how in needed]
    numbers = _numbers(factors, plan)
    others = [number != 0 for number, matter in zip(numbers, matters, strict=True) if not matter]
    kept = (sum(others, torch.zeros_like(numbers[0])) == 0).nonzero()[:, 0].to(term.device)  # the others stand still
    ones = [1] * (term.dim() - 1)
    total = term.new_zeros(len(kept), *ones)
    for factor, how, each, matter in zip(factors, plan, log_q, matters, strict=True):
        if not matter:
            continue
        if how == "aligned":
            place = 2 + plate_dimension(name, term.shape[2:], factor)
            rows = each[kept].reshape(len(kept), factor.elements[0], -1).sum(2)
            total = total + rows.reshape(len(kept), *(len(rows[0]) if d == place else 1 for d in range(1, term.dim())))
        else:
            total = total + each[kept].reshape(len(kept), -1).sum(1).reshape(len(kept), *ones)
    weights = total.exp()
    # An impossible configuration may have a log joint of -inf: it counts nothing, and nothing is differentiated there.
    return (weights * term[kept].where(weights > 0, 0.0)).sum(0)
