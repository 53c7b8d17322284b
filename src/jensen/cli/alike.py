"""Whether runs were trained in the same way but for their seed, which is what UDR compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jensen.cli.screen import warn
from jensen.errors import JensenError

if TYPE_CHECKING:
    from jensen.training import Run

__all__ = ["require_alike"]

ANY = {
    "seed",
    "data.directory",
    "train.epochs",
    "train.patience",
    "train.precision",
    "train.channels_last",
    "train.checkpointing",
    "train.compile",
    "train.accelerator",
    "train.devices",
    "train.nodes",
    "train.strategy",
    "train.tensorboard",
}
"""Keys that may differ: the seed, how long, and on which machine."""


def require_alike(run: Run, others: Sequence[Run]) -> None:
    """Raise `JensenError` unless the others have `run`'s data, model and objective; warn where they climbed otherwise.

    Which latents a run finds depends on all of these, so that runs which differ in them would be compared for
    something else than their seed.
    """
    mine = (run.config.data.name, run.facts.shape, run.config.data.condition)
    for other in others:
        if other.path.resolve() == run.path.resolve():
            raise JensenError(f"--against {other.path} is the run itself; give runs of other seeds")
        if other.config.model.kind == "autoencoder":
            raise JensenError(f"--against {other.path} is a plain auto-encoder, which has no posterior")
        if (other.config.data.name, other.facts.shape, other.config.data.condition) != mine:
            raise JensenError(
                f"--against {other.path} was trained on {_data(other)}, {run.path} on {_data(run)}; give runs that "
                "differ in their seed alone"
            )
        differing = list(_differing(run, other))
        grave = [text for key, text in differing if not key.startswith("train.")]
        if grave:
            raise JensenError(
                f"--against {other.path} differs from {run.path} in {', '.join(grave)}; UDR compares runs that differ "
                "in their seed alone"
            )
        if differing:
            warn(
                f"--against {other.path} differs from {run.path} in {', '.join(text for _, text in differing)}: what "
                "UDR says of them is not about their seeds alone"
            )


def _differing(run: Run, other: Run) -> Iterator[tuple[str, str]]:
    """Keys whose values differ, each with a text."""
    own, their = (dict(_flat(some.config.model_dump(mode="json"))) for some in (run, other))
    for key in own:
        if key not in ANY and own[key] != their[key]:
            yield key, f"{key} ({_said(their[key])}, not {_said(own[key])})"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _said(value: object) -> str:
    return "none" if value is None else str(value)


def _data(run: Run) -> str:
    condition = run.config.data.condition
    return run.config.data.title + ("" if condition is None else f" with condition {condition}")
