"""The scikit-learn face of the variational auto-encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.distributions import Normal

from jensen.autoencoders import VAE, EncoderDecoder
from jensen.bound import Level, Output, importance_weighted_bound, log_weights
from jensen.config import ObjectiveConfig
from jensen.estimators.neural import NeuralEstimator
from jensen.objectives import Objective, make_objective

__all__ = ["VAEEstimator"]

Array = npt.NDArray[np.float64]


class VAEEstimator(NeuralEstimator):
    """A variational auto-encoder of rows (Kingma & Welling 2014): codes, densities and new rows, in scikit-learn.

    p(z) = N(0, I), p(x | z) and q(z | x) from fully connected networks, trained by `jensen.train` on the evidence lower
    bound. Rows are standardised inside, and all that comes out is in the columns' own units: densities too.

    Args:
        latent: dimension of the code.
        width: units of a hidden layer.
        depth: hidden layers of encoder and of decoder.
        likelihood: p(x | z): gaussian, gaussian-learned (one sigma, learned), gaussian-per-pixel (a sigma for each
            value, from the decoder), laplace or student-t for real numbers; bernoulli for 0 and 1 (of what lies between
            it is a cross-entropy and no density) or continuous-bernoulli for values in [0, 1]; table for columns with
            gaps (NaN), which are left out of p(x | z) and told to the encoder.
        objective: what is maximised, by the names of `jensen train`: elbo, beta, total-correlation, ...
        beta: weight of the KL (objective beta: 4), or of the total correlation.
        standardise: whether real columns are brought to mean 0 and standard deviation 1 first.
        epochs: passes over the training rows, at most.
        batch_size: rows of a step.
        lr: learning rate of Adam.
        validation: share of the rows that is held out to choose the best epoch.
        patience: stop after so many epochs without a better score of the held-out rows; None: never. Few rows of few
            columns may need dozens of epochs before the code is used at all.
        samples: draws of z a row in `score_samples`; 1: the ELBO.
        random_state: seed of weights, order and noise.
        accelerator: cpu, cuda, mps or auto, for training.
        verbose: a progress bar on stderr.

    Attributes: see `NeuralEstimator`.
    """

    _kind = VAE

    def __init__(
        self,
        latent: int = 8,
        *,
        width: int = 128,
        depth: int = 2,
        likelihood: str = "gaussian-learned",
        objective: str = "elbo",
        beta: float | None = None,
        standardise: bool = True,
        epochs: int = 200,
        batch_size: int = 64,
        lr: float = 1e-3,
        validation: float = 0.1,
        patience: int | None = None,
        samples: int = 100,
        random_state: int | np.random.RandomState | None = None,
        accelerator: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.latent = latent
        self.width = width
        self.depth = depth
        self.likelihood = likelihood
        self.objective = objective
        self.beta = beta
        self.standardise = standardise
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.validation = validation
        self.patience = patience
        self.samples = samples
        self.random_state = random_state
        self.accelerator = accelerator
        self.verbose = verbose

    def _objective(self) -> Objective:
        knobs: dict[str, Any] = {"kind": self.objective, "beta": self.beta}
        return make_objective(ObjectiveConfig(**knobs), self.latent)

    def score_samples(self, X: npt.ArrayLike) -> Array:
        """log p(x) of each row in nats, (N,), by importance sampling with `samples` draws from q(z | x).

        log 1/k sum_k p(x, z_k) / q(z_k | x) (Burda et al. 2016): too low by what k draws do not find, the ELBO for one
        draw. The noise behind the draws is the same for every row and every call (that of `seed_`), so a row's score
        depends on nothing but the row. Of a table with gaps, the density of what is known.
        """
        return super().score_samples(X)

    def _asked(self, X: npt.ArrayLike) -> tuple[EncoderDecoder, Iterator[Tensor]]:
        if self.samples < 1:
            raise ValueError(f"samples should be at least 1, got {self.samples}")
        return super()._asked(X)

    def _log_density(self, model: VAE, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed_)
        noise = torch.randn(self.samples, 1, model.latent, dtype=x.dtype, generator=generator)
        q = model.posterior(x)
        assert isinstance(q, Normal)  # of a model with the usual posterior
        posterior = Normal(q.loc[None], q.scale[None], validate_args=False)
        z = posterior.loc + posterior.scale * noise
        known = ~x.isnan()[None] if self.likelihood == "table" else None
        output = Output(x[None], model.decoder(z), (Level(z, posterior, model.prior()),), mask=known)
        return importance_weighted_bound(log_weights(output))

    def _numbers_a_row(self) -> int:
        return self.samples * super()._numbers_a_row()

    @torch.no_grad()
    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Array:
        """New rows (n_samples, D) in own units: z from the prior, x from p(x | z), noise included.

        Args:
            n_samples: how many.
            random_state: default that of the estimator.
        """
        check_is_fitted(self, "model_")
        if n_samples < 1:
            raise ValueError(f"n_samples should be at least 1, got {n_samples}")
        state = check_random_state(self.random_state if random_state is None else random_state)
        model = self._exact()
        with self._noise(int(state.randint(2**31 - 1))):
            z = torch.randn(n_samples, model.latent, dtype=torch.float64)
            return np.concatenate([self._own(model.decoder(part).sample()) for part in self._pieces(z)])
