"""A small classifier of a data set's own classes, whose features and beliefs judge generated images."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jensen.data import Data, Split
from jensen.files import write_atomically
from jensen.metrics.heldout import measuring

__all__ = ["FEATURES", "Classifier", "fit_classifier"]

FEATURES = 128
WIDTH = 32  # channels of the first layer
EXAMPLES = 160_000  # seen in training where the epochs are not given: about three epochs of MNIST
EPOCHS = 20  # at most, where they are not given
BATCH = 128
LEARNING_RATE = 2e-3  # the highest
AT_ONCE = 500
VERSION = 1  # of net and training: another makes older files void


class Classifier(nn.Module):
    """p(y | x) of images of any size: three convolutions, a layer of `FEATURES` numbers, a linear layer.

    Args:
        shape: of an image, (channels, height, width).
        classes: K.

    Attributes:
        accuracy: share of the test split that it classifies well; NaN before `fit_classifier` has measured it.
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.shape, self.classes = tuple(shape), classes
        self.accuracy = math.nan
        sizes = (shape[0], WIDTH, 2 * WIDTH, 2 * WIDTH)
        side = max(shape[1:])
        layers: list[nn.Module] = []
        for i in range(3):
            # Of small images every pixel counts; others are halved at once.
            stride = 2 if side >= 14 or (side >= 7 and i > 0) else 1
            side = -(-side // stride)
            layers += [nn.Conv2d(sizes[i], sizes[i + 1], 3, stride, 1, bias=False), nn.BatchNorm2d(sizes[i + 1])]
            layers.append(nn.ReLU())
        kept = tuple(min(4, side) for side in shape[1:])
        layers += [nn.AdaptiveAvgPool2d(kept), nn.Flatten()]
        layers += [nn.Linear(sizes[-1] * kept[0] * kept[1], FEATURES), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the classes, (batch, K)."""
        logits: Tensor = self.head(self.body(x))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of images (N, *shape): (N, FEATURES), in evaluation mode, some at a time.

        Raises:
            ValueError: images of another shape, or none.
        """
        return self._in_pieces(self.body, x)

    def log_probabilities(self, x: Tensor) -> Tensor:
        """log p(y | x) in nats of images (N, *shape): (N, K), in evaluation mode, some at a time.

        Raises:
            ValueError: images of another shape, or none.
        """
        return self._in_pieces(self, x).log_softmax(1)

    @torch.no_grad()
    def _in_pieces(self, net: nn.Module, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape or len(x) == 0:
            raise ValueError(f"images should have shape (N, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        was_training = self.training
        device, dtype = self.head.weight.device, self.head.weight.dtype
        try:
            self.eval()
            return torch.cat([net(piece.to(device, dtype)) for piece in x.split(AT_ONCE)])
        finally:
            self.train(was_training)


def fit_classifier(
    data: Data,
    *,
    epochs: int | None = None,
    seed: int = 0,
    quiet: bool = False,
    cache: Path | None = None,
) -> Classifier:
    """A classifier learned from the training split, with its accuracy on the test split.

    It sees images as the data's transform makes them (binarised ones, where a model learns these), without corruption.
    The same seed gives the same weights on the same machine, and torch's global generator is left as it was. Adam, a
    rate that rises and falls once, batches of 128: two minutes of MNIST on two cores, seconds of digits.

    Args:
        data: images with labels; the classifier will be where they are.
        epochs: how often each image is seen; None: until 160,000 were, but at most 20 times.
        seed: of weights, order and noise.
        quiet: say nothing on standard error.
        cache: folder where weights are kept, by data and settings, and looked for first.

    Raises:
        ValueError: the data are no images, predict something else than the image, or have no labels of at least two
            classes; or epochs is not positive.
    """
    classes = _classes(data)
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs should be at least 1, got {epochs}")
    epochs = max(1, min(EPOCHS, round(EXAMPLES / len(data.train)))) if epochs is None else epochs
    path = None if cache is None else cache / _file_name(data, epochs, seed)
    device = data.train.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        classifier = Classifier(data.shape, classes).to(device)
        if path is not None and _loaded(classifier, path):
            return classifier
        _learn(classifier, data.train, epochs, seed, quiet)
    classifier.accuracy = _accuracy(classifier, data.test, seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(classifier, path)
    return classifier


def _classes(data: Data) -> int:
    """How many; ValueError for data that no such classifier is for."""
    name = data.dataset.name
    if len(data.shape) != 3:
        raise ValueError(f"a classifier of images needs (channels, height, width), but {name} has shape {data.shape}")
    if data.train.target is not None:
        raise ValueError(f"a classifier of images needs images, but a property is predicted of {name} here")
    if data.train.labels is None or data.dataset.labels is None:
        raise ValueError(f"a classifier needs labels, but {name} has none")
    classes = max(len(data.class_names), int(data.dataset.labels.max()) + 1)
    if classes < 2:
        raise ValueError(f"a classifier needs at least two classes, but {name} has {classes}")
    return classes


def _learn(classifier: Classifier, split: Split, epochs: int, seed: int, quiet: bool) -> None:
    steps = epochs * -(-len(split) // BATCH)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    classifier.train()
    for epoch in range(epochs):
        total = torch.zeros((), device=split.device)
        # Not the split's own shuffled batches: those repeat labelled examples where only some are.
        for places in torch.randperm(len(split), generator=order).split(BATCH):
            batch = split.batch(places)
            assert batch.label is not None
            # The target is the image without corruption.
            loss = F.cross_entropy(classifier(batch.target), batch.label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.detach() * len(places)
        if not quiet:
            mean = total.item() / len(split)
            print(f"classifier: epoch {epoch + 1}/{epochs}, cross-entropy {mean:.3f} nats", file=sys.stderr)
    classifier.eval()


def _accuracy(classifier: Classifier, split: Split, seed: int) -> float:
    right = 0
    with measuring(classifier, seed):
        for places in torch.arange(len(split)).split(AT_ONCE):
            batch = split.batch(places)
            assert batch.label is not None
            right += int((classifier.log_probabilities(batch.target).argmax(1) == batch.label).sum())
    return right / len(split)


def _file_name(data: Data, epochs: int, seed: int) -> str:
    """By everything that the weights depend on, the data themselves included (their labels and some of the images)."""
    train, test = data.train, data.test
    settings = {
        "version": VERSION,
        "name": data.dataset.name,
        "shape": data.shape,
        "levels": data.dataset.levels,
        "transform": data.transform,
        "epochs": epochs,
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(settings).encode())
    for split in (train, test):
        assert split.labels is not None
        some = split.indices[:: max(1, len(split) // 100)]
        stored = data.dataset.values[some.to(_home(data))]
        for values in (split.indices, split.labels, stored):
            digest.update(values.cpu().contiguous().numpy().tobytes())
    name = "".join(letter if letter.isalnum() else "-" for letter in data.dataset.name)
    return f"classifier-{name}-{digest.hexdigest()[:16]}.safetensors"


def _home(data: Data) -> torch.device:
    values = data.dataset.values
    return values.device if isinstance(values, Tensor) else torch.device("cpu")


def _save(classifier: Classifier, path: Path) -> None:
    weights = {name: value.detach().cpu().contiguous() for name, value in classifier.state_dict().items()}
    metadata = {"accuracy": repr(classifier.accuracy)}
    write_atomically(path, lambda temporary: save_file(weights, temporary, metadata=metadata))


def _loaded(classifier: Classifier, path: Path) -> bool:
    """Whether there was a file that is whole, and has been loaded."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            accuracy = float(file.metadata()["accuracy"])
        classifier.load_state_dict(weights)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
        return False  # damaged: learn it again
    classifier.accuracy = accuracy
    classifier.eval()
    return True
