"""Topic models against scikit-learn and gensim: a part of `benchmarks.conjugate`.

Online inference on minibatches of 256 documents, float32 on all sides: documents a second, and the probability of
held-out words by document completion, which one function computes for everybody's topics. Equal are the data and their
order, priors, the kind of start, step sizes, and the inner tolerance (mean absolute change of a document's gamma).
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from threadpoolctl import threadpool_limits

from benchmarks.report import Row, row_of
from jensen.estimators.lda import TopicModel
from jensen.families import Dirichlet
from jensen.inference.models.corpus import load_documents
from jensen.inference.models.documents import Documents, split_documents
from jensen.inference.models.lda_scores import completion

__all__ = ["Corpus", "generated", "press", "rows"]

BATCH, TOL, STEPS = 256, 1e-3, 100
OUR_STEPS = 40  # evaluations, with extrapolation: at least as far as 100 plain ones
TAU, KAPPA = 10.0, 0.7
SKLEARN, GENSIM = "scikit-learn", "gensim"
DOCUMENTS, USED, HELD_OUT = 100_000, 20_000, 1_000
VOCABULARY, TRUE_TOPICS, LENGTH = 10_000, 100, 100

Pass = Callable[[], object]


@dataclass(frozen=True)
class Corpus:
    """Training documents in the order in which all see them, held-out ones split into halves, passes to make."""

    name: str
    train: sp.csr_matrix
    observed: Documents
    held_out: Documents
    passes: int
    targets: dict[int, float]
    """what the issue asks for after so many passes"""


def generated(documents: int, used: int, seed: int = 0) -> Corpus:
    """From the model: topics around a Zipf distribution over words, few topics a document."""
    rng = np.random.default_rng(seed)
    zipf = 1 / np.arange(10, VOCABULARY + 10)
    beta = rng.gamma(0.05 * VOCABULARY * zipf / zipf.sum(), size=(TRUE_TOPICS, VOCABULARY)) + 1e-12
    theta = rng.dirichlet(np.full(TRUE_TOPICS, 0.05), documents)
    lengths = rng.poisson(LENGTH, documents)
    tokens = np.stack([rng.multinomial(n, p) for n, p in zip(lengths, theta, strict=True)])
    pieces = []
    for k in range(TRUE_TOPICS):
        document = np.repeat(np.arange(documents), tokens[:, k])
        cumulative = beta[k].cumsum()
        words = np.searchsorted(cumulative, rng.random(len(document)) * cumulative[-1])
        ones = np.ones(len(words), dtype=np.float32)
        pieces.append(sp.coo_matrix((ones, (document, words)), shape=(documents, VOCABULARY)).tocsr())
    counts = sum(pieces[1:], pieces[0])
    name = f"generated, first {used:,} of {documents:,} documents"
    held_out = Documents.from_matrix(counts[-HELD_OUT:])
    return Corpus(name, counts[:used], *split_documents(held_out, _generator()), passes=1, targets={1: 5.0})


def press(path: Path, passes: int, used: int | None = None) -> Corpus:
    """The Associated Press articles in random order, a tenth of them held out."""
    documents = load_documents(path).documents
    order = torch.randperm(len(documents), generator=_generator())
    held_out = documents[order[: len(order) // 10]]
    train = documents[order[len(order) // 10 :][:used]].to_scipy().astype(np.float32)
    return Corpus("AP", train, *split_documents(held_out, _generator()), passes=passes, targets={1: 3.0, 10: 5.0})


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# --- contenders: one pass over the documents, and the topics' concentrations -----------------------------------------

Contender = tuple[Pass, Callable[[], npt.NDArray[Any]]]


def _batches(train: sp.csr_matrix) -> list[sp.csr_matrix]:
    return [train[begin : begin + BATCH] for begin in range(0, train.shape[0], BATCH)]


def _ours(train: sp.csr_matrix, n_topics: int, seed: int) -> Contender:
    model = TopicModel(
        n_topics,
        tau=TAU,
        kappa=KAPPA,
        local_tol=TOL,
        local_max_iter=OUR_STEPS,
        total_size=train.shape[0],
        dtype="float32",
        random_state=seed,
    )
    batches = _batches(train)

    def once() -> None:
        for batch in batches:
            model.partial_fit(batch)

    return once, lambda: model.components_


def _sklearn(train: sp.csr_matrix, n_topics: int, seed: int) -> Contender:
    from sklearn.decomposition import LatentDirichletAllocation

    model = LatentDirichletAllocation(
        n_topics,
        learning_method="online",
        learning_offset=TAU,
        learning_decay=KAPPA,
        batch_size=BATCH,
        total_samples=train.shape[0],
        mean_change_tol=TOL,
        max_doc_update_iter=STEPS,
        random_state=seed,
    )
    batches = _batches(train)

    def once() -> None:
        for batch in batches:
            model.partial_fit(batch)

    return once, lambda: np.asarray(model.components_)


def _gensim(train: sp.csr_matrix, n_topics: int, seed: int) -> Contender:
    from gensim.models import LdaModel

    model = LdaModel(
        id2word={number: str(number) for number in range(train.shape[1])},
        num_topics=n_topics,
        chunksize=BATCH,
        decay=KAPPA,
        offset=TAU,
        iterations=STEPS,
        gamma_threshold=TOL,
        eta="symmetric",
        eval_every=None,
        random_state=seed,
    )
    texts = [[(int(word), float(count)) for word, count in zip(row.indices, row.data, strict=True)] for row in train]

    def once() -> None:
        model.update(texts, chunksize=BATCH, passes=1)

    return once, lambda: np.asarray(model.state.get_lambda())


CONTENDERS = {"ours": _ours, SKLEARN: _sklearn, GENSIM: _gensim}


# --- measuring ------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """Of one contender on one corpus, by number of passes: documents a second and nats a held-out word, by repeat."""

    speed: dict[int, list[float]]
    score: dict[int, list[float]]


def _measure(corpus: Corpus, n_topics: int, repeats: int, names: Sequence[str]) -> dict[str, Found]:
    alpha = torch.full((n_topics,), 1 / n_topics, dtype=torch.float64)
    marks = [p for p in corpus.targets if p <= corpus.passes]
    found = {name: Found({p: [] for p in marks}, {p: [] for p in marks}) for name in names}
    for name in names:  # libraries load, kernels are compiled
        CONTENDERS[name](corpus.train[:BATCH], n_topics, 0)[0]()
    for seed in range(repeats):
        for name in names:
            once, topics = CONTENDERS[name](corpus.train, n_topics, seed)
            seconds = 0.0
            for step in range(1, corpus.passes + 1):
                before = time.perf_counter()
                once()
                seconds += time.perf_counter() - before
                if step in marks:
                    q = Dirichlet.from_standard(torch.from_numpy(topics().astype(np.float64)))
                    found[name].speed[step].append(step * corpus.train.shape[0] / seconds)
                    found[name].score[step].append(completion(corpus.observed, corpus.held_out, q, alpha))
    return found


def _table(corpus: Corpus, n_topics: int, found: dict[str, Found]) -> list[Row]:
    result = []
    ours = found["ours"]
    for name, peer in found.items():
        if name == "ours":
            continue
        for passes in peer.speed:
            count = "first pass" if passes == 1 else f"{passes} passes"
            case = f"LDA, {corpus.name}, K {n_topics}, {count}"
            fast, slow = (statistics.median(one.speed[passes]) for one in (ours, peer))
            good, other = (statistics.fmean(one.score[passes]) for one in (ours, peer))
            note = f"held-out words: ours {good:.4f}, peer {other:.4f} nats, {_spread(ours, peer, passes)}"
            result.append(row_of(case, fast, slow, name, "documents/s", target=corpus.targets[passes], note=note))
            ends = math.exp(-good), math.exp(-other), name, "held-out perplexity"
            result.append(row_of(case, *ends, target=1.0, higher_is_better=False))
    return result


def _spread(ours: Found, peer: Found, passes: int) -> str:
    lowest = [f"{min(one.score[passes]):.4f} to {max(one.score[passes]):.4f}" for one in (ours, peer)]
    return f"over starts {lowest[0]} and {lowest[1]}"


def rows(quick: bool) -> tuple[list[Row], list[str]]:
    """Rows of documents a second and of held-out perplexity, and what was held equal."""
    folder = Path(os.environ.get("JENSEN_DATA") or Path(__file__).parents[2] / "shared" / "data")
    path = folder / "ap_corpus.npz"
    notes = [
        f"LDA: online inference, batches of {BATCH}, float32, {torch.get_num_threads()} threads of torch; scikit-learn "
        "and gensim's LdaModel infer documents in one thread, as they do by default. Step sizes (t + 10)^-0.7, priors "
        f"1/K, inner tolerance {TOL:g} on the mean change of gamma: equal. At most {STEPS} inner steps for the peers, "
        f"{OUR_STEPS} for ours, every second one followed by an extrapolation. Held-out words: one half of each "
        "held-out document given the other, the same function for all topics, mean over starts."
    ]
    corpora = []
    if path.is_file():
        corpora.append((press(path, 2 if quick else 10, 512 if quick else None), 1 if quick else 3))
    else:
        notes.append(f"LDA: no AP corpus in {folder}: set JENSEN_DATA to the folder of ap_corpus.npz.")
    corpora.append((generated(*((10_000, 1_024) if quick else (DOCUMENTS, USED))), 1))
    result = []
    with threadpool_limits(torch.get_num_threads()):
        for corpus, repeats in corpora:
            for n_topics in (50, 200):
                result += _table(corpus, n_topics, _measure(corpus, n_topics, repeats, list(CONTENDERS)))
    return result, notes
