"""What the hidden Markov models' scikit-learn faces share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from jensen.estimators.base import VariationalEstimator
from jensen.families import ExponentialFamily
from jensen.inference import Result, Svi
from jensen.inference.models.forward_backward import best_paths, forward_backward
from jensen.inference.models.hmm import (
    Emissions,
    dirichlet_prior,
    expected_probabilities,
    hidden_markov_model,
    posterior_of_states,
    random_starts,
)
from jensen.inference.models.sequences import Sequences

__all__ = ["BayesianHMM", "Forecast"]

Array = npt.NDArray[Any]
Family = ExponentialFamily[Any, Any, Any]


class Forecast(NamedTuple):
    """What comes after each of S sequences.

    Attributes:
        states: (S, K) probabilities of the state.
        mean: of the observation: (S, D), or (S, V) the probabilities of the symbols.
    """

    states: Array
    mean: Array


class BayesianHMM(VariationalEstimator):
    """What hidden Markov models share, whatever their observations.

    Data are one array of observations, with `lengths` of the sequences one after the other (as hmmlearn has it), or a
    list of one array, data frame or list of rows a sequence. Without lengths an array is one sequence. An observation
    may be missing: NaN.
    """

    n_states: int
    initial_prior: Any
    transition_prior: Any
    sticky: float
    decoding: str
    random_state: Any

    # --- what the observations decide ---------------------------------------------------------------------------------

    @abstractmethod
    def _emissions(self) -> Emissions:
        """What a state does to the observations."""

    @abstractmethod
    def _read(self, X: Any, lengths: Any, *, reset: bool) -> Sequences:
        """Checked data in the model's own coordinates; `reset`: learn from them what these are."""

    @abstractmethod
    def _emission_prior(self, sequences: Sequences) -> Family:
        """The prior of all states' emissions, a batch that leads with K."""

    @abstractmethod
    def _first_states(self, sequences: Sequences, seed: int) -> Tensor:
        """(N, K) probabilities of states to start from."""

    # --- fitting ------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, lengths: Any = None) -> Self:
        """Fit to sequences.

        Args:
            X: (N, D) observations (categorical: (N,) or (N, 1) symbols), or a list of such arrays, data frames or
                lists of rows, one a sequence; a list of plain lists of symbols must be one of arrays.
            y: ignored; there by convention.
            lengths: how many observations each sequence has; by name.

        Raises:
            ValueError: data or arguments that do not make sense; the message says which.
        """
        seed = self._seed()
        sequences = self._prepare(X, y, lengths)
        priors, emissions = self._priors(sequences), self._emissions()
        starts = random_starts(
            lambda s: posterior_of_states(priors, emissions, sequences, self._first_states(sequences, s))
        )
        self._svi: Svi | None = None
        self._infer(hidden_markov_model(priors, emissions, starts), sequences, seed=seed)
        return self

    def partial_fit(self, X: Any, y: Any = None, lengths: Any = None, *, total_sequences: int | None = None) -> Self:
        """Learn from some more sequences.

        Args:
            total_sequences: how many sequences the whole data have: then every batch takes a natural-gradient step in
                which it stands for all of them. None: an endless stream, in which the posterior so far is the prior of
                the next batch. What the first batch sets (centre, default priors, start) stays.
        """
        first = not hasattr(self, "posterior_")
        sequences = self._prepare(X, y, lengths, reset=first)
        svi: Svi | None = getattr(self, "_svi", None)
        if svi is None:
            emissions = self._emissions()
            if first:
                priors = self._priors(sequences)
                start = posterior_of_states(priors, emissions, sequences, self._first_states(sequences, self._seed()))
                self.elbo_trace_: list[float] = []
            else:  # after fit or load
                priors = start = {**self.posterior_, "emissions": self._inner_emissions}
            generator = Generator().manual_seed(self._seed())
            self._svi = svi = Svi(hidden_markov_model(priors, emissions, start), total_sequences, generator=generator)
        if svi.total_size != total_sequences:
            raise ValueError(
                f"total_sequences is {total_sequences}, but was {svi.total_size} at the first call: keep it"
            )
        elbo = svi.partial_fit(sequences)
        trace = [*self.elbo_trace_, elbo]
        self._keep(Result(svi.posterior, elbo, trace, False, "a stream has no end", svi.steps))
        return self

    def _prepare(self, X: Any, y: Any, lengths: Any, *, reset: bool = True) -> Sequences:
        if y is not None and np.shape(y)[:1] != np.shape(X)[:1]:
            raise ValueError("y is ignored and should have one value an observation; pass lengths by name: lengths=...")
        self._check_arguments()
        sequences = self._read(X, lengths, reset=reset)
        if reset and len(sequences.values) < self.n_states:
            raise ValueError(
                f"n_states={self.n_states} states need at least as many observations, got n_samples = "
                f"{len(sequences.values)}: choose fewer states"
            )
        return sequences

    def _check_arguments(self) -> None:
        if not (isinstance(self.n_states, int | np.integer) and self.n_states >= 1):
            raise ValueError(f"n_states must be a whole number of at least 1, got {self.n_states!r}")
        if self.decoding not in ("viterbi", "marginal"):
            raise ValueError(f"decoding must be 'viterbi' or 'marginal', got {self.decoding!r}")

    def _priors(self, sequences: Sequences) -> dict[str, Family]:
        k = int(self.n_states)
        return {
            "initial": dirichlet_prior(None, k, self.initial_prior, name="initial_prior"),
            "transitions": dirichlet_prior(k, k, self.transition_prior, self.sticky, name="transition_prior"),
            "emissions": self._emission_prior(sequences),
        }

    def _finish(self) -> None:
        self.initial_ = expected_probabilities(self.posterior_["initial"]).numpy()
        self.transitions_ = expected_probabilities(self.posterior_["transitions"]).numpy()

    @property
    def _inner_emissions(self) -> Family:
        """q of the emissions in the model's own coordinates."""
        return self.posterior_["emissions"]

    # --- predictions --------------------------------------------------------------------------------------------------

    def _arguments(self, X: Any, lengths: Any, *, predictive: bool) -> tuple[Tensor, Tensor, Tensor, Sequences]:
        """Those of a pass: the factors of q of a path, or those of the predictive density."""
        check_is_fitted(self, "posterior_")
        sequences = self._read(X, lengths, reset=False)
        initial, transitions, q = self.posterior_["initial"], self.posterior_["transitions"], self._inner_emissions
        if predictive:
            chain = (expected_probabilities(initial).log(), expected_probabilities(transitions).log())
            return self._emissions().log_predictive(q, sequences), *chain, sequences
        potentials = self._emissions().potentials(q.mean_parameters, sequences)
        return potentials, initial.mean_parameters.log, transitions.mean_parameters.log, sequences

    def predict(self, X: Any, lengths: Any = None) -> Array:
        """The state of every observation, (N,), under q of the path.

        `decoding="viterbi"`: the most probable path of each sequence; "marginal": the most probable state of each
        observation by itself.
        """
        arguments = self._arguments(X, lengths, predictive=False)
        if self.decoding == "viterbi":
            return best_paths(*arguments).numpy()
        return np.asarray(_smoothed(*arguments).numpy().argmax(1))

    def predict_proba(self, X: Any, lengths: Any = None) -> Array:
        """Probability of each state at every observation given its whole sequence, (N, K), under q of the path."""
        return _smoothed(*self._arguments(X, lengths, predictive=False)).numpy()

    def score_samples(self, X: Any, lengths: Any = None) -> Array:
        """log p(x_t | earlier observations of its sequence), (N,), nats: they add up to a sequence's log density.

        The density has the posterior means of the initial and transition probabilities, and for each state the
        posterior predictive density of one observation (Student's t; for symbols the mean). It is a density of
        sequences (it integrates to one), and that of a single observation is the posterior predictive exactly; for
        longer ones the exact average over q has no closed form. A missing observation counts 0.
        """
        arguments = self._arguments(X, lengths, predictive=True)
        found = forward_backward(*arguments, smooth=False)
        return found.log_steps.numpy()

    def score(self, X: Any, y: Any = None, lengths: Any = None) -> float:
        """Mean of `score_samples` over the observations that are not missing: nats an observation."""
        arguments = self._arguments(X, lengths, predictive=True)
        logs = forward_backward(*arguments, smooth=False).log_steps
        return float(logs.sum() / max(1, int(arguments[3].observed.sum())))

    def forecast(self, X: Any, lengths: Any = None, *, steps: int = 1) -> Forecast:
        """What is expected `steps` after the end of each sequence, by the predictive density of `score_samples`."""
        _check_count("steps", steps)
        arguments = self._arguments(X, lengths, predictive=True)
        filtered = forward_backward(*arguments, smooth=False).filtered
        last = arguments[3].starts + arguments[3].lengths - 1
        states = filtered[last].numpy() @ np.linalg.matrix_power(self.transitions_, steps)
        return Forecast(states, states @ self._state_means)

    @property
    @abstractmethod
    def _state_means(self) -> Array:
        """What is expected of an observation in each state, (K, D) or (K, V)."""

    def sample(self, n_steps: int = 1, random_state: int | np.random.RandomState | None = None) -> tuple[Array, Array]:
        """A new sequence of `n_steps` observations, and its path: parameters drawn from q, then the sequence.

        Args:
            random_state: default that of the estimator; the same whole number, the same sequence.
        """
        check_is_fitted(self, "posterior_")
        _check_count("n_steps", n_steps)
        state = check_random_state(self.random_state if random_state is None else random_state)
        generator = Generator().manual_seed(int(state.randint(2**31 - 1)))
        initial = self.posterior_["initial"].sample((), generator)
        transitions = self.posterior_["transitions"].sample((), generator)
        states = torch.empty(n_steps, dtype=torch.long)
        for step in range(n_steps):
            row = transitions[states[step - 1]] if step else initial
            states[step] = torch.multinomial(row, 1, generator=generator)
        return self._emissions().draw(self._inner_emissions, states, generator).numpy(), states.numpy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _check_count(name: str, value: Any) -> None:
    if not (isinstance(value, int | np.integer) and value >= 1):
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def _smoothed(potentials: Tensor, initial: Tensor, transitions: Tensor, sequences: Sequences) -> Tensor:
    marginals = forward_backward(potentials, initial, transitions, sequences).marginals
    assert marginals is not None
    return marginals
