"""`jensen runs` and `jensen data`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from jensen.data import list_datasets
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


def test_runs_lists_what_there_is(jensen: Jensen, digits: Path, plain: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "a")
    shutil.copytree(plain, tmp_path / "b")
    shutil.copytree(digits, tmp_path / "c")
    (tmp_path / "c" / "metrics.csv").write_text("epoch,valid/elbo\n1,nonsense\n")
    (tmp_path / "no run").mkdir()
    said = jensen("runs", tmp_path)
    assert said.code == 0
    heading, first, second, third = said.out.splitlines()
    assert heading.split() == ["run", "data", "model", "epochs", "validation", "state"]
    assert first.startswith(f"{tmp_path / 'a'}  digits  vae 4")
    assert "1 of 1" in first
    assert "elbo -" in first
    assert first.endswith("finished")
    assert "autoencoder 4" in second
    assert "damaged: " in third


def test_a_stopped_run_tells_how_to_go_on(
    jensen: Jensen, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "finished", property(lambda run: False))
    shutil.copytree(digits, tmp_path / "a")
    config = tmp_path / "a" / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 1", "epochs: 3"))
    said = jensen("runs", tmp_path)
    assert "1 of 3" in said.out
    assert said.out.endswith(f"stopped: jensen train --resume {tmp_path / 'a'}\n")


def test_an_unreadable_run_is_told(jensen: Jensen, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_text("seed: [")
    said = jensen("runs", tmp_path)
    assert said.code == 0
    assert said.out.startswith(f"unreadable: {tmp_path / 'a' / 'config.yaml'}")


def test_no_runs(jensen: Jensen, tmp_path: Path) -> None:
    assert jensen("runs", tmp_path).out.startswith(f"no runs in {tmp_path}")
    assert jensen("runs", tmp_path / "none").code == 0
    (tmp_path / "file").touch()
    assert jensen("runs", tmp_path / "file").code == 2


def test_data_list_has_every_data_set(jensen: Jensen) -> None:
    lines = jensen("data", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *(info.name for info in list_datasets())]
    assert any(line.startswith("digits") and "1 x 8 x 8" in line and "1,259" in line for line in lines)


def test_data_show(jensen: Jensen, tmp_path: Path) -> None:
    said = jensen("data", "show", "digits", "-o", tmp_path / "sheet.png", "-n", "9")
    assert said.code == 0
    assert "1,259 examples" in said.out
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width > 100
    assert "exists already" in jensen("data", "show", "digits", "-o", tmp_path / "sheet.png").err
    assert jensen("data", "show", "iris").code == 0
    said = jensen("data", "show", "iris", "-o", tmp_path / "iris.png")
    assert said.code == 2
    assert said.out == ""


def test_data_by_a_wrong_name(jensen: Jensen) -> None:
    said = jensen("data", "show", "digit")
    assert said.code == 2
    assert "did you mean digits?" in said.err
    assert jensen("data", "fetch", "digit").code == 2


def test_data_fetch_of_embedded_data_has_nothing_to_do(jensen: Jensen) -> None:
    assert jensen("data", "fetch", "digits").code == 0


@pytest.mark.parametrize("name", ["mnist"])
def test_data_in_a_directory(jensen: Jensen, data_directory: Path, tmp_path: Path, name: str) -> None:
    said = jensen("data", "show", name, "--data-dir", data_directory, "-o", tmp_path / "sheet.png")
    assert said.code == 0
    assert "10,000 examples" in said.out
    assert (tmp_path / "sheet.png").is_file()
