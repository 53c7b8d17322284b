"""Gaps of a table filled in by a VAE, beside three imputers of scikit-learn.

Of three tables that come with scikit-learn (no download) a quarter of all values is removed at random; a VAE with
likelihood table learns from what is left and fills the gaps. The error is that of the removed values alone, in standard
deviations of each column, so that the mean of a column has about 1.

    python examples/impute.py                # some 30 seconds; a picture in runs/impute
    python examples/impute.py --seeds 10
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from jensen import VAE, Iwae, load_data, train
from jensen.config import NetConfig
from jensen.metrics.imputation import impute
from jensen.plots import save

TABLES = ("wine", "diabetes", "breast_cancer")
REMOVED = 0.25
METHODS = ("VAE", "IterativeImputer", "KNNImputer", "mean")

Array = npt.NDArray[np.float64]


class Filled(NamedTuple):
    """What a method made of the removed values of a table, standardised, beside what they were."""

    truth: Array
    made: Array

    @property
    def error(self) -> float:
        """Root mean square."""
        return float(np.sqrt(np.mean((self.made - self.truth) ** 2)))


def main(folder: Path, seeds: int) -> None:
    """Remove, fill in by each method, compare, draw."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"error of removed values in standard deviations: mean over {seeds} seeds (lowest to highest)\n")
    print(f"{'table':<16}{'rows x columns':<16}" + "".join(f"{name:<22}" for name in METHODS))
    drawn: dict[str, dict[str, Filled]] = {}
    for name in TABLES:
        table: Array = getattr(datasets, f"load_{name}")().data.astype(float)
        found = [compared(table, seed) for seed in range(seeds)]
        cells = [_cell([each[method].error for each in found]) for method in METHODS]
        size = f"{table.shape[0]} x {table.shape[1]}"
        print(f"{name:<16}{size:<16}" + "".join(f"{cell:<22}" for cell in cells), flush=True)
        drawn[name] = found[0]
    print(f"\n{save(picture(drawn), folder / 'imputed.png')}")


def compared(table: Array, seed: int) -> dict[str, Filled]:
    """Every method on one draw of gaps."""
    gone = np.random.default_rng(seed).random(table.shape) < REMOVED
    holed = np.where(gone, np.nan, table)
    mean, sd = np.nanmean(holed, 0), np.nanstd(holed, 0)
    known, truth = (holed - mean) / sd, (table - mean) / sd
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # IterativeImputer has not always converged
        made = {
            "IterativeImputer": IterativeImputer(max_iter=20, random_state=0).fit_transform(known),
            "KNNImputer": KNNImputer().fit_transform(known),
            "mean": SimpleImputer().fit_transform(known),
            "VAE": by_vae(known, seed),
        }
    return {name: Filled(truth[gone], filled[gone]) for name, filled in made.items()}


def by_vae(known: Array, seed: int) -> Array:
    """The table, filled by a VAE that has learned from it as from any file with gaps."""
    names = [f"column {place}" for place in range(known.shape[1])]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        rows = [",".join("" if np.isnan(value) else repr(float(value)) for value in row) for row in known]
        path.write_text("\n".join([",".join(names), *rows]), encoding="utf-8")
        data = load_data(str(path))
    torch.manual_seed(seed)
    net = NetConfig(kind="mlp", width=128, depth=1)
    model = VAE(data.shape, 6, net=net, likelihood="table", columns=data.columns)
    train(model, data, Iwae(10), epochs=120, lr=5e-3, batch_size=64, seed=seed, quiet=True)
    seen = data.train.transform_function
    assert seen.mean is not None
    assert seen.sd is not None
    x = seen(data.dataset.values[torch.arange(len(known))])
    filled: Array = (impute(model, x).values * seen.sd + seen.mean).double().numpy()
    return filled


def _cell(errors: list[float]) -> str:
    return f"{np.mean(errors):.3f} ({min(errors):.2f} to {max(errors):.2f})"


def picture(drawn: dict[str, dict[str, Filled]]) -> Figure:
    """Filled in against true, of the first seed: a row a table, a panel a method."""
    methods = METHODS[:3]
    figure = Figure(figsize=(3.1 * len(methods), 3.1 * len(drawn)), dpi=100, layout="constrained", facecolor="white")
    panels = figure.subplots(len(drawn), len(methods), squeeze=False)
    for line, (name, found) in zip(panels, drawn.items(), strict=True):
        for ax, method in zip(line, methods, strict=True):
            truth, made = found[method]
            ax.plot([-4, 6], [-4, 6], color="#6B7785", linewidth=1, linestyle="--")
            ax.scatter(truth, made, s=5, alpha=0.35, linewidths=0, color="#0072B2")
            ax.set(xlim=(-4, 6), ylim=(-4, 6), aspect="equal", xlabel="removed value, standardised")
            ax.set_title(f"{name}: {method}\nerror {found[method].error:.2f}", loc="left", fontsize=9.5)
        line[0].set_ylabel("filled in")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/impute"), metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.output, arguments.seeds)
