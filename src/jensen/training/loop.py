"""The training loop, for every model and objective."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from jensen.autoencoders.model import NeuralModel
from jensen.config import TrainConfig
from jensen.config.whole import check_levels
from jensen.data import Batch, Data
from jensen.errors import CheckpointError, ConfigError
from jensen.objectives import Objective
from jensen.objectives.build import name_of
from jensen.training.checkpoint import Checkpoint, save_checkpoint
from jensen.training.determinism import check_repeats, only_deterministic
from jensen.training.guard import Guard
from jensen.training.memory import FULL, is_full, too_large
from jensen.training.optim import LearningRate, averaging, load_optimiser, make_optimiser
from jensen.training.position import Position
from jensen.training.progress import TrainingProgress
from jensen.training.shares import in_steps, objective_in_steps, steps_an_epoch
from jensen.training.step import TrainingStep, arrange
from jensen.training.stop import StopRequest
from jensen.training.validation import validate

__all__ = ["Position", "Trainer"]

SECONDS_BETWEEN_CHECKPOINTS = 30.0
STEPS_BETWEEN_STOPS = 10  # with several processes, which have to agree


class Trainer:
    """Climbs an objective by minibatch gradients, with everything that must survive a stop in `position` and `save()`.

    Args:
        model: any `NeuralModel`.
        data: training and validation data.
        objective: what to maximise.
        config: how.
        fabric: from `make_fabric`.
        seed: of the order of the data and of all noise.
        folder: where checkpoints go; None: nowhere.
        quiet: no progress bar.
        on_epoch: called after every epoch.
        go_on: the command that resumes; None: that of a run.
    """

    def __init__(
        self,
        model: NeuralModel,
        data: Data,
        objective: Objective,
        config: TrainConfig,
        fabric: Fabric,
        *,
        seed: int,
        folder: Path | None,
        quiet: bool,
        on_epoch: Callable[[Position], None],
        go_on: str | None = None,
    ) -> None:
        self.steps = steps_an_epoch(data, config, fabric.world_size)
        total = config.epochs * self.steps
        config, objective = in_steps(config, total), objective_in_steps(objective, total)
        self.config, self.fabric, self.seed, self.folder = config, fabric, seed, folder
        self.on_epoch, self.go_on = on_epoch, go_on
        data = data.to(fabric.device)
        self.train_split, self.valid_split = data.train, data.valid
        self.local_batch = config.batch_size // fabric.world_size
        local = data.train.epoch_length // fabric.world_size
        self.images = self.steps * min(self.local_batch, local) * fabric.world_size  # in an epoch
        if config.warmup > total:
            raise ConfigError(f"train: a warmup of {config.warmup} steps is longer than the training of {total}")
        self.rate = LearningRate(config, total)
        # Sums of many steps; Apple's GPUs have no float64.
        self.wide = torch.float32 if fabric.device.type == "mps" else torch.float64
        check_levels(model.kind, name_of(objective))
        objective.prepare(model.latent)
        self.bare = TrainingStep(model, objective, len(data.train)).to(fabric.device)
        arrange(self.bare, config)
        self.bare_optimiser = make_optimiser(config, self.bare.model, self.bare.objective)
        self.parameters = list(self.bare.parameters())
        self.step, self.optimiser = fabric.setup(self.bare, self.bare_optimiser)
        agree = None if fabric.world_size == 1 else self._any
        self.guard = Guard(config, self.bare, self.bare_optimiser, self.train_split, folder, fabric.device, agree)
        self.average = None if config.ema is None else AveragedModel(self.bare, multi_avg_fn=averaging(config.ema))
        if fabric.world_size > 1:  # only now: the average copied the module, and processes cannot be copied
            for module in {self.bare, self.result}:
                module.gather = self.gather
        self.position = Position()
        self.totals: Tensor | None = None
        self.names: list[str] = []  # of the totals; validation may log other terms
        self.best: dict[str, Tensor] | None = None
        self.saved = time.monotonic()
        self.progress = TrainingProgress(config.epochs, self.steps, quiet=quiet or not fabric.is_global_zero)
        self.stop = StopRequest(lambda: self.progress.say("stopping after this step or validation; again: at once"))
        torch.manual_seed(seed + fabric.global_rank)

    def run(self) -> None:
        """Train to the last epoch, or until validation has not improved for `patience` epochs.

        Raises:
            NonFiniteError: a loss, gradient or weight is NaN or infinite, or too many steps in a row were left out.
            ConfigError: memory does not do for a batch, or training is to be deterministic and is not.
            KeyboardInterrupt: asked to stop; a checkpoint has been written.
        """
        self.progress.done = self.position.step
        with self.stop, self.progress, only_deterministic(self.config.deterministic):
            full = ""
            try:
                self._run()
            except FULL as error:
                if not is_full(error):
                    raise
                full = str(error) or type(error).__name__
            if full:  # out of the handler, which holds on to what filled it
                raise too_large(self, full)

    def _run(self) -> None:
        if self.config.deterministic and not self.position.finished:
            check_repeats(self)
        if self.position.step == 0:
            self.save()
            self._say_what_is_sought()
        while self.position.epoch < self.config.epochs and not self.position.finished:
            self._epoch()
            row = self._summary(self._validate())
            self.position.rows.append(row)
            waited = self.position.epoch - self.position.best_epoch
            self.position.finished = self.config.patience is not None and waited >= self.config.patience
            self.progress.epoch(row)
            self.on_epoch(self.position)
            self._save_if_due()
            self._stop_if_asked()
        if self.position.finished:
            self.progress.say(f"no better validation score for {self.config.patience} epochs: stopped")
        self.position.finished = True
        self.save()
        self.fabric.barrier()  # no process returns before the last checkpoint is there

    def _say_what_is_sought(self) -> None:
        model, objective, steps = self.bare.model, self.bare.objective, self.config.epochs * self.steps
        self.progress.say(f"parameters {sum(weight.numel() for weight in model.parameters()):,}")
        if meaning := objective.describe(model.latent, math.prod(model.target_shape)):
            self.progress.say(meaning)
        if objective.schedule_steps > steps:
            self.progress.say(f"that is more steps than the {steps} of this training: give more epochs, or fewer steps")

    def batches(self) -> Iterator[Batch]:
        """What is left of the epoch under way, as often as it is asked for."""
        generator = torch.Generator().manual_seed(_epoch_seed(self.seed, self.position.epoch))
        batches = self.train_split.batches(
            self.local_batch,
            shuffle=generator,
            start=self.position.batch,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
        )
        return islice(batches, self.steps - self.position.batch)

    def _epoch(self) -> None:
        """The rest of the epoch under way."""
        self.step.train()
        clock = time.perf_counter()
        for batch in self.batches():
            self._step(batch)
            now = time.perf_counter()
            self.position.epoch_seconds += now - clock
            clock = now
            self.progress.step(self.position.step, self.position.epoch, self.guard.not_finite)
            if self.position.batch < self.steps:
                self._save_if_due()
                self._stop_if_asked()
                clock = time.perf_counter()

    def _step(self, batch: Batch) -> None:
        """One optimiser step, unless it is to be left out."""
        position, guard = self.position, self.guard
        guard.begin(batch, position.epoch + 1, position.step + 1)
        batch = self.laid_out(batch)
        for parameter in self.parameters:
            parameter.grad = None
        if self.fabric.world_size == 1:  # Fabric's wrappers have nothing to add, and are 3% of a small model's step
            with self.fabric.autocast():
                loss, logged = self.bare(batch, position.step)
            if guard.terms(logged):
                loss.backward()
        else:
            loss, logged = self.step(batch, position.step)
            if guard.terms(logged):
                self.fabric.backward(loss)
        if guard.takes_step():
            for group in self.bare_optimiser.param_groups:
                group["lr"] = group["scale"] * self.rate(position.step)
            self.bare_optimiser.step()
            if self.average is not None:
                self.average.update_parameters(self.bare)
        self._count(logged, guard.lost)
        position.batch += 1
        position.step += 1

    def laid_out(self, batch: Batch) -> Batch:
        """The batch in the memory layout of the model."""
        if not self.config.channels_last or batch.x.ndim != 4:
            return batch
        x, condition = batch.x.contiguous(memory_format=torch.channels_last), batch.condition
        if condition is not None and condition.ndim == 4:
            condition = condition.contiguous(memory_format=torch.channels_last)
        return batch._replace(x=x, target=x if batch.target is batch.x else batch.target, condition=condition)

    def _count(self, logged: Tensor, lost: bool) -> None:
        """Add the step's terms to the epoch's totals, unless it was lost."""
        if self.totals is None:
            self.names = list(self.bare.names)
            before = [self.position.totals.get(name, 0.0) for name in self.names]
            self.totals = torch.tensor(before, dtype=self.wide, device=logged.device)
        if not lost:
            self.totals += logged

    def _sums(self) -> dict[str, float]:
        """Sums over the epoch's steps so far, by name."""
        return {} if self.totals is None else dict(zip(self.names, self.totals.tolist(), strict=True))

    def _validate(self) -> Mapping[str, float]:
        self.guard.look()
        return validate(self)

    def _summary(self, valid: Mapping[str, float]) -> dict[str, float]:
        """Close the epoch: its row of metrics, the best weights so far, the learning rate."""
        position = self.position
        assert self.totals is not None
        if self.fabric.world_size > 1:
            self.totals = self.gather(self.totals).mean(0)
        lr = self.rate(position.step - 1)
        position.epoch += 1
        position.seconds += position.epoch_seconds
        score = valid["score"]
        if score > position.best:
            position.best, position.best_epoch = score, position.epoch
            self.best = {name: value.detach().cpu().clone() for name, value in self.result.state_dict().items()}
        self.rate.epoch_ended(score)
        counted = self.steps - self.guard.not_finite
        means = (self.totals / counted).tolist() if counted else [math.nan] * len(self.names)
        row = {
            "epoch": position.epoch,
            "step": position.step,
            "lr": lr,
            "seconds": position.seconds,
            "epoch_seconds": position.epoch_seconds,
            "images_per_second": self.images / max(position.epoch_seconds, 1e-9),
            **{f"train/{name}": mean for name, mean in zip(self.names, means, strict=True) if name != "score"},
            **self.guard.close_epoch(),
            **{f"valid/{name}": value for name, value in valid.items()},
        }
        self.totals, position.totals, position.batch, position.epoch_seconds = None, {}, 0, 0.0
        return row

    def gather(self, values: Tensor) -> Tensor:
        """Those of all processes, stacked."""
        gathered = self.fabric.all_gather(values)
        assert isinstance(gathered, Tensor)
        return gathered

    @property
    def result(self) -> TrainingStep:
        """What training is for: the model, or the one with averaged weights if an average is kept."""
        module = self.bare if self.average is None else self.average.module
        assert isinstance(module, TrainingStep)
        return module

    def _save_if_due(self) -> None:
        if self.folder is not None and time.monotonic() - self.saved > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def _any(self, mine: bool) -> bool:
        return bool(self.fabric.strategy.reduce_boolean_decision(mine, all=False))

    def _stop_if_asked(self) -> None:
        asked = self.stop.requested
        if self.fabric.world_size > 1:  # all stop after the same step, or one would wait for the others for ever
            if self.position.step % STEPS_BETWEEN_STOPS and self.position.batch:
                return
            asked = self._any(asked)
        if asked:
            self.save()
            if self.folder is not None:
                self.progress.say(f"stopped. To go on: {self.go_on or f'jensen train --resume {self.folder.parent}'}")
            raise KeyboardInterrupt

    def save(self) -> None:
        """Write a checkpoint, unless a weight is not finite.

        Raises:
            NonFiniteError: it is not; the checkpoint before is kept.
        """
        self.guard.look()
        if self.folder is None or not self.fabric.is_global_zero:
            return
        if self.totals is not None:
            self.position.totals = self._sums()
            self.guard.refuse(self.position.totals)
        self.guard.refuse_weights(self.position.step)
        state = {
            "position": asdict(self.position),
            "optimiser": self.bare_optimiser.state_dict(),
            "rate": self.rate.state_dict(),
            **self.guard.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "averaged": 0 if self.average is None else int(self.average.n_averaged),
        }
        average = None if self.average is None else self.average.module.state_dict()
        save_checkpoint(self.folder, self.position.step, Checkpoint(self.bare.state_dict(), state, average, self.best))
        self.saved = time.monotonic()

    def load(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written.

        Raises:
            CheckpointError: it belongs to another model.
        """
        try:
            self.bare.load_state_dict(dict(checkpoint.weights))
            load_optimiser(self.bare_optimiser, checkpoint.state["optimiser"])
            if (self.average is None) != (checkpoint.average is None):
                raise ValueError("one of the two has no moving average of the weights")
            if self.average is not None and checkpoint.average is not None:
                self.average.module.load_state_dict(dict(checkpoint.average))
                self.average.n_averaged.fill_(checkpoint.state["averaged"])
            self.rate.load_state_dict(checkpoint.state["rate"])
            self.guard.load_state_dict(checkpoint.state)
            self.position = Position(**checkpoint.state["position"])
            random, cuda = checkpoint.state["random"], checkpoint.state["random_cuda"]
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint does not fit this model: {' '.join(str(error).split())[:300]}"
            ) from None
        self.best = None if checkpoint.best is None else dict(checkpoint.best)
        if self.fabric.world_size > 1:  # each process needs noise of its own
            torch.manual_seed(_epoch_seed(self.seed + self.fabric.global_rank, self.position.step))
            return
        torch.set_rng_state(random)
        if torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(cuda)


def _epoch_seed(seed: int, epoch: int) -> int:
    """A seed for the order of each epoch, different for neighbouring seeds and epochs."""
    return (seed * 1_000_003 + epoch * 7_919 + 1) % 2**63
