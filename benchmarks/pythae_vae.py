"""pythae's VAE on our networks, trained by its own trainer; its weights in our model, to be scored alike.

What pythae does differently: its encoder gives log sigma^2 (ours a softly clamped log sigma); its decoder gives
probabilities, which its binary cross-entropy takes (ours logits); its data loader collates image by image in Python
(ours slices tensors).
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from jensen.autoencoders import VAE
from jensen.autoencoders.vae import LOG_SIGMA_LIMIT
from jensen.config import NetConfig
from jensen.data.transform import binarise
from jensen.nn import make_decoder, make_encoder

try:
    from pythae.data.datasets import BaseDataset, DatasetOutput
    from pythae.models import VAE as PeerVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
except ImportError:
    print("this benchmark needs pythae, its peer: pip install 'jensen[bench]'", file=sys.stderr)
    raise SystemExit(2) from None

__all__ = ["Binarised", "as_jensen", "check_same_bound", "make_peer", "make_trainer", "quiet", "still", "train_peer"]


class Encoder(BaseEncoder):  # type: ignore[misc]
    """Our network as pythae wants an encoder: its output is (mean, log variance)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        mean, log_variance = self.net(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):  # type: ignore[misc]
    """Our network as pythae wants a decoder: probabilities."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor) -> Any:
        return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))


class Binarised(BaseDataset):  # type: ignore[misc]
    """Grey levels in [0, 1], binarised anew whenever they are asked for.

    The loader fetches a batch through `__getitems__`, so that one draw binarises it whole: the quickest way that
    pythae's trainer leaves open.
    """

    def __getitem__(self, index: int) -> Any:
        return DatasetOutput(data=binarise(self.data[index]), labels=self.labels[index])

    def __getitems__(self, indices: list[int]) -> list[Any]:
        places = torch.tensor(indices)
        images, labels = binarise(self.data[places]), self.labels[places]
        return [DatasetOutput(data=x, labels=label) for x, label in zip(images, labels, strict=True)]


def still(images: Tensor) -> Any:
    """pythae's own data set of (n, *shape) images that stay as they are."""
    return BaseDataset(images, torch.zeros(len(images)))


def make_peer(shape: tuple[int, ...], latent: int, net: NetConfig) -> Any:
    """pythae's VAE, Bernoulli likelihood, on the networks that our VAE would have."""
    config = VAEConfig(input_dim=shape, latent_dim=latent, reconstruction_loss="bce")
    encoder, decoder = make_encoder(net, shape, 2 * latent), make_decoder(net, latent, shape)
    return PeerVAE(config, encoder=Encoder(encoder), decoder=Decoder(decoder))


def make_trainer(
    model: Any,
    data: Any,
    folder: Path,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    cosine: bool = False,
    workers: int = 0,
    fused: bool = False,
    seed: int = 0,
) -> Any:
    """pythae's trainer on the CPU, without validation; what it saves goes under `folder`."""
    decay = {"scheduler_cls": "CosineAnnealingLR", "scheduler_params": {"T_max": epochs}} if cosine else {}
    config = BaseTrainerConfig(
        output_dir=str(folder),
        num_epochs=epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=lr,
        optimizer_cls="Adam",
        optimizer_params={"fused": True} if fused else None,
        train_dataloader_num_workers=workers,
        seed=seed,
        no_cuda=True,
        **decay,
    )
    return BaseTrainer(model, data, training_config=config)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep pythae's log and progress bars from the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(before)


def train_peer(model: Any, data: Any, **settings: Any) -> tuple[Any, float]:
    """Train; returns the model that the trainer saved as the best, and the seconds its `train` took."""
    with TemporaryDirectory() as folder, quiet():
        trainer = make_trainer(model, data, Path(folder), **settings)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        saved = next(Path(folder).glob("*/final_model/model.pt"))
        weights = torch.load(saved, weights_only=True)["model_state_dict"]
    model.load_state_dict(weights)
    return model.eval(), seconds


class FromLogVariance(nn.Module):
    """(mean, log variance) to what our encoder head wants: the number whose soft clamp is log sigma."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.net(x).chunk(2, -1)
        share = log_variance / (2 * LOG_SIGMA_LIMIT)
        if float(share.detach().abs().max()) > 0.999:
            raise ValueError(
                f"a posterior standard deviation of pythae's model lies outside exp(+-{LOG_SIGMA_LIMIT:g}): it cannot "
                "be expressed in ours, so the two cannot be scored alike"
            )
        return torch.cat([mean, LOG_SIGMA_LIMIT * torch.atanh(share)], -1)


def as_jensen(model: Any) -> VAE:
    """Our VAE with the weights, and the very distributions, of pythae's."""
    shape, latent = tuple(model.model_config.input_dim), int(model.model_config.latent_dim)
    encoder, decoder = copy.deepcopy(model.encoder.net), copy.deepcopy(model.decoder.net)
    return VAE(shape, latent, encoder=FromLogVariance(encoder), decoder=decoder).eval()


@torch.no_grad()
def check_same_bound(peer: Any, ours: VAE, x: Tensor, tolerance: float = 0.01) -> float:
    """Mean ELBO of x by pythae's forward pass, after checking that ours gives the same for the same draws of z.

    Args:
        peer: pythae's model.
        ours: from `as_jensen`.
        x: binary images, (n, *shape).
        tolerance: nats.

    Raises:
        ValueError: the two differ by more than the tolerance, for the mean ELBO or for its terms.
    """
    output = peer(DatasetOutput(data=x))
    posterior = ours.posterior(x)
    distortion = -ours.decoder(output.z).log_prob(x).flatten(1).sum(1).mean()
    rate = torch.distributions.kl_divergence(posterior, ours.prior()).sum(1).mean()
    for name, mine, its in (("distortion", distortion, output.recon_loss), ("rate", rate, output.reg_loss)):
        if abs(mine.item() - its.item()) > tolerance:
            raise ValueError(f"{name} of pythae's weights: {its.item():.4f} in pythae, {mine.item():.4f} in our model")
    return -float(output.loss)
