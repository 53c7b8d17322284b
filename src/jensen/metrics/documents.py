"""How well a model of documents predicts words, and which documents its codes take for alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from jensen.autoencoders import VAE
from jensen.bound import importance_weighted_bound, log_weights
from jensen.inference.models.documents import Documents, split_documents
from jensen.likelihoods import Multinomial, WordCounts
from jensen.metrics.heldout import SplitLike, batch_on, measuring

__all__ = ["DocumentScores", "documents_of", "nearest", "score_documents", "telling_words"]

AT_ONCE = 64
"""Documents encoded together."""


@dataclass(frozen=True)
class DocumentScores:
    """How well words are predicted, in nats a word.

    Attributes:
        documents: how many were scored.
        words: in them.
        bound: mean log-probability of a word under the importance-weighted bound on log p(document).
        samples: draws of that bound.
        completion: mean log-probability of a word given the other half of its document's words.
    """

    documents: int
    words: int
    bound: float
    samples: int
    completion: float

    @property
    def perplexity(self) -> float:
        """exp(-bound): among how many equally likely words the model guesses, if told nothing."""
        return math.exp(-self.bound)

    @property
    def completion_perplexity(self) -> float:
        """exp(-completion): the same for one who has seen half of the document."""
        return math.exp(-self.completion)

    def table(self) -> Sequence[tuple[str, ...]]:
        """Rows (name, value, meaning)."""
        return [
            ("words", f"{self.words:,}", f"in {self.documents:,} documents"),
            ("a word", f"{self.bound:.4f}", f"nats, of the bound on whole documents with {self.samples} samples"),
            ("perplexity", f"{self.perplexity:,.0f}", "exp of minus that: so many equally likely words"),
            ("completion", f"{self.completion:.4f}", "nats a word, given half of its document's words"),
            ("its perplexity", f"{self.completion_perplexity:,.0f}", "the lower the better"),
        ]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**asdict(self), "perplexity": self.perplexity, "completion_perplexity": self.completion_perplexity}


def score_documents(
    model: VAE,
    split: SplitLike,
    *,
    samples: int = 100,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> DocumentScores:
    """Held-out perplexity of a model with likelihood multinomial.

    Two measures. The bound: log p(document) is bounded with importance samples, and the number of orders that the words
    could have (the multinomial coefficient, which no model learns) taken away. Completion, as for topic models (Wallach
    et al. 2009; Hoffman et al. 2013, section 4): each document's words are dealt into two halves, one is encoded, and
    each word of the other is scored under the mean over draws of z of its probability; `TopicModel.completion_score`
    is the same measure of LDA.

    Args:
        model: a VAE with likelihood multinomial.
        split: its unseen documents.
        samples: draws of z a document.
        seed: of draws, and of the halves.
        progress: told the share that is done.

    Raises:
        ValueError: the likelihood is another, or no document has two words.
    """
    if not isinstance(model.likelihood, Multinomial):
        raise ValueError(f"this is about word counts, but the likelihood is {type(model.likelihood).__name__}")
    documents = documents_of(split)
    observed, held_out = split_documents(documents, torch.Generator().manual_seed(seed))
    bound, completed = 0.0, 0.0
    with measuring(model, seed) as device, torch.no_grad():
        for places in torch.arange(len(split)).split(AT_ONCE):
            batch = batch_on(split.batch(places), device)
            log_p = importance_weighted_bound(_weights(model, batch.x, batch.condition, samples))
            bound += float((log_p - _log_orders(batch.x)).sum())
            seen, hidden = (_dense(part[places], device) for part in (observed, held_out))
            completed += float((hidden * _log_predicted(model, seen, batch.condition, samples)).sum())
            if progress is not None:
                progress((int(places[-1]) + 1) / len(split))
    words, hidden_words = float(documents.lengths.sum()), float(held_out.lengths.sum())
    if not hidden_words:
        raise ValueError("every document has fewer than two words: none can be held out")
    return DocumentScores(len(split), round(words), bound / words, samples, completed / hidden_words)


def documents_of(split: SplitLike) -> Documents:
    """The word counts of a split, sparse."""
    rows = [
        sparse.csr_matrix(split.batch(places).x.cpu().numpy().astype(np.float64))
        for places in torch.arange(len(split)).split(AT_ONCE)
    ]
    return Documents.from_matrix(sparse.vstack(rows, format="csr"))


def _dense(documents: Documents, device: torch.device) -> Tensor:
    return torch.from_numpy(documents.to_scipy().toarray()).float().to(device)


def _weights(model: VAE, x: Tensor, condition: Tensor | None, samples: int) -> Tensor:
    """Log importance weights, (samples, batch); a few draws at a time, as each holds a number for every word."""
    return torch.cat([log_weights(model(x, condition=condition)) for _ in range(samples)])


def _log_predicted(model: VAE, x: Tensor, condition: Tensor | None, samples: int) -> Tensor:
    """log of the mean over draws of z from q(z | x) of each word's probability, (batch, words).

    In logarithms, as a probability may be too small for float32, and that of a word that is not there counts for 0.
    """
    total = torch.full_like(x, -torch.inf)
    for _ in range(samples):
        likelihood = model(x, condition=condition).likelihood
        assert isinstance(likelihood, WordCounts)
        total = torch.logaddexp(total, likelihood.logits[0].log_softmax(-1))
    return total - math.log(samples)


def _log_orders(x: Tensor) -> Tensor:
    """log of the orders that the words of each document could have, (batch,)."""
    return torch.lgamma(x.sum(1) + 1) - torch.lgamma(x + 1).sum(1)


def nearest(codes: Tensor, queries: Tensor, count: int = 5) -> tuple[Tensor, Tensor]:
    """Which codes point the same way as each query: their places and cosines, (Q, count), the nearest first.

    Args:
        codes: (N, D).
        queries: (Q, D).
        count: how many, at most N.

    Raises:
        ValueError: dimensions differ, or there are fewer codes.
    """
    if codes.ndim != 2 or queries.ndim != 2 or codes.shape[1] != queries.shape[1] or not 1 <= count <= len(codes):
        raise ValueError(
            f"need codes (N, D), queries (Q, D) and a count from 1 to N, got {tuple(codes.shape)}, "
            f"{tuple(queries.shape)}, {count}"
        )
    unit = torch.nn.functional.normalize
    found = (unit(queries, dim=1) @ unit(codes, dim=1).T).topk(count, dim=1)
    return found.indices, found.values


def telling_words(counts: Tensor, vocabulary: Sequence[str], frequencies: Tensor, most: int = 8) -> list[list[str]]:
    """The words that tell a document from the others: of the largest x_v log((x_v / N) / f_v), (documents, most).

    Args:
        counts: of each document, (B, V).
        vocabulary: the V words.
        frequencies: f, share of each word among all words, (V,).
        most: how many words.
    """
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    surplus = counts * (shares.clamp_min(1e-12) / frequencies.clamp_min(1e-12)).log()
    places = surplus.topk(min(most, len(vocabulary)), dim=1).indices
    return [[vocabulary[place] for place in row] for row in places.tolist()]
