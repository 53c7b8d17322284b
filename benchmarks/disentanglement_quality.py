"""Objectives for independent codes on generated dSprites: training within a budget, and what came of it.

All models have the same network, batch, optimiser, seed and order of the data; only the price of the code differs.
Each is a run directory, so that a stopped benchmark goes on where it was, and a longer budget continues a shorter one.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.mnist import say
from jensen.autoencoders import NeuralModel, make_model
from jensen.config import Config, DataConfig, ModelConfig, NetConfig, ObjectiveConfig, TrainConfig
from jensen.data import Batch, Data, Split, load_data
from jensen.errors import JensenError
from jensen.files import write_text
from jensen.metrics.disentanglement import beta_vae_score, encode_pool, factor_vae_score, mig
from jensen.metrics.disentanglement.udr import INFORMATIVE
from jensen.metrics.evaluation import evaluate
from jensen.metrics.information import information
from jensen.objectives import make_objective
from jensen.training import Run, fit, resume, train

__all__ = ["MODELS", "Few", "Score", "Settings", "Trained", "configuration", "score_run", "train_within"]

LATENT = 10
NET = NetConfig(kind="conv")
BATCH, LR = 64, 1e-3
VALIDATION = 0.01
RAMP_SHARE = 0.5  # of capacity's training in which C rises; the paper's 100,000 steps do not fit
SAFETY = 0.97  # of a budget: validation and checkpoints
PROBE_STEPS = 60
MODELS: dict[str, ObjectiveConfig] = {
    "VAE": ObjectiveConfig(),
    "beta-VAE": ObjectiveConfig(kind="beta", beta=4.0),
    "capacity": ObjectiveConfig(kind="capacity"),
    "beta-TCVAE": ObjectiveConfig(kind="total-correlation", beta=6.0),
    "FactorVAE": ObjectiveConfig(kind="factor"),
}


@dataclass(frozen=True)
class Settings:
    """Sizes of what is measured; results of other settings are not mixed with these."""

    codes: int
    """for the terms under the aggregate posterior"""
    pool: int
    """examples of which the metrics have the codes"""
    held_out: int
    """test examples for ELBO, distortion and rate"""
    limit: int | None = None
    """training examples; None: all"""
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """How a model was trained."""

    epochs: int
    steps: int
    seconds: float
    """in steps, without validation and checkpoints"""


@dataclass(frozen=True)
class Score:
    """One model. Nats per example, except for the three scores, which are at most 1."""

    elbo: float
    elbo_error: float
    distortion: float
    rate: float
    total_correlation: float
    total_correlation_error: float
    mutual_information: float
    dimension_wise_kl: float
    mig: float
    mig_without_shape: float
    factor_vae: float
    beta_vae: float
    mig_by_factor: dict[str, float] = field(default_factory=dict)
    kl_per_dimension: list[float] = field(default_factory=list)


def configuration(objective: ObjectiveConfig, settings: Settings, *, epochs: int = 1, steps: int = 0) -> Config:
    """The run of one model; `steps` it will take in all, which scale the ramp of a capacity."""
    if objective.kind == "capacity" and steps:
        ramp = max(1, round(RAMP_SHARE * steps))
        objective = objective.model_copy(update={"capacity_steps": ramp})
    return Config(
        seed=settings.seed,
        data=DataConfig(name="dsprites", validation=VALIDATION, limit=settings.limit),
        model=ModelConfig(latent=LATENT, likelihood="bernoulli", net=NET),
        objective=objective,
        train=TrainConfig(
            epochs=epochs,
            batch_size=BATCH,
            lr=LR,
            accelerator="cpu",
            precision="bf16",
            channels_last=NET.kind == "conv",
        ),
    )


def train_within(name: str, objective: ObjectiveConfig, settings: Settings, seconds: float, folder: Path) -> Trained:
    """Train for as many whole epochs (at least one) as fit into `seconds`, counting those of an earlier call.

    A run of the same budget, or a larger one, is left as it is if it is finished, and finished if not.
    """
    path, plan = folder / name, folder / f"{name}-plan.json"
    if (path / "config.yaml").exists():
        run = Run.open(path)
        if not run.finished:
            say(f"{name}: going on with the run in {path}")
            resume(path, quiet=True)
        planned = json.loads(plan.read_text(encoding="utf-8"))["seconds"]
        history = run.history()
        done = len(history["epoch"])
        more = int(SAFETY * seconds / (history["seconds"][-1] / done))
        if seconds > planned and more > done:
            say(f"{name}: {done} epochs in {path}, going on to {more}")
            write_text(plan, json.dumps({"seconds": seconds}))
            resume(path, epochs=more, quiet=True)
    else:
        each, steps = _cost(configuration(objective, settings), settings)
        epochs = max(1, int(SAFETY * seconds / each))
        say(f"{name}: {each:.0f} s an epoch of {steps:,} steps, so {epochs} in {seconds / 60:.1f} minutes")
        write_text(plan, json.dumps({"seconds": seconds}))
        fit(configuration(objective, settings, epochs=epochs, steps=epochs * steps), path, quiet=True)
    history = Run.open(path).history()
    return Trained(len(history["epoch"]), int(history["step"][-1]), history["seconds"][-1])


def score_run(name: str, settings: Settings, folder: Path) -> Score:
    """Scores of the last weights of a run; those of the same weights and settings are not computed again."""
    run, file = Run.open(folder / name), folder / f"{name}-scores.json"
    of = {**asdict(settings), "epochs": len(run.history()["epoch"])}
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["of"] == of:
            return Score(**found["score"])
    start = time.perf_counter()
    score = score_model(run.model("last"), run.data(), settings)
    say(f"{name}: scored in {time.perf_counter() - start:.0f} s")
    write_text(file, json.dumps({"of": of, "score": asdict(score)}, indent=2))
    return score


def score_model(model: NeuralModel, data: Data, settings: Settings) -> Score:
    """Held-out bound, the parts of its rate under the aggregate posterior of the training data, and the metrics."""
    held_out = evaluate(model, Few(data.test, settings.held_out), samples=1, seed=settings.seed)
    parts = information(model, data.train, codes=settings.codes, seed=settings.seed)
    codes, factors, kl = encode_pool(model, data.test, settings.pool, settings.seed)
    if (
        held_out.elbo is None
        or held_out.elbo_error is None
        or held_out.rate is None
        or held_out.distortion is None
        or kl is None
        or parts.dimension_wise_kl is None
    ):
        raise JensenError("a model without a posterior has no place in this benchmark")
    active = [float(value) > INFORMATIVE for value in kl]
    gaps = mig(codes, factors, seed=settings.seed)
    names = data.train.factor_names
    by_factor = dict(zip(names, (float(gap) for gap in gaps.details["gaps"]), strict=True))
    others = [gap for factor, gap in by_factor.items() if factor != "shape"]
    return Score(
        elbo=held_out.elbo,
        elbo_error=held_out.elbo_error,
        distortion=held_out.distortion,
        rate=held_out.rate,
        total_correlation=parts.total_correlation,
        total_correlation_error=parts.total_correlation_error,
        mutual_information=parts.index_code_mi,
        dimension_wise_kl=parts.dimension_wise_kl,
        mig=gaps.value,
        mig_without_shape=sum(others) / len(others),
        factor_vae=factor_vae_score(codes, factors, seed=settings.seed, active=active).value,
        beta_vae=beta_vae_score(codes, factors, seed=settings.seed).value,
        mig_by_factor=by_factor,
        kl_per_dimension=[float(value) for value in kl],
    )


class Few:
    """The first examples of a split: all splits of dSprites are in random order."""

    def __init__(self, split: Split, count: int) -> None:
        self.split, self.count = split, min(count, len(split))

    def __len__(self) -> int:
        return self.count

    @property
    def levels(self) -> int | None:
        """As in the split."""
        return self.split.levels

    @property
    def transform(self) -> str:
        """As in the split."""
        return self.split.transform

    def batch(self, index: Tensor) -> Batch:
        """Examples at these places."""
        return self.split.batch(index)


def _cost(config: Config, settings: Settings) -> tuple[float, int]:
    """Seconds an epoch takes, measured on some steps of a throw-away model, and the steps of an epoch."""
    whole = len(load_data(config.data).train)
    steps = max(1, whole // config.train.batch_size)
    taken = min(PROBE_STEPS, steps)
    data = load_data(config.data, limit=taken * config.train.batch_size)
    torch.manual_seed(settings.seed)
    model = make_model(config.model, data)
    history = train(
        model,
        data,
        make_objective(config.objective, config.model.latent),
        quiet=True,
        **(config.train.model_dump() | {"epochs": 2}),
    )
    return history["epoch_seconds"][-1] / taken * steps, steps
