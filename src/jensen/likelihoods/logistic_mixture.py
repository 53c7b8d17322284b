"""Mixture of discretised logistics, for grey levels and colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from jensen.likelihoods.base import Likelihood, at_least_float32
from jensen.likelihoods.discretised_logistic import LogisticOnLevels, bounded_log_scale, log_mass
from jensen.likelihoods.levels import OnLevels

__all__ = ["DiscretisedLogisticMixture", "LogisticMixtureOnLevels"]


class LogisticMixtureOnLevels(Distribution):
    """Pixels whose channels share one of K components, in which each channel is a `LogisticOnLevels`.

    Salimans et al. 2017, "PixelCNN++", section 2.2. In component k, channel c has the location

        mu_kc + sum_{j < c} a_kcj (x_j - 1/2),

    so blue is told red and green by a line each, and p(x) = sum_k pi_k prod_c P_k(x_c | x_<c) for a pixel.

    Its batch shape is (..., C, *grid), or (..., *grid) where `flat`. `log_prob` gives each value's given the channels
    before it in its pixel,

        log p(x_c | x_<c) = log sum_k pi_k prod_{j <= c} P_k(x_j | x_<j) - log sum_k pi_k prod_{j < c} P_k(x_j | x_<j),

    so that the sum over values is log p(x). Leaving out whole pixels, or the last channels of some, is therefore exact.
    Where the first channels of a pixel are unknown and the last ones not, these are scored as if the unknown ones had
    the value that stands in their place (0 in `Output.log_likelihood`), not with these summed out.

    Args:
        logits: log pi but for a constant, (..., K, *grid).
        locations: mu, of each of the C channels (..., K, *grid).
        log_scales: log s, likewise.
        coefficients: a, likewise: of channel 0 for channel 1, of 0 and 1 for 2, and so on, C (C - 1) / 2 in all.
        levels: number of values, at least 2.
        grid: number of dimensions of the grid.
        flat: whether values have no dimension for channels, of which there is one.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)

    def __init__(
        self,
        logits: Tensor,
        locations: Sequence[Tensor],
        log_scales: Sequence[Tensor],
        coefficients: Sequence[Tensor] = (),
        *,
        levels: int,
        grid: int,
        flat: bool = False,
    ) -> None:
        self.logits = logits
        self.locations, self.log_scales, self.coefficients = locations, log_scales, coefficients
        self.levels, self.flat = levels, flat
        self.half = 0.5 / (levels - 1)
        self.dim = -1 - grid  # of the components, and in values that of the channels
        split = logits.ndim + self.dim
        channels = () if flat else (len(locations),)
        super().__init__(logits.shape[:split] + channels + logits.shape[split + 1 :], validate_args=False)

    @property
    def support(self) -> OnLevels:
        return OnLevels(self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x_c | x_<c) in nats of grey levels in [0, 1], which broadcast against the batch."""
        x = [channel.unsqueeze(self.dim) for channel in self._channels(value)]
        joint = self.logits
        before = joint.logsumexp(self.dim)
        found = []
        for c, (channel, log_scale) in enumerate(zip(x, self.log_scales, strict=True)):
            location = _located(self.locations[c], self._own(c), x)
            joint = joint + _LogMass.apply(channel, location, log_scale, self.half)  # type: ignore[no-untyped-call]
            now = joint.logsumexp(self.dim)
            found.append(now - before)
            before = now
        return self._values(found)

    @property
    def mean(self) -> Tensor:
        """Expectation of each value, in [0, 1].

        Of the first channel it is exact (as `LogisticOnLevels.mean`). For the others, the channels before are replaced
        by their expectations within a component, as if that of x_c were a line in them. It is one but for rounding to
        levels and for the ends, where it bends as far as the logistic reaches beyond [0, 1].
        """
        weights = self.logits.softmax(self.dim)
        expected: list[Tensor] = []
        for c, log_scale in enumerate(self.log_scales):
            location = _located(self.locations[c], self._own(c), expected)
            expected.append(LogisticOnLevels(location, log_scale, self.levels).mean)
        return self._values([(weights * each).sum(self.dim) for each in expected])

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape (*sample_shape, *batch), each a grey level in [0, 1]: the component, then red, green, blue."""
        weights = self.logits.softmax(self.dim).movedim(self.dim, -1)
        index = torch.multinomial(weights.reshape(-1, weights.shape[-1]), math.prod(sample_shape), replacement=True)
        index = index.T.reshape(*sample_shape, *weights.shape[:-1]).unsqueeze(self.dim)

        def chosen(values: Tensor) -> Tensor:
            return values.expand(*sample_shape, *values.shape).gather(self.dim, index)

        drawn: list[Tensor] = []
        for c, log_scale in enumerate(self.log_scales):
            location = _located(chosen(self.locations[c]), [chosen(a) for a in self._own(c)], drawn)
            drawn.append(LogisticOnLevels(location, chosen(log_scale), self.levels).sample())
        return self._values([channel.squeeze(self.dim) for channel in drawn])

    def _own(self, channel: int) -> Sequence[Tensor]:
        """The coefficients in the location of a channel."""
        first = channel * (channel - 1) // 2
        return self.coefficients[first : first + channel]

    def _channels(self, value: Tensor) -> tuple[Tensor, ...]:
        """The channels of values, each (..., *grid)."""
        if self.flat:
            return (value.expand(torch.broadcast_shapes(value.shape, self._batch_shape[self.dim + 1 :])),)
        own = self._batch_shape[self.dim :]
        return value.expand(torch.broadcast_shapes(value.shape, own)).unbind(self.dim)

    def _values(self, channels: list[Tensor]) -> Tensor:
        return channels[0] if self.flat else torch.stack(channels, self.dim)


def _located(location: Tensor, coefficients: Sequence[Tensor], before: Sequence[Tensor]) -> Tensor:
    """The location of a channel, given those before it: a value, or one of each component."""
    for coefficient, channel in zip(coefficients, before, strict=False):
        location = torch.addcmul(location, coefficient, channel - 0.5)
    return location


class _LogMass(torch.autograd.Function):
    """`log_mass`, which keeps its arguments for the backward pass and none of the dozen tensors on the way.

    With u = (x - mu) / s and w = half / s,

        log P = log sigmoid(u + w) + log sigmoid(w - u) + log(1 - exp(-2w)),

    of which the lower end has the first term only, and the upper end the second.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, location: Tensor, log_scale: Tensor, half: float) -> Tensor:
        return log_mass(value, location, log_scale, half)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: Tensor) -> None:
        *tensors, ctx.half = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        """Differentiable in turn."""
        value, location, log_scale = ctx.saved_tensors
        inverse_scale = torch.exp(-log_scale)
        centred = (value - location) * inverse_scale
        width = ctx.half * inverse_scale
        not_last = (value <= 1.0 - ctx.half).to(centred.dtype)
        not_first = (value >= ctx.half).to(centred.dtype)
        rise = torch.sigmoid(-centred - width) * not_last
        fall = torch.sigmoid(centred - width) * not_first
        slope = rise - fall  # d log P / du
        spread = rise + fall + (not_last * not_first) * 2.0 / torch.expm1(2.0 * width)  # d log P / dw
        along = gradient * slope * inverse_scale
        to_value = along.sum_to_size(value.shape) if ctx.needs_input_grad[0] else None
        to_scale = -gradient * (slope * centred + spread * width)
        return to_value, -along.sum_to_size(location.shape), to_scale.sum_to_size(log_scale.shape), None


class DiscretisedLogisticMixture(Likelihood):
    """`LogisticMixtureOnLevels` with the decoder giving weights, locations, log scales and coefficients of each pixel.

    A pixel is the channels at one place of an image or a signal. For C channels and K components the decoder gives
    K (1 + 2 C + C (C - 1) / 2) planes, K at a time: weights, locations of each channel, log scales of each channel,
    coefficients (through tanh). For K = 10 these are 30 planes for grey and 100 for colour. A datum without a grid,
    (features,), is of pixels of one channel, 3 K numbers each. Called with 3 K tensors in place of planes, K of each
    kind, it takes every value for a pixel of one channel.

    Args:
        levels: number of values, evenly spaced over [0, 1].
        components: K.

    Raises:
        ValueError: fewer than two levels, or no component.
    """

    def __init__(self, levels: int = 256, components: int = 10) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels should be at least 2, got {levels}")
        if components < 1:
            raise ValueError(f"components should be at least 1, got {components}")
        self.levels = levels
        self.components = components
        self.channels = 3 * components

    def planes(self, shape: tuple[int, ...]) -> int:
        if len(shape) == 1:
            return self.channels * shape[0]
        channels = shape[0]
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def distribution(self, *parameters: Tensor) -> LogisticMixtureOnLevels:
        return self._mixture(torch.stack(parameters), parameters[0].ndim, None)

    def of_planes(self, planes: Tensor, shape: tuple[int, ...]) -> LogisticMixtureOnLevels:
        # From nets in channels_last: one copy is cheaper than all that follows in steps of a pixel's planes.
        planes = at_least_float32(planes).contiguous()
        if len(shape) == 1:
            return self._mixture(planes.unflatten(-1, (self.channels, *shape)), 1, None)
        return self._mixture(planes, len(shape) - 1, shape[0])

    def _mixture(self, planes: Tensor, grid: int, channels: int | None) -> LogisticMixtureOnLevels:
        """From planes (..., planes, *grid); `channels` is None where values have no dimension for them."""
        assert self.levels is not None
        logits, *rest = planes.unflatten(-1 - grid, (-1, self.components)).unbind(-2 - grid)
        count = channels or 1
        # Outputs of 0 stand for locations all over [0, 1]: components that start alike take long to part.
        start = torch.linspace(0, 1, self.components, dtype=planes.dtype, device=planes.device)
        start = start.view(-1, *[1] * grid)
        return LogisticMixtureOnLevels(
            logits,
            [start + location for location in rest[:count]],
            [bounded_log_scale(output) for output in rest[count : 2 * count]],
            [torch.tanh(output) for output in rest[2 * count :]],
            levels=self.levels,
            grid=grid,
            flat=channels is None,
        )

    def extra_repr(self) -> str:
        return f"levels={self.levels}, components={self.components}"
