"""Auto-encoders whose code is integers: VQ-VAE and its relatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from jensen.autoencoders.base import EncoderDecoder, check_conditioning
from jensen.autoencoders.code_choices import CodeChoices
from jensen.autoencoders.code_grids import flat_codes, split_codes
from jensen.autoencoders.code_hierarchy import Codes, code_shares
from jensen.autoencoders.condition import checked_mask, checked_shape
from jensen.autoencoders.path import path_between
from jensen.autoencoders.point_mass import PointMass
from jensen.bound import Level, Output
from jensen.config import AutoregressiveConfig, ModelKind, NetConfig, QuantiserConfig
from jensen.likelihoods import Likelihood
from jensen.nn import Conditioning
from jensen.nn.quantiser.base import Quantiser

if TYPE_CHECKING:
    from jensen.autoencoders.code_prior import CodePrior

__all__ = ["VQVAE"]


class VQVAE(EncoderDecoder):
    """q(z | x) a point mass on integer codes z, p(x | z) from the decoder, p(z) uniform until a prior is learned.

    Van den Oord, Vinyals & Kavukcuoglu 2017, "Neural discrete representation learning". The encoder gives features on a
    grid, the quantiser replaces each by the nearest of K embeddings (its number is the code), and the decoder sees the
    embeddings; its gradient goes straight through to the features. As q has all its mass on one z,

        ELBO = log p(x | z) + log p(z),    KL(q || p) = -log p(z) = N log K nats for N codes under the uniform prior,

    so the rate is a constant until `attach_prior` puts a learned p(z) in place: then it is the length of the code in
    nats. Codebook and commitment losses (the paper's eq. 3) are the output's `penalties`, sums over positions and
    dimensions like all terms. With a quantiser that draws (Gumbel-softmax) q is categorical instead.

    With `hierarchy` 2 there is a level of codes of half the size on top (`CodeHierarchy`). Codes are integers of shape
    (books, *grid) at each level, the top first; `encode` gives them flat, and `grids` and `flat` go between the two.

    Args:
        shape: of a datum, (channel, height, width) or (channel, length).
        downsampling: side of a datum over that of the grid, a power of 2.
        hierarchy: levels of codes, 1 or 2.
        quantiser: a configuration, or a `Quantiser` (of which a second level gets a copy).
        net: a `NetConfig` of kind auto or conv (width 64, depth 2 residual units), or the kind.
        likelihood: a name (see `jensen.likelihoods.make_likelihood`) or a `Likelihood`.
        target_shape: shape of what is decoded; None: the datum itself.
        levels: grey levels, or number of symbols, of the data.
        sigma: standard deviation of a gaussian likelihood.
        autoregressive: the network of likelihood autoregressive; None: the default.
        encoder: own network (batch, *shape) -> (batch, features, *grid), features the quantiser's `dim` if there is one
            level; `downsampling` then says how the grid comes from the shape, unless the decoder is own too.
        decoder: own network from what the quantiser gives, (batch, dim, *grid) or with two levels
            (batch, 2 dim, *grid), to (batch, likelihood.planes(target_shape), *target_shape[1:]). With a
            condition, own networks are called with it as a second argument.
        condition_shape: shape of what encoder and decoder are told beside x; see `EncoderDecoder`.
        conditioning: concat, embedding or film (see `jensen.nn.spatial.make_spatial_encoder`).
        symbols: whether a value is one of `levels` symbols rather than a grey level, so that the encoder looks it up in
            a table; None: so for signals on levels with likelihood categorical or autoregressive.

    Attributes:
        code_shapes: (books, *grid) of each level, the top first.
        code_levels: K, the values that a code takes.
        latent: number of codes, of all levels together.
        code_prior: p(z), if one was attached; None: uniform.

    Raises:
        ConfigError: net, likelihood, downsampling or condition do not fit the data.
        TypeError: condition_shape is no tuple.
        ValueError: hierarchy is not 1 or 2, own networks do not fit the quantiser, symbols have no `levels`, or as
            `EncoderDecoder`.
    """

    kind: ModelKind = "vqvae"
    code_prior: CodePrior | None

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        downsampling: int = 4,
        hierarchy: Literal[1, 2] = 1,
        quantiser: QuantiserConfig | Quantiser | None = None,
        net: NetConfig | str = "auto",
        likelihood: Likelihood | str = "bernoulli",
        target_shape: tuple[int, ...] | None = None,
        levels: int | None = 256,
        sigma: float = 1.0,
        autoregressive: AutoregressiveConfig | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        condition_shape: tuple[int, ...] | None = None,
        conditioning: Conditioning = "concat",
        symbols: bool | None = None,
    ) -> None:
        own = encoder is not None and decoder is not None
        condition_shape = checked_shape(condition_shape, own=own)
        check_conditioning(conditioning, condition_shape, own=own)
        chosen = CodeChoices(
            shape=tuple(shape),
            target_shape=tuple(shape if target_shape is None else target_shape),
            downsampling=downsampling,
            hierarchy=hierarchy,
            quantiser=QuantiserConfig() if quantiser is None else quantiser,
            net=NetConfig(kind=net) if isinstance(net, str) else net,
            likelihood=likelihood,
            levels=levels,
            sigma=sigma,
            autoregressive=autoregressive,
            conditioning=conditioning,
            symbols=symbols,
        )
        config = chosen.config() if encoder is None and decoder is None else None
        likelihood = chosen.made_likelihood()
        nets = chosen.nets(likelihood, encoder, decoder, condition_shape)
        super().__init__(
            chosen.shape,
            sum(map(math.prod, nets.quantisers.code_shapes)),
            likelihood=likelihood,
            target_shape=chosen.target_shape,
            encoder=nets.encoder,
            decoder=nets.decoder,
            condition_shape=condition_shape,
            symbols=chosen.are_symbols,
        )
        self.config = config
        self.decoder.code_dims = nets.code_dims
        self.quantiser = nets.quantisers
        self.code_shapes, self.code_levels = self.quantiser.code_shapes, self.quantiser.code_levels
        self.stochastic = self.quantiser.stochastic
        self.code_prior = None

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
        told, all_told = self._told(condition, len(x))
        features = self._features(x, told)
        codes = self.quantiser(self._once_a_draw(features, samples))
        likelihood = self.decoder(self._laid_out(codes.seen, (-1, len(x))), told)
        return Output(expected, likelihood, self._levels(codes, len(x), all_told), observed, None, codes.penalties())

    def levels(self, x: Tensor, condition: Tensor | None = None) -> tuple[tuple[Level, ...], Tensor | None]:
        self._check_input(x)
        told, all_told = self._told(condition, len(x))
        return self._levels(self.quantiser(self._features(x, told)), len(x), all_told), None

    def _features(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """What the encoder makes of data, before it is quantised: (batch, features, *grid)."""
        features: Tensor = self.encoder(x) if condition is None else self.encoder(x, condition)
        return features

    def _once_a_draw(self, features: Tensor, samples: int) -> Tensor:
        """The features once for each draw, the batch running fastest; once where nothing is drawn."""
        if samples == 1 or not self.stochastic:
            return features
        return features.expand(samples, *features.shape).flatten(0, 1)

    def _laid_out(self, seen: Tensor, lead: tuple[int, ...]) -> Tensor:
        """What the decoder takes: (*lead, channels, *grid), or flat where its target lies on no such grid."""
        if self.decoder.code_dims == 1:
            seen = seen.flatten(1)
        return seen.view(*lead, *seen.shape[1:])

    def _levels(self, codes: Codes, batch: int, condition: Tensor | None) -> tuple[Level, ...]:
        grids = tuple(level.codes.unflatten(0, (-1, batch)) for level in codes.levels)
        priors = self._priors(grids, condition)
        return tuple(
            Level(z, _posterior(z, level.log_q), prior)
            for z, level, prior in zip(grids, codes.levels, priors, strict=True)
        )

    def _priors(self, grids: tuple[Tensor, ...], condition: Tensor | None) -> tuple[Distribution, ...]:
        """p(codes of a level | those above, c) of codes (samples, batch, books, *grid)."""
        if self.code_prior is not None:
            return tuple(self.code_prior.distributions(grids, condition))
        uniform = Categorical(logits=torch.zeros(self.code_levels, device=grids[0].device), validate_args=False)
        return tuple(uniform.expand(torch.Size((1, 1, *sizes))) for sizes in self.code_shapes)

    def attach_prior(self, prior: CodePrior | None) -> None:
        """Let p(z) be a prior that was fitted to this model's codes; None: uniform again.

        A condition of the prior may be one that encoder and decoder are not told: `forward`, `levels` and `sample` then
        take it, and what has to do with x and its code only does without.

        Raises:
            ValueError: it is a prior of other codes, or told something else than the model is.
        """
        if prior is not None:
            mine, its = (f"codes {model.code_shapes} on {model.code_levels} levels" for model in (self, prior))
            if mine != its:
                raise ValueError(f"this prior is of {its}, the model has {mine}")
            if prior.condition_shape not in (None, self.condition_shape) and self.condition_shape is not None:
                raise ValueError(f"this prior is told {prior.condition_shape}, but the model {self.condition_shape}")
        self.code_prior = prior

    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The codes of each datum, (batch, latent) int64; of a quantiser that draws them the most probable ones.

        Raises:
            ValueError: x or condition have another shape than the model's.
        """
        return self.flat(self.codes(x, condition))

    def codes(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        """The codes as they lie: (batch, books, *grid) int64 of each level, the top first; see `encode`."""
        self._check_input(x)
        features = self._features(x, self._nets_told(condition, len(x)))
        return tuple(level.codes for level in self.quantiser(features, likeliest=True).levels)

    def grids(self, codes: Tensor) -> tuple[Tensor, ...]:
        """Flat codes (..., latent) as those of each level, (..., books, *grid), the top first."""
        return split_codes(codes, self.code_shapes)

    def flat(self, grids: Sequence[Tensor]) -> Tensor:
        """The reverse of `grids`: (..., latent)."""
        return flat_codes(grids, self.code_shapes)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Mean of p(x | z) or p(x | z, c), (..., *target_shape); of symbols the most probable one.

        A draw, without gradient, where the likelihood has no mean (see `EncoderDecoder.decode`).

        Args:
            z: codes, (..., latent), integers 0 .. K - 1 (of whatever type).
            condition: (*lead, *condition_shape), lead broadcastable to the leading dimensions of z.

        Raises:
            ValueError: the codes are of another number than the model's, not whole, or not below K; or the condition
                does not fit.
        """
        codes = self._whole(z)
        lead = codes.shape[:-1]
        seen = self.quantiser.embed(self.grids(codes.reshape(-1, self.latent)))
        return self._decoded(seen, lead, self._nets_told(condition, *lead, exact=False))

    def _decoded(self, seen: Tensor, lead: tuple[int, ...], condition: Tensor | None) -> Tensor:
        return self._shown(self.decoder(self._laid_out(seen, lead), condition))

    def _whole(self, z: Tensor) -> Tensor:
        """Codes (..., latent) as int64, checked."""
        if z.ndim == 0 or z.shape[-1] != self.latent:
            raise ValueError(f"codes should have {self.latent} numbers each, got shape {tuple(z.shape)}")
        codes = z.long()
        if z.is_floating_point() and not bool((codes == z).all()):
            raise ValueError("codes should be whole numbers: the code of a vqvae is integers")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.code_levels:
            raise ValueError(
                f"codes should be in 0 .. {self.code_levels - 1}, got {int(codes.min())} .. {int(codes.max())}"
            )
        return codes

    @torch.no_grad()
    def interpolate(
        self,
        start: Tensor,
        end: Tensor,
        steps: int = 9,
        path: Literal["linear", "spherical"] = "linear",
        condition: Tensor | None = None,
    ) -> Tensor:
        """Decoded walk between two data of shape (*shape,): (steps, *target_shape).

        It goes straight from the encoder's features of the one to those of the other, and what lies on the way is
        quantised: there is nothing between two codes.

        Raises:
            ValueError: the path is spherical, which is for codes that are normally distributed, or as `encode`.
        """
        if path == "spherical":
            raise ValueError("path spherical is for codes of a normal prior, which a vqvae has not: use linear")
        told = self._nets_told(condition)
        ends = torch.stack([start, end])
        self._check_input(ends)
        features = self._features(ends, None if told is None else told.expand(2, *told.shape))
        walk = path_between(features[0].flatten(), features[1].flatten(), steps, path)
        codes = self.quantiser(walk.unflatten(1, features.shape[1:]), likeliest=True)
        return self._decoded(codes.seen, (steps,), told)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        condition: Tensor | None = None,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """New data: decoded draws from the prior over codes, (n, *target_shape).

        Until a prior is learned codes are uniform, each for itself.

        Args:
            n: how many.
            temperature: logits of the learned prior are divided by it; below 1 codes are more typical and less varied.
            condition: of each, (n, *condition_shape), or one for all, (*condition_shape,); class labels may be int64,
                (n,), or one for all, (). It may be one that only the prior is told.
            top_k: of each code, only the k most probable values.
            top_p: of each code, only the most probable values that together have this probability.
            progress: of the draws from a learned prior; see `CodePrior.sample_codes`.

        Raises:
            TypeError: the condition is no tensor.
            ValueError: n, temperature, top_k or top_p is impossible, or has no meaning as there is no learned prior; or
                the condition does not fit.
        """
        if n < 1:
            raise ValueError(f"n should be at least 1, got {n}")
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature should be positive, got {temperature}")
        told, all_told = self._told(condition, n, exact=False)
        if self.code_prior is not None:
            how: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "progress": progress}
            return self.decode(self.code_prior.sample_codes(n, temperature, all_told, **how), told)
        if temperature != 1.0 or top_k is not None or top_p is not None:
            raise ValueError(
                "temperature, top_k and top_p are of a learned prior, but the codes of this model are uniform: train a "
                "prior first (jensen train prior)"
            )
        codes = torch.randint(self.code_levels, (n, self.latent), device=next(self.parameters()).device)
        return self.decode(codes, told)

    def report(
        self, output: Output, label: Tensor | None = None, condition: Tensor | None = None
    ) -> Mapping[str, Tensor]:
        """perplexity exp(entropy in nats) of the batch's codes, and codes_used, the share of the K that occur in it.

        Means over the books of a level; with two levels by name, perplexity_top, perplexity_bottom and so on.
        """
        values: dict[str, Tensor] = {}
        for name, level in zip(("_top", "_bottom") if len(output.levels) > 1 else ("",), output.levels, strict=True):
            shares = code_shares(level.z, self.code_levels)
            values[f"perplexity{name}"] = torch.special.entr(shares).sum(-1).exp().mean()
            values[f"codes_used{name}"] = (shares > 0).float().mean()
        return values

    def _nets(self) -> list[nn.Module]:
        return [*super()._nets(), *self.quantiser.nets()]

    def _nets_told(self, condition: Tensor | None, *lead: int | None, exact: bool = True) -> Tensor | None:
        """The condition, checked, as encoder and decoder are told it."""
        if self.condition_shape is None and self._prior_is_told():
            return None
        return self._condition(condition, *lead, exact=exact)

    def _told(
        self, condition: Tensor | None, *lead: int | None, exact: bool = True
    ) -> tuple[Tensor | None, Tensor | None]:
        """The condition, checked, as encoder and decoder are told it, and as the prior is."""
        told = self._nets_told(condition, *lead, exact=exact)
        if self.code_prior is None or not self._prior_is_told():
            return told, None
        return told, self.code_prior._condition(condition, *lead, exact=exact)

    def _prior_is_told(self) -> bool:
        return self.code_prior is not None and self.code_prior.condition_shape is not None


def _posterior(codes: Tensor, log_q: Tensor | None) -> Distribution:
    """q(code | x) of codes (samples, batch, books, *grid), from log q of (samples x batch, books, *grid, K)."""
    if log_q is None:
        return PointMass(codes)
    return Categorical(logits=log_q.unflatten(0, codes.shape[:2]), validate_args=False)
