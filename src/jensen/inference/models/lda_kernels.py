"""What latent Dirichlet allocation spends its time on: the local step over sparse counts, and exp(digamma).

The probabilities phi of topics for each word of each document (entries x K) are never held. With theta_dk =
exp(E[log theta_dk]) and beta_wk = exp(E[log beta_kw]) they are theta_dk beta_wk / norm_dw, so that two sparse products
give all that is needed: norm_dw = sum_k theta_dk beta_wk at the entries alone, and sums over a row's (or a column's)
entries of count / norm times beta (or theta) (Hoffman, Blei & Bach 2010, section 2.2).
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from jensen.inference.models.documents import Documents

__all__ = [
    "Weights",
    "collapsed_words",
    "document_bounds",
    "exp_digamma",
    "infer_documents",
    "normalisers",
    "word_statistics",
    "word_weights",
]

# exp(digamma(x + 1)) = x + 1/2 + sum_i c_i t^i, t = 1 / (x + 1.18): weighted minimax fit for x >= 0, relative error
# 2e-7. Its first coefficient is near the 1/24 of the asymptotic series.
_SHIFT = 1.18
_SERIES = (0.04174117304671056, 0.02746230650986221, 0.016558667661521437, -0.007203362403955441)
_FLOOR = {torch.float32: -40.0, torch.float64: -350.0}
"""smallest exponents of weights: the product of two is still a normal number, so that no normaliser is 0"""
_CHUNK = 1 << 17
"""elements that are worked on at a time: a few such buffers fit the second-level cache"""
_LARGEST_STEP = 64.0
"""of the extrapolation, in units of a plain step"""
_KEPT = 0.85
"""share of unconverged documents below which the rest are dropped"""


class Weights(NamedTuple):
    """exp(E[log .]) row by row without underflow: the expected log is log(weight) + shift.

    `weight` has shape (rows, K); `shift` (rows,) is such that the largest weight of a row is of order 1.
    """

    weight: Tensor
    shift: Tensor


def exp_digamma(x: Tensor, divisor: Tensor | None = None) -> Weights:
    """exp(digamma(x)) of positive x, shape (rows, K), scaled row by row; optionally divided by a (K,) tensor.

    float64 takes torch.digamma. float32 takes a rational fit of relative error 2e-7 (and rounding: 1e-6 in all
    for x >= 0.1, then in proportion to 1 / x, as exp(-1 / x) has it), several times faster.
    """
    if x.dtype == torch.float64:
        logs = torch.digamma(x)
        shift = logs.amax(1)
        weight = logs.sub_(shift[:, None]).clamp_(min=_FLOOR[x.dtype]).exp_()
        return Weights(weight if divisor is None else weight.div_(divisor), shift)
    weight, scratch = torch.empty_like(x), torch.empty_like(x[: max(1, _CHUNK // x.shape[1])])
    factor = None if divisor is None else divisor.reciprocal()
    if len(scratch) == len(x):
        return Weights(weight, _approximate(x, weight, scratch, factor))
    parts = (part.split(len(scratch)) for part in (x, weight))
    shifts = [_approximate(some, out, scratch[: len(some)], factor) for some, out in zip(*parts, strict=True)]
    return Weights(weight, torch.cat(shifts))


def _approximate(x: Tensor, out: Tensor, t: Tensor, factor: Tensor | None) -> Tensor:
    """Fill `out` with the scaled weights of x, using `t`; returns the shifts."""
    first, second, third = _series(x.device)
    torch.add(x, _SHIFT, out=t).reciprocal_()
    torch.mul(t, _SERIES[3], out=out).add_(third)
    torch.addcmul(second, out, t, out=out)
    torch.addcmul(first, out, t, out=out)
    torch.addcmul(x, out, t, out=out).add_(0.5)
    torch.reciprocal(x, out=t)
    low = torch.amin(t, 1, keepdim=True)
    out.mul_(torch.sub(low, t, out=t).clamp_(min=_FLOOR[x.dtype]).exp_())
    if factor is not None:
        out.mul_(factor)
    return low.squeeze(1).neg_()


@lru_cache(maxsize=8)
def _series(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The first coefficients of the fit as float32 tensors."""
    first, second, third = (torch.tensor(c, dtype=torch.float32, device=device) for c in _SERIES[:3])
    return first, second, third


def word_weights(concentration: Tensor, totals: Tensor) -> Weights:
    """exp(E[log beta_kw]) of words (rows) under topics q(beta_k) = Dirichlet, from their concentrations (W, K).

    Args:
        totals: (K,) sums of each topic's concentrations over the whole vocabulary.
    """
    logs = torch.digamma(totals.double())
    low = logs.min()
    weight, shift = exp_digamma(concentration, (logs - low).exp().to(concentration.dtype))
    return Weights(weight, shift - low.to(shift.dtype))


@lru_cache(maxsize=1)
def _warned() -> None:
    """Let torch say once, to nobody, that compressed rows are in beta and their indices unchecked: ours are right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), size=(1, 1))


def _sparse(offsets: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    _warned()
    return torch.sparse_csr_tensor(offsets, columns, values, size=size)


def normalisers(documents: Documents, theta: Tensor, beta: Tensor) -> Tensor:
    """sum_k theta_dk beta_wk at each entry (d, w), shape (entries,); theta is (D, K), beta (V, K)."""
    zeros = torch.zeros_like(documents.counts)
    pattern = _sparse(documents.offsets, documents.words, zeros, (len(theta), len(beta)))
    values: Tensor = torch.sparse.sampled_addmm(pattern, theta, beta.mT, beta=0.0).values()
    return values


def _weighted_rows(offsets: Tensor, columns: Tensor, values: Tensor, table: Tensor) -> Tensor:
    """sum over each row's entries of value x table[column], shape (rows, K)."""
    if table.dtype == torch.float32:
        sums: Tensor = torch.embedding_bag(table, columns, offsets, False, 0, False, values, True)[0]
        return sums
    return _sparse(offsets, columns, values, (len(offsets) - 1, len(table))) @ table


def word_statistics(documents: Documents, gamma: Tensor, weights: Weights) -> Tensor:
    """Expected counts of each word in each topic, sum_d count_dw phi_dwk, shape (V, K)."""
    theta = exp_digamma(gamma).weight
    ratio = documents.counts / normalisers(documents, theta, weights.weight)
    return _weighted_columns(documents, ratio, theta).mul_(weights.weight)


def _weighted_columns(documents: Documents, ratio: Tensor, theta: Tensor) -> Tensor:
    """sum over each word's entries of ratio x theta[document], shape (V, K): the entries are sorted by word."""
    numbers = np.arange(len(ratio))
    arrays = (documents.words.cpu().numpy(), documents.offsets.cpu().numpy())
    columns = sp.csr_matrix((numbers, *arrays), shape=(len(documents), documents.vocabulary)).tocsc()
    offsets, rows, order = (
        torch.from_numpy(a.astype(np.int64, copy=False)).to(ratio.device)
        for a in (columns.indptr, columns.indices, columns.data)
    )
    return _weighted_rows(offsets, rows, ratio.index_select(0, order), theta)


class _PlainStep:
    """gamma -> alpha + sum_w count_w phi_w at the optimal phi: the update of q(theta), shape (D, K)."""

    def __init__(self, documents: Documents, beta: Tensor, alpha: Tensor) -> None:
        self.documents, self.beta, self.alpha = documents, beta, alpha
        zeros = torch.zeros_like(documents.counts)
        self.ratio = _sparse(documents.offsets, documents.words, zeros, (len(documents), len(beta)))

    def __call__(self, gamma: Tensor) -> Tensor:
        theta = exp_digamma(gamma).weight
        # In place: without `out` the pattern would be copied each time.
        torch.sparse.sampled_addmm(self.ratio, theta, self.beta.mT, beta=0.0, out=self.ratio)
        ratio = self.ratio.values().reciprocal_().mul_(self.documents.counts)
        if gamma.dtype == torch.float32:
            sums = _weighted_rows(self.documents.offsets, self.documents.words, ratio, self.beta)
        else:
            sums = self.ratio @ self.beta
        return torch.addcmul(self.alpha, theta, sums)


def _extrapolated(first: Tensor, second: Tensor, third: Tensor, alpha: Tensor) -> Tensor:
    """The squared extrapolation of two successive plain steps (Varadhan & Roland 2008, scheme S3), kept above alpha.

    Sums of a row stay as they are unless it is cut at alpha, under which no plain step goes; a little above it rather,
    since a topic whose weight underflows would never come back.
    """
    step = second - first
    bend = torch.sub(third, second).sub_(step)
    size = step.square().sum(1).div_(bend.square().sum(1).add_(torch.finfo(bend.dtype).tiny))
    size = size.sqrt_().clamp_(1.0, _LARGEST_STEP).unsqueeze_(1)
    result = bend.mul_(size).add_(step, alpha=2).mul_(size).add_(first)
    return torch.maximum(result, torch.lerp(alpha.expand_as(third), third, 0.01))


def infer_documents(
    documents: Documents,
    weights: Weights,
    alpha: Tensor,
    *,
    tol: float,
    max_iter: int,
    start: Tensor | None = None,
    accelerate: bool = True,
) -> Tensor:
    """q(theta) of each document at given topics: the concentrations gamma, shape (D, K).

    A fixed point of gamma = alpha + sum_w count_w phi_w(gamma), each step of which raises the document's bound. Two
    steps, then a squared extrapolation, repeatedly; a document is done when a plain step changes its gamma by less
    than `tol` on average over topics (scikit-learn's mean_change_tol, gensim's gamma_threshold), and is then dropped.

    Args:
        documents: over the words of `weights`.
        alpha: (K,).
        max_iter: plain steps at most.
        start: gamma to start from; default the same for all topics.
        accelerate: False for plain steps alone, none of which can lower the bound.
    """
    beta = weights.weight
    if start is None:
        start = alpha + (documents.lengths / len(alpha)).unsqueeze(1)
    result = torch.empty_like(start)
    places = torch.arange(len(start), device=start.device)
    before, step = start, _PlainStep(documents, beta, alpha)
    now = step(before)
    done = (now - before).abs_().mean(1) < tol
    steps = 1
    while steps < max_iter:
        share = 1 - float(done.sum()) / len(done)
        if share == 0:
            break
        if share < _KEPT:
            result.index_copy_(0, places, now)
            left = (~done).nonzero().squeeze(1)
            places, documents = places.index_select(0, left), documents[left]
            step = _PlainStep(documents, beta, alpha)
            before, now, done = before.index_select(0, left), now.index_select(0, left), done.index_select(0, left)
        # A document that is done stays where it is: its result does not depend on the others in the batch.
        after = torch.where(done.unsqueeze(1), now, step(now))
        steps += 1
        done |= torch.sub(after, now).abs_().mean(1) < tol
        if not accelerate or steps >= max_iter:
            before, now = now, after
            continue
        before = torch.where(done.unsqueeze(1), after, _extrapolated(before, now, after, alpha))
        now = torch.where(done.unsqueeze(1), before, step(before))
        steps += 1
        done |= torch.sub(now, before).abs_().mean(1) < tol
    return result.index_copy_(0, places, now)


def document_bounds(documents: Documents, gamma: Tensor, weights: Weights, alpha: Tensor) -> Tensor:
    """Each document's part of the ELBO at the optimal phi, nats, shape (D,).

    E_q[log p(words | theta, beta)] + E_q[log p(theta | alpha)] - E_q[log q(theta)], of the words as a sequence: no
    multinomial coefficient (Blei, Ng & Jordan 2003, eq. 15).
    """
    theta, shift = exp_digamma(gamma)
    logs = normalisers(documents, theta, weights.weight).log_()
    logs.add_(weights.shift.index_select(0, documents.words)).mul_(documents.counts)
    words = torch.segment_reduce(logs, "sum", offsets=documents.offsets, initial=0.0)
    total = gamma.sum(1)
    log_theta = torch.digamma(gamma) - torch.digamma(total)[:, None]
    divergence = ((gamma - alpha) * log_theta - torch.lgamma(gamma)).sum(1) + torch.lgamma(total)
    constant = math.lgamma(float(alpha.sum())) - float(torch.lgamma(alpha).sum())
    return words + documents.lengths * (shift - torch.digamma(total)) - divergence + constant


class _CollapsedWords(torch.autograd.Function):
    """See `collapsed_words`."""

    @staticmethod
    def forward(ctx: Any, log_theta: Tensor, log_beta: Tensor, documents: Documents) -> Tensor:
        used, local = documents.compact()
        floor = _FLOOR[log_theta.dtype]
        columns = log_beta.index_select(1, used).mT
        tops = log_theta.amax(1), columns.amax(1)
        theta, beta = (
            (logs - top[:, None]).clamp_(min=floor).exp_() for logs, top in zip((log_theta, columns), tops, strict=True)
        )
        norm = normalisers(local, theta, beta)
        ctx.local, ctx.vocabulary = local, log_beta.shape[1]
        ctx.save_for_backward(theta, beta, used, norm)
        words = local.counts @ (norm.log() + tops[1].index_select(0, local.words))
        value: Tensor = words + local.lengths @ tops[0]
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        theta, beta, used, norm = ctx.saved_tensors
        local = ctx.local
        ratio = local.counts / norm
        by_document = by_word = None
        if ctx.needs_input_grad[0]:
            by_document = outer[0] * theta * _weighted_rows(local.offsets, local.words, ratio, beta)
        if ctx.needs_input_grad[1]:
            statistics = beta * _weighted_columns(local, ratio, theta)
            by_word = theta.new_zeros(theta.shape[1], ctx.vocabulary)
            by_word.index_copy_(1, used, outer[0] * statistics.mT)
        return by_document, by_word, None


def collapsed_words(log_theta: Tensor, log_beta: Tensor, documents: Documents) -> Tensor:
    """sum_dw count_dw log sum_k exp(log theta_dk + log beta_kw), a number, in nats; differentiable (once) in both.

    With expected logs this is E_q[log p(words, z | theta, beta)] - E_q[log q(z)] at the best q(z), which it does not
    hold: memory is entries + (D + V) K.

    Args:
        log_theta: (D, K).
        log_beta: (K, V).
    """
    value: Tensor = _CollapsedWords.apply(log_theta, log_beta, documents)  # type: ignore[no-untyped-call]
    return value
