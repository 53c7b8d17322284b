"""Control variates of the score function: less variance at the same expectation.

The score has expectation zero, so that a multiple of it may be taken off, as long as the multiple does not depend on
the same draw: one that is estimated from all draws, its own included, makes the gradient biased.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

__all__ = ["RunningAverage", "leave_one_out", "regression"]


def leave_one_out(signal: Tensor) -> Tensor:
    """Each draw's learning signal less the mean of the others' (Mnih & Rezende 2016; Kool, van Hoof & Welling 2019).

    Args:
        signal: (samples, *elements), at least two samples.

    Raises:
        ValueError: one sample.
    """
    samples = _several(signal, "leave_one_out")
    return (signal - signal.mean(0)) * (samples / (samples - 1))


class RunningAverage:
    """Learning signals less their exponentially weighted average over earlier estimates (Mnih & Gregor 2014).

    The average is that of the steps before, so that it does not depend on the draw. It has an entry for each element;
    when the number of elements changes (the last minibatch), their mean is used.

    Args:
        decay: weight of the past at each step, in [0, 1).
    """

    def __init__(self, decay: float = 0.9) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        self._averages: dict[Hashable, tuple[Tensor, float]] = {}

    def __call__(self, key: Hashable, signal: Tensor) -> Tensor:
        """The signal less its average of before, (samples, *elements), under one key for each factor."""
        now = signal.detach().mean(0)
        average, weight = self._averages.get(key, (torch.zeros_like(now), 0.0))
        if average.shape != now.shape:
            average = average.mean().expand_as(now)
        baseline = average / weight if weight > 0 else average
        self._averages[key] = (self.decay * average + (1 - self.decay) * now, self.decay * weight + 1 - self.decay)
        return signal - baseline


def regression(log_q: Tensor, signal: Tensor) -> Tensor:
    """A multiple of the score taken off, found by regression on the OTHER draws.

    Ranganath, Gerrish & Blei 2014, section 3.2, with a coefficient for each parameter: with h_s its score at draw s and
    f_s = h_s times the learning signals, the gradient is the mean of f_s - a_s h_s, where a_s = sum f_r h_r / sum h_r^2
    over r other than s. (Over all r, as in the paper, it is biased.) Takes memory for samples times parameters.

    Args:
        log_q: log q of each draw with history, (samples, *elements).
        signal: learning signals, (samples, *elements), without history.

    Returns:
        A scalar of value 0 with that gradient in the parameters (leaves) that log q was computed from.

    Raises:
        ValueError: one sample, or log q has no history (within `torch.func` transforms it is hidden).
    """
    samples = _several(signal, "regression")
    leaves = _leaves(log_q)
    if not leaves:
        raise ValueError("the regression control variate needs log q with a history of parameters to differentiate in")
    each = torch.eye(samples, dtype=log_q.dtype, device=log_q.device)
    each = each.reshape(samples, samples, *[1] * (log_q.dim() - 1)).expand(samples, *log_q.shape)
    h = torch.autograd.grad(log_q, leaves, each, retain_graph=True, is_grads_batched=True)
    f = torch.autograd.grad(log_q, leaves, each * signal, retain_graph=True, is_grads_batched=True)
    others = 1 - torch.eye(samples, dtype=log_q.dtype, device=log_q.device)
    total = log_q.new_zeros(())
    for leaf, score, scored in zip(leaves, h, f, strict=True):
        below = others @ score.square().reshape(samples, -1)  # a sum over the others; a difference would cancel
        above = others @ (score * scored).reshape(samples, -1)
        coefficient = (above / below.where(below > 0, 1.0)).reshape(score.shape)
        gradient = (scored - coefficient * score).mean(0)
        total = total + ((leaf - leaf.detach()) * gradient).sum()
    return total


def _several(signal: Tensor, name: str) -> int:
    if len(signal) < 2:
        raise ValueError(f"control_variate={name!r} compares draws: samples must be at least 2, got {len(signal)}")
    return len(signal)


def _leaves(tensor: Tensor) -> list[Tensor]:
    """The parameters at the ends of a tensor's history."""
    found: dict[int, Tensor] = {}
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found[id(variable)] = variable
        waiting.extend(parent for parent, _ in node.next_functions)
    return list(found.values())
