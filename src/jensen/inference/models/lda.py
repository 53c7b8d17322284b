"""Latent Dirichlet allocation: the model for the engine, and its updates on sparse counts (Blei, Ng & Jordan 2003).

    beta_k ~ Dirichlet(eta), theta_d ~ Dirichlet(alpha), z_dn ~ theta_d, w_dn ~ beta_{z_dn}
    q = prod_k Dirichlet(beta_k | lambda_k) prod_d Dirichlet(theta_d | gamma_d) prod_dn q(z_dn), q(z) at its optimum

`lda_model` is the definition, three lines that `infer` can run; `fit_cavi` and `TopicSvi` do the same updates without a
dense gradient, with an accelerated local step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import constraints

from jensen.families import Dirichlet
from jensen.inference.conjugate import ConjugateModel, Latent, Moments, Parameter, State
from jensen.inference.methods import Result
from jensen.inference.models.documents import Documents
from jensen.inference.models.lda_kernels import (
    Weights,
    collapsed_words,
    document_bounds,
    infer_documents,
    word_statistics,
    word_weights,
)
from jensen.inference.models.lda_start import fit_alpha, random_topics
from jensen.inference.steps import RobbinsMonro, StepSize

__all__ = ["LocalStep", "TopicSvi", "Topics", "chunks", "fit_cavi", "fit_svi", "lda_model"]

_SMALLEST_SCALE = 1e-9
"""of the lazily decayed topics, before their numbers are brought up to date"""


def lda_model(
    n_topics: int,
    vocabulary: int,
    *,
    alpha: Tensor | float | None = None,
    eta: float | None = None,
    learn_alpha: bool = False,
) -> ConjugateModel:
    """The model as its expected log joint; data are `Documents`.

    Latents: `theta`, local, the topic proportions of a document; `topics`, (K, V). The topic of each word is profiled
    out: `words` is a log-sum-exp, convex in both.

    Args:
        alpha: concentration of the proportions, a number or (K,); default 1 / K.
        eta: concentration of the topics; default 1 / K.
        learn_alpha: let alpha (K,) climb the same bound.
    """
    first = torch.as_tensor(1 / n_topics if alpha is None else alpha, dtype=torch.float64).expand(n_topics)

    def proportions(m: Moments) -> Dirichlet:
        return Dirichlet.from_standard(m.alpha if learn_alpha else first)

    def start(batch: Documents) -> Dirichlet:
        return Dirichlet.from_standard(first + (batch.lengths / n_topics)[:, None])

    concentration = torch.full((vocabulary,), 1 / n_topics if eta is None else eta, dtype=torch.float64)
    prior = Dirichlet.from_standard(concentration)
    return ConjugateModel(
        latents={
            "theta": Latent(start, prior=proportions, local=True),
            "topics": Latent(lambda generator: random_topics(n_topics, vocabulary, generator), prior=prior),
        },
        local_terms=lambda m, batch: {"words": collapsed_words(m.theta.log, m.topics.log, batch)},
        parameters={"alpha": Parameter(first, constraints.independent(constraints.positive, 1))} if learn_alpha else {},
        profiled=frozenset({"words"}),
    )


@dataclass(frozen=True)
class LocalStep:
    """How q(theta) is found: until a plain step changes gamma by less than `tol` on average over topics."""

    tol: float = 1e-3
    max_iter: int = 100

    def __call__(
        self, documents: Documents, weights: Weights, alpha: Tensor, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(gamma (D, K), each document's bound (D,), nats); from `start`, no document's bound falls."""
        options: Any = {"tol": self.tol, "max_iter": self.max_iter}
        gamma = infer_documents(documents, weights, alpha, start=start, **options)
        bounds = document_bounds(documents, gamma, weights, alpha)
        if start is not None:
            worse = bounds < document_bounds(documents, start, weights, alpha)
            if bool(worse.any()):  # the extrapolation went astray: plain steps cannot
                some, begin = documents[worse], start[worse]
                gamma[worse] = infer_documents(some, weights, alpha, start=begin, accelerate=False, **options)
                bounds[worse] = document_bounds(some, gamma[worse], weights, alpha)
        return gamma, bounds


def chunks(documents: Documents, size: int) -> Iterator[tuple[slice, Tensor, Documents]]:
    """(rows, numbers of the words in them, documents over these words)."""
    for begin in range(0, len(documents), size):
        rows = slice(begin, begin + size)
        yield rows, *documents[rows].compact()


# --- coordinate ascent ----------------------------------------------------------------------------------------------


def fit_cavi(
    documents: Documents,
    start: Dirichlet,
    prior: Dirichlet,
    alpha: Tensor,
    *,
    local: LocalStep | None = None,
    learn_alpha: str | None = None,
    tol: float = 1e-6,
    max_steps: int = 100,
    chunk_size: int = 1024,
    callback: Callable[[int, float, State], object] | None = None,
) -> Result:
    """Coordinate ascent: all documents, then the topics (and alpha), in turn.

    Args:
        documents: in the precision of the computation.
        start: q(topics), (K, V).
        prior: of the topics, (V,) or (K, V).
        alpha: (K,).
        learn_alpha: None, "symmetric" or "asymmetric".
        tol: stop when the ELBO changes by less, relative to its size.
        max_steps: sweeps.
        callback: (sweep, ELBO, state).

    Returns:
        posterior "topics", local "theta" (D, K), parameter "alpha"; the ELBO, also in the trace, is that of the q
        returned, exactly, and never falls in float64.
    """
    local = local or LocalStep()
    dtype = documents.counts.dtype
    prior_rows = prior.expand(start.batch_shape).standard_parameters.concentration.mT
    concentration = start.standard_parameters.concentration.mT.double()
    gamma: Tensor | None = None
    trace: list[float] = []
    reason, converged = f"max_steps = {max_steps} sweeps were made", False
    for step in range(max_steps + 1):
        weights = word_weights(concentration.to(dtype), concentration.sum(0))
        gamma, statistics, elbo = _sweep(documents, weights, alpha.to(dtype), local, gamma, chunk_size)
        theta = _dirichlet(gamma)
        topics = _dirichlet(concentration.mT)
        if step:
            trace.append(elbo - float(topics.kl_divergence(prior.expand(topics.batch_shape)).sum()))
            if callback:
                callback(step, trace[-1], State(q={"topics": topics}, parameters={"alpha": alpha}))
            if len(trace) > 1 and abs(trace[-1] - trace[-2]) <= tol * max(1.0, abs(trace[-1])):
                reason, converged = f"the ELBO changed by less than tol = {tol:g}", True
                break
        if step < max_steps:
            concentration = prior_rows + statistics
            if learn_alpha:
                alpha = fit_alpha(theta.mean_parameters.log.mean(0), learn_alpha == "symmetric")
    return Result(
        posterior={"topics": topics},
        local={"theta": theta},
        parameters={"alpha": alpha},
        elbo=trace[-1],
        elbo_trace=trace,
        converged=converged,
        reason=reason,
        steps=len(trace),
    )


def _sweep(
    documents: Documents, weights: Weights, alpha: Tensor, local: LocalStep, start: Tensor | None, size: int
) -> tuple[Tensor, Tensor, float]:
    """All documents at the given topics: gamma (D, K), expected counts (V, K) in float64, the sum of the bounds."""
    gamma = alpha.new_empty(len(documents), len(alpha))
    statistics = torch.zeros(weights.weight.shape, dtype=torch.float64, device=alpha.device)
    total = 0.0
    for rows, words, some in chunks(documents, size):
        here = Weights(weights.weight.index_select(0, words), weights.shift.index_select(0, words))
        gamma[rows], bounds = local(some, here, alpha, None if start is None else start[rows])
        statistics.index_add_(0, words, word_statistics(some, gamma[rows], here).double())
        total += float(bounds.double().sum())
    return gamma, statistics, total


def _dirichlet(concentration: Tensor) -> Dirichlet:
    """In float64: natural parameters, concentration - 1, would lose digits of small concentrations in float32."""
    return Dirichlet(Dirichlet.Natural(concentration.double() - 1))


# --- minibatches ----------------------------------------------------------------------------------------------------


class Topics:
    """q(topics) for steps that decay all of it but touch only the words of a batch.

    Concentrations are eta + scale x excess: a step multiplies one number and adds to some rows of `excess`. Sums over
    the vocabulary, which every word's expectation needs, are kept up to date.

    Args:
        q: (K, V) concentrations.
        eta: the prior's concentration.
    """

    def __init__(self, q: Dirichlet, eta: float, dtype: torch.dtype) -> None:
        concentration = q.standard_parameters.concentration.mT.double()
        self.eta, self.scale = eta, 1.0
        self.excess = (concentration - eta).to(dtype).contiguous()
        self.totals = concentration.sum(0)

    def weights(self, words: Tensor) -> Weights:
        """exp(E[log beta]) of these words."""
        rows = self.excess.index_select(0, words).mul_(self.scale).add_(self.eta)
        return word_weights(rows, self.totals)

    def step(self, words: Tensor, statistics: Tensor, rho: float) -> None:
        """lambda <- (1 - rho) lambda + rho (eta + statistics), where statistics (W, K) are 0 for all other words."""
        self.scale *= 1 - rho
        if self.scale < _SMALLEST_SCALE:
            self.excess.mul_(self.scale)
            self.scale = 1.0
        rows = self.excess.index_select(0, words).add_(statistics, alpha=rho / self.scale)
        self.excess.index_copy_(0, words, rows)
        self.totals = torch.lerp(self.totals, len(self.excess) * self.eta + statistics.sum(0).double(), rho)

    def gradient(self, words: Tensor, statistics: Tensor) -> Tensor:
        """The natural gradient as one vector, dense: the target minus lambda."""
        return (self.excess * -self.scale).index_add_(0, words, statistics).flatten()

    def posterior(self) -> Dirichlet:
        """As a family, (K, V), float64."""
        return _dirichlet((self.excess.double() * self.scale + self.eta).mT.contiguous())


class TopicSvi:
    """Stochastic variational inference (Hoffman, Blei & Bach 2010; Hoffman et al. 2013, figure 5).

    Args:
        start: q(topics), (K, V).
        eta: the topics' prior concentration.
        alpha: (K,).
        total_size: documents in the whole corpus: how often a batch counts.
        rho: step size, a function of (t, natural gradient).
        learn_alpha: None, "symmetric" or "asymmetric": alpha at its optimum for averages of E[log theta] that are
            updated with the same rho.
        dtype: precision of the topics and of all that is done with documents; float32 is two to four times faster.

    Attributes:
        steps: minibatches seen.
    """

    def __init__(
        self,
        start: Dirichlet,
        eta: float,
        alpha: Tensor,
        total_size: int,
        rho: StepSize,
        *,
        local: LocalStep | None = None,
        learn_alpha: str | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.topics, self.alpha, self.total_size, self.rho = Topics(start, eta, dtype), alpha, total_size, rho
        self.local, self.learn_alpha, self.dtype = local or LocalStep(), learn_alpha, dtype
        self.log_theta: Tensor | None = None
        self._last: tuple[Documents, Tensor, Weights, Tensor] | None = None
        self.steps = 0

    def partial_fit(self, batch: Documents) -> None:
        """Learn from a batch."""
        words, documents = batch.to(dtype=self.dtype).compact()
        alpha = self.alpha.to(self.dtype)
        weights = self.topics.weights(words)
        gamma = infer_documents(documents, weights, alpha, tol=self.local.tol, max_iter=self.local.max_iter)
        statistics = word_statistics(documents, gamma, weights).mul_(self.total_size / len(batch))
        no_gradient = isinstance(self.rho, RobbinsMonro)  # which does not look at it
        rho = self.rho(self.steps, gamma[:0].flatten() if no_gradient else self.topics.gradient(words, statistics))
        self.topics.step(words, statistics, rho)
        if self.learn_alpha:
            mean = _dirichlet(gamma).mean_parameters.log.mean(0)
            self.log_theta = mean if self.log_theta is None else torch.lerp(self.log_theta, mean, rho)
            self.alpha = fit_alpha(self.log_theta, self.learn_alpha == "symmetric")
        self._last = documents, gamma, weights, alpha
        self.steps += 1

    def last_bound(self) -> float:
        """The documents' part of the last batch's bound, at the topics before it: an estimate for all, nats."""
        assert self._last is not None
        bounds = document_bounds(*self._last)
        return float(bounds.double().sum()) * self.total_size / len(bounds)


def fit_svi(
    svi: TopicSvi,
    documents: Documents,
    *,
    batch_size: int = 256,
    tol: float = 0.0,
    max_steps: int = 10,
    generator: Generator | None = None,
    callback: Callable[[int, float, State], object] | None = None,
) -> Result:
    """Passes over the documents in random order.

    Args:
        tol: stop when a pass changes the estimate of the ELBO by less, relative to its size.
        max_steps: passes.
        callback: (pass, estimate of the ELBO, state).

    Returns:
        posterior "topics" and parameter "alpha"; `elbo_trace` are estimates: a pass's documents each at the topics of
        their time, less the divergence of the topics at its end. `elbo` is exact.
    """
    trace: list[float] = []
    reason, converged = f"max_steps = {max_steps} passes over the data were made", False
    prior = _dirichlet(torch.full((documents.vocabulary,), svi.topics.eta, dtype=torch.float64))
    for step in range(1, max_steps + 1):
        order = torch.randperm(len(documents), generator=generator)
        words = 0.0
        for rows in order.split(batch_size):
            svi.partial_fit(documents[rows])
            words += svi.last_bound() * len(rows) / svi.total_size
        topics = svi.topics.posterior()
        trace.append(words - float(topics.kl_divergence(prior.expand(topics.batch_shape)).sum()))
        if callback:
            callback(step, trace[-1], State(q={"topics": topics}, parameters={"alpha": svi.alpha}))
        if len(trace) > 1 and abs(trace[-1] - trace[-2]) <= tol * max(1.0, abs(trace[-1])):
            reason, converged = f"the estimate of the ELBO changed by less than tol = {tol:g} in a pass", True
            break
    concentration = topics.standard_parameters.concentration.mT
    weights = word_weights(concentration.to(svi.dtype), concentration.sum(0))
    _, _, exact = _sweep(documents.to(dtype=svi.dtype), weights, svi.alpha.to(svi.dtype), svi.local, None, 1024)
    result = Result({"topics": topics}, exact, trace, converged, reason, svi.steps, parameters={"alpha": svi.alpha})
    result.elbo -= float(topics.kl_divergence(prior.expand(topics.batch_shape)).sum())
    return result
