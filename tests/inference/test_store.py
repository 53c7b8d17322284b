"""A stored posterior comes back bit for bit, or not at all with a reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from jensen import __version__, families
from jensen.errors import CheckpointError
from jensen.families import Dirichlet, ExponentialFamily, Gamma, MarkovChain, MultivariateNormal, Normal
from jensen.families.normal import NormalNatural
from jensen.inference.store import POSTERIOR_FILE, is_posterior, load_posterior, save_posterior

SETTINGS = {"estimator": "BayesianMixture", "tol": 1e-8, "n": 3, "on": True, "none": None, "list": [1, 2.5, "x"]}


FAMILIES = [
    name
    for name in sorted(families.__all__)
    if isinstance(kind := getattr(families, name), type)
    and issubclass(kind, ExponentialFamily)
    and "Natural" in vars(kind)
]


def example() -> dict[str, ExponentialFamily[Any, Any, Any]]:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    return {
        "weights": Dirichlet.from_standard(torch.tensor([0.1, 1 / 3, 7.0], dtype=torch.float64)),
        "components": MultivariateNormal.from_standard(
            torch.randn(3, 2, generator=generator, dtype=torch.float64), root @ root.mT + torch.eye(2)
        ),
        "a.b": Normal.from_standard(torch.zeros(2, 5), torch.tensor(2.0)),  # float32, a field that is expanded
        "rate": Gamma.from_standard(2.0, 3.0),
    }


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    extras = {
        "offset": torch.arange(4),
        "one": torch.tensor(True),
        "none": torch.zeros(0, 3),
        "posterior.x": torch.ones(1),
    }
    save_posterior(tmp_path / "deep" / "run", example(), SETTINGS, extras)
    posterior, settings, found = load_posterior(tmp_path / "deep" / "run")
    assert settings == SETTINGS
    assert list(posterior) == list(example())
    for name, family in example().items():
        assert type(posterior[name]) is type(family)
        assert posterior[name].batch_shape == family.batch_shape
        for mine, other in zip(posterior[name].natural_parameters, family.natural_parameters, strict=True):
            assert mine.dtype == other.dtype
            assert torch.equal(mine, other)
    assert found.keys() == extras.keys()
    for name, tensor in extras.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_a_loaded_family_works(tmp_path: Path) -> None:
    save_posterior(tmp_path, example(), {})
    loaded = load_posterior(tmp_path).posterior["components"]
    original = example()["components"]
    z = torch.tensor([0.5, -1.0], dtype=torch.float64)
    assert torch.equal(loaded.log_prob(z), original.log_prob(z))
    assert torch.equal(loaded.entropy(), original.entropy())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_exported_family_can_be_stored(tmp_path: Path, name: str) -> None:
    kind = getattr(families, name)
    generator = torch.Generator().manual_seed(1)
    sizes = {0: (), 1: (3,), 2: (3, 3), 3: (2, 3, 3)}
    natural = kind.Natural(*(torch.randn(2, *sizes[e], generator=generator) for e in kind.event_dims))
    save_posterior(tmp_path, {"q": kind(natural)}, {})
    loaded = load_posterior(tmp_path).posterior["q"]
    assert type(loaded) is kind
    for mine, other in zip(loaded.natural_parameters, natural, strict=True):
        assert torch.equal(mine, other)


def test_chains_keep_their_lengths(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    natural = MarkovChain.Natural(
        torch.randn(2, 4, 3, generator=generator), torch.randn(2, 3, 3, 3, generator=generator)
    )
    chain = MarkovChain(natural, torch.tensor([4, 2]))
    save_posterior(tmp_path, {"path": chain, "whole": MarkovChain(natural)}, {})
    loaded = load_posterior(tmp_path).posterior
    assert torch.equal(loaded["path"].log_partition(), chain.log_partition())
    assert not torch.equal(loaded["path"].log_partition(), loaded["whole"].log_partition())


def test_settings_of_numpy_and_torch_become_plain(tmp_path: Path) -> None:
    given = {
        "a": np.float64(0.1),
        "b": np.arange(2),
        "c": (1, torch.tensor([0.5])),
        "p": Path("x"),
        "inf": float("inf"),
    }
    save_posterior(tmp_path, {}, given)
    assert load_posterior(tmp_path).settings == {"a": 0.1, "b": [0, 1], "c": [1, [0.5]], "p": "x", "inf": float("inf")}


def test_people_find_settings_families_and_versions(tmp_path: Path) -> None:
    save_posterior(tmp_path, example(), SETTINGS)
    text = (tmp_path / "config.yaml").read_text()
    content = yaml.safe_load(text)
    assert content["settings"] == SETTINGS
    assert content["posterior"]["components"] == "MultivariateNormal(3,) of (2,)"
    assert content["versions"]["jensen"] == __version__
    assert content["versions"]["torch"] == torch.__version__
    assert text.split()[-1] == "..."
    assert is_posterior(tmp_path)
    assert not is_posterior(tmp_path / "nowhere")


def test_other_files_in_the_folder_stay_and_rests_of_a_kill_go(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("kept")
    (tmp_path / ".writing-abc.safetensors").write_text("half")
    save_posterior(tmp_path, example(), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", POSTERIOR_FILE, "report.html"]


# --- kills ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    save_posterior(tmp_path, {"q": Gamma.from_standard(1.0, 1.0)}, {"which": "old"}, {"x": torch.zeros(2)})
    replace, done = os.replace, []

    def killed(*paths: Any) -> None:
        if len(done) == survived:
            raise KeyboardInterrupt
        done.append(replace(*paths))

    monkeypatch.setattr("jensen.files.os.replace", killed)
    if survived < 2:
        with pytest.raises(KeyboardInterrupt):
            save_posterior(tmp_path, {"q": Gamma.from_standard(2.0, 1.0)}, {"which": "new"}, {"x": torch.ones(2)})
    else:
        save_posterior(tmp_path, {"q": Gamma.from_standard(2.0, 1.0)}, {"which": "new"}, {"x": torch.ones(2)})
    stored = load_posterior(tmp_path)
    new = survived > 0
    assert stored.settings["which"] == ("new" if new else "old")
    assert stored.extras["x"].tolist() == [float(new)] * 2
    assert stored.posterior["q"].mean_parameters.mean.item() == 1.0 + new


# --- what cannot be stored --------------------------------------------------------------------------------------------


class Homemade(Normal):
    """A family from outside."""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: save_posterior(folder, {}, {"f": len}), "setting f is a builtin"),
        (lambda folder: save_posterior(folder, {}, {"a": {"b": [1, object()]}}), r"setting a\.b\[1\] is a object"),
        (lambda folder: save_posterior(folder, {}, {"a": {1: 2}}), "one is 1"),
        (
            lambda folder: save_posterior(folder, {"q": Homemade(NormalNatural(torch.zeros(1), torch.ones(1)))}, {}),
            "posterior 'q' is a Homemade",
        ),
    ],
)
def test_what_cannot_be_stored_is_named_and_nothing_written(
    tmp_path: Path, call: Callable[[Path], None], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        call(tmp_path)
    assert not any(tmp_path.iterdir())


# --- what cannot be loaded --------------------------------------------------------------------------------------------


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_posterior(folder)


def rewrite(folder: Path, **changes: Any) -> None:
    """The same tensors under changed metadata."""
    with safe_open(folder / POSTERIOR_FILE, framework="pt") as file:
        metadata = dict(file.metadata())
    save_file(load_file(folder / POSTERIOR_FILE), folder / POSTERIOR_FILE, metadata={**metadata, **changes})


def test_missing(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "nowhere does not exist")
    refused(tmp_path, "holds no posterior")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_cut_off(tmp_path: Path, share: float) -> None:
    save_posterior(tmp_path, example(), SETTINGS)
    content = (tmp_path / POSTERIOR_FILE).read_bytes()
    (tmp_path / POSTERIOR_FILE).write_bytes(content[: int(share * len(content))])
    refused(tmp_path, "damaged")


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path) -> None:
    save_posterior(tmp_path, example(), SETTINGS)
    content = (tmp_path / POSTERIOR_FILE).read_bytes()
    for place in [*range(0, len(content), 37), len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 4
        (tmp_path / POSTERIOR_FILE).write_bytes(bytes(changed))
        with pytest.raises(CheckpointError, match=r"damaged|no posterior of Jensen|newer version"):
            load_posterior(tmp_path)


def test_something_else(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / POSTERIOR_FILE)
    refused(tmp_path, "is no posterior of Jensen")
    (tmp_path / POSTERIOR_FILE).write_bytes(b"\x80\x04cos\nsystem\n.")
    refused(tmp_path, "damaged")


def test_a_newer_version(tmp_path: Path) -> None:
    save_posterior(tmp_path, example(), {})
    rewrite(tmp_path, version="99")
    refused(tmp_path, "newer version of Jensen")


def test_only_families_of_jensen_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_posterior(tmp_path, {"q": Gamma.from_standard(1.0, 1.0)}, {})
    monkeypatch.setattr("jensen.inference.store._digest", lambda *_: "same")
    for entry, message in (
        ({"family": "os.system", "fields": []}, "which this version does not have"),
        ({"family": "ExponentialFamily", "fields": []}, "which this version does not have"),
        ({"family": "Gamma", "fields": ["a", "b"]}, "has parameters"),
        ({"family": "Normal", "fields": ["precision_mean", "precision"], "lengths": False}, "precision_mean"),
        ([], "damaged"),
    ):
        rewrite(tmp_path, families=json.dumps({"q": entry}), sha256="same")
        refused(tmp_path, message)


def test_loading_imports_no_pickle_machinery(tmp_path: Path) -> None:
    """An audit hook sees every attempt to unpickle, to run a command or to compile source from the file."""
    save_posterior(tmp_path, example(), SETTINGS)
    code = (
        "import sys\n"
        "from jensen.inference.store import load_posterior\n"
        "load_posterior(sys.argv[1])\n"  # imports are done now
        "seen = []\n"
        "sys.addaudithook(lambda event, _: seen.append(event))\n"
        "load_posterior(sys.argv[1])\n"
        "bad = {'pickle.find_class', 'os.system', 'subprocess.Popen', 'exec', 'compile'} & set(seen)\n"
        "print('bad:', *sorted(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "bad:"
