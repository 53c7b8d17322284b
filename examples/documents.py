"""What newspapers write about, by a VAE: word counts of 2,246 Associated Press articles, beside LDA.

A VAE with a multinomial likelihood and LDA learn from the same articles and are scored on the same halves of the same
unseen articles. Then the nearest articles in latent space are shown, by the words that tell them from others.

The counts are read from ap_corpus.npz in $JENSEN_DATA (or ../shared/data); without it, documents are generated from
known topics.

    python examples/documents.py            # two minutes
    python examples/documents.py --epochs 5
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jensen.autoencoders import VAE
from jensen.config import NetConfig, Schedule
from jensen.data import Data, load_data
from jensen.estimators import TopicModel
from jensen.inference.models.documents import split_documents
from jensen.inference.models.lda_scores import completion
from jensen.metrics.documents import documents_of, nearest, score_documents, telling_words
from jensen.objectives import Elbo
from jensen.training import train

TOPICS = 50
"""latents of the VAE"""

EXPLANATION = """
Completion: the mean log-probability of a word of an unseen article given half of its words; perplexity is exp of minus
that, the number of words among which it is like guessing. "frequencies" knows only how often each word is used; the
number is that of topics, or of latents.
"""


def corpus(folder: Path) -> Data:
    """The articles, or generated documents of 20 topics."""
    path = folder / "ap_corpus.npz"
    if path.is_file():
        return load_data(str(path))
    print(f"no {path} (set JENSEN_DATA to its folder): documents are generated from known topics instead")
    rng = np.random.default_rng(0)
    beta = rng.dirichlet(np.full(1000, 0.05), 20)
    counts = np.stack([rng.multinomial(100, theta @ beta) for theta in rng.dirichlet(np.full(20, 0.1), 2000)])
    rows, words = counts.nonzero()
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "generated.npz"
        np.savez(
            made,
            indptr=np.concatenate([[0], np.bincount(rows, minlength=len(counts)).cumsum()]),
            indices=words,
            counts=counts[rows, words],
            vocab=np.array([f"word{n}/topic{topic}" for n, topic in enumerate(beta.argmax(0))]),
        )
        return load_data(str(made))


def fit_vae(data: Data, epochs: int) -> VAE:
    """Two layers up, one down; words of the input are dropped (dropout), and the KL comes in slowly."""
    torch.manual_seed(0)
    model = VAE(data.shape, TOPICS, net=NetConfig(kind="mlp", width=200), likelihood="multinomial")
    objective = Elbo(kl_weight=Schedule(kind="linear", start=0.0, end=1.0, steps=200))
    train(model, data, objective, epochs=epochs, batch_size=64, patience=8)
    return model


def show_nearest(model: VAE, data: Data, queries: list[int]) -> None:
    """Articles of the test split and their nearest ones among those of training."""
    dataset = data.dataset
    x = torch.cat([batch.x for batch in data.train.batches(256)])
    asked = data.test.batch(torch.tensor(queries)).x
    with torch.no_grad():
        codes = torch.cat([model.encode(part) for part in x.split(256)])
        places, cosines = nearest(codes, model.encode(asked), 3)
    frequencies = x.sum(0) / x.sum()
    titles = telling_words(asked, dataset.vocabulary, frequencies)
    for title, row, similar in zip(titles, places, cosines, strict=True):
        print(f"\n  {' '.join(title)}")
        for words, cosine in zip(telling_words(x[row], dataset.vocabulary, frequencies), similar, strict=True):
            print(f"    {float(cosine):.2f}  {' '.join(words)}")


def main(arguments: Any) -> None:
    """Fit both, print the table and the nearest articles."""
    folder = Path(os.environ.get("JENSEN_DATA") or Path(__file__).parents[2] / "shared" / "data")
    data = corpus(folder)
    print(data)
    known, unseen = documents_of(data.train), documents_of(data.test)
    observed, held_out = split_documents(unseen, torch.Generator().manual_seed(0))
    rows = []
    for name, topics in (("frequencies", 1), *((f"LDA, {count}", count) for count in (20, 50, 100))):
        lda = TopicModel(topics, init="documents", random_state=0).fit(known.to_scipy())
        topics_of = lda.posterior_["topics"]
        rows.append((name, completion(observed, held_out, topics_of, torch.as_tensor(lda.alpha_))))
    model = fit_vae(data, arguments.epochs)
    scores = score_documents(model, data.test, samples=arguments.samples)
    rows.append((f"VAE, {TOPICS}", scores.completion))
    print(f"\n{'':12} {'completion':>12} {'perplexity':>12}")
    for name, value in rows:
        print(f"{name:12} {value:12.4f} {np.exp(-value):12,.0f}")
    print(f"\nVAE, whole documents: {scores.bound:.4f} nats a word, perplexity {scores.perplexity:,.0f}")
    print(EXPLANATION)
    print("Unseen articles, and those of training whose codes point the same way:")
    show_nearest(model, data, [0, 1, 2, 3])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--samples", type=int, default=50)
    main(parser.parse_args())
