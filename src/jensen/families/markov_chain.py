"""Markov chains of finitely many states; a draw is a path of integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, constraints

from jensen.families.base import ExponentialFamily
from jensen.families.categorical import extended_difference, extended_product
from jensen.families.checks import as_tensors, first_violation
from jensen.families.forward import (
    backward_conditionals,
    best_path,
    inside,
    log_forward,
    log_forward_plain,
    steps_inside,
)

__all__ = ["MarkovChain", "MarkovChainMean", "MarkovChainNatural", "MarkovChainStandard"]


class MarkovChainNatural(NamedTuple):
    """eta: log factors of states (*batch, T, K) and of steps from a state (row) to the next (*batch, T - 1, K, K)."""

    potentials: Tensor
    transitions: Tensor


class MarkovChainMean(NamedTuple):
    """E[T]: P(z_t), (*batch, T, K), and P(z_t, z_{t+1}), (*batch, T - 1, K, K); 0 beyond a chain's length."""

    marginals: Tensor
    pairs: Tensor


class MarkovChainStandard(NamedTuple):
    """P(z_1), shape (*batch, K), and P(z_{t+1} | z_t), shape (*batch, T - 1, K, K), rows summing to 1."""

    initial: Tensor
    transition: Tensor


class MarkovChain(ExponentialFamily[MarkovChainNatural, MarkovChainMean, MarkovChainStandard]):
    """Paths z_1, ..., z_T through states 0, ..., K - 1.

    T(z) = one-hot states and one-hot pairs of neighbours, eta = log factors of both (over-complete; -inf forbids),
    A = log sum over paths (`log_forward`), h = 1. The mean parameters are marginals of states and pairs.

    Minimal coordinates: marginals of the first K - 1 states and pairs of the first (K - 1) x (K - 1), T (K - 1) +
    (T - 1) (K - 1)^2 in all.

    Args:
        natural_parameters: taken as they are.
        lengths: integers (*batch), the steps of each chain, 1 to T; the rest contributes nothing (its parameters are
            set to 0 there, draws are 0). None: all of T.
    """

    Natural = MarkovChainNatural
    Mean = MarkovChainMean
    Standard = MarkovChainStandard
    event_dims = (2, 3)
    constraints: ClassVar = {
        "initial": constraints.simplex,
        "transition": constraints.independent(constraints.simplex, 2),
    }
    has_rsample = False

    def __init__(self, natural_parameters: MarkovChainNatural, lengths: Tensor | None = None) -> None:
        if lengths is not None:
            kept = steps_inside(lengths, natural_parameters.potentials.shape[-2])
            natural_parameters = MarkovChainNatural(
                torch.where(kept.unsqueeze(-1), natural_parameters.potentials, 0.0),
                torch.where(kept[..., 1:, None, None], natural_parameters.transitions, 0.0),
            )
        super().__init__(natural_parameters)
        self.lengths = None if lengths is None else lengths.expand(self.batch_shape)

    # --- making one -------------------------------------------------------------------------------------------------

    @classmethod
    def from_standard(cls, initial: Tensor, transition: Tensor, lengths: Tensor | None = None) -> Self:
        """From P(z_1) (*batch, K) and P(z_{t+1} | z_t) (*batch, T - 1, K, K), zeros allowed; raises ValueError."""
        standard = MarkovChainStandard(*as_tensors((initial, transition)))
        _check_sizes(standard, (1, 3))
        fault = first_violation(standard, cls.constraints)
        if fault:
            raise ValueError(f"{cls.__name__}: {fault}")
        return cls(cls._to_natural(standard), _checked_lengths(lengths, standard.transition.shape[-3] + 1))

    @classmethod
    def from_natural(cls, *fields: Any, lengths: Tensor | None = None) -> Self:
        """From potentials (*batch, T, K) and transitions (*batch, T - 1, K, K) in nats, -inf allowed.

        Raises:
            ValueError: NaN or +inf, shapes that do not fit together, or a chain in which no path is possible.
        """
        natural = MarkovChainNatural(*as_tensors(fields))
        _check_sizes(natural, (2, 3))
        steps = natural.potentials.shape[-2]
        if natural.transitions.shape[-3] != steps - 1:
            raise ValueError(
                f"{cls.__name__}: transitions must be of T - 1 = {steps - 1} steps, got {natural.transitions.shape[-3]}"
            )
        for name, value in natural._asdict().items():
            wrong = value.isnan() | (value == math.inf)
            if bool(wrong.any()):
                index = tuple(wrong.nonzero()[0].tolist())
                raise ValueError(
                    f"{cls.__name__}: {name}{list(index)} is {value[index].item():g}; it must be finite or -inf"
                )
        q = cls(natural, _checked_lengths(lengths, steps))
        impossible = q.log_partition() == -math.inf
        if bool(impossible.any()):
            raise ValueError(f"{cls.__name__}: no path is possible in chain {impossible.nonzero()[0].tolist()}")
        return q

    @classmethod
    def from_mean_parameters(cls, *fields: Any, lengths: Tensor | None = None) -> Self:
        """From marginals of states and of pairs, in closed form: log of the first state's and of conditional ones.

        Raises:
            ValueError: they are not probabilities, or pairs do not add up to the marginals (to 1e-6).
        """
        mean = MarkovChainMean(*as_tensors(fields))
        _check_sizes(mean, (2, 3))
        lengths = _checked_lengths(lengths, mean.marginals.shape[-2])
        _check_marginals(mean, lengths)
        first = mean.marginals[..., :1, :]
        rest = torch.zeros_like(mean.marginals[..., 1:, :])
        sums = mean.pairs.sum(-1, keepdim=True)
        return cls(MarkovChainNatural(torch.cat([_log(first), rest], -2), _log(mean.pairs) - _log(sums, 0.0)), lengths)

    @classmethod
    def _to_natural(cls, standard: MarkovChainStandard) -> MarkovChainNatural:
        initial, transition = standard
        batch = torch.broadcast_shapes(initial.shape[:-1], transition.shape[:-3])
        first = _log(initial).expand(*batch, -1).unsqueeze(-2)
        rest = first.new_zeros(*batch, transition.shape[-3], initial.shape[-1])
        return MarkovChainNatural(torch.cat([first, rest], -2), _log(transition))

    @property
    def standard_parameters(self) -> MarkovChainStandard:
        """P(z_1) and P(z_{t+1} | z_t); beyond a chain's length it stays where it is."""
        return MarkovChainStandard(*backward_conditionals(*self._inside))

    @property
    def _inside(self) -> tuple[Tensor, Tensor]:
        return inside(*self.natural_parameters, self.lengths)

    @property
    def event_shape(self) -> torch.Size:
        """(T,)."""
        return self.natural_parameters.potentials.shape[-2:-1]

    # --- as an exponential family -----------------------------------------------------------------------------------

    def log_partition(self) -> Tensor:
        """log sum over all paths of exp(<eta, T(z)>)."""
        return log_forward(*self.natural_parameters, self.lengths)

    def _mean_parameters(self) -> MarkovChainMean:
        fields = self.natural_parameters
        outside = torch.is_grad_enabled() and any(f.requires_grad for f in fields)
        with torch.enable_grad():
            leaves = fields if outside else MarkovChainNatural(*(f.detach().requires_grad_() for f in fields))
            total = log_forward(leaves.potentials, leaves.transitions, self.lengths).sum()
            return MarkovChainMean(*torch.autograd.grad(total, leaves, create_graph=outside))

    def sufficient_statistics(self, z: Tensor) -> MarkovChainMean:
        """One-hot states and pairs of the path z (*anything, *batch_shape, T), 0 beyond a chain's length."""
        potentials = self.natural_parameters.potentials
        states = torch.nn.functional.one_hot(z.long(), potentials.shape[-1]).to(potentials.dtype)
        if self.lengths is not None:
            states = states * steps_inside(self.lengths, potentials.shape[-2]).unsqueeze(-1)
        return MarkovChainMean(states, states[..., :-1, :].unsqueeze(-1) * states[..., 1:, :].unsqueeze(-2))

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats, shape (*anything, *batch_shape), without one-hot pairs."""
        potentials, transitions = self.natural_parameters
        shape = torch.broadcast_shapes(z.shape[:-1], self.batch_shape)
        path = z.long().expand(*shape, -1)
        states = potentials.expand(*shape, *potentials.shape[-2:]).gather(-1, path.unsqueeze(-1)).squeeze(-1)
        rows = path[..., :-1, None, None].expand(*path[..., :-1].shape, 1, transitions.shape[-1])
        moves = transitions.expand(*shape, *transitions.shape[-3:]).gather(-2, rows).squeeze(-2)
        moves = moves.gather(-1, path[..., 1:, None]).squeeze(-1)
        if self.lengths is not None:
            kept = steps_inside(self.lengths, path.shape[-1])
            states, moves = torch.where(kept, states, 0.0), torch.where(kept[..., 1:], moves, 0.0)
        return states.sum(-1) + moves.sum(-1) - self.log_partition()

    @classmethod
    def inner(cls, natural: Sequence[Tensor], mean: Sequence[Tensor]) -> Tensor:
        """<eta, m>, what is impossible (-inf with probability 0) counting as nothing."""
        states, moves = (extended_product(eta, m) for eta, m in zip(natural, mean, strict=True))
        return states.sum((-2, -1)) + moves.sum((-3, -2, -1))

    def _difference(self, other: Self) -> list[Tensor]:
        if not _same_lengths(self.lengths, other.lengths):
            raise ValueError(f"{type(self).__name__}: KL between chains of different lengths")
        both = zip(self.natural_parameters, other.natural_parameters, strict=True)
        return [extended_difference(a, b) for a, b in both]

    @classmethod
    def symmetrised(cls, fields: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As they are: none of the fields is a symmetric matrix."""
        return tuple(fields)

    def is_valid(self) -> bool:
        """Whether each chain has a possible path and no factor is NaN or +inf."""
        return bool(self.log_partition().isfinite().all())

    def viterbi(self) -> Tensor:
        """The most probable path, integers (*batch_shape, T); 0 beyond a chain's length."""
        with torch.no_grad():
            return self._cut(best_path(*self._inside))

    def sample(self, shape: Sequence[int] = (), generator: Generator | None = None) -> Tensor:
        """Paths, integers (*shape, *batch_shape, T), 0 beyond a chain's length.

        Backward messages, then the states one after the other.
        """
        with torch.no_grad():
            initial, transition = self.standard_parameters
        flat = (math.prod(shape), math.prod(self.batch_shape))
        steps = transition.reshape(flat[1], *transition.shape[-3:]).unbind(1)
        chains = torch.arange(flat[1], device=initial.device)
        rows = initial.reshape(flat[1], initial.shape[-1])
        state = torch.multinomial(rows, max(flat[0], 1), replacement=True, generator=generator)[:, : flat[0]].T
        path = [state]
        for step in steps:
            rows = step[chains, state].reshape(-1, step.shape[-1])
            state = torch.multinomial(rows, 1, generator=generator).reshape(flat)
            path.append(state)
        return self._cut(torch.stack(path, -1).reshape(*shape, *self.batch_shape, len(path)))

    def _cut(self, path: Tensor) -> Tensor:
        return path if self.lengths is None else path * steps_inside(self.lengths, path.shape[-1])

    def to_torch(self) -> Distribution:
        """TypeError: `torch.distributions` has no Markov chain."""
        raise TypeError("torch.distributions has no Markov chain; use log_prob(), sample() and viterbi()")

    # --- minimal coordinates ----------------------------------------------------------------------------------------

    @classmethod
    def to_minimal(cls, natural: Sequence[Tensor]) -> Tensor:
        """eta in coordinates where the last state and all pairs with it have factor 1."""
        potentials, transitions = natural
        corner = transitions[..., -1:, -1:]
        to, out = transitions[..., -1:, :] - corner, transitions[..., :, -1:] - corner
        moves = transitions - transitions[..., -1:, :] - out
        pad = torch.nn.functional.pad
        states = (
            potentials - potentials[..., -1:] + pad(out.squeeze(-1), (0, 0, 0, 1)) + pad(to.squeeze(-2), (0, 0, 1, 0))
        )
        return torch.cat([states[..., :-1].flatten(-2), moves[..., :-1, :-1].flatten(-3)], -1)

    @classmethod
    def minimal_mean(cls, mean: Sequence[Tensor]) -> Tensor:
        """Marginals of the first K - 1 states, then pairs of the first (K - 1) x (K - 1)."""
        return torch.cat([mean[0][..., :-1].flatten(-2), mean[1][..., :-1, :-1].flatten(-3)], -1)

    @classmethod
    def from_minimal(cls, vector: Tensor) -> NoReturn:
        """TypeError: a vector does not tell T from K; see `expand_minimal`."""
        raise TypeError("MarkovChain: a vector does not tell steps from states; use expand_minimal() of a chain")

    def expand_minimal(self, vector: Tensor) -> MarkovChainNatural:
        """The inverse of `to_minimal`, for the T and K of this chain."""
        steps, states = self.natural_parameters.potentials.shape[-2:]
        head, tail = vector.split([steps * (states - 1), (steps - 1) * (states - 1) ** 2], -1)
        potentials = head.unflatten(-1, (steps, states - 1))
        transitions = tail.reshape(*tail.shape[:-1], steps - 1, states - 1, states - 1)
        pad = torch.nn.functional.pad
        return MarkovChainNatural(pad(potentials, (0, 1)), pad(transitions, (0, 1, 0, 1)))

    def fisher_information(self) -> Tensor:
        """The Fisher matrix in minimal coordinates, (*batch_shape, d, d); singular in what lies beyond a length."""
        vector = self.to_minimal(self.natural_parameters).detach()
        flat = vector.reshape(math.prod(vector.shape[:-1]), vector.shape[-1])
        steps = self.natural_parameters.potentials.shape[-2]
        full = torch.full((len(flat),), steps, device=flat.device) if self.lengths is None else self.lengths.reshape(-1)

        def log_partition(v: Tensor, length: Tensor) -> Tensor:
            return log_forward_plain(*self.expand_minimal(v), length)

        hessian: Tensor = torch.func.vmap(torch.func.hessian(log_partition))(flat, full)
        return hessian.reshape(*vector.shape, vector.shape[-1])

    # --- as a batch -------------------------------------------------------------------------------------------------

    def _map(self, change: Any) -> Self:
        q = super()._map(change)
        return q if self.lengths is None else type(self)(q.natural_parameters, change(self.lengths, 0).long())

    def moved(self, target: Sequence[Tensor], rho: float = 1.0) -> Self:
        """(1 - rho) eta + rho target, of the same lengths."""
        return type(self)(super().moved(target, rho).natural_parameters, self.lengths)


def _log(probs: Tensor, of_zero: float = -math.inf) -> Tensor:
    """Logarithm whose gradient is 0 where probs is 0."""
    positive = probs > 0
    return torch.where(positive, torch.where(positive, probs, 1.0).log(), of_zero)


def _check_sizes(fields: tuple[Tensor, ...], dims: tuple[int, int]) -> None:
    """Refuse shapes that do not belong to one chain (of states, then of moves)."""
    names: tuple[str, ...] = fields._fields  # type: ignore[attr-defined]
    for name, value, n in zip(names, fields, dims, strict=True):
        if value.dim() < n:
            wanted = {1: "(*batch, K)", 2: "(*batch, T, K)", 3: "(*batch, T - 1, K, K)"}[n]
            raise ValueError(f"MarkovChain: {name} must be of shape {wanted}, got {tuple(value.shape)}")
    states, moves = fields
    if states.shape[-1] == 0 or moves.shape[-2:] != (states.shape[-1], states.shape[-1]):
        raise ValueError(
            f"MarkovChain: {names[1]} must end in K x K, K = {states.shape[-1]} the states of {names[0]}, "
            f"got {tuple(moves.shape)}"
        )
    try:
        torch.broadcast_shapes(states.shape[: -dims[0]], moves.shape[: -dims[1]])
    except RuntimeError:
        found = f"{names[0]} {tuple(states.shape)}, {names[1]} {tuple(moves.shape)}"
        raise ValueError(f"MarkovChain: batch shapes do not broadcast: {found}") from None


def _checked_lengths(given: Any, steps: int) -> Tensor | None:
    if given is None:
        return None
    lengths: Tensor = torch.as_tensor(given)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"MarkovChain: lengths must be integers, got {lengths.dtype}")
    wrong = (lengths < 1) | (lengths > steps)
    if bool(wrong.any()):
        index = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(f"MarkovChain: lengths{list(index)} is {lengths[index].item()}; it must be 1 to T = {steps}")
    return lengths.long()


def _same_lengths(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool((a == b).all())


def _check_marginals(mean: MarkovChainMean, lengths: Tensor | None) -> None:
    """Refuse marginals that are no probabilities, and pairs that contradict them."""
    marginals, pairs = mean
    steps = marginals.shape[-2]
    if pairs.shape[-3] != steps - 1:
        raise ValueError(f"MarkovChain: pairs must be of T - 1 = {steps - 1} steps, got {pairs.shape[-3]}")
    kept = steps_inside(torch.tensor(steps, device=marginals.device) if lengths is None else lengths, steps)
    negative = (marginals < 0).any(-1) | ~marginals.isfinite().all(-1)
    wrong = (negative | ((marginals.sum(-1) - 1).abs() > 1e-6)) & kept
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        raise ValueError(f"MarkovChain: marginals{index} must be on the simplex (not negative, sum 1)")
    before, after = (pairs.sum(-1) - marginals[..., :-1, :]).abs(), (pairs.sum(-2) - marginals[..., 1:, :]).abs()
    odd = ~((before + after).amax(-1) < 1e-6) | (pairs < 0).any(-1).any(-1)
    odd = odd & kept[..., 1:]
    if bool(odd.any()):
        raise ValueError(f"MarkovChain: pairs{odd.nonzero()[0].tolist()} must add up to the marginals on both sides")
