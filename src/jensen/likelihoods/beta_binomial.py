"""Beta-binomial likelihood, for grey levels and other counts out of a fixed number."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from jensen.likelihoods.base import Likelihood, soft_clamp
from jensen.likelihoods.levels import OnLevels, level_values, levels_of

__all__ = ["BetaBinomial", "BetaBinomialOnLevels"]

LOG_LIMIT = 7.0
PIECE = 2**14
"""Values worked on together on the CPU: what lies between fits into its cache, which is four times as fast."""


class BetaBinomialOnLevels(Distribution):
    """P(x = k / n) = C(n, k) B(k + a, n - k + b) / B(a, b) for k = 0 .. n = levels - 1.

    A binomial of n trials whose chance of success is drawn from Beta(a, b): uniform over the levels for a = b = 1,
    U-shaped below, and never narrower than a binomial (at the middle of 256 levels, a standard deviation of 8).

    Args:
        alpha: a > 0.
        beta: b > 0, same shape.
        levels: number of values, at least 2.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)

    def __init__(self, alpha: Tensor, beta: Tensor, levels: int) -> None:
        shape = torch.broadcast_shapes(alpha.shape, beta.shape)
        self.alpha, self.beta = alpha.expand(shape), beta.expand(shape)
        self.levels = levels
        super().__init__(self.alpha.shape, validate_args=False)

    @property
    def support(self) -> OnLevels:
        return OnLevels(self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats of values k / n, which broadcast against the batch; computed in float64.

        Raises:
            ValueError: a value is no level.
        """
        n = self.levels - 1
        wide = self.alpha.dtype if self.alpha.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        index = levels_of(value, self.levels)
        every = torch.arange(self.levels, dtype=wide, device=value.device)
        ways = math.lgamma(n + 1) - torch.lgamma(every + 1) - torch.lgamma(n - every + 1)
        k = index.to(wide)
        ratio: Tensor = _LogBetaRatio.apply(k, self.alpha.to(wide), self.beta.to(wide), n)  # type: ignore[no-untyped-call]
        return (ways[index] + ratio).to(self.alpha.dtype)

    @property
    def mean(self) -> Tensor:
        """Expectation of the value, in [0, 1]: a / (a + b)."""
        return self.alpha / (self.alpha + self.beta)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape (*sample_shape, *batch), each k / n: the chance of success first, then the successes."""
        shape = self._extended_shape(torch.Size(sample_shape))
        logit = _log_gamma_draw(self.alpha.expand(shape)) - _log_gamma_draw(self.beta.expand(shape))
        successes = torch.binomial(torch.full_like(logit, self.levels - 1), torch.sigmoid(logit))
        return level_values(successes, self.levels, self.alpha.dtype)


def _log_gamma_draw(shape: Tensor) -> Tensor:
    """The logarithm of a draw from Gamma(shape, 1), which for a small shape would underflow to 0 itself."""
    # If G ~ Gamma(shape + 1) and U is uniform, G U^(1 / shape) ~ Gamma(shape).
    boost = torch.log(1 - torch.rand_like(shape)) / shape
    return torch.log(torch._standard_gamma(shape + 1)) + boost


class _LogBetaRatio(torch.autograd.Function):
    """log B(k + a, n - k + b) - log B(a, b) with its gradients for a and b, which share most of the work.

    By Stirling's series of log Gamma and its derivative at z + 8,

        log Gamma(z) = log Gamma(z + 8) - log z (z + 1) ... (z + 7),

    where the products of eight go under a logarithm two at a time. Exact to 1e-11 in float64.
    """

    @staticmethod
    def forward(ctx: Any, k: Tensor, alpha: Tensor, beta: Tensor, n: int) -> Tensor:
        needs = any(ctx.needs_input_grad[1:3])
        ctx.shape = alpha.shape
        shape = torch.broadcast_shapes(k.shape, alpha.shape)
        size = PIECE if k.device.type == "cpu" else max(1, math.prod(shape))
        k, alpha, beta = (values.expand(shape).reshape(-1) for values in (k, alpha, beta))
        every = zip(k.split(size), alpha.split(size), beta.split(size), strict=True)
        pieces = [_log_beta_ratio(own, a, b, n, needs) for own, a, b in every]
        total, *slopes = (torch.cat(parts).view(shape) for parts in zip(*pieces, strict=True))
        if needs:
            ctx.save_for_backward(*slopes)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor, None]:
        to_alpha, to_beta = ((gradient * slope).sum_to_size(ctx.shape) for slope in ctx.saved_tensors)
        return None, to_alpha, to_beta, None


def _log_beta_ratio(k: Tensor, alpha: Tensor, beta: Tensor, n: int, slopes: bool) -> tuple[Tensor, ...]:
    """log B(k + a, n - k + b) - log B(a, b), and if `slopes` its derivatives for a and b."""
    both = alpha + beta
    # The first three are added, the others subtracted.
    parts = [_log_gamma(z, slopes) for z in (k + alpha, n - k + beta, both, alpha, beta, n + both)]
    value, product, digamma = zip(*parts, strict=True)
    total = value[0] + value[1] + value[2] - value[3] - value[4] - value[5]
    for over, under in ((3, 0), (4, 1), (5, 2)):
        total += torch.log(product[over] / product[under])
    if not slopes:
        return (total,)
    shared = digamma[2] - digamma[5]
    return total, digamma[0] - digamma[3] + shared, digamma[1] - digamma[4] + shared


def _log_gamma(z: Tensor, slope: bool) -> tuple[Tensor, Tensor, Tensor]:
    """log Gamma(z + 8) - (1/2) log 2 pi, the product z ... (z + 7), and digamma(z) if `slope` (else something)."""
    y = z + 8
    log_y, inverse = torch.log(y), 1 / y
    square = inverse * inverse
    tail = square.mul(-1 / 1680).add_(1 / 1260).mul_(square).sub_(1 / 360).mul_(square).add_(1 / 12).mul_(inverse)
    value = torch.addcmul(tail.sub_(y), y - 0.5, log_y)
    w = z * (z + 7)  # z (z + 7), (z + 1) (z + 6), (z + 2) (z + 5), (z + 3) (z + 4) are w, w + 6, w + 10, w + 12
    product = (w + 28).mul_(w).add_(252).mul_(w).add_(720).mul_(w)
    if not slope:
        return value, product, value
    change = (w * 4).add_(84).mul_(w).add_(504).mul_(w).add_(720).mul_(2 * z + 7)
    tail = square.mul(-1 / 240).add_(1 / 252).mul_(square).sub_(1 / 120).mul_(square).add_(1 / 12).mul_(square)
    digamma = log_y.sub_(inverse, alpha=0.5).sub_(tail).sub_(change.div_(product))
    return value, product, digamma


class BetaBinomial(Likelihood):
    """`BetaBinomialOnLevels` with the decoder giving log a and log b of each value, softly kept within (-7, 7).

    Two numbers a value, smooth in the order of the levels, and a mean in closed form. A decoder that puts out zeros
    starts at the uniform distribution. Data whose levels are known more sharply than a binomial allows are better
    described by `DiscretisedLogisticMixture`.

    Args:
        levels: number of values, evenly spaced over [0, 1].

    Raises:
        ValueError: fewer than two levels.
    """

    channels = 2

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels should be at least 2, got {levels}")
        self.levels = levels

    def distribution(self, *parameters: Tensor) -> BetaBinomialOnLevels:
        alpha, beta = (soft_clamp(parameter, LOG_LIMIT).exp() for parameter in parameters)
        assert self.levels is not None
        return BetaBinomialOnLevels(alpha, beta, self.levels)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
