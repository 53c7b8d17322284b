"""Sums and maxima over all paths of a chain: the forward and backward recursions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["backward_conditionals", "best_path", "inside", "log_forward", "log_forward_plain", "steps_inside"]


def log_forward(potentials: Tensor, transitions: Tensor, lengths: Tensor | None = None) -> Tensor:
    """log sum_z exp(sum_t potentials[t, z_t] + sum_t transitions[t, z_t, z_{t+1}]) over all paths z, nats.

    Its gradient holds the marginal probabilities of the states and of pairs of neighbours, by one backward recursion.
    In log space, so exact however far apart the factors are; -inf forbids a state or a move. May be differentiated
    again (`create_graph=True`), at the price of a recorded recursion; under `torch.func` use `log_forward_plain`.

    Args:
        potentials: (*batch, T, K) log factors of the states.
        transitions: (*batch, T - 1, K, K) log factors of a step from a state (row) to the next (column).
        lengths: (*batch) steps of each chain, 1 to T; the rest contributes nothing. None: all of T.

    Returns:
        Shape (*batch).
    """
    potentials, transitions = inside(potentials, transitions, lengths)
    batch = torch.broadcast_shapes(potentials.shape[:-2], transitions.shape[:-3])
    steps, states = potentials.shape[-2:]
    count = math.prod(batch)
    flat = (
        potentials.expand(*batch, steps, states).reshape(count, steps, states),
        transitions.expand(*batch, steps - 1, states, states).reshape(count, steps - 1, states, states),
    )
    total: Tensor = _LogForward.apply(*flat)  # type: ignore[no-untyped-call]
    return total.reshape(batch)


def steps_inside(lengths: Tensor, steps: int) -> Tensor:
    """(*lengths.shape, steps), True for the steps before each length."""
    return torch.arange(steps, device=lengths.device) < lengths.unsqueeze(-1)


def inside(potentials: Tensor, transitions: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Potentials and transitions that stand still after each length: factor 1 for staying, 0 for any other move."""
    if lengths is None:
        return potentials, transitions
    kept = steps_inside(lengths, potentials.shape[-2])
    still = torch.eye(potentials.shape[-1], dtype=transitions.dtype, device=transitions.device).log()
    return (
        torch.where(kept.unsqueeze(-1), potentials, 0.0),
        torch.where(kept[..., 1:, None, None], transitions, still),
    )


def log_forward_plain(potentials: Tensor, transitions: Tensor, lengths: Tensor | None = None) -> Tensor:
    """As `log_forward`, recorded step by step: slower, and differentiable to any order and under `torch.func`."""
    potentials, transitions = inside(potentials, transitions, lengths)
    log_alpha = potentials[..., 0, :]
    for t in range(1, potentials.shape[-2]):
        step = _log_sum_exp(log_alpha.unsqueeze(-1) + transitions[..., t - 1, :, :], -2)
        log_alpha = step + potentials[..., t, :]
    return _log_sum_exp(log_alpha, -1)


def _log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """logsumexp whose gradients are 0, not NaN, where all of x is -inf."""
    top = x.detach().amax(dim, keepdim=True)
    top = torch.where(top.isinf(), 0.0, top)
    total = (x - top).exp().sum(dim)
    possible = total > 0
    return torch.where(possible, torch.where(possible, total, 1.0).log() + top.squeeze(dim), -math.inf)


class _LogForward(Function):
    """log_forward of (B, T, K) and (B, T - 1, K, K), with marginals and pairs as its gradient."""

    @staticmethod
    def forward(ctx: Any, potentials: Tensor, transitions: Tensor) -> Tensor:
        alpha = potentials[:, 0]
        alphas = [alpha]
        factors = _factors(potentials, transitions)
        for step in factors.unbind(1):
            alpha = torch.logsumexp(alpha.unsqueeze(-1) + step, -2)
            alphas.append(alpha)
        total = torch.logsumexp(alpha, -1)
        ctx.save_for_backward(potentials, transitions, factors, torch.stack(alphas, 1), total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        potentials, transitions, factors, alphas, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient must have a history of its own
            again = log_forward_plain(potentials, transitions)
            return torch.autograd.grad(again, (potentials, transitions), grad, create_graph=True)
        betas = _betas(factors, torch.logsumexp)
        level = torch.where(total.isinf(), 0.0, total)  # no path at all: every probability is 0
        marginals = (alphas + betas - level[:, None, None]).exp_()
        pairs = factors + betas[:, 1:].unsqueeze(-2)
        pairs += alphas[:, :-1].unsqueeze(-1) - level[:, None, None, None]
        return marginals.mul_(grad[:, None, None]), pairs.exp_().mul_(grad[:, None, None, None])


def _factors(potentials: Tensor, transitions: Tensor) -> Tensor:
    """[..., t, i, j]: log factor of going from i at t to j and being there."""
    return transitions + potentials[..., 1:, None, :]


def _betas(factors: Tensor, reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """log of the sum over all that may follow each state, (*batch, T, K)."""
    beta = factors.new_zeros(*factors.shape[:-3], factors.shape[-1])
    betas = [beta]
    for step in reversed(factors.unbind(-3)):
        beta = reduce(step + beta.unsqueeze(-2), -1)
        betas.append(beta)
    return torch.stack(betas[::-1], -2)


def backward_conditionals(potentials: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """The chain as a Markov process: P(z_1), shape (*batch, K), and P(z_{t+1} | z_t), shape (*batch, T - 1, K, K).

    The row of a state from which no path leads on is uniform.
    """
    factors = _factors(potentials, transitions)
    betas = _betas(factors, _log_sum_exp)
    initial = torch.softmax(potentials[..., 0, :] + betas[..., 0, :], -1)
    ahead = factors + betas[..., 1:, :].unsqueeze(-2)
    stuck = (ahead == -math.inf).all(-1, keepdim=True)
    return initial, torch.softmax(torch.where(stuck, 0.0, ahead), -1)


def best_path(potentials: Tensor, transitions: Tensor) -> Tensor:
    """The most probable path, integers (*batch, T) (Viterbi 1967); the first of equal ones."""
    score = potentials[..., 0, :]
    origins = []
    for t in range(1, potentials.shape[-2]):
        score, origin = (score.unsqueeze(-1) + transitions[..., t - 1, :, :]).max(-2)
        score = score + potentials[..., t, :]
        origins.append(origin)
    state = score.argmax(-1, keepdim=True)
    path = [state]
    for origin in reversed(origins):
        state = origin.gather(-1, state)
        path.append(state)
    return torch.cat(path[::-1], -1)
