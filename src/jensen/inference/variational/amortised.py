"""Amortised factors: a network that makes each row's q from its data, as the encoder of a VAE does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Normal

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.model import Model
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor, Family, FamilyMaker
from jensen.inference.variational.exponential import discrete_factor
from jensen.inference.variational.gaussian import DiagonalNormal
from jensen.inference.variational.layout import Layout, standard_noise
from jensen.likelihoods import soft_clamp

__all__ = ["AmortisedNormal", "RowsNormalPosterior", "amortised"]

Inputs: TypeAlias = str | Callable[[Any], Tensor] | None

_LOG_2PI = math.log(2 * math.pi)
_LOG_SIGMA_LIMIT = 7.0  # as the VAE's encoder


class RowsNormalPosterior(FactorPosterior):
    """u_n ~ N(loc_n, diag(scale_n^2)), independent rows; the latents of a row are its transform.

    Args:
        layout: which latents a row is.
        loc: (B, D).
        scale: (B, D), positive.
    """

    def __init__(self, layout: Layout, loc: Tensor, scale: Tensor) -> None:
        self.names, self.plate, self.layout = layout.names, layout.plate, layout
        self.loc, self.scale = loc, scale
        self.elements = loc.shape[:-1]
        self.noise_shape = tuple(loc.shape)

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        return self.from_noise(standard_noise(samples, tuple(self.loc.shape), self.loc, generator))

    def from_noise(self, noise: Tensor) -> Draw:
        return self.layout.draw(self.loc + self.scale * noise)

    def log_prob(self, draw: Draw) -> Tensor:
        noise = (draw.point - self.loc) / self.scale
        log_normal = -0.5 * (noise.square() + _LOG_2PI) - self.scale.log()
        return log_normal.sum(-1) - draw.log_jacobian

    def entropy(self) -> Tensor:
        return (self.scale.log() + 0.5 * (1 + _LOG_2PI)).sum(-1)

    def detach(self) -> Self:
        return type(self)(self.layout, self.loc.detach(), self.scale.detach())


class AmortisedNormal(Factor):
    """Normal distributions of the rows' real coordinates, from a network of the rows' data.

    There are no parameters for each row, only the network's: a minibatch costs what it holds, new data have a q at
    once, and q is at best what the network can express (see `jensen.inference.amortisation`).

    Args:
        variables: latents of one plate, joined in this order into D coordinates a row.
        sizes: of the plates.
        encoder: a module from (B, ...) to (B, 2 D), that is the means and the logarithms of the standard deviations
            (softly kept within (-7, 7)), or to a `torch.distributions.Normal` of batch shape (B, D).
        inputs: what the encoder is called with: the name of an entry of the data, a function of the batch, or None for
            the batch itself, a tensor.

    Raises:
        ValueError: the latents are not all on one plate.
        TypeError: a latent is discrete.
    """

    fixed_draws = False  # a net can fit any fixed draws

    def __init__(
        self,
        variables: Mapping[str, Variable],
        sizes: Mapping[str, int],
        encoder: nn.Module,
        inputs: Inputs = None,
    ) -> None:
        super().__init__()
        self.layout = Layout(variables, sizes, rowwise=True)
        self.names, self.plate = self.layout.names, self.layout.plate
        self.encoder, self.inputs = encoder, inputs

    def forward(self, batch: Any = None) -> RowsNormalPosterior:
        given = self._given(batch)
        found = self.encoder(given)
        if isinstance(found, Normal):
            loc, scale = found.loc, found.scale
        else:
            self._check(found, 2 * self.layout.size, len(given))
            loc, log_scale = found.chunk(2, -1)
            scale = soft_clamp(log_scale, _LOG_SIGMA_LIMIT).exp()
        self._check(loc, self.layout.size, len(given))
        return RowsNormalPosterior(self.layout, loc, scale)

    def _given(self, batch: Any) -> Tensor:
        if callable(self.inputs):
            return self.inputs(batch)
        if self.inputs is not None:
            if not isinstance(batch, Mapping) or self.inputs not in batch:
                there = ", ".join(batch) if isinstance(batch, Mapping) else type(batch).__name__
                raise ValueError(
                    f"the encoder of {', '.join(self.names)} reads data {self.inputs!r}; there is: {there}"
                )
            return torch.as_tensor(batch[self.inputs])
        if not isinstance(batch, Tensor):
            raise TypeError(
                f"the encoder of {', '.join(self.names)} needs a tensor, and the data are "
                f"{'missing' if batch is None else type(batch).__name__}: say which entry it reads, inputs='x'"
            )
        return batch

    def _check(self, found: Tensor, width: int, rows: int) -> None:
        if tuple(found.shape) != (rows, width):
            raise ValueError(
                f"the encoder of {', '.join(self.names)} should return a Normal of shape {(rows, self.layout.size)} or "
                f"a tensor of shape {(rows, 2 * self.layout.size)}, means and log standard deviations; got "
                f"{tuple(found.shape)}"
            )

    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Nothing: where q lies is the network's to say."""

    def extra_repr(self) -> str:
        return f"{', '.join(self.names)}: {self.layout.size} coordinates a row of {self.plate}"


def amortised(encoders: Mapping[str | tuple[str, ...], nn.Module], inputs: Inputs = None) -> FamilyMaker:
    """A family whose latents on a plate come from encoders of the data; all others are a mean field.

        fit(model, {"x": x}, family=amortised({"z": encoder}, inputs="x"))

    Args:
        encoders: by the latent, or the latents of a row together, that each is for: see `AmortisedNormal`.
        inputs: what every encoder is called with: see `AmortisedNormal`.

    Raises (when the family is made):
        ValueError: a latent that the model does not have or that is on no plate.
    """
    named = {((key,) if isinstance(key, str) else tuple(key)): encoder for key, encoder in encoders.items()}

    def make(model: Model) -> Family:
        covered = [name for names in named for name in names]
        unknown = sorted(set(covered) - set(model.latents))
        if unknown:
            raise ValueError(f"encoders are for {unknown}, but the model's latents are {list(model.latents)}")
        factors: list[Factor] = [
            AmortisedNormal({name: model.latents[name] for name in names}, model.plates, encoder, inputs)
            for names, encoder in named.items()
        ]
        for name, variable in model.latents.items():
            if name not in covered:
                alone = discrete_factor if variable.discrete else DiagonalNormal
                factors.append(alone(name, variable, model.plates))
        return Family(factors)

    return make
