"""Matrix factorisation of sparse ratings: Gaussian with biases, and Poisson; users are local, items global latents.

Gaussian:  r_ij ~ N(offset + a_i + b_j + u_i . v_j, 1 / tau) at observed pairs,  u_ik ~ N(0, 1),  v_jk ~ N(0, 1 /
           alpha_k), a_i ~ N(0, 1 / lambda_a),  b_j ~ N(0, 1 / lambda_b),  Gamma priors on all precisions
           (Lim & Teh 2007; Salakhutdinov & Mnih 2008 for the model).
Poisson:   y_ij ~ Poisson(u_i . v_j) at all pairs,  u_ik ~ Gamma(a, xi_i),  v_jk ~ Gamma(c, eta_j)
           (Cemgil 2009; Gopalan, Hofman & Blei 2015 for the rates xi, eta with Gamma priors of their own).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from jensen.families import Gamma, MultivariateNormal, Normal
from jensen.families.linear import from_factor, half_log_determinant, inverse_factor, outer, times
from jensen.inference.conjugate import ConjugateModel, Latent, Moments, State
from jensen.inference.evaluation import evaluate
from jensen.inference.methods import Result
from jensen.inference.models.ratings import Ratings, log_sums, row_sums
from jensen.inference.models.rotation import FactorMoments, best_shift, climb, rotate, shifted
from jensen.inference.update import update

__all__ = [
    "GaussianPriors",
    "PoissonPriors",
    "PoissonStart",
    "climb_ratings",
    "fold_in",
    "gaussian_model",
    "gaussian_start",
    "poisson_model",
    "users_of",
]

_LOG_2PI = math.log(2 * math.pi)


# --- Gaussian --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianPriors:
    """Gamma priors of precisions.

    Attributes:
        noise: of a rating.
        ard: of the items' loadings on each factor, batch shape (K,).
        user_precision: of the users' biases.
        item_precision: of the items' biases.
    """

    noise: Gamma
    ard: Gamma
    user_precision: Gamma
    item_precision: Gamma


def gaussian_model(priors: GaussianPriors, start: State, offset: float) -> ConjugateModel:
    """The model for the engine; its data are `Ratings`. Users' factors and bias are profiled out together.

    Args:
        start: q of items, item_bias, noise, ard, user_precision, item_precision.
        offset: what all ratings have in common.
    """
    q = start.q
    return ConjugateModel(
        latents={
            "items": Latent(q["items"]),
            "item_bias": Latent(q["item_bias"]),
            "noise": Latent(q["noise"], prior=priors.noise),
            "ard": Latent(q["ard"], prior=priors.ard),
            "user_precision": Latent(q["user_precision"], prior=priors.user_precision),
            "item_precision": Latent(q["item_precision"], prior=priors.item_precision),
        },
        local_terms=lambda m, ratings: _gaussian_terms(m, ratings, offset),
        global_terms=_gaussian_priors,
        blocks=[["items"], ["item_bias"], ["noise", "ard", "user_precision", "item_precision"]],
        profiled=frozenset({"users"}),
    )


def _gaussian_priors(m: Any) -> dict[str, Tensor]:
    squares = m["items"].outer.diagonal(dim1=-2, dim2=-1)
    loadings = 0.5 * (m.ard.log - m.ard.mean * squares - _LOG_2PI).sum()
    biases = 0.5 * (m.item_precision.log - m.item_precision.mean * m.item_bias.square - _LOG_2PI).sum()
    return {"loadings": loadings, "item biases": biases}


def _gaussian_terms(m: Any, ratings: Ratings, offset: float) -> dict[str, Tensor]:
    """E[log p(r, u, a | ...)] maximised over q(u_i, a_i): its part without users, and theirs as in factor analysis."""
    values, bias = ratings.values - offset, m.item_bias.mean[ratings.items]
    squares = values**2 - 2 * values * bias + m.item_bias.square[ratings.items]
    fit = 0.5 * (len(values) * (m.noise.log - _LOG_2PI) - m.noise.mean * squares.sum())
    linear, quadratic = _user_evidence(m, ratings, offset)
    with torch.no_grad():
        factor = inverse_factor(quadratic)
        covariance = from_factor(factor)
        mean = times(covariance, linear)
        second = covariance + outer(mean)
        constant = half_log_determinant(factor).sum() + 0.5 * mean.numel()
    users = (linear * mean).sum() - 0.5 * (quadratic * second).sum() + constant
    return {"fit": fit, "users": users + 0.5 * len(ratings) * m.user_precision.log}


def _user_evidence(m: Any, ratings: Ratings, offset: float) -> tuple[Tensor, Tensor]:
    """Natural parameters of q(u_i, a_i): (U, K + 1) and (U, K + 1, K + 1); an item's part is (v_j, 1)."""
    items, count = m["items"], m["items"].mean.shape[-1]
    loc = torch.cat([items.mean, torch.ones_like(items.mean[:, :1])], 1)
    second = torch.cat([torch.cat([items.outer, items.mean.unsqueeze(1)], 1), loc.unsqueeze(2)], 2)
    residual = ratings.values - offset - m.item_bias.mean[ratings.items]
    linear = m.noise.mean * row_sums(ratings, loc, residual)
    rows, columns = torch.tril_indices(count + 1, count + 1)
    packed = m.noise.mean * row_sums(ratings, second[:, rows, columns])
    places = torch.empty(count + 1, count + 1, dtype=torch.long)
    places[rows, columns] = places[columns, rows] = torch.arange(len(rows))
    own = torch.cat([torch.ones_like(loc[0, :count]), m.user_precision.mean.reshape(1)])
    return linear, packed[:, places] + torch.diag(own)


def users_of(state: State, ratings: Ratings, offset: float) -> MultivariateNormal:
    """The optimal q of these users' factors (K) and bias (the last number)."""
    m = Moments({name: q.mean_parameters for name, q in state.q.items()})
    return MultivariateNormal(MultivariateNormal.Natural(*_user_evidence(m, ratings, offset)))


def climb_ratings(
    priors: GaussianPriors,
    start: State,
    ratings: Ratings,
    offset: float,
    *,
    tol: float = 1e-7,
    max_steps: int = 500,
    rotation: bool = True,
    warm_up: int = 0,
    chunk_size: int = 4096,
    callback: Callable[[int, float, State], object] | None = None,
) -> Result:
    """Coordinate ascent, block by block as the engine, with the moves of `_expanded` after every sweep; see `climb`."""
    model = gaussian_model(priors, start, offset)

    def sweep(state: State) -> State:
        for block in model.order:
            state = update(model, state, evaluate(model, state, ratings, block, chunk_size=chunk_size), 1.0)
        return state

    def expand(state: State) -> State:
        return _expanded(priors, state, ratings, offset, chunk_size)

    return climb(
        model,
        start,
        ratings,
        sweep,
        expand if rotation else None,
        tol=tol,
        max_steps=max_steps,
        warm_up=warm_up,
        chunk_size=chunk_size,
        callback=callback,
    )


def _expanded(priors: GaussianPriors, state: State, ratings: Ratings, offset: float, chunk_size: int) -> State:
    """The state after three moves that change priors and entropies alone, each to where they are best.

    The mean of the users' factors and biases goes into the items' biases; what items' loadings have in common, times
    the users' factors, goes into the users' biases; and the factors are rotated.
    """
    q: Any = state.q
    items, bias = q["items"], q["item_bias"]
    count = items.event_shape[0]
    total, second, by_item = _user_moments(state, ratings, offset, chunk_size)
    # users' means into items' biases, the bias as a factor with loadings that are 1
    users = second.new_tensor(float(len(ratings)))
    own = torch.cat([torch.ones_like(total[:-1]), q["user_precision"].mean_parameters.mean.reshape(1)])
    observed = torch.bincount(ratings.items, minlength=len(by_item)).to(second.dtype)
    moments = FactorMoments(total, by_item, users, observed)
    prior = Normal(
        Normal.Natural(torch.zeros_like(observed), q["item_precision"].mean_parameters.mean.expand_as(observed))
    )
    loc, covariance = items.standard_parameters
    loc, covariance = torch.nn.functional.pad(loc, (0, 1), value=1.0), torch.nn.functional.pad(covariance, (0, 1, 0, 1))
    precision = q["noise"].mean_parameters.mean.expand_as(observed)
    shift = best_shift(loc, covariance, precision, bias, prior, moments, own)
    bias = shifted(bias, loc @ shift)
    cross = total.unsqueeze(-1) * shift
    second = second - cross - cross.mT + users * outer(shift)
    # v - d and a + d . u: quadratic in d, from the priors of v and a
    relevance = q["ard"].mean_parameters.mean
    curvature = own[-1] * second[:count, :count] + len(observed) * torch.diag(relevance)
    slope = relevance * items.mean_parameters.mean.sum(0) - own[-1] * second[:count, -1]
    linear, quadratic = items.natural_parameters
    common = torch.linalg.solve(curvature, slope)
    items = MultivariateNormal(items.Natural(linear - times(quadratic, common), quadratic))
    turned = rotate(items, second[:count, :count], users, priors.ard)
    return state.with_q({"items": turned.loadings, "ard": turned.ard, "item_bias": bias})


def _user_moments(state: State, ratings: Ratings, offset: float, chunk_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of E[z], E[z z^T] over users, and of E[z] over each item's users, z = (u, a)."""
    items: Any = state.q["items"]
    size = items.event_shape[0] + 1
    total = items.natural_parameters.precision.new_zeros(size)
    second, by_item = total.new_zeros(size, size), total.new_zeros(len(items.natural_parameters.precision), size)
    for begin in range(0, len(ratings), chunk_size):
        batch = ratings[begin : begin + chunk_size]
        users = users_of(state, batch, offset).mean_parameters
        total, second = total + users.mean.sum(0), second + users.outer.sum(0)
        by_item.index_add_(0, batch.items, users.mean[batch.users])
    return total, second, by_item


def gaussian_start(priors: GaussianPriors, n_items: int, variance: float, generator: Generator | None) -> State:
    """Random loadings of the size of the ratings: from zero ones no ascent would leave."""
    factors = priors.ard.batch_shape[0]
    scale = math.sqrt(variance / factors)
    loc = scale * torch.randn(n_items, factors, dtype=torch.float64, generator=generator)
    covariance = 1e-2 * scale**2 * torch.eye(factors, dtype=torch.float64)
    concentration = priors.ard.standard_parameters.concentration + 0.5 * n_items
    one = torch.ones((), dtype=torch.float64)
    return State(
        q={
            "items": MultivariateNormal.from_standard(loc, covariance.expand(n_items, -1, -1)),
            "item_bias": Normal.from_standard(torch.zeros(n_items, dtype=torch.float64), math.sqrt(0.1 * variance)),
            "noise": Gamma.from_standard(one, variance),
            "ard": Gamma.from_standard(concentration, concentration * scale**2),
            "user_precision": Gamma.from_standard(one, variance),
            "item_precision": Gamma.from_standard(one, variance),
        }
    )


# --- Poisson ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoissonPriors:
    """Gamma priors of users' and items' factors.

    Attributes:
        user_shape: a.
        item_shape: c.
        user_rate: xi, the same for all users; or its Gamma prior, one xi_i for each user (their activity).
        item_rate: eta, the same for all items; or its Gamma prior, one eta_j for each item (their popularity).
    """

    user_shape: float
    item_shape: float
    user_rate: float | Gamma
    item_rate: float | Gamma


def poisson_model(
    priors: PoissonPriors,
    start: Gamma | Callable[[Generator], Gamma],
    user_start: Callable[[Ratings], Gamma],
    n_items: int,
) -> ConjugateModel:
    """The model for the engine; its data are `Ratings` of counts.

    The allocations of each count to factors (multinomial) are maximised out: a log-sum-exp at the pairs with a count.
    Pairs without one take part in the expected total rate alone, which is a product of sums.

    Args:
        start: q of the items' factors, batch shape (J, K); may be drawn with a generator.
        user_start: q of a batch's users, (B, K).
        n_items: J.
    """
    activity, popularity = isinstance(priors.user_rate, Gamma), isinstance(priors.item_rate, Gamma)
    latents = {
        "users": Latent(user_start, local=True, prior=_flat(priors.user_shape, priors.user_rate)),
        "items": Latent(start, prior=_flat(priors.item_shape, priors.item_rate)),
    }
    if isinstance(priors.user_rate, Gamma):
        latents["activity"] = Latent(_repeated(priors.user_rate), local=True, prior=priors.user_rate)
    if isinstance(priors.item_rate, Gamma):
        latents["popularity"] = Latent(priors.item_rate.expand((n_items,)), prior=priors.item_rate)

    def local_terms(m: Any, ratings: Ratings) -> dict[str, Tensor]:
        users, items = m["users"], m["items"]
        terms = {
            "counts": log_sums(users.log, items.log, ratings),
            "rates": -(users.mean.sum(0) * items.mean.sum(0)).sum() - torch.lgamma(ratings.values + 1).sum(),
        }
        if activity:
            terms["users"] = _gamma_term(users, priors.user_shape, m.activity)
        return terms

    def global_terms(m: Any) -> dict[str, Tensor]:
        return {"items": _gamma_term(m["items"], priors.item_shape, m.popularity)} if popularity else {}

    rates = [name for name in ("activity", "popularity") if name in latents]
    return ConjugateModel(
        latents,
        local_terms,
        global_terms,
        blocks=[["users"], ["items"], *([rates] if rates else [])],
        profiled=frozenset({"counts"}),
    )


def _flat(shape: float, rate: float | Gamma) -> Gamma | None:
    return None if isinstance(rate, Gamma) else Gamma.from_standard(shape, rate)


def _repeated(prior: Gamma) -> Callable[[Ratings], Gamma]:
    return lambda ratings: prior.expand((len(ratings),))


def _gamma_term(factors: Any, shape: float, rate: Any) -> Tensor:
    """E[log Gamma(factor | shape, rate)] summed, `rate` one for each row."""
    rows: Tensor = (shape - 1) * factors.log.sum(1) - rate.mean * factors.mean.sum(1)
    constant: Tensor = factors.log.shape[1] * (shape * rate.log - math.lgamma(shape))
    return (rows + constant).sum()


@dataclass(frozen=True)
class PoissonStart:
    """First factors of the size that the counts ask for: their rates add up to each user's and each item's sum.

    Args:
        priors: of the factors.
        item_means: count of each item a user, (J,).
        factors: K.
    """

    priors: PoissonPriors
    item_means: Tensor
    factors: int

    @property
    def _user_mean(self) -> float:
        rate = self.priors.user_rate
        return self.priors.user_shape / (float(rate.mean_parameters.mean) if isinstance(rate, Gamma) else rate)

    def items(self, generator: Generator) -> Gamma:
        """Random ones, (J, K): equal factors would stay equal."""
        means = self.item_means.clamp(min=1e-2 * float(self.item_means.mean())) / (self.factors * self._user_mean)
        noise = torch.rand(len(means), self.factors, dtype=means.dtype, generator=generator)
        return Gamma.from_standard(torch.ones_like(noise), 1 / (means.unsqueeze(1) * (0.5 + noise)))

    def users(self, ratings: Ratings) -> Gamma:
        """Of a batch, (B, K), in proportion to their sums."""
        sums = torch.zeros(len(ratings), dtype=self.item_means.dtype).index_add(0, ratings.users, ratings.values)
        means = self._user_mean * (sums / self.item_means.sum()).clamp(min=1e-2)
        return Gamma.from_standard(torch.ones(len(ratings), self.factors, dtype=means.dtype), 1 / means.unsqueeze(1))


def fold_in(
    model: ConjugateModel, state: State, ratings: Ratings, *, tol: float = 1e-9, max_steps: int = 2000
) -> Gamma:
    """The optimal q of these users, the items fixed: each until its parameters change by less than tol of them.

    Each user for itself: the result does not depend on who else is in the batch, as it would with the bound's change.
    """
    local = [name for name in ("users", "activity") if name in model.latents]
    active, batch = torch.arange(len(ratings)), ratings
    state = replace(state, local=model.start_local(ratings))
    fields = [field.clone() for field in state.local["users"].natural_parameters]
    with torch.no_grad():
        for _ in range(max_steps):
            before: Any = state.local["users"].standard_parameters
            for name in local:
                state = update(model, state, evaluate(model, state, batch, [name]), 1.0)
            after: Any = state.local["users"].standard_parameters
            for field, new in zip(fields, state.local["users"].natural_parameters, strict=True):
                field[active] = new
            # Rates too: with one factor the concentrations are final at once, while activity and rate still move.
            changes = [(a / b - 1).abs() for a, b in zip(after, before, strict=True)]
            moving = (torch.maximum(*changes) >= tol).any(1)
            left = int(moving.sum())
            if left == 0:
                break
            if left < 0.7 * len(moving):
                active, batch = active[moving], batch[moving.nonzero().squeeze(1)]
                state = replace(state, local={name: q[moving] for name, q in state.local.items()})
    return Gamma(Gamma.Natural(*fields))
