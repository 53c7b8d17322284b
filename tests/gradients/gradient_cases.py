"""Small posteriors and models whose exact bound is known: sums over all values, or Gaussian moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Self

import torch
from torch import Generator, Tensor

from jensen.gradients.estimator import Estimator
from jensen.gradients.posterior import Draw, FactorPosterior, Posterior

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
Terms = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class Normals(FactorPosterior):
    """Independent normals; `positive` makes the value the exponential of the point."""

    def __init__(
        self, name: str, loc: Tensor, log_scale: Tensor, plate: str | None = None, positive: bool = False
    ) -> None:
        self.names, self.loc, self.log_scale, self.plate, self.positive = (name,), loc, log_scale, plate, positive
        self.elements, self.noise_shape = loc.shape, tuple(loc.shape)

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        return self.from_noise(torch.randn(samples, *self.loc.shape, dtype=torch.float64, generator=generator))

    def from_noise(self, noise: Tensor) -> Draw:
        point = self.loc + self.log_scale.exp() * noise
        return (
            Draw({self.names[0]: point.exp()}, point, point) if self.positive else Draw({self.names[0]: point}, point)
        )

    def log_prob(self, draw: Draw) -> Tensor:
        return normal(draw.point, self.loc, self.log_scale) - draw.log_jacobian

    def entropy(self) -> Tensor:
        return self.log_scale + 0.5 + HALF_LOG_2PI

    def detach(self) -> Self:
        return type(self)(self.names[0], self.loc.detach(), self.log_scale.detach(), self.plate, self.positive)


class Categoricals(FactorPosterior):
    """Independent whole numbers 0, ..., K - 1 with logits (*elements, K)."""

    has_rsample = False

    def __init__(self, name: str, logits: Tensor, plate: str | None = None) -> None:
        self.names, self.plate, self.log_probs = (name,), plate, logits.log_softmax(-1)
        self.logits, self.elements, self.support_size = logits, logits.shape[:-1], logits.shape[-1]

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        raise TypeError("discrete")

    def sample(self, samples: int, generator: Generator | None = None) -> Draw:
        noise = torch.rand(samples, *self.logits.shape, dtype=torch.float64, generator=generator)
        return self.at((self.log_probs.detach() - (-noise.log()).log()).argmax(-1))

    def at(self, value: Tensor) -> Draw:
        return Draw({self.names[0]: value}, value)

    def enumerate(self) -> Draw:
        every = torch.arange(self.support_size).reshape(-1, *[1] * len(self.elements))
        return self.at(every.expand(-1, *self.elements))

    def log_prob(self, draw: Draw) -> Tensor:
        table = self.log_probs.expand(len(draw.point), *self.log_probs.shape)
        return table.gather(-1, draw.point.unsqueeze(-1)).squeeze(-1)

    def detach(self) -> Self:
        return type(self)(self.names[0], self.logits.detach(), self.plate)


class Counts(FactorPosterior):
    """One Poisson number: discrete, and infinitely many values."""

    has_rsample = False
    elements = torch.Size()

    def __init__(self, name: str, log_rate: Tensor) -> None:
        self.names, self.log_rate = (name,), log_rate

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        raise TypeError("discrete")

    def sample(self, samples: int, generator: Generator | None = None) -> Draw:
        value = torch.poisson(self.log_rate.detach().exp().expand(samples), generator=generator)
        return Draw({self.names[0]: value}, value)

    def log_prob(self, draw: Draw) -> Tensor:
        return draw.point * self.log_rate - self.log_rate.exp() - (draw.point + 1).lgamma()

    def detach(self) -> Self:
        return type(self)(self.names[0], self.log_rate.detach())


def normal(x: Tensor, loc: Tensor | float, log_scale: Tensor | float = 0.0) -> Tensor:
    """Log density of N(loc, exp(log_scale)^2)."""
    log_scale = torch.as_tensor(log_scale, dtype=torch.float64)
    return -0.5 * ((x - loc) * (-log_scale).exp()).square() - log_scale - HALF_LOG_2PI


def parameters(*shapes: tuple[int, ...], seed: int = 0, scale: float = 0.7) -> list[Tensor]:
    """Random leaves."""
    generator = torch.Generator().manual_seed(seed)
    made = [scale * torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    return [tensor.requires_grad_() for tensor in made]


def brute_force(factors: Sequence[Categoricals], terms: Terms) -> Tensor:
    """The exact bound of discrete latents: every configuration of all elements, one at a time."""
    total = torch.zeros((), dtype=torch.float64)
    places = [torch.tensor(list(product(range(f.support_size), repeat=f.elements.numel()))) for f in factors]
    for chosen in product(*places):
        draws = [f.at(c.reshape(1, *f.elements)) for f, c in zip(factors, chosen, strict=True)]
        log_q = sum(f.log_prob(d).sum() for f, d in zip(factors, draws, strict=True))
        log_p = sum(t.sum() for t in terms(Posterior.values(draws)).values())
        total = total + log_q.exp() * (log_p - log_q)
    return total


def flat_gradient(scalar: Tensor, leaves: Sequence[Tensor]) -> Tensor:
    """Gradients in all leaves as one vector; 0 where a leaf does not matter."""
    found = torch.autograd.grad(scalar, list(leaves), allow_unused=True, retain_graph=True)
    return torch.cat(
        [torch.zeros(leaf.numel()) if g is None else g.reshape(-1) for g, leaf in zip(found, leaves, strict=True)]
    )


def gradient_draws(
    estimator: Estimator,
    make: Callable[[], Posterior],
    terms: Terms,
    leaves: Sequence[Tensor],
    *,
    samples: int = 4,
    repeats: int = 400,
    dependence: Mapping[str, Mapping[str, str]] | None = None,
) -> Tensor:
    """Estimates of the gradient under seeds 0, 1, ..., (repeats, P)."""
    generator = torch.Generator()
    rows = []
    for seed in range(repeats):
        found = estimator.estimate(make(), terms, samples, generator.manual_seed(seed), dependence=dependence)
        rows.append(flat_gradient(found.surrogate, leaves))
    return torch.stack(rows)


def worst_z(draws: Tensor, exact: Tensor) -> float:
    """Largest distance of the mean gradient from the exact one, in standard errors."""
    error = draws.std(0) / math.sqrt(len(draws))
    distance = (draws.mean(0) - exact).abs()
    assert bool((distance[error < 1e-12] < 1e-9).all()), "an estimate without variance is wrong"
    varies = error >= 1e-12
    return float((distance[varies] / error[varies]).max()) if bool(varies.any()) else 0.0
