"""Conjugate models: the expected log joint in mean parameters, and the one update that all of Part I is made of.

For a conditionally conjugate model E_q[log p(x, z)] is linear in each latent's mean parameters m_j, and its gradient
with respect to m_j is the natural parameter of the optimal q_j. So

    eta_j <- (1 - rho) eta_j + rho grad_{m_j} E_q[log p(x, z)]

is coordinate ascent with rho = 1, natural-gradient ascent with rho < 1, and stochastic variational inference with a
minibatch whose terms count N / B times (Hoffman et al. 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Generator, Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint

from jensen.families import ExponentialFamily

__all__ = ["Columns", "ConjugateModel", "Data", "Latent", "Moments", "Parameter", "State", "Terms"]

Family: TypeAlias = ExponentialFamily[Any, Any, Any]
Terms: TypeAlias = Tensor | Mapping[str, Tensor]


class Data(Protocol):
    """What a model is fitted to: its rows can be counted, and some of them taken by a slice or an index tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Moments:
    """The latents' mean parameters and the hyperparameters' values by name: `m.weights.log`, or `m["weights"].log`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no latent or parameter {name!r}; there are: {', '.join(self.__dict__)}")

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)


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

    def __post_init__(self) -> None:
        if not isinstance(self.start, ExponentialFamily) and not callable(self.start):
            raise TypeError(f"start must be a family or a function that gives one, got {self.start!r}")
        if isinstance(self.prior, ExponentialFamily):
            if not all(bool(f.isfinite().all()) for f in self.prior.natural_parameters):
                raise ValueError(f"the prior {self.prior!r} has parameters that are not finite, or zero probabilities")
        elif self.prior is not None and not callable(self.prior):
            raise TypeError(f"prior must be a family, a function that gives one, or None, got {self.prior!r}")


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that climbs the same bound as q: where it starts, and what it must satisfy."""

    value: Tensor
    constraint: Constraint = constraints.real

    def __post_init__(self) -> None:
        if not (isinstance(self.value, Tensor) and self.value.is_floating_point()):
            raise TypeError(f"a hyperparameter must be a floating tensor, got {self.value!r}")
        if not bool((self.constraint.check(self.value) & self.value.isfinite()).all()):
            raise ValueError(f"the hyperparameter's start {self.value.tolist()} is not {self.constraint}")

    def unconstrained(self, value: Tensor) -> Tensor:
        """A value of this hyperparameter mapped to real numbers."""
        result: Tensor = biject_to(self.constraint).inv(value)
        return result

    def constrained(self, value: Tensor) -> Tensor:
        """The inverse of `unconstrained`."""
        result: Tensor = biject_to(self.constraint)(value)
        return result


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
        if not self.latents:
            raise ValueError("a model needs at least one latent")
        for claim in ("profiled", "nonconjugate"):
            if isinstance(getattr(self, claim), str):
                raise TypeError(f"{claim} must be a set of names of terms, not one text")
        for name in (*self.latents, *self.parameters):
            if not name.isidentifier() or name.startswith("__"):
                raise ValueError(f"{name!r} cannot name a latent or parameter: m.{name} must be Python")
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
                self._check_prior(name, q[name])
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
                self._check_prior(name, q[name])
        return q

    def _check_prior(self, name: str, q: Family) -> None:
        """Refuse a prior that is not of the latent's family, or of shapes that do not fit."""
        prior = self.latents[name].prior
        if callable(prior):
            prior = prior(Moments({n: p.value for n, p in self.parameters.items()}))
        if prior is None:
            return
        if type(prior) is not type(q) or prior.event_shape != q.event_shape:
            raise TypeError(
                f"latent {name!r}: start and prior must be one family with one event shape: {q!r}, {prior!r}"
            )
        try:
            broadcast = torch.broadcast_shapes(prior.batch_shape, q.batch_shape)
        except RuntimeError:
            broadcast = None
        if broadcast != q.batch_shape:
            raise ValueError(
                f"latent {name!r}: the prior's batch shape {tuple(prior.batch_shape)} does not broadcast to that of "
                f"the start, {tuple(q.batch_shape)}"
            )

    def entropy(self, name: str, q: Family) -> Tensor:
        """The entropy of this latent's q, nats: relative to the base measure where its log is in no term either."""
        dropped = self.latents[name].prior is not None or not q.constant_base_measure
        return -q.dual() if dropped else q.entropy()


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
