"""A network that knows what it has not seen.

Three networks of one shape learn the digits 0 to 7 of scikit-learn's handwritten digits: one by maximum likelihood, one
with a Gaussian posterior over every weight, one with variational dropout; the last two by local reparameterisation.
Then they are shown new 0s to 7s, and 8s and 9s, of which they know nothing: a network that averages over its weights
should be less sure there. (On the digits that they were taught the two are less sure than they might be: independent
Gaussians for all weights are a coarse posterior.)

    python examples/bayesian_network.py                  # under a minute; pictures in runs/bayesian_network
    python examples/bayesian_network.py --output DIR
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from jensen.nn.bayesian import BayesianLinear
from jensen.nn.bayesian_network import bayesian_elbo
from jensen.nn.variational_dropout import VariationalDropoutLinear
from jensen.plots import image_grid, save
from jensen.plots.calibration import confidences, reliability

KNOWN = 8
"""classes that are learned: 0 to 7"""
TRAINING = 800
BATCH = 100
EPOCHS = 150
DRAWS = 200
"""of the weights, over which predictions are averaged"""
SIZES = (64, 50, 50, KNOWN)
LAYERS = {"maximum likelihood": nn.Linear, "Gaussian weights": BayesianLinear, "dropout": VariationalDropoutLinear}
LEARNING_RATES = {"maximum likelihood": 3e-3, "Gaussian weights": 1e-2, "dropout": 3e-3}


@dataclass(frozen=True)
class Digits:
    """Pixels (n, 64) in [0, 1], and classes."""

    train: Tensor
    classes: Tensor
    test: Tensor
    test_classes: Tensor
    unknown: Tensor
    """8s and 9s"""


def main() -> None:
    """Learn, show what is known and what is not, and draw it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("runs/bayesian_network"), help="folder of the pictures")
    output = options.parse_args().output

    digits = load()
    known, unknown = {}, {}
    for name, layer in LAYERS.items():
        torch.manual_seed(0)
        net = network(layer)
        train(net, digits, LEARNING_RATES[name], bayesian=layer is not nn.Linear)
        known[name], unknown[name] = predict(net, digits.test), predict(net, digits.unknown)
        print(f"{name:>18}: {summary(known[name], unknown[name], digits.test_classes)}")

    no_answer = torch.full((len(digits.unknown),), -1)  # every answer to an 8 or 9 is wrong
    for file, title, with_unknown in (
        ("calibration", "New digits 0 to 7", False),
        ("calibration_unknown", "New digits 0 to 9, of which 8 and 9 were never seen", True),
    ):
        right = {}
        for name in known:
            p = torch.cat([known[name], unknown[name]]) if with_unknown else known[name]
            classes = torch.cat([digits.test_classes, no_answer])[: len(p)]
            right[name] = (p.amax(1), p.argmax(1) == classes)
        print(save(reliability(right, title=title), output / f"{file}.png"))
    sure = {name: {"0 to 7": known[name].amax(1), "8 and 9, never seen": unknown[name].amax(1)} for name in known}
    figure = confidences(sure, title="How sure each network is of its answer")
    print(save(figure, output / "confidence.png"))
    print(save(fooled(digits.unknown, unknown), output / "never_seen.png"))


def load() -> Digits:
    """800 of the digits 0 to 7 to learn from, the others of them to be tested on, and all 8s and 9s."""
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    chosen = torch.nonzero(y < KNOWN).squeeze(1)
    chosen = chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))]
    train, test = chosen[:TRAINING], chosen[TRAINING:]
    return Digits(x[train], y[train], x[test], y[test], x[y >= KNOWN])


def network(layer: type[nn.Module]) -> nn.Sequential:
    """64 - 50 - 50 - 8 with rectifiers, of plain or Bayesian layers."""
    first, second, third = (layer(before, after) for before, after in pairwise(SIZES))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def train(net: nn.Module, digits: Digits, learning_rate: float, *, bayesian: bool) -> None:
    """Up the bound, or up the likelihood alone."""
    optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(TRAINING).split(BATCH):
            log_likelihood = -F.cross_entropy(net(digits.train[chosen]), digits.classes[chosen], reduction="none")
            bound = bayesian_elbo(log_likelihood, net, TRAINING).elbo if bayesian else log_likelihood.mean()
            optimiser.zero_grad()
            (-bound).backward()
            optimiser.step()
        schedule.step()


@torch.no_grad()
def predict(net: nn.Module, x: Tensor) -> Tensor:
    """Probabilities of the classes, (n, 8), averaged over draws of the weights (all equal in a plain network)."""
    return torch.stack([net(x).softmax(1) for _ in range(DRAWS)]).mean(0)


def summary(known: Tensor, unknown: Tensor, classes: Tensor) -> str:
    """Accuracy and surprise at what is known, and how well entropy tells what is not."""
    correct = (known.argmax(1) == classes).double().mean().item()
    surprise = -known.gather(1, classes[:, None]).clamp_min(1e-12).log().mean().item()
    entropies = torch.cat([torch.special.entr(p).sum(1) for p in (known, unknown)])
    told = roc_auc_score([0] * len(known) + [1] * len(unknown), entropies)
    return (
        f"{correct:.1%} right, {surprise:.3f} nats a digit; mean confidence {known.amax(1).mean():.2f} in 0 to 7,"
        f" {unknown.amax(1).mean():.2f} in 8 and 9, told apart with area {told:.3f}"
    )


def fooled(images: Tensor, predictions: dict[str, Tensor]) -> Figure:
    """Some 8s and 9s, from those where the plain network is surest on, with what both say."""
    plain, gaussian = predictions["maximum likelihood"], predictions["Gaussian weights"]
    shown = plain.amax(1).argsort(descending=True)[:: len(plain) // 20][:20]
    captions = [
        f"{a.argmax()}: {a.max():.0%}   {b.argmax()}: {b.max():.0%}"
        for a, b in zip(plain[shown], gaussian[shown], strict=True)
    ]
    title = "Never seen: maximum likelihood (left), Gaussian weights (right)"
    return image_grid(1 - images[shown].reshape(-1, 1, 8, 8), 5, captions=captions, title=title)


if __name__ == "__main__":
    main()
