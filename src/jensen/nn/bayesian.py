"""Linear and convolutional layers with a Gaussian posterior over their weights."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as kl_between

from jensen.nn.weight_noise import Estimator, GaussianWeights, WeightPosterior, by_rows, check_sizes

__all__ = ["BayesianConv2d", "BayesianLinear"]


class _MeanFieldWeights(GaussianWeights):
    """Means and logarithms of standard deviations as free parameters, prior N(0, prior_scale^2)."""

    def __init__(
        self, shape: tuple[int, ...], bias: bool, prior_scale: float, initial_scale: float, estimator: Estimator
    ) -> None:
        super().__init__(estimator)
        for name, value in (("prior_scale", prior_scale), ("initial_scale", initial_scale)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} should be positive and finite, got {value}")
        self.prior_scale = prior_scale
        # Means start as in torch's own layers: uniform within 1 / sqrt(number of inputs).
        limit = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight_loc = nn.Parameter(torch.empty(shape).uniform_(-limit, limit))
        self.weight_log_scale = nn.Parameter(torch.full(shape, math.log(initial_scale)))
        self.bias_loc = nn.Parameter(torch.empty(shape[0]).uniform_(-limit, limit)) if bias else None
        self.bias_log_scale = nn.Parameter(torch.full(shape[:1], math.log(initial_scale))) if bias else None

    def posterior(self) -> WeightPosterior:
        bias_scale = None if self.bias_log_scale is None else self.bias_log_scale.exp()
        return WeightPosterior(self.weight_loc, self.weight_log_scale.exp(), self.bias_loc, bias_scale)

    def kl_divergence(self) -> Tensor:
        """KL(q || N(0, prior_scale^2)) of weights and biases in closed form, a scalar in nats."""
        posterior = self.posterior()
        divergence = self._kl(posterior.weight, posterior.weight_scale)
        if posterior.bias is not None and posterior.bias_scale is not None:
            divergence = divergence + self._kl(posterior.bias, posterior.bias_scale)
        return divergence

    def _kl(self, loc: Tensor, scale: Tensor) -> Tensor:
        wide = torch.promote_types(loc.dtype, torch.float32)
        loc, scale = loc.to(wide), scale.to(wide)
        prior = Normal(loc.new_zeros(()), loc.new_tensor(self.prior_scale), validate_args=False)
        return kl_between(Normal(loc, scale, validate_args=False), prior).sum()


class BayesianLinear(_MeanFieldWeights):
    """x W^T + b with Gaussian q(W), q(b): (..., in_features) to (..., out_features).

    Every row of the input counts as a datum with noise of its own, except under `estimator="shared"`. The local
    estimator is exact: given x, the output is Gaussian with mean x E[W]^T + E[b] and variance x^2 Var[W]^T + Var[b],
    independent over outputs and rows (Kingma, Salimans & Welling 2015, eq. 6).

    Args:
        in_features: size of the input.
        out_features: size of the output.
        bias: whether there is a bias; it has a posterior too.
        prior_scale: standard deviation of the prior N(0, prior_scale^2) of every weight and bias.
        initial_scale: standard deviation of q to start from.
        estimator: local, flipout, shared or separate.

    Raises:
        ValueError: a size or scale is not positive, or there is no such estimator.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        prior_scale: float = 1.0,
        initial_scale: float = 0.01,
        estimator: Estimator = "local",
    ) -> None:
        check_sizes(in_features=in_features, out_features=out_features)
        super().__init__((out_features, in_features), bias, prior_scale, initial_scale, estimator)
        self.in_features = in_features
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(super().forward, x, self.in_features)

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def sign_shapes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (len(x), self.in_features), (len(x), self.out_features)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias_loc is not None},"
            f" prior_scale={self.prior_scale:g}, estimator={self.estimator!r}"
        )


class BayesianConv2d(_MeanFieldWeights):
    """A convolution with Gaussian q of kernel and bias: (batch, in_channels, h, w) to (batch, out_channels, h', w').

    **The local estimator is an approximation here.** Each output value has the right mean and variance, but values at
    different positions are drawn independently, although in truth they share the kernel's noise and are correlated.
    Flipout, shared and separate draw true kernels: flipout is the cheap one without this error.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of a square kernel, or (height, width).
        stride: as in `torch.nn.Conv2d`.
        padding: as in `torch.nn.Conv2d`, with zeros.
        dilation: as in `torch.nn.Conv2d`.
        groups: as in `torch.nn.Conv2d`.
        bias: whether there is a bias; it has a posterior too.
        prior_scale: standard deviation of the prior N(0, prior_scale^2) of every weight and bias.
        initial_scale: standard deviation of q to start from.
        estimator: local, flipout, shared or separate.

    Raises:
        ValueError: a size or scale is not positive, groups do not divide the channels, or there is no such estimator.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | Literal["same", "valid"] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        prior_scale: float = 1.0,
        initial_scale: float = 0.01,
        estimator: Estimator = "local",
    ) -> None:
        height, width = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        check_sizes(
            in_channels=in_channels, out_channels=out_channels, groups=groups, kernel_height=height, kernel_width=width
        )
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups ({groups}) should divide both {in_channels} input and {out_channels} output channels"
            )
        shape = (out_channels, in_channels // groups, height, width)
        super().__init__(shape, bias, prior_scale, initial_scale, estimator)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"input should have shape (batch, {self.in_channels}, h, w), got {tuple(x.shape)}")
        return super().forward(x)

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def sign_shapes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        # One sign for all positions: what a datum sees is then a draw of the kernel, as it has to be.
        return (len(x), self.in_channels, 1, 1), (len(x), self.out_channels, 1, 1)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={tuple(self.weight_loc.shape[2:])},"
            f" stride={self.stride}, padding={self.padding}, dilation={self.dilation}, groups={self.groups},"
            f" bias={self.bias_loc is not None}, prior_scale={self.prior_scale:g}, estimator={self.estimator!r}"
        )
