"""Continuous Bernoulli likelihood: a density of values in [0, 1], such as grey levels taken for real numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from jensen.errors import ConfigError
from jensen.likelihoods.base import Likelihood

__all__ = ["ContinuousBernoulli", "ContinuousBernoulliOnInterval"]

TINY = 1e-30  # in place of a logit of 0, of which the limit is taken
SERIES = 0.25  # half logits up to which the Langevin function is summed; seven terms are exact to 1e-16 there
LANGEVIN = (1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875, 4 / 18243225)


class ContinuousBernoulliOnInterval(Distribution):
    """p(x) = exp(l x) l / (e^l - 1) on [0, 1]: a Bernoulli's formula, normalised over the whole interval.

    Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli: fixing a pervasive error in variational autoencoders",
    eq. 4, with lambda = sigmoid(l). At l = 0 it is uniform; at large |l| it is an exponential at one of the ends.

    Args:
        logits: l, any real number.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012  (the base class declares it so)
    support = constraints.unit_interval

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats of values in [0, 1], which broadcast against the batch.

        Values are looked at on the CPU only: elsewhere the program would have to wait for the device.

        Raises:
            ValueError: a value lies outside [0, 1].
        """
        if value.device.type == "cpu" and value.numel():
            low, high = (float(end) for end in torch.aminmax(value.detach()))
            if low < 0 or high > 1:
                raise ValueError(f"values should lie in [0, 1], but one is {low if low < 0 else high:g}")
        return _LogDensity.apply(value, self.logits)  # type: ignore[no-any-return, no-untyped-call]

    @property
    def mean(self) -> Tensor:
        """Expectation, in (0, 1): 1 / (1 - e^-l) - 1 / l. It is not sigmoid(l), but nearer 1/2."""
        return _mean(self.logits)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape (*sample_shape, *batch), by the inverse of the cumulative distribution function."""
        with torch.no_grad():
            logits = self.logits.expand(self._extended_shape(torch.Size(sample_shape)))
            falling = -logits.abs().clamp_min(TINY)
            draw = torch.log1p(torch.rand_like(logits) * torch.expm1(falling)) / falling
            return torch.where(logits > 0, 1 - draw, draw).clamp(0, 1)


class _LogDensity(torch.autograd.Function):
    """The log density in a form without cancellation, and d/dl log p = x - E[x] for its backward pass.

    With a = |l| and u the distance from the end that is most probable, log p = -a u - log((1 - e^-a) / a).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, logits: Tensor) -> Tensor:
        size = logits.abs().clamp_min(TINY)
        normaliser = torch.log(-torch.expm1(-size) / size)
        return torch.where(logits > 0, value - 1, value) * logits - normaliser

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        """Differentiable in turn."""
        value, logits = ctx.saved_tensors
        to_value = (gradient * logits).sum_to_size(value.shape) if ctx.needs_input_grad[0] else None
        return to_value, (gradient * (value - _mean(logits))).sum_to_size(logits.shape)


def _mean(logits: Tensor) -> Tensor:
    """1/2 + L(l / 2) / 2 with the Langevin function L(h) = coth h - 1 / h."""
    half = logits / 2
    near = half.abs() < SERIES
    square = torch.where(near, half, 0.0).square()
    series = torch.zeros_like(half)
    for coefficient in reversed(LANGEVIN):
        series = series * square + coefficient
    far = torch.where(near, 1.0, half)  # where it is not taken, something with a finite gradient
    return 0.5 + 0.5 * torch.where(near, half * series, 1 / torch.tanh(far) - 1 / far)


class ContinuousBernoulli(Likelihood):
    """`ContinuousBernoulliOnInterval` with the decoder giving the logit of each value.

    A density of real numbers in [0, 1]. Grey levels k / (K - 1) as they are (transform none) are taken for such
    numbers: what comes out is log p at these points in nats, may be positive, and is not comparable with probabilities
    of grey levels. With transform dequantise it is: the density averages over the bin of a level, and the bound has
    bits per dimension.
    """

    channels = 1

    def distribution(self, *parameters: Tensor) -> ContinuousBernoulliOnInterval:
        (logits,) = parameters
        return ContinuousBernoulliOnInterval(logits)

    def check_data(self, levels: int | None, transform: str) -> None:
        """Refuse data that are not within [0, 1], and such as lie at its ends, where the density has no bound.

        Raises:
            ConfigError: the data are any real numbers, or of two values.
        """
        name = type(self).__name__
        if levels is None:
            raise ConfigError(
                f"{name} is a density of values in [0, 1], but the data are any real numbers: use gaussian-learned, "
                "laplace or student-t"
            )
        if transform != "dequantise" and (levels == 2 or transform.startswith("binarise")):
            raise ConfigError(f"{name} is a density, which two values make infinite: use likelihood bernoulli")
