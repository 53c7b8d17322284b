"""`jensen evaluate RUN --compression`: the numbers of Python, in the table, the file and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from jensen.metrics import compression as module
from jensen.metrics.compression import code_points
from jensen.metrics.image_quality import psnr
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen

QUICK = ("--samples", "1", "--examples", "10", "--compression")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images and qualities, to be quick."""
    monkeypatch.setattr("jensen.cli.compression.IMAGES", 20)
    monkeypatch.setattr(module, "QUALITIES", (50,))


@pytest.mark.parametrize("kind", ["digits", "plain", "labelled", "upper"])
def test_codes_of_grey_images(jensen: Jensen, request: pytest.FixtureRequest, kind: str) -> None:
    run = request.getfixturevalue(kind)
    said = jensen("evaluate", run, *QUICK)
    assert said.code == 0
    found = json.loads((run / "evaluation.json").read_text())["compression"]
    assert (found["images"], found["pixels"], found["split"]) == (20, 64, "test")
    points = {(point["method"], point["setting"]): point for point in found["points"]}
    data = Run.open(run).data(transform="none", corruption="none").test.batch(torch.arange(20))
    model = Run.open(run).model()
    with torch.no_grad():
        z = model.encode(data.x, data.condition)
    # a byte a label; a byte for each of 32 visible pixels, and their common number of levels
    beside = {"labelled": 20, "upper": 20 * 32 + 1}.get(kind, 0)
    first = points["model", "float32"]
    assert first["bytes"] == 20 * 4 * 4 + beside
    if kind != "upper":  # there what was visible is put back

        def decode(codes: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return model.decode(codes, data.condition)

        assert first["psnr"] == pytest.approx(psnr(data.x, decode(z)), abs=1e-4)
        expected = code_points(data.x, z, decode, beside=beside)[4]
        own = points["model", expected.setting]
        assert own["bytes"] == expected.bytes
        assert own["psnr"] == pytest.approx(expected.psnr, abs=1e-4)
    assert f"{first['bits_per_pixel']:.3f}" in said.out
    assert "WebP, one sheet, quality 50" in said.out
    assert (run / "figures" / "compression.png").stat().st_size > 5_000


def test_integer_codes_and_their_prior(jensen: Jensen, drawing: Path) -> None:
    found = json.loads(jensen("evaluate", drawing, *QUICK, "--json").out)["compression"]
    own = [point for point in found["points"] if point["method"] == "model"]
    assert [point["setting"].split(",")[0] for point in own] == ["codes of 16", "by the prior (ideal"]
    assert own[0]["bytes"] <= 20 * 16 / 2  # 4 x 4 codes of 4 bits
    assert own[0]["psnr"] == own[1]["psnr"]


def test_what_has_no_codes_of_images(jensen: Jensen, iris: Path, large: Path, pixels: Path) -> None:
    for run, words in ((iris, "grey or colour images"), (large, "grey or colour images"), (pixels, "has no code")):
        said = jensen("evaluate", run, *QUICK)
        assert said.code == 2
        assert words in said.err
