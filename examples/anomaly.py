"""Anomalies: a digit that the model never saw, and pictures that are simpler than all that it saw.

1. A VAE is trained on nine of the ten digits and finds the tenth in the test split, once for each digit. All scores of
   `jensen.metrics.anomaly` stand beside an isolation forest and the reconstruction error of principal components.
2. The known failure (Nalisnick et al. 2019a, "Do deep generative models know what they don't know?"): a model of
   photographs with texture finds plain and blurred pictures MORE probable than its own test photographs. The likelihood
   as a score is then the wrong way round (AUROC far below 0.5); scores that correct it have failures of their own.

    python examples/anomaly.py                # embedded: digits, and pieces of two photographs that scikit-learn holds
    JENSEN_DATA=... python examples/anomaly.py --data mnist         # MNIST, and 10,000 colour images of CIFAR-10

Writes the pictures anomaly-roc.png and anomaly-simple.png into --output. What it measured is in docs/anomaly.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from torch import Tensor

from jensen import load_data, train
from jensen.autoencoders import VAE
from jensen.config import DataConfig, NetConfig
from jensen.data import Batch, Data, Dataset, prepare
from jensen.metrics import AnomalyScorer, detection, isolation_forest_scores, pca_scores, roc
from jensen.plots import image_grid, roc_curves, save

SIDE = 16
"""of the pieces of photographs"""
TEXTURED = 20
"""least standard deviation of the grey levels of a piece that the model sees"""
MOST_DIGITS = 2_000
"""test digits"""
COUNT = 500
"""test photographs, and pictures of each other kind"""


@dataclass(frozen=True)
class Pictures:
    """Pictures from anywhere, (N, *shape) in [0, 1], as a scorer takes them."""

    values: Tensor
    levels: int = 256
    transform: str = "none"

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, index: Tensor) -> Batch:
        x = self.values[index]
        return Batch(x, x, None, index)


@dataclass(frozen=True)
class Setting:
    """How one pair of data sets is treated."""

    digits: str
    net: NetConfig
    latent: int
    epochs: int
    limit: int | None
    left_out: tuple[str, ...]
    photo_net: NetConfig
    photo_latent: int
    photo_epochs: int


SETTINGS = {
    "digits": Setting(
        "digits", NetConfig(kind="mlp", width=128), 8, 60, None, tuple("0123456789"),
        NetConfig(kind="conv", width=16), 32, 10,
    ),
    "mnist": Setting(
        "mnist", NetConfig(kind="mlp", width=300), 16, 10, 20_000, ("1", "4", "8"),
        NetConfig(kind="conv", width=32), 64, 8,
    ),
}  # fmt: skip


def tenth_digit(setting: Setting, seed: int) -> tuple[dict[str, list[float]], dict[str, tuple[Tensor, Tensor]]]:
    """AUROC of each score for each digit that was left out; all scores, and what was left out, of the last."""
    areas: dict[str, list[float]] = {}
    for digit in setting.left_out:
        data = load_data(setting.digits, transform="none", leave_out=(digit,), limit=setting.limit)
        torch.manual_seed(seed)
        model = VAE(data.shape, setting.latent, net=setting.net, likelihood="discretised-logistic", levels=data.levels)
        train(model, data, seed=seed, quiet=True, epochs=setting.epochs, batch_size=64, lr=2e-3, decay="cosine")
        test = replace(data.test, indices=data.test.indices[:MOST_DIGITS])
        everything = test.batch(torch.arange(len(test)))
        assert everything.label is not None
        anomalous = everything.label == int(digit)
        scores = {str(name): values for name, values in AnomalyScorer(model, data.train)(test).values.items()}
        seen = data.train.batch(torch.arange(len(data.train))).x
        scores["isolation forest"] = isolation_forest_scores(seen, everything.x, seed)
        scores["principal components"] = pca_scores(seen, everything.x)
        for name, values in scores.items():
            areas.setdefault(name, []).append(detection(values, anomalous).auroc)
    return areas, {name: (values, anomalous) for name, values in scores.items()}


def pieces(image: np.ndarray, columns: tuple[int, int], count: int, seed: int) -> Tensor:
    """Grey pieces of a photograph (height, width, 3) between two columns, (count, 1, SIDE, SIDE) uint8."""
    generator = np.random.default_rng(seed)
    grey = np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    rows = generator.integers(0, len(grey) - SIDE + 1, count)
    starts = generator.integers(columns[0], columns[1] - SIDE + 1, count)
    found = [grey[row : row + SIDE, start : start + SIDE] for row, start in zip(rows, starts, strict=True)]
    return torch.from_numpy(np.stack(found)[:, None])


def temple(seed: int) -> Data:
    """Pieces with texture of the photograph of a temple: training from its left, test from its right quarter."""
    image = load_sample_images().images[0]
    edge = 3 * image.shape[1] // 4
    parts = [pieces(image, (0, edge), 12_000, seed), pieces(image, (edge, image.shape[1]), 1_500, seed)]
    # Without sky and flat walls: nothing that the model sees is plain.
    train, test = (part[part.flatten(1).float().std(1) > TEXTURED] for part in parts)
    places = torch.arange(len(train) + len(test))
    dataset = Dataset(
        name="temple",
        values=torch.cat([train, test]),
        shape=(1, SIDE, SIDE),
        levels=256,
        train=places[: len(train) - 500],
        valid=places[len(train) - 500 : len(train)],
        test=places[len(train) :],
    )
    return prepare(dataset, DataConfig(name=dataset.name, transform="none"))


def other_pictures(setting: Setting, photos: Tensor, seed: int) -> dict[str, Tensor]:
    """Pictures that a model of photographs (N, *shape) never saw, at most COUNT a kind, on 256 levels."""
    shape = photos.shape[1:]
    generator = torch.Generator().manual_seed(seed)
    plain = torch.rand(COUNT, shape[0], 1, 1, generator=generator).expand(COUNT, *shape)
    coarse = F.interpolate(photos, (4, 4), mode="area")
    blurred = F.interpolate(coarse, shape[1:], mode="bilinear", align_corners=False)
    digits = load_data(setting.digits, transform="none").test
    drawn = digits.batch(torch.arange(min(COUNT, len(digits)))).x
    drawn = F.interpolate(drawn, shape[1:], mode="bilinear", align_corners=False).expand(-1, *shape)
    noise = torch.rand(COUNT, *shape, generator=generator)
    pictures = {"plain": plain, "blurred": blurred, "digits": drawn, "noise": noise}
    if shape == (1, SIDE, SIDE):
        image = load_sample_images().images[1]
        pictures["flower"] = pieces(image, (0, image.shape[1]), COUNT, seed).float() / 255
    return {name: (values * 255).round() / 255 for name, values in pictures.items()}


def other_than_photographs(
    setting: Setting, data: Data, seed: int
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """AUROC of each score for each kind of picture against test photographs; mean log p(x) in bits per dimension."""
    torch.manual_seed(seed)
    model = VAE(data.shape, setting.photo_latent, net=setting.photo_net, likelihood="discretised-logistic", levels=256)
    train(model, data, seed=seed, quiet=True, epochs=setting.photo_epochs, batch_size=64, lr=1e-3, decay="cosine")
    scorer = AnomalyScorer(model, data.train, samples=20)
    test = replace(data.test, indices=data.test.indices[:COUNT])
    own = scorer(test)
    seen = data.train.batch(torch.arange(min(5_000, len(data.train)))).x
    normal = test.batch(torch.arange(len(test))).x
    assert own.log_likelihood is not None
    bits = -1 / (np.log(2) * normal[0].numel())
    means = {"test photographs": own.log_likelihood.mean().item() * bits}
    areas: dict[str, dict[str, float]] = {}
    for kind, values in other_pictures(setting, normal, seed).items():
        found = scorer(Pictures(values))
        assert found.log_likelihood is not None
        means[kind] = found.log_likelihood.mean().item() * bits
        anomalous = torch.arange(len(own) + len(found)) >= len(own)
        scores = {str(name): torch.cat([own.values[name], found.values[name]]) for name in scorer.methods}
        both = torch.cat([normal, values])
        scores["isolation forest"] = isolation_forest_scores(seen, both, seed)
        scores["principal components"] = pca_scores(seen, both)
        areas[kind] = {name: detection(each, anomalous).auroc for name, each in scores.items()}
    return areas, means


def print_table(title: str, columns: Mapping[str, Mapping[str, float]], below: str = "") -> None:
    """A row for each score, a column for each case."""
    print(f"\n{title}")
    names = list(next(iter(columns.values())))
    print(f"{'':22}" + "".join(f"{column:>12}" for column in columns))
    for name in names:
        print(f"{name:22}" + "".join(f"{values[name]:12.2f}" for values in columns.values()))
    if below:
        print(below)


def main() -> None:
    """Both parts: tables and pictures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", choices=sorted(SETTINGS), default="digits")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--output", type=Path, default=Path("anomaly"))
    chosen = options.parse_args()
    setting, start = SETTINGS[chosen.data], time.perf_counter()

    areas, last = tenth_digit(setting, chosen.seed)
    columns = {
        digit: {name: area[place] for name, area in areas.items()} for place, digit in enumerate(setting.left_out)
    }
    columns["mean"] = {name: sum(area) / len(area) for name, area in areas.items()}
    print_table(f"AUROC for the digit that was left out ({setting.digits}):", columns)
    curves = {name: roc(values, anomalous) for name, (values, anomalous) in last.items()}
    save(roc_curves(curves, title=f"The digit {setting.left_out[-1]}, never seen"), chosen.output / "anomaly-roc.png")
    print(f"{time.perf_counter() - start:.0f} seconds")

    start = time.perf_counter()
    data = (
        temple(chosen.seed) if chosen.data == "digits" else load_data("cifar10-subset", transform="none", limit=10_000)
    )
    simple, means = other_than_photographs(setting, data, chosen.seed)
    below = "-log p(x), bits per dimension: " + ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())
    print_table(f"AUROC for other pictures against test photographs ({data.dataset.name}):", simple, below)
    photos = data.test.batch(torch.arange(COUNT)).x
    shown = [photos[:8], *(values[:8] for values in other_pictures(setting, photos, chosen.seed).values())]
    captions = [
        f"{kind.split()[0]} {mean:.2f}" if not place else "" for kind, mean in means.items() for place in range(8)
    ]
    figure = image_grid(
        torch.cat(shown),
        8,
        captions=captions,
        title="Test photographs and other pictures, with -log p(x) in bits per dimension",
    )
    save(figure, chosen.output / "anomaly-simple.png")
    print(f"{time.perf_counter() - start:.0f} seconds; pictures in {chosen.output}")


if __name__ == "__main__":
    main()
