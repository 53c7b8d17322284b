"""The contract of a likelihood p(x | decoder output)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.errors import ConfigError
from jensen.nn.features import Features

__all__ = ["Likelihood", "at_least_float32", "soft_clamp"]


class Likelihood(nn.Module, ABC):
    """Turns what a decoder puts out into a distribution over the datum.

    Calling it with `channels` tensors of shape (..., *shape) returns a `torch.distributions.Distribution` of batch
    shape (..., *shape) whose `mean`, `sample()` and `log_prob(x)` (nats, one number a value) are those of p(x | z).
    Values are independent of each other, or `log_prob` is that of each given those before it; such a distribution says
    `has_mean = False`, as its mean has no closed form.

    Attributes:
        channels: how many numbers the decoder gives for each value of the datum, where values share none (`planes`).
        levels: number of values that x can take, evenly spaced over [0, 1]; None where p(x | z) is a density.
        between: whether `log_prob` says something of values between the levels too, though no probability.
    """

    channels: int = 1
    levels: int | None = None
    between: bool = False

    @property
    def discrete(self) -> bool:
        """Whether `log_prob` is that of a probability (True) or of a density (False)."""
        return self.levels is not None

    @abstractmethod
    def distribution(self, *parameters: Tensor) -> Distribution:
        """The distribution with these `channels` parameters, each of shape (..., *shape) and float32 or wider."""

    def forward(self, *parameters: Tensor) -> Distribution:
        """Raises ValueError for another number of parameters than `channels`."""
        if len(parameters) != self.channels:
            raise ValueError(
                f"{type(self).__name__} takes {self.channels} parameter(s) a value, but {len(parameters)} were given"
            )
        return self.distribution(*map(at_least_float32, parameters))

    def planes(self, shape: tuple[int, ...]) -> int:
        """How many planes the decoder gives for a datum of this shape: its output is (batch, planes, *shape[1:])."""
        return self.channels * shape[0]

    def of_planes(self, planes: Tensor, shape: tuple[int, ...]) -> Distribution:
        """The distribution from a decoder's output, without the copies that parameters one by one may need.

        Args:
            planes: (..., planes(shape), *shape[1:]): the first parameter of every value, then the second, ...
            shape: of a datum.
        """
        if self.channels == 1:  # the same as below without its copy in the backward pass
            return self(planes)
        lead = planes.shape[: planes.ndim - len(shape)]
        return self(*planes.view(*lead, self.channels, *shape).unbind(len(lead)))

    def features(self) -> Features | None:
        """What an encoder sees of data with these values in their place; None: the values themselves."""
        return None

    def check_data(self, levels: int | None, transform: str) -> None:
        """Refuse data that this likelihood gives no probability of.

        Args:
            levels: number of values that the data can take; None: real numbers.
            transform: how stored values became those of the data, see `DataConfig.transform`.

        Raises:
            ConfigError: this likelihood is about other values. (Grey levels under a Bernoulli are let through: usual,
                though no probability; the evaluation says so.)
        """
        if self.levels is None:
            return
        name = type(self).__name__
        if levels is None or transform == "dequantise":
            raise ConfigError(
                f"{name} is a probability of {self.levels} values, but the data are real numbers: use a Gaussian"
            )
        if self.levels != levels and not self.between:
            raise ConfigError(
                f"{name} is over {self.levels} values but the data take {levels}: give the model levels=data.levels"
            )

    def __call__(self, *parameters: Tensor) -> Distribution:
        distribution: Distribution = super().__call__(*parameters)
        return distribution


def at_least_float32(values: Tensor) -> Tensor:
    """`values` in float32, or as they are in float64."""
    return values if values.dtype == torch.float64 else values.float()


def soft_clamp(x: Tensor, limit: float) -> Tensor:
    """Smoothly keep x within (-limit, limit); nearly the identity around 0. For logarithms of scales."""
    return torch.tanh(x / limit) * limit
