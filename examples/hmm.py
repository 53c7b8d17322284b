"""Hidden states of a text and of a market, each found from one sequence of symbols or numbers alone.

The text: the prose of scikit-learn's descriptions of its data sets, 27 symbols (letters and the space), a sequence a
paragraph. Nobody tells the model what a vowel is; with two states it finds out, as in Cave & Neuwirth (1980); h counts
as one, since it follows t and s. The market: daily returns of a share that matplotlib ships with its examples, 2004 to
2008; states differ in how much prices move, not in where they go.

    python examples/hmm.py                      # under a minute; pictures in runs/hmm
    python examples/hmm.py --output DIR
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.cbook import get_sample_data
from sklearn import datasets

from jensen.estimators.hmm import BayesianCategoricalHMM, BayesianGaussianHMM
from jensen.plots import emission_table, save, states

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
NAMES = ["space", *ALPHABET[1:]]
VOWELS = "aeiou"


def paragraphs() -> list[npt.NDArray[np.int64]]:
    """Paragraphs of running text as numbers of symbols; lists, tables and formulas are left out."""
    found = []
    for name in ("breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"):
        for part in re.split(r"\n\s*\n", getattr(datasets, f"load_{name}")().DESCR):
            words = re.findall(r"[a-z]+", part.lower())
            letters = sum(map(len, words))
            if letters > 60 and letters > 0.75 * len(re.sub(r"\s", "", part)):
                found.append(np.array([ALPHABET.index(symbol) for symbol in " ".join(words)]))
    return found


def read_letters(output: Path) -> None:
    """Two kinds of letters; what they buy on paragraphs that were held out."""
    texts = paragraphs()
    train, held_out = [t for i, t in enumerate(texts) if i % 5], texts[::5]
    print(f"{sum(map(len, train)):,} symbols in {len(train)} paragraphs, {sum(map(len, held_out)):,} held out")
    scores = {}
    for count in (1, 2, 3):
        model = BayesianCategoricalHMM(count, n_symbols=27, n_init=2, tol=1e-6, max_iter=200, random_state=0).fit(train)
        scores[count] = model.score(held_out)
        print(f"{count} states: ELBO {model.elbo_:10.1f} nats, held out {scores[count]:.4f} nats a symbol")
        if count == 2:
            two = model
    symbols, probability = np.concatenate(texts), two.predict_proba(texts)
    shares = np.stack([probability[symbols == symbol].mean(0) for symbol in range(27)], axis=1)  # (2, 27)
    order = np.argsort(shares[:, [ALPHABET.index(vowel) for vowel in VOWELS]].sum(1))[::-1]
    shares, transitions = shares[order], two.transitions_[np.ix_(order, order)]
    for state in (0, 1):
        kind = [name for name, share in zip(NAMES, shares[state], strict=True) if share > 0.5]
        print(f"state {state + 1}: {' '.join(kind)}; stays with probability {transitions[state, state]:.2f}")
    figure = emission_table(
        shares, ["state 1", "state 2"], NAMES, title="Which state each symbol of a text comes from", y=""
    )
    print(save(figure, output / "letters.png"))


def read_market(output: Path) -> None:
    """Calm and turbulent days."""
    prices: Any = get_sample_data("goog.npz")["price_data"]
    returns = 100 * np.diff(np.log(prices["adj_close"]))[:, None]
    train, held_out = returns[:-250], returns[-250:]
    for count in (1, 2, 3):
        model = BayesianGaussianHMM(count, sticky=5.0, n_init=3, random_state=0).fit(train)
        print(f"{count} states: ELBO {model.elbo_:9.1f} nats, last 250 days {model.score(held_out):.4f} nats a day")
    model = BayesianGaussianHMM(2, sticky=5.0, n_init=3, random_state=0).fit(returns)
    order = np.argsort(model.covariances_[:, 0, 0])
    deviations, stay = np.sqrt(model.covariances_[order, 0, 0]), np.diag(model.transitions_)[order]
    for name, deviation, last in zip(("calm", "turbulent"), deviations, 1 / (1 - stay), strict=True):
        print(f"{name}: standard deviation {deviation:.1f}% a day, lasting {last:.0f} days")
    ahead = model.forecast(returns).states[0, order]
    print(f"the day after {prices['date'][-1]}: turbulent with probability {ahead[1]:.2f}")
    figure = states(
        returns[:, 0],
        model.predict_proba(returns)[:, order],
        names=["daily return, %"],
        state_names=["calm", "turbulent"],
        title=f"A share's daily returns, {prices['date'][1]} to {prices['date'][-1]}",
    )
    print(save(figure, output / "market.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Hidden Markov models of a text and of a market.")
    parser.add_argument("--output", type=Path, default=Path("runs/hmm"), help="folder of the pictures")
    arguments = parser.parse_args()
    read_letters(arguments.output)
    read_market(arguments.output)
