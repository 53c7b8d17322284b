"""What the deep VAEs share.

p(x, z) = p(x | z) p(z_L) prod_l p(z_l | z_>l), levels counted from the data up.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from jensen.autoencoders.base import EncoderDecoder, check_conditioning
from jensen.autoencoders.condition import checked_mask, checked_shape
from jensen.autoencoders.walk import Choose, WayDown, WayUp, gaussian, repeated, split_levels, unflattened
from jensen.bound import Level, Output
from jensen.config import AutoregressiveConfig, ModelConfig, NetConfig
from jensen.config.columns import Column
from jensen.config.scales import DEFAULT_SCALES, parse_scales
from jensen.errors import ConfigError
from jensen.likelihoods import Likelihood, make_likelihood
from jensen.nn import Conditioning
from jensen.nn.layout import layout_of
from jensen.nn.readjust import readjusted
from jensen.nn.rungs import BLOCKS
from jensen.nn.spectral import SpectralNorms, batch_norm_scales
from jensen.nn.told import Embedding
from jensen.objectives.base import check_weight

__all__ = ["Choose", "DeepVAE", "WayDown", "WayUp", "gaussian", "repeated"]


class DeepVAE(EncoderDecoder):
    """Base of `HierarchicalVAE`, `LadderVAE` and `NVAE`, which differ in their q(z | x) alone.

    p(z_L) = N(0, I) at the top; below, p(z_l | z_>l) = N(mu(state), diag sigma(state)^2), the state a function of all
    z above (with fully connected nets of the level above alone). A code, (batch, latent), holds all levels one after
    the other, the top first; `levels_of` takes it apart.

    Args:
        shape: of a datum, (channel, height, width), or any with fully connected nets.
        scales: words ``[GROUPSx]LATENTS@WIDTH``, nearest the data first (see `jensen.config.scales.parse_scales`):
            groups of latents and the width of their networks; with convolutions each scale has half the size of the
            one before, and latents are channels. None: a default of the kind of net.
        net: a `NetConfig`, or its kind: mlp, conv, cells (those of NVAE), or auto.
        downsampling: side of the data over side of the lowest level's grid, a power of 2, with convolutions.
        stem: blocks a size between the data and the lowest level; None: as many as `net.depth`.
        spectral: weight of the largest singular values of all layers and the largest scales of batch normalisations,
            whose sum is added to the loss in training (Vahdat & Kautz 2020, section 3.2).
        likelihood: see `EncoderDecoder`, as `target_shape`, `levels`, `sigma`, `autoregressive` and `symbols`.
        condition_shape: of what the model is told beside x, at every level.
        conditioning: concat (what is told stands beside the input of every step), embedding (a learned function of
            it), or film (one that scales and shifts hidden layers).

    Raises:
        ConfigError: scales, nets or condition do not fit the data.
        ValueError: as `EncoderDecoder`.
    """

    merged = False  # whether a posterior looks at the state of the walk down
    from_codes = False  # whether the way up goes through the latents of the level below
    level_below: type[Level] = Level  # what the levels below the top one are
    usual_net: Literal["auto", "cells"] = "auto"

    def __init__(
        self,
        shape: tuple[int, ...],
        scales: Sequence[str] | None = None,
        *,
        net: NetConfig | str = "auto",
        downsampling: int = 4,
        stem: int | None = None,
        spectral: float = 0.0,
        likelihood: Likelihood | str = "bernoulli",
        target_shape: tuple[int, ...] | None = None,
        levels: int | None = 256,
        sigma: float = 1.0,
        autoregressive: AutoregressiveConfig | None = None,
        condition_shape: tuple[int, ...] | None = None,
        conditioning: Conditioning = "concat",
        symbols: bool = False,
        columns: Sequence[Column] = (),
    ) -> None:
        target_shape = tuple(shape if target_shape is None else target_shape)
        net = NetConfig(kind=net) if isinstance(net, str) else net
        net = net.model_copy(update={"kind": self.net_kind(net, shape, target_shape)})
        if net.kind == "mlp" and (stem is not None or downsampling != 4):
            raise ConfigError("stem and downsampling are for nets conv and cells, not mlp: choose one of these")
        if net.kind == "cells" and (net.normalisation, net.activation) != ("none", "relu"):
            raise ConfigError("net cells has norms and nonlinearities of its own: leave normalisation, activation away")
        words = DEFAULT_SCALES[net.kind] if scales is None else scales
        name, condition_shape = likelihood, checked_shape(condition_shape)
        check_conditioning(conditioning, condition_shape, own=False)
        if isinstance(likelihood, str):
            likelihood = make_likelihood(
                likelihood,
                levels=levels,
                sigma=sigma,
                shape=target_shape,
                autoregressive=autoregressive,
                columns=columns,
            )
        seen = likelihood.features() if target_shape == tuple(shape) else None
        layout = layout_of(parse_scales(words), () if net.kind == "mlp" else tuple(shape[1:]), downsampling)
        # Encoder and decoder learn each an embedding of its own.
        told = [Embedding(net, condition_shape, conditioning) for _ in range(2)] if condition_shape else [None, None]
        size = 0 if told[0] is None else told[0].size
        blocks = BLOCKS[net.kind](net, layout, size, conditioning == "film", stem)
        super().__init__(
            tuple(shape),
            sum(math.prod(rung.shape) for rung in layout.rungs),
            likelihood=likelihood,
            target_shape=target_shape,
            encoder=WayUp(told[0], blocks, tuple(shape), self.from_codes, self.merged, seen),
            decoder=WayDown(told[1], blocks, (likelihood.planes(target_shape), *target_shape[1:])),
            condition_shape=condition_shape,
            symbols=symbols,
        )
        self.level_shapes = self.way_down.shapes
        self.spectral = check_weight("spectral", spectral)
        self.norms = SpectralNorms(self) if spectral > 0 else None
        if isinstance(name, str):
            chosen = {
                "scales": tuple(words),
                "net": net,
                "downsampling": downsampling,
                "stem": stem,
                "spectral": spectral,
            }
            own: dict[str, Any] = {} if autoregressive is None else {"autoregressive": autoregressive}
            own.update(likelihood=name, sigma=sigma, conditioning=conditioning)
            self.config = ModelConfig(kind=self.kind, **chosen, **own)

    @classmethod
    def net_kind(cls, net: NetConfig, shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """mlp, conv or cells: what the configuration means for such data.

        Raises:
            ConfigError: convolutions for what is no image, or for a target that is none of the datum's size.
        """
        images = len(shape) == 3 and len(target_shape) == 3 and shape[1:] == target_shape[1:]
        if net.kind == "auto":
            usual = cls.usual_net if cls.usual_net == "cells" else "conv" if images and min(shape[1:]) >= 32 else "mlp"
            return usual if images else "mlp"
        if net.kind == "resnet":
            raise ConfigError(f"net resnet ends in a vector, but model {cls.kind} needs levels: use mlp, conv or cells")
        if net.kind != "mlp" and not images:
            raise ConfigError(
                f"net {net.kind} needs images (channel, height, width) and a target of their size, but the data have "
                f"shape {shape} and the target {target_shape}: use net mlp"
            )
        return net.kind

    @property
    def way_up(self) -> WayUp:
        """The networks of q."""
        assert isinstance(self.encoder, WayUp)
        return self.encoder

    @property
    def way_down(self) -> WayDown:
        """The networks of p."""
        assert isinstance(self.decoder.net, WayDown)
        return self.decoder.net

    def _nets(self) -> list[nn.Module]:
        return [*self.way_up.steps, *self.way_down.steps]

    @abstractmethod
    def _inference(self, x: Tensor, condition: Tensor | None, samples: int, draw: Callable[[Normal], Tensor]) -> Choose:
        """What gives z and q(z_l | ...) of each level of (samples x batch) walks, the batch running fastest.

        Args:
            x: data, (batch, *shape).
            condition: of each, checked.
            samples: walks a datum.
            draw: a z from its posterior: a draw, or the mean.
        """

    def forward(
        self,
        x: Tensor,
        target: Tensor | None = None,
        samples: int = 1,
        *,
        condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Output:
        expected = self._checked(x, target)
        observed = checked_mask(mask, len(x), self.target_shape)
        condition = self._condition(condition, len(x))
        levels, likelihood = self._walk(x, condition, samples, Normal.rsample)
        assert likelihood is not None
        return Output(expected, likelihood, levels, mask=observed, penalties=self._penalties())

    def _walk(
        self,
        x: Tensor,
        condition: Tensor | None,
        samples: int = 1,
        draw: Callable[[Normal], Tensor] = Normal.rsample,
        decoded: bool = True,
    ) -> tuple[tuple[Level, ...], Distribution | None]:
        """Levels whose tensors lead with (samples or 1, batch or 1), and p(x | z) unless it is not wanted."""
        lead = (samples, len(x))
        choose = self._inference(x, condition, samples, draw)
        told = self.way_down.told(condition)
        told = None if told is None else repeated(told, samples)
        levels, out = self.way_down.walk(samples * len(x), choose, told, decoded)
        kinds = [Level] + [self.level_below] * (len(levels) - 1)
        found = tuple(unflattened(level, kind, lead) for level, kind in zip(levels, kinds, strict=True))
        return found, None if out is None else self._seen(out, lead)

    def _seen(self, out: Tensor, lead: tuple[int, ...]) -> Distribution:
        """p(x | z) from the decoder's output, (rows, ...)."""
        planes = out.view(*lead, -1, *self.target_shape[1:])
        return self.likelihood.of_planes(planes, self.target_shape)

    def _penalties(self) -> dict[str, Tensor]:
        if self.norms is None or not self.training:
            return {}
        return {"spectral": self.spectral * self.norms(self), "batch_norm": self.spectral * batch_norm_scales(self)}

    def levels(self, x: Tensor, condition: Tensor | None = None) -> tuple[tuple[Level, ...], Tensor | None]:
        self._check_input(x)
        return self._walk(x, self._condition(condition, len(x)), decoded=False)[0], None

    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The means of q on the walk that takes the mean at every level, (batch, latent), the top level first."""
        self._check_input(x)
        condition = self._condition(condition, len(x))
        levels, _ = self._walk(x, condition, draw=lambda posterior: posterior.loc, decoded=False)
        return self.flat([level.z[0] for level in levels])

    def levels_of(self, z: Tensor) -> list[Tensor]:
        """Flat codes (..., latent) as those of each level, (..., *dims), the top first."""
        return split_levels(z, self.level_shapes)

    def flat(self, levels: Sequence[Tensor]) -> Tensor:
        """The reverse of `levels_of`: (..., latent)."""
        parts = zip(levels, self.level_shapes, strict=True)
        return torch.cat([z.flatten(z.ndim - len(shape)) for z, shape in parts], -1)

    @torch.no_grad()
    def reconstruct(
        self, x: Tensor, condition: Tensor | None = None, *, top: int | None = None, temperature: float = 0.0
    ) -> Tensor:
        """Means of p(x | z), (batch, *target_shape), at the posterior means of the top levels: what these carry.

        Args:
            x: data, (batch, *shape).
            condition: of each, (batch, *condition_shape).
            top: how many levels tell of x, those below being taken from their prior; None: all.
            temperature: standard deviation of the levels below, in that of their prior; 0: its mean.

        Raises:
            ValueError: top or temperature are impossible, or x or the condition do not fit.
        """
        top = len(self.level_shapes) if top is None else top
        if not 0 <= top <= len(self.level_shapes):
            raise ValueError(f"top should be 0 to {len(self.level_shapes)}, the number of levels, got {top}")
        codes = self.levels_of(self.encode(x, condition))[:top]
        return self._generated(len(x), [temperature] * len(self.level_shapes), codes, condition)

    @torch.no_grad()
    def sample(self, n: int, temperature: float | Sequence[float] = 1.0, condition: Tensor | None = None) -> Tensor:
        """New data: means of p(x | z) for `n` draws of z from the prior, (n, *target_shape).

        Args:
            n: how many.
            temperature: scales the standard deviation of every level, or, one number a level, the top first, of each.
            condition: of each, (n, *condition_shape), or one for all; class labels may be int64.

        Raises:
            ValueError: n or a temperature is impossible, there is not one a level, or the condition does not fit.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        count = len(self.level_shapes)
        each = [temperature] * count if isinstance(temperature, int | float) else list(temperature)
        if len(each) != count:
            raise ValueError(f"temperature should be one number, or {count}, one a level, got {len(each)}")
        return self._generated(n, each, [], condition)

    @torch.no_grad()
    def completed(self, codes: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        """Codes of all levels, (batch, latent), from those of one or more, (batch, *dims) each, the top first.

        The others are their prior's means; condition: see `sample`.
        """
        n, none = len(codes[0]), [0.0] * len(self.level_shapes)
        return self.flat([level.z for level in self._from_prior(n, none, codes, condition, decoded=False)[0]])

    def _generated(
        self, n: int, temperatures: Sequence[float], codes: Sequence[Tensor], condition: Tensor | None
    ) -> Tensor:
        """Means of p(x | z), (n, *target_shape)."""
        out = self._from_prior(n, temperatures, codes, condition)[1]
        assert out is not None
        return self._shown(self._seen(out, (n,)))

    def _from_prior(
        self,
        n: int,
        temperatures: Sequence[float],
        codes: Sequence[Tensor],
        condition: Tensor | None,
        decoded: bool = True,
    ) -> tuple[list[Level], Tensor | None]:
        """A walk down, z given for the top levels and drawn below: see `WayDown.walk`."""
        for temperature in temperatures:
            if not (temperature >= 0 and math.isfinite(temperature)):
                raise ValueError(f"temperature should be 0 or more, got {temperature}")

        def choose(i: int, prior: Normal, _: Tensor | None) -> tuple[Tensor, None]:
            if i < len(codes):
                return codes[i], None
            mean = prior.loc.expand(n, *prior.loc.shape[1:])
            if temperatures[i] == 0:
                return mean, None
            return mean + temperatures[i] * prior.scale * torch.randn_like(mean), None

        condition = self._condition(condition, n, exact=False)
        if condition is not None:
            condition = condition.expand(n, *(self.condition_shape or ()))
        return self.way_down.walk(n, choose, self.way_down.told(condition), decoded)

    @torch.no_grad()
    def neighbours(self, x: Tensor, n: int = 1, condition: Tensor | None = None) -> Tensor:
        """New data near each x: means of p(x | z) for draws of z from q(z | x), (n, batch, *target_shape).

        Raises:
            ValueError: n is not positive, or x or condition have another shape than the model's.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        self._check_input(x)
        likelihood = self._walk(x, self._condition(condition, len(x)), n)[1]
        assert likelihood is not None
        return self._shown(likelihood)

    @contextmanager
    def readjusted(
        self,
        temperature: float | Sequence[float],
        *,
        condition: Tensor | None = None,
        n: int = 100,
        batches: int = 20,
    ) -> Iterator[None]:
        """Within it, batch normalisation has the statistics of samples at this temperature, not of the training data.

        At low temperatures activations are unlike those of training; without it samples of NVAE lose their contrast
        (Vahdat & Kautz 2020, section 4.2). Afterwards all is as it was. Draws come from torch's global generator, in
        `batches` of `n`; temperature and condition: see `sample`.
        """
        with readjusted(self, lambda: self.sample(n, temperature, condition), batches=batches):
            yield

    def report(
        self, output: Output, label: Tensor | None = None, condition: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """kl_level_1, ..., KL of each level in nats; level 1 is nearest the data."""
        every = [output.expectation(level.kl().flatten(2).sum(2)).mean() for level in output.levels]
        return {f"kl_level_{i}": kl for i, kl in enumerate(every[::-1], 1)}
