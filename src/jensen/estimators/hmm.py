"""Bayesian hidden Markov models with the interface of scikit-learn: normal or categorical observations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.estimators.hmm_base import BayesianHMM
from jensen.estimators.sequence_input import as_sequences, as_symbols
from jensen.families import Dirichlet, ExponentialFamily
from jensen.inference import Result
from jensen.inference.models.hmm import CategoricalEmissions, GaussianEmissions, dirichlet_prior, expected_probabilities
from jensen.inference.models.mixture import mixture_prior
from jensen.inference.models.mixture_kernels import Covariance, Points
from jensen.inference.models.mixture_predictive import (
    components_from,
    expected_covariances,
    expected_means,
    mean_precisions_and_degrees,
    placed,
)
from jensen.inference.models.mixture_start import Init, initial_labels
from jensen.inference.models.sequences import Sequences

__all__ = ["BayesianCategoricalHMM", "BayesianGaussianHMM"]

Array = npt.NDArray[Any]
Family = ExponentialFamily[Any, Any, Any]


class BayesianGaussianHMM(BayesianHMM):
    """Hidden Markov model with normal observations, by variational inference.

    Args:
        n_states: K.
        covariance_type: of each state's observations: "full", "diag" (independent columns) or "spherical".
        initial_prior, transition_prior: concentrations of the Dirichlet priors, a number or an array (K,), (K, K);
            None: 1 / K, so that each row weighs as much as one observation.
        sticky: added to the concentration of staying in a state: states that last.
        mean_prior: of the states' means, (D,); None: the mean of the data.
        mean_precision: how many observations the prior mean is worth.
        degrees_of_freedom: how many observations `covariance_prior` is worth, above D - 1 for "full"; None: D.
        covariance_prior: inverse scale of the precisions' prior, so that their mean is degrees of freedom over this:
            (D, D) for full, (D,) for diagonal, a number for spherical covariances; None: the variances of the data's
            columns (1 for a constant one), for spherical ones their mean.
        init: "kmeans": states are clusters of the observations, wherever in time; "random": nearest of K random
            observations.
        method: "cavi", "natural" (steps of one half), or "svi" (minibatches of sequences).
        n_init: runs from different starts, of which the highest bound wins.
        tol, max_iter: stop when the bound changes relatively by less, or after so many sweeps (passes over the data).
        batch_size: sequences of a minibatch.
        chunk_size: sequences in memory at a time.
        decoding: what `predict` gives: the most probable path ("viterbi"), or states one by one ("marginal").
        random_state: seed of starts, minibatches and draws.

    Attributes:
        initial_, transitions_: posterior means (K,), (K, K).
        means_: posterior means (K, D).
        covariances_: inverses of the expected precisions, (K, D, D), (K, D) or (K,).
        mean_precision_, degrees_of_freedom_: how many observations each mean and covariance is worth, (K,).
        posterior_: "initial" and "transitions" (`Dirichlet`), "emissions" (`NormalWishart`, or `NormalGamma` a column
            or a state), in the coordinates of the data. Natural parameters hold squares of means, so that far from the
            origin they lose digits; the arrays above, and all methods, do not.
        centre_: (D,) what is subtracted from the data inside, so that products of columns keep their digits.

    See `VariationalEstimator` for the others. Observations of which some columns only are NaN are refused.
    """

    _extras: ClassVar[tuple[str, ...]] = (
        "means_",
        "covariances_",
        "mean_precision_",
        "degrees_of_freedom_",
        "centre_",
        "n_features_in_",
    )
    means_: Array
    covariances_: Array
    mean_precision_: Array
    degrees_of_freedom_: Array
    centre_: Array

    def __init__(
        self,
        n_states: int = 2,
        *,
        covariance_type: Covariance = "full",
        initial_prior: Any = None,
        transition_prior: Any = None,
        sticky: float = 0.0,
        mean_prior: Any = None,
        mean_precision: float = 1.0,
        degrees_of_freedom: float | None = None,
        covariance_prior: Any = None,
        init: Init = "kmeans",
        method: str = "cavi",
        n_init: int = 1,
        tol: float = 1e-8,
        max_iter: int = 1000,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        decoding: Literal["viterbi", "marginal"] = "viterbi",
        random_state: Any = None,
    ) -> None:
        self.n_states = n_states
        self.covariance_type = covariance_type
        self.initial_prior = initial_prior
        self.transition_prior = transition_prior
        self.sticky = sticky
        self.mean_prior = mean_prior
        self.mean_precision = mean_precision
        self.degrees_of_freedom = degrees_of_freedom
        self.covariance_prior = covariance_prior
        self.init = init
        self.method = method
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.decoding = decoding
        self.random_state = random_state

    def _check_arguments(self) -> None:
        super()._check_arguments()
        self._emissions()
        if self.init not in ("kmeans", "random"):
            raise ValueError(f"init must be 'kmeans' or 'random', got {self.init!r}")

    def _emissions(self) -> GaussianEmissions:
        return GaussianEmissions(self.covariance_type)

    def _read(self, X: Any, lengths: Any, *, reset: bool) -> Sequences:
        sequences = as_sequences(self, X, lengths, reset=reset)
        values = sequences.values
        missing = values.isnan()
        partly = (missing.any(1) & ~missing.all(1)).nonzero().flatten().tolist()
        if partly:
            raise ValueError(
                f"observation {partly[0]} is NaN in some columns only: a missing observation is NaN in all of them"
            )
        if reset:
            seen = values[~missing.any(1)]
            if not len(seen):
                raise ValueError("every observation is missing (NaN)")
            self.centre_ = seen.mean(0).numpy()
        return Sequences(values - torch.as_tensor(self.centre_), sequences.lengths)

    def _emission_prior(self, sequences: Sequences) -> Family:
        x = sequences.values[sequences.observed]
        dim = x.shape[1]
        variances = x.var(0, correction=0)
        variances = torch.where(variances > 0, variances, 1.0)
        default = {"full": variances.diag(), "diag": variances, "spherical": variances.mean()}[self.covariance_type]
        given = default if self.covariance_prior is None else torch.as_tensor(self.covariance_prior, dtype=x.dtype)
        if given.shape != default.shape:
            expected = f"{tuple(default.shape)} for covariance_type={self.covariance_type!r}"
            raise ValueError(f"covariance_prior must have shape {expected}, got {tuple(given.shape)}")
        mean = torch.as_tensor(self.centre_ if self.mean_prior is None else self.mean_prior, dtype=x.dtype)
        if mean.shape != (dim,):
            raise ValueError(f"mean_prior must have shape ({dim},), got {tuple(mean.shape)}")
        prior = mixture_prior(
            self.covariance_type,
            int(self.n_states),
            concentration=1.0,
            mean=mean - torch.as_tensor(self.centre_),
            mean_precision=self.mean_precision,
            degrees_of_freedom=float(dim) if self.degrees_of_freedom is None else self.degrees_of_freedom,
            covariance_prior=given,
        )
        return prior.components

    def _first_states(self, sequences: Sequences, seed: int) -> Tensor:
        x, k = sequences.values, int(self.n_states)
        seen = sequences.observed
        states = torch.full((len(x), k), 1 / k, dtype=x.dtype)
        labels = initial_labels(Points(x[seen], self.covariance_type), k, self.init, seed)
        states[seen] = torch.eye(k, dtype=x.dtype)[labels]
        return states

    def _keep(self, result: Result) -> None:
        """Set the arrays, and put the posterior into the coordinates of the data."""
        inner: Any = result.posterior["emissions"]
        self.means_ = (expected_means(self.covariance_type, inner).numpy()) + self.centre_
        self.covariances_ = expected_covariances(self.covariance_type, inner).numpy()
        kappa, nu = mean_precisions_and_degrees(self.covariance_type, inner)
        self.mean_precision_, self.degrees_of_freedom_ = kappa.numpy(), nu.numpy()
        here = placed(inner, torch.as_tensor(self.centre_), self._one())
        super()._keep(replace(result, posterior={**result.posterior, "emissions": here}))

    def _one(self) -> Tensor:
        return torch.ones(len(self.centre_), dtype=torch.float64)

    def _finish(self) -> None:
        """The emissions in centred coordinates, from the arrays, which have lost no digits."""
        super()._finish()
        self._inner = components_from(
            self.covariance_type,
            torch.as_tensor(self.means_ - self.centre_),
            torch.as_tensor(self.covariances_),
            torch.as_tensor(self.mean_precision_),
            torch.as_tensor(self.degrees_of_freedom_),
        )

    @property
    def _inner_emissions(self) -> Family:
        return self._inner

    def sample(self, n_steps: int = 1, random_state: int | np.random.RandomState | None = None) -> tuple[Array, Array]:
        """A new sequence (n_steps, D), and its path (n_steps,): parameters drawn from q, then the sequence.

        Args:
            random_state: default that of the estimator; the same whole number, the same sequence.
        """
        observations, path = super().sample(n_steps, random_state)
        return observations + self.centre_, path

    @property
    def _state_means(self) -> Array:
        return self.means_


class BayesianCategoricalHMM(BayesianHMM):
    """Hidden Markov model whose observations are symbols 0 .. V - 1, by variational inference.

    Args:
        n_states: K.
        n_symbols: V; None: one more than the largest symbol in the data.
        initial_prior, transition_prior: concentrations of the Dirichlet priors, a number or an array (K,), (K, K);
            None: 1 / K, so that each row weighs as much as one observation.
        sticky: added to the concentration of staying in a state: states that last.
        emission_prior: the same for symbols, a number or an array (V,) or (K, V); None: 1 / V.
        method: "cavi", "natural" (steps of one half), or "svi" (minibatches of sequences).
        n_init: runs from different random starts, of which the highest bound wins.
        tol, max_iter: stop when the bound changes relatively by less, or after so many sweeps (passes over the data).
        batch_size: sequences of a minibatch.
        chunk_size: sequences in memory at a time.
        decoding: what `predict` gives: the most probable path ("viterbi"), or states one by one ("marginal").
        random_state: seed of starts, minibatches and draws.

    A start divides each symbol at random among the states. An observation of NaN is missing.

    Attributes:
        initial_, transitions_, emissions_: posterior means (K,), (K, K), (K, V).
        posterior_: "initial", "transitions", "emissions", all `Dirichlet`.
        n_symbols_: V.

    See `VariationalEstimator` for the others.
    """

    _extras: ClassVar[tuple[str, ...]] = ("n_symbols_",)
    emissions_: Array
    n_symbols_: int

    def __init__(
        self,
        n_states: int = 2,
        *,
        n_symbols: int | None = None,
        initial_prior: Any = None,
        transition_prior: Any = None,
        sticky: float = 0.0,
        emission_prior: Any = None,
        method: str = "cavi",
        n_init: int = 1,
        tol: float = 1e-8,
        max_iter: int = 1000,
        batch_size: int | None = None,
        chunk_size: int | None = None,
        decoding: Literal["viterbi", "marginal"] = "viterbi",
        random_state: Any = None,
    ) -> None:
        self.n_states = n_states
        self.n_symbols = n_symbols
        self.initial_prior = initial_prior
        self.transition_prior = transition_prior
        self.sticky = sticky
        self.emission_prior = emission_prior
        self.method = method
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.chunk_size = chunk_size
        self.decoding = decoding
        self.random_state = random_state

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.n_symbols is not None and not (isinstance(self.n_symbols, int | np.integer) and self.n_symbols >= 1):
            raise ValueError(f"n_symbols must be a whole number of at least 1, or None, got {self.n_symbols!r}")

    def _emissions(self) -> CategoricalEmissions:
        return CategoricalEmissions()

    def _read(self, X: Any, lengths: Any, *, reset: bool) -> Sequences:
        sequences = as_symbols(X, lengths, self.n_symbols if reset else self.n_symbols_)
        if reset:
            self.n_symbols_ = int(sequences.values.max()) + 1 if self.n_symbols is None else int(self.n_symbols)
        return sequences

    def _emission_prior(self, sequences: Sequences) -> Family:
        return dirichlet_prior(int(self.n_states), self.n_symbols_, self.emission_prior, name="emission_prior")

    def _first_states(self, sequences: Sequences, seed: int) -> Tensor:
        k, symbols = int(self.n_states), sequences.values
        flat = Dirichlet.from_standard(torch.ones(self.n_symbols_, k, dtype=torch.float64))
        shares = flat.sample((), torch.Generator().manual_seed(seed))[symbols.clamp(min=0)]
        return torch.where((symbols < 0).unsqueeze(1), 1 / k, shares)

    def _finish(self) -> None:
        super()._finish()
        self.emissions_ = expected_probabilities(self.posterior_["emissions"]).numpy()

    @property
    def _state_means(self) -> Array:
        return self.emissions_
