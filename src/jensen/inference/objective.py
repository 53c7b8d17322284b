"""The bound of a black-box model as a function of one vector of parameters: those of q and those of the model."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from jensen.gradients import Enumeration, Estimate, Estimator, Mixed, Posterior
from jensen.gradients.configurations import profilable
from jensen.inference.target import Target
from jensen.inference.variational.base import Family
from jensen.inference.variational.exponential import ExponentialFactor

__all__ = ["Bound"]


class Bound(nn.Module):
    """E_q[log p(x, z)] + H[q] at draws, for the parameters of q (phi) and of the model (theta).

    Args:
        target: the model at its data.
        family: q.
        estimator: of the gradient.
        samples: draws of each estimate.
    """

    def __init__(self, target: Target, family: Family, estimator: Estimator, samples: int = 1) -> None:
        super().__init__()
        missing = set(target.model.latents) ^ set(family.names)
        if missing:
            raise ValueError(f"q and the model do not have the same latents: {sorted(missing)}")
        self.target, self.family = target, family
        self.estimator, self.samples = estimator, samples
        self._profiling: Estimator | None = None
        self._settled: dict[str, ExponentialFactor] = {}

    def forward(
        self,
        batch: Any = None,
        samples: int | None = None,
        generator: Generator | None = None,
        noise: Tensor | None = None,
        profiled: bool = False,
    ) -> Estimate:
        """An estimate of the bound and, through its surrogate, of the gradient in all parameters.

        Args:
            batch: of `target.batch()`; all the data if None.
            samples: draws; `self.samples` if None.
            generator: of the draws.
            noise: standard normal, (samples, noise_size): fixed draws in place of random ones.
            profiled: after `profile`, with the best q of discrete latents for these draws in the place of the present.
        """
        batch = self.target.whole if batch is None else batch
        q = self.family(batch)
        estimator = self._profiling if profiled and self._profiling is not None else self.estimator
        return estimator.estimate(
            q,
            lambda values: self.target.terms(values, batch),
            self.samples if samples is None else samples,
            generator=generator,
            noise=noise,
            dependence=self._dependence(q),
            scales=self.target.scales(batch),
        )

    def _dependence(self, q: Any) -> Any:
        """Which term depends on which latent, where the estimator uses it."""
        if not self.estimator.needs_dependence(q):
            return None
        if self.target._dependence is None:
            with torch.no_grad():
                whole = self.family(self.target.whole)
                values = whole.sample(1, torch.Generator().manual_seed(0))
            return self.target.dependence(values)
        return self.target._dependence

    # --- as a function of one vector --------------------------------------------------------------------------------

    @property
    def noise_size(self) -> int | None:
        """Standard normal numbers behind one draw of all latents; None where some draws are not made so."""
        total = 0
        for factor in self.family(self.target.whole).factors:
            if factor.noise_shape is not None:
                total += torch.Size(factor.noise_shape).numel()
            elif factor.support_size is None:
                return None
        return total

    def _free(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters that `flat` has, by name."""
        settled = {id(p) for factor in self._settled.values() for p in factor.parameters()}
        return [(n, p) for n, p in self.named_parameters() if p.requires_grad and id(p) not in settled]

    def flat(self) -> Tensor:
        """All parameters as one vector, (P,), without history; after `profile` without those of profiled factors."""
        parts = [p.detach().reshape(-1) for _, p in self._free()]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def at(self, flat: Tensor) -> dict[str, Tensor]:
        """The vector's parts by parameter, for `torch.func.functional_call`."""
        parts: dict[str, Tensor] = {}
        start = 0
        for name, parameter in self._free():
            parts[name] = flat[start : start + parameter.numel()].reshape(parameter.shape)
            start += parameter.numel()
        return parts

    @torch.no_grad()
    def load(self, flat: Tensor) -> None:
        """Set all parameters from one vector."""
        parts = self.at(flat)
        for name, parameter in self.named_parameters():
            if name in parts:
                parameter.copy_(parts[name])

    def value(self, flat: Tensor, noise: Tensor) -> Tensor:
        """The bound in nats, a scalar, at fixed draws: pure, so that grad, hessian and vmap go through.

        After `profile` it is the bound's maximum over the profiled factors.
        """
        return self._at_draws(flat, noise, True).per_draw.mean()

    def per_draw(self, flat: Tensor, noise: Tensor) -> Tensor:
        """The bound of each fixed draw, (samples,), at q as it is: pure, as `value`."""
        return self._at_draws(flat, noise, False).per_draw

    def _at_draws(self, flat: Tensor, noise: Tensor, profiled: bool) -> Estimate:
        given = {"noise": noise, "profiled": profiled}
        found: Estimate = torch.func.functional_call(self, self.at(flat), (None, len(noise)), given)
        return found

    def profile(self) -> None:
        """Leave the parameters of discrete factors whose best q is known in closed form to `settle`.

        The bound's maximum over them is a function of the other parameters alone: fewer, and free of the flat
        directions that probabilities near 0 and 1 make. The optimum is the same.
        """
        factors = self.family(self.target.whole).factors
        ways = [(factor, self.estimator.way(factor)) for factor in factors]
        limits = [way.limit for _, way in ways if isinstance(way, Enumeration)]
        enumerated = [factor for factor, way in ways if isinstance(way, Enumeration)]
        if not enumerated:
            return
        dependence = self._dependence(Posterior(factors))
        for module, factor in zip(self.family.factors, factors, strict=True):
            known = isinstance(module, ExponentialFactor) and any(factor is other for other in enumerated)
            if known and profilable(factor, enumerated, dependence):
                self._settled[factor.names[0]] = cast(ExponentialFactor, module)
        profiling = Enumeration(max(limits), profile=True)
        named: dict[str, Estimator] = {f.names[0]: profiling for f in enumerated if f.names[0] in self._settled}
        self._profiling = Mixed(named, default=self.estimator)

    @torch.no_grad()
    def settle(self, flat: Tensor, noise: Tensor) -> None:
        """Give the profiled factors their best q for these parameters and draws."""
        if self._settled:
            for name, log_q in self._at_draws(flat, noise, True).best.items():
                self._settled[name].settle(log_q)

    def values(self, flat: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Continuous latents at fixed draws on their supports, (samples, *shape) each: pure, as `value`."""
        parts = {name: p for name, p in self.at(flat).items() if name.startswith("family.")}
        found: dict[str, Tensor] = torch.func.functional_call(_Values(self.family, self.target.whole), parts, (noise,))
        return found

    def mean(self, flat: Tensor) -> Tensor:
        """E_q of the latents' real coordinates, (D,), as a pure function of the parameters."""
        parts = {name: p for name, p in self.at(flat).items() if name.startswith("family.")}
        found: Tensor = torch.func.functional_call(_Mean(self.family), parts, ())
        return found


class _Values(nn.Module):
    def __init__(self, family: Family, batch: Any) -> None:
        super().__init__()
        self.family, self.batch = family, batch

    def forward(self, noise: Tensor) -> dict[str, Tensor]:
        """Latents made of standard normal noise, (samples, *shape) each."""
        values: dict[str, Tensor] = {}
        start = 0
        for factor in self.family(self.batch).factors:
            if factor.noise_shape is not None:
                shape = torch.Size(factor.noise_shape)
                piece = noise[:, start : start + shape.numel()].reshape(len(noise), *shape)
                values |= factor.from_noise(piece).values
                start += shape.numel()
        return values


class _Mean(nn.Module):
    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def forward(self) -> Tensor:
        return self.family.mean()
