"""The bound of a conjugate model at one q, and the gradients that are its updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError
from jensen.families import ExponentialFamily
from jensen.inference.conjugate import ConjugateModel, Family, Moments, State

__all__ = ["Evaluation", "evaluate", "terms_of"]


@dataclass
class Evaluation:
    """The bound at one state.

    Attributes:
        elbo: nats.
        rounding: how much of that may be rounding, nats.
        targets: for each latent asked for, the gradient of the expected log joint in its mean parameters: the natural
            parameters of its optimal q.
        gradients: for each hyperparameter asked for, the gradient of the bound.
    """

    elbo: float = 0.0
    rounding: float = 0.0
    targets: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor, weight: float, size: float = 0.0) -> None:
        """Count one part of the bound; raises NonFiniteError naming it.

        Args:
            value: one number.
            size: of the products that were summed up to it: what cancelled inside is lost in proportion to it.
        """
        number = weight * float(value)
        if not math.isfinite(number):
            raise NonFiniteError(
                f"{name} is {number}: look for values outside of their domain in the data or the priors"
            )
        eps = torch.finfo(value.dtype).eps
        self.elbo += number
        # A sum's error grows faster than its size times eps: 1.5e-10 of it in float64, 1e-4 in float32, is generous.
        self.rounding += 4 * eps ** (2 / 3) * abs(number) + 16 * eps * abs(weight) * size


def evaluate(
    model: ConjugateModel,
    state: State,
    data: Any = None,
    names: Sequence[str] = (),
    *,
    scale: float = 1.0,
    chunk_size: int | None = None,
    generator: Generator | None = None,
) -> Evaluation:
    """The ELBO in nats and, for the latents and hyperparameters in `names`, the gradients of the expected log joint.

    Args:
        data: the rows, or None for a model without local terms.
        scale: how often each row counts: N / B for a minibatch.
        chunk_size: rows whose terms are held in memory at a time.
        generator: draws of `sampled_terms`.

    Raises:
        NonFiniteError: a term or an entropy is NaN or infinite; the message names it.
    """
    result = Evaluation()
    for name, q in (*state.q.items(), *state.local.items()):
        entropy = model.entropy(name, q)
        products = q.inner([f.abs() for f in q.natural_parameters], [f.abs() for f in q.mean_parameters])
        weight = scale if model.latents[name].local else 1.0
        result.add(_called(name, q, entropy), entropy.sum(), weight, float(products.sum()))
    leaves = _leaves(replace(state, local={}), names)
    known = {n: q.mean_parameters for n, q in state.q.items()} | dict(state.parameters)
    _accumulate(result, model, state, {**known, **leaves}, leaves, None, 1.0, generator)
    if model.local_terms is not None or model.sampled_terms is not None or state.local:
        if data is None:
            raise ValueError("the model has local terms or latents: it needs data")
        pieces: dict[str, list[tuple[Tensor, ...]]] = {n: [] for n in names if n in state.local}
        for rows in _chunks(len(data), chunk_size):
            batch = data if rows is None else data[rows]
            local = state.local if rows is None else {n: q[rows] for n, q in state.local.items()}
            here = _leaves(State(q={}, local=local), names)
            m = {**known, **{n: q.mean_parameters for n, q in local.items()}, **leaves, **here}
            _accumulate(result, model, replace(state, local=local), m, leaves | here, batch, scale, generator)
            for n in pieces:
                pieces[n].append(result.targets.pop(n))
        result.targets |= {n: tuple(torch.cat(fields) for fields in zip(*p, strict=True)) for n, p in pieces.items()}
    return result


def _called(name: str, q: Family, entropy: Tensor) -> str:
    """What to call this entropy; if it is not finite, with the parameter that made it so."""
    if bool(entropy.isfinite().all()):
        return f"the entropy of q({name})"
    return f"the entropy of q({name}) ({q.fault_in(q.standard_parameters) or 'parameters in their domain'})"


def _leaves(state: State, names: Sequence[str]) -> dict[str, Any]:
    """Mean parameters and hyperparameters to differentiate in."""
    leaves: dict[str, Any] = {}
    for name, q in (*state.q.items(), *state.local.items()):
        if name in names:
            leaves[name] = q.Mean(*(f.detach().requires_grad_() for f in q.mean_parameters))
    for name, value in state.parameters.items():
        if name in names:
            leaves[name] = value.detach().requires_grad_()
    return leaves


def _accumulate(
    result: Evaluation,
    model: ConjugateModel,
    state: State,
    m: dict[str, Any],
    leaves: dict[str, Any],
    batch: Any,
    scale: float,
    generator: Generator | None,
) -> None:
    """Add the terms of one batch (None: the global terms), and their gradients in `leaves`."""
    with torch.set_grad_enabled(bool(leaves)):
        terms = terms_of(model, state, Moments(m), batch, generator)
        total = torch.stack([t.double() for t in terms.values()]).sum() if terms else None
    for name, term in terms.items():
        result.add(f"the term {name!r}", term.detach(), scale)
    flat = [t for leaf in leaves.values() for t in (leaf if isinstance(leaf, tuple) else (leaf,))]
    if total is not None and total.requires_grad:
        found: Sequence[Tensor | None] = torch.autograd.grad(total, flat, allow_unused=True)
    else:
        found = [None] * len(flat)
    gradients = iter(torch.zeros_like(f) if g is None else g for g, f in zip(found, flat, strict=True))
    for name, leaf in leaves.items():
        if not isinstance(leaf, tuple):
            gradient = scale * next(gradients)
            result.gradients[name] = result.gradients[name] + gradient if name in result.gradients else gradient
            continue
        weight = 1.0 if name in state.local else scale
        q = state.local[name] if name in state.local else state.q[name]
        target = [weight * g for g in q.symmetrised([next(gradients) for _ in leaf])]
        before = result.targets.get(name)
        result.targets[name] = tuple(target if before is None else map(torch.add, before, target))


def terms_of(
    model: ConjugateModel, state: State, m: Moments, batch: Any, generator: Generator | None = None
) -> dict[str, Tensor]:
    """Every term of the expected log joint by name, one number each: the global ones (batch None) or those of a batch.

    Raises:
        ValueError, TypeError: a function of the model gives no term, or not one number for each.
    """
    terms: dict[str, Tensor] = {}
    hyper = Moments({name: m[name] for name in model.parameters})
    for name, q in (state.q if batch is None else state.local).items():
        prior = model.latents[name].prior
        if prior is not None:
            p = prior if isinstance(prior, ExponentialFamily) else prior(hyper)
            expected = p.inner(p.natural_parameters, m[name]) - p.log_partition()
            terms[f"prior of {name}"] = expected.expand(q.batch_shape).sum()
    if batch is None and model.global_terms:
        _include(terms, model.global_terms(m), "global", ())
    if batch is not None and model.local_terms:
        _include(terms, model.local_terms(m, batch), "local", ())
    if batch is not None and model.sampled_terms:
        sampled: dict[str, Tensor] = {}
        _include(sampled, model.sampled_terms(_draws(model, state, m, generator), batch), "sampled", (model.samples,))
        _include(terms, {name: term.mean() for name, term in sampled.items()}, "sampled", ())
    return terms


def _include(terms: dict[str, Tensor], given: Any, what: str, shape: tuple[int, ...]) -> None:
    """Put what a function of the model gave among the terms, checked."""
    if given is None:
        raise ValueError(f"{what}_terms gave None: return the sum of its terms, or several by name")
    for name, term in (given if isinstance(given, Mapping) else {what: given}).items():
        if not isinstance(term, Tensor) or not term.is_floating_point():
            raise TypeError(f"the term {name!r} must be a floating tensor, got {type(term).__name__}")
        if tuple(term.shape) != shape:
            wanted = f"have shape {shape}" if shape else "be one number (summed over plates and rows)"
            raise ValueError(f"the term {name!r} must {wanted}, got shape {tuple(term.shape)}")
        if name in terms:
            raise ValueError(f"two terms are called {name!r}")
        terms[name] = term


def _draws(model: ConjugateModel, state: State, m: Moments, generator: Generator | None) -> Moments:
    """Draws from q; differentiable in the mean parameters that are asked for, through those to q and from q to z."""
    draws = Moments({name: m[name] for name in model.parameters})
    device = next(iter({**state.q, **state.local}.values())).natural_parameters[0].device
    if generator is not None and generator.device != device:  # draws are made where q is
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = Generator(device).manual_seed(seed)
    for name, q in (*state.q.items(), *state.local.items()):
        draw: Callable[..., Any] = q.sample
        if any(f.requires_grad for f in m[name]):
            try:
                draw = q.from_mean_parameters(*m[name]).rsample
            except ValueError as error:  # rounding, where q is all but flat in some direction
                raise NonFiniteError(f"latent {name!r}: {error}; take smaller steps, or stronger priors") from None
        draws[name] = draw((model.samples,), generator)
    return draws


def _chunks(rows: int, size: int | None) -> Iterator[slice | None]:
    """Slices that cover the rows; one None where they are taken at once."""
    if size is None or size >= rows:
        yield None
    else:
        yield from (slice(i, min(i + size, rows)) for i in range(0, rows, size))
