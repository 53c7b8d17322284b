"""Digits drawn pixel after pixel: a PixelCNN as a density, with its exact likelihood in bits per dimension.

The model has no code: each pixel is predicted from those above it and to its left, p(x) = prod_i p(x_i | x_<i), by
gated convolutions (van den Oord et al. 2016). So log p(x) is exact, where a VAE has a bound, and it is compared here
with two simpler densities and with a VAE on the same 17 grey levels. A second PixelCNN is told the class; Bayes' rule,
argmax_y log p(x | y), says whether it listens. Pictures are drawn from both; drawing one takes as many steps as it has
pixels, of which each redoes none of the work before it.

    python examples/pixelcnn.py                   # 1,797 digits of scikit-learn: under a minute
    python examples/pixelcnn.py --output DIR --temperature 0.8

The same from the command line:

    jensen train --model autoregressive --data digits --condition label --run runs/pixelcnn
    jensen sample runs/pixelcnn --label 3
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch

from jensen import VAE, evaluate, load_data, train
from jensen.autoencoders import AutoregressiveModel
from jensen.config import AutoregressiveConfig, NetConfig
from jensen.data import Data
from jensen.plots import save
from jensen.plots.conditional import class_grid
from jensen.plots.images import image_grid

NET = AutoregressiveConfig(width=16, depth=3, dropout=0.1)
SHOWN = 10  # digits in a row


def fitted(condition: str | None) -> tuple[AutoregressiveModel, Data]:
    """A PixelCNN of the digits, told this of each, and the data."""
    data = load_data("digits", transform="none", condition=condition)
    torch.manual_seed(0)
    model = AutoregressiveModel(data.shape, levels=data.levels, net=NET, condition_shape=data.condition_shape)
    train(model, data, quiet=True, epochs=16, batch_size=16, lr=5e-3, decay="cosine")
    return model, data


@torch.no_grad()
def bits(model: AutoregressiveModel, data: Data) -> tuple[float, float]:
    """Bits per dimension of the test digits, and the standard error."""
    batch = data.test.batch(torch.arange(len(data.test)))
    each = -model.log_prob(batch.x, batch.condition) / (math.prod(data.shape) * math.log(2))
    return each.mean().item(), (each.std() / math.sqrt(len(each))).item()


def independent(data: Data) -> float:
    """Bits per dimension where each pixel has the frequencies of its place in the training digits, plus one each."""
    assert data.levels is not None
    levels = data.levels
    train_x, test_x = (split.batch(torch.arange(len(split))).x for split in (data.train, data.test))
    counted = torch.nn.functional.one_hot((train_x * (levels - 1)).round().long(), levels).sum(0) + 1
    chances = counted / counted.sum(-1, keepdim=True)
    index = (test_x * (levels - 1)).round().long()
    found = chances.expand(*index.shape, levels).gather(-1, index.unsqueeze(-1)).log2()
    return -found.mean().item()


@torch.no_grad()
def accuracy(model: AutoregressiveModel, data: Data) -> float:
    """Share of test digits that are most probable under their own class: Bayes' rule, with equal classes."""
    batch = data.test.batch(torch.arange(len(data.test)))
    classes = range(len(data.class_names))
    log_prob = torch.stack([model.log_prob(batch.x, torch.full((len(batch.x),), k)) for k in classes], 1)
    return (log_prob.argmax(1) == batch.label).double().mean().item()


def of_a_vae(data: Data) -> float:
    """Bits per dimension of a VAE with a discretised logistic likelihood, by 200 importance samples a digit."""
    torch.manual_seed(0)
    net = NetConfig(kind="mlp", width=128, depth=2)
    model = VAE(data.shape, 8, net=net, likelihood="discretised-logistic", levels=data.levels)
    train(model, data, quiet=True, epochs=60, batch_size=64, lr=2e-3, decay="cosine")
    found = evaluate(model, data.test, samples=200).bits_per_dim
    assert found is not None
    return found


def main() -> None:
    """Train, print the table, draw the pictures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/pixelcnn"), help="folder of the pictures")
    options.add_argument("--temperature", type=float, default=1.0, help="of the draws; below 1 more typical ones")
    chosen = options.parse_args()
    start = time.perf_counter()
    model, data = fitted(None)
    told, by_class = fitted("label")
    assert data.levels is not None
    print(f"bits per dimension of {len(data.test)} test digits, {data.levels} grey levels; lower is better")
    print(f"  {'all grey levels equally probable':42}{math.log2(data.levels):6.3f}")
    print(f"  {'pixels independent of each other':42}{independent(data):6.3f}")
    print(f"  {'a VAE, 8 latent dimensions (a bound)':42}{of_a_vae(data):6.3f}")
    print("  {:42}{:6.3f} ± {:.3f}".format("PixelCNN", *bits(model, data)))
    print("  {:42}{:6.3f} ± {:.3f}".format("PixelCNN told the class", *bits(told, by_class)))
    print(f"argmax_y log p(x | y) is the class of {100 * accuracy(told, by_class):.1f}% of them")
    torch.manual_seed(1)
    clock = time.perf_counter()
    drawn = model.sample(4 * SHOWN, chosen.temperature)
    each = (time.perf_counter() - clock) / len(drawn)
    print(save(image_grid(drawn, SHOWN, title="Drawn pixel after pixel"), chosen.output / "samples.png"))
    labels = torch.arange(len(data.class_names)).repeat_interleave(SHOWN)
    images = told.sample(len(labels), chosen.temperature, labels).view(-1, SHOWN, *data.shape)
    title = "Drawn pixel after pixel, told the class"
    print(save(class_grid(images, data.class_names, title=title), chosen.output / "classes.png"))
    print(f"{1000 * each:.1f} ms a digit drawn; {time.perf_counter() - start:.0f} seconds in all")


if __name__ == "__main__":
    main()
