"""References of the posteriors on generated data, made once by `python -m benchmarks.references.make_nuts`."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.models.case import Reference

__all__ = ["FOLDER", "read"]

FOLDER = Path(__file__).parents[1] / "references"


def read(name: str) -> Reference:
    """The stored summary of a posterior; FileNotFoundError if there is none."""
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    columns = (torch.tensor(content[key], dtype=torch.float64) for key in ("mean", "sd", "mcse_mean"))
    return Reference(tuple(content["names"]), *columns)
