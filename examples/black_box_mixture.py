"""A Gaussian mixture with discrete assignments: flowers of unknown species, each assigned by its own latent.

Petal lengths and widths of 150 irises (Fisher 1936, from scikit-learn). The assignments are latents of the model, used
as an index into the components; q has a probability for each flower and each component, found by enumeration together
with means and scales. Nothing is summed out by hand.

    python examples/black_box_mixture.py            # some seconds; --output DIR for the picture
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_iris
from torch.distributions import Categorical, Dirichlet, Normal

from jensen.inference import Model, categorical, fit, positive, real, simplex
from jensen.plots import ellipses, save

COMPONENTS = 3


def log_joint(z: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """log p(x, z), in terms; those of the flowers are left unsummed."""
    return {
        "weights": Dirichlet(torch.full((COMPONENTS,), 2.0, dtype=torch.float64)).log_prob(z.weights),
        "means": Normal(0.0, 2.0).log_prob(z.means).sum(),
        "scales": Normal(-1.0, 1.0).log_prob(z.scales.log()).sum() - z.scales.log().sum(),
        "species": Categorical(z.weights).log_prob(z.species),
        "flowers": Normal(z.means[z.species], z.scales[z.species]).log_prob(x).sum(-1),
    }


def main() -> None:
    """Fit from several starts, print the verdict, draw the flowers by their likeliest component."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/black_box_mixture"), help="folder of the picture")
    output = parser.parse_args().output
    iris = load_iris()
    x = torch.as_tensor(iris.data[:, 2:])
    x = (x - x.mean(0)) / x.std(0)
    latents = {
        "weights": simplex(COMPONENTS),
        "means": real(COMPONENTS, 2),
        "scales": positive(COMPONENTS, 2),
        "species": categorical(COMPONENTS, plate="flowers"),
    }
    result = fit(Model(latents, log_joint, plates={"flowers": len(x)}), x, seed=1)
    print(result.summary())
    probabilities = torch.nn.functional.one_hot(result.sample(2000)["species"], COMPONENTS).double().mean(0)
    component = probabilities.argmax(1).numpy()
    for k in range(COMPONENTS):
        found = [int((iris.target[component == k] == s).sum()) for s in range(3)]
        print(f"component {k}: " + ", ".join(f"{n} {name}" for n, name in zip(found, iris.target_names, strict=True)))
    draws = result.sample(2000)
    figure = ellipses(
        x.numpy(),
        draws["means"].mean(0).numpy(),
        torch.diag_embed(draws["scales"].mean(0) ** 2).numpy(),
        labels=component,
        names=("petal length (standardised)", "petal width"),
        title="Flowers by their likeliest component",
    )
    print(save(figure, output / "flowers.png"))


if __name__ == "__main__":
    main()
