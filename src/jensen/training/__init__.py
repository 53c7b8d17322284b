"""Training: the loop, checkpoints and run directories."""

from __future__ import annotations

from jensen.training.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from jensen.training.loop import Position, Trainer
from jensen.training.optim import LearningRate, make_optimiser
from jensen.training.run import DataFacts, Run, list_runs
from jensen.training.train import fit, resume, train

__all__ = [
    "Checkpoint",
    "DataFacts",
    "LearningRate",
    "Position",
    "Run",
    "Trainer",
    "fit",
    "list_runs",
    "load_checkpoint",
    "load_weights",
    "make_optimiser",
    "resume",
    "save_checkpoint",
    "train",
]
