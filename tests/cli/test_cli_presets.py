"""`jensen train --preset`: below a file, below flags."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jensen.cli.flags import assemble
from jensen.config import PRESETS, Config, Schedule, preset
from jensen.errors import ConfigError


def saved(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", [name for name in PRESETS if "data" in preset(name)])
def test_a_preset_alone(name: str) -> None:
    assert assemble({}, preset=name) == Config(**preset(name))


def test_flags_over_a_file_over_a_preset_over_defaults(tmp_path: Path) -> None:
    file = saved(tmp_path / "my.yaml", {"train": {"lr": 0.5, "epochs": 7}, "data": {"limit": 10}})
    config = assemble({"train__epochs": 3, "data__name": "digits"}, file, "ladder-mnist")
    assert (config.train.epochs, config.train.lr, config.train.batch_size) == (3, 0.5, 256)
    assert (config.data.name, config.data.limit) == ("digits", 10)
    assert config.model == Config(**preset("ladder-mnist")).model
    assert config.seed == 0


def test_the_model_is_the_presets(tmp_path: Path) -> None:
    message = "preset nvae-small is of model nvae, not vae: leave model away, or choose another preset"
    with pytest.raises(ConfigError, match=message):
        assemble({"model__kind": "vae"}, preset="nvae-small")
    file = saved(tmp_path / "my.yaml", {"model": {"kind": "vae"}})
    with pytest.raises(ConfigError, match=message):
        assemble({}, file, "nvae-small")
    assert assemble({"model__kind": "nvae"}, file, "nvae-small").model.kind == "nvae"


def test_a_preset_without_data_asks_for_some(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="preset nvae-celeba64 comes without data: name some with --data"):
        assemble({}, preset="nvae-celeba64")
    assert assemble({"data__name": "dsprites"}, preset="nvae-celeba64").data.name == "dsprites"
    file = saved(tmp_path / "my.yaml", {"data": {"name": "dsprites"}})
    assert assemble({}, file, "nvae-celeba64").data.name == "dsprites"


def test_steps_given_stand_in_place_of_a_share_and_the_other_way() -> None:
    config = assemble({"objective__kl_weight__steps": 50, "train__warmup": 9}, preset="nvae-small")
    assert config.objective.kl_weight == Schedule(kind="linear", start=1e-4, steps=50)
    assert (config.train.warmup, config.train.warmup_share) == (9, None)
    constant = assemble({"objective__kl_weight__kind": "constant"}, preset="ladder-small")
    assert constant.objective.kl_weight == Schedule()


def test_a_share_given_stands_in_place_of_the_steps_of_a_run(tmp_path: Path) -> None:
    run = Config(objective={"kl_weight": {"kind": "linear", "steps": 30}}, train={"warmup": 5})
    file = tmp_path / "config.yaml"
    file.write_text(run.to_yaml())
    config = assemble({"objective__kl_weight__share": 0.5, "train__warmup_share": 0.1}, file)
    assert config.objective.kl_weight == Schedule(kind="linear", share=0.5)
    assert (config.train.warmup, config.train.warmup_share) == (0, 0.1)
    both = {"objective__kl_weight__share": 0.5, "objective__kl_weight__steps": 7}
    with pytest.raises(ConfigError, match="steps and share are two ways"):
        assemble(both, file)


def test_the_settings_of_a_run_over_a_preset_are_those_of_the_run(tmp_path: Path) -> None:
    run = Config(**{**preset("ladder-small"), "train": {"epochs": 2}, "objective": {}})
    file = tmp_path / "config.yaml"
    file.write_text(run.to_yaml())
    assert assemble({}, file, "ladder-small") == run


def test_help_lists_every_preset_in_a_line() -> None:
    # In a process of its own: where the list of commands was shown before, its line stands in place of the long text.
    program = "import sys; from jensen.cli import main; sys.argv[0] = 'jensen'; main()"
    said = subprocess.run(
        [sys.executable, "-c", program, "train", "--help"], capture_output=True, text=True, check=True
    )
    lines = [line.split(maxsplit=1) for line in said.stdout.splitlines()]
    for name, chosen in PRESETS.items():
        assert [name, chosen.about] in lines


def test_an_unknown_name_is_guessed(jensen: Any) -> None:
    said = jensen("train", "--preset", "lader-small")
    assert said.code == 2
    assert "--preset" in said.err
    assert "did you mean ladder-small?" in said.err
    assert len(said.err.splitlines()) == 1


def test_not_beside_resume(jensen: Any, tmp_path: Path) -> None:
    said = jensen("train", "--preset", "ladder-small", "--resume", tmp_path)
    assert said.code == 2
    assert "--preset cannot stand beside it" in said.err


def test_a_small_one_is_trained(jensen: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    few = ("--limit", "128", "--epochs", "2", "--batch-size", "32")
    said = jensen("train", "--preset", "ladder-small", "--run", run, *few)
    assert said.code == 0, said.err
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert kept["model"]["kind"] == "ladder"
    assert kept["model"]["net"]["normalisation"] == "batch"
    weight = kept["objective"]["kl_weight"]
    assert (weight["kind"], weight["steps"], weight["share"]) == ("linear", 1, None)  # a tenth of 8 steps
    assert any(line.startswith("parameters ") for line in said.err.splitlines())


def test_spikes_can_be_left_out_by_flag(jensen: Any, tmp_path: Path) -> None:
    flags = ("--limit", "64", "--epochs", "1", "--batch-size", "16", "--latent", "2", "--net-width", "8")
    said = jensen("train", "--run", tmp_path / "run", *flags, "--skip", "20", "--lr-min", "1e-5", "--decay", "cosine")
    assert said.code == 0, said.err
    header, row = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    columns = dict(zip(header.split(","), row.split(","), strict=True))
    assert float(columns["train/skipped"]) == 0
    assert float(columns["train/gradient_norm"]) > 0
