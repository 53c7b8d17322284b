"""Steps of noisy gradients on the parameters of q and of the model, in units that q itself sets.

A step of a location is counted in standard deviations of q, one of a logarithm or of a correlation as it is. So the
same learning rate suits a latent in millimetres and one in kilometres: q's scale adapts, by a factor at each step, and
with it the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor, nn

from jensen.inference.objective import Bound
from jensen.inference.optimisers import NaturalGradient, Rule
from jensen.inference.variational.amortised import AmortisedNormal
from jensen.inference.variational.exponential import ExponentialFactor
from jensen.inference.variational.full_rank import FullRankNormal
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.inference.variational.low_rank import LowRankNormal

__all__ = ["Stepper"]

Span: TypeAlias = tuple[int, int]

LOWER, RECOVER = 0.7, 0.05
"""by which the logarithm of a coordinate's natural-gradient rate falls where it overshoots, and rises where not"""


# --- parameters -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """The parameters that a step changes, and where among them is what.

    Attributes:
        own: from which on they belong to single rows of the data.
        loc, log_scale: of normal factors with independent coordinates, number by number, (n,) each.
        full: slices of `loc`, `log_scale` and `lower` of full-rank factors.
    """

    own: int
    loc: Tensor
    log_scale: Tensor
    full: list[tuple[slice, slice, slice]]


class _Places:
    """Where in the bound's vector which parameters are: spans of (start, stop)."""

    def __init__(self, bound: Bound) -> None:
        spans = _spans(bound)
        self._device = bound.flat().device
        self.size = max((stop for _, stop in spans.values()), default=0)
        self._rows: list[tuple[Span, int]] = []  # with the numbers of one row
        self._pairs: list[tuple[Span, Span]] = []
        self._full: list[tuple[Span, Span, Span]] = []
        for factor in bound.family.factors:
            loc, scale = getattr(factor, "loc", None), getattr(factor, "log_scale", None)
            if (
                factor.plate is not None
                and factor.plate == bound.target.model.rows
                and not isinstance(factor, AmortisedNormal)
            ):
                self._rows += [(spans[id(p)], p[0].numel()) for p in factor.parameters() if id(p) in spans]
            if isinstance(factor, FullRankNormal) and loc is not None and loc.dim() == 1:
                self._full.append((spans[id(loc)], spans[id(scale)], spans[id(factor.lower)]))
            elif isinstance(loc, Tensor) and isinstance(scale, Tensor) and loc.shape == scale.shape:
                self._pairs.append((spans[id(loc)], spans[id(scale)]))
        edges = [0, *(edge for span, _ in sorted(self._rows) for edge in span), self.size]
        self._shared = torch.cat([self._range((a, b)) for a, b in list(pairwise(edges))[::2]])
        self._parts: dict[int | None, _Part] = {}

    def _range(self, span: Span) -> Tensor:
        return torch.arange(*span, device=self._device)

    @property
    def has_rows(self) -> bool:
        """Whether some parameters belong to single rows of the data."""
        return bool(self._rows)

    def of(self, index: Tensor | None) -> tuple[Tensor | None, _Part]:
        """What is shared and what these rows have for themselves, and where it is in the vector; None: everything."""
        count = None if index is None or not self._rows else len(index)
        if count not in self._parts:
            self._parts[count] = self._part(count)
        if count is None or index is None:
            return None, self._parts[count]
        own = [
            start + (index.unsqueeze(1) * width + self._range((0, width))).reshape(-1)
            for (start, _), width in self._rows
        ]
        return torch.cat([self._shared, *own]), self._parts[count]

    def _part(self, count: int | None) -> _Part:
        """Where spans are among the parameters of `count` rows, or of everything."""
        moved: dict[Span, Span] = {}
        reached = len(self._shared)
        rows = self._rows if count is not None else []
        for span, width in rows:
            moved[span] = (reached, reached + (count or 0) * width)
            reached += (count or 0) * width

        def find(span: Span) -> Span:
            before = sum(stop - start for (start, stop), _ in rows if stop <= span[0])
            return moved.get(span, (span[0] - before, span[1] - before))

        none = self._range((0, 0))
        locs, scales = ([self._range(find(pair[k])) for pair in self._pairs] for k in (0, 1))
        full = [(slice(*find(a)), slice(*find(b)), slice(*find(c))) for a, b, c in self._full]
        own = self.size if count is None else len(self._shared)
        return _Part(own, torch.cat([none, *locs]), torch.cat([none, *scales]), full)


def _identified(bound: Bound) -> Tensor:
    """Places of parameters that a stationary q holds still, (n,).

    Not those of networks, flows and loadings, many of which make the same q, nor of discrete factors, whose log odds go
    on growing when q is certain.
    """
    spans, places = _spans(bound), [torch.zeros(0, dtype=torch.int64)]
    for factor in bound.family.factors:
        settled: list[nn.Parameter] = []
        if isinstance(factor, DiagonalNormal | FullRankNormal):
            settled = list(factor.parameters())
        elif isinstance(factor, LowRankNormal):
            settled = [factor.loc]
        elif isinstance(factor, ExponentialFactor) and factor.support_size is None:
            settled = list(factor.parameters())
        places += [torch.arange(*spans[id(p)]) for p in settled if id(p) in spans]
    if isinstance(bound.target.model.parameters, Mapping):
        places += [torch.arange(*spans[id(p)]) for p in bound.target.parameters() if id(p) in spans]
    return torch.cat(places).to(bound.flat().device)


def _spans(bound: nn.Module) -> dict[int, Span]:
    """Start and stop of each parameter in `Bound.flat`, by its id."""
    spans, start = {}, 0
    for parameter in bound.parameters():
        if parameter.requires_grad:
            spans[id(parameter)] = (start, start + parameter.numel())
            start += parameter.numel()
    return spans


# --- steps ------------------------------------------------------------------------------------------------------------


class Stepper:
    """Steps up a bound by one rule. Loads the parameters into the bound after each.

    With minibatches, what belongs to rows that are not in the batch stays where it is, and so does what the rule
    remembers of it: momentum does not move a row that was not seen.

    Args:
        bound: starts at its present parameters.
        rule: of the steps.

    Attributes:
        flat: the parameters, (P,), as `Bound.flat` orders them.
        identified: places of those that a stationary q holds still, (n,).
    """

    def __init__(self, bound: Bound, rule: Rule) -> None:
        self._rule = rule
        self._places = _Places(bound)
        self._parameters = [p for p in bound.parameters() if p.requires_grad]
        self._natural = isinstance(rule, NaturalGradient)
        self.flat, self.identified = bound.flat(), _identified(bound)
        self._memory = self.flat.new_zeros(4 if self._natural else 2, len(self.flat))
        self._times = self.flat.new_zeros(len(self.flat) if self._places.has_rows else 1)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Of the bound, in the vector's order."""
        return self._parameters

    @property
    def settles(self) -> bool:
        """Whether a stationary q holds all parameters still, none of them those of single rows."""
        return len(self.identified) == len(self.flat) and not self._places.has_rows

    def state(self) -> tuple[Tensor, Tensor, Tensor]:
        """A copy of the parameters and of what is remembered."""
        return self.flat.clone(), self._memory.clone(), self._times.clone()

    def restore(self, state: tuple[Tensor, Tensor, Tensor]) -> None:
        """Go back to a `state`."""
        for here, there in zip((self.flat, self._memory, self._times), state, strict=True):
            here.copy_(there)
        self._load()

    def move_to(self, flat: Tensor) -> None:
        """Go on from other parameters; what is remembered stays."""
        self.flat.copy_(flat)
        self._load()

    @torch.no_grad()
    def units(self) -> Tensor:
        """In which parameters are counted, (P,): q's standard deviations for locations of normal factors, else 1."""
        units, part = torch.ones_like(self.flat), self._places.of(None)[1]
        units[part.loc] = self.flat[part.log_scale].exp()
        for block in part.full:
            units[block[0]] = _FullRank(self.flat, *block).tril.norm(dim=1)
        return units

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float, index: Tensor | None = None, share: float = 1.0) -> None:
        """One step of this rate up the bound.

        Args:
            gradient: estimate of the bound's, (P,).
            rate: a location moves by about so many standard deviations of q.
            index: the rows of the batch, (B,); None if they are all in it.
            share: B / N: the batch counts N / B times, which is right for what is shared, but not for a row's own.
        """
        places, part = self._places.of(index)
        if places is None:
            flat, memory, times = self.flat, self._memory, self._times
        else:
            flat, memory, times = self.flat[places], self._memory[:, places], self._times[places]
            gradient = gradient[places]
            gradient[part.own :] *= share
        charts = [_FullRank(flat, *block) for block in part.full]
        scale = flat[part.log_scale].exp()
        inner = gradient.clone()
        inner[part.loc] *= scale
        for chart in charts:
            chart.pull(inner)
        t = times if len(times) > 1 else float(times)
        move = self._rule.direction(memory[:2], inner, t).mul_(rate)
        if self._natural:
            _natural(move, inner, memory[2:], part, rate)
        move[part.loc] *= scale
        for chart in charts:
            chart.push(flat, move, inner if self._natural else None, rate)
        flat += move
        times += 1
        if places is not None:
            self.flat[places], self._memory[:, places], self._times[places] = flat, memory, times
        self._load()

    @torch.no_grad()
    def _load(self) -> None:
        start = 0
        for parameter in self._parameters:
            stop = start + parameter.numel()
            parameter.copy_(self.flat[start:stop].view_as(parameter))
            start = stop


def _natural(move: Tensor, inner: Tensor, memory: Tensor, part: _Part, rate: float) -> None:
    """Natural-gradient steps of independent coordinates, in standard deviations and in logarithms of them.

    Coordinates that depend on each other overshoot together: where a gradient turns round and grows, far from the
    optimum, the coordinate's rate is halved; while the gradient keeps its sign there, it recovers slowly.

    Args:
        memory: of the last gradients and of logarithms of how far rates are lowered, (2, n), changed in place.
    """
    slope = rate * inner[part.log_scale]
    precision = 1 - slope + 0.5 * slope.square()  # new over old
    gradient, before, lowered = inner[part.loc], memory[0, part.loc], memory[1, part.loc]
    turned, far = gradient * before < 0, gradient.abs() > 1
    change = torch.where(turned & (gradient.abs() > before.abs()), -LOWER, torch.where(turned, 0.0, RECOVER))
    lowered = torch.where(far, lowered + change, lowered).clamp(max=0.0)
    memory[0, part.loc], memory[1, part.loc] = gradient, lowered
    move[part.log_scale] = -0.5 * precision.log()
    move[part.loc] = rate * lowered.exp() * gradient / precision


class _FullRank:
    """Coordinates in which a full-rank normal factor is standard: loc + L u, L (I + A), A lower triangular.

    The bound's vector holds log s and the lower triangle of C, L = diag(s) C.
    """

    def __init__(self, flat: Tensor, loc: slice, log_scale: slice, lower: slice) -> None:
        self.loc, self.log_scale, self.lower = loc, log_scale, lower
        self.scale = flat[log_scale].exp()
        size = len(self.scale)
        self.index = torch.tril_indices(size, size, -1, device=flat.device)
        unit = torch.eye(size, dtype=flat.dtype, device=flat.device)
        unit[self.index[0], self.index[1]] = flat[lower]
        self.tril = self.scale.unsqueeze(1) * unit

    def pull(self, gradient: Tensor) -> None:
        """The gradient in u and A in place of that in the factor's parameters."""
        row, column = self.index
        by_tril = torch.zeros_like(self.tril)
        by_tril[row, column] = gradient[self.lower] / self.scale[row]
        diagonal = gradient[self.log_scale] - (by_tril * self.tril).sum(1)
        by_tril.diagonal().copy_(diagonal / self.scale)
        by_a = self.tril.T @ by_tril
        gradient[self.loc] = self.tril.T @ gradient[self.loc]
        gradient[self.log_scale] = by_a.diagonal()
        gradient[self.lower] = by_a[row, column]

    def push(self, flat: Tensor, move: Tensor, natural: Tensor | None, rate: float) -> None:
        """The change of the factor's parameters in place of (u, A); the natural step of rate `rate` if asked for.

        Args:
            flat: the parameters.
            move: (u, A), where the factor's parameters will be changed by.
            natural: the gradient in (u, A).
            rate: of the natural step.
        """
        row, column = self.index
        change = torch.zeros_like(self.tril)
        if natural is None:
            change[row, column] = move[self.lower]
            change.diagonal().copy_(move[self.log_scale].exp())
            shift = self.tril @ move[self.loc]
        else:
            change[row, column] = natural[self.lower]
            slope = rate * (change + change.T + natural[self.log_scale].diag())
            precision = torch.eye(len(slope), dtype=slope.dtype, device=slope.device) - slope + 0.5 * slope @ slope
            inverse = torch.linalg.inv(precision)
            change = torch.linalg.cholesky(0.5 * (inverse + inverse.T))
            shift = rate * self.tril @ (inverse @ natural[self.loc])
        tril = self.tril @ change
        scale = tril.diagonal()
        move[self.loc] = shift
        move[self.log_scale] = scale.log() - flat[self.log_scale]
        move[self.lower] = (tril / scale.unsqueeze(1))[row, column] - flat[self.lower]
