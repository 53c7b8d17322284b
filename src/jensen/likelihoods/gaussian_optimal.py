"""Gaussian likelihood whose sigma is the best one for the batch: no number to choose or to learn."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributions import Normal

from jensen.likelihoods.base import Likelihood
from jensen.likelihoods.gaussian import LOG_SIGMA_LIMIT

__all__ = ["GaussianOptimal", "NormalOfBatch"]

MEMORY = 20
"""Training steps over which sigma^2 is averaged: a batch alone has thousands of values, and the error falls fast."""


class NormalOfBatch(Normal):
    """N(x; y, sigma^2) whose `log_prob` takes the sigma^2 that makes the values it is called with most probable.

    That is the mean squared error over all of them, samples included; its logarithm is kept within 2 (-7, 7). Its
    `mean`, `stddev` and `sample()` are those with the likelihood's stored sigma.

    Args:
        mean: y.
        likelihood: is told the sigma^2 that is found.
        weights: how much each value counts in the mean, not negative, broadcastable to the batch shape; None: all the
            same.
    """

    def __init__(self, mean: Tensor, likelihood: GaussianOptimal, weights: Tensor | None = None) -> None:
        super().__init__(mean, likelihood.sigma, validate_args=False)
        self.likelihood, self.weights = likelihood, weights

    def counting(self, weights: Tensor) -> NormalOfBatch:
        """The same with values that count by `weights`: 0 for those that are missing."""
        return NormalOfBatch(self.loc, self.likelihood, weights)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, of values that broadcast against the batch.

        Its gradient takes sigma for a constant. For a sum over all values it is that of the whole, as the derivative
        for sigma is zero at the optimum.
        """
        squares = (value - self.loc).square()
        variance = self.likelihood.fit(squares.detach(), self.weights)
        return -0.5 * (squares / variance + torch.log(2 * math.pi * variance))


class GaussianOptimal(Likelihood):
    """N(x; y, sigma^2 I), the decoder giving the mean y, with sigma^2 at its optimum in every training step.

    Rybkin, Daniilidis & Levine 2021, "Simple and effective VAE training with calibrated decoders", section 4.2. For
    given y the sigma^2 that maximises the log-likelihood of a batch is its mean squared error, so that up to constants
    the loss of a datum of D values is (D / 2) log MSE, and reconstruction and KL are weighed without a number to
    choose. `GaussianLearned` comes to the same sigma by gradient steps, more slowly.

    *In training* (training mode, where gradients are recorded) each batch is scored by its own sigma, which has seen
    the batch: what is logged then is a little too good to be a likelihood of these data, by some 1 / (2 N) nats a datum
    for N data. Samples of z and processes share one sigma. With several samples under an importance-weighted bound it
    is the plain mean over samples, not by their weights.

    *Otherwise* sigma is stored: a moving average of sigma^2 over about the last 20 training steps, a part of the state
    dict. It depends on no datum that is scored, so that log p(x | z) is a density, values and batches are independent,
    and bounds are those of a model with this sigma.

    Missing values do not count where `Output.log_likelihood` tells `NormalOfBatch.counting` of them.
    """

    variance: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def sigma(self) -> Tensor:
        """The stored standard deviation, a scalar; 1 before any training."""
        return self.variance.sqrt()

    def distribution(self, *parameters: Tensor) -> Normal:
        (mean,) = parameters
        if self.training and torch.is_grad_enabled():
            return NormalOfBatch(mean, self)
        return Normal(mean, self.sigma.to(mean.dtype), validate_args=False)

    @torch.no_grad()
    def fit(self, squares: Tensor, weights: Tensor | None = None) -> Tensor:
        """The (weighted) mean of squared errors, a scalar, which also goes into the stored average if it is finite.

        Without weight, as where all of a batch is missing, it is the stored value.
        """
        total = squares.sum() if weights is None else (squares * weights).sum()
        count = total.new_full((), squares.numel()) if weights is None else weights.expand(squares.shape).sum()
        sums = torch.stack([total, count.to(total.dtype)])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(sums)
        found = torch.where(sums[1] > 0, sums[0] / sums[1], self.variance.to(sums.dtype))
        found = found.clamp(math.exp(-2 * LOG_SIGMA_LIMIT), math.exp(2 * LOG_SIGMA_LIMIT))
        seen = found.isfinite() & (sums[1] > 0)
        self.steps += seen.to(self.steps.dtype)
        share = 1 / self.steps.clamp(1, MEMORY).to(self.variance.dtype)
        moved = torch.lerp(self.variance, found.to(self.variance.dtype), share)
        self.variance.copy_(torch.where(seen, moved, self.variance))
        return found
