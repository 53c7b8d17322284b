"""Where topics begin, and the hyperparameter that has a closed form: what the updates of LDA leave open."""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq
from scipy.special import digamma
from torch import Generator, Tensor

from jensen.families import Dirichlet
from jensen.inference.documents import Documents

__all__ = ["fit_alpha", "random_topics", "seeded_topics"]

_DOCUMENTS = 5
"""that seed a topic"""
_SHARE = 0.1
"""of a topic's first tokens that come from them; the rest is the corpus"""


def random_topics(n_topics: int, vocabulary: int, generator: Generator | None = None) -> Dirichlet:
    """Concentrations (K, V) drawn from Gamma(100, 1 / 100), as Hoffman et al. (2010) start."""
    shape = torch.full((n_topics, vocabulary), 100.0, dtype=torch.float64)
    return Dirichlet.from_standard(torch._standard_gamma(shape, generator=generator) / 100)


def seeded_topics(
    documents: Documents, n_topics: int, eta: float, generator: Generator | None = None, *, scale: float = 1.0
) -> Dirichlet:
    """Topics (K, V) that differ by the words of a few random documents each, over the words of the whole corpus.

    Each has eta and a K-th of the corpus' tokens: nine tenths spread as the corpus is (times Gamma(100, 1 / 100)), the
    rest as five documents drawn for the topic. The first minibatches need not break the symmetry of noise then.

    Args:
        scale: how many times the corpus is as large as these documents.
    """
    filled = (documents.offsets.diff() > 0).nonzero().squeeze(1)
    topics = random_topics(n_topics, documents.vocabulary, generator).standard_parameters.concentration
    if len(filled) == 0:
        return Dirichlet.from_standard(eta * topics)
    counts = documents.counts.double()
    corpus = torch.zeros(documents.vocabulary, dtype=torch.float64).index_add_(0, documents.words, counts)
    topics *= corpus * ((1 - _SHARE) / corpus.sum())
    chosen = torch.randint(len(filled), (n_topics, _DOCUMENTS), generator=generator)
    for k, numbers in enumerate(chosen):
        some = documents[filled[numbers]]
        part = some.counts.double()
        topics[k].index_add_(0, some.words, part * (_SHARE / part.sum()))
    return Dirichlet.from_standard(eta + topics * (scale * corpus.sum() / n_topics))


def fit_alpha(log_theta: Tensor, symmetric: bool) -> Tensor:
    """The alpha (K,) that maximises the bound, given the mean over documents of E[log theta_d], (K,).

    The Dirichlet whose expected log is that mean (Minka 2000); with one number for all topics, a root of
    digamma(K a) - digamma(a) + mean = 0.
    """
    n = len(log_theta)
    if n == 1:  # proportions are 1 whatever alpha
        return torch.ones(1, dtype=torch.float64)
    if not symmetric:
        return Dirichlet.from_mean_parameters(log_theta.double()).standard_parameters.concentration
    mean = float(log_theta.double().mean())
    root = brentq(lambda t: digamma(n * math.exp(t)) - digamma(math.exp(t)) + mean, -30, 30)
    return torch.full((n,), math.exp(root), dtype=torch.float64)
