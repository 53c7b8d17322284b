"""Models that are saved to be sent to someone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import jensen
from jensen.autoencoders import NeuralModel
from jensen.config import Config
from jensen.errors import CheckpointError, ConfigError
from jensen.training import Run
from jensen.training.portable import check_portable, portable_run

MODELS: dict[str, Callable[[], NeuralModel]] = {
    "vae": lambda: jensen.VAE((1, 8, 8), 4, net="mlp"),
    "conv": lambda: jensen.VAE((1, 16, 16), 4, net="conv"),
    "table": lambda: jensen.VAE((7,), 3, likelihood="gaussian-learned"),
    "levels": lambda: jensen.VAE((1, 8, 8), 4, likelihood="discretised-logistic", levels=17),
    "autoencoder": lambda: jensen.AutoEncoder((1, 8, 8), 4),
    "ladder": lambda: jensen.LadderVAE((1, 8, 8), ("4@16", "2@8")),
    "vqvae": lambda: jensen.VQVAE((1, 8, 8), downsampling=2),
    "full": lambda: jensen.VAE((1, 8, 8), 4, posterior="full"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    loaded = jensen.load(jensen.save(model, tmp_path / "model"))
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.config == model.config
    for (key, ours), (other, theirs) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert key == other
        assert torch.equal(ours, theirs)
    x = torch.rand(3, *model.shape)
    assert torch.equal(model.reconstruct(x), loaded.reconstruct(x))  # type: ignore[operator]


def test_what_cannot_be_made_again_is_refused(tmp_path: Path) -> None:
    own = jensen.VAE((5,), 2, encoder=nn.Linear(5, 4), decoder=nn.Linear(2, 5), likelihood="gaussian")
    with pytest.raises(ConfigError, match="networks or a likelihood of its own"):
        jensen.save(own, tmp_path / "own")
    told = jensen.VAE((1, 8, 8), 2, condition_shape=(10,))
    with pytest.raises(ConfigError, match="give data="):
        jensen.save(told, tmp_path / "told")
    assert not list(tmp_path.iterdir())


def test_with_its_data_a_model_keeps_their_facts(tmp_path: Path) -> None:
    data = jensen.load_data("iris", condition="label")
    model = jensen.VAE((4,), 2, likelihood="gaussian-learned", condition_shape=data.condition_shape)
    jensen.save(model, tmp_path / "told", data=data)
    facts = portable_run(tmp_path / "told").facts
    seen = data.train.transform_function
    assert seen.mean is not None
    assert facts.mean == tuple(seen.mean.tolist())
    assert facts.condition_names == ("setosa", "versicolor", "virginica")
    x, condition = torch.rand(3, 4), torch.eye(3)
    assert torch.equal(jensen.load(tmp_path / "told").encode(x, condition), model.encode(x, condition))  # type: ignore[operator]
    with pytest.raises(ConfigError, match="are these the data"):
        jensen.save(model, tmp_path / "other", data=jensen.load_data("digits", condition="label"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = Config(data={"limit": 200}, model={"latent": 3, "net": {"width": 16}}, train={"epochs": 2, "ema": 0.9})
    return jensen.fit(config, tmp_path_factory.mktemp("runs") / "digits", quiet=True)


def test_of_a_run_the_best_weights_go_along_and_no_more(trained: Run, tmp_path: Path) -> None:
    folder = jensen.save(trained, tmp_path / "model")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    weights = "checkpoints/step-00000000/weights.safetensors"
    assert files == {"README.md", "model.yaml", "config.yaml", "data.yaml", "checkpoints/latest", weights}
    assert all(name.startswith("model.") for name in load_file(folder / weights))
    best, loaded = trained.model("best"), jensen.load(folder)
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(best.encode(x), loaded.encode(x))  # type: ignore[operator]
    assert torch.equal(jensen.load(trained.path).encode(x), loaded.encode(x))  # type: ignore[operator]
    opened = Run.open(folder)
    assert opened.config == trained.config
    assert opened.facts == trained.facts
    with pytest.raises(CheckpointError):  # it has no data
        opened.data()
    assert "trained on digits" in (folder / "README.md").read_text(encoding="utf-8")


def test_paths_of_the_machine_stay_there(trained: Run, tmp_path: Path) -> None:
    data = trained.config.data.model_copy(update={"name": "/home/someone/secret/photos", "directory": Path("/home/x")})
    run = Run(trained.path, trained.config.model_copy(update={"data": data}))
    folder = jensen.save(run, tmp_path / "model")
    assert Run.open(folder).config.data.name == "./photos"
    for path in folder.rglob("*"):
        assert not path.is_file() or b"/home" not in path.read_bytes(), path


def test_a_folder_is_written_whole_or_not_at_all(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty: choose another"):
        jensen.save(trained, tmp_path / "taken", replace=True)
    jensen.save(trained, tmp_path / "model")
    with pytest.raises(ConfigError, match="holds a saved model already"):
        jensen.save(trained, tmp_path / "model")
    jensen.save(jensen.VAE((1, 8, 8), 9), tmp_path / "model", replace=True)
    assert jensen.load(tmp_path / "model").latent == 9

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jensen.training.portable.save_file", full)
    for name in ("model", "new"):
        with pytest.raises(OSError, match="No space"):
            jensen.save(trained, tmp_path / name, replace=True)
    assert jensen.load(tmp_path / "model").latent == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "taken"]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("model.yaml", lambda text: text.replace(b"format: 1", b"format: 2"), "upgrade"),
        ("model.yaml", lambda text: text.replace(b"format: 1", b"format: first"), "none of Jensen's"),
        ("model.yaml", lambda text: b"- a list\n", "damaged"),
        ("model.yaml", lambda text: b"!!python/object/apply:os.system ['false']", "damaged"),
        ("config.yaml", lambda text: text[: len(text) // 2], "config.yaml is cut off"),
        ("data.yaml", lambda text: text.replace(b"levels: 2", b"levels: 3"), "data.yaml is cut off or was changed"),
        ("checkpoints/step-00000000/weights.safetensors", lambda text: text[:-4], "weights.safetensors is cut off"),
        ("checkpoints/step-00000000/weights.safetensors", None, "weights.safetensors is missing"),
        ("model.yaml", None, "holds no saved model"),
    ],
)
def test_what_is_damaged_foreign_or_newer_is_refused_in_one_line(
    name: str, change: Callable[[bytes], bytes] | None, said: str, tmp_path: Path
) -> None:
    folder = jensen.save(jensen.VAE((1, 8, 8), 2), tmp_path / "model")
    if change is None:
        (folder / name).unlink()
    else:
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(change(before))
        assert (folder / name).read_bytes() != before
    with pytest.raises(CheckpointError, match=said) as caught:
        check_portable(folder)
    assert "\n" not in str(caught.value)


def test_there_is_none() -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        jensen.load("nowhere")


def test_a_learned_prior_goes_along(tmp_path: Path) -> None:
    from jensen.config import PriorConfig
    from jensen.training import fit_prior

    quantiser = {"codes": 8, "dim": 4}
    config = Config(
        data={"limit": 100, "transform": "none"},
        model={
            "kind": "vqvae",
            "downsampling": 4,
            "likelihood": "gaussian",
            "net": {"width": 8},
            "quantiser": quantiser,
        },
        train={"epochs": 1},
    )
    run = jensen.fit(config, tmp_path / "run", quiet=True)
    fit_prior(run, PriorConfig(net={"width": 8, "depth": 1}, train={"epochs": 1}))
    folder = jensen.save(run, tmp_path / "model")
    shutil.rmtree(tmp_path / "run")
    loaded = jensen.load(folder)
    assert isinstance(loaded, jensen.VQVAE)
    assert loaded.code_prior is not None
    torch.manual_seed(1)
    drawn = loaded.sample(2)
    assert drawn.shape == (2, 1, 8, 8)
    with pytest.raises(ConfigError, match="saved with its run"):
        jensen.save(loaded, tmp_path / "again")
    again = jensen.load(jensen.save(Run.open(folder), tmp_path / "again"))
    torch.manual_seed(1)
    assert torch.equal(again.sample(2), drawn)
    listed = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))["files"]
    assert {"prior/codes.yaml", "prior/checkpoints/step-00000000/weights.safetensors"} <= set(listed)
