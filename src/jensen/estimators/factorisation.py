"""The scikit-learn faces of Bayesian matrix factorisation of sparse ratings and counts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.estimators.factorisation_base import Factorisation, positive
from jensen.families import Gamma, MultivariateNormal
from jensen.inference import ConjugateModel, Result, State
from jensen.inference.models.factorisation import (
    GaussianPriors,
    PoissonPriors,
    PoissonStart,
    climb_ratings,
    fold_in,
    gaussian_model,
    gaussian_start,
    poisson_model,
    users_of,
)
from jensen.inference.models.factorisation_predictive import (
    PairMoments,
    gaussian_log_density,
    gaussian_pairs,
    poisson_log_likelihood,
    poisson_pairs,
)
from jensen.inference.models.ratings import Ratings

__all__ = ["GaussianFactorisation", "PoissonFactorisation"]

Array = npt.NDArray[np.float64]

_WARM_UP = 5
"""sweeps before relevance determination may switch a factor off"""


class GaussianFactorisation(Factorisation):
    """Ratings as offset + user's bias + item's bias + user's factors . item's factors + normal noise.

    All have normal priors and multivariate normal posteriors (Lim & Teh 2007), with Gamma posteriors of the noise
    precision and of the precisions of biases and of each factor: factors that the ratings do not need are switched off,
    so `n_factors` is an upper limit. Work and memory go with the number of ratings: no users x items array is made.

    Observed are the stored entries of a sparse matrix (a stored zero is a rating of 0), the entries of a dense array
    that are not NaN, or the given tuple of triples. A pair rated twice is an error. The offset is the mean rating, and
    not learned.

    Args:
        n_factors: K.
        rotation: after each sweep of "cavi", rotate the factors and move their means to where the bound is highest
            (Luttinen & Ilin 2010); False: hundreds of sweeps instead of tens.
        prior_concentration, prior_rate: of the Gamma priors of all precisions; default rate: the concentration times
            the variance of the ratings.
        method: "cavi", "svi" (minibatches of `batch_size` users), "natural" or "gradient".
        tol: stop when a sweep (a pass) changes the ELBO (its estimate) by less than tol x |ELBO|.
        max_iter: sweeps, or passes over the users.
        n_init: random starts; the fit with the highest ELBO is kept.
        batch_size: users of a minibatch.
        total_size: users of the whole stream that `partial_fit` sees; None: an endless one, where the posterior of what
            was seen is the prior of the next batch.
        n_users, n_items: where triples do not have the last ones; default the largest number + 1.
        random_state: seed of starts and minibatches.

    Attributes:
        posterior_: "items" (J multivariate normals of dimension K), "item_bias" (normals), "users" (multivariate
            normals of dimension K + 1, the bias last), "noise", "ard", "user_precision", "item_precision" (gammas).
        user_factors_, user_bias_, item_factors_, item_bias_: posterior means, most relevant factor first.
        offset_: the mean rating.
        noise_variance_: 1 / E[noise precision].
        relevance_: variance of a rating that each factor makes, sum_k E[v_jk^2] / J, (K,).
        elbo_, elbo_trace_, converged_, stop_reason_, n_iter_, n_features_in_: as in `VariationalEstimator`.
    """

    _counts = False
    _extras: ClassVar[tuple[str, ...]] = ("offset_", "_variance", "n_features_in_")

    def __init__(
        self,
        n_factors: int = 10,
        *,
        rotation: bool = True,
        prior_concentration: float = 1e-3,
        prior_rate: float | None = None,
        method: str = "cavi",
        tol: float = 1e-6,
        max_iter: int = 500,
        n_init: int = 1,
        batch_size: int | None = None,
        total_size: int | None = None,
        n_users: int | None = None,
        n_items: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_factors = n_factors
        self.rotation = rotation
        self.prior_concentration = prior_concentration
        self.prior_rate = prior_rate
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.batch_size = batch_size
        self.total_size = total_size
        self.n_users = n_users
        self.n_items = n_items
        self.random_state = random_state

    def _choose_priors(self, ratings: Ratings) -> None:
        self.offset_ = float(ratings.values.mean())
        self._variance = float(ratings.values.var(correction=0)) or 1.0
        self._begin_priors()

    def _begin_priors(self) -> None:
        """Priors from arguments and `_variance`."""
        concentration = positive("prior_concentration", self.prior_concentration)
        rate = concentration * self._variance if self.prior_rate is None else positive("prior_rate", self.prior_rate)
        one = Gamma.from_standard(concentration, rate)
        self._priors = GaussianPriors(one, one.expand((self.n_factors,)), one, one)

    def _start(self, generator: torch.Generator) -> State:
        return gaussian_start(self._priors, int(self.n_features_in_), self._variance, generator)

    def _model(self, generator: torch.Generator) -> ConjugateModel:
        return gaussian_model(self._priors, self._start(generator), self.offset_)

    def _fitted_model(self) -> ConjugateModel:
        return gaussian_model(self._priors, self._state(), self.offset_)

    def _fit(self, ratings: Ratings, seed: int) -> None:
        generators = [torch.Generator().manual_seed(seed + run) for run in range(self.n_init)]
        if self.method != "cavi":
            results = [self._infer(self._model(g), ratings, seed=g.initial_seed(), n_init=1) for g in generators]
            self._keep_with_users(max(results, key=lambda result: result.elbo), ratings)
            return
        if self.batch_size is not None:
            raise ValueError("method='cavi' takes all data at once: batch_size is for method='svi'")
        options: dict[str, Any] = {"tol": self.tol, "max_steps": self.max_iter, "rotation": self.rotation}

        def run(generator: torch.Generator, callback: Any) -> Result:
            start = self._start(generator)
            more = {"warm_up": _WARM_UP, "callback": callback}
            return climb_ratings(self._priors, start, ratings, self.offset_, **options, **more)

        self._keep_with_users(self._climb(partial(run, g) for g in generators), ratings)

    def _users(self, ratings: Ratings) -> MultivariateNormal:
        return users_of(self._state(), ratings, self.offset_)

    def _pairs(self, users: Any, items: Tensor) -> PairMoments:
        q: Any = self.posterior_
        return gaussian_pairs(users, q["items"][items], q["item_bias"][items], self.offset_)

    def _expected(self, users: Any) -> Tensor:
        loc = users.standard_parameters.loc
        own = torch.as_tensor(self.item_factors_), torch.as_tensor(self.item_bias_)
        expected: Tensor = self.offset_ + loc[:, :-1] @ own[0].mT + loc[:, -1:] + own[1]
        return expected

    def _user_factors(self, users: Any) -> Array:
        factors: Array = users.standard_parameters.loc[:, :-1].numpy()
        return factors

    def _keep(self, result: Result) -> None:
        """Most relevant factor first."""
        q: Any = dict(result.posterior)
        squares = q["items"].mean_parameters.outer.diagonal(dim1=-2, dim2=-1).sum(0)
        order = torch.argsort(squares, descending=True, stable=True)
        if "users" not in q:
            linear, precision = q["items"].natural_parameters
            q["items"] = MultivariateNormal(q["items"].Natural(linear[:, order], precision[:, order][:, :, order]))
            q["ard"] = q["ard"][order]
        super()._keep(replace(result, posterior=q))

    def _finish(self) -> None:
        q: Any = self.posterior_
        self._begin_priors()
        self.item_factors_ = q["items"].mean_parameters.mean.numpy().copy()
        self.item_bias_: Array = q["item_bias"].mean_parameters.mean.numpy().copy()
        self.relevance_: Array = q["items"].mean_parameters.outer.diagonal(dim1=-2, dim2=-1).mean(0).numpy()
        self.noise_variance_ = 1 / float(q["noise"].mean_parameters.mean)
        if "users" in q:
            loc = q["users"].standard_parameters.loc.numpy()
            self.user_factors_, self.user_bias_ = loc[:, :-1].copy(), loc[:, -1].copy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log predictive density of held-out ratings of known users, nats a rating.

        Normal with the posterior mean of the expected rating, and its variance plus 1 / E[noise precision].

        Args:
            X: ratings as for `fit`, row i those of the same user i; so hold out ratings, and not users.

        Raises:
            ValueError: a matrix with another number of users than fitted, unknown users or items, no rating.
        """
        ratings = self._held_out(X)
        moments = self._pairs(self._fitted_users()[ratings.users], ratings.items)
        noise: Any = self.posterior_["noise"]
        return float(gaussian_log_density(moments, noise, ratings.values).mean())

    def rmse(self, X: Any) -> float:
        """Root mean squared error of predictions of held-out ratings of known users; X as for `score`."""
        ratings = self._held_out(X)
        error = self._pairs(self._fitted_users()[ratings.users], ratings.items).mean - ratings.values
        return float(error.square().mean().sqrt())


class PoissonFactorisation(Factorisation):
    """Counts as Poisson draws around user's factors . item's factors, all factors positive (Gopalan et al. 2015).

    Factors have Gamma priors, by default with a Gamma rate of each user's (activity) and item's (popularity) own. Which
    factor each count is due to is maximised out. All pairs take part: one that is not given is a count of zero, and
    costs nothing, as the total expected count is a product of sums. So work and memory go with the number of positive
    counts. A pair given twice counts with its sum.

    Args:
        n_factors: K.
        user_shape, item_shape: of the factors' Gamma priors; below 1 they make factors sparse.
        rate_shape: of the Gamma priors of users' and items' rates, whose mean is `user_rate` and `item_rate`; None:
            rates are those numbers.
        user_rate: rate of users' factors.
        item_rate: rate of items' factors; default where the prior's mean count is the data's.
        fractional: accept counts that are no whole numbers (weights); the score is no probability then.
        method: "cavi", "svi" (minibatches of `batch_size` users), "natural" or "gradient".
        tol, max_iter, n_init, batch_size, total_size, n_users, n_items, random_state: as in `GaussianFactorisation`.

    Attributes:
        posterior_: "users" (U, K), "items" (J, K), and with `rate_shape` "popularity" (J,): gammas.
        user_factors_, item_factors_: posterior means; the factor with the largest expected total of counts first.
        relevance_: share of the expected total that each factor makes, (K,); for `partial_fit` of the items' mass.
        elbo_, elbo_trace_, converged_, stop_reason_, n_iter_, n_features_in_: as in `VariationalEstimator`.
    """

    _counts = True
    _extras: ClassVar[tuple[str, ...]] = ("_rates", "n_features_in_")

    def __init__(
        self,
        n_factors: int = 10,
        *,
        user_shape: float = 0.3,
        item_shape: float = 0.3,
        rate_shape: float | None = 1.0,
        user_rate: float = 1.0,
        item_rate: float | None = None,
        fractional: bool = False,
        method: str = "cavi",
        tol: float = 1e-6,
        max_iter: int = 500,
        n_init: int = 1,
        batch_size: int | None = None,
        total_size: int | None = None,
        n_users: int | None = None,
        n_items: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_factors = n_factors
        self.user_shape = user_shape
        self.item_shape = item_shape
        self.rate_shape = rate_shape
        self.user_rate = user_rate
        self.item_rate = item_rate
        self.fractional = fractional
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.batch_size = batch_size
        self.total_size = total_size
        self.n_users = n_users
        self.n_items = n_items
        self.random_state = random_state

    def _choose_priors(self, ratings: Ratings) -> None:
        shapes = positive("user_shape", self.user_shape), positive("item_shape", self.item_shape)
        if len(ratings.values) == 0:
            raise ValueError("X has no positive count")
        self._item_means = torch.from_numpy(np.asarray(ratings.matrix.mean(0)).ravel())
        user_rate = positive("user_rate", self.user_rate)
        mean = float(self._item_means.mean())
        matched = self.n_factors * shapes[0] * shapes[1] / (user_rate * mean)
        self._rates = np.array(
            [user_rate, matched if self.item_rate is None else positive("item_rate", self.item_rate), mean]
        )
        if self.rate_shape is not None:
            positive("rate_shape", self.rate_shape)
        self._begin_priors()

    def _begin_priors(self) -> None:
        """Priors from arguments and `_rates`."""
        rates: list[Any] = [float(rate) for rate in self._rates[:2]]
        if self.rate_shape is not None:
            rates = [Gamma.from_standard(self.rate_shape, self.rate_shape / rate) for rate in rates]
        self._priors = PoissonPriors(self.user_shape, self.item_shape, *rates)

    def _model(self, generator: torch.Generator | None = None) -> ConjugateModel:
        start = PoissonStart(self._priors, self._item_means, self.n_factors)
        return poisson_model(self._priors, start.items, start.users, int(self.n_features_in_))

    def _fit(self, ratings: Ratings, seed: int) -> None:
        result = self._infer(self._model(), ratings, seed=seed)
        self._keep_with_users(result, ratings)

    def _fitted_model(self) -> ConjugateModel:
        q: Any = self.posterior_
        # the fitted items are all that users see of the others
        means = q["items"].mean_parameters.mean.sum(1)
        start = PoissonStart(self._priors, means * float(self._rates[2]) / means.mean(), self.n_factors)
        return poisson_model(self._priors, q["items"], start.users, len(means))

    def _users(self, ratings: Ratings) -> Gamma:
        return fold_in(self._fitted_model(), self._state(), ratings)

    def _pairs(self, users: Any, items: Tensor) -> PairMoments:
        q: Any = self.posterior_
        return poisson_pairs(users, q["items"][items])

    def _expected(self, users: Any) -> Tensor:
        expected: Tensor = users.mean_parameters.mean @ torch.as_tensor(self.item_factors_).mT
        return expected

    def _user_factors(self, users: Any) -> Array:
        factors: Array = users.mean_parameters.mean.numpy()
        return factors

    def _keep(self, result: Result) -> None:
        """Largest factor first."""
        q: Any = dict(result.posterior)
        if "users" in q:
            mass = q["users"].mean_parameters.mean.sum(0) * q["items"].mean_parameters.mean.sum(0)
            order = torch.argsort(mass, descending=True, stable=True)
            q["users"], q["items"] = q["users"][:, order], q["items"][:, order]
        super()._keep(replace(result, posterior=q))

    def _finish(self) -> None:
        q: Any = self.posterior_
        self._begin_priors()
        self.item_factors_ = q["items"].mean_parameters.mean.numpy().copy()
        mass = self.item_factors_.sum(0)
        if "users" in q:
            self.user_factors_: Array = q["users"].mean_parameters.mean.numpy().copy()
            mass = mass * self.user_factors_.sum(0)
        self.relevance_: Array = mass / mass.sum()

    def score(self, X: Any, y: Any = None, *, exposure: float = 1.0) -> float:
        """Mean log likelihood of counts of known users, all items counted, at the expected rates; nats a user.

        Args:
            X: counts of the users that `fit` knew, row i those of user i; so hold out counts, and not users. Of
                triples, users that have none count with zeros.
            exposure: rates are multiplied by it. Counts split at random (each token held out with probability h) are
                independent Poisson counts: their exposure is h / (1 - h).

        Raises:
            ValueError: a matrix with another number of users than fitted, unknown users or items, no counts.
        """
        exposure = positive("exposure", exposure)
        counts = self._held_out(X, empty=True)
        users: Any = self._fitted_users()
        items: Any = self.posterior_["items"]
        return float(poisson_log_likelihood(users, items, counts, exposure).mean())
