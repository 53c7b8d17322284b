"""How many kinds of eruption has Old Faithful? A Dirichlet process mixture decides for itself.

Ten components are offered; those without need for rows stay empty. The data are the geyser's 272 eruptions where
$JENSEN_DATA (or ../shared/data) holds old_faithful.csv, else petals of scikit-learn's iris data.

    python examples/mixture.py                      # some seconds; pictures in runs/mixture
    python examples/mixture.py --output DIR
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_iris

from jensen.estimators.mixture import BayesianMixture
from jensen.plots import elbo_curve, ellipses, save

OFFERED = 10


def measurements() -> tuple[str, list[str], npt.NDArray[np.float64]]:
    """What the rows are, the columns' names, the rows."""
    folder = Path(os.environ.get("JENSEN_DATA") or Path(__file__).parents[1].parent / "shared" / "data")
    path = folder / "old_faithful.csv"
    if path.is_file():
        rows = np.loadtxt(path, delimiter=",", skiprows=1)
        return "Old Faithful", ["eruption, minutes", "waiting, minutes"], rows
    print(f"no {path}: petals of iris flowers instead; set JENSEN_DATA to the folder of old_faithful.csv")
    return "Iris", ["petal length, cm", "petal width, cm"], load_iris().data[:, 2:]


def main(output: Path) -> None:
    """Fit, say what was found, compare with fixed numbers of components, draw."""
    title, names, rows = measurements()
    settings = {"mean_precision": 0.2, "covariance_prior": 0.3 * np.cov(rows.T), "random_state": 0, "n_init": 4}
    model = BayesianMixture(OFFERED, weight_prior="process", weight_concentration=0.5, max_iter=5000, **settings)
    model.fit(rows)
    used = model.counts_ >= 0.5  # rows
    print(f"{title}, {len(rows)} rows: {used.sum()} of {OFFERED} components used, ELBO {model.elbo_:.2f} nats")
    for k in np.flatnonzero(used):
        low, high = (np.sqrt(np.diag(model.covariances_[k])) * sign + model.means_[k] for sign in (-1, 1))
        spans = ", ".join(f"{name} {a:.1f} to {b:.1f}" for name, a, b in zip(names, low, high, strict=True))
        print(f"  {100 * model.weights_[k]:.0f}% of rows: {spans} (mean -+ standard deviation)")
    fixed = {f"{k} components": BayesianMixture(k, **settings).fit(rows) for k in (2, 3, 4)}
    for name, other in fixed.items():
        print(f"a Dirichlet prior on {name}: ELBO {other.elbo_:.2f} nats")
    new, _ = model.sample(1000)
    print(f"a new row's mean under the predictive density: {np.round(new.mean(0), 2)}")
    figure = ellipses(
        rows,
        model.means_[used],
        model.covariances_[used],
        model.weights_[used],
        model.predict(rows) if used[: used.sum()].all() else None,
        names=names,
        title=f"{title}: {used.sum()} of {OFFERED} components used",
    )
    output.mkdir(parents=True, exist_ok=True)
    print(save(figure, output / "components.png"))
    traces = {f"process, {OFFERED} offered": model.elbo_trace_} | {k: fit.elbo_trace_ for k, fit in fixed.items()}
    print(save(elbo_curve(traces, gap=False), output / "elbo.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Dirichlet process mixture of Gaussians on real data.")
    parser.add_argument("--output", type=Path, default=Path("runs/mixture"), help="folder of the pictures")
    main(parser.parse_args().output)
