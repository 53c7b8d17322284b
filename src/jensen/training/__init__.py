"""Training: the loop, checkpoints and run directories."""

from __future__ import annotations

from jensen.training.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from jensen.training.loop import Position, Trainer
from jensen.training.optim import LearningRate, make_optimiser
from jensen.training.portable import load, save
from jensen.training.prior import fit_prior, resume_prior
from jensen.training.prior_run import CodeFacts, PriorRun
from jensen.training.run import DataFacts, Run, StalePriorWarning, list_runs
from jensen.training.train import fit, resume, train

__all__ = [
    "Checkpoint",
    "CodeFacts",
    "DataFacts",
    "LearningRate",
    "Position",
    "PriorRun",
    "Run",
    "StalePriorWarning",
    "Trainer",
    "fit",
    "fit_prior",
    "list_runs",
    "load",
    "load_checkpoint",
    "load_weights",
    "make_optimiser",
    "resume",
    "resume_prior",
    "save",
    "save_checkpoint",
    "train",
]
