"""What newspapers write about: topics of 2,246 Associated Press articles, by latent Dirichlet allocation.

The counts are read from ap_corpus.npz in $JENSEN_DATA (or ../shared/data); without it, documents are generated from
known topics. Minibatches of 256 articles climb the bound; after every pass the words of held-out articles are scored,
each half given the other half.

    python examples/topics.py                      # under a minute; writes runs/topics.png, runs/topics_held_out.png
    python examples/topics.py --output pictures
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from jensen.estimators.lda import TopicModel
from jensen.inference.models.corpus import load_documents
from jensen.plots import elbo_curve, save, topics

N_TOPICS, PASSES, BATCH = 20, 12, 256

EXPLANATION = """
How to read it. Each panel is a topic: its ten most probable words, their probabilities, and its share of all words.
Held-out words: the mean log-probability of a word of an article that was not trained on, given half of its words. One
topic alone knows only how frequent words are. Coherence (NPMI) asks whether a topic's words meet in the same articles:
0 is chance, 1 always.
"""


def corpus() -> tuple[sp.csr_matrix, list[str]]:
    """Counts (documents, words) and the words."""
    folder = Path(os.environ.get("JENSEN_DATA") or Path(__file__).parents[2] / "shared" / "data")
    path = folder / "ap_corpus.npz"
    if path.is_file():
        found = load_documents(path)
        print(f"{path}: {len(found.documents):,} articles, {found.documents.vocabulary:,} words")
        return found.documents.to_scipy(), found.vocabulary
    print(f"no {path} (set JENSEN_DATA to its folder): documents are generated from known topics instead")
    rng = np.random.default_rng(0)
    beta = rng.dirichlet(np.full(1000, 0.05), N_TOPICS)
    theta = rng.dirichlet(np.full(N_TOPICS, 0.1), 2000)
    counts = sp.vstack([sp.csr_matrix(rng.multinomial(100, p)) for p in theta @ beta], format="csr")
    return counts, [f"word{n}/topic{k}" for n, k in enumerate(beta.argmax(0))]


def split(counts: sp.csr_matrix) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Nine tenths to train on, one tenth held out."""
    order = np.random.default_rng(0).permutation(counts.shape[0])
    cut = counts.shape[0] // 10
    return counts[order[cut:]], counts[order[:cut]]


def fit(train: sp.csr_matrix, test: sp.csr_matrix) -> tuple[TopicModel, npt.NDArray[np.float64]]:
    """A model after `PASSES` passes, and the held-out score after each."""
    model = TopicModel(N_TOPICS, total_size=train.shape[0], init="documents", dtype="float32", random_state=0)
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(PASSES):
        order = rng.permutation(train.shape[0])
        for begin in range(0, len(order), BATCH):
            model.partial_fit(train[order[begin : begin + BATCH]])
        scores.append(model.completion_score(test, random_state=0))
    return model, np.array(scores)


def main(arguments: Any) -> None:
    """Fit, print topics and scores, draw the pictures."""
    counts, vocabulary = corpus()
    train, test = split(counts)
    model, scores = fit(train, test)
    alone = TopicModel(1, random_state=0).fit(train).completion_score(test, random_state=0)
    words = model.top_words(vocabulary, 10)
    theta = model.transform(train)
    shares = np.asarray(train.sum(1)).ravel() @ theta / train.sum()
    coherence = model.coherence(counts, 10)
    for k in np.argsort(-shares):
        print(f"{shares[k]:6.1%}  coherence {coherence[k]:5.2f}  {' '.join(words[k])}")
    print(
        f"held-out words: {scores[-1]:.3f} nats each (one topic: {alone:.3f}); perplexity {model.perplexity(test):,.0f}"
    )
    print(EXPLANATION)
    weights = [np.sort(row)[::-1][:10] for row in model.topics_]
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(save(topics(words, weights, shares=shares), arguments.output / "topics.png"))
    curve = elbo_curve(
        {f"{N_TOPICS} topics": scores, "one topic": np.full(PASSES, alone)},
        gap=False,
        title="Held-out words (higher is better)",
        x="pass",
        unit="nats a word",
    )
    print(save(curve, arguments.output / "topics_held_out.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of the pictures (default: runs)")
    main(parser.parse_args())
