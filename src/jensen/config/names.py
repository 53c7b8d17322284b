"""Names that several sections share, and numbers within bounds."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

DataTransform = Literal["auto", "none", "binarise", "binarise-static", "dequantise"]
Corruption = Literal["none", "gaussian", "salt-and-pepper", "masking", "blur"]
LikelihoodName = Literal[
    "auto",
    "bernoulli",
    "gaussian",
    "gaussian-learned",
    "gaussian-per-pixel",
    "gaussian-optimal",
    "laplace",
    "student-t",
    "continuous-bernoulli",
    "beta-binomial",
    "multinomial",
    "table",
    "discretised-logistic",
    "discretised-logistic-mixture",
    "categorical",
    "autoregressive",
]
NetKind = Literal["auto", "mlp", "conv", "resnet", "cells"]
ModelKind = Literal["vae", "autoencoder", "semi-supervised", "vqvae", "autoregressive", "hvae", "ladder", "nvae"]
ObjectiveKind = Literal[
    "elbo", "iwae", "beta", "capacity", "total-correlation", "factor", "dip", "free-bits", "balanced", "mmd"
]
Activation = Literal["relu", "leaky-relu", "elu", "gelu", "silu", "softplus", "tanh"]

DEEP: tuple[str, ...] = ("hvae", "ladder", "nvae")
"""Kinds of model that have several levels of latents."""
LIKELIHOODS: tuple[str, ...] = tuple(name for name in get_args(LikelihoodName) if name != "auto")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
