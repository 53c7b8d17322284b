"""Checkpoints: complete or refused, and never code."""

from __future__ import annotations

import os
import pickle
import random
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jensen.autoencoders import VAE
from jensen.errors import CheckpointError
from jensen.training import Checkpoint, Run, load_checkpoint, load_weights, resume, save_checkpoint
from jensen.training.checkpoint import load_state


def weights(value: float) -> dict[str, Tensor]:
    return {"a": torch.full((2, 3), value), "b": torch.tensor(value)}


def checkpoint(value: float = 1.0, *, average: bool = True, best: bool = True) -> Checkpoint:
    state = {"position": {"epoch": 3, "rows": [{"x": 0.1}]}, "random": torch.get_rng_state(), "none": None}
    return Checkpoint(
        weights(value), state, weights(value + 1) if average else None, weights(value + 2) if best else None
    )


def unchecked(path: Path) -> Path:
    """A checkpoint as it was before there were manifests: files of another origin are not told from the right ones."""
    (path / "manifest.json").unlink(missing_ok=True)
    return path


def test_round_trip(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path, 7, saved)
    found = load_checkpoint(tmp_path)
    for name in ("weights", "average", "best"):
        expected = getattr(saved, name)
        assert all(torch.equal(value, expected[key]) for key, value in getattr(found, name).items())
    assert torch.equal(found.state.pop("random"), saved.state.pop("random"))
    assert found.state == saved.state


def test_only_the_latest_is_kept_even_at_the_same_step(tmp_path: Path) -> None:
    for value, step in ((1.0, 7), (2.0, 7), (3.0, 7), (4.0, 8)):
        save_checkpoint(tmp_path, step, checkpoint(value))
        assert load_weights(tmp_path, "last")["b"].item() == value + 1
        assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("average", "best", "which", "expected"),
    [
        (True, True, "best", 3.0),
        (True, True, "last", 2.0),
        (False, True, "last", 1.0),
        (False, False, "best", 1.0),
        (True, False, "best", 2.0),
    ],
)
def test_which_weights(average: bool, best: bool, which: str, expected: float, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, checkpoint(average=average, best=best))
    assert load_weights(tmp_path, which)["b"].item() == expected


def test_a_failed_save_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, checkpoint(1.0))

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"no space left on device\. The one before is kept; make room"):
        save_checkpoint(tmp_path, 2, checkpoint(2.0))
    assert load_checkpoint(tmp_path).weights["b"].item() == 1.0
    assert {path.name for path in tmp_path.iterdir()} == {"latest", "step-00000001"}


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / ".writing-abc" / "weights.safetensors").write_bytes(b"half")
    (tmp_path / ".writing-def").write_text("step-0")
    (tmp_path / "step-00000001").mkdir()  # renamed, but not yet the latest
    save_checkpoint(tmp_path, 1, checkpoint())
    assert load_checkpoint(tmp_path).state["position"]["epoch"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"latest", "step-00000001"}


def test_others_may_read_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = save_checkpoint(tmp_path, 1, checkpoint())
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        load_checkpoint(tmp_path)
    (tmp_path / "latest").write_text("step-00000009")
    with pytest.raises(CheckpointError, match="step-00000009, which is missing"):
        load_checkpoint(tmp_path)
    for damaged in (b"", b"\xff\xfe", b"\0" * 20):
        (tmp_path / "latest").write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path)


FILES = ["weights.safetensors", "average.safetensors", "best.safetensors", "state.pt"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 5, 0.5, -1])
@pytest.mark.parametrize("manifest", [True, False])
def test_truncated(name: str, kept: float, manifest: bool, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, 1, checkpoint())
    file = (folder if manifest else unchecked(folder)) / name
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match=f"{name} is missing or damaged"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_anywhere_is_noticed(name: str, tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path, 1, checkpoint()) / name
    whole, chance = file.read_bytes(), random.Random(1)
    for place in [0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(40))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"{name} is missing or damaged"):
            load_checkpoint(tmp_path)
    file.write_bytes(whole)
    load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_lost_file_is_missed(name: str, tmp_path: Path) -> None:
    """Without its manifest, a checkpoint that lost its best weights would pass for one that has none."""
    (save_checkpoint(tmp_path, 1, checkpoint()) / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_checkpoint(tmp_path)


def test_a_file_that_was_not_there_is_no_part_of_it(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, 1, checkpoint(best=False))
    save_file(weights(9.0), folder / "best.safetensors")
    assert load_checkpoint(tmp_path).best is None
    assert load_weights(tmp_path, "best")["b"].item() == 2.0


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path, 1, checkpoint()) / "manifest.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    for read in (load_checkpoint, load_state, lambda folder: load_weights(folder, "best")):
        with pytest.raises(CheckpointError, match=r"a newer version of Jensen \(format 2 .* up to 1\): update Jensen"):
            read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "x", "sha256": {}}', "[" * 100_000, "\0"])
def test_a_damaged_manifest(text: str, tmp_path: Path) -> None:
    (save_checkpoint(tmp_path, 1, checkpoint()) / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../step-00000001", "/etc", ".", "step-1/..", "step-00000001/../step-00000001"])
def test_the_pointer_names_nothing_outside(name: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, checkpoint())
    (tmp_path / "latest").write_text(name)
    with pytest.raises(CheckpointError, match="latest is damaged"):
        load_checkpoint(tmp_path)


def test_a_state_that_is_packed_is_not_unpacked(tmp_path: Path) -> None:
    file = unchecked(save_checkpoint(tmp_path, 1, checkpoint())) / "state.pt"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=r"state\.pt is missing or damaged .compressed"):
        load_checkpoint(tmp_path)


def test_overwritten_bytes_raise_nothing_else(tmp_path: Path) -> None:
    file = unchecked(save_checkpoint(tmp_path, 1, checkpoint())) / "state.pt"
    whole, chance, refused = file.read_bytes(), random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        file.write_bytes(damaged)
        try:
            load_checkpoint(tmp_path)
        except CheckpointError:
            refused += 1
    assert refused > 0


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_the_state_is_not_run(as_zip: bool, tmp_path: Path) -> None:
    file = unchecked(save_checkpoint(tmp_path, 1, checkpoint())) / "state.pt"
    state = {"position": {}, "bomb": Bomb(tmp_path / "exploded")}
    if as_zip:
        torch.save(state, file)
    else:
        file.write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(CheckpointError, match=r"state\.pt is missing or damaged"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("state", [[1, 2], {"other": 1}, {"position": 3}, torch.zeros(3)])
def test_another_file_in_place_of_the_state(state: object, tmp_path: Path) -> None:
    torch.save(state, unchecked(save_checkpoint(tmp_path, 1, checkpoint())) / "state.pt")
    with pytest.raises(CheckpointError, match="no training state"):
        load_checkpoint(tmp_path)


def latest(run: Run) -> Path:
    return unchecked(next(run.checkpoints.glob("step-*")))


def test_weights_of_another_model_are_refused(run: Run) -> None:
    other = VAE((1, 8, 8), 3).state_dict()
    for name in ("weights", "best"):
        save_file({f"model.{key}": value for key, value in other.items()}, latest(run) / f"{name}.safetensors")
    for which in ("best", "last"):
        with pytest.raises(CheckpointError, match="does not fit its configuration"):
            run.model(which)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="does not fit this model"):
        resume(run.path, epochs=3, quiet=True)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_weights_are_neither_missing_nor_left_over(change: str, run: Run) -> None:
    file = latest(run) / "best.safetensors"
    values = load_file(file)
    if change == "missing":
        values.popitem()
    else:
        values["model.extra"] = torch.zeros(1)
    save_file(values, file)
    with pytest.raises(CheckpointError, match="does not fit"):
        run.model()


def test_an_average_that_is_gone_is_missed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (run.path / "config.yaml").read_text().replace("ema: null", "ema: 0.9")
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match="average"):
        resume(run.path, epochs=3, quiet=True)


@pytest.mark.parametrize("key", ["optimiser", "rate", "random"])
def test_state_that_lacks_a_part_is_refused(key: str, run: Run) -> None:
    file = latest(run) / "state.pt"
    state = torch.load(file, weights_only=True)
    del state[key]
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="does not fit"):
        resume(run.path, epochs=3, quiet=True)
