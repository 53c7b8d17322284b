"""The contenders of `benchmarks.vae_training`: our trainer, pythae's, and a bare PyTorch loop, on the same networks.

Each function returns something that, when called, trains for one epoch; all of them read the same images in [0, 1].
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor

from jensen.config import DataConfig, NetConfig
from jensen.data import Data, Dataset, load_data, prepare
from jensen.nn import make_decoder, make_encoder

# What only one contender needs is imported where it is made, so that the others' memory does not hold it.

__all__ = ["Case", "bare_loop", "jensen_trainer", "pythae_trainer", "real_mnist"]

LR = 1e-3
SQUARES = 3  # of one random image


@dataclass(frozen=True)
class Case:
    """A network and how many images an epoch has."""

    name: str
    shape: tuple[int, int, int]
    latent: int
    net: NetConfig
    batch_size: int
    steps: int
    mnist: bool
    """images of MNIST; otherwise generated ones of `shape`"""

    @property
    def images(self) -> int:
        """Images an epoch."""
        return self.batch_size * self.steps


def real_mnist() -> bool:
    """Whether MNIST is here without a download: JENSEN_DATA names a folder with it."""
    folder = os.environ.get("JENSEN_DATA")
    return folder is not None and (Path(folder) / "mnist.npz").is_file()


def jensen_trainer(case: Case, **settings: object) -> Callable[[], object]:
    """Our Trainer for one epoch, checkpoints off.

    It always validates after an epoch; here on one image, so that next to nothing of it is in the time.
    """
    from jensen.autoencoders import VAE
    from jensen.config import TrainConfig
    from jensen.objectives import Elbo
    from jensen.training import Position, Trainer
    from jensen.training.fabric import make_fabric

    def ignore(position: Position) -> None:
        """Record nothing."""

    torch.manual_seed(0)
    model = VAE(case.shape, case.latent, net=case.net)
    data = _data(case)
    config = TrainConfig(epochs=1, batch_size=case.batch_size, lr=LR, accelerator="cpu", **settings)
    fabric = make_fabric(config)

    def epoch() -> None:
        Trainer(model, data, Elbo(), config, fabric, seed=0, folder=None, quiet=True, on_epoch=ignore).run()

    return epoch


def bare_loop(case: Case) -> Callable[[], object]:
    """What one writes by hand: slices of a permutation of a float32 tensor, fused Adam, nothing logged but the loss."""
    torch.manual_seed(0)
    encoder = make_encoder(case.net, case.shape, 2 * case.latent)
    decoder = make_decoder(case.net, case.latent, case.shape)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=LR, fused=True)
    images = _images(case)

    def epoch() -> float:
        total = torch.zeros(())
        order = torch.randperm(len(images))
        for some in order.split(case.batch_size):
            x = images[some]
            mean, log_variance = encoder(x).chunk(2, -1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            distortion = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            rate = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
            loss = (distortion + rate) / len(x)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.detach()
        return total.item()

    return epoch


def pythae_trainer(case: Case, *, fused: bool) -> Callable[[], object]:
    """An epoch of the steps of pythae's BaseTrainer (its `train_step`), without its validation, copies and saving.

    On its own data set class. `fused`: Adam as everybody else has it here; otherwise as its trainer makes it.
    """
    from benchmarks import pythae_vae

    torch.manual_seed(0)
    peer = pythae_vae.make_peer(case.shape, case.latent, case.net)
    # It makes a folder for what it would save, and says so.
    with TemporaryDirectory() as folder, pythae_vae.quiet():
        trainer = pythae_vae.make_trainer(
            peer,
            pythae_vae.still(_images(case)),
            Path(folder),
            epochs=1,
            batch_size=case.batch_size,
            lr=LR,
            fused=fused,
        )
        trainer.prepare_training()

    def epoch() -> None:
        with pythae_vae.quiet():
            trainer.train_step(1)

    return epoch


def _data(case: Case) -> Data:
    """The images of an epoch for training, and one each for validation and test; grey levels, stored as uint8."""
    n = case.images
    splits = {"train": torch.arange(n), "valid": torch.tensor([n]), "test": torch.tensor([n + 1])}
    if case.mnist and real_mnist():
        return load_data("mnist", transform="none", splits=splits)
    values = _squares(n + 2, case.shape)
    generated = Dataset("generated", values, case.shape, 256, splits["train"], splits["valid"], splits["test"])
    return prepare(generated, DataConfig(name="generated", transform="none"))


def _images(case: Case) -> Tensor:
    """The same training images as float32 in [0, 1], (images, *shape)."""
    train = _data(case).train
    return train.batch(torch.arange(len(train))).x


def _squares(n: int, shape: tuple[int, int, int]) -> Tensor:
    """Images of some bright rectangles at random places, (n, *shape) uint8; the same in every process."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(n, *shape, dtype=torch.uint8)
    rows, columns = torch.arange(shape[1])[:, None], torch.arange(shape[2])
    for _ in range(SQUARES):
        corners = torch.rand(4, n, 1, 1, 1, generator=generator)
        top, left = corners[0] * shape[1], corners[1] * shape[2]
        inside = (rows >= top) & (rows < top + 4 + corners[2] * shape[1] / 3)
        inside = inside & (columns >= left) & (columns < left + 4 + corners[3] * shape[2] / 3)
        images[inside.expand_as(images)] = 255
    return images
