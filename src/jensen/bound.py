"""The bound: what a model returns, and the terms of the ELBO that everything else is made from.

log p(x) >= E_q[log p(x | z)] + E_q[log p(z) - log q(z | x)]      (Jensen's inequality)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from jensen.likelihoods import NormalOfBatch, at_least_float32

__all__ = ["Level", "Output", "importance_weighted_bound", "log_weights", "weighted_mean"]


@dataclass(frozen=True, slots=True)
class Level:
    """One group of latent variables: a sample and the distributions that it has under q and p.

    Everything leads with (samples, batch), either of which may be 1 where nothing varies with it.

    Attributes:
        z: the latents, (samples, batch, *dims).
        posterior: q(z | ...), factorised over dims; None where z is a deterministic function of x.
        prior: p(z | ...), factorised over dims; None where there is none.
    """

    z: Tensor
    posterior: Distribution | None
    prior: Distribution | None

    def log_q(self) -> Tensor:
        """log q(z | ...) in nats of each dimension, (samples, batch, *dims)."""
        return self._distribution("posterior").log_prob(self.z)

    def log_p(self) -> Tensor:
        """log p(z | ...) in nats of each dimension, (samples, batch, *dims)."""
        return self._distribution("prior").log_prob(self.z)

    @property
    def discrete(self) -> bool:
        """Whether the values of z are some of a discrete set, such as integers."""
        if not self.z.is_floating_point():
            return True
        try:
            support = None if self.posterior is None else self.posterior.support
        except NotImplementedError:  # a distribution that does not say
            return False
        return bool(support is not None and support.is_discrete)

    @property
    def score_only(self) -> bool:
        """Whether log q(z) - log p(z) has no gradient for q but its score's, whose mean over draws of z is zero.

        So it is where q is discrete and has parameters to learn, and no gradient comes through z. (Where z enumerates
        and is not drawn, what it counts has the gradient: `Output.log_weights`, of which a level does not know.)
        """
        if self.posterior is None or self.z.requires_grad or not self.discrete:
            return False
        return self.log_q().requires_grad

    def kl(self, analytic: bool = True, *, learning: bool = False) -> Tensor:
        """KL(q || p) in nats of each dimension; zero for a deterministic level.

        Args:
            analytic: use the closed form where there is one, which has no samples dimension of its own (size 1 where
                q does not depend on samples). Otherwise log q - log p at the samples: same mean, more variance.
            learning: q is to learn from its gradient, which log q - log p at draws of a discrete z does not have.

        Raises:
            ValueError: q is to learn from it and cannot, see `score_only`.
        """
        if self.posterior is None and self.prior is None:
            return torch.zeros_like(self.z)
        if analytic:
            try:
                return kl_divergence(self._distribution("posterior"), self._distribution("prior"))
            except NotImplementedError:  # no closed form for this pair
                pass
        if learning and self.score_only:
            raise ValueError(
                "the KL at draws of a discrete code has no gradient that q could learn from (its score's has mean 0): "
                "take the closed form (kl analytic), under a prior that has one, such as the uniform prior of a vqvae "
                "(attach_prior(None)); to measure only, use torch.no_grad()"
            )
        return self.log_q() - self.log_p()

    def _distribution(self, name: str) -> Distribution:
        distribution: Distribution | None = getattr(self, name)
        if distribution is None:
            raise ValueError(f"this level has no {name}: its z is a deterministic function of x")
        return distribution


@dataclass(frozen=True, slots=True)
class Output:
    """What every model returns for a batch. Everything leads with (samples, batch).

    Attributes:
        target: what the likelihood is about, (1, batch, *shape): the clean input, or something else to predict.
        likelihood: p(target | z), batch shape (samples, batch, *shape).
        levels: the latents, top of the generative path first.
        mask: 1 where the target is observed and 0 where it is missing, broadcastable to the target; None: all observed.
        log_weights: log of weights that sum to one over samples, (samples, batch), where samples enumerate a discrete
            latent (-inf for values that it cannot have); None: samples are draws and count equally.
        penalties: named scalars in nats per example that are added to the loss.
    """

    target: Tensor
    likelihood: Distribution
    levels: tuple[Level, ...]
    mask: Tensor | None = None
    log_weights: Tensor | None = None
    penalties: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def probabilistic(self) -> bool:
        """Whether some level has a posterior; if not, there is a reconstruction but no bound."""
        return any(level.posterior is not None for level in self.levels)

    def log_likelihood(self) -> Tensor:
        """log p(target | z) in nats, summed over the observed values, (samples, batch)."""
        likelihood, observed = self.likelihood, None if self.mask is None else self.mask != 0
        if isinstance(likelihood, NormalOfBatch) and (observed is not None or self.log_weights is not None):
            likelihood = likelihood.counting(self._counts(observed))
        if observed is None:
            return _sum_dims(likelihood.log_prob(self.target))
        # What is missing may hold a NaN, which times 0 would still be one.
        target = torch.where(observed, self.target, torch.zeros_like(self.target))
        return _sum_dims(likelihood.log_prob(target) * observed)

    def _counts(self, observed: Tensor | None) -> Tensor:
        """How much each value counts in the expectation over samples, broadcastable to the likelihood's batch."""
        counts = torch.ones_like(self.target) if observed is None else observed.to(self.target.dtype)
        if self.log_weights is None:
            return counts
        shares = self.log_weights.detach().exp()
        return shares.reshape(shares.shape + (1,) * (self.target.ndim - 2)) * counts

    def rate(self, analytic: bool = True, *, learning: bool = False) -> Tensor:
        """KL(q || p) in nats, summed over levels and dimensions, (samples or 1, batch); see `Level.kl`."""
        learning = learning and self.log_weights is None
        rates = [_sum_dims(level.kl(analytic, learning=learning)) for level in self.levels]
        return rates[0] if len(rates) == 1 else torch.stack(torch.broadcast_tensors(*rates)).sum(0)

    def expectation(self, values: Tensor) -> Tensor:
        """E_q of `values`, (samples or 1, batch, ...), as their (weighted) mean over samples, (batch, ...)."""
        return weighted_mean(values, self.log_weights)

    def average(self, values: Tensor) -> Tensor:
        """Mean over the batch of E_q of `values`, (samples, batch): a scalar."""
        return values.mean() if self.log_weights is None else self.expectation(values).mean()


def weighted_mean(values: Tensor, log_weights: Tensor | None) -> Tensor:
    """Mean over samples of `values`, (samples or 1, batch, ...), by log weights (samples, batch); None: equal ones."""
    if log_weights is None:
        return values.mean(0)
    shares = log_weights.reshape(log_weights.shape + (1,) * (values.ndim - 2))
    # What counts nothing may be infinite, which times 0 would be a NaN.
    return (shares.exp() * values.masked_fill(shares.isneginf(), 0.0)).sum(0)


def log_weights(output: Output, log_likelihood: Tensor | None = None) -> Tensor:
    """Log importance weights log p(x | z) + log p(z) - log q(z | x) in nats, (samples, batch).

    Args:
        output: of any model.
        log_likelihood: `output.log_likelihood()`, where it is known already.

    Raises:
        ValueError: a level has no posterior.
    """
    total = output.log_likelihood() if log_likelihood is None else log_likelihood
    for i, level in enumerate(output.levels):
        if level.posterior is None:
            raise ValueError(f"importance weights need a posterior at every level, but level {i} is deterministic")
        total = total + _sum_dims(level.log_p()) - _sum_dims(level.log_q())
    return total


def importance_weighted_bound(weights: Tensor, shares: Tensor | None = None) -> Tensor:
    """log (1/k sum_k w_k), (batch,), from log weights (k, batch): the bound of Burda et al. 2016, eq. 8, in nats.

    The ELBO for k = 1; not decreasing in k on average, and log p(x) in the limit.

    Args:
        weights: log w, (k, batch).
        shares: log of what each sample counts, (k, batch), in place of 1/k: `Output.log_weights`. Where it is -inf the
            sample counts nothing, whatever its weight.
    """
    if shares is not None:
        return torch.logsumexp((weights + shares).masked_fill(shares.isneginf(), -torch.inf), 0)
    return torch.logsumexp(weights, 0) - math.log(weights.shape[0])


def _sum_dims(values: Tensor) -> Tensor:
    """Sum over everything behind (samples, batch), in float32 or wider."""
    values = at_least_float32(values)
    return values.sum(tuple(range(2, values.ndim))) if values.ndim > 2 else values
