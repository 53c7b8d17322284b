"""Digits on request, and digits completed: two conditional VAEs.

The first is told the class. A grid shows each class with the same latent points: z holds the style, as the class need
not be in it. Bayes' rule turns the model into a classifier, argmax_y log p(x | y), whose accuracy says whether the
condition is used at all: about 10% would mean that it is not.

The second is told a quadrant of the picture and fills in the rest: several answers for each, drawn from p(z | c),
beside the truth. It is scored by log p(hidden | visible), against a model of the same size that is shown nothing.

    python examples/conditional.py                     # 1,797 digits of scikit-learn: under a minute
    python examples/conditional.py --data mnist        # 10,000 of MNIST: 5 minutes; reads $JENSEN_DATA, or downloads
    python examples/conditional.py --part upper-half --output DIR

The same from the command line:

    jensen train --data digits --condition label --run runs/digits-by-class
    jensen sample runs/digits-by-class --label 3
    jensen train --data digits --condition upper-left --prior learned --run runs/digits-completed
    jensen inpaint runs/digits-completed
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jensen import VAE, evaluate, load_data, train
from jensen.config import NetConfig
from jensen.data import Data
from jensen.data.visible import PARTS
from jensen.metrics.classification import classify
from jensen.plots import save
from jensen.plots.conditional import class_grid, inpainting

SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"net": NetConfig(kind="mlp", width=128, depth=2), "epochs": 80, "latent": 8, "limit": None},
    "mnist": {"net": NetConfig(kind="mlp", width=400, depth=2), "epochs": 30, "latent": 16, "limit": 10_000},
}
SHOWN = 8  # pictures a figure has in a row or column


def fitted(name: str, **choices: Any) -> tuple[VAE, Data]:
    """A VAE of the named data under the condition chosen, and the data."""
    settings = SETTINGS[name]
    likelihood = "discretised-logistic" if name == "digits" else "bernoulli"
    transform = "none" if name == "digits" else "binarise"
    data = load_data(name, transform=transform, limit=settings["limit"], condition=choices.get("condition"))
    torch.manual_seed(0)
    model = VAE(
        data.shape,
        settings["latent"],
        net=settings["net"],
        likelihood=likelihood,
        levels=data.levels,
        condition_shape=data.condition_shape,
        prior=choices.get("prior", "standard"),
    )
    train(model, data, quiet=True, epochs=settings["epochs"], batch_size=64, lr=2e-3, decay="cosine")
    return model, data


def by_class(name: str, output: Path) -> None:
    """A model told the class: a grid with one row a class, and what it knows of classes."""
    model, data = fitted(name, condition="label")
    classes = torch.eye(len(data.class_names))
    torch.manual_seed(1)
    z = torch.randn(SHOWN, model.latent)
    with torch.no_grad():
        images = model.decode(z.expand(len(classes), -1, -1), classes[:, None])
    figure = class_grid(images, data.class_names, title="The same z in each column, the class changed")
    print(save(figure, output / "classes.png"))
    found = classify(model, data.test)
    print(f"told the class, of {found.examples} test digits:")
    for row, value, meaning in found.table():
        print(f"  {row:22}{value:20}{meaning}")
    for warning in found.warnings:
        print(f"  {warning}")


def completed(name: str, part: str, output: Path) -> None:
    """A model told a part of the picture: several completions beside the truth, and their score."""
    model, data = fitted(name, condition=part, prior="learned")
    batch = data.test.batch(torch.arange(SHOWN))
    assert batch.condition is not None
    assert batch.mask is not None
    torch.manual_seed(2)
    drawn = torch.stack([model.sample(SHOWN, condition=batch.condition) for _ in range(6)])
    mean = torch.stack([model.sample(SHOWN, condition=batch.condition) for _ in range(200)]).mean(0)

    def whole(hidden: Tensor) -> Tensor:
        return torch.where(batch.mask.bool(), hidden, batch.target)  # type: ignore[union-attr]

    figure = inpainting(batch.condition, whole(drawn), batch.target, mean=whole(mean), title=f"Told the {part}")
    print(save(figure, output / "inpainting.png"))
    told = evaluate(model, data.test, samples=100)
    spread = (drawn.std(0) * batch.mask).sum() / batch.mask.expand_as(batch.target).sum()
    print(f"told the {part}, of {told.examples} test digits and their {told.dims} hidden pixels:")
    print(f"  log p(hidden | visible)  {told.log_likelihood:8.2f} ± {told.log_likelihood_error:.2f} nats")
    print(f"  completions differ by    {spread:8.3f} (mean standard deviation of a hidden pixel, of 1)")
    print(f"  log p(hidden) alone      {_unseen(name, part):8.2f} nats, by a VAE that is shown nothing")


def _unseen(name: str, part: str) -> float:
    """Mean log p(hidden) of a VAE without a condition that is trained on whole pictures and scored on the hidden part.

    Its encoder sees the whole picture too: importance sampling may look where it likes, p(z) is what counts.
    """
    model, _ = fitted(name)
    data = load_data(name, transform="none" if name == "digits" else "binarise", condition=part)

    class Masked:
        """The test split with the mask, without the condition."""

        levels, transform = data.levels, data.transform

        def __len__(self) -> int:
            return len(data.test)

        def batch(self, index: Tensor) -> Any:
            return data.test.batch(index)._replace(condition=None)

    found = evaluate(model, Masked(), samples=500).log_likelihood
    assert found is not None
    return found


def main() -> None:
    """Train both models and draw both pictures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", choices=sorted(SETTINGS), default="digits")
    options.add_argument("--part", choices=PARTS, default="upper-left", help="what of a picture is shown")
    options.add_argument("--output", type=Path, default=Path("runs/conditional"), help="folder of the pictures")
    chosen = options.parse_args()
    start = time.perf_counter()
    by_class(chosen.data, chosen.output)
    completed(chosen.data, chosen.part, chosen.output)
    print(f"{time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    main()
