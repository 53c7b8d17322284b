"""beta-TCVAE: mutual information, total correlation and dimension-wise KL, each with its weight."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from jensen.aggregate import log_aggregate
from jensen.bound import Level, Output
from jensen.config import Schedule
from jensen.likelihoods import at_least_float32
from jensen.objectives.base import Context, check_weight
from jensen.objectives.codes import check_independent
from jensen.objectives.elbo import Elbo, Price

__all__ = ["TotalCorrelation"]

Estimator = Literal["stratified", "weighted"]


class TotalCorrelation(Elbo):
    """The ELBO whose KL is taken apart (Chen et al. 2018, Isolating sources of disentanglement in VAEs, section 3).

        KL(q(z | x) || p(z)) = I(z; n) + KL(q(z) || prod_d q(z_d)) + sum_d KL(q(z_d) || p(z_d))   on average over x,
        price = alpha x index-code mutual information + beta x total correlation + gamma x dimension-wise KL,

    where n is the index of the datum and q(z) = 1/N sum_n q(z | x_n) is the aggregate posterior of the N training data,
    N = `Context.dataset_size`. The three terms are logged in nats per example as mutual_information, total_correlation
    and dimension_wise_kl; they are Monte Carlo, and sum to log q(z | x) - log p(z) at the same z, whatever the
    estimator. With alpha = beta = gamma = 1 this is the Monte Carlo ELBO.

    q(z) and q(z_d) are estimated from the minibatch (appendix C of the paper):

    - stratified: 1/N for the component that z was drawn from, (N - 1) / (N (B - 1)) for each of the other B - 1.
      Unbiased for q(z) and q(z_d), and exact where the batch is the data set.
    - weighted: 1 / (N B) for all. These weights sum to 1/N, so that where posteriors overlap a log density comes out
      too low by ln N, and where they do not by ln B. Of that a constant moves no gradient, but the rest does: the
      mutual information is that of B data, ln B at most beside a constant of ln N, and once codes tell the data of a
      batch apart its gradient is lost to the total correlation. The values logged are no estimates of the terms.

    The logarithm of an unbiased estimate is too low on average, so the terms are biased by either; by stratified the
    less the larger the batch. Where posteriors hardly overlap, stratified is too high in the total correlation by what
    it is too low in the dimension-wise KL. Where they overlap its total correlation is too low, by what the mutual
    information is too high, and batches of a few data say little of it: codes of digits with 0.34 nats over the whole
    split have 0.3 by batches of 64, 0.1 by 16, -0.1 by 4 and 1.1 by 2. Posterior means from N(0, I) in 10 dimensions,
    sigma 0.1, N = 60,000, in nats:

        ==================  =====  =====  ======
        estimate            MI     TC     dwKL
        ==================  =====  =====  ======
        exact, all N         11.0   12.0     0.0
        stratified, B 64     11.0   14.2    -2.1
        stratified, B 2048   11.0   12.1    -0.1
        weighted, B 64       15.2  116.6  -108.8
        weighted, B 2048     18.6  114.4  -110.0
        ==================  =====  =====  ======

    The same with N = 4,000 and sigma 0.7, whose posteriors overlap: values, and derivatives by ln sigma.

        ================  ====  ====  =====  ======  ======  =======
        estimate          MI    TC    dwKL   dMI     dTC     d(dwKL)
        ================  ====  ====  =====  ======  ======  =======
        exact, all N       5.3   0.2    0.4    -5.6    -1.2      1.6
        stratified, B 64   6.2  -0.5    0.3    -6.3    -0.7      1.8
        weighted, B 64    12.0  76.4  -82.4    -1.8    -4.7      1.4
        ================  ====  ====  =====  ======  ======  =======

    I(z; n) cannot exceed ln N: codes that tell all data apart have it at ln N and leave the rest of the KL to the other
    two. `metrics.information` computes all three under the aggregate posterior of a whole split.

    With a prior p(z | c) of each datum's own the three still sum to the KL, but the total correlation is that of q(z)
    over all conditions, and so has what the prior itself correlates: codes that are the prior, of rate 0, can have a
    price. The dimension-wise "KL" then compares q(z_d) with the prior of one condition: it is no KL and can be
    negative. An example: p(z | c) around (3, 3) or (-3, -3), and q = p, have TC ln 2 and dimension-wise KL -2 ln 2.

    Where samples enumerate a label (`Output.log_weights`), the index is that of datum and label together, each label
    of a datum counting with its posterior probability. A batch with more data than N counts as the whole data set. With
    several devices each sees its own batch.

    Args:
        alpha: weight of the mutual information.
        beta: weight of the total correlation; above 1 a code whose dimensions are independent over the data.
        gamma: weight of the dimension-wise KL.
        estimator: stratified or weighted.
        samples: draws of z a datum.
        kl_weight: see `Elbo`.

    Raises:
        ValueError: a weight is not finite, or beta or gamma is negative; no such estimator. When called: fewer than two
            data in the batch, no `dataset_size`, or several levels of latents.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        estimator: Estimator = "stratified",
        samples: int = 1,
        kl_weight: Schedule | None = None,
    ) -> None:
        super().__init__(samples, "monte-carlo", kl_weight)  # so that the rate is the sum of the three terms
        if not math.isfinite(alpha):
            raise ValueError(f"alpha should be finite, got {alpha}")
        if estimator not in ("stratified", "weighted"):
            raise ValueError(f"estimator should be stratified or weighted, got {estimator!r}")
        self.alpha, self.beta, self.gamma = alpha, check_weight("beta", beta), check_weight("gamma", gamma)
        self.estimator = estimator

    def describe(self, latent: int, dims: int) -> str:
        return (
            f"price {self.alpha:g} x mutual information + {self.beta:g} x total correlation + {self.gamma:g} x "
            f"dimension-wise KL, {self.estimator} estimates from minibatches: larger batches, less bias"
        )

    def price(self, output: Output, rate: Tensor, context: Context) -> Price:
        level = _level(output)
        log_q, log_p = at_least_float32(level.log_q()), at_least_float32(level.log_p())
        dims = tuple(range(2, level.z.ndim))
        joint, each = self._log_aggregate(level, output.log_weights, context.dataset_size)
        marginals = each.sum(dims)
        terms = {
            "mutual_information": output.average(log_q.sum(dims) - joint),
            "total_correlation": output.average(joint - marginals),
            "dimension_wise_kl": output.average(marginals - log_p.sum(dims)),
        }
        weights = (self.alpha, self.beta, self.gamma)
        value = torch.stack([weight * term for weight, term in zip(weights, terms.values(), strict=True)]).sum()
        return Price(value, terms)

    def _log_aggregate(self, level: Level, log_weights: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
        """log q(z), (samples, batch), and log q(z_d), (samples, batch, *dims), estimated from the batch."""
        batch = level.z.shape[1]
        assert level.posterior is not None
        own = self._batch_weights(batch, size, level.z.device)
        components = level.posterior.batch_shape[0]
        if components > 1:
            if log_weights is None:
                raise ValueError(
                    "the posterior differs between samples of one datum, so that q(z | x) is not factorised: total "
                    "correlation is for models whose q(z | x) depends on x alone"
                )
            own = (own.unsqueeze(1) + log_weights).reshape(batch, components * batch)
        return log_aggregate(level.z, level.posterior, own, dims=level.z.ndim - 2)

    def _batch_weights(self, batch: int, size: int, device: torch.device) -> Tensor:
        """log of the weight of each datum's posterior in q(z) of each, (batch, batch)."""
        if batch < 2:
            raise ValueError(
                f"total correlation is estimated from a batch of at least 2 data, got {batch}: choose a batch size "
                "that leaves no single one for the last batch of training or validation data"
            )
        if size < 2:
            raise ValueError(
                f"total correlation needs to know how many training data there are: Context(dataset_size=N), got {size}"
            )
        size = max(size, batch)
        if self.estimator == "weighted":
            return torch.full((1, 1), -math.log(size * batch), device=device).expand(batch, batch)
        weights = torch.full((batch, batch), math.log((size - 1) / (size * (batch - 1))), device=device)
        weights.fill_diagonal_(-math.log(size))
        return weights


def _level(output: Output) -> Level:
    """The one level whose KL is taken apart."""
    level = output.levels[0]
    if len(output.levels) != 1 or level.posterior is None or level.prior is None:
        raise ValueError(
            "total correlation is for one level of latents with a posterior and a prior, but there are "
            f"{len(output.levels)} levels or one without: in a hierarchy q(z | x) is not factorised"
        )
    check_independent([level])
    return level
