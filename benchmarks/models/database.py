"""Data, reference draws and their summaries as posteriordb stores them (https://github.com/stan-dev/posteriordb)."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models.case import Reference, by_label, by_name

__all__ = ["folder", "names", "read_data", "read_draws", "read_reference"]

MEANS = Path("reference_posteriors", "summary_statistics", "mean_value", "mean_value")


def folder() -> Path:
    """Where posteriordb is: JENSEN_DATA/posteriordb, else ../shared/data/posteriordb beside the repository.

    Raises:
        FileNotFoundError: it is not there; says what to do.
    """
    root = Path(os.environ.get("JENSEN_DATA") or Path(__file__).parents[3] / "shared" / "data")
    path = root / "posteriordb"
    if not (path / "posteriors").is_dir():
        raise FileNotFoundError(
            f"no posteriordb in {root}: set JENSEN_DATA to the folder that holds posteriordb/ (with posteriors/, data/ "
            "and reference_posteriors/, as in github.com/stan-dev/posteriordb/posterior_database)"
        )
    return path


def names(root: Path) -> list[str]:
    """Of all posteriors there, sorted."""
    return sorted(path.stem for path in (root / "posteriors").glob("*.json"))


def read_data(root: Path, posterior: str) -> dict[str, Any]:
    """The data of a posterior, as they are in the JSON file."""
    data: dict[str, Any] = _zipped(root / "data" / "data" / f"{_about(root, posterior)['data_name']}.json.zip")
    return data


def read_draws(root: Path, posterior: str) -> dict[str, Tensor]:
    """Reference draws of the reported parameters, (draws, *shape) each, all chains one after another."""
    name = _about(root, posterior)["reference_posterior_name"]
    chains = _zipped(root / "reference_posteriors" / "draws" / "draws" / f"{name}.json.zip")
    return by_name({label: [x for chain in chains for x in chain[label]] for label in chains[0]})


def read_reference(root: Path, posterior: str) -> Reference:
    """Published means with their standard errors; standard deviations of the draws.

    (The published mean squares would lose the digits of a standard deviation where the mean is far from 0: 2% of it in
    `sblrc-blr`.)
    """
    name = _about(root, posterior)["reference_posterior_name"]
    summary = _json(root / MEANS / f"{name}.json")
    labels = tuple(summary["names"])
    draws = by_label(read_draws(root, posterior))
    return Reference(
        labels,
        torch.tensor(summary["mean_value"], dtype=torch.float64),
        torch.stack([draws[label].std() for label in labels]),
        torch.tensor(summary["mcse_mean"], dtype=torch.float64),
    )


def _about(root: Path, posterior: str) -> dict[str, Any]:
    return _json(root / "posteriors" / f"{posterior}.json")


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _zipped(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(archive.namelist()[0]))
