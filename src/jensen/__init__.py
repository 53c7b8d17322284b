"""Jensen: from variational inference to variational auto-encoders on one bound.

The names below are loaded when first used, so that `import jensen` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jensen.autoencoders import NVAE, VAE, VQVAE, AutoEncoder, HierarchicalVAE, LadderVAE
    from jensen.config import Config, Schedule
    from jensen.data import load_data
    from jensen.estimators import AutoEncoderEstimator, BayesianMixture, TopicModel, VAEEstimator
    from jensen.inference import ConjugateModel, Latent, Model, infer
    from jensen.metrics import evaluate
    from jensen.objectives import Elbo, Iwae
    from jensen.training import Run, fit, load, resume, save, train

__version__ = "0.1.0"

_HOMES = {
    "AutoEncoder": "autoencoders",
    "AutoEncoderEstimator": "estimators",
    "BayesianMixture": "estimators",
    "Config": "config",
    "ConjugateModel": "inference",
    "Elbo": "objectives",
    "HierarchicalVAE": "autoencoders",
    "Iwae": "objectives",
    "LadderVAE": "autoencoders",
    "Latent": "inference",
    "Model": "inference",
    "NVAE": "autoencoders",
    "Run": "training",
    "Schedule": "config",
    "TopicModel": "estimators",
    "VAE": "autoencoders",
    "VAEEstimator": "estimators",
    "VQVAE": "autoencoders",
    "evaluate": "metrics",
    "fit": "training",
    "infer": "inference",
    "load": "training",
    "load_data": "data",
    "resume": "training",
    "save": "training",
    "train": "training",
}

__all__ = [
    "NVAE",
    "VAE",
    "VQVAE",
    "AutoEncoder",
    "AutoEncoderEstimator",
    "BayesianMixture",
    "Config",
    "ConjugateModel",
    "Elbo",
    "HierarchicalVAE",
    "Iwae",
    "LadderVAE",
    "Latent",
    "Model",
    "Run",
    "Schedule",
    "TopicModel",
    "VAEEstimator",
    "evaluate",
    "fit",
    "infer",
    "load",
    "load_data",
    "resume",
    "save",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jensen' has no attribute {name!r}")
    return getattr(import_module(f"jensen.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
