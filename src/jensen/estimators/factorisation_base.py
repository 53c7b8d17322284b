"""What the factorisations share: ratings as users give them, batches of users, predictions for pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from jensen.estimators.base import VariationalEstimator
from jensen.inference import ConjugateModel, Result, Svi
from jensen.inference.models.factorisation_predictive import PairMoments
from jensen.inference.models.ratings import Ratings, as_ratings

__all__ = ["Factorisation", "positive"]

Array = npt.NDArray[np.float64]

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
            X: users by items as a SciPy sparse matrix or an array (see the class for what is observed of it), or three
                arrays (users, items, values), users and items numbered from 0.
            y: ignored.

        Raises:
            ValueError: NaN or infinity in a sparse matrix, numbers that are no counts, pairs twice, nothing observed.
        """
        ratings = self._begin(X)
        self._stream = None
        self._fit(ratings, self._seed())
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from a batch of users: a step of stochastic inference, or of Bayesian updating without `total_size`.

        Users are not kept: `transform` and `complete` find the factors of any from their ratings. Every batch needs the
        same items; the first one sets default priors and the start. `elbo_trace_` gets an estimate a batch.
        """
        stream = getattr(self, "_stream", None)
        if stream is None:
            ratings = self._begin(X)
            generator = torch.Generator().manual_seed(self._seed())
            stream = self._stream = Svi(self._model(generator), self.total_size, generator=generator)
            self.elbo_trace_ = []
        else:
            ratings = self._ratings(X)
        elbo = stream.partial_fit(ratings)
        trace = [*self.elbo_trace_, elbo]
        self.n_users_ = 0
        self._keep(Result(stream.posterior, elbo, trace, False, "a stream has no end", stream.steps))
        return self

    def _begin(self, X: Any) -> Ratings:
        """Check everything, choose the priors."""
        for name in ("n_factors", "n_init", "max_iter", "batch_size", "total_size", "n_users", "n_items"):
            value = getattr(self, name)
            optional = name not in ("n_factors", "n_init", "max_iter")
            if not (optional and value is None) and not (isinstance(value, Integral) and int(value) >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1{', or None' * optional}; got {value!r}")
        ratings = self._ratings(X, reset=True)
        self.n_users_, self.n_features_in_ = ratings.matrix.shape
        self._choose_priors(ratings)
        return ratings

    @abstractmethod
    def _choose_priors(self, ratings: Ratings) -> None:
        """Priors, and what else the model needs of the data."""

    @abstractmethod
    def _model(self, generator: torch.Generator) -> ConjugateModel:
        """The model with its start."""

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
        users = result.local.get("users")
        if users is None:
            parts = [self._users(part) for part in _parts(ratings)]
            fields = zip(*(part.natural_parameters for part in parts), strict=True)
            users = type(parts[0])(type(parts[0]).Natural(*(torch.cat(field) for field in fields)))
        self._keep(replace(result, posterior={**self.posterior_, "users": users}))

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
            seen: items to leave out: their numbers, or the ratings as given to `fit`, of which the user's are taken.
        """
        if not (isinstance(n, int | np.integer) and n >= 1):
            raise ValueError(f"n must be a whole number, at least 1; got {n!r}")
        expected = self.predict((np.full(int(self.n_features_in_), user), np.arange(int(self.n_features_in_))))
        if seen is not None:
            alone = np.ndim(seen) == 1 and not isinstance(seen, tuple)
            known = seen if alone else self._ratings(seen).matrix[user].indices
            expected = expected.copy()
            expected[np.asarray(known, dtype=np.int64)] = -np.inf
        best = np.argsort(-expected, kind="stable")[:n]
        best = best[np.isfinite(expected[best])]
        return best, expected[best]

    def transform(self, X: Any) -> Array:
        """Posterior means of the factors of users given their ratings, (users, K); the items stay as fitted."""
        check_is_fitted(self, "posterior_")
        parts = [self._user_factors(self._users(part)) for part in _parts(self._ratings(X))]
        return np.concatenate(parts)

    def complete(self, X: Any) -> Array:
        """Expected rating (or count) of every item by users, new ones too, given their ratings: (users, items)."""
        check_is_fitted(self, "posterior_")
        return np.concatenate([self._expected(self._users(part)).numpy() for part in _parts(self._ratings(X))])

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

    def _ratings(self, X: Any, *, reset: bool = False) -> Ratings:
        if not (isinstance(X, tuple | list) and len(X) == 3 and all(np.ndim(part) == 1 for part in X)):
            formats: dict[str, Any] = {"accept_sparse": ("csr", "csc", "coo"), "ensure_all_finite": False}
            X = validate_data(self, X, reset=reset, dtype=np.float64, **formats)
        n_items = self.n_items if reset else int(self.n_features_in_)
        fractional = bool(getattr(self, "fractional", False))
        return as_ratings(
            X, counts=self._counts, fractional=fractional, n_users=self.n_users if reset else None, n_items=n_items
        )

    def _held_out(self, X: Any) -> Ratings:
        """Ratings of the users that `fit` knew."""
        known = self._fitted_users().batch_shape[0]
        ratings = self._ratings(X)
        if len(ratings) > known:
            raise ValueError(
                f"X has {len(ratings)} users, but fit knew {known}: a score is of known users' other ratings"
            )
        return ratings

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
