"""Autoregressive distributions: each value given those before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from jensen.likelihoods.base import Likelihood, at_least_float32
from jensen.likelihoods.levels import OnLevels, level_values, levels_of
from jensen.nn.autoregressive import AutoregressiveNet, draw

__all__ = ["Autoregressive", "AutoregressiveLikelihood"]

VALUES_AT_ONCE = 2**17  # values scored together where no gradient is wanted: some 100 MB in a net of 64 channels
LOGITS_AT_ONCE = 2**24  # the same of logits


class Autoregressive(Distribution):
    """p(x | context) = prod_i p(x_i | x_<i, context), from a network that gives the logits of every factor.

    Its batch shape is (*batch, *net.shape): `log_prob` gives the logarithm of every factor, so that it sums like that
    of any distribution of independent values, though they are not. There is no mean in closed form (`has_mean`).

    Args:
        net: the network, over K values.
        context: what it is told beside, (*batch, net.context, *grid), a size of the grid being 1 where nothing varies
            along it; None for a net without context.
        batch_shape: of the batch, where it is not that of the context: the two are broadcast.
        unit: whether values are k / (K - 1) in [0, 1]; otherwise they are the integers k.

    Raises:
        ValueError: the context does not fit the net.
    """

    arg_constraints = {}  # noqa: RUF012  (the base class declares it so)
    has_mean = False

    def __init__(
        self,
        net: AutoregressiveNet[Any],
        context: Tensor | None = None,
        batch_shape: tuple[int, ...] = (),
        *,
        unit: bool = False,
    ) -> None:
        self.net = net
        self.levels = net.levels
        self.unit = unit
        self.dims = len(net.shape)
        self.context = None if context is None else at_least_float32(context)
        told = _told(net, context)
        self.lead = torch.broadcast_shapes(told, batch_shape)
        self.told = told
        super().__init__(torch.Size((*self.lead, *net.shape)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return OnLevels(self.levels) if self.unit else constraints.integer_interval(0, self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """Raises NotImplementedError: the mean is a sum over all that might come before a value; draw instead."""
        raise NotImplementedError(
            "an autoregressive distribution has no mean in closed form: use sample(), or average draws"
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x_i | x_<i, context) of each value in nats, float32 or wider; the value broadcasts against the batch.

        Without gradients, rows are scored in pieces: memory does not grow with their number.

        Raises:
            ValueError: a value is none of the K.
        """
        shape = self.net.shape
        codes = self._codes(value)
        codes = codes.expand(torch.broadcast_shapes(codes.shape, shape))
        own = codes.shape[: codes.ndim - self.dims]
        lead = torch.broadcast_shapes(own, self.told)  # nothing is scored twice
        rows = codes.expand(*lead, *shape).reshape(-1, *shape)
        context = self._rows(lead)
        size = len(rows) if torch.is_grad_enabled() else self._rows_at_once()
        pieces = [
            self._scores(rows[start : start + size], None if context is None else context[start : start + size])
            for start in range(0, max(1, len(rows)), max(1, size))
        ]
        scores = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return scores.view(*lead, *shape).expand(*torch.broadcast_shapes(own, self.lead), *shape)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws of shape (*sample_shape, *batch, *net.shape), from torch's global generator."""
        return self.draw(tuple(sample_shape))

    @torch.no_grad()
    def draw(
        self,
        sample_shape: tuple[int, ...] = (),
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Draws of shape (*sample_shape, *batch, *net.shape), perhaps more typical ones than the distribution's own.

        Args:
            sample_shape: draws of each.
            temperature: logits are divided by it.
            top_k: of each value, only the k most probable.
            top_p: of each value, only the most probable that together have this probability.
            progress: see `jensen.nn.autoregressive.draw`.

        Raises:
            ValueError: temperature, top_k or top_p is impossible.
        """
        lead = (*sample_shape, *self.lead)
        codes = draw(
            self.net,
            math.prod(lead),
            self._rows(lead),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            progress=progress,
        )
        codes = codes.view(*lead, *self.net.shape)
        return level_values(codes, self.levels, self._dtype()) if self.unit else codes

    def _codes(self, value: Tensor) -> Tensor:
        if self.unit:
            return levels_of(value, self.levels)
        if value.is_floating_point():
            raise ValueError(f"values should be integers 0 .. {self.levels - 1}, got {value.dtype}")
        if value.device.type == "cpu" and value.numel():
            low, high = int(value.min()), int(value.max())
            if low < 0 or high >= self.levels:
                raise ValueError(f"values should be 0 .. {self.levels - 1}, got {low if low < 0 else high}")
        return value.long()

    def _rows(self, lead: tuple[int, ...]) -> Tensor | None:
        """The context of each row, (rows, net.context, *grid)."""
        if self.context is None:
            return None
        planes = self.context.shape[self.context.ndim - self.dims :]
        return self.context.expand(*lead, *planes).reshape(-1, *planes)

    def _rows_at_once(self) -> int:
        values = math.prod(self.net.shape)
        return max(1, min(VALUES_AT_ONCE // values, LOGITS_AT_ONCE // (values * self.levels)))

    def _scores(self, rows: Tensor, context: Tensor | None) -> Tensor:
        logits = at_least_float32(self.net(rows, context))
        return logits.log_softmax(-1).gather(-1, rows.unsqueeze(-1)).squeeze(-1)

    def _dtype(self) -> torch.dtype:
        numbers = (parameter.dtype for parameter in self.net.parameters() if parameter.is_floating_point())
        return next(numbers, torch.get_default_dtype())


def _told(net: AutoregressiveNet[Any], context: Tensor | None) -> torch.Size:
    """Batch shape of the context."""
    if context is None:
        if net.context:
            raise ValueError(f"this net needs a context of {net.context} channels")
        return torch.Size()
    dims = len(net.shape)
    planes = tuple(context.shape[max(0, context.ndim - dims) :])
    grid = net.shape[1:]
    fits = len(planes) == dims and planes[0] == net.context
    if not (fits and net.context and all(a in (1, b) for a, b in zip(planes[1:], grid, strict=True))):
        expected = f"(..., {net.context}, {', '.join(map(str, grid))})" if net.context else "none"
        raise ValueError(f"the context should be {expected}, or 1 along the grid, got shape {tuple(context.shape)}")
    return context.shape[: context.ndim - dims]


class AutoregressiveLikelihood(Likelihood):
    """`Autoregressive` over values k / (K - 1), the decoder giving planes that the network sees beside x.

    So a VAE becomes a PixelVAE (Gulrajani et al. 2017, "PixelVAE: a latent variable model for natural images"): the
    code need not tell what the pixels before tell better, and may end up telling nothing.

    Args:
        net: the network; it is a part of this module and learned with the decoder.
        channels: planes that the decoder gives for each channel of x. 0: no decoder stands before it, its context
            comes through `given`.

    Raises:
        ValueError: the net's context is not of so many planes.
    """

    def __init__(self, net: AutoregressiveNet[Any], channels: int = 0) -> None:
        super().__init__()
        if channels and channels * net.shape[0] != net.context:
            raise ValueError(
                f"{channels} planes for each of {net.shape[0]} channels need a net with context "
                f"{channels * net.shape[0]}, got {net.context}"
            )
        self.net = net
        self.levels = net.levels
        self.channels = channels

    def distribution(self, *parameters: Tensor) -> Autoregressive:
        """p(x | planes), from `channels` tensors (..., *net.shape)."""
        if not parameters:
            return self.given(None)
        planes = torch.stack(parameters, -1 - len(self.net.shape))
        return self.of_planes(planes.flatten(-1 - len(self.net.shape), -len(self.net.shape)), self.net.shape)

    def of_planes(self, planes: Tensor, shape: tuple[int, ...]) -> Autoregressive:
        if tuple(shape) != tuple(self.net.shape):
            raise ValueError(f"this likelihood is about data of shape {tuple(self.net.shape)}, got {tuple(shape)}")
        return self.given(planes)

    def given(self, context: Tensor | None, batch_shape: tuple[int, ...] = ()) -> Autoregressive:
        """p(x | context) over values in [0, 1]; see `Autoregressive`."""
        return Autoregressive(self.net, context, batch_shape, unit=True)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, channels={self.channels}"
