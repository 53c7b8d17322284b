"""Auto-encoders and variational auto-encoders."""

from __future__ import annotations

from jensen.autoencoders.autoencoder import AutoEncoder
from jensen.autoencoders.base import Decoder, EncoderDecoder, path_between
from jensen.autoencoders.build import make_model, resolve
from jensen.autoencoders.semi_supervised import SemiSupervisedVAE
from jensen.autoencoders.vae import VAE, DiagonalGaussian

__all__ = [
    "VAE",
    "AutoEncoder",
    "Decoder",
    "DiagonalGaussian",
    "EncoderDecoder",
    "SemiSupervisedVAE",
    "make_model",
    "path_between",
    "resolve",
]
