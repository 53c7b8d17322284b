"""Noise in weights: what Bayesian layers share, and four ways to draw what they put out.

q(W) is a diagonal Gaussian. The draws have the same mean and variance for each datum, so their gradients of the bound
have the same expectation; they differ in how noise is shared among the data of a batch, which decides the gradient's
variance and the cost:

- local: the output is drawn from its own Gaussian, noise of its own for each datum. Kingma, Salimans & Welling 2015
  (Variational dropout and the local reparameterization trick), eq. 6. Two products a layer; the variance falls as 1 /
  batch size. Exact where a weight meets a datum once (linear layers); an approximation where it meets it at many
  positions (convolutions), as it leaves out that these share their noise.
- flipout: one draw of the weights, its signs turned at random for each datum. Wen et al. 2018 (Flipout), eq. 4. Two
  products a layer; a datum sees a true draw of the weights, convolutions included; data are uncorrelated, not
  independent.
- shared: one draw of the weights for the whole batch. The variance does not fall below that of the draw, however large
  the batch.
- separate: a draw of the weights for each datum: batch size times the memory and random numbers of the layer.

Noise is torch's global one (`torch.manual_seed`), as in all networks here, and is drawn in training and evaluation
alike: `jensen.nn.bayesian_network.posterior_mean` turns it off.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

__all__ = ["BayesianLayer", "Estimator", "GaussianWeights", "WeightPosterior", "by_rows", "check_sizes"]

Estimator = Literal["local", "flipout", "shared", "separate"]


class BayesianLayer(nn.Module, ABC):
    """A layer that draws noise and pays a KL for it.

    Attributes:
        noisy: whether calls draw noise; otherwise the weights are their means.
    """

    noisy: bool = True

    @abstractmethod
    def kl_divergence(self) -> Tensor:
        """KL(q || prior) of everything that the layer is uncertain of, a scalar in nats."""


class WeightPosterior(NamedTuple):
    """q of a layer's weights: independent Gaussians.

    Attributes:
        weight: means.
        weight_scale: standard deviations of the same shape, up to a sign, which Gaussian noise does not see.
        bias: means; None where there is no bias.
        bias_scale: standard deviations; None where the bias is a plain number.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    bias_scale: Tensor | None


class GaussianWeights(BayesianLayer):
    """Base of the layers whose output is linear in Gaussian weights.

    Args:
        estimator: local, flipout, shared or separate; may be changed later.
    """

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    @property
    def estimator(self) -> Estimator:
        """How outputs are drawn."""
        return self._estimator

    @estimator.setter
    def estimator(self, name: Estimator) -> None:
        if name not in _DRAWS:
            raise ValueError(f"estimator should be one of {', '.join(_DRAWS)}, got {name!r}")
        self._estimator: Estimator = name

    @abstractmethod
    def posterior(self) -> WeightPosterior:
        """q of the weights."""

    @abstractmethod
    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer at given weights, of a batch (batch, ...) or of one datum."""

    @abstractmethod
    def sign_shapes(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of flipout's signs of the inputs and the outputs: one for each datum and feature or channel."""

    def forward(self, x: Tensor) -> Tensor:
        posterior = self.posterior()
        if not self.noisy:
            return self.operate(x, posterior.weight, posterior.bias)
        return _DRAWS[self.estimator](self, x, posterior)


def by_rows(layer: Callable[[Tensor], Tensor], x: Tensor, in_features: int) -> Tensor:
    """`layer`, which takes (rows, in_features), applied to (..., in_features); ValueError for another last size."""
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ValueError(f"input should have shape (..., {in_features}), got {tuple(x.shape)}")
    if x.ndim == 2:
        return layer(x)
    y = layer(x.reshape(math.prod(x.shape[:-1]), in_features))
    return y.reshape(*x.shape[:-1], y.shape[-1])


def check_sizes(**sizes: int) -> None:
    """Raises ValueError for a size below 1, with its name."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} should be at least 1, got {size}")


def _local(layer: GaussianWeights, x: Tensor, q: WeightPosterior) -> Tensor:
    mean = layer.operate(x, q.weight, q.bias)
    bias_variance = None if q.bias_scale is None else q.bias_scale.square()
    variance = layer.operate(x.square(), q.weight_scale.square(), bias_variance)
    # The square root's slope is infinite at 0, where all inputs are 0: the clamp's, which is 0 there, comes first.
    deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
    return torch.addcmul(mean, deviation, torch.randn_like(mean))


def _flipout(layer: GaussianWeights, x: Tensor, q: WeightPosterior) -> Tensor:
    signs_in, signs_out = (_signs(x, shape) for shape in layer.sign_shapes(x))
    weight = q.weight_scale * torch.randn_like(q.weight)
    bias = None if q.bias_scale is None else q.bias_scale * torch.randn_like(q.bias_scale)
    noise = layer.operate(x * signs_in, weight, bias)
    return torch.addcmul(layer.operate(x, q.weight, q.bias), signs_out.to(noise.dtype), noise)


def _shared(layer: GaussianWeights, x: Tensor, q: WeightPosterior) -> Tensor:
    return layer.operate(x, _drawn(q.weight, q.weight_scale), _drawn_bias(q))


def _separate(layer: GaussianWeights, x: Tensor, q: WeightPosterior) -> Tensor:
    weight, bias = _drawn(q.weight, q.weight_scale, len(x)), _drawn_bias(q, len(x))
    each: Tensor = torch.vmap(layer.operate, in_dims=(0, 0, None if q.bias_scale is None else 0))(x, weight, bias)
    return each


def _drawn(loc: Tensor, scale: Tensor, *draws: int) -> Tensor:
    return torch.addcmul(loc, scale, torch.randn(*draws, *loc.shape, dtype=loc.dtype, device=loc.device))


def _drawn_bias(q: WeightPosterior, *draws: int) -> Tensor | None:
    return q.bias if q.bias is None or q.bias_scale is None else _drawn(q.bias, q.bias_scale, *draws)


def _signs(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return 2 * torch.randint(0, 2, shape, dtype=x.dtype, device=x.device) - 1


_DRAWS: dict[Estimator, Callable[[GaussianWeights, Tensor, WeightPosterior], Tensor]] = {
    "local": _local,
    "flipout": _flipout,
    "shared": _shared,
    "separate": _separate,
}
assert set(_DRAWS) == set(get_args(Estimator))
