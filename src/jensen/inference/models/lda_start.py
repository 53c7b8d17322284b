"""Where topics begin, and the hyperparameter that has a closed form: what the updates of LDA leave open."""

from __future__ import annotations

import math

import torch
from scipy.optimize import brentq
from scipy.special import digamma
from torch import Generator, Tensor

from jensen.families import Dirichlet
from jensen.inference.models.documents import Documents

__all__ = ["fit_alpha", "random_topics", "seeded_topics"]

_DOCUMENTS = 5
"""that seed a topic"""
_SHARE = 0.02
"""of a topic's share of the corpus that they are worth"""


def random_topics(n_topics: int, vocabulary: int, generator: Generator | None = None) -> Dirichlet:
    """Concentrations (K, V) drawn from Gamma(100, 1 / 100), as Hoffman et al. (2010) start."""
    shape = torch.full((n_topics, vocabulary), 100.0, dtype=torch.float64)
    return Dirichlet.from_standard(torch._standard_gamma(shape, generator=generator) / 100)


def seeded_topics(
    documents: Documents, n_topics: int, eta: float, generator: Generator | None = None, *, scale: float = 1.0
) -> Dirichlet:
    """Random topics (K, V) that also know the words of a few random documents each.

    To Gamma(100, 1 / 100) and the prior's eta come the words of five documents drawn for the topic, as many in all as a
    fiftieth of a topic's share of the corpus: enough for the first minibatches not to have to break the symmetry of
    noise, too few to hold a topic that nothing else supports.

    Args:
        scale: how many times the corpus is as large as these documents.
    """
    topics = eta + random_topics(n_topics, documents.vocabulary, generator).standard_parameters.concentration
    filled = (documents.offsets.diff() > 0).nonzero().squeeze(1)
    if len(filled):
        tokens = _SHARE * scale * float(documents.counts.double().sum()) / n_topics
        for k, numbers in enumerate(torch.randint(len(filled), (n_topics, _DOCUMENTS), generator=generator)):
            some = documents[filled[numbers]]
            counts = some.counts.double()
            topics[k].index_add_(0, some.words, counts * (tokens / counts.sum()))
    return Dirichlet.from_standard(topics)


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
