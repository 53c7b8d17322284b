"""Is a tumour malignant? Probabilities that know how little was seen.

Bayesian logistic regression on the breast cancer data that come with scikit-learn (569 tumours, 30 measurements;
Street, Wolberg & Mangasarian 1993), learned from 20 to 320 tumours: by the Jaakkola-Jordan bound, on the ELBO itself by
conjugate-computation inference, and maximum likelihood as most people do it. What counts is the log-probability of the
tumours that were kept out.

    python examples/classification.py                  # under a minute; pictures in runs/classification
    python examples/classification.py --output DIR

The same from the command line:

    jensen infer logistic --data breast_cancer
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jensen.estimators.logistic_regression import BayesianLogisticRegression
from jensen.plots import intervals, save
from jensen.plots.learning import learning_curves

SIZES = (20, 40, 80, 160, 320)
REPEATS = 5
TEST = 200


def models() -> dict[str, Any]:
    """What is compared."""
    return {
        "Jaakkola-Jordan": BayesianLogisticRegression(precision=1.0),
        "ELBO": BayesianLogisticRegression(precision=1.0, bound="quadrature"),
        "maximum likelihood": LogisticRegression(C=1e6, max_iter=10_000),
    }


def surprise(model: Any, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """Minus the mean log-probability of the true classes, nats; probabilities under 1e-12 count as that."""
    chosen = model.predict_proba(x)[np.arange(len(y)), y]
    return -float(np.log(chosen.clip(1e-12)).mean())


def main() -> None:
    """Learn from more and more tumours, then look at one model."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/classification"), help="folder of the pictures")
    output = options.parse_args().output

    data = load_breast_cancer()
    found: dict[str, list[float]] = {name: [] for name in models()}
    for size in SIZES:
        scores: dict[str, list[float]] = {name: [] for name in found}
        for repeat in range(REPEATS):
            order = np.random.default_rng(repeat).permutation(len(data.target))
            train, test = order[TEST : TEST + size], order[:TEST]
            for name, model in models().items():
                fitted = make_pipeline(StandardScaler(), model).fit(data.data[train], data.target[train])
                scores[name].append(surprise(fitted, data.data[test], data.target[test]))
        for name, values in scores.items():
            found[name].append(float(np.mean(values)))
        print(f"{size:4d} tumours: " + ", ".join(f"{name} {found[name][-1]:.3f}" for name in found) + " nats a tumour")

    x, names = StandardScaler().fit_transform(data.data), list(data.feature_names)
    model = BayesianLogisticRegression(ard=True, max_iter=3000).fit(x, data.target)
    print(f"with relevance determination: {model.bound_} bound {model.elbo_:.2f} nats after {model.n_iter_} sweeps")
    loc, covariance = model.posterior_["weights"].standard_parameters
    spread = 1.96 * covariance[0].diagonal().sqrt().numpy()[: len(names)]
    mean = loc[0].numpy()[: len(names)]
    shown = np.argsort(-np.abs(mean))[:15]
    figure = intervals(
        [names[i] for i in shown],
        mean[shown],
        (mean - spread)[shown],
        (mean + spread)[shown],
        title="Log-odds of benign: mean and 95%",
    )
    print(save(figure, output / "coefficients.png"))
    figure = learning_curves(
        SIZES,
        found,
        x="tumours learned from",
        y="nats a tumour",
        title="Surprise at tumours kept out (lower is better)",
    )
    print(save(figure, output / "learning.png"))


if __name__ == "__main__":
    main()
