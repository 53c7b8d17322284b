"""Logistic regression by its log joint: how sure a mean field is of each coefficient, and how sure it should be.

Ten cell measurements of 569 breast tumours (Street, Wolberg & Mangasarian 1993, from scikit-learn), which depend on
each other strongly: independent normals are far too narrow. Linear response corrects that from the same fit; a full
covariance agrees with it.

    python examples/black_box_logistic.py            # some seconds; --output DIR for the picture
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from torch.distributions import Bernoulli, Normal

from jensen.inference import Model, fit, real
from jensen.plots import intervals, save


def log_joint(z: Any, data: Any) -> dict[str, torch.Tensor]:
    """log p(y, w, b | x), in terms."""
    return {
        "weights": Normal(0.0, 2.5).log_prob(z.weights).sum(),
        "intercept": Normal(0.0, 5.0).log_prob(z.intercept),
        "benign": Bernoulli(logits=data.x @ z.weights + z.intercept).log_prob(data.y),
    }


def main() -> None:
    """Fit a mean field and a full covariance, compare their spreads, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/black_box_logistic"), help="folder of the picture")
    output = parser.parse_args().output
    cancer = load_breast_cancer()
    x = torch.as_tensor(cancer.data[:, :10])
    data = {"x": (x - x.mean(0)) / x.std(0), "y": torch.as_tensor(cancer.target, dtype=torch.float64)}
    model = Model({"weights": real(10), "intercept": real()}, log_joint, plates={"tumours": len(x)})

    narrow, full = fit(model, data), fit(model, data, family="full_rank")
    print(narrow.summary())
    print(f"full rank: ELBO {full.elbo:.2f} nats, {full.pareto_k}")
    one, other = narrow.summary(), full.summary()
    print(f"{'coefficient':24}{'mean field':>14}{'linear response':>18}{'full rank':>12}   (sd)")
    labels, mean, sd = [], [], []
    for place, what in enumerate(cancer.feature_names[:10]):
        mine, theirs = one[f"weights[{place}]"], other[f"weights[{place}]"]
        print(f"{what:24}{mine['sd']:14.2f}{mine['sd (LR)']:18.2f}{theirs['sd']:12.2f}")
        labels += [f"{what}, {how}" for how in ("mean field", "linear response", "full rank")]
        mean += [mine["mean"], mine["mean"], theirs["mean"]]
        sd += [mine["sd"], mine["sd (LR)"], theirs["sd"]]
    low, high = ([m + side * s for m, s in zip(mean, sd, strict=True)] for side in (-1.96, 1.96))
    figure = intervals(labels[:15], mean[:15], low[:15], high[:15], title="Coefficients: mean and 95%")
    print(save(figure, output / "coefficients.png"))


if __name__ == "__main__":
    main()
