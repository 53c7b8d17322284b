"""Layers and networks."""

from __future__ import annotations

from jensen.nn.autoregressive import AutoregressiveNet, CodeTransformer, GatedPixelCNN, make_autoregressive
from jensen.nn.bayesian import BayesianConv2d, BayesianLinear
from jensen.nn.bayesian_network import BayesianElbo, bayesian_elbo, kl_divergence, posterior_mean
from jensen.nn.blocks import activation, halvings, norm1d, norm2d
from jensen.nn.build import Conditioning, make_decoder, make_encoder, net_kind
from jensen.nn.condition import Conditional, Film
from jensen.nn.conv import ConvDecoder, ConvEncoder
from jensen.nn.mlp import MLP
from jensen.nn.quantiser import (
    FiniteScalarQuantiser,
    GumbelQuantiser,
    Quantised,
    Quantiser,
    ResidualQuantiser,
    VectorQuantiser,
    make_quantiser,
)
from jensen.nn.resnet import ResidualBlock, ResnetDecoder, ResnetEncoder
from jensen.nn.spectral import SpectralNorms, batch_norm_scales
from jensen.nn.variational_dropout import VariationalDropout, VariationalDropoutLinear
from jensen.nn.weight_noise import BayesianLayer

__all__ = [
    "MLP",
    "AutoregressiveNet",
    "BayesianConv2d",
    "BayesianElbo",
    "BayesianLayer",
    "BayesianLinear",
    "CodeTransformer",
    "Conditional",
    "Conditioning",
    "ConvDecoder",
    "ConvEncoder",
    "Film",
    "FiniteScalarQuantiser",
    "GatedPixelCNN",
    "GumbelQuantiser",
    "Quantised",
    "Quantiser",
    "ResidualBlock",
    "ResidualQuantiser",
    "ResnetDecoder",
    "ResnetEncoder",
    "SpectralNorms",
    "VariationalDropout",
    "VariationalDropoutLinear",
    "VectorQuantiser",
    "activation",
    "batch_norm_scales",
    "bayesian_elbo",
    "halvings",
    "kl_divergence",
    "make_autoregressive",
    "make_decoder",
    "make_encoder",
    "make_quantiser",
    "net_kind",
    "norm1d",
    "norm2d",
    "posterior_mean",
]
