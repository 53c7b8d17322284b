"""Normal distributions with a covariance of low rank plus a diagonal, for many latents at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from jensen.gradients.posterior import Draw, FactorPosterior
from jensen.inference.model import Model
from jensen.inference.supports import Variable
from jensen.inference.variational.base import Factor, Family, FamilyMaker, rows_of
from jensen.inference.variational.exponential import discrete_factor
from jensen.inference.variational.layout import Layout, continuous, lower_triangular, standard_noise

__all__ = ["LowRankNormal", "LowRankPosterior", "low_rank"]

_LOG_2PI = math.log(2 * math.pi)
_START = 0.1  # of the loadings: at exactly 0 their gradient is 0 and they would stay there


class LowRankPosterior(FactorPosterior):
    """u ~ N(loc, S (I + V V^T) S) with S = diag(exp(log_scale)): a draw is loc + S (e + V f), e and f standard normal.

    The density needs an R x R Cholesky factorisation alone, by Woodbury's identity and the determinant lemma:
    (I + V V^T)^-1 = I - V (I + V^T V)^-1 V^T, |I + V V^T| = |I + V^T V|.

    Args:
        layout: which latents u is.
        loc: (*rows, D).
        log_scale: (*rows, D).
        loadings: V, (*rows, D, R).
    """

    def __init__(self, layout: Layout, loc: Tensor, log_scale: Tensor, loadings: Tensor) -> None:
        self.names, self.plate, self.layout = layout.names, layout.plate, layout
        self.loc, self.log_scale, self.loadings = loc, log_scale, loadings
        self.elements = loc.shape[:-1]
        self.noise_shape = (*self.elements, layout.size + loadings.shape[-1])

    def rsample(self, samples: int, generator: Generator | None = None) -> Draw:
        assert self.noise_shape is not None
        return self.from_noise(standard_noise(samples, self.noise_shape, self.loc, generator))

    def from_noise(self, noise: Tensor) -> Draw:
        own, shared = noise.split([self.layout.size, self.loadings.shape[-1]], -1)
        mixed = (self.loadings @ shared.movedim(0, -1)).movedim(-1, 0)
        return self.layout.draw(self.loc + self.log_scale.exp() * (own + mixed))

    def _factor(self) -> Tensor:
        """Cholesky factor of I + V^T V, (*rows, R, R)."""
        gram = self.loadings.mT @ self.loadings
        factor: Tensor = torch.linalg.cholesky(gram + torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device))
        return factor

    def _half_log_determinant(self, factor: Tensor) -> Tensor:
        return self.log_scale.sum(-1) + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, draw: Draw) -> Tensor:
        factor = self._factor()
        scaled = (draw.point - self.loc) * (-self.log_scale).exp()
        along = torch.linalg.solve_triangular(factor, self.loadings.mT @ scaled.movedim(0, -1), upper=False)
        quadratic = scaled.square().sum(-1) - along.square().sum(-2).movedim(-1, 0)
        log_normal: Tensor = -0.5 * (quadratic + self.layout.size * _LOG_2PI) - self._half_log_determinant(factor)
        return log_normal - draw.log_jacobian

    def entropy(self) -> Tensor:
        return self._half_log_determinant(self._factor()) + 0.5 * self.layout.size * (1 + _LOG_2PI)

    def detach(self) -> Self:
        return type(self)(self.layout, self.loc.detach(), self.log_scale.detach(), self.loadings.detach())

    @property
    def covariance(self) -> Tensor:
        """Of the real coordinates, (*rows, D, D)."""
        scale = self.log_scale.exp()
        root = scale.unsqueeze(-1) * self.loadings
        return torch.diag_embed(scale.square()) + root @ root.mT


class LowRankNormal(Factor):
    """A normal distribution over several latents' real coordinates with D x R loadings and a diagonal.

    The low-rank family of Ong, Nott & Smith (2018), in coordinates that suit an optimiser: exp(log_scale) are the
    standard deviations of the coordinates, loadings V are free of units (the covariance is S (I + V V^T) S with S that
    much smaller), and V has zeros above its diagonal, since its rotations would all be the same q. Starts near
    N(0, I), with small random loadings. D (R + 2) - R (R - 1) / 2 parameters (for each row of a plate).

    Args:
        variables: the latents.
        sizes: of the plates.
        rank: R, columns of V; at most D.
        rowwise: latents of the same row of their plate depend on each other, rows do not; else everything does.

    Raises:
        ValueError: rank below 1; rowwise, but the latents are not all on one plate.
        TypeError: a latent is discrete.
    """

    def __init__(
        self, variables: Mapping[str, Variable], sizes: Mapping[str, int], rank: int, rowwise: bool = False
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}: without loadings it is mean_field")
        self.layout = Layout(variables, sizes, rowwise)
        self.names, self.plate = self.layout.names, self.layout.plate
        rows, size = self.layout.rows, self.layout.size
        self.rank = min(rank, size)
        self.loc = nn.Parameter(torch.zeros(*rows, size, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(*rows, size, dtype=torch.float64))
        count = size * self.rank - self.rank * (self.rank - 1) // 2
        self.lower = nn.Parameter(torch.zeros(*rows, count, dtype=torch.float64))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.lower.copy_(_START * torch.randn(self.lower.shape, dtype=torch.float64, generator=generator))

    def forward(self, batch: Any = None) -> LowRankPosterior:
        self.layout.need_all_rows(batch)
        loc, log_scale, lower = (rows_of(p, self.layout.cut, batch) for p in (self.loc, self.log_scale, self.lower))
        loadings = lower_triangular(lower, self.layout.size, self.rank)
        own = log_scale - 0.5 * loadings.square().sum(-1).log1p()
        return LowRankPosterior(self.layout, loc, own, loadings)

    @torch.no_grad()
    def place(self, centre: Mapping[str, Tensor], scale: float | Mapping[str, Tensor]) -> None:
        """Set the parameters: see `Factor.place`; hardly any correlation, if any latent is placed."""
        if self.layout.place(self.loc, self.log_scale, centre, scale):
            self._start()

    def mean(self) -> Tensor:
        return self.loc.reshape(-1)

    def extra_repr(self) -> str:
        return f"{', '.join(self.names)}: {self.layout.size} coordinates, rank {self.rank}"


def low_rank(rank: int = 2) -> FamilyMaker:
    """A family: one normal distribution over all continuous latents, its covariance a diagonal plus rank `rank`.

    Discrete latents have their own factor. Rows of a plate depend on each other, so there can be no minibatches where
    latents are on the plate of the rows.

    Raises:
        ValueError: rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}: without loadings it is mean_field")

    def make(model: Model) -> Family:
        joined = continuous(model)
        factors = [LowRankNormal(joined, model.plates, rank)] if joined else []
        discrete = [discrete_factor(n, v, model.plates) for n, v in model.latents.items() if v.discrete]
        return Family([*factors, *discrete])

    return make
