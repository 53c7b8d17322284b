"""Gaussian likelihoods: sigma fixed, one sigma learned, or one a value from the decoder. All are densities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from jensen.likelihoods.base import Likelihood, soft_clamp

__all__ = ["LOG_SIGMA_LIMIT", "Gaussian", "GaussianLearned", "GaussianPerPixel", "before_soft_clamp"]

LOG_SIGMA_LIMIT = 7.0


class Gaussian(Likelihood):
    """N(x; y, sigma^2 I) with sigma fixed, the decoder giving the mean y.

    With sigma = 1, log p(x | z) = -D/2 log 2 pi - 1/2 sum (x - y)^2.

    Raises:
        ValueError: sigma is not positive.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.sigma = _positive(sigma)

    def distribution(self, *parameters: Tensor) -> Normal:
        (mean,) = parameters
        return Normal(mean, mean.new_full((), self.sigma), validate_args=False)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"


class GaussianLearned(Likelihood):
    """N(x; y, sigma^2 I) with one sigma for all values, learned with the decoder (starting from `sigma`).

    At its optimum sigma^2 is the mean squared error, so reconstruction and KL are weighed by the data rather than by
    hand (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders").

    Raises:
        ValueError: sigma is not positive, or outside (exp(-7), exp(7)), within which it is softly kept.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(before_soft_clamp(sigma, "sigma")))

    def distribution(self, *parameters: Tensor) -> Normal:
        (mean,) = parameters
        return Normal(mean, soft_clamp(self.log_sigma, LOG_SIGMA_LIMIT).exp(), validate_args=False)


class GaussianPerPixel(Likelihood):
    """N(x; y, diag(sigma^2)), the decoder giving mean y and log sigma of each value.

    log sigma is softly kept within (-7, 7): a value that the decoder knows exactly has an infinite density otherwise.
    """

    channels = 2

    def distribution(self, *parameters: Tensor) -> Normal:
        mean, log_sigma = parameters
        return Normal(mean, soft_clamp(log_sigma, LOG_SIGMA_LIMIT).exp(), validate_args=False)


def before_soft_clamp(value: float, name: str) -> float:
    """What `soft_clamp(..., LOG_SIGMA_LIMIT)` makes log `value` of.

    Raises:
        ValueError: `value` is not positive, or outside (exp(-7), exp(7)).
    """
    share = math.log(_positive(value, name)) / LOG_SIGMA_LIMIT
    if not -1 < share < 1:
        raise ValueError(f"a learned {name} should lie between exp(-7) = 0.0009 and exp(7) = 1097, got {value}")
    return LOG_SIGMA_LIMIT * math.atanh(share)


def _positive(value: float, name: str = "sigma") -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} should be positive and finite, got {value}")
    return float(value)
