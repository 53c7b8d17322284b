"""RUN/evaluation.json: what was measured, now and before, as long as it is about the weights that the run has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jensen.cli.outputs import put

if TYPE_CHECKING:
    from jensen.training import Run

__all__ = ["FURTHER", "Written", "write_evaluation"]

FURTHER = (
    "information",
    "disentanglement",
    "udr",
    "classification",
    "code_usage",
    "documents",
    "quality",
    "anomaly",
    "compression",
)
"""Sections of the file beside the numbers of the bound, which every evaluation measures anew."""


@dataclass(frozen=True)
class Written:
    """What a call left in the file."""

    text: str
    """the file, JSON"""
    kept: Sequence[str]
    """sections of earlier calls that are still about the run's weights"""
    dropped: Sequence[str]
    """sections of earlier calls that are not, or do not say"""


def write_evaluation(run: Run, bound: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]) -> Written:
    """Write the bound and the sections that were `measured`, beside those of earlier calls that belong to the weights.

    A section says of which weights it is: `weights`, the optimiser step of the checkpoint, the epoch whose weights are
    the best, and of a vqvae the digest of the learned prior that is in place, if any.
    """
    weights = _weights(run)
    earlier = {name: section for name, section in _read(run).items() if name not in measured}
    kept = {name: section for name, section in earlier.items() if section.get("weights") == weights}
    own = {name: {**section, "weights": weights} for name, section in measured.items()}
    sections = {name: {**kept, **own}[name] for name in FURTHER if name in kept or name in own}
    text = json.dumps({**bound, **sections}, indent=2)
    put(run.path / "evaluation.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return Written(text, list(kept), [name for name in earlier if name not in kept])


def _weights(run: Run) -> dict[str, int | str]:
    from jensen.training.checkpoint import load_state

    position, prior = load_state(run.checkpoints, mmap=True)["position"], run.prior_in_place
    steps = {name: int(position[name]) for name in ("step", "best_epoch")}
    return {**steps, **({} if prior is None else {"prior": prior.digest})}


def _read(run: Run) -> dict[str, dict[str, Any]]:
    """Sections of the file as it is; none of one that is not there or damaged, which is written anew."""
    try:
        found = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name in FURTHER if isinstance(found.get(name), dict)}
