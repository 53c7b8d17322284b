"""Dropout with Gaussian noise whose rate is learned (Kingma, Salimans & Welling 2015, section 3).

Multiplying by noise N(1, alpha) is inference about weights under a log-uniform prior, p(log |w|) constant. alpha = p /
(1 - p) compares with binary dropout at rate p. It is kept below 1, where noise and weight would be of one size and the
approximation of the KL ends; so p stays below 1/2.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jensen.nn.weight_noise import BayesianLayer, Estimator, GaussianWeights, WeightPosterior, by_rows, check_sizes

__all__ = ["VariationalDropout", "VariationalDropoutLinear", "log_uniform_kl"]

_POLYNOMIAL = (1.16145124, -1.50204118, 0.58629921)
"""of alpha, alpha^2 and alpha^3 in minus the KL, section 3.3"""


def log_uniform_kl(alpha: Tensor) -> Tensor:
    """KL(N(w, alpha w^2) || log-uniform) of one weight for each alpha in (0, 1], in nats up to a constant.

    The prior is improper, so the constant (the same for every w and alpha) has no meaning: bounds compare only between
    networks with as many noisy weights. w itself drops out. -(log(alpha) / 2 + c1 alpha + c2 alpha^2 + c3 alpha^3) of
    Kingma, Salimans & Welling 2015, section 3.3: its changes with alpha are right to 0.02 nat above alpha = 0.05, and
    to 0.05 nat below.
    """
    first, second, third = _POLYNOMIAL
    return -(0.5 * alpha.log() + alpha * (first + alpha * (second + alpha * third)))


class VariationalDropoutLinear(GaussianWeights):
    """Variant A: x W^T + b with independent noise in the weights, w ~ N(theta, alpha theta^2).

    Maps (..., in_features) to (..., out_features). Given x, outputs are independent Gaussians with mean x theta^T + b
    and variance alpha x^2 (theta^2)^T: with `estimator="local"` this is noise on the layer's outputs (Kingma, Salimans
    & Welling 2015, section 3.1). The bias has no noise.

    Args:
        in_features: size of the input.
        out_features: size of the output.
        bias: whether there is a bias.
        alpha: the noise's variance to start from, in (0, 1). It is learned; to keep it as it is, give
            `alpha_logit.requires_grad_(False)`.
        alpha_per: one alpha a layer, a unit (input feature) or a weight.
        estimator: local, flipout, shared or separate: see `jensen.nn.weight_noise`.

    Raises:
        ValueError: a size is not positive, alpha is not in (0, 1), or there is no such choice.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        alpha: float = 0.5,
        alpha_per: Literal["layer", "unit", "weight"] = "layer",
        estimator: Estimator = "local",
    ) -> None:
        check_sizes(in_features=in_features, out_features=out_features)
        super().__init__(estimator)
        self.in_features = in_features
        self.out_features = out_features
        self.alpha_per = alpha_per
        limit = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-limit, limit)) if bias else None
        shapes = {"layer": (), "unit": (in_features,), "weight": (out_features, in_features)}
        self.alpha_logit = _alpha_logit(alpha, alpha_per, shapes)

    @property
    def alpha(self) -> Tensor:
        """The noise's variance relative to the squared weight, in (0, 1): (), (in,) or (out, in)."""
        return self.alpha_logit.sigmoid()

    def posterior(self) -> WeightPosterior:
        return WeightPosterior(self.weight, self.alpha.sqrt() * self.weight, self.bias, None)

    def kl_divergence(self) -> Tensor:
        """KL to the log-uniform prior, summed over weights, in nats up to a constant: see `log_uniform_kl`."""
        return _summed_kl(self.alpha, self.weight.numel())

    def forward(self, x: Tensor) -> Tensor:
        return by_rows(super().forward, x, self.in_features)

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def sign_shapes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (len(x), self.in_features), (len(x), self.out_features)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias is not None},"
            f" alpha_per={self.alpha_per!r}, estimator={self.estimator!r}"
        )


class VariationalDropout(BayesianLayer):
    """Variant B: noise on what comes in, x * s with s ~ N(1, alpha) for each datum and feature.

    Maps (..., features) to the same. Before a linear layer with weights theta it makes B = (A * s) theta: the noise of
    a row of theta is one number, shared by all outputs, so that outputs are correlated (Kingma, Salimans & Welling
    2015, section 3.2). The KL is that of the scales s, one for each feature.

    Args:
        features: size of the last dimension.
        alpha: the noise's variance to start from, in (0, 1). It is learned; to keep it as it is, give
            `alpha_logit.requires_grad_(False)`.
        alpha_per: one alpha a layer, or one a unit (feature).

    Raises:
        ValueError: features is not positive, alpha is not in (0, 1), or there is no such choice.
    """

    def __init__(self, features: int, *, alpha: float = 0.5, alpha_per: Literal["layer", "unit"] = "layer") -> None:
        check_sizes(features=features)
        super().__init__()
        self.features = features
        self.alpha_per = alpha_per
        self.alpha_logit = _alpha_logit(alpha, alpha_per, {"layer": (), "unit": (features,)})

    @property
    def alpha(self) -> Tensor:
        """The noise's variance, in (0, 1): () or (features,)."""
        return self.alpha_logit.sigmoid()

    def kl_divergence(self) -> Tensor:
        """KL to the log-uniform prior, summed over features, in nats up to a constant: see `log_uniform_kl`."""
        return _summed_kl(self.alpha, self.features)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.features:
            raise ValueError(f"input should have shape (..., {self.features}), got {tuple(x.shape)}")
        return x * (1 + self.alpha.sqrt() * torch.randn_like(x)) if self.noisy else x

    def extra_repr(self) -> str:
        return f"{self.features}, alpha_per={self.alpha_per!r}"


def _alpha_logit(alpha: float, alpha_per: str, shapes: dict[str, tuple[int, ...]]) -> nn.Parameter:
    if alpha_per not in shapes:
        raise ValueError(f"alpha_per should be one of {', '.join(shapes)}, got {alpha_per!r}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha should lie between 0 and 1, got {alpha}")
    return nn.Parameter(torch.full(shapes[alpha_per], math.log(alpha / (1 - alpha))))


def _summed_kl(alpha: Tensor, noises: int) -> Tensor:
    """Over `noises` variables that share the alphas evenly."""
    each = log_uniform_kl(alpha.to(torch.promote_types(alpha.dtype, torch.float32)))
    return each.sum() * (noises / alpha.numel())
