"""A model whose codes are its input's own numbers, so that every count and cost is known; and tiny real ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from jensen.autoencoders.model import NeuralModel
from jensen.autoencoders.point_mass import PointMass
from jensen.bound import Level, Output
from jensen.data import Batch
from jensen.likelihoods import Gaussian, Likelihood

K = 4
SHAPES = ((1, 2), (2, 3))  # (books, grid): codes 2 and 2 x 3 of a datum of 8
MARKOV = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.25, 0.25, 0.25, 0.25]])
"""p(code | the one before it on the grid); a first code is uniform"""


class Markov(Categorical):
    """A chain along the grid: log p of each code given the one before it, batch shape (1, batch, books, grid)."""

    def __init__(self, codes: Tensor) -> None:
        first = torch.full((*codes.shape[:-1], 1, K), 1 / K)
        super().__init__(torch.cat([first, MARKOV[codes[..., :-1]]], -2))


class OwnCodes(NeuralModel):
    """x, (batch, 8) in 0 .. K - 1, is its own code; the decoder gives it back and adds `off` to every value."""

    kind = "vqvae"
    shape = target_shape = (8,)
    condition_shape = None
    latent = 8
    stochastic = False
    code_shapes, code_levels = SHAPES, K

    def __init__(self, learned: bool = False, off: float = 0.5) -> None:
        super().__init__()
        self.density = Gaussian(1.0)
        self.code_prior = "a chain" if learned else None
        self.off = nn.Parameter(torch.tensor(off))
        self.calls: list[int] = []

    @property
    def likelihood(self) -> Likelihood:
        return self.density

    def _nets(self) -> list[nn.Module]:
        return []

    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        self.calls.append(samples * len(x))
        parts = x.long().split([math.prod(shape) for shape in SHAPES], 1)
        levels = []
        for part, shape in zip(parts, SHAPES, strict=True):
            z = part.view(1, len(x), *shape)
            uniform = Categorical(logits=torch.zeros(K)).expand((1, 1, *shape))
            levels.append(Level(z, PointMass(z), uniform if self.code_prior is None else Markov(z)))
        return Output(self._checked(x, target), self.density((x + self.off).unsqueeze(0)), tuple(levels), mask=mask)

    def sample(self, n: int, temperature: float = 1.0, condition: Tensor | None = None) -> Tensor:
        return torch.randint(K, (n, 8)).float()


@dataclass
class Rows:
    """Held-out data from tensors."""

    x: Tensor
    label: Tensor | None = None
    condition: Tensor | None = None
    factors: Tensor | None = None
    levels: int | None = None
    transform: str = "none"

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        def at(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[index]

        x = self.x[index]
        return Batch(x, x, at(self.label), index, factors=at(self.factors), condition=at(self.condition))
