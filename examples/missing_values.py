"""Missing values filled in by their posterior: handwritten digits of which three pixels in ten are hidden.

Bayesian PCA is fitted to the first 500 of the digits of 8 x 8 pixels that come with scikit-learn, 30 % of the pixels
hidden. What is hidden gets its posterior mean and standard deviation; relevance determination says how many factors the
pixels need. The error is compared with that of each pixel's mean.

    python examples/missing_values.py                # some seconds; pictures in runs/missing_values
    python examples/missing_values.py --output DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from jensen.estimators.factor_analysis import BayesianPCA
from jensen.plots import relevance, save

HIDDEN = 0.3
SHOWN = 10
FACTORS = 40
DIGITS = 500

Array = npt.NDArray[np.float64]


def main(folder: Path) -> None:
    """Hide, fit, fill in, compare, draw."""
    folder.mkdir(parents=True, exist_ok=True)
    images: Array = load_digits().data[:DIGITS] / 16
    places = np.flatnonzero(images.std(0) > 0)  # corner pixels are always white
    digits = images[:, places]
    gone = np.random.default_rng(0).random(digits.shape) < HIDDEN
    gaps = np.where(gone, np.nan, digits)

    model = BayesianPCA(FACTORS, tol=1e-5, max_iter=200, random_state=0).fit(gaps)
    filled, deviation = model.impute(gaps)
    error = (filled - digits)[gone]
    mean = np.broadcast_to(np.nanmean(gaps, 0), digits.shape)
    print(f"{len(digits)} digits, {gone.mean():.0%} of their pixels hidden")
    print(f"{model.n_iter_} sweeps, ELBO {model.elbo_:.0f} nats; factors kept: {model.n_relevant_} of {FACTORS}")
    print(f"root mean squared error of hidden pixels: {rms(error):.3f}")
    print(f"the same with each pixel's mean: {rms((mean - digits)[gone]):.3f}")
    inside = (np.abs(error) < 2 * deviation[gone]).mean()
    print(f"inside two standard deviations: {inside:.1%} (95.4% if errors were normal)")

    print(save(picture(digits, gaps, filled, deviation, places), folder / "filled_in.png"))
    figure = relevance(
        np.sqrt(model.relevance_),
        title=f"{model.n_relevant_} of {FACTORS} factors are kept",
        y="size of the loadings",
    )
    print(save(figure, folder / "relevance.png"))


def rms(error: Array) -> float:
    """Root mean square."""
    return float(np.sqrt((error**2).mean()))


def picture(digits: Array, gaps: Array, filled: Array, deviation: Array, places: npt.NDArray[np.int64]) -> Figure:
    """Rows: original, what was given, what was filled in, how uncertain it is."""
    figure = Figure(figsize=(SHOWN * 0.85, 4.0), dpi=110, layout="constrained", facecolor="white")
    axes = figure.subplots(4, SHOWN)
    rows = (("original", digits, "Greys", 1.0), ("given", gaps, "Greys", 1.0), ("filled in", filled, "Greys", 1.0))
    for line, (name, images, colours, top) in zip(
        axes, (*rows, ("uncertainty", deviation, "Oranges", 0.5)), strict=True
    ):
        for ax, image in zip(line, images[:SHOWN], strict=True):
            square = np.zeros(64)
            square[places] = image
            ax.set_facecolor("#56B4E9")  # where a value is missing
            ax.imshow(np.ma.masked_invalid(square.reshape(8, 8)), cmap=colours, vmin=0, vmax=top)
            ax.set(xticks=[], yticks=[])
        line[0].set_title(name, loc="left", fontsize=10, fontweight="bold")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/missing_values"), metavar="DIR")
    main(parser.parse_args().output)
