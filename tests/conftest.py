"""What all tests share: one thread, a fixed seed, the folder of real data, and soak tests only when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.distributions import Distribution

torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("-m"):
        return
    skip = pytest.mark.skip(reason="long: run it with make soak")
    for item in items:
        if "soak" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _checked_distributions() -> Iterator[None]:
    """The compiler of torch switches the checks of distributions off, for all tests that follow in the process."""
    before = Distribution._validate_args
    yield
    Distribution.set_default_validate_args(before)


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """Folder of mnist.npz and the like: JENSEN_DATA, or ../shared/data beside the repository; skips without it."""
    path = Path(os.environ.get("JENSEN_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (path / "mnist.npz").is_file():
        pytest.skip(f"no real data in {path}: set JENSEN_DATA to the folder of mnist.npz")
    return path
