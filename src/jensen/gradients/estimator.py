"""What all estimators of the ELBO's gradient share: draw, average over what is enumerated, add what is q's own.

With q a product of factors f, and terms t of the log joint,

    ELBO = E_q[sum_t t(z)] + sum_f E_q[-log q_f(z_f)].

Each factor is treated in its own way (reparameterised, scored or enumerated); the ways meet in one surrogate, a scalar
whose value is the ELBO's estimate and whose gradient is that of the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from jensen.gradients.configurations import average_terms, profilable
from jensen.gradients.posterior import Draw, FactorPosterior, Posterior
from jensen.gradients.signal import DependenceMap, Signal, sum_draws

__all__ = ["Estimate", "Estimator", "Part", "entropy_of"]

LogJoint = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Draws of all latents, (samples, *shape) each -> terms of the log joint in nats, (samples, *plates) each."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of the ELBO and of its gradient.

    Attributes:
        surrogate: scalar, nats; its gradient in the parameters of q and of the model estimates the ELBO's, and its
            value is the ELBO's estimate.
        elbo: the same value without history.
        per_draw: the bound at each draw, (samples,), with history. Its mean has the right gradient only if no factor
            is scored.
        best: log q of each value, (values, rows), of factors in whose place their best q was put, by first latent.
    """

    surrogate: Tensor
    elbo: Tensor
    per_draw: Tensor
    best: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """What a factor brings to the bound.

    Attributes:
        factor: of q.
        draw: of its latents; None where all their values are enumerated.
        own: -log q or what has its expectation, (samples or 1, *elements), nats.
        log_q: log q at the draw with history, (samples, *elements), where its score is needed.
        limit: evaluations of the log joint that enumeration may take.
        profile: whether the best q may take the place of this one.
    """

    factor: FactorPosterior
    draw: Draw | None
    own: Tensor
    log_q: Tensor | None = None
    limit: int = 0
    profile: bool = False


class Estimator(ABC):
    """A way to the ELBO's gradient, for all factors of q or, within `Mixed`, for some."""

    def way(self, factor: FactorPosterior) -> Estimator:
        """The estimator of this factor."""
        return self

    @abstractmethod
    def objection(self, factor: FactorPosterior) -> str | None:
        """Why this estimator cannot be used for a factor; None if it can."""

    @abstractmethod
    def part(self, factor: FactorPosterior, samples: int, generator: Generator | None, noise: Tensor | None) -> Part:
        """Draw a factor's latents and evaluate its own part of the bound.

        Args:
            factor: of q.
            samples: draws.
            generator: of the draws.
            noise: standard normal, (samples, *noise_shape), to be used in place of the generator.
        """

    def score(self, part: Part, signal: Signal) -> Tensor | None:
        """What the score adds to the surrogate: a scalar of value 0; None where there is no score."""
        return None

    def needs_dependence(self, q: Posterior) -> bool:
        """Whether knowing which term depends on which latent makes a difference."""
        return False

    def estimate(
        self,
        q: Posterior,
        terms: LogJoint,
        samples: int,
        generator: Generator | None = None,
        noise: Tensor | None = None,
        dependence: DependenceMap | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> Estimate:
        """Estimate the ELBO and its gradient from `samples` draws of q.

        Args:
            q: the posterior at the present parameters.
            terms: of the log joint, those of minibatches already scaled.
            samples: draws of what is not enumerated.
            generator: of the draws.
            noise: standard normal, (samples, numbers behind one draw), in the order of the factors: fixed draws.
            dependence: term -> latent -> "aligned" or "mixed"; a latent that is missing from a term's entry does not
                enter it, a term that is missing depends on all.
            scales: plate -> N / B, for the factors along the plate of which B of N rows are in the batch.

        Raises:
            TypeError: a factor cannot be treated in this way.
            ValueError: no samples, noise of another shape, or too many values to enumerate.
        """
        if samples < 1:
            raise ValueError(f"an estimate needs at least one draw, got samples={samples}")
        ways = [self.way(factor) for factor in q.factors]
        for factor, way in zip(q.factors, ways, strict=True):
            objection = way.objection(factor)
            if objection is not None:
                raise TypeError(f"{way!r} cannot be used for {', '.join(factor.names)}: {objection}")
        pieces = _split(noise, q.factors, samples)
        parts = [
            way.part(factor, samples, generator, piece)
            for factor, way, piece in zip(q.factors, ways, pieces, strict=True)
        ]
        enumerated = [part.factor for part in parts if part.draw is None]
        averaged, best = average_terms(
            terms,
            enumerated,
            Posterior.values([part.draw for part in parts if part.draw is not None]),
            dependence,
            min((part.limit for part in parts if part.draw is None), default=0),
            [p.factor for p in parts if p.profile and not scales and profilable(p.factor, enumerated, dependence)],
        )
        entropies = {name: entropy_of(log_q).unsqueeze(0) for name, log_q in best.items()}
        owns = [entropies.get(part.factor.names[0], part.own) for part in parts]
        parts = [
            replace(part, own=own * (scales or {}).get(part.factor.plate or "", 1.0))
            for part, own in zip(parts, owns, strict=True)
        ]
        per_draw = sum_draws([*averaged.values(), *(part.own for part in parts)], samples)
        surrogate = per_draw.mean()
        signal = Signal(averaged, dependence, per_draw.detach())
        for way, part in zip(ways, parts, strict=True):
            score = way.score(part, signal)
            surrogate = surrogate if score is None else surrogate + score
        return Estimate(surrogate, per_draw.detach().mean(), per_draw, best)


def entropy_of(log_q: Tensor) -> Tensor:
    """Entropy in nats, (*elements), from log q of all values, (values, *elements)."""
    possible = log_q > -float("inf")
    finite = log_q.where(possible, 0.0)
    return -(finite.exp() * finite).where(possible, 0.0).sum(0)


def _split(noise: Tensor | None, factors: Sequence[FactorPosterior], samples: int) -> Sequence[Tensor | None]:
    """Each factor's part of the noise, (samples, *noise_shape); None for those not made of it."""
    if noise is None:
        return [None] * len(factors)
    shapes = [None if f.noise_shape is None else torch.Size(f.noise_shape) for f in factors]
    expected = (samples, sum(shape.numel() for shape in shapes if shape is not None))
    if tuple(noise.shape) != expected:
        raise ValueError(f"noise should have shape {expected} for these factors, but has {tuple(noise.shape)}")
    pieces: list[Tensor | None] = []
    start = 0
    for shape in shapes:
        if shape is None:
            pieces.append(None)
        else:
            pieces.append(noise[:, start : start + shape.numel()].reshape(samples, *shape))
            start += shape.numel()
    return pieces
