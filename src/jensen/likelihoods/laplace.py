"""Laplace likelihood: a density whose logarithm is an absolute error."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Laplace as TorchLaplace

from jensen.likelihoods.base import Likelihood, soft_clamp
from jensen.likelihoods.gaussian import LOG_SIGMA_LIMIT, before_soft_clamp

__all__ = ["Laplace"]


class Laplace(Likelihood):
    """p(x | z) = exp(-|x - y| / b) / (2 b), the decoder giving the location y, with one b learned with it.

    The best y is a median, not a mean: a few values that are far off pull less than under a Gaussian, and edges blur
    less. At its optimum b is the mean absolute error. The standard deviation is b sqrt(2).

    Args:
        scale: b to start from.

    Raises:
        ValueError: scale is not positive, or outside (exp(-7), exp(7)), within which it is softly kept.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(before_soft_clamp(scale, "scale")))

    def distribution(self, *parameters: Tensor) -> TorchLaplace:
        (location,) = parameters
        return TorchLaplace(location, soft_clamp(self.log_scale, LOG_SIGMA_LIMIT).exp(), validate_args=False)
