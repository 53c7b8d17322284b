"""How a disease will progress, from ten measurements: which of them matter, and how sure a prediction is.

Bayesian linear regression with automatic relevance determination on the diabetes data that come with scikit-learn
(442 patients; Efron, Hastie, Johnstone & Tibshirani 2004), and how often its predictive intervals hold on patients
that were kept out. Twenty columns of noise are added, to see whether they are recognised.

    python examples/regression.py                      # some seconds; pictures in runs/regression
    python examples/regression.py --output DIR

The same from the command line, without the noise:

    jensen infer regression --data diabetes
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from jensen.estimators.linear_regression import BayesianLinearRegression
from jensen.plots import intervals, relevance, save

NOISE = 20


def main() -> None:
    """Fit, count intervals that hold, draw."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/regression"), help="folder of the pictures")
    output = options.parse_args().output

    data = load_diabetes()
    rng = np.random.default_rng(0)
    x = np.hstack([data.data / data.data.std(0), rng.normal(size=(len(data.data), NOISE))])
    names = [*data.feature_names, *(f"noise {i + 1}" for i in range(NOISE))]
    train, test, y, truth = train_test_split(x, data.target, test_size=0.5, random_state=0)

    model = BayesianLinearRegression().fit(train, y)
    print(f"{len(y)} patients, {x.shape[1]} columns: ELBO {model.elbo_:.2f} nats after {model.n_iter_} sweeps")
    plain = LinearRegression().fit(train, y)
    print(f"R^2 on {len(truth)} others: {model.score(test, truth):.3f}; least squares: {plain.score(test, truth):.3f}")
    for level in (0.5, 0.8, 0.95):
        low, high = model.predict_interval(test, level).T
        inside = ((low < truth) & (truth < high)).mean()
        print(f"{level:.0%} predictive intervals hold {inside:.1%} of them, width {np.mean(high - low):.0f}")
    print(f"log predictive density {model.score_samples(test, truth).mean():.3f} nats a patient")

    draws = model.posterior_["weights"].sample((20_000,)).loc.numpy()
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    shown = np.argsort(-np.abs(model.coef_))[:15]
    figure = intervals(
        [names[i] for i in shown], model.coef_[shown], low[shown], high[shown], title="Coefficients: mean and 95%"
    )
    print(save(figure, output / "coefficients.png"))
    width = model.noise_ / np.sqrt(model.relevance_)
    figure = relevance(
        width, names, title="Prior width that was learned", x="column, widest first", y="standard deviation"
    )
    print(save(figure, output / "relevance.png"))
    order = np.argsort(model.predict(test))[:: len(test) // 40][:40]
    low, high = model.predict_interval(test[order], 0.8).T
    figure = intervals(
        [f"patient {i + 1}" for i in range(len(order))],
        model.predict(test[order]),
        low,
        high,
        truth[order],
        title="80% predictive intervals of new patients",
        zero=False,
    )
    print(save(figure, output / "predictions.png"))


if __name__ == "__main__":
    main()
