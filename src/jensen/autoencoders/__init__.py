"""Auto-encoders and variational auto-encoders."""

from __future__ import annotations

from jensen.autoencoders.autoencoder import AutoEncoder
from jensen.autoencoders.base import Decoder, EncoderDecoder, path_between
from jensen.autoencoders.build import make_model, resolve
from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.density import AutoregressiveModel
from jensen.autoencoders.hierarchy import DeepVAE
from jensen.autoencoders.hvae import HierarchicalVAE
from jensen.autoencoders.ladder import LadderVAE, precision_weighted
from jensen.autoencoders.model import NeuralModel
from jensen.autoencoders.nvae import NVAE, residual_normal
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.autoencoders.vae import VAE, DiagonalGaussian
from jensen.autoencoders.vqvae import VQVAE

__all__ = [
    "NVAE",
    "VAE",
    "VQVAE",
    "AutoEncoder",
    "AutoregressiveModel",
    "CodePrior",
    "Decoder",
    "DeepVAE",
    "DiagonalGaussian",
    "EncoderDecoder",
    "HierarchicalVAE",
    "LadderVAE",
    "NeuralModel",
    "SemiSupervisedVAE",
    "make_model",
    "path_between",
    "precision_weighted",
    "residual_normal",
    "resolve",
]
