"""A bound seen through few draws and minibatches: its gradient for a step, its value and q for a judgement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.errors import NonFiniteError
from jensen.gradients import Enumeration, Pathwise, Posterior
from jensen.inference.averaging import noise, symmetrised_kl
from jensen.inference.evaluated import chunk_of
from jensen.inference.objective import Bound

__all__ = ["Comparison", "Glimpse", "Noisy", "blame", "fresh_elbo"]

KL_ROWS, KL_NUMBERS, KL_DRAWS = 1000, 2_000_000, 200
"""rows, numbers and draws by which two q are compared, at most"""
CHUNK, NUMBERS = 4096, 2_000_000
"""rows of a piece of the final ELBO, and draws times rows at once"""
CONTROLLED, STORED, REFERENCES = 200, 4_000_000, 8
"""minibatches whose gradients at a reference are kept at most, numbers in them, and their draws, in those of a step"""


@dataclass(frozen=True)
class Glimpse:
    """One estimate.

    Attributes:
        elbo: nats, a scalar.
        gradient: (P,).
        index: the rows it saw; None: all.
        share: of the data that they are.
    """

    elbo: Tensor
    gradient: Tensor
    index: Tensor | None
    share: float


class Noisy:
    """Estimates of the bound's gradient at its present parameters, by few draws and, if asked for, minibatches.

    Draws that are made of normal noise come as antithetic pairs x, -x where factors are treated pathwise: what is odd
    about the log joint, all of its slope, leaves no noise in the gradients of q's scales.

    Args:
        bound: of which model and q.
        samples: draws of each estimate.
        batch_size: rows; None for all of them.
        seed: of draws and of the order of rows: without replacement within a pass.

    Raises:
        ValueError: minibatches of a model without a plate, or fewer than one draw or row.
    """

    def __init__(self, bound: Bound, samples: int, batch_size: int | None, seed: int) -> None:
        rows = bound.target.rows
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        if batch_size is not None and rows is None:
            raise ValueError("minibatches need a plate, that of the data's rows: Model(..., plates={'rows': N})")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.bound, self.samples = bound, samples
        self.minibatches = batch_size is not None and rows is not None and batch_size < rows
        self.generator = Generator().manual_seed(seed)
        self.evaluations = 0
        self._rows, self._size = rows or 1, batch_size or 1
        self._indices = self._passes(Generator().manual_seed(seed + 1))
        self._parameters = [p for p in bound.parameters() if p.requires_grad]
        self._noise: dict[int | None, int | None] = {}
        self._order = Generator().manual_seed(seed + 2)
        self._control: _Control | None = None

    def _passes(self, generator: Generator) -> Iterator[Tensor]:
        while True:
            yield from torch.randperm(self._rows, generator=generator).to(self.bound.target.device).split(self._size)

    def __call__(self) -> Glimpse:
        if self._control is not None:
            index, elbo, gradient = self._control.draw(self._order)
            estimate, own = self._estimate(index)
            return Glimpse(estimate + elbo, own + gradient, index, len(index) / self._rows)
        rows = next(self._indices) if self.minibatches else None
        estimate, own = self._estimate(rows)
        return Glimpse(estimate, own, rows, 1.0 if rows is None else len(rows) / self._rows)

    def _estimate(self, index: Tensor | None, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The bound and its gradient, (P,), by these rows; at these draws if there are any."""
        batch = self.bound.target.batch(index) if index is not None else self.bound.target.whole
        size = self._noise_size(batch, None if index is None else len(index))
        if size is None:
            estimate = self.bound(batch, self.samples, self.generator)
        else:
            noise = self._pairs(self.samples, size) if noise is None else noise
            estimate = self.bound(batch, len(noise), noise=noise)
        gradients = torch.autograd.grad(estimate.surrogate, self._parameters, materialize_grads=True)
        self.evaluations += 1
        return estimate.elbo, torch.cat([g.reshape(-1) for g in gradients])

    def _pairs(self, draws: int, size: int) -> Tensor:
        """Antithetic noise of so many draws, an even number, (draws, size)."""
        half = torch.randn((draws + 1) // 2, size, dtype=torch.float64, generator=self.generator)
        return torch.cat([half, -half]).to(self._parameters[0])

    def refer(self) -> None:
        """Take out, from here on, the noise that is due to which rows are in a minibatch at the present parameters.

        The rows are divided into minibatches once more; of each the gradient at the present parameters and at draws
        that are the same for all is kept, and its difference from that of all the data taken off the minibatch's
        estimates (Johnson & Zhang 2013, "Accelerating stochastic gradient descent using predictive variance
        reduction", with minibatches for rows). What is left is small while q is near where it was. Nothing is done
        where there are no minibatches, too many of them, or draws that are not made of noise.
        """
        parts = torch.randperm(self._rows, generator=self._order).to(self.bound.target.device).split(self._size)
        count = sum(p.numel() for p in self._parameters)
        size = self._noise_size(self.bound.target.batch(parts[0]), len(parts[0])) if self.minibatches else None
        if size is None or len(parts) > CONTROLLED or len(parts) * count > STORED:
            return
        noise = self._pairs(REFERENCES * self.samples, size)
        kept = [self._estimate(part, noise) for part in parts]
        elbos, gradients = torch.stack([e.detach() for e, _ in kept]), torch.stack([g for _, g in kept])
        shares = torch.tensor([len(part) / self._rows for part in parts], dtype=gradients.dtype)
        shares = shares.to(gradients.device)
        good = bool(gradients.isfinite().all() & elbos.isfinite().all())
        self._control = _Control(parts, shares @ elbos - elbos, shares @ gradients - gradients) if good else None

    def _noise_size(self, batch: Any, rows: int | None) -> int | None:
        """Normal numbers behind a draw for so many rows; None where pairs cannot be made."""
        if rows not in self._noise:
            total: int | None = 0
            for factor in self.bound.family(batch).factors:
                way = self.bound.estimator.way(factor)
                if isinstance(way, Pathwise) and factor.noise_shape is not None and total is not None:
                    total += math.prod(factor.noise_shape)
                elif not isinstance(way, Enumeration):
                    total = None
            self._noise[rows] = total
        return self._noise[rows]


class _Control:
    """Minibatches that stay as they are, with what is to be added to their estimates.

    Args:
        parts: rows of each.
        elbos: to be added, (minibatches,).
        gradients: to be added, (minibatches, P).
    """

    def __init__(self, parts: Sequence[Tensor], elbos: Tensor, gradients: Tensor) -> None:
        self._parts, self._elbos, self._gradients = parts, elbos, gradients
        self._left: list[int] = []

    def draw(self, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, and what to add to the bound and its gradient; each minibatch once in a pass, in random order."""
        if not self._left:
            self._left = torch.randperm(len(self._parts), generator=generator).tolist()
        place = self._left.pop()
        return self._parts[place], self._elbos[place], self._gradients[place]


class Comparison:
    """How far apart q is at different parameters, in nats, by draws: of some rows where there are many.

    Args:
        bound: of which model and q.
        seed: of rows and draws.
    """

    def __init__(self, bound: Bound, seed: int) -> None:
        target = bound.target
        self._bound, self._generator = bound, Generator().manual_seed(seed)
        index = None
        if target.rows is not None and target.rows > KL_ROWS:
            index = torch.randperm(target.rows, generator=self._generator)[:KL_ROWS].to(target.device)
        self._batch = target.whole if index is None else target.batch(index)
        scales = target.scales(self._batch)
        self._weights = [scales.get(f.plate or "", 1.0) for f in self._at(bound.flat()).factors]
        self._draws = max(10, min(KL_DRAWS, KL_NUMBERS // max(1, len(bound.flat()))))
        self._learns = any(p.requires_grad for p in target.parameters())

    def _at(self, flat: Tensor) -> Posterior:
        parts = {n.removeprefix("family."): p for n, p in self._bound.at(flat).items() if n.startswith("family.")}
        with torch.no_grad():
            q: Posterior = torch.func.functional_call(self._bound.family, parts, (self._batch,))
        return q

    def apart(self, first: Tensor, second: Tensor) -> float:
        """Symmetrised KL between q at two parameters; where the model has its own, plus the bounds' difference."""
        kl = symmetrised_kl(self._at(first), self._at(second), self._draws, self._generator, self._weights)
        return max(0.0, float(kl)) + (self._bounds_apart(first, second) if self._learns else 0.0)

    def noise(self, average: Tensor, parts: Tensor) -> float:
        """What noise leaves between an average and its expectation, from the averages of its parts, (k, P)."""
        q = [self._at(part) for part in parts]
        return noise(self._at(average), q, self._draws, self._generator, self._weights)

    def _bounds_apart(self, first: Tensor, second: Tensor) -> float:
        """|difference| of the bounds at two parameters, by the same draws as far as they can be."""
        seed = int(torch.randint(2**31, (), generator=self._generator))
        values = []
        for flat in (first, second):
            parts = self._bound.at(flat)
            draws = {"generator": Generator().manual_seed(seed)}
            with torch.no_grad():
                estimate = torch.func.functional_call(self._bound, parts, (self._batch, self._draws), draws)
            values.append(float(estimate.elbo))
        return abs(values[0] - values[1])


@torch.no_grad()
def fresh_elbo(bound: Bound, draws: int, seed: int) -> tuple[float, float]:
    """The bound of all the data at its present parameters in nats, and its standard error, at fresh draws.

    The mean of log p(x, z) - log q(z), whose variance is small where q is near the posterior. Many rows are taken in
    pieces: the bound of a piece of B of N rows counts B / N, which sums up to that of all rows.

    Args:
        bound: at the parameters.
        draws: of each piece.
        seed: of the draws.
    """
    target, generator = bound.target, Generator().manual_seed(seed)
    pieces: list[Tensor | None] = [None]
    if target.rows is not None and target.rows > CHUNK:
        pieces = list(torch.arange(target.rows, device=target.device).split(CHUNK))
    size = chunk_of(target, draws) if len(pieces) == 1 else max(1, NUMBERS // CHUNK)
    mean, variance = 0.0, 0.0
    for piece in pieces:
        share = 1.0 if piece is None or target.rows is None else len(piece) / target.rows
        batch = target.batch(piece)
        each = torch.cat([_log_ratio(bound, batch, min(size, draws - s), generator) for s in range(0, draws, size)])
        mean += share * float(each.mean())
        variance += share**2 * float(each.var()) / len(each)
    return mean, math.sqrt(variance)


def _log_ratio(bound: Bound, batch: Any, draws: int, generator: Generator) -> Tensor:
    """log p(x, z) - log q(z) at draws of q, what belongs to the rows of a batch N / B times, (draws,)."""
    q, scales = bound.family(batch), bound.target.scales(batch)
    found = [factor.sample(draws, generator) for factor in q.factors]
    total = bound.target.log_prob(q.values(found), batch)
    for factor, draw in zip(q.factors, found, strict=True):
        total = total - scales.get(factor.plate or "", 1.0) * factor.log_prob(draw).reshape(draws, -1).sum(1)
    return total


def blame(bound: Bound, gradient: Tensor, seed: int) -> str:
    """Which term of the log joint, or else which parameter's gradient, is not finite at the present parameters."""
    with torch.no_grad():
        values = bound.family(bound.target.whole).sample(20, Generator().manual_seed(seed))
        terms: Mapping[str, Tensor] = bound.target.terms(values)
    bad = [f"term {name!r} of the log joint" for name, term in terms.items() if not bool(term.isfinite().all())]
    if not bad:
        bad = [f"the gradient in {name}" for name, g in bound.at(gradient).items() if not bool(g.isfinite().all())]
    return " and ".join(bad) + " at draws of q" if bad else "the bound at some of q's draws"


def not_finite(bound: Bound, gradient: Tensor, seed: int, retries: int) -> NonFiniteError:
    """The error of a climb that smaller steps have not helped."""
    return NonFiniteError(
        f"{blame(bound, gradient, seed)} is NaN or infinite, also with the learning rate halved {retries} times; the "
        "last good average is kept. Look for values outside of a distribution's domain, or overflow in exp"
    )
