from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarks.interleave import interleave, peak_memory


def recorder(log: Path, name: str, megabytes: int, seconds: float) -> Callable[[], object]:
    """Notes each call, holds some memory, and takes some time."""
    kept = torch.ones(megabytes * 250_000)

    def call() -> float:
        with log.open("a") as file:
            file.write(f"{name} {torch.get_num_threads()}\n")
        time.sleep(seconds)
        return kept[0].item()

    return call


def dies() -> Callable[[], object]:
    os._exit(3)


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    held = torch.ones(int(2 * before * 250_000))  # more than the process has had so far
    assert peak_memory() - before > 0.8 * held.nbytes / 1e6 - before


def test_contenders_take_turns_and_do_not_share_their_peaks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    makers = {
        "small": partial(recorder, log, "small", 1, 0.02),
        "large": partial(recorder, log, "large", 400, 0.1),
    }
    found = interleave(makers, repeats=3, threads=1)
    # A warm-up each, then rounds that another begins each time.
    order = ["small", "large", "small", "large", "large", "small", "small", "large"]
    assert log.read_text().splitlines() == [f"{name} 1" for name in order]
    assert len(found["small"].seconds) == 3
    assert 0.02 <= found["small"].median < found["large"].median
    assert found["large"].spread >= 0
    assert found["large"].peak - found["small"].peak > 300
    assert found["large"].peak - found["large"].before > 300


def test_a_dead_process_is_named() -> None:
    with pytest.raises(RuntimeError, match="the process of broken died"):
        interleave({"broken": dies}, repeats=1, threads=1)
