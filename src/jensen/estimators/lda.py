"""The scikit-learn face of latent Dirichlet allocation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Generator, Tensor

from jensen.estimators.base import Callback, VariationalEstimator
from jensen.families import Dirichlet, ExponentialFamily
from jensen.inference import Adaptive, Result, RobbinsMonro
from jensen.inference.models.documents import Documents, split_documents
from jensen.inference.models.lda import LocalStep, TopicSvi, fit_cavi, fit_svi
from jensen.inference.models.lda_scores import coherence, completion, infer_proportions, top_words
from jensen.inference.models.lda_start import random_topics, seeded_topics

__all__ = ["TopicModel"]

Array = npt.NDArray[np.float64]


class TopicModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, VariationalEstimator):  # type: ignore[misc]
    """Latent Dirichlet allocation of documents given as word counts (Blei et al. 2003; Hoffman et al. 2010, 2013).

    `X` is a document by word matrix of whole counts, SciPy sparse or an array. A document without words has the prior's
    proportions and a bound of 0; a word that training never saw has the prior's probability in every topic.

    Args:
        n_topics: K.
        alpha: prior concentration of a document's proportions, a number or one for each topic; default 1 / K.
        eta: prior concentration of a topic's words; default 1 / K.
        learn_alpha: None, "symmetric" (one number) or "asymmetric": climb the same bound in alpha.
        method: "cavi" (whole data) or "svi" (minibatches).
        tol: stop when a sweep (a pass) changes the ELBO (its estimate) by less than tol x |ELBO|.
        max_iter: sweeps, or passes over the data.
        batch_size: documents of a minibatch.
        tau, kappa: step size (t + tau)^-kappa; tau >= 1, 0.5 < kappa <= 1.
        step: "robbins-monro" as above, or "adaptive" (Ranganath et al. 2013; looks at all words at each step).
        local_tol: a document's proportions are found when a step changes their concentrations by less on average
            (scikit-learn's mean_change_tol, gensim's gamma_threshold).
        local_max_iter: such steps at most while fitting; every second one is followed by an extrapolation. 40 find as
            good topics as 100 at K = 200 on the Associated Press articles, 20 do not. What
            is fitted is used with 100 at least.
        total_size: documents of the whole corpus that `partial_fit` sees; None: an endless stream, where the posterior
            of what was seen is the prior of the next batch.
        init: "random" (Gamma(100, 1 / 100)) or "documents" (that, and the words of a few random documents a topic).
        n_init: starts; the one with the highest ELBO is kept.
        dtype: "float64", or "float32": two to three times faster, the ELBO to about seven digits.
        fractional: accept counts that are no whole numbers: weighted tokens.
        random_state: seed of starts, minibatches and samples.

    Attributes:
        posterior_: {"topics": Dirichlet (K, V)}.
        components_: its concentrations, (K, V).
        topics_: the posterior means of the topics, (K, V); rows sum to one.
        alpha_: (K,).
        elbo_, elbo_trace_: nats, of the documents as sequences of words (no multinomial coefficients). With method
            "svi" the trace are estimates; after `partial_fit`, `elbo_` estimates from the last batch.
        converged_, stop_reason_, n_iter_, n_features_in_: as in `VariationalEstimator`.
    """

    _extras: ClassVar[tuple[str, ...]] = ("alpha_", "n_features_in_")
    alpha_: Array
    _fitted: dict[str, Any]

    def __init__(
        self,
        n_topics: int = 10,
        *,
        alpha: float | npt.ArrayLike | None = None,
        eta: float | None = None,
        learn_alpha: Literal["symmetric", "asymmetric"] | None = None,
        method: Literal["cavi", "svi"] = "cavi",
        tol: float = 1e-5,
        max_iter: int = 100,
        batch_size: int = 256,
        tau: float = 10.0,
        kappa: float = 0.7,
        step: Literal["robbins-monro", "adaptive"] = "robbins-monro",
        local_tol: float = 1e-3,
        local_max_iter: int = 40,
        total_size: int | None = None,
        init: Literal["random", "documents"] = "random",
        n_init: int = 1,
        dtype: Literal["float64", "float32"] = "float64",
        fractional: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_topics = n_topics
        self.alpha = alpha
        self.eta = eta
        self.learn_alpha = learn_alpha
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.tau = tau
        self.kappa = kappa
        self.step = step
        self.local_tol = local_tol
        self.local_max_iter = local_max_iter
        self.total_size = total_size
        self.init = init
        self.n_init = n_init
        self.dtype = dtype
        self.fractional = fractional
        self.random_state = random_state

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to the documents of `X` (D, V).

        Args:
            y: ignored.

        Raises:
            ValueError: NaN, negative or fractional counts (document and word are named), an argument out of range.
        """
        self._check_arguments()
        documents = self._documents(X, reset=True)
        self._online: TopicSvi | None = None
        generator = Generator().manual_seed(self._seed())
        runs = (partial(self._run, documents, generator) for _ in range(self.n_init))
        self._climb(runs, warn=self.method == "cavi")
        return self

    def _run(self, documents: Documents, generator: Generator, callback: Callback) -> Result:
        """One fit from one start."""
        start, alpha = self._start(documents, generator), self._alpha()
        options: Any = {"tol": self.tol, "max_steps": self.max_iter, "callback": callback}
        if self.method == "cavi":
            local, prior = self._local(), self._prior(documents.vocabulary)
            return fit_cavi(documents, start, prior, alpha, local=local, learn_alpha=self.learn_alpha, **options)
        svi = self._stochastic(start, alpha, len(documents))
        return fit_svi(svi, documents, batch_size=self.batch_size, generator=generator, **options)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from a batch of a stream: a step of stochastic inference, or Bayesian updating without `total_size`.

        The first batch (unless `fit` came before) sets the start, so it should be large and typical.
        """
        first = not hasattr(self, "n_iter_")
        if first:
            self._check_arguments()
        documents = self._documents(X, reset=first)
        if first:
            generator = Generator().manual_seed(self._seed())
            scale = 1.0 if self.total_size is None else self.total_size / len(documents)
            start, alpha = self._start(documents, generator, scale), self._alpha()
        if self.total_size is None:
            prior = self._prior(documents.vocabulary) if first else self._topics()
            options: Any = {"local": self._local(), "tol": self.tol, "max_steps": self.max_iter}
            begin, alpha = (start, alpha) if first else (prior, torch.as_tensor(self.alpha_))
            result = fit_cavi(documents, begin, prior, alpha, learn_alpha=self.learn_alpha, **options)
            result.steps += 0 if first else self.n_iter_
            self._keep(result)
            return self
        if getattr(self, "_online", None) is None:
            begin, alpha = (start, alpha) if first else (self._topics(), torch.as_tensor(self.alpha_))
            self._online = self._stochastic(begin, alpha, self.total_size)
        assert self._online is not None
        self._online.partial_fit(documents)
        self.n_iter_, self.converged_, self.stop_reason_ = self._online.steps, False, "a stream has no end"
        self.alpha_, self.elbo_trace_ = self._online.alpha.numpy(), []
        self._fitted = {}  # it follows when it is asked for
        return self

    def _check_arguments(self) -> None:
        for name, choices in (
            ("method", ("cavi", "svi")),
            ("learn_alpha", (None, "symmetric", "asymmetric")),
            ("init", ("documents", "random")),
            ("dtype", ("float64", "float32")),
            ("step", ("robbins-monro", "adaptive")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {getattr(self, name)!r}")
        for name in ("n_topics", "max_iter", "batch_size", "local_max_iter", "n_init", "total_size"):
            value = getattr(self, name)
            if not (name == "total_size" and value is None) and not (value >= 1 and value == int(value)):
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        for name in ("tol", "local_tol"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)!r}")
        if self.eta is not None and not 0 < self.eta < math.inf:
            raise ValueError(f"eta must be positive, got {self.eta!r}")
        RobbinsMonro(self.tau, self.kappa)
        self._alpha()

    def _alpha(self) -> Tensor:
        alpha = np.asarray(1 / self.n_topics if self.alpha is None else self.alpha, dtype=np.float64)
        if alpha.shape not in ((), (self.n_topics,)) or not (np.isfinite(alpha).all() and (alpha > 0).all()):
            raise ValueError(
                f"alpha must be positive, one number or one for each of {self.n_topics} topics, got {alpha}"
            )
        return torch.from_numpy(np.broadcast_to(alpha, (self.n_topics,)).copy())

    def _eta(self) -> float:
        return 1 / self.n_topics if self.eta is None else float(self.eta)

    def _prior(self, vocabulary: int) -> Dirichlet:
        return Dirichlet.from_standard(torch.full((vocabulary,), self._eta(), dtype=torch.float64))

    def _start(self, documents: Documents, generator: Generator, scale: float = 1.0) -> Dirichlet:
        if self.init == "random":
            return random_topics(self.n_topics, documents.vocabulary, generator)
        return seeded_topics(documents, self.n_topics, self._eta(), generator, scale=scale)

    def _local(self, least: int = 1) -> LocalStep:
        return LocalStep(self.local_tol, max(least, self.local_max_iter))

    def _stochastic(self, start: Dirichlet, alpha: Tensor, total_size: int) -> TopicSvi:
        rho = RobbinsMonro(self.tau, self.kappa) if self.step == "robbins-monro" else Adaptive()
        precision = getattr(torch, self.dtype)
        return TopicSvi(
            start,
            self._eta(),
            alpha,
            total_size,
            rho,
            local=self._local(),
            learn_alpha=self.learn_alpha,
            dtype=precision,
        )

    # --- what was learned: after `partial_fit`, computed only when asked for ------------------------------------------

    def _keep(self, result: Result) -> None:
        self._fitted = {}
        self.alpha_ = result.parameters["alpha"].numpy()
        super()._keep(result)

    def _topics(self) -> Dirichlet:
        topics = self.posterior_["topics"]
        assert isinstance(topics, Dirichlet)
        return topics

    @property
    def posterior_(self) -> Mapping[str, ExponentialFamily[Any, Any, Any]]:
        fitted: dict[str, Any] = self.__dict__.get("_fitted", {})
        if "posterior" not in fitted:
            if (svi := self.__dict__.get("_online")) is None:
                raise AttributeError("not fitted yet: call fit or partial_fit")
            fitted["posterior"] = {"topics": svi.topics.posterior()}
        return dict(fitted["posterior"])

    @posterior_.setter
    def posterior_(self, value: Mapping[str, ExponentialFamily[Any, Any, Any]]) -> None:
        self.__dict__.setdefault("_fitted", {})["posterior"] = dict(value)

    @property
    def elbo_(self) -> float:
        """The ELBO, nats; after `partial_fit` an estimate from the last batch."""
        topics = self._topics()
        if "elbo" not in self._fitted:
            prior = self._prior(topics.event_shape[0]).expand(topics.batch_shape)
            assert self._online is not None
            self._fitted["elbo"] = self._online.last_bound() - float(topics.kl_divergence(prior).sum())
        return float(self._fitted["elbo"])

    @elbo_.setter
    def elbo_(self, value: float) -> None:
        self._fitted["elbo"] = value

    @property
    def components_(self) -> Array:
        """Concentrations of the topics, (K, V)."""
        return np.asarray(self._topics().standard_parameters.concentration)

    @property
    def topics_(self) -> Array:
        """Posterior means of the topics, (K, V)."""
        rows = self.components_
        return np.asarray(rows / rows.sum(1, keepdims=True))

    @property
    def _n_features_out(self) -> int:
        return self.n_topics

    # --- using it ---------------------------------------------------------------------------------------------------

    def _proportions(self, X: Any) -> tuple[Documents, Dirichlet, Tensor]:
        check_is_fitted(self, "n_iter_")
        documents = self._documents(X, reset=False)
        return documents, *infer_proportions(documents, self._topics(), torch.as_tensor(self.alpha_), self._local(100))

    def transform(self, X: Any) -> Array:
        """Posterior means of the documents' topic proportions, (D, K); rows sum to one."""
        concentration = self._proportions(X)[1].standard_parameters.concentration
        return np.asarray(concentration / concentration.sum(1, keepdim=True))

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Each document's largest topic, (D,)."""
        return np.asarray(self.transform(X).argmax(1))

    def score_samples(self, X: Any) -> Array:
        """A bound on each document's log-probability given what was learned, nats, (D,)."""
        return np.asarray(self._proportions(X)[2])

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, nats a document."""
        return float(self.score_samples(X).mean())

    def perplexity(self, X: Any) -> float:
        """exp(-bound a token), of these documents alone.

        scikit-learn's `perplexity` also counts the divergence of the topics from their prior, spread over the tokens of
        X, so that it depends on how many documents it is asked about; this one does not.
        """
        documents, _, bounds = self._proportions(X)
        tokens = float(documents.counts.sum())
        if tokens == 0:
            raise ValueError("perplexity needs at least one word")
        return math.exp(-float(bounds.sum()) / tokens)

    def completion_score(self, X: Any, random_state: int | np.random.RandomState | None = None) -> float:
        """Mean log-probability of a word given the other half of its document's words, nats (document completion).

        Args:
            random_state: of the split into halves; default that of the estimator.
        """
        check_is_fitted(self, "n_iter_")
        observed, held_out = split_documents(self._documents(X, reset=False), self._generator(random_state))
        return completion(observed, held_out, self._topics(), torch.as_tensor(self.alpha_), self._local(100))

    def top_words(self, vocabulary: Sequence[str] | None = None, n_words: int = 10) -> list[list[str]]:
        """Each topic's most probable words; `vocabulary` names them (default: the feature names of `fit`)."""
        check_is_fitted(self, "n_iter_")
        names = getattr(self, "feature_names_in_", None) if vocabulary is None else vocabulary
        size = self._topics().event_shape[0]
        if names is not None and len(names) != size:
            raise ValueError(f"the model knows {size} words, vocabulary has {len(names)}")
        found = top_words(self._topics(), n_words)
        return [[str(word) if names is None else str(names[word]) for word in row] for row in found.tolist()]

    def coherence(self, X: Any, n_words: int = 10) -> Array:
        """NPMI of each topic's top words over the documents of X, from -1 to 1, (K,)."""
        check_is_fitted(self, "n_iter_")
        return coherence(self._documents(X, reset=False), top_words(self._topics(), n_words))

    def sample(
        self, n_documents: int = 1, length: int = 100, random_state: int | np.random.RandomState | None = None
    ) -> tuple[sp.csr_matrix, Array]:
        """New documents (n, V) of `length` words each, and their topic proportions (n, K).

        Topics are drawn once from the posterior, proportions from their prior.
        """
        check_is_fitted(self, "n_iter_")
        if n_documents < 1 or length < 1:
            raise ValueError(f"n_documents and length must be at least 1, got {n_documents} and {length}")
        generator = self._generator(random_state)
        topics = self._topics().sample(generator=generator)
        theta = Dirichlet.from_standard(torch.as_tensor(self.alpha_)).sample((n_documents,), generator=generator)
        rows = []
        for proportions in theta:
            words = torch.multinomial(proportions @ topics, length, replacement=True, generator=generator)
            rows.append(sp.csr_matrix(np.bincount(words.numpy(), minlength=topics.shape[1])[None]))
        return sp.vstack(rows, format="csr"), theta.numpy()

    def _generator(self, random_state: Any) -> Generator:
        state = check_random_state(self.random_state if random_state is None else random_state)
        return Generator().manual_seed(int(state.randint(2**31 - 1)))

    def _documents(self, X: Any, *, reset: bool) -> Documents:
        if not reset and sp.issparse(X) and X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} words, but the model knows {self.n_features_in_}")
        X = validate_data(self, X, accept_sparse="csr", dtype="numeric", ensure_all_finite=False, reset=reset)
        return Documents.from_matrix(X, dtype=getattr(torch, self.dtype), fractional=self.fractional)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags
