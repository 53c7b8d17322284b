"""Student's t likelihood: a density with heavy tails, for data with outliers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import StudentT as TorchStudentT

from jensen.likelihoods.base import Likelihood, soft_clamp
from jensen.likelihoods.gaussian import LOG_SIGMA_LIMIT, before_soft_clamp

__all__ = ["StudentT"]

FLOOR = 2.0  # degrees of freedom above which there is a variance
START = 5.0


class _OneScale(TorchStudentT):
    """torch's with the normaliser computed once, not for every value: all share scale and degrees of freedom."""

    def __init__(self, freedom: Tensor, location: Tensor, scale: Tensor) -> None:
        super().__init__(freedom, location, scale, validate_args=False)
        self._freedom, self._scale = freedom, scale

    def log_prob(self, value: Tensor) -> Tensor:
        # Differences of large logarithms of gamma functions: two numbers, so float64 costs nothing. Apple's has none.
        freedom = self._freedom if self._freedom.device.type == "mps" else self._freedom.double()
        constant = torch.lgamma((freedom + 1) / 2) - torch.lgamma(freedom / 2) - 0.5 * torch.log(math.pi * freedom)
        constant = constant.to(self._scale.dtype) - self._scale.log()
        residual = (value - self.loc) / self._scale
        return constant - (0.5 * (self._freedom + 1)) * torch.log1p(residual.square() / self._freedom)


class StudentT(Likelihood):
    """Student's t with location y from the decoder, and one scale s and one number of degrees of freedom n learned.

        p(x | z) = Gamma((n + 1) / 2) / (Gamma(n / 2) s sqrt(pi n)) (1 + ((x - y) / s)^2 / n)^(-(n + 1) / 2)

    What is far off costs its logarithm, not its square, and pulls the less on y the farther it is: robust against
    outliers (Lange, Little & Taylor 1989, "Robust statistical modeling using the t distribution"). For large n it is a
    Gaussian, and n says how heavy the tails of the residuals are. n > 2, so that mean y and variance exist, and
    n - 2 is softly kept within (exp(-7), exp(7)).

    Args:
        scale: s to start from; n starts at 5.

    Raises:
        ValueError: scale is not positive, or outside (exp(-7), exp(7)), within which it is softly kept.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(before_soft_clamp(scale, "scale")))
        self.log_freedom = nn.Parameter(torch.tensor(before_soft_clamp(START - FLOOR, "degrees of freedom - 2")))

    @property
    def freedom(self) -> Tensor:
        """Degrees of freedom n, a scalar."""
        return FLOOR + soft_clamp(self.log_freedom, LOG_SIGMA_LIMIT).exp()

    def distribution(self, *parameters: Tensor) -> TorchStudentT:
        (location,) = parameters
        return _OneScale(self.freedom, location, soft_clamp(self.log_scale, LOG_SIGMA_LIMIT).exp())
