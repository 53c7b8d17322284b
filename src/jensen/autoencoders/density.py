"""A density without a code: every value predicted from those before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from jensen.autoencoders.condition import checked_mask, checked_shape
from jensen.autoencoders.model import NeuralModel
from jensen.bound import Output
from jensen.config import AutoregressiveConfig, ModelConfig, ModelKind
from jensen.errors import ConfigError
from jensen.likelihoods import (
    AutoregressiveLikelihood,
    at_least_float32,
    make_autoregressive_likelihood,
)
from jensen.nn.autoregressive import AutoregressiveNet

__all__ = ["AutoregressiveModel"]


class AutoregressiveModel(NeuralModel):
    """p(x | c) = prod_i p(x_i | x_<i, c) of images or signals on K levels, or of symbols.

    Van den Oord et al. 2016, "Pixel recurrent neural networks" and "Conditional image generation with PixelCNN
    decoders". There is no latent: log p(x | c) is exact, and the ELBO is that (`Elbo` trains it). A condition enters as
    planes beside x: a vector (a one-hot label, attributes) as constant ones, an image of the datum's size as it is.

    Args:
        shape: shape of a datum, (channels, height, width) or (channels, length), with values k / (K - 1) in [0, 1].
        levels: K.
        net: the network, or the configuration of one; None: a gated PixelCNN.
        condition_shape: shape of what the model is told: (classes,) for a one-hot label, (attributes,), or
            (channels, *shape[1:]); None: nothing.

    Where there is a mask, the values that are not scored are 0 for those after them, so that what the others get is a
    probability still: of them alone, given nothing of the rest.

    Raises:
        ConfigError: the data are on no grid or on no levels, or the condition does not fit them.
        TypeError: condition_shape is no tuple.
        ValueError: an own net is for other data, or condition_shape has a number that is not positive.
    """

    kind: ModelKind = "autoregressive"
    latent = 0
    stochastic = False

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        levels: int | None = 256,
        net: AutoregressiveNet[Any] | AutoregressiveConfig | None = None,
        condition_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.shape = self.target_shape = tuple(shape)
        self.condition_shape = checked_shape(condition_shape, own=True)
        context = _planes(self.condition_shape, self.shape)
        if isinstance(net, AutoregressiveNet):
            own = (tuple(net.shape), net.levels, net.context)
            if own != (self.shape, levels, context):
                raise ValueError(
                    f"the net should be for shape {self.shape}, {levels} levels and {context} planes of context, but "
                    f"is for {own[0]}, {own[1]} and {own[2]}"
                )
            self.density = AutoregressiveLikelihood(net)
        else:
            net = AutoregressiveConfig() if net is None else net
            self.config = ModelConfig(kind=self.kind, likelihood="autoregressive", autoregressive=net)
            self.density = make_autoregressive_likelihood(self.shape, levels, net, context=context)

    @property
    def likelihood(self) -> AutoregressiveLikelihood:
        """p(x | c), of which it is the network and the levels."""
        return self.density

    def _nets(self) -> list[nn.Module]:
        return [self.likelihood.net]

    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        """log p(target | c), as an output without levels; see `NeuralModel.forward`.

        The network sees the target alone: x is no input here. Nothing is drawn, whatever `samples`.
        """
        expected = self._checked(x, target)
        observed = checked_mask(mask, len(x), self.target_shape)
        context = self._context(self._condition(condition, len(x)))
        if context is not None:
            context = context.unsqueeze(0)
        return Output(expected, self.likelihood.given(context, (1, len(x))), (), mask=observed)

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(x | c) of each datum in nats, (batch,), float32 or wider.

        Args:
            x: data, (batch, *shape).
            condition: of each, (batch, *condition_shape).

        Raises:
            ValueError: x or the condition have another shape than the model's, or a value is none of the K.
        """
        return self(x, condition=condition).log_likelihood()[0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        condition: Tensor | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """New data, drawn value after value, (n, *shape).

        Args:
            n: how many.
            temperature: divides the logits; below 1 draws what is more probable, less varied.
            condition: of each, (n, *condition_shape), or one for all, (*condition_shape,); class labels may be int64,
                (n,), or one for all, ().
            top_k: draw each value from the k most probable ones only.
            top_p: draw each value from the most probable ones that together have this probability.
            progress: see `jensen.nn.autoregressive.draw`.

        Raises:
            TypeError: the condition is no tensor.
            ValueError: a number is impossible, or the condition does not fit.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature should be positive, got {temperature}")
        context = self._context(self._condition(condition, n, exact=False))
        distribution = self.likelihood.given(context, (n,))
        return distribution.draw(temperature=temperature, top_k=top_k, top_p=top_p, progress=progress)

    def _context(self, condition: Tensor | None) -> Tensor | None:
        """The condition as planes, (*lead, net.context, *grid or ones)."""
        if condition is None or self.condition_shape is None or len(self.condition_shape) > 1:
            return condition
        return at_least_float32(condition).reshape(*condition.shape, *(1 for _ in self.shape[1:]))


def _planes(condition_shape: tuple[int, ...] | None, shape: tuple[int, ...]) -> int:
    """How many planes a condition is."""
    if condition_shape is None:
        return 0
    if len(condition_shape) > 1 and condition_shape[1:] != shape[1:]:
        size = " x ".join(map(str, shape[1:]))
        raise ConfigError(
            f"model autoregressive takes as condition a vector, or planes of the datum's size ({size}), but the "
            f"condition has shape {condition_shape}"
        )
    return condition_shape[0]
