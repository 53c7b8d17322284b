"""Collapsed Gibbs draws for latent Dirichlet allocation on a small generated corpus: writes lda_gibbs.npz beside this.

    python tests/references/lda.py        # about two minutes

Griffiths & Steyvers (2004): each word's topic given all others, topics and proportions integrated out. Every document's
tokens but the last ten are observed; the predictive probability of each word in each document is averaged over draws.
Topics overlap so little that labels never switch within a chain; four chains start at the true topics' assignments with
noise, and their spread gives the Monte Carlo errors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

SEED = 20100607
DOCUMENTS, LENGTH, VOCABULARY, TOPICS = 60, 50, 15, 3
HELD_OUT = 10
ALPHA, ETA = 0.5, 0.3
CHAINS, SWEEPS, BURN_IN = 4, 1000, 200

Counts = npt.NDArray[np.int64]


def generate(rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Words and true topics, each (DOCUMENTS, LENGTH)."""
    blocks = np.full((TOPICS, VOCABULARY), 0.2 / VOCABULARY)
    size = VOCABULARY // TOPICS
    for k in range(TOPICS):
        blocks[k, k * size : (k + 1) * size] += 0.8 * rng.dirichlet(np.full(size, 5.0))
    words = np.empty((DOCUMENTS, LENGTH), dtype=np.int64)
    topics = np.empty_like(words)
    for d in range(DOCUMENTS):
        topics[d] = rng.choice(TOPICS, LENGTH, p=rng.dirichlet(np.full(TOPICS, ALPHA)))
        words[d] = [rng.choice(VOCABULARY, p=blocks[k]) for k in topics[d]]
    return words, topics


def gibbs(words: Counts, topics: Counts, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], ...]:
    """Means over the draws of one chain: topics (K, V), and each document's predictive probabilities (D, V)."""
    z = np.where(rng.random(words.shape) < 0.1, rng.integers(TOPICS, size=words.shape), topics)
    by_document = np.zeros((len(words), TOPICS))
    by_word = np.zeros((VOCABULARY, TOPICS))
    for (d, n), w in np.ndenumerate(words):
        by_document[d, z[d, n]] += 1
        by_word[w, z[d, n]] += 1
    totals = by_word.sum(0)
    means, predictive = np.zeros((TOPICS, VOCABULARY)), np.zeros((len(words), VOCABULARY))
    for sweep in range(SWEEPS):
        uniform = rng.random(words.shape)
        for (d, n), w in np.ndenumerate(words):
            k = z[d, n]
            by_document[d, k] -= 1
            by_word[w, k] -= 1
            totals[k] -= 1
            p = (by_document[d] + ALPHA) * (by_word[w] + ETA) / (totals + VOCABULARY * ETA)
            cumulative = p.cumsum()
            k = int((cumulative < uniform[d, n] * cumulative[-1]).sum())
            z[d, n] = k
            by_document[d, k] += 1
            by_word[w, k] += 1
            totals[k] += 1
        if sweep >= BURN_IN:
            beta = ((by_word + ETA) / (totals + VOCABULARY * ETA)).T
            theta = (by_document + ALPHA) / (by_document + ALPHA).sum(1, keepdims=True)
            means += beta
            predictive += theta @ beta
    draws = SWEEPS - BURN_IN
    return means / draws, predictive / draws


def main() -> None:
    rng = np.random.default_rng(SEED)
    words, topics = generate(rng)
    observed = slice(0, LENGTH - HELD_OUT)
    chains = [gibbs(words[:, observed], topics[:, observed], rng) for _ in range(CHAINS)]
    means, predictive = (np.stack(part) for part in zip(*chains, strict=True))
    np.savez_compressed(
        Path(__file__).with_name("lda_gibbs.npz"),
        words=words.astype(np.int16),
        held_out=HELD_OUT,
        alpha=ALPHA,
        eta=ETA,
        topics=means.mean(0),
        topics_error=means.std(0, ddof=1) / CHAINS**0.5,
        predictive=predictive.mean(0),
        predictive_error=predictive.std(0, ddof=1) / CHAINS**0.5,
    )


if __name__ == "__main__":
    main()
