"""The scikit-learn face of the plain auto-encoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from jensen.autoencoders import AutoEncoder
from jensen.bound import Output
from jensen.estimators.neural import NeuralEstimator

__all__ = ["AutoEncoderEstimator"]

Array = npt.NDArray[np.float64]


class AutoEncoderEstimator(NeuralEstimator):
    """A plain auto-encoder of rows: principal components that are not linear. For densities, use `VAEEstimator`.

    Trained by `jensen.train` on log p(x | z = f(x)), which for likelihood gaussian-learned is the squared error weighed
    by the noise that there is. Arguments and attributes are those of `VAEEstimator`, which explains them.
    """

    _kind = AutoEncoder

    def __init__(
        self,
        latent: int = 8,
        *,
        width: int = 128,
        depth: int = 2,
        likelihood: str = "gaussian-learned",
        standardise: bool = True,
        epochs: int = 200,
        batch_size: int = 64,
        lr: float = 1e-3,
        validation: float = 0.1,
        patience: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        accelerator: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.latent = latent
        self.width = width
        self.depth = depth
        self.likelihood = likelihood
        self.standardise = standardise
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation = validation
        self.patience = patience
        self.random_state = random_state
        self.accelerator = accelerator
        self.verbose = verbose

    def score_samples(self, X: npt.ArrayLike) -> Array:
        """log p(x | z) of each row at its own code z = f(x), in nats, (N,): how well it is reconstructed.

        The log-likelihood of the reconstruction, for a gaussian one the squared error in disguise. It is no density of
        rows: a code that keeps everything gives every row a high one, and the higher the larger the code. Compare rows
        by it (anomalies score low), not models with codes of different size.
        """
        return super().score_samples(X)

    def _log_density(self, model: AutoEncoder, x: Tensor) -> Tensor:
        output: Output = model(x, mask=~x.isnan() if self.likelihood == "table" else None)
        return output.log_likelihood()[0]
