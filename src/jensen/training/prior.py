"""Fitting a prior to the codes of a run."""

from __future__ import annotations

import difflib
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from jensen.autoencoders.code_prior import CodePrior
from jensen.autoencoders.vqvae import VQVAE
from jensen.config import PriorConfig
from jensen.data import Data, Dataset, prepare
from jensen.data.visible import PARTS
from jensen.errors import CheckpointError, ConfigError
from jensen.files import UNFINISHED, clear_unfinished, write_text
from jensen.objectives import Elbo
from jensen.training.checkpoint import Checkpoint, load_checkpoint
from jensen.training.codes import code_data
from jensen.training.fabric import make_fabric
from jensen.training.facts import DataFacts
from jensen.training.folder import forget_evaluation
from jensen.training.loop import Trainer
from jensen.training.memory import batch_that_fits
from jensen.training.prior_run import CodeFacts, PriorRun, digest_of
from jensen.training.run import Run
from jensen.training.shares import in_steps, steps_an_epoch
from jensen.training.train import need_tensorboard, recorder

__all__ = ["fit_prior", "resume_prior"]

SECONDS_BETWEEN_LINES = 10.0


def fit_prior(
    run: Run | Path | str, config: PriorConfig | None = None, *, replace: bool = False, quiet: bool = False
) -> PriorRun:
    """Fit an autoregressive prior to the codes that a run's model (its best weights) gives its training data.

    Its validation score, `valid/log_likelihood`, is minus the rate in nats an example that the codes of the validation
    data then have. Written to RUN/prior, from where `Run.model` puts it in place. RUN/evaluation.json, which is of
    other codes then, is deleted, and said to be.

    Ctrl-C writes a checkpoint, says how to resume, and raises KeyboardInterrupt.

    Args:
        run: with a model vqvae.
        config: of prior and training; None: the defaults.
        replace: train anew where there is a prior already, which is then deleted.
        quiet: no progress bar.

    Raises:
        CheckpointError: no run there, it has no weights, or another process is training it.
        ConfigError: its model has no integer codes, there is a prior already, or the configuration does not fit.
        DataError: the data cannot be had.
        NonFiniteError: the loss became NaN or infinite; the last good checkpoint is kept.
    """
    run, config = _opened(run), PriorConfig() if config is None else config
    config = _resolved(run, config)
    need_tensorboard(config.train)
    fabric = make_fabric(config.train)
    opened = PriorRun(run.path / "prior", config)
    leads = fabric.is_global_zero
    with run.training_alone(leads):
        if opened.path.exists() and not (replace and _is_prior(opened.path)):
            raise ConfigError(_taken(run, opened.path))
        fabric.barrier()  # before one of the processes makes it
        work = _Work.on(run, config, fabric, quiet)
        config = _with_batch(config, work, fabric)
        config = in_steps(config, config.train.epochs * steps_an_epoch(work.data, config.train, fabric.world_size))
        opened = PriorRun(opened.path, config)
        torch.manual_seed(config.seed)
        # All that can fail goes before what deletes another prior.
        trainer = _trainer(run, opened, _made(work.model, config, work.facts), work.data, fabric, quiet)
        if leads:
            _clear(opened.path)
            codes = CodeFacts(work.model.code_shapes, work.model.code_levels, digest_of(run.checkpoints, "best"))
            PriorRun.create(opened.path, config, work.facts, codes)
            _forget_evaluation(run, trainer)
        fabric.barrier()
        trainer.run()
    return opened


def resume_prior(run: Run | Path | str, *, epochs: int | None = None, quiet: bool = False) -> PriorRun:
    """Continue a prior from its latest checkpoint, to the same final weights as if it had never stopped.

    Args:
        run: whose prior.
        epochs: train to this many epochs in all, instead of the number that it was started with (see `resume`).
        quiet: no progress bar.

    Raises:
        CheckpointError: no run, prior or checkpoint there, nothing left to do, another process is training it, or the
            model has been trained on since the prior was begun.
    """
    run = _opened(run)
    opened = PriorRun.open(run.path / "prior")
    need_tensorboard(opened.config.train)
    codes, checkpoint = _to_go_on(opened)
    if codes.weights != digest_of(run.checkpoints, "best"):
        raise CheckpointError(
            f"the model of {run.path} has been trained on since its prior was begun, so its codes are others now; "
            f"begin anew: jensen train prior --run {run.path} --replace"
        )
    done = int(checkpoint.state["position"]["epoch"])
    if epochs is not None and epochs != opened.config.train.epochs:
        if epochs <= done:
            raise CheckpointError(f"{opened.path} has {done} epochs already; give more than that to go on")
        values = opened.config.model_dump()
        values["train"]["epochs"] = epochs
        opened = PriorRun(opened.path, PriorConfig(**values))
        checkpoint.state["position"]["finished"] = False
    elif checkpoint.state["position"]["finished"]:
        raise CheckpointError(f"{opened.path} is finished ({done} epochs); to go on give a larger number of epochs")
    fabric = make_fabric(opened.config.train)
    with run.training_alone(fabric.is_global_zero):
        work = _Work.on(run, opened.config, fabric, quiet)
        trainer = _trainer(run, opened, opened.new(), work.data, fabric, quiet)
        trainer.load(checkpoint)
        if fabric.is_global_zero:
            clear_unfinished(run.path)
            clear_unfinished(opened.path)
            _forget_evaluation(run, trainer)
            if opened.config != PriorRun.open(opened.path).config:  # as in `resume`
                trainer.save()
            write_text(opened.path / "config.yaml", opened.config.to_yaml())
            recorder(opened.path)(trainer.position)
        trainer.run()
    return opened


def _to_go_on(opened: PriorRun) -> tuple[CodeFacts, Checkpoint]:
    """What the prior is about, and its latest checkpoint."""
    try:
        if not opened.has_checkpoint:
            raise CheckpointError(f"{opened.path} has no checkpoint to go on from")
        DataFacts.read(opened.path / "data.yaml")
        return opened.codes, load_checkpoint(opened.checkpoints)
    except CheckpointError as error:
        run = opened.path.parent
        raise CheckpointError(f"{error}; begin anew: jensen train prior --run {run} --replace") from None


@dataclass(frozen=True)
class _Work:
    """What a prior is fitted to."""

    model: VQVAE
    data: Data
    facts: DataFacts

    @classmethod
    def on(cls, run: Run, config: PriorConfig, fabric: Any, quiet: bool) -> _Work:
        """The codes that the best weights of the run give its data; the model is frozen, in evaluation mode."""
        model = run.model(prior=False)
        assert isinstance(model, VQVAE)
        images = _images(run, config.condition)
        told = model.requires_grad_(False).eval()
        data = code_data(told, images, fabric.device, None if quiet or not fabric.is_global_zero else _Encoding())
        facts = DataFacts((model.latent,), (model.latent,), model.code_levels, tuple(images.class_names))
        return cls(model, data, facts.told(images.train.condition))


def _opened(run: Run | Path | str) -> Run:
    """The run; raises `ConfigError` unless its model has integer codes."""
    run = run if isinstance(run, Run) else Run.open(run)
    if run.config.model.kind != "vqvae":
        raise ConfigError(
            f"a prior is over integer codes, those of model vqvae, but {run.path} is {_article(run.config.model.kind)}"
        )
    return run


def _resolved(run: Run, config: PriorConfig) -> PriorConfig:
    """The configuration with what the prior is told, said."""
    own = run.config.data.condition
    if own is not None and config.condition not in (None, own):
        raise ConfigError(
            f"condition: the model of {run.path} is told {own}, and so is its prior; leave {config.condition} away"
        )
    return config.model_copy(update={"condition": config.condition or own})


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _images(run: Run, condition: str | None) -> Data:
    """The data, each example with what the prior is told of it; of the test split, which nobody asks for, none.

    Raises:
        ConfigError: the prior alone cannot be told that.
    """
    own = run.config.data.condition
    data = run.data(condition=own)
    if condition != own and condition is not None:
        _check_condition(run, condition, data.dataset)
        data = prepare(data.dataset, data.config.model_copy(update={"condition": condition}), splits=data.splits)
    return replace(data, test=replace(data.test, indices=data.test.indices[:0]))


def _check_condition(run: Run, condition: str, dataset: Dataset) -> None:
    """Raise `ConfigError` for what a prior alone cannot be told: images and parts of them are not for sampling."""
    there = {**dataset.targets, **dataset.conditions}
    labels = ["label"] if dataset.labels is not None else []
    choices = [*labels, *(name for name, values in there.items() if values.ndim != 4)]
    for name in map(str.strip, condition.split(",")):
        if name in choices:
            continue
        if name in PARTS or name in there:
            raise ConfigError(
                f"condition: {name} is an image or a part of one, which a prior can be told only together with its "
                f"model, but that of {run.path} is told nothing; train a model that is: jensen train --model vqvae "
                f"--condition {name}"
            )
        close = difflib.get_close_matches(name, choices, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"condition: {dataset.name} has no {name!r}{guess} (choices: {', '.join(choices) or 'none'})")


def _is_prior(path: Path) -> bool:
    """Whether it is ours to delete: a prior, if only what is left of one."""
    return any((path / name).is_file() for name in ("config.yaml", "codes.yaml"))


def _taken(run: Run, path: Path) -> str:
    if not _is_prior(path):
        return f"{path} is in the way, and no prior (it has no config.yaml): move it elsewhere"
    prior = None if not (path / "config.yaml").is_file() else run.prior
    if prior is None:
        return f"{path} has lost its config.yaml; begin anew: jensen train prior --run {run.path} --replace"
    if (fault := run.unfit(prior)) is not None:
        return f"{run.path} has a prior already, but {fault}"
    go_on = f"go on with jensen train prior --resume {run.path}, or train anew with --replace"
    return f"{run.path} has a prior already: {go_on}"


def _made(model: VQVAE, config: PriorConfig, facts: DataFacts) -> CodePrior:
    try:
        return CodePrior(model.code_shapes, model.code_levels, config.net, condition_shape=facts.condition_shape)
    except ValueError as error:
        raise ConfigError(f"this net cannot be a prior over such codes: {error}") from None


def _with_batch(config: PriorConfig, work: _Work, fabric: Any) -> PriorConfig:
    """With the batch that memory does for, where that is asked for."""
    if not config.train.auto_batch:
        return config
    prior = _made(work.model, config, work.facts)
    return config.model_copy(
        update={"train": batch_that_fits(prior, work.data, Elbo(), config.train, fabric, config.seed)}
    )


def _clear(path: Path) -> None:
    """Delete a prior, in one step as others see it."""
    clear_unfinished(path.parent)
    if path.exists():
        aside = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
        path.rename(aside / path.name)
        shutil.rmtree(aside, ignore_errors=True)


def _forget_evaluation(run: Run, trainer: Trainer) -> None:
    if dropped := forget_evaluation(run.path):  # of codes that cost something else
        trainer.progress.say(dropped)


def _trainer(run: Run, opened: PriorRun, prior: CodePrior, data: Data, fabric: Any, quiet: bool) -> Trainer:
    prior.likelihood.check_data(data.levels, data.train.transform)
    return Trainer(
        prior,
        data,
        Elbo(),
        opened.config.train,
        fabric,
        seed=opened.config.seed,
        folder=opened.checkpoints,
        quiet=quiet,
        on_epoch=recorder(opened.path, opened.config.train.tensorboard, alone=fabric.is_global_zero),
        go_on=f"jensen train prior --resume {run.path}",
    )


class _Encoding:
    """Says how far the encoding is, where a person waits for it."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.said > SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            print(f"encoding: {done:,} of {total:,} examples", file=sys.stderr)
