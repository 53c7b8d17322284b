"""What the factorisations share: ratings as users give them, batches of users, predictions for pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from jensen.errors import NonFiniteError
from jensen.estimators.base import VariationalEstimator
from jensen.inference import ConjugateModel, Result, State, Svi
from jensen.inference.models.factorisation_predictive import PairMoments
from jensen.inference.models.ratings import Ratings, as_ratings, is_triples

__all__ = ["Factorisation", "positive"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_USERS = 4096
"""whose factors are in memory at a time"""


class Factorisation(ClassNamePrefixFeaturesOutMixin, TransformerMixin, VariationalEstimator):  # type: ignore[misc]
    """A model of ratings r_ij from factors of users i and items j."""

    _counts: ClassVar[bool]
    n_factors: int
    total_size: int | None
    n_users: int | None
    n_items: int | None
    _stream: Svi | None

    # --- learning ---------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to ratings.

        Args:
            X: users by items as a SciPy sparse matrix or an array (see the class for what is observed of it), or a
                tuple of three arrays (users, items, values), users and items numbered from 0. A list of three rows is
                three users.
            y: ignored.

        Raises:
            ValueError: NaN or infinity in a sparse matrix, numbers that are no counts, pairs twice, nothing observed.
        """
        ratings = self._begin(X)
        self._stream, before = None, getattr(self, "posterior_", None)
        try:
            self._fit(ratings, self._seed())
        except (KeyboardInterrupt, NonFiniteError):  # what was reached is kept, and predictions need the users too
            posterior = getattr(self, "posterior_", None)
            if posterior is not None and posterior is not before and "users" not in posterior:
                self._keep_users(ratings)
            raise
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from a batch of users: a step of stochastic inference, or of Bayesian updating without `total_size`.

        Users are not kept: `transform` and `complete` find the factors of any from their ratings. Every batch needs the
        same items; the first one sets default priors and the start, unless `fit` or `load` came before: then learning
        goes on from that posterior, with the priors and the offset it had, and the users it was fitted to count as
        seen. (With `total_size` they should be among those it counts.) `elbo_trace_` gets an estimate a batch.

        Raises:
            ValueError: as `fit`; or other items or another `n_factors` than before.
        """
        stream: Svi | None = getattr(self, "_stream", None)
        before: list[float] = []
        if stream is None and not hasattr(self, "posterior_"):
            ratings = self._begin(X)
            generator = torch.Generator().manual_seed(self._seed())
            stream = Svi(self._model(generator), self.total_size, generator=generator)
        else:
            ratings = self._ratings(X)
            before = [] if "users" in self.posterior_ else self.elbo_trace_
            stream = self._resumed(len(ratings)) if stream is None else stream
        elbo = stream.partial_fit(ratings)
        self._stream, self.n_users_ = stream, 0
        self._keep(Result(stream.posterior, elbo, [*before, elbo], False, "a stream has no end", stream.steps))
        return self

    def _resumed(self, rows: int) -> Svi:
        """A stream that goes on from the posterior: what it has seen counts as batches of so many rows."""
        self._check_arguments()
        fitted = self.item_factors_.shape[1]
        if self.n_factors != fitted:
            raise ValueError(f"n_factors is {self.n_factors}, but the posterior to go on from has {fitted} factors")
        stream = Svi(self._fitted_model(), self.total_size, start=self._state())
        users = self.posterior_.get("users")
        stream.steps = max(1, self.n_iter_ if users is None else round(users.batch_shape[0] / rows))
        return stream

    def _state(self) -> State:
        """q of all that users share."""
        return State(q={name: q for name, q in self.posterior_.items() if name != "users"})

    def _begin(self, X: Any) -> Ratings:
        """Check everything, choose the priors."""
        self._check_arguments()
        ratings = self._ratings(X, reset=True)
        self.n_users_, self.n_features_in_ = ratings.matrix.shape
        self._choose_priors(ratings)
        return ratings

    def _check_arguments(self) -> None:
        for name in ("n_factors", "n_init", "max_iter", "batch_size", "total_size", "n_users", "n_items"):
            value = getattr(self, name)
            optional = name not in ("n_factors", "n_init", "max_iter")
            if not (optional and value is None) and not (isinstance(value, Integral) and int(value) >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1{', or None' * optional}; got {value!r}")

    @abstractmethod
    def _choose_priors(self, ratings: Ratings) -> None:
        """Priors, and what else the model needs of the data."""

    @abstractmethod
    def _model(self, generator: torch.Generator) -> ConjugateModel:
        """The model with its start."""

    @abstractmethod
    def _fitted_model(self) -> ConjugateModel:
        """The model that starts from the posterior."""

    item_factors_: Array

    @abstractmethod
    def _fit(self, ratings: Ratings, seed: int) -> None:
        """Infer from all users, and keep them."""

    @abstractmethod
    def _users(self, ratings: Ratings) -> Any:
        """q of these users' factors, the items as fitted."""

    @abstractmethod
    def _pairs(self, users: Any, items: Tensor) -> PairMoments:
        """What is expected of pairs of these users (one q a pair) and items."""

    def _keep_with_users(self, result: Result, ratings: Ratings) -> None:
        """Keep a result, and the q of all users with it."""
        self._keep(result)
        self._keep_users(ratings, result.local.get("users"))

    def _keep_users(self, ratings: Ratings, users: Any = None) -> None:
        """Add q of all users to what is kept; None: the one that the items ask for."""
        if users is None:
            parts = [self._users(part) for part in _parts(ratings)]
            fields = zip(*(part.natural_parameters for part in parts), strict=True)
            users = type(parts[0])(type(parts[0]).Natural(*(torch.cat(field) for field in fields)))
        fit = self.elbo_, self.elbo_trace_, self.converged_, self.stop_reason_, self.n_iter_
        self._keep(Result({**self.posterior_, "users": users}, *fit))

    # --- what was learned -------------------------------------------------------------------------------------------

    def predict(self, pairs: Any, *, return_std: bool = False) -> Any:
        """Expected rating (or count) of each pair of a user and an item that `fit` knew, (n,).

        A user or an item without ratings has the prior's factors: what is left are biases (or popularity).

        Args:
            pairs: (n, 2) whole numbers, or two arrays (users, items).
            return_std: also the posterior standard deviation of that expectation, without a rating's own noise.

        Raises:
            ValueError: an unknown user or item; what an unknown user likes needs ratings: see `complete`.
        """
        users, items = self._known(pairs)
        moments = self._pairs(self._fitted_users()[users], items)
        mean: Array = moments.mean.numpy()
        return (mean, moments.variance.sqrt().numpy()) if return_std else mean

    def recommend(self, user: int, n: int = 10, *, seen: Any = None) -> tuple[npt.NDArray[np.int64], Array]:
        """The n items that a user is expected to rate highest, best first, and what is expected of them.

        Args:
            seen: items to leave out: their numbers (a list, an array or a set), a boolean mask of all items, or the
                ratings as given to `fit`, of which the user's are taken.

        Raises:
            ValueError: an unknown user, or `seen` is nothing of that or has an unknown item.
        """
        check_is_fitted(self, "posterior_")
        if not isinstance(user, int | np.integer):
            raise ValueError(f"user must be a whole number, got {user!r}")
        if not (isinstance(n, int | np.integer) and n >= 1):
            raise ValueError(f"n must be a whole number, at least 1; got {n!r}")
        expected = self.predict((np.full(int(self.n_features_in_), user), np.arange(int(self.n_features_in_))))
        if seen is not None:
            expected = expected.copy()
            expected[self._seen(seen, user)] = -np.inf
        best = np.argsort(-expected, kind="stable")[:n]
        best = best[np.isfinite(expected[best])]
        return best, expected[best]

    def _seen(self, seen: Any, user: int) -> Integers:
        """The numbers of the items that `seen` names, checked."""
        if sp.issparse(seen) or is_triples(seen) or np.ndim(seen) == 2:
            rated: Integers = self._held_out(seen, empty=True).matrix[user].indices
            return rated
        limit = int(self.n_features_in_)
        items = np.asarray(list(seen) if isinstance(seen, set | frozenset) else seen)
        if items.dtype.kind == "b" and items.shape == (limit,):
            return np.flatnonzero(items)
        if items.ndim != 1 or not (items.dtype.kind in "iu" or items.size == 0):
            raise ValueError(
                f"seen must be numbers of items, a boolean mask of all {limit} items, or ratings as given to fit; got "
                f"{items.dtype} of shape {items.shape}"
            )
        wrong = (items < 0) | (items >= limit)
        if wrong.any():
            raise ValueError(f"unknown item {items[wrong][0]} in seen: fit knew items 0 to {limit - 1}")
        return items.astype(np.int64)

    def transform(self, X: Any) -> Array:
        """Posterior means of the factors of users given their ratings, (users, K); the items stay as fitted."""
        check_is_fitted(self, "posterior_")
        parts = [self._user_factors(self._users(part)) for part in _parts(self._ratings(X, empty=True))]
        return np.concatenate(parts)

    def complete(self, X: Any) -> Array:
        """Expected rating (or count) of every item by users, new ones too, given their ratings: (users, items).

        Users without ratings have the prior's factors: what is expected of them are biases (or popularity).
        """
        check_is_fitted(self, "posterior_")
        parts = _parts(self._ratings(X, empty=True))
        return np.concatenate([self._expected(self._users(part)).numpy() for part in parts])

    @abstractmethod
    def _expected(self, users: Any) -> Tensor:
        """Expected ratings of these users, (users, items)."""

    @abstractmethod
    def _user_factors(self, users: Any) -> Array:
        """Their posterior means, (users, K)."""

    # --- what is given ----------------------------------------------------------------------------------------------

    @property
    def _n_features_out(self) -> int:
        return self.n_factors

    def _fitted_users(self) -> Any:
        check_is_fitted(self, "posterior_")
        if "users" not in self.posterior_:
            raise ValueError("partial_fit keeps no users: call complete or transform with their ratings")
        return self.posterior_["users"]

    def _known(self, pairs: Any) -> tuple[Tensor, Tensor]:
        """Users and items of pairs, checked."""
        known = self._fitted_users().batch_shape[0], int(self.n_features_in_)
        columns = pairs if isinstance(pairs, tuple) else np.asarray(pairs).T
        if len(columns) != 2 or any(np.ndim(c) != 1 for c in columns) or len(columns[0]) != len(columns[1]):
            raise ValueError("pairs must be (n, 2), or two arrays of as many users and items")
        checked = []
        for name, column, limit in zip(("user", "item"), columns, known, strict=True):
            numbers = np.asarray(column)
            if numbers.dtype.kind not in "iu":
                raise ValueError(f"{name}s must be whole numbers, got {numbers.dtype}")
            wrong = (numbers < 0) | (numbers >= limit)
            if wrong.any():
                raise ValueError(f"unknown {name} {numbers[wrong][0]}: fit knew {name}s 0 to {limit - 1}")
            checked.append(torch.from_numpy(numbers.astype(np.int64)))
        return checked[0], checked[1]

    def _ratings(self, X: Any, *, reset: bool = False, empty: bool = False) -> Ratings:
        if not is_triples(X):
            formats: dict[str, Any] = {"accept_sparse": ("csr", "csc", "coo"), "ensure_all_finite": False}
            X = validate_data(self, X, reset=reset, dtype=np.float64, **formats)
        n_items = self.n_items if reset else int(self.n_features_in_)
        fractional = bool(getattr(self, "fractional", False))
        options: dict[str, Any] = {"counts": self._counts, "fractional": fractional, "empty": empty}
        return as_ratings(X, n_users=self.n_users if reset else None, n_items=n_items, **options)

    def _held_out(self, X: Any, *, empty: bool = False) -> Ratings:
        """Ratings of the users that `fit` knew, row i those of user i."""
        known = self._fitted_users().batch_shape[0]
        ratings = self._ratings(X, empty=empty)
        if len(ratings) > known or (len(ratings) < known and not is_triples(X)):
            raise ValueError(
                f"X has {len(ratings)} users, but fit knew {known}: row i must hold ratings of the user i that fit "
                "knew. Hold out ratings and not users (cross_val_score would hold out users), or give a tuple of "
                "triples (users, items, values); what other users like is what complete says"
            )
        if len(ratings) == known:
            return ratings
        matrix = ratings.matrix.copy()
        matrix.resize(known, matrix.shape[1])
        return Ratings(matrix)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = not self._counts
        tags.input_tags.positive_only = self._counts
        return tags


def _parts(ratings: Ratings) -> Iterator[Ratings]:
    return (ratings[begin : begin + _USERS] for begin in range(0, len(ratings), _USERS))


def positive(name: str, value: Any) -> float:
    """A positive finite number; raises ValueError."""
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return float(value)
