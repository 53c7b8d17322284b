"""pythae's BetaTCVAE and FactorVAE on our networks: a step of theirs on tensors in memory, or through their trainers.

A step is what pythae's trainers do with a batch: its model's forward pass, its loss, its backward passes (FactorVAE's
trainer has two) and its optimisers' steps. FactorVAE splits a batch: the first half is reconstructed, of the second
only the codes are had, to be permuted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.pythae_vae import Decoder, Encoder, make_trainer, quiet, still
from jensen.config import NetConfig
from jensen.nn import make_decoder, make_encoder

try:
    from pythae.data.datasets import DatasetOutput
    from pythae.models import BetaTCVAE, BetaTCVAEConfig, FactorVAE, FactorVAEConfig
    from pythae.trainers import AdversarialTrainer, AdversarialTrainerConfig
except ImportError:
    print("this benchmark needs pythae, its peer: pip install 'jensen[bench]'", file=sys.stderr)
    raise SystemExit(2) from None

__all__ = ["factor_step", "make_factor", "make_tc", "peer_trainer", "tc_step"]

Shape = tuple[int, ...]


def make_tc(shape: Shape, latent: int, net: NetConfig, *, beta: float, stratified: bool = True) -> Any:
    """pythae's beta-TCVAE, Bernoulli likelihood, on the networks that our VAE would have."""
    config = BetaTCVAEConfig(
        input_dim=shape, latent_dim=latent, reconstruction_loss="bce", alpha=1.0, beta=beta, gamma=1.0
    )
    config.use_mss = stratified
    return BetaTCVAE(config, **_nets(shape, latent, net))


def make_factor(shape: Shape, latent: int, net: NetConfig, *, gamma: float) -> Any:
    """pythae's FactorVAE on the same networks; its discriminator is its own (five hidden layers of 1,000)."""
    config = FactorVAEConfig(input_dim=shape, latent_dim=latent, reconstruction_loss="bce", gamma=gamma)
    return FactorVAE(config, **_nets(shape, latent, net))


def tc_step(model: Any, *, lr: float, dataset_size: int, fused: bool = True) -> Callable[[Tensor], float]:
    """A step of its BaseTrainer on a batch (B, *shape) in [0, 1]; returns the loss."""
    optimiser = torch.optim.Adam(model.parameters(), lr=lr, fused=fused)
    model.train()

    def step(x: Tensor) -> float:
        output = model(DatasetOutput(data=x), dataset_size=dataset_size)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        loss: float = output.loss.item()
        return loss

    return step


def factor_step(model: Any, *, lr: float, discriminator_lr: float, fused: bool = True) -> Callable[[Tensor], float]:
    """A step of its AdversarialTrainer on a batch (B, *shape) in [0, 1], of which B/2 are reconstructed.

    As there, the discriminator's loss is differentiated through the codes too, so that it moves the encoder.
    """
    own = [*model.encoder.parameters(), *model.decoder.parameters()]
    optimiser = torch.optim.Adam(own, lr=lr, fused=fused)
    adversary = torch.optim.Adam(model.discriminator.parameters(), lr=discriminator_lr, fused=fused)
    model.train()

    def step(x: Tensor) -> float:
        output = model(DatasetOutput(data=x))
        optimiser.zero_grad()
        output.autoencoder_loss.backward(retain_graph=True)
        adversary.zero_grad()
        output.discriminator_loss.backward()
        optimiser.step()
        adversary.step()
        loss: float = output.autoencoder_loss.item() + output.discriminator_loss.item()
        return loss

    return step


def peer_trainer(model: Any, images: Tensor, *, batch_size: int, lr: float) -> Callable[[], object]:
    """An epoch (`train_step`) of pythae's own trainer as it comes: its data loader, and Adam as it makes it."""
    data = still(images)
    with TemporaryDirectory() as folder, quiet():  # it makes a folder for what it would save, and says so
        if isinstance(model, FactorVAE):
            config = AdversarialTrainerConfig(
                output_dir=folder,
                num_epochs=1,
                per_device_train_batch_size=batch_size,
                autoencoder_learning_rate=lr,
                no_cuda=True,
            )
            trainer = AdversarialTrainer(model, data, training_config=config)
        else:
            trainer = make_trainer(model, data, Path(folder), epochs=1, batch_size=batch_size, lr=lr)
        trainer.prepare_training()

    def epoch() -> None:
        with quiet():
            trainer.train_step(1)

    return epoch


def _nets(shape: Shape, latent: int, net: NetConfig) -> dict[str, Any]:
    return {
        "encoder": Encoder(make_encoder(net, shape, 2 * latent)),
        "decoder": Decoder(make_decoder(net, latent, shape)),
    }
