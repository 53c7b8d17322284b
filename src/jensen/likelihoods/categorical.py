"""Categorical likelihood, for grey levels and symbols: every value has a probability of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from jensen.likelihoods.base import Likelihood, at_least_float32
from jensen.likelihoods.levels import OnLevels, level_values, levels_of

__all__ = ["Categorical", "CategoricalOnLevels"]


class CategoricalOnLevels(Distribution):
    """P(x = k / (K - 1)) = softmax(logits)_k, for K values evenly spaced over [0, 1].

    The batch shape is that of the logits without their dimension of K.

    Args:
        logits: with one dimension of size K >= 2.
        dim: which one.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)

    def __init__(self, logits: Tensor, dim: int = -1) -> None:
        # Counted from the end, it stays where it is when dimensions are put in front.
        self.dim = dim if dim < 0 else dim - logits.ndim
        self.logits = logits
        self.levels = logits.shape[self.dim]
        shape = list(logits.shape)
        del shape[self.dim]
        super().__init__(torch.Size(shape), validate_args=False)

    @property
    def support(self) -> OnLevels:
        return OnLevels(self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats of values k / (K - 1); the value broadcasts against the batch.

        Raises:
            ValueError: a value is no level.
        """
        index = levels_of(value, self.levels)
        shape = torch.broadcast_shapes(index.shape, self._batch_shape)
        split = len(shape) + self.dim + 1
        # The K of a value stay as far apart as they are: no copy of the logits.
        log_p = self.logits.log_softmax(self.dim).expand(*shape[:split], self.levels, *shape[split:])
        return log_p.gather(self.dim, index.expand(shape).unsqueeze(self.dim)).squeeze(self.dim)

    @property
    def mean(self) -> Tensor:
        """Expectation of the value, in [0, 1]: of grey levels; for symbols, whose order means nothing, see `mode`."""
        probabilities = self.logits.softmax(self.dim).movedim(self.dim, -1)
        steps = torch.arange(self.levels, dtype=probabilities.dtype, device=probabilities.device)
        return probabilities @ level_values(steps, self.levels, probabilities.dtype)

    @property
    def mode(self) -> Tensor:
        """The most probable value, in [0, 1]."""
        return level_values(self.logits.argmax(self.dim), self.levels, self.logits.dtype)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape (*sample_shape, *batch), each k / (K - 1)."""
        with torch.no_grad():
            probabilities = self.logits.softmax(self.dim).movedim(self.dim, -1).reshape(-1, self.levels)
            index = torch.multinomial(probabilities, math.prod(sample_shape), replacement=True)
            drawn = index.T.reshape(self._extended_shape(torch.Size(sample_shape)))
            return level_values(drawn, self.levels, self.logits.dtype)


class Categorical(Likelihood):
    """`CategoricalOnLevels` with the decoder giving K logits of each value.

    It knows nothing of the order of the levels, as is right for symbols; for many grey levels `DiscretisedLogistic`
    has to learn less. Called with K tensors, or, without their copy, with the decoder's planes (`of_planes`).

    Args:
        levels: K.

    Raises:
        ValueError: fewer than two levels.
    """

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels should be at least 2, got {levels}")
        self.levels = levels
        self.channels = levels

    def distribution(self, *parameters: Tensor) -> CategoricalOnLevels:
        return CategoricalOnLevels(torch.stack(parameters, -1))

    def of_planes(self, planes: Tensor, shape: tuple[int, ...]) -> CategoricalOnLevels:
        lead = planes.shape[: planes.ndim - len(shape)]
        logits = planes.view(*lead, self.channels, *shape)
        return CategoricalOnLevels(at_least_float32(logits), -1 - len(shape))

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
