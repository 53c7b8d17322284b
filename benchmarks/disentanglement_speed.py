"""Seconds a step of beta-TCVAE and FactorVAE: ours against pythae's on the same networks, and that losses agree.

Contenders run in turn, each in a process of its own. A bare step is forward pass, loss, backward passes and fused
Adam on slices of a tensor in memory, for both; a trainer is all that a user waits for, as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.interleave import Contender, Measured, interleave
from benchmarks.report import Row, processor_flags, row_of
from jensen.config import NetConfig, ObjectiveConfig, TrainConfig
from jensen.data import Batch, load_data

# What only one contender needs is imported where it is made: the processes start sooner.

__all__ = ["CASES", "SpeedCase", "agreement", "quick_cases", "speed_rows"]

LATENT = 10
SHAPE = (1, 64, 64)
LR = 1e-3
BETA, GAMMA = 6.0, 10.0
DATASET_SIZE = 737_280
REPEATS, QUICK_REPEATS = 5, 3
TC, FACTOR = "beta-TCVAE", "FactorVAE"

OURS, BF16, OUR_TRAINER = "jensen", "jensen bf16", "jensen's trainer"
PEER, PEER_TRAINER = "pythae", "pythae's trainer"

Step = Callable[[Tensor], object]


@dataclass(frozen=True)
class SpeedCase:
    """A network, and what is trained on it."""

    name: str
    net: NetConfig
    batch_size: int
    steps: int
    """a repeat"""
    methods: tuple[str, ...] = (TC, FACTOR)
    target: float = 1.0
    """of pythae's seconds over ours"""
    bf16: bool = False
    """time ours in bf16 too"""

    @property
    def images(self) -> int:
        """Images a repeat."""
        return self.batch_size * self.steps


CASES = (
    SpeedCase("MLP 4096-400-10", NetConfig(kind="mlp", width=400, depth=1), 64, 40, target=2.0, bf16=True),
    SpeedCase(
        "MLP 4096-1200-1200-10, batch 2,048",
        NetConfig(kind="mlp", width=1200, depth=2),
        2048,
        1,
        target=2.0,
        bf16=True,
    ),
    SpeedCase("conv 64x64", NetConfig(kind="conv"), 64, 10, target=1.0),
)


def quick_cases() -> tuple[SpeedCase, ...]:
    """The same code on few steps."""
    small, _, conv = CASES
    return replace(small, steps=4), replace(conv, steps=1)


def speed_rows(cases: tuple[SpeedCase, ...], repeats: int, threads: int) -> list[Row]:
    """Of every case and method."""
    return [row for case in cases for method in case.methods for row in _rows(case, method, repeats, threads)]


def _rows(case: SpeedCase, method: str, repeats: int, threads: int) -> list[Row]:
    makers: dict[str, Callable[[], Contender]] = {
        OURS: partial(our_steps, case, method, bf16=False),
        PEER: partial(peer_steps, case, method),
        OUR_TRAINER: partial(our_trainer, case, method),
        PEER_TRAINER: partial(peer_trainer, case, method),
    }
    if case.bf16:
        makers[BF16] = partial(our_steps, case, method, bf16=True)
    found = interleave(makers, repeats, threads)
    name = f"{case.name}, {method}"
    rows = [
        _row(name, case, found, OURS, PEER, case.target),
        _row(f"{name}, trainers", case, found, OUR_TRAINER, PEER_TRAINER, case.target),
    ]
    if method == FACTOR:
        rows.insert(1, _row(f"{name}, per datum reconstructed", case, found, OURS, PEER, case.target, share=0.5))
    if case.bf16:
        fast = any(flag in processor_flags() for flag in ("amx_bf16", "avx512_bf16"))
        rows.insert(1, _row(f"{name}, ours in bf16", case, found, BF16, PEER, case.target if fast else None))
    return rows


def _row(
    name: str,
    case: SpeedCase,
    found: Mapping[str, Measured],
    ours: str,
    peer: str,
    target: float | None,
    share: float = 1.0,
) -> Row:
    """`share`: of a batch that the peer reconstructs."""
    mine, its = found[ours], found[peer]
    per = case.steps if share == 1.0 else case.images
    seconds = (1e3 * mine.median / per, 1e3 * its.median / per / share)
    note = (
        f"batch {case.batch_size}; repeats spread over {mine.spread:.0%} and {its.spread:.0%} of the median; "
        f"largest resident set {mine.peak:.0f} and {its.peak:.0f} MB"
    )
    if share != 1.0:
        note += f"; pythae's reconstructs {share:.0%} of a batch, ours all of it"
    unit = "ms/step" if share == 1.0 else "ms/datum"
    return row_of(name, *seconds, peer, unit, target=target, higher_is_better=False, note=note)


def our_steps(case: SpeedCase, method: str, *, bf16: bool) -> Contender:
    """Our model, objective and fused Adam on slices of a tensor."""
    from jensen.autoencoders import VAE
    from jensen.objectives import make_objective
    from jensen.training.optim import make_optimiser
    from jensen.training.step import TrainingStep

    torch.manual_seed(0)
    model = VAE(SHAPE, LATENT, net=case.net)
    step = TrainingStep(model, make_objective(_objective(method), LATENT), DATASET_SIZE).train()
    optimiser = make_optimiser(TrainConfig(lr=LR), model, step.objective)
    count = 0

    def one(x: Tensor) -> float:
        nonlocal count
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, _ = step(Batch(x, x, None, torch.arange(len(x))), count)
        loss.backward()
        optimiser.step()
        count += 1
        return float(loss.detach())

    return _over_slices(one, case)


def peer_steps(case: SpeedCase, method: str) -> Contender:
    """pythae's model and loss with fused Adam on slices of a tensor."""
    from benchmarks import pythae_disentanglement as peers

    torch.manual_seed(0)
    step: Step
    if method == TC:
        model = peers.make_tc(SHAPE, LATENT, case.net, beta=BETA)
        step = peers.tc_step(model, lr=LR, dataset_size=DATASET_SIZE)
    else:
        model = peers.make_factor(SHAPE, LATENT, case.net, gamma=GAMMA)
        step = peers.factor_step(model, lr=LR, discriminator_lr=1e-4)
    return _over_slices(step, case)


def our_trainer(case: SpeedCase, method: str) -> Contender:
    """Our Trainer for an epoch, checkpoints off; its validation is on two images."""
    from jensen.autoencoders import VAE
    from jensen.objectives import make_objective
    from jensen.training import Position, Trainer
    from jensen.training.fabric import make_fabric

    def ignore(position: Position) -> None:
        """Record nothing."""

    torch.manual_seed(0)
    model = VAE(SHAPE, LATENT, net=case.net)
    train, valid, test = torch.arange(case.images + 4).split([case.images, 2, 2])
    data = load_data("dsprites", splits={"train": train, "valid": valid, "test": test})
    config = TrainConfig(epochs=1, batch_size=case.batch_size, lr=LR, accelerator="cpu")
    fabric = make_fabric(config)
    objective = make_objective(_objective(method), LATENT)

    def epoch() -> None:
        Trainer(model, data, objective, config, fabric, seed=0, folder=None, quiet=True, on_epoch=ignore).run()

    return epoch


def peer_trainer(case: SpeedCase, method: str) -> Contender:
    """pythae's trainer for an epoch, as it comes: Adam not fused, its own data loader."""
    from benchmarks import pythae_disentanglement as peers

    torch.manual_seed(0)
    if method == TC:
        model = peers.make_tc(SHAPE, LATENT, case.net, beta=BETA)
    else:
        model = peers.make_factor(SHAPE, LATENT, case.net, gamma=GAMMA)
    return peers.peer_trainer(model, images(case.images), batch_size=case.batch_size, lr=LR)


@torch.no_grad()
def agreement(net: NetConfig, batch_size: int = 64, dataset_size: int = DATASET_SIZE) -> dict[str, float]:
    """Largest differences in nats between pythae's losses and ours, for the same weights, images and draws of z.

    Returns:
        `weighted`: beta-TCVAE by minibatch-weighted sampling, which both should define alike; `stratified`: by
        stratified sampling, ours minus its (its weights are not on the diagonal); `elbo`: FactorVAE's without its TC.
    """
    from benchmarks import pythae_disentanglement as peers
    from benchmarks.pythae_vae import as_jensen
    from jensen.bound import Level, Output
    from jensen.objectives import Context, make_objective

    torch.manual_seed(0)
    x = images(batch_size)
    found: dict[str, float] = {}
    for estimator in ("weighted", "stratified"):
        model = peers.make_tc(SHAPE, LATENT, net, beta=BETA, stratified=estimator == "stratified")
        ours = as_jensen(model)
        encoded = model.encoder(x)
        mean, log_variance = encoded.embedding, encoded.log_covariance
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        its = model.loss_function(model.decoder(z)["reconstruction"], x, mean, log_variance, z, dataset_size)[0]
        posterior = ours.posterior(x)
        level = Level(z[None], posterior.expand((1, *z.shape)), ours.prior())
        output = Output(x[None], ours.decoder(z[None]), (level,))
        config = _objective(TC).model_copy(update={"estimator": estimator})
        mine = make_objective(config, LATENT)(output, Context(0, dataset_size)).value
        found[estimator] = (mine - its).item()
    model = peers.make_factor(SHAPE, LATENT, net, gamma=0.0)
    ours = as_jensen(model)
    encoded = model.encoder(x)
    z = encoded.embedding
    with torch.no_grad():
        its = model.loss_function(
            model.decoder(z)["reconstruction"], x, encoded.embedding, encoded.log_covariance, z, z
        )[1]
    rate = torch.distributions.kl_divergence(ours.posterior(x), ours.prior()).sum(-1).mean()
    mine = rate - ours.decoder(z).log_prob(x).flatten(1).sum(1).mean()
    found["elbo"] = (mine - its).item()
    return found


def images(n: int) -> Tensor:
    """The first sprites of the training split, in random order, (n, 1, 64, 64) float32."""
    return load_data("dsprites").train.batch(torch.arange(n)).x


def _objective(method: str) -> ObjectiveConfig:
    if method == TC:
        return ObjectiveConfig(kind="total-correlation", beta=BETA)
    # the size of pythae's discriminator
    return ObjectiveConfig(kind="factor", gamma=GAMMA, discriminator_depth=5, discriminator_width=1000)


def _over_slices(step: Step, case: SpeedCase) -> Contender:
    """An epoch of steps on a permutation of the images."""
    data = images(case.images)

    def epoch() -> None:
        for some in torch.randperm(len(data)).split(case.batch_size):
            step(data[some])

    return epoch
