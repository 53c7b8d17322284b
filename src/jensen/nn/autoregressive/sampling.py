"""Draws from an autoregressive network, value after value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from jensen.nn.autoregressive.base import AutoregressiveNet

__all__ = ["draw", "restrict"]

NUMBERS_AT_ONCE = 2**27
"""that states and logits of the sequences drawn together may have: half a gigabyte of float32"""


@torch.no_grad()
def draw(
    net: AutoregressiveNet[Any],
    n: int,
    context: Tensor | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """n draws, (n, *net.shape) int64, where the net's weights are; the net is in evaluation mode meanwhile.

    Many are drawn in portions that fit into memory; torch's global generator draws.

    Args:
        net: gives p(x_i | x_<i, context).
        n: how many.
        context: (n, net.context, *grid), or (n, net.context, 1[, 1]) for the same at every place.
        temperature: divides the logits: below 1 sharper, above 1 flatter.
        top_k: draw among the k likeliest values only; of those that are equally likely, any.
        top_p: draw among the smallest set of likeliest values whose probability reaches p (Holtzman et al. 2020),
            after temperature and top_k.
        progress: called with the number of values drawn so far, and of all.

    Raises:
        ValueError: n or an option is outside of what it can be, or the net does not take this context.
    """
    if n < 1:
        raise ValueError(f"n should be at least 1, got {n}")
    _check(net.levels, temperature, top_k, top_p)
    net.check_context(n, context)
    length = math.prod(net.shape)
    portion = max(1, min(n, NUMBERS_AT_ONCE // (net.state_size + 4 * net.levels + length)))
    drawn = []
    with _evaluating(net):
        for start in range(0, n, portion):
            rows = min(portion, n - start)
            state = net.begin(rows, None if context is None else context[start : start + rows])
            values = []
            for i in range(length):
                logits = restrict(net.logits(state), temperature, top_k, top_p)
                values.append(torch.multinomial(logits.softmax(-1), 1).squeeze(1))
                net.feed(state, values[-1])
                if progress is not None:
                    progress(start * length + rows * (i + 1), n * length)
            channels, *grid = net.shape
            drawn.append(torch.stack(values, 1).view(rows, *grid, channels).movedim(-1, 1))
    return torch.cat(drawn)


def restrict(logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Logits (..., levels) over the temperature, in float32 or wider; minus infinity where `draw` is not to draw.

    Raises:
        ValueError: an option is outside of what it can be.
    """
    _check(logits.shape[-1], temperature, top_k, top_p)
    logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        kept = logits.topk(top_k)
        logits = torch.full_like(logits, -math.inf).scatter(-1, kept.indices, kept.values)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(-1)
        reached = probabilities.cumsum(-1) - probabilities >= top_p  # by those that are likelier
        # Whatever rounding says, one stays.
        reached[..., 0] = False
        logits = logits.masked_fill(reached.gather(-1, order.argsort(-1)), -math.inf)
    return logits


def _check(levels: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature should be above 0, got {temperature}")
    if top_k is not None and not 1 <= top_k <= levels:
        raise ValueError(f"top_k should be from 1 to the {levels} values that there are, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p should be above 0 and at most 1, got {top_p}")


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then each module is as it was."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
