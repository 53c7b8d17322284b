"""Several devices: two processes on the CPU make one run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jensen.config import Config
from jensen.training import Run

SCRIPT = """
import sys
from pathlib import Path
from jensen.config import Config
from jensen.training import fit
run = fit(Config.from_yaml(Path(sys.argv[1])), sys.argv[2], quiet=True)
assert run.finished
"""


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "capacity", "max_capacity": 2.0, "capacity_steps": 8},
        {"kind": "factor", "discriminator_width": 8, "discriminator_depth": 2},
    ],
    ids=lambda objective: objective["kind"],
)
def test_two_processes_make_one_run(objective: dict[str, Any], tmp_path: Path, tiny: Callable[..., Config]) -> None:
    config = tiny(objective=objective, train={"devices": 2, "strategy": "ddp", "ema": 0.9})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    (tmp_path / "script.py").write_text(SCRIPT)
    path = tmp_path / "run"
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "config.yaml"), str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    run = Run.open(path)
    assert run.finished
    assert run.history()["step"] == [4, 8]  # 128 examples, 16 a step and process
    assert len(list(run.checkpoints.iterdir())) == 2
    assert all(torch.isfinite(parameter).all() for parameter in run.model().parameters())
