"""Conjugate models: the expected log joint in mean parameters, and the one update that all of Part I is made of.

For a conditionally conjugate model E_q[log p(x, z)] is linear in each latent's mean parameters m_j, and its gradient
with respect to m_j is the natural parameter of the optimal q_j. So

    eta_j <- (1 - rho) eta_j + rho grad_{m_j} E_q[log p(x, z)]

is coordinate ascent with rho = 1, natural-gradient ascent with rho < 1, and stochastic variational inference with a
minibatch whose terms count N / B times (Hoffman et al. 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Generator, Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint

from jensen.errors import NonFiniteError
from jensen.families import ExponentialFamily

__all__ = [
    "Columns",
    "ConjugateModel",
    "Data",
    "Evaluation",
    "Latent",
    "Moments",
    "Parameter",
    "State",
    "evaluate",
    "terms_of",
]

Family: TypeAlias = ExponentialFamily[Any, Any, Any]
Terms: TypeAlias = Tensor | Mapping[str, Tensor]


class Data(Protocol):
    """What a model is fitted to: its rows can be counted, and some of them taken by a slice or an index tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Moments(dict[str, Any]):
    """The latents' mean parameters and the hyperparameters' values by name, also as attributes: `m.weights.log`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no latent or parameter {name!r}; there are: {', '.join(self)}") from None


class Columns:
    """Named tensors with a common first dimension, the data: `Columns(x=..., y=...)`; `columns[index]` takes rows."""

    def __init__(self, **columns: Tensor) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns need the same number of rows, at least one column; got {lengths}")
        self._columns = columns

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_") or name not in self._columns:
            raise AttributeError(f"no column {name!r}")
        return self._columns[name]

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __getitem__(self, index: Any) -> Columns:
        return Columns(**{name: column[index] for name, column in self._columns.items()})


@dataclass(frozen=True)
class Latent:
    """A latent variable, or a plate of them.

    Args:
        start: the first q; its class is the latent's family, its batch shape the latent's plates. A global latent's may
            be a function of a `torch.Generator` (random starts), a local latent's is a function of a batch of data that
            gives one q for each of its rows.
        prior: adds E_q[log prior] to the bound; may be a function of the hyperparameters (`Moments` of them alone);
            None where the model's terms hold it.
        local: whether there is one for each row of the data (along the first batch dimension).
    """

    start: Family | Callable[[Any], Family]
    prior: Family | Callable[[Moments], Family] | None = None
    local: bool = False


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that climbs the same bound as q: where it starts, and what it must satisfy."""

    value: Tensor
    constraint: Constraint = constraints.real


@dataclass(frozen=True)
class ConjugateModel:
    """A model as its expected log joint, in two parts, so that minibatches scale the local part alone.

    Args:
        latents: by name.
        local_terms: (m, batch) -> the sum over the rows of a batch of E_q[log p(x_n, z_n | globals)] in nats; one
            scalar, or several by name. Priors of local latents given to `Latent` come on top.
        global_terms: m -> the terms that belong to no row: hierarchical priors.
        parameters: hyperparameters, found in `m` under their names.
        blocks: names of latents that are updated together, in this order; only where the terms are linear in them
            jointly. Default: one by one, local ones first.
        profiled: names of terms from which a local latent has been maximised out (a log-sum-exp): convex instead of
            linear in the mean parameters, and still climbed by every step.
        nonconjugate: names of terms that are not linear on purpose (conjugate-computation VI, Khan & Lin 2017): each
            is replaced by its linearisation at the present q, so that steps must be smaller than 1.
        sampled_terms: (draws, batch) -> log factors without closed expectation at draws from q of shape
            (samples, *batch, *event), by name as attributes; shape (samples,), summed over the rows of the batch.
        samples: how many draws.
    """

    latents: Mapping[str, Latent]
    local_terms: Callable[[Any, Any], Terms] | None = None
    global_terms: Callable[[Any], Terms] | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    blocks: Sequence[Sequence[str]] | None = None
    profiled: frozenset[str] = frozenset()
    nonconjugate: frozenset[str] = frozenset()
    sampled_terms: Callable[[Any, Any], Terms] | None = None
    samples: int = 32

    def __post_init__(self) -> None:
        named = [name for block in self.blocks or () for name in block]
        if self.blocks is not None and sorted(named) != sorted(self.latents):
            raise ValueError(
                f"blocks must name every latent once: latents {sorted(self.latents)}, blocks {sorted(named)}"
            )
        clash = set(self.latents) & set(self.parameters)
        if clash:
            raise ValueError(f"latent and parameter of the same name: {sorted(clash)}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        for name, latent in self.latents.items():
            if latent.local and isinstance(latent.start, ExponentialFamily):
                raise ValueError(f"local latent {name!r}: start must be a function of a batch of data")

    @property
    def order(self) -> list[list[str]]:
        """The blocks in the order of their updates; one never mixes local and global latents by default."""
        if self.blocks is not None:
            return [list(block) for block in self.blocks]
        return [[name] for local in (True, False) for name, latent in self.latents.items() if latent.local is local]

    def split(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """(global, local) ones among these latents."""
        return [n for n in names if not self.latents[n].local], [n for n in names if self.latents[n].local]

    @property
    def linear(self) -> bool:
        """Whether every term is linear (or profiled), so that no step up to rho = 1 lowers the bound."""
        return not self.nonconjugate and self.sampled_terms is None

    def start(self, generator: Generator | None = None) -> State:
        """The first q of the global latents, and the hyperparameters' first values."""
        q = {}
        for name, latent in self.latents.items():
            if not latent.local:
                q[name] = latent.start if isinstance(latent.start, ExponentialFamily) else latent.start(generator)
        return State(q=q, parameters={name: p.value for name, p in self.parameters.items()})

    def start_local(self, batch: Any) -> dict[str, Family]:
        """The first q of the local latents of these rows."""
        q = {}
        for name, latent in self.latents.items():
            if latent.local:
                assert not isinstance(latent.start, ExponentialFamily)
                q[name] = latent.start(batch)
                if not q[name].batch_shape or q[name].batch_shape[0] != len(batch):
                    raise ValueError(
                        f"local latent {name!r}: start must give one q for each of the {len(batch)} rows, along "
                        f"the first batch dimension; got batch shape {tuple(q[name].batch_shape)}"
                    )
        return q


@dataclass(frozen=True)
class State:
    """Where an inference stands: q of the global latents, hyperparameters, q of the local latents of some rows."""

    q: Mapping[str, Family]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    local: Mapping[str, Family] = field(default_factory=dict)

    def with_q(self, changed: Mapping[str, Family]) -> State:
        """The same with some latents' q replaced."""
        return replace(
            self,
            q={name: changed.get(name, q) for name, q in self.q.items()},
            local={name: changed.get(name, q) for name, q in self.local.items()},
        )


@dataclass
class Evaluation:
    """The bound at one state.

    Attributes:
        elbo: nats.
        magnitude: sum of the absolute values of its parts: rounding is measured against it.
        targets: for each latent asked for, the gradient of the expected log joint in its mean parameters: the natural
            parameters of its optimal q.
        gradients: for each hyperparameter asked for, the gradient of the bound.
    """

    elbo: float = 0.0
    magnitude: float = 0.0
    targets: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Count one part of the bound; raises NonFiniteError naming it."""
        if value != value or value in (float("inf"), float("-inf")):
            raise NonFiniteError(
                f"{name} is {value}: look for values outside of their domain in the data or the priors"
            )
        self.elbo += value
        self.magnitude += abs(value)


def evaluate(
    model: ConjugateModel,
    state: State,
    data: Any = None,
    names: Sequence[str] = (),
    *,
    scale: float = 1.0,
    chunk_size: int | None = None,
    generator: Generator | None = None,
    skip: frozenset[str] = frozenset(),
) -> Evaluation:
    """The ELBO in nats and, for the latents and hyperparameters in `names`, the gradients of the expected log joint.

    Args:
        data: the rows, or None for a model without local terms.
        scale: how often each row counts: N / B for a minibatch.
        chunk_size: rows whose terms are held in memory at a time.
        generator: draws of `sampled_terms`.
        skip: terms that are left out.

    Raises:
        NonFiniteError: a term or an entropy is NaN or infinite; the message names it.
    """
    result = Evaluation()
    for name, q in (*state.q.items(), *state.local.items()):
        latent = model.latents[name]
        negative = -(q.dual() if latent.prior is not None or not q.constant_base_measure else -q.entropy())
        weight = scale if latent.local else 1.0
        result.add(_unusual(f"the entropy of q({name})", q, negative), weight * float(negative.sum()))
    leaves = _leaves(replace(state, local={}), names)
    globals_ = {n: q.mean_parameters for n, q in state.q.items()} | dict(state.parameters)
    _accumulate(result, model, state, {**globals_, **leaves}, leaves, None, 1.0, generator, skip)
    if model.local_terms is not None or model.sampled_terms is not None or state.local:
        if data is None:
            raise ValueError("the model has local terms: it needs data")
        pieces: dict[str, list[tuple[Tensor, ...]]] = {n: [] for n in names if n in state.local}
        for rows in _chunks(len(data), chunk_size):
            batch = data if rows is None else data[rows]
            local = state.local if rows is None else {n: q[rows] for n, q in state.local.items()}
            here = _leaves(State(q={}, local=local), names)
            m = {**globals_, **{n: q.mean_parameters for n, q in local.items()}, **leaves, **here}
            part = replace(state, local=local)
            _accumulate(result, model, part, m, leaves | here, batch, scale, generator, skip)
            for n in pieces:
                pieces[n].append(result.targets.pop(n))
        result.targets |= {n: tuple(torch.cat(fields) for fields in zip(*p, strict=True)) for n, p in pieces.items()}
    return result


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
    skip: frozenset[str],
) -> None:
    """Add the terms of one batch (None: the global terms), and their gradients in `leaves`."""
    with torch.set_grad_enabled(bool(leaves)):
        terms = terms_of(model, state, Moments(m), batch, generator)
        terms = {n: t for n, t in terms.items() if n not in skip}
        total = torch.stack(list(terms.values())).sum() if terms else None
    for name, term in terms.items():
        result.add(f"the term {name!r}", scale * float(term.detach()))
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
    model: ConjugateModel, state: State, m: Moments, batch: Any, generator: Generator | None
) -> dict[str, Tensor]:
    """Every term of the expected log joint by name: the global ones (batch None) or those of a batch."""
    terms: dict[str, Tensor] = {}
    hyper = Moments({name: m[name] for name in model.parameters})
    for name, q in (state.q if batch is None else state.local).items():
        prior = model.latents[name].prior
        if prior is not None:
            p = prior if isinstance(prior, ExponentialFamily) else prior(hyper)
            expected = p.inner(p.natural_parameters, m[name]) - p.log_partition()
            terms[f"prior of {name}"] = expected.expand(q.batch_shape).sum()
    given = model.global_terms(m) if batch is None and model.global_terms else None
    if batch is not None and model.local_terms:
        given = model.local_terms(m, batch)
    if given is not None:
        terms |= dict(given) if isinstance(given, Mapping) else {"global" if batch is None else "local": given}
    for name, term in terms.items():
        if term.dim():
            raise ValueError(
                f"the term {name!r} must be one number (summed over plates and rows), got {tuple(term.shape)}"
            )
    if batch is not None and model.sampled_terms:
        drawn = model.sampled_terms(_draws(model, state, m, generator), batch)
        sampled = dict(drawn) if isinstance(drawn, Mapping) else {"sampled": drawn}
        for name, term in sampled.items():
            if tuple(term.shape) != (model.samples,):
                raise ValueError(
                    f"the sampled term {name!r} must have shape ({model.samples},), got {tuple(term.shape)}"
                )
            terms[name] = term.mean()
    return terms


def _draws(model: ConjugateModel, state: State, m: Moments, generator: Generator | None) -> Moments:
    """Draws from q; differentiable in the mean parameters that are asked for, through those to q and from q to z."""
    draws = Moments({name: m[name] for name in model.parameters})
    device = next(iter({**state.q, **state.local}.values())).natural_parameters[0].device
    if generator is not None and generator.device != device:  # draws are made where q is
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = Generator(device).manual_seed(seed)
    for name, q in (*state.q.items(), *state.local.items()):
        if any(f.requires_grad for f in m[name]):
            draws[name] = q.from_mean_parameters(*m[name]).rsample((model.samples,), generator)
        else:
            draws[name] = q.sample((model.samples,), generator)
    return draws


def _chunks(rows: int, size: int | None) -> Iterator[slice | None]:
    """Slices that cover the rows; one None where they are taken at once."""
    if size is None or size >= rows:
        yield None
    else:
        yield from (slice(i, min(i + size, rows)) for i in range(0, rows, size))


def _unusual(what: str, q: Family, entropy: Tensor) -> str:
    """What to call this entropy if it is not finite: with the parameter that made it so."""
    if bool(entropy.isfinite().all()):
        return what
    return f"{what} ({q.fault_in(q.standard_parameters) or 'parameters in their domain'})"


def unconstrained(parameter: Parameter, value: Tensor) -> Tensor:
    """A hyperparameter's value mapped to real numbers."""
    result: Tensor = biject_to(parameter.constraint).inv(value)
    return result


def constrained(parameter: Parameter, value: Tensor) -> Tensor:
    """The inverse of `unconstrained`."""
    result: Tensor = biject_to(parameter.constraint)(value)
    return result
