"""The amortisation gap: what an encoder's q(z | x) loses against a q that is optimised for each datum by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Distribution, Normal

from jensen.bound import Level, Output, importance_weighted_bound, log_weights

__all__ = ["AmortisationGap", "LatentModel", "amortisation_gap"]

_DRAWS_AT_ONCE = 50


class LatentModel(Protocol):
    """A model of one group of latents with a normal posterior, as `jensen.VAE` is."""

    @property
    def decoder(self) -> Callable[[Tensor], Distribution]:
        """z, (samples, batch, latent), to p(x | z), batch shape (samples, batch, *shape)."""

    def posterior(self, x: Tensor) -> Normal:
        """q(z | x), batch shape (batch, latent)."""

    def prior(self) -> Distribution:
        """p(z) of each dimension."""


@dataclass(frozen=True, slots=True)
class AmortisationGap:
    """Bounds on log p(x) of each datum in nats, (data,), all estimated on the same draws, unseen in optimising.

    log p(x) = amortised + gap + approximation: what the encoder does not find, and what no q of its family could
    (Cremer, Li & Duvenaud 2018, section 3).

    Attributes:
        amortised: ELBO with the encoder's q.
        optimised: ELBO with the best q of the same family that was found from the encoder's.
        gap_error: standard error of `gap` from the finite number of draws.
        log_likelihood: importance-weighted estimate of log p(x), from below, with the optimised q; None if not asked.
        loc, scale: of the optimised q, (data, latent).
        last_gain: mean ELBO won in the last quarter of the steps, nats: if it is not small, take more steps.
    """

    amortised: Tensor
    optimised: Tensor
    gap_error: Tensor
    log_likelihood: Tensor | None
    loc: Tensor
    scale: Tensor
    last_gain: float

    @property
    def gap(self) -> Tensor:
        """Amortisation gap, (data,)."""
        return self.optimised - self.amortised

    @property
    def approximation(self) -> Tensor | None:
        """Approximation gap, (data,): log p(x) less the best ELBO; None where log p(x) was not estimated."""
        return None if self.log_likelihood is None else self.log_likelihood - self.optimised

    def __str__(self) -> str:
        """Means over the data, with the standard errors of these means."""
        rows = [("ELBO, encoder", self.amortised), ("ELBO, q of each datum", self.optimised), ("gap", self.gap)]
        if self.log_likelihood is not None and self.approximation is not None:
            rows += [("log p(x), estimated", self.log_likelihood), ("approximation gap", self.approximation)]
        lines = [f"{name:24}{float(v.mean()):10.3f} ± {_error_of_mean(v):.3f}" for name, v in rows]
        return "\n".join(
            [f"nats per datum, {len(self.gap)} data", *lines, f"won in the last quarter: {self.last_gain:.4f}"]
        )


def amortisation_gap(
    model: LatentModel,
    x: Tensor,
    *,
    steps: int = 400,
    lr: float = 0.05,
    samples: int = 8,
    evaluation_samples: int = 500,
    importance_samples: int = 0,
    batch_size: int = 250,
    generator: Generator | None = None,
) -> AmortisationGap:
    """ELBOs of the encoder's q and of a normal q optimised for each datum, starting from the encoder's.

    The model is not changed. Each datum's mean and log standard deviation climb by Adam, in units of the encoder's q,
    along the gradient that vanishes at an exact posterior (sticking the landing, Roeder, Wu & Duvenaud 2017), the step
    falling to 0. Where the result is no better on draws of its own than the start, the start is kept; the bounds are
    then evaluated on new draws, the same for both.

    Args:
        model: a trained VAE.
        x: data, (data, *shape).
        steps: of Adam.
        lr: its first step size, in standard deviations of the encoder's q.
        samples: draws a step.
        evaluation_samples: draws for the bounds, and for the choice between start and end.
        importance_samples: draws of the importance-weighted estimate of log p(x); 0: no estimate.
        batch_size: data at once.
        generator: of all draws, on the CPU; None: torch's global one.

    Raises:
        ValueError: no data, or numbers of steps or samples that make no sense.
        TypeError: the model's posterior is not a `torch.distributions.Normal`.
    """
    if not (steps >= 4 and samples >= 1 and evaluation_samples >= 2 and importance_samples >= 0 and batch_size >= 1):
        raise ValueError(
            "amortisation_gap needs steps >= 4, samples >= 1, evaluation_samples >= 2, importance_samples >= 0 and "
            f"batch_size >= 1, got {steps}, {samples}, {evaluation_samples}, {importance_samples}, {batch_size}"
        )
    if not len(x):
        raise ValueError("amortisation_gap needs at least one datum")
    parts: list[AmortisationGap] = []
    with _evaluating(model):
        for some in x.split(batch_size):
            local = _Local(model, some, generator)
            gain = local.climb(steps, lr, samples, evaluation_samples)
            parts.append(local.result(evaluation_samples, importance_samples, gain))
    return _joined(parts)


class _Local:
    """Some data with a q each, and their bounds."""

    def __init__(self, model: LatentModel, x: Tensor, generator: Generator | None) -> None:
        self.model, self.x, self.generator = model, x, generator
        with torch.no_grad():
            start = model.posterior(x)
        if not isinstance(start, Normal):
            raise TypeError(f"the model's posterior should be a torch Normal, got {type(start).__name__}")
        self.start = self.best = start

    def climb(self, steps: int, lr: float, samples: int, evaluation_samples: int) -> float:
        """Optimise, keep what is better than the start; mean nats won in the last quarter."""
        shift = torch.zeros_like(self.start.loc, requires_grad=True)
        stretch = torch.zeros_like(self.start.scale, requires_grad=True)
        # In these units the curvature at an optimum is about 1 and 2: with eps = 2 lr the steps become plain gradient
        # steps of lr / eps there, which contract; with a tiny eps, Adam would blow up slopes that are mere rounding.
        optimiser = torch.optim.Adam([shift, stretch], lr=lr, eps=2 * lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        earlier = self.start
        for step in range(steps):
            if step == steps - steps // 4:
                earlier = self._moved(shift.detach(), stretch.detach())
            with torch.enable_grad():
                q = self._moved(shift, stretch)
                weights = self.log_weights(q, self.noise(samples), fixed=True)
                gradients = torch.autograd.grad(-weights.mean(0).sum(), [shift, stretch])
            shift.grad, stretch.grad = gradients
            optimiser.step()
            schedule.step()
        end = self._moved(shift.detach(), stretch.detach())
        first, late, last = self.bounds([self.start, earlier, end], evaluation_samples)
        better = (last.mean(0) > first.mean(0)).unsqueeze(-1)
        loc, scale = (torch.where(better, a, b) for a, b in ((end.loc, self.start.loc), (end.scale, self.start.scale)))
        self.best = Normal(loc, scale, validate_args=False)
        return float((last - late).mean())

    def result(self, evaluation_samples: int, importance_samples: int, gain: float) -> AmortisationGap:
        """The bounds on new draws."""
        first, last = self.bounds([self.start, self.best], evaluation_samples)
        error = (last - first).std(0) / len(first) ** 0.5
        likelihood = None
        if importance_samples:
            likelihood = importance_weighted_bound(*self.bounds([self.best], importance_samples))
        return AmortisationGap(first.mean(0), last.mean(0), error, likelihood, self.best.loc, self.best.scale, gain)

    def _moved(self, shift: Tensor, stretch: Tensor) -> Normal:
        scale = self.start.scale
        return Normal(self.start.loc + scale * shift, scale * stretch.exp(), validate_args=False)

    def noise(self, samples: int) -> Tensor:
        loc = self.start.loc
        return torch.randn(samples, *loc.shape, dtype=loc.dtype, generator=self.generator).to(loc.device)

    def log_weights(self, q: Normal, noise: Tensor, fixed: bool = False) -> Tensor:
        """log p(x, z) - log q(z), (samples, data), at draws of q; `fixed`: the density's parameters without history."""
        z = q.loc + q.scale * noise
        density = Normal(q.loc.detach(), q.scale.detach(), validate_args=False) if fixed else q
        return log_weights(Output(self.x.unsqueeze(0), self.model.decoder(z), (Level(z, density, self.model.prior()),)))

    @torch.no_grad()
    def bounds(self, posteriors: list[Normal], samples: int) -> list[Tensor]:
        """Log weights, (samples, data), of each q at the same noise."""
        found: list[list[Tensor]] = [[] for _ in posteriors]
        for done in range(0, samples, _DRAWS_AT_ONCE):
            noise = self.noise(min(_DRAWS_AT_ONCE, samples - done))
            for q, weights in zip(posteriors, found, strict=True):
                weights.append(self.log_weights(q, noise))
        return [torch.cat(weights) for weights in found]


@contextmanager
def _evaluating(model: LatentModel) -> Iterator[None]:
    """The model as it is used after training (batch normalisation, dropout), then as it was."""
    modes = [(m, m.training) for m in model.modules()] if isinstance(model, nn.Module) else []
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


def _joined(parts: list[AmortisationGap]) -> AmortisationGap:
    def all_of(field: str) -> Tensor:
        return torch.cat([getattr(part, field) for part in parts])

    data = sum(len(part.amortised) for part in parts)
    gain = sum(part.last_gain * len(part.amortised) for part in parts) / data
    likelihood = None if parts[0].log_likelihood is None else all_of("log_likelihood")
    return AmortisationGap(
        all_of("amortised"), all_of("optimised"), all_of("gap_error"), likelihood, all_of("loc"), all_of("scale"), gain
    )


def _error_of_mean(values: Tensor) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
