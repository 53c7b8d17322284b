"""Forward-backward for many sequences that share their transitions, as dense passes over time.

`jensen.families.MarkovChain` is the general chain, with transitions of its own at each step and in log space. Here all
steps and all sequences share one table, so that K x K numbers of expected transitions come out, never T x K x K; and
passes run on scaled probabilities (Rabiner 1989, section V.A) as matrix products. A batch of few but long sequences is
cut into blocks: the product of a block's step matrices is found for all blocks side by side, a scan over these products
gives each block its boundary conditions, and the T steps in a row become about sqrt(T).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jensen.inference.models.sequences import Layout, Sequences

__all__ = ["Smoothed", "best_paths", "choose_block_length", "forward_backward", "log_forward"]

_STEP_COST = 1e-5
"""seconds that one step of a pass costs on a CPU however little it computes: decides about blocks, nothing else"""
_PRODUCT_COST = 3e-10
"""seconds for one multiplication and addition in a product of small matrices: the same"""
_ROWS = 4096
_LEAST = 0.3
"""a step's scale below tiny^0.3 counts as out of range: see `_UNSCALED`"""
_UNSCALED = 3
"""steps between two scalings of a product: what they lose is below tiny, what they keep above tiny^(3 x 0.3)"""


@dataclass(frozen=True)
class Smoothed:
    """What one pass over sequences of N observations and K states finds.

    Attributes:
        log_steps: (N,) log of each observation's factor of its sequence's sum over paths: given normalised potentials
            log p(x_t | x_1 .. x_{t-1}). They add up to the log-forward sum of the sequence.
        filtered: (N, K) probability of the state given the observations up to and with this one.
        marginals: (N, K) probability of the state given the whole sequence; None where only the sum was asked for.
        pairs: (K, K) expected number of transitions, summed over the sequences; None likewise.
    """

    log_steps: Tensor
    filtered: Tensor
    marginals: Tensor | None
    pairs: Tensor | None


def log_forward(potentials: Tensor, initial: Tensor, transitions: Tensor, sequences: Sequences) -> Tensor:
    """The log-forward sum of all sequences, log sum_z exp(initial_z1 + sum_t transitions + sum_t potentials), in nats.

    Its gradient holds the expected statistics of the paths: marginals, those of first observations, transitions.

    Args:
        potentials: (N, K) log factors of the observations, in the order of `sequences.values`.
        initial: (K,) log factors of a sequence's first state. None of these need be normalised.
        transitions: (K, K) log factors of a step from a state (row) to the next (column).
        sequences: which observations follow each other.

    Returns:
        A scalar, once differentiable.
    """
    total: Tensor = _LogForward.apply(potentials, initial, transitions, sequences)  # type: ignore[no-untyped-call]
    return total


class _LogForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potentials: Tensor, initial: Tensor, transitions: Tensor, sequences: Sequences) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        found = forward_backward(potentials, initial, transitions, sequences, smooth=wanted)
        if wanted:
            assert found.marginals is not None
            starts = found.marginals[sequences.starts.to(potentials.device)].sum(0)
            ctx.save_for_backward(found.marginals, starts, found.pairs)
        return found.log_steps.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        marginals, starts, pairs = ctx.saved_tensors
        return gradient * marginals, gradient * starts, gradient * pairs, None


def forward_backward(
    potentials: Tensor,
    initial: Tensor,
    transitions: Tensor,
    sequences: Sequences,
    *,
    smooth: bool = True,
    block_length: int | None = None,
) -> Smoothed:
    """Filter and, if asked to, smooth; arguments as those of `log_forward`.

    Probabilities are scaled at each step, so that length does not underflow. Where a step's range exceeds that of
    floating point (transitions all but impossible that the data insist on), the pass is done again in log space.

    Args:
        smooth: whether to run backward as well.
        block_length: longest block; None: chosen by cost.
    """
    with torch.no_grad():
        layout = sequences.layout(block_length or choose_block_length(sequences.lengths, potentials.shape[1]))
        found = _scaled(potentials, initial, transitions, sequences, layout, smooth)
        return found if found is not None else _in_log_space(potentials, initial, transitions, sequences)


def choose_block_length(lengths: Tensor, states: int) -> int:
    """The longest block for sequences of these lengths: their own length, unless cutting them is cheaper."""
    longest, total = int(lengths.max()), int(lengths.sum())
    block = max(8, math.isqrt(longest) // 2)
    whole = 2 * longest * _STEP_COST
    cut = (5 * block + 20 * math.log2(2 * longest / block)) * _STEP_COST + total * states**2 * (
        states + 12
    ) * _PRODUCT_COST
    return block if cut < whole else longest


def _scaled(
    potentials: Tensor, initial: Tensor, transitions: Tensor, sequences: Sequences, layout: Layout, smooth: bool
) -> Smoothed | None:
    """By scaled probabilities; None where their range does not suffice."""
    device = potentials.device
    rows, places = layout.rows.to(device), layout.places.to(device)
    factors = potentials.index_select(0, rows)
    highest = factors.amax(1, keepdim=True)
    factors.sub_(highest).exp_()
    start, step = (initial - initial.max()).exp(), (transitions - transitions.max()).exp()
    passes = _Passes(factors, start, step, layout)
    entering, leaving = passes.boundaries() if layout.most > 1 else (None, None)
    alpha, scale = passes.forward(entering)
    tiny = torch.finfo(potentials.dtype).tiny
    if not float(scale.min()) > tiny**_LEAST:  # also where it is NaN
        return None
    log_steps = (highest.squeeze(1) + scale.log()).index_select(0, places) + transitions.max()
    log_steps[sequences.starts.to(device)] += initial.max() - transitions.max()
    filtered = alpha.index_select(0, places)
    if not smooth:
        if bool(((step == 0) & transitions.isfinite()).any()):  # what was rounded away may matter: no beta to tell
            return None
        return Smoothed(log_steps, filtered, None, None)
    beta, later = passes.backward(scale, leaving)
    if not float(beta.max()) < tiny**-0.5:  # a state that was rounded to nothing may have mattered after all
        return None
    marginals = beta.mul_(alpha).index_select(0, places)
    later = later.index_select(0, places)
    later[sequences.starts.to(device)] = 0
    return Smoothed(log_steps, filtered, marginals, step * (filtered[:-1].T @ later[1:]))


class _Passes:
    """Passes over packed factors (N, K), a piece for each time step (see `Layout`)."""

    def __init__(self, factors: Tensor, start: Tensor, step: Tensor, layout: Layout) -> None:
        self.factors, self.start, self.step, self.layout = factors, start, step, layout
        self.pieces = self.cut(factors)
        self.first = layout.first.to(factors.device)
        self.tiny = torch.finfo(factors.dtype).tiny

    def cut(self, packed: Tensor) -> tuple[Tensor, ...]:
        """Views of a packed tensor, one for each time step."""
        pieces: tuple[Tensor, ...] = packed.split(self.layout.alive)
        return pieces

    def forward(self, entering: Tensor | None) -> tuple[Tensor, Tensor]:
        """Filtered probabilities (N, K) and the scale (N,) of each step, both packed.

        `entering` (blocks, K): the filtered probabilities before each block; unused for those that begin a sequence.
        """
        alpha = torch.empty_like(self.factors)
        scale = self.factors.new_empty(len(self.factors), 1)
        arriving = self.start.expand_as(self.pieces[0])
        if entering is not None:
            arriving = torch.where(self.first.unsqueeze(1), arriving, entering @ self.step)
        before = None
        for now, norm, factor in zip(self.cut(alpha), self.cut(scale), self.pieces, strict=True):
            if before is not None:
                arriving = (before if len(before) == len(now) else before[: len(now)]) @ self.step
            torch.mul(arriving, factor, out=now)
            torch.sum(now, 1, keepdim=True, out=norm)
            before = now.div_(norm)
        return alpha, scale.squeeze(1)

    def backward(self, scale: Tensor, leaving: Tensor | None) -> tuple[Tensor, Tensor]:
        """Packed (N, K): how much likelier what follows is from a state, over the average of the filtered ones.

        And the same from before the observation on: times its factor, over its scale.

        `leaving` (blocks, K): the former after each block; None: every block ends its sequence.
        """
        beta = torch.ones_like(self.factors)
        later = self.factors / scale.unsqueeze(1)
        weights = self.cut(later)
        back = self.step.T.contiguous()
        after = None
        for now, weight in zip(reversed(self.cut(beta)), reversed(weights), strict=True):
            going_on = 0 if after is None else len(after)
            if after is not None:
                torch.mm(after, back, out=now if going_on == len(now) else now[:going_on])
            if leaving is not None and going_on < len(now):
                now[going_on:] = leaving[going_on : len(now)]
            after = weight.mul_(now)
        return beta, later

    def boundaries(self) -> tuple[Tensor, Tensor]:
        """(entering, leaving) of every block.

        Products of step matrices, first within blocks, then of all blocks up to one and from one on. A sequence's first
        step matrix has equal rows (the start, wherever one comes from), which cuts these products between sequences.
        """
        ranks = self.layout.ranks.to(self.factors.device)
        product, log_scale = self._products()
        product, log_scale = product[ranks], log_scale[ranks]
        before = _scan(product, log_scale, self.layout.most)[0][:-1, 0]  # equal rows: any one
        after, log_after = _scan(product.flip(0), log_scale.flip(0), self.layout.most, flipped=True)
        log_later = (after.sum(2).log() + log_after).flip(0)[1:]
        entering = before.new_full(log_scale.shape, 1 / len(self.start))
        leaving = torch.ones_like(entering)
        later = (log_later - log_later.amax(1, keepdim=True)).exp()
        entering[ranks[1:]] = before
        leaving[ranks[:-1]] = later / (before * later).sum(1, keepdim=True)
        leaving[ranks[:-1][self.first[ranks[1:]]]] = 1  # the end of a sequence
        return entering, leaving

    def _products(self) -> tuple[Tensor, Tensor]:
        """Product (blocks, K, K) of each block's step matrices, every row scaled to sum 1, and the rows' log scales."""
        states = len(self.start)
        begin = torch.where(self.first[:, None, None], self.start.expand(states, states), self.step)
        product = begin * self.pieces[0].unsqueeze(1)
        log_scale = torch.zeros_like(product[..., 0])
        ones = self.start.new_ones(states, 1)

        def scale(rows: Tensor, logs: Tensor) -> None:
            norm = (rows.view(-1, states) @ ones).clamp_min_(self.tiny)  # a row of zeros stays one
            rows.view(-1, states).div_(norm)
            logs += norm.log_().view(-1, states)

        for number, factor in enumerate(self.pieces):
            now = product[: len(factor)]
            if number:
                moved = (now.view(-1, states) @ self.step).view_as(now)
                torch.mul(moved, factor.unsqueeze(1), out=now)
            if number % _UNSCALED == _UNSCALED - 1:
                scale(now, log_scale[: len(factor)])
        scale(product, log_scale)
        return product, log_scale


def _scan(product: Tensor, log_scale: Tensor, most: int, *, flipped: bool = False) -> tuple[Tensor, Tensor]:
    """Products of at least `most` matrices up to and with each of (B, K, K), in log2(most) rounds.

    Hillis & Steele (1986), "Data parallel algorithms".

    Row i of a matrix stands for exp(log_scale_i) times its numbers, and sums to 1. `flipped`: the matrices are in
    reversed order, and so are the factors of a product.
    """
    reach = 1
    while reach < most:
        (x, log_x), (y, log_y) = (product[:-reach], log_scale[:-reach]), (product[reach:], log_scale[reach:])
        if flipped:
            (x, log_x), (y, log_y) = (y, log_y), (x, log_x)
        weights = x.log() + log_y.unsqueeze(1)
        highest = weights.amax(2, keepdim=True)
        new = (weights - highest).exp() @ y
        norm = new.sum(2, keepdim=True)
        product = torch.cat([product[:reach], new / norm])
        log_scale = torch.cat([log_scale[:reach], log_x + (norm.log() + highest).squeeze(2)])
        reach *= 2
    return product, log_scale


def _in_log_space(potentials: Tensor, initial: Tensor, transitions: Tensor, sequences: Sequences) -> Smoothed:
    """The same without scaled probabilities: slower, for any range of the factors."""
    layout = sequences.layout()
    rows, places = layout.rows.to(potentials.device), layout.places.to(potentials.device)
    packed = potentials[rows]
    pieces = packed.split(layout.alive)
    forward = [initial + pieces[0]]
    for factor in pieces[1:]:
        past = forward[-1][: len(factor)].unsqueeze(2) + transitions
        forward.append(torch.logsumexp(past, 1) + factor)
    beta = torch.zeros_like(packed)
    later = beta.split(layout.alive)
    for number in range(len(pieces) - 1, 0, -1):
        future = (pieces[number] + later[number]).unsqueeze(1) + transitions
        later[number - 1][: len(future)] = torch.logsumexp(future, 2)
    alpha, beta = torch.cat(forward)[places], beta[places]
    total = torch.logsumexp(alpha + beta, 1, keepdim=True)  # of its sequence, the same at each step
    log_sums = torch.logsumexp(alpha, 1)
    log_steps = log_sums.clone()
    inner = torch.ones(len(alpha), dtype=torch.bool, device=alpha.device)
    inner[sequences.starts.to(alpha.device)] = False
    log_steps[1:] -= torch.where(inner[1:], log_sums[:-1], 0)
    ahead = potentials + beta - total
    pairs = torch.zeros_like(transitions)
    for later in inner.nonzero().flatten().split(_ROWS):  # N x K x K numbers, some at a time
        pairs += (alpha[later - 1].unsqueeze(2) + transitions + ahead[later].unsqueeze(1)).exp().sum(0)
    return Smoothed(log_steps, (alpha - log_sums.unsqueeze(1)).exp(), (alpha + beta - total).exp(), pairs)


def best_paths(potentials: Tensor, initial: Tensor, transitions: Tensor, sequences: Sequences) -> Tensor:
    """The most probable path of every sequence (Viterbi 1967), (N,) states; arguments as those of `log_forward`.

    Of equally probable paths, the one through the states of lower number, from the end.
    """
    layout = sequences.layout()
    first, *others = potentials[layout.rows.to(potentials.device)].split(layout.alive)
    best = initial + first
    ends = torch.empty_like(best)
    origins = []
    for factor in others:
        ends[len(factor) : len(best)] = best[len(factor) :]
        scores, origin = (best[: len(factor)].unsqueeze(2) + transitions).max(1)
        origins.append(origin)
        best = scores + factor
    ends[: len(best)] = best
    state = ends.argmax(1)  # of each sequence's last observation, longest sequence first
    paths = []
    for origin in reversed(origins):
        alive = state[: len(origin)]
        paths.append(alive)
        state = torch.cat([origin.gather(1, alive.unsqueeze(1)).squeeze(1), state[len(origin) :]])
    paths.append(state)
    return torch.cat(paths[::-1])[layout.places.to(potentials.device)]
