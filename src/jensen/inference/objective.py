"""The bound of a black-box model as a function of one vector of parameters: those of q and those of the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from jensen.gradients.estimator import Estimate, Estimator
from jensen.inference.target import Target
from jensen.inference.variational.base import Family

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

    def forward(
        self,
        batch: Any = None,
        samples: int | None = None,
        generator: Generator | None = None,
        noise: Tensor | None = None,
    ) -> Estimate:
        """An estimate of the bound and, through its surrogate, of the gradient in all parameters.

        Args:
            batch: of `target.batch()`; all the data if None.
            samples: draws; `self.samples` if None.
            generator: of the draws.
            noise: standard normal, (samples, noise_size): fixed draws in place of random ones.
        """
        batch = self.target.whole if batch is None else batch
        q = self.family(batch)
        return self.estimator.estimate(
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

    def flat(self) -> Tensor:
        """All parameters as one vector, (P,), without history."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters() if p.requires_grad])

    def at(self, flat: Tensor) -> dict[str, Tensor]:
        """The vector's parts by parameter, for `torch.func.functional_call`."""
        parts: dict[str, Tensor] = {}
        start = 0
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
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
        """The bound in nats, a scalar, at fixed draws: pure, so that grad, hessian and vmap go through."""
        return self.per_draw(flat, noise).mean()

    def per_draw(self, flat: Tensor, noise: Tensor) -> Tensor:
        """The bound of each fixed draw, (samples,), as `value`."""
        estimate = torch.func.functional_call(self, self.at(flat), (None, len(noise)), {"noise": noise})
        return estimate.per_draw

    def mean(self, flat: Tensor) -> Tensor:
        """E_q of the latents' real coordinates, (D,), as a pure function of the parameters."""
        parts = {name.removeprefix("family."): p for name, p in self.at(flat).items() if name.startswith("family.")}
        return torch.func.functional_call(_Mean(self.family), {f"family.{n}": p for n, p in parts.items()}, ())


class _Mean(nn.Module):
    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def forward(self) -> Tensor:
        return self.family.mean()
