"""What goes with what in sparse counts: Poisson factorisation of the words of newspaper articles.

Counts of words in Associated Press articles can be factorised like ratings: articles are users, words are items. One
token in five is held out at random; Poisson counts split like that are independent, so the likelihood of the rest is a
fair score. Articles come from $JENSEN_DATA (or ../shared/data); without it the grey levels (0 to 16) of scikit-learn's
digits are the counts, pixels the items.

    python examples/ratings.py                # under a minute; a picture in runs/ratings
    python examples/ratings.py --output DIR
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from scipy.special import gammaln
from sklearn.datasets import load_digits

from jensen.estimators.factorisation import PoissonFactorisation
from jensen.plots import elbo_curve, save, topics

ROWS, WORDS, FACTORS, HELD_OUT = 1000, 2000, 10, 0.2


def counts() -> tuple[str, list[str], sp.csr_matrix]:
    """What the counts are of, the items' names, users by items."""
    folder = Path(os.environ.get("JENSEN_DATA") or Path(__file__).parents[1].parent / "shared" / "data")
    path = folder / "ap_corpus.npz"
    if not path.is_file():
        print(f"no {path}: scikit-learn's digits instead; set JENSEN_DATA to the folder of ap_corpus.npz")
        return "pixels of digits", [f"{i // 8},{i % 8}" for i in range(64)], sp.csr_matrix(load_digits().data[:ROWS])
    with np.load(path) as data:
        shape = len(data["indptr"]) - 1, len(data["vocab"])
        matrix = sp.csr_matrix((data["counts"].astype(np.float64), data["indices"], data["indptr"]), shape=shape)
        common = np.argsort(-matrix.sum(0).A1, kind="stable")[:WORDS]
        return "words of articles", data["vocab"][common].tolist(), matrix[:ROWS, common].tocsr()


def split(matrix: sp.csr_matrix) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Counts to learn from, and those of the tokens held out."""
    held_out = matrix.copy()
    held_out.data = np.random.default_rng(0).binomial(matrix.data.astype(np.int64), HELD_OUT).astype(np.float64)
    kept = (matrix - held_out).tocsr()
    for part in (kept, held_out):
        part.eliminate_zeros()
    return kept, held_out


def popularity_score(kept: sp.csr_matrix, held_out: sp.csr_matrix, exposure: float) -> float:
    """The same score of rates that are a row's total times a column's share: no factors."""
    rows, columns = kept.sum(1).A1, kept.sum(0).A1 + 0.5
    columns = columns / columns.sum()
    entries = held_out.tocoo()
    rates = exposure * np.maximum(rows[entries.row], 0.5) * columns[entries.col]
    total = (entries.data * np.log(rates) - gammaln(entries.data + 1)).sum() - exposure * np.maximum(rows, 0.5).sum()
    return float(total / len(rows))


def main(output: Path) -> None:
    """Split, fit, score, name the factors, draw."""
    output.mkdir(parents=True, exist_ok=True)
    title, names, matrix = counts()
    kept, held_out = split(matrix)
    exposure = HELD_OUT / (1 - HELD_OUT)
    tokens = held_out.sum() / held_out.shape[0]
    print(f"{title}: {matrix.shape[0]} rows, {matrix.shape[1]} columns, {matrix.nnz} counts")
    print(f"{tokens:.1f} tokens a row held out")
    base = popularity_score(kept, held_out, exposure)
    print(f"held-out log likelihood, nats a row: popularity alone {base:.2f}")
    for method, options in (("cavi", {"max_iter": 60}), ("svi", {"max_iter": 8, "batch_size": 200})):
        model = PoissonFactorisation(FACTORS, method=method, tol=1e-5, random_state=0, **options).fit(kept)
        score = model.score(held_out, exposure=exposure)
        gain = (score - base) / tokens
        print(f"  {method}: {score:.2f} ({gain:+.3f} a token) after {model.n_iter_} steps, ELBO {model.elbo_:.0f}")
        if method == "cavi":
            weights = model.item_factors_ / model.item_factors_.sum(0)
            best = np.argsort(-weights, axis=0)[:8].T
            for share, line in zip(model.relevance_, best, strict=True):
                print(f"  {share:5.1%} of counts: {', '.join(names[i] for i in line)}")
            trace, shown = model.elbo_trace_, weights
    figure = topics(
        [[names[i] for i in line] for line in best],
        [shown[line, k].tolist() for k, line in enumerate(best)],
        title="Factors by their largest items",
        what="factor",
    )
    print(save(figure, output / "factors.png"))
    print(save(elbo_curve(np.array(trace)), output / "elbo.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/ratings"), metavar="DIR")
    main(parser.parse_args().output)
