"""Data sets, transforms, corruptions, deterministic splits, and batches from tensors in memory."""

from __future__ import annotations

from jensen.data.dataset import Dataset, Source
from jensen.data.info import DatasetInfo
from jensen.data.prepared import Data, prepare
from jensen.data.registry import fetch, list_datasets, load_data
from jensen.data.split import Batch, Split
from jensen.data.text import to_text

__all__ = [
    "Batch",
    "Data",
    "Dataset",
    "DatasetInfo",
    "Source",
    "Split",
    "fetch",
    "list_datasets",
    "load_data",
    "prepare",
    "to_text",
]
