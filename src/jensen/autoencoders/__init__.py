"""Auto-encoders and variational auto-encoders."""

from __future__ import annotations

from jensen.autoencoders.autoencoder import AutoEncoder
from jensen.autoencoders.base import Decoder, EncoderDecoder, path_between
from jensen.autoencoders.build import make_model, resolve
from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.density import AutoregressiveModel
from jensen.autoencoders.model import NeuralModel
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.autoencoders.vae import VAE, DiagonalGaussian
from jensen.autoencoders.vqvae import VQVAE

__all__ = [
    "VAE",
    "VQVAE",
    "AutoEncoder",
    "AutoregressiveModel",
    "CodePrior",
    "Decoder",
    "DiagonalGaussian",
    "EncoderDecoder",
    "NeuralModel",
    "SemiSupervisedVAE",
    "make_model",
    "path_between",
    "resolve",
]
