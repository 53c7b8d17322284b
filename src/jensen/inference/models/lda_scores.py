"""How good topics are: held-out words by document completion, coherence, and their top words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jensen.families import Dirichlet
from jensen.inference.models.documents import Documents
from jensen.inference.models.lda import LocalStep, chunks
from jensen.inference.models.lda_kernels import Weights, normalisers, word_weights

__all__ = ["coherence", "completion", "infer_proportions", "top_words"]


def infer_proportions(
    documents: Documents, topics: Dirichlet, alpha: Tensor, local: LocalStep | None = None, *, chunk_size: int = 1024
) -> tuple[Dirichlet, Tensor]:
    """q(theta) of each document at given q(topics), and its part of the bound (D,), nats.

    The bound is one on log p(document | what the topics were fitted to), up to q's distance from that posterior.

    Args:
        documents: in the precision of the computation.
        topics: (K, V).
        alpha: (K,).
    """
    local = local or LocalStep()
    dtype = documents.counts.dtype
    concentration = topics.standard_parameters.concentration.mT
    weights = word_weights(concentration.to(dtype).contiguous(), concentration.sum(0))
    gammas, bounds = [], []
    for _, words, some in chunks(documents, chunk_size):
        here = Weights(weights.weight.index_select(0, words), weights.shift.index_select(0, words))
        gamma, bound = local(some, here, alpha.to(dtype))
        gammas.append(gamma.double())
        bounds.append(bound.double())
    return Dirichlet(Dirichlet.Natural(torch.cat(gammas) - 1)), torch.cat(bounds)


def completion(
    observed: Documents,
    held_out: Documents,
    topics: Dirichlet,
    alpha: Tensor,
    local: LocalStep | None = None,
    *,
    chunk_size: int = 1024,
) -> float:
    """Mean log-probability of a held-out word given the observed half of its document, nats.

    log sum_k E[theta_dk] E[beta_kw], averaged over held-out tokens (Hoffman et al. 2013, section 4). For topics of any
    origin: only q(topics) is asked for, and the proportions are inferred here.

    Args:
        observed, held_out: as `split_documents` gives them.

    Raises:
        ValueError: nothing is held out.
    """
    tokens = float(held_out.lengths.sum())
    if tokens == 0:
        raise ValueError("nothing is held out: every document has fewer than two tokens")
    theta, _ = infer_proportions(observed, topics, alpha, local, chunk_size=chunk_size)
    concentration = theta.standard_parameters.concentration
    proportions = concentration / concentration.sum(1, keepdim=True)
    rows = topics.standard_parameters.concentration
    beta = (rows / rows.sum(1, keepdim=True)).mT.contiguous()
    total = 0.0
    for begin in range(0, len(held_out), chunk_size):
        some = held_out[begin : begin + chunk_size].to(dtype=torch.float64)
        total += float(some.counts @ normalisers(some, proportions[begin : begin + chunk_size], beta).log())
    return total / tokens


def top_words(topics: Dirichlet, n_words: int = 10) -> npt.NDArray[np.int64]:
    """Numbers of each topic's most probable words under the posterior mean, in order, shape (K, n_words)."""
    concentration = topics.standard_parameters.concentration
    if not 1 <= n_words <= concentration.shape[1]:
        raise ValueError(f"n_words must be from 1 to the {concentration.shape[1]} words, got {n_words}")
    found: npt.NDArray[np.int64] = concentration.topk(n_words, dim=1).indices.cpu().numpy()
    return found


def coherence(documents: Documents, words: Sequence[Sequence[int]] | npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Normalised pointwise mutual information of each topic's words, averaged over pairs, shape (K,), from -1 to 1.

    log(p_ij / (p_i p_j)) / -log p_ij with p the share of documents that contain a word, or both (Bouma 2009); -1 where
    two words never meet, 1 where they are in every document.

    Args:
        words: (K, n >= 2) numbers, as `top_words` gives them.

    Raises:
        ValueError: fewer than two words a topic, or a number outside of the vocabulary.
    """
    chosen = np.asarray(words, dtype=np.int64)
    if chosen.ndim != 2 or chosen.shape[1] < 2:
        raise ValueError(f"coherence needs a matrix of topics by at least two words, got shape {chosen.shape}")
    if chosen.min() < 0 or chosen.max() >= documents.vocabulary:
        raise ValueError(f"word numbers must be from 0 to {documents.vocabulary - 1}")
    used, place = np.unique(chosen, return_inverse=True)
    there = documents.to_scipy().tocsc()[:, used]
    there.data[:] = 1.0
    together = (there.T @ there).toarray() / len(documents)
    place = place.reshape(chosen.shape)
    first, second = np.triu_indices(chosen.shape[1], 1)
    joint = together[place[:, first], place[:, second]]
    single = together.diagonal()[place]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(joint / (single[:, first] * single[:, second])) / -np.log(joint)
    value = np.where(joint == 0, -1.0, np.where(joint == 1, 1.0, value))
    mean: npt.NDArray[np.float64] = value.mean(1)
    return mean
