"""Training a model: in Python, or as a run that can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from jensen.autoencoders import NeuralModel, make_model, resolve
from jensen.autoencoders.build import require_table
from jensen.config import Config, TrainConfig
from jensen.data import Data, load_data, prepare
from jensen.data.own import is_own, own_path
from jensen.errors import CheckpointError, ConfigError
from jensen.files import UNFINISHED, clear_unfinished, write_text
from jensen.objectives import Elbo, Objective, make_objective
from jensen.training.checkpoint import load_checkpoint
from jensen.training.fabric import make_fabric
from jensen.training.folder import forget_evaluation
from jensen.training.loop import Position, Trainer
from jensen.training.memory import batch_that_fits
from jensen.training.run import Run, write_metrics
from jensen.training.shares import in_steps, steps_an_epoch
from jensen.training.step import recompute_activations

__all__ = ["fit", "need_tensorboard", "recorder", "resume", "train"]


def train(
    model: NeuralModel,
    data: Data,
    objective: Objective | None = None,
    *,
    seed: int = 0,
    quiet: bool = False,
    **settings: Any,
) -> dict[str, list[float]]:
    """Train a model in place; afterwards it holds the weights with the best validation score, in evaluation mode on the
    CPU.

    For a run that is recorded and can be resumed, use `fit`.

    Args:
        model: what to train.
        data: training and validation data, from `load_data`.
        objective: what to maximise; None: the ELBO.
        seed: of the order of the data and of all noise (torch's global generator is seeded with it).
        quiet: no progress bar.
        **settings: keys of `TrainConfig`: epochs, batch_size, lr, ...

    Returns:
        The history: a list a column (epoch, train/elbo, valid/elbo, ...), one entry an epoch.

    Raises:
        ConfigError: a setting is unknown or impossible, or the likelihood is not about such data.
        NonFiniteError: the loss became NaN or infinite.
    """
    config = TrainConfig(**settings)
    model.likelihood.check_data(data.levels, data.transform)
    if model.config is not None:
        require_table(model.config.likelihood, model.kind, data, data.config.target)
    objective, fabric = objective or Elbo(), make_fabric(config)
    config = batch_that_fits(model, data, objective, config, fabric, seed)
    trainer = Trainer(
        model,
        data,
        objective,
        config,
        fabric,
        seed=seed,
        folder=None,
        quiet=quiet,
        on_epoch=_nothing,
    )
    trainer.run()
    if trainer.best is not None:
        trainer.bare.load_state_dict(trainer.best)
    model.cpu().eval()
    rows = trainer.position.rows
    return {key: [row[key] for row in rows] for key in rows[0]}


def fit(config: Config, path: Path | str, *, quiet: bool = False) -> Run:
    """Train what a configuration describes, in a new run directory.

    Ctrl-C writes a checkpoint, says how to resume, and raises KeyboardInterrupt.

    Raises:
        ConfigError: the configuration does not fit the data or the machine, or the directory is taken.
        DataError: the data cannot be had.
        NonFiniteError: the loss became NaN or infinite; the last good checkpoint is kept.
    """
    fabric = make_fabric(config.train)
    path = Path(fabric.broadcast(str(path)))
    Run.refuse_taken(path)  # by every process, before one of them makes it
    fabric.barrier()
    if is_own(config.data.name):  # a run may be looked at from another folder
        place = str(own_path(config.data).resolve())
        config = config.model_copy(update={"data": config.data.model_copy(update={"name": place})})
    data = load_data(config.data)
    config = resolve(config, data)
    data = prepare(data.dataset, config.data)
    torch.manual_seed(config.seed)
    model = make_model(config.model, data)
    model.likelihood.check_data(data.levels, data.transform)
    need_tensorboard(config.train)
    config = _with_batch(config, model, data, fabric)
    config = in_steps(config, config.train.epochs * steps_an_epoch(data, config.train, fabric.world_size))
    if config.train.checkpointing:
        recompute_activations(model)  # now, as it may be refused
    if fabric.is_global_zero:
        Run.create(path, config, data)
    fabric.barrier()
    run = Run.open(path)
    with run.training_alone(fabric.is_global_zero):
        _trainer(run, model, data, fabric, quiet).run()
    return run


def resume(path: Path | str, *, epochs: int | None = None, quiet: bool = False) -> Run:
    """Continue a run from its latest checkpoint, to the same final weights as if it had never stopped.

    Args:
        path: the run directory.
        epochs: train to this many epochs in all, instead of the number that the run was started with. (With a cosine
            decay of the learning rate this is another run than one started with that number: the decay ended earlier.)

    Raises:
        CheckpointError: no run or checkpoint there, or nothing left to do.
    """
    run = Run.open(path)
    need_tensorboard(run.config.train)
    fabric = make_fabric(run.config.train)
    with run.training_alone(fabric.is_global_zero):  # a checkpoint that another process replaces could not be read
        return _go_on(run, fabric, epochs, quiet)


def _go_on(run: Run, fabric: Any, epochs: int | None, quiet: bool) -> Run:
    """`resume`, by the only process that trains this run."""
    checkpoint = None if _never_began(run) else load_checkpoint(run.checkpoints)
    done = 0 if checkpoint is None else int(checkpoint.state["position"]["epoch"])
    if epochs is not None and epochs != run.config.train.epochs:
        if epochs <= done:
            raise CheckpointError(f"{run.path} has {done} epochs already; give more than that to go on")
        values = run.config.model_dump()
        values["train"]["epochs"] = epochs
        run = Run(run.path, Config(**values))
        if checkpoint is not None:
            checkpoint.state["position"]["finished"] = False
    elif checkpoint is not None and checkpoint.state["position"]["finished"]:
        raise CheckpointError(f"{run.path} is finished ({done} epochs); to go on give a larger number of epochs")
    data = run.data(condition=run.config.data.condition)
    torch.manual_seed(run.config.seed)  # without a checkpoint weights begin as in `fit`
    trainer = _trainer(run, make_model(run.config.model, run.own_facts), data, fabric, quiet)
    if checkpoint is not None:
        trainer.load(checkpoint)
    if (run.path / "prior").exists():
        trainer.progress.say(
            f"the prior in {run.path / 'prior'} is of the codes so far: where they change it is left out, until "
            f"jensen train prior --run {run.path} --replace"
        )
    if fabric.is_global_zero:
        clear_unfinished(run.path)
        if dropped := forget_evaluation(run.path):  # of the weights before
            trainer.progress.say(dropped)
        if (
            checkpoint is not None and run.config != Run.open(run.path).config
        ):  # more epochs: the checkpoint is no end any more, also if killed
            trainer.save()
        write_text(run.path / "config.yaml", run.config.to_yaml())
        if checkpoint is not None:
            recorder(run.path)(trainer.position)
    trainer.run()
    return run


def _never_began(run: Run) -> bool:
    """Whether the run was killed before its first checkpoint was the latest, so that all that there is are settings."""
    ours = (UNFINISHED, "step-00000000")  # of no step: nothing is lost with it
    there = [path for path in run.checkpoints.glob("*") if not path.name.startswith(ours)]
    return not there and not (run.path / "metrics.csv").exists()


def _with_batch(config: Config, model: NeuralModel, data: Data, fabric: Any) -> Config:
    """With the batch that memory does for, where that is asked for."""
    if not config.train.auto_batch:
        return config
    objective = make_objective(config.objective, config.model.latent)
    fits = batch_that_fits(model, data, objective, config.train, fabric, config.seed)
    return Config(**{**config.model_dump(), "train": fits.model_dump()})


def _trainer(run: Run, model: NeuralModel, data: Data, fabric: Any, quiet: bool) -> Trainer:
    return Trainer(
        model,
        data,
        make_objective(run.config.objective, run.config.model.latent),
        run.config.train,
        fabric,
        seed=run.config.seed,
        folder=run.checkpoints,
        quiet=quiet,
        on_epoch=recorder(run.path, run.config.train.tensorboard, alone=fabric.is_global_zero),
    )


def recorder(path: Path, tensorboard: bool = False, *, alone: bool = True) -> Callable[[Position], None]:
    """What writes metrics.csv, and TensorBoard events where asked for, in this folder after each epoch.

    With `alone` False (a helper process) it writes nothing.
    """
    if not alone:
        return _nothing
    written = _record(path)
    return _both(written, _tensorboard(path)) if tensorboard else written


def _nothing(position: Position) -> None:
    """Record nothing."""


def _both(first: Callable[[Position], None], second: Callable[[Position], None]) -> Callable[[Position], None]:
    def call(position: Position) -> None:
        first(position)
        second(position)

    return call


def _record(path: Path) -> Callable[[Position], None]:
    def write(position: Position) -> None:
        write_metrics(path / "metrics.csv", position.rows)

    return write


def need_tensorboard(config: TrainConfig) -> None:
    """Raise `ConfigError` if TensorBoard events are asked for and the package is not there."""
    if config.tensorboard and find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard needs the package tensorboard: pip install 'jensen[tensorboard]'")


def _tensorboard(path: Path) -> Callable[[Position], None]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(path / "tensorboard"))

    def write(position: Position) -> None:
        row = position.rows[-1]
        for name, value in row.items():
            if name not in ("epoch", "step"):
                writer.add_scalar(name, value, int(row["step"]))
        writer.flush()

    return write
