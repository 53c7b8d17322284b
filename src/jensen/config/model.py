"""Model and family."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from jensen.config.codes import AutoregressiveConfig, QuantiserConfig
from jensen.config.names import DEEP, Activation, Count, LikelihoodName, ModelKind, NetKind, NonNegative, Positive
from jensen.config.scales import parse_scales
from jensen.sections import Section

__all__ = ["ModelConfig", "NetConfig"]

WITH_SIGMA = ("gaussian", "gaussian-learned", "laplace", "student-t", "table")
"""Likelihoods for which `sigma` means something."""


class NetConfig(Section):
    """Encoder and decoder networks."""

    kind: NetKind = Field(
        "auto",
        description="auto: conv for images of 32 pixels or more, mlp otherwise; nvae: cells, its residual cells",
    )
    width: Count | None = Field(
        None, description="units a layer (mlp: 400) or channels (conv: 32, resnet: 32; vqvae: 64)"
    )
    depth: Count | None = Field(
        None,
        description="hidden layers (mlp: 1), stride-2 layers (conv) or residual blocks (resnet: 1 a stage; vqvae: 2); "
        "of a level of hvae, ladder and nvae: layers (mlp: 2), blocks (conv: 1) or cells (2)",
    )
    activation: Activation = Field("relu", description="nonlinearity")
    normalisation: Literal["none", "batch", "group"] = Field(
        "none", description="after each hidden layer (group: layer normalisation for mlp)"
    )


class ModelConfig(Section):
    """The model p(x, z) and the family q(z | x)."""

    kind: ModelKind = Field(
        "vae",
        description="vae, a plain autoencoder, semi-supervised (a vae that guesses unknown labels), vqvae (codes are "
        "integers), autoregressive (no code: each value predicted from those before), or with several levels of "
        "latents hvae (the naive hierarchy), ladder (Ladder VAE) and nvae",
    )
    latent: Count = Field(16, description="dimension of the latent space")
    likelihood: LikelihoodName = Field(
        "auto", description="p(x | z); auto: bernoulli for images and yes/no targets, gaussian-learned for tables"
    )
    sigma: Positive = Field(
        1.0,
        description="standard deviation of the gaussian likelihood; where it is learned, as of laplace and "
        "student-t, the scale to start from",
    )
    conditioning: Literal["concat", "embedding", "film"] = Field(
        "concat",
        description="how a condition enters the nets: concat with their input, a learned embedding of it, or film "
        "(scale and shift of every hidden layer)",
    )
    prior: Literal["standard", "learned", "mixture", "vampprior"] = Field(
        "standard",
        description="p(z): standard normal; learned from the condition, p(z | c); a mixture of normals; or vampprior, "
        "the mean of q(z | u) over learned data u",
    )
    components: Count | None = Field(None, description="of prior mixture (10) or vampprior (500)")
    posterior: Literal["diagonal", "full"] = Field(
        "diagonal", description="q(z | x): independent latents, or normal with a full covariance"
    )
    classifier_weight: NonNegative = Field(
        1.0, description="semi-supervised: weight of -log q(y | x) of the known labels"
    )
    scales: tuple[str, ...] | None = Field(
        None,
        description="hvae, ladder, nvae: levels of latents, nearest the data first: LATENTS@WIDTH, or "
        "GROUPSxLATENTS@WIDTH; with convolutions each scale is half the size of the one before "
        "(mlp: 64@512,32@256,16@128,8@64,4@32; conv, cells: 2x8@32,2x16@64)",
    )
    stem: Count | None = Field(
        None, description="hvae, ladder, nvae: blocks a size between data and lowest level (as the depth of net)"
    )
    spectral: NonNegative = Field(
        0.0, description="hvae, ladder, nvae: weight of the layers' largest singular values, added to the loss"
    )
    downsampling: Count = Field(
        4, description="vqvae: a code stands for so many pixels a side (a power of 2); hvae, ladder, nvae: of level 1"
    )
    hierarchy: Literal[1, 2] = Field(
        1, description="vqvae: levels of codes; 2 adds codes of twice the size on top (VQ-VAE-2)"
    )
    quantiser: QuantiserConfig = QuantiserConfig()
    autoregressive: AutoregressiveConfig = AutoregressiveConfig()
    net: NetConfig = NetConfig()

    @model_validator(mode="after")
    def _discrete(self) -> Self:
        if self.kind != "vqvae":
            for name in ("hierarchy", "quantiser"):
                if getattr(self, name) != ModelConfig.model_fields[name].default:
                    raise ValueError(f"{name} is for model vqvae, not {self.kind}")
        if self.kind not in ("vqvae", *DEEP) and self.downsampling != 4:
            raise ValueError(f"downsampling is for model vqvae, hvae, ladder or nvae, not {self.kind}")
        if self.downsampling & (self.downsampling - 1):
            raise ValueError(f"downsampling should be a power of 2 (1, 2, 4, ...), got {self.downsampling}")
        own = self.kind == "autoregressive" or self.likelihood == "autoregressive"
        if not own and self.autoregressive != AutoregressiveConfig():
            raise ValueError(
                f"autoregressive is for model or likelihood autoregressive, not for model {self.kind} with "
                f"likelihood {self.likelihood}"
            )
        if self.kind in ("vqvae", "autoregressive"):
            if self.latent != 16:
                raise ValueError(f"latent has no meaning for model {self.kind}, whose code is no vector")
            if self.prior != "standard":
                raise ValueError(
                    f"prior has no meaning for model {self.kind}; `jensen train prior` learns the prior of a vqvae"
                )
        if self.kind == "autoregressive" and self.likelihood not in ("auto", "autoregressive"):
            raise ValueError(f"model autoregressive is a likelihood by itself: leave {self.likelihood} away")
        if self.kind == "autoregressive" and self.conditioning != "concat":
            raise ValueError(f"conditioning {self.conditioning} has no meaning for model autoregressive: use concat")
        if self.kind == "semi-supervised" and self.likelihood == "autoregressive":
            raise ValueError(
                "model semi-supervised decodes a mean over the classes, which likelihood autoregressive has not"
            )
        if self.kind == "autoregressive" and self.net != NetConfig():
            raise ValueError("net has no meaning for model autoregressive; see autoregressive.width and its like")
        if self.kind == "autoregressive" and self.sigma != 1.0:
            raise ValueError("sigma has no meaning for model autoregressive, whose values are on levels")
        return self

    @model_validator(mode="after")
    def _deep(self) -> Self:
        if self.kind not in DEEP:
            for name in ("scales", "stem", "spectral"):
                if getattr(self, name) != ModelConfig.model_fields[name].default:
                    raise ValueError(f"{name} is for models with several levels (hvae, ladder, nvae), not {self.kind}")
            if self.net.kind == "cells":
                raise ValueError(f"net cells is for models with several levels (hvae, ladder, nvae), not {self.kind}")
            return self
        if self.latent != 16:
            raise ValueError(f"latent has no meaning for model {self.kind}: scales say how many latents a level has")
        if self.prior != "standard":
            raise ValueError(f"prior has no meaning for model {self.kind}, whose prior is learned below the top level")
        if self.net.width is not None:
            raise ValueError(f"net.width has no meaning for model {self.kind}: scales say the width, LATENTS@WIDTH")
        if self.scales is not None:
            parse_scales(self.scales)
        return self

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kind == "autoencoder" and self.prior != "standard":
            raise ValueError("prior has no meaning for model autoencoder, which has none; use model vae")
        if self.kind != "vae" and (self.prior in ("mixture", "vampprior") or self.posterior != "diagonal"):
            what = "posterior full" if self.posterior != "diagonal" else f"prior {self.prior}"
            raise ValueError(f"{what} is for model vae, not {self.kind}")
        if self.components is not None and self.prior not in ("mixture", "vampprior"):
            raise ValueError(f"components is for prior mixture or vampprior, not {self.prior}")
        if self.kind != "semi-supervised" and self.classifier_weight != 1.0:
            raise ValueError(f"classifier_weight is for model semi-supervised, not {self.kind}")
        if self.sigma != 1.0 and self.likelihood not in ("auto", *WITH_SIGMA):
            most = ", ".join(WITH_SIGMA[:-1])
            raise ValueError(f"sigma has no meaning for likelihood {self.likelihood}; use {most} or {WITH_SIGMA[-1]}")
        return self
