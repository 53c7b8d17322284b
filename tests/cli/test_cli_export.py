"""`jensen export`: folders to send, and ONNX."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

import jensen
from jensen.errors import ConfigError
from jensen.training import DataFacts, Run
from jensen.training.onnx_files import OPSET, write_onnx
from jensen.training.portable import facts_with_units

if TYPE_CHECKING:
    from .conftest import Jensen


def test_a_folder_stands_where_a_run_does(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    said = jensen("export", digits, "-o", folder)
    assert said.code == 0, said.err
    assert str(folder) in said.out
    images = tmp_path / "images.npz"
    np.savez(images, images=np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32))
    for name, place in (("run", digits), ("model", folder)):
        assert jensen("encode", place, images, "-o", tmp_path / f"{name}-codes.npz").code == 0
        assert jensen("decode", place, tmp_path / f"{name}-codes.npz", "-o", tmp_path / f"{name}.npz").code == 0
        assert jensen("sample", place, "-n", "3", "-o", tmp_path / f"{name}-new.npz").code == 0
        assert jensen("reconstruct", place, images, "-o", tmp_path / f"{name}-again.npz").code == 0
    for kind in ("-codes", "", "-new", "-again"):
        ours, theirs = (np.load(tmp_path / f"{name}{kind}.npz") for name in ("run", "model"))
        for key in ours.files:
            np.testing.assert_array_equal(ours[key], theirs[key])
    again = jensen("export", digits, "-o", folder)
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "--force" in again.err
    assert jensen("export", digits, "-o", folder, "--force").code == 0
    # What needs data says so in a line.
    said = jensen("evaluate", folder)
    assert (said.code, said.err.count("\n")) == (2, 1)


def test_a_table_keeps_its_units_without_its_data(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    jensen("export", iris, "-o", tmp_path / "model")
    for place in (iris, tmp_path / "model"):
        assert jensen("sample", place, "-n", "5", "-o", tmp_path / f"{place.name}.npz").code == 0
    ours, theirs = (np.load(tmp_path / f"{name}.npz")["values"] for name in (iris.name, "model"))
    np.testing.assert_array_equal(ours, theirs)
    assert 3 < theirs[:, 0].mean() < 9  # centimetres of a sepal


def test_a_run_from_before_units_were_kept(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    """Its data.yaml has neither mean nor standard deviation, which come from its data then."""
    old = tmp_path / "old"
    shutil.copytree(iris, old)
    facts = yaml.safe_load((old / "data.yaml").read_text())
    for key in ("format", "columns", "vocabulary", "mean", "sd", "fingerprint"):
        del facts[key]
    (old / "data.yaml").write_text(yaml.safe_dump(facts))
    assert facts_with_units(Run.open(old)) == Run.open(iris).own_facts
    assert jensen("export", old, "-o", tmp_path / "model").code == 0
    assert Run.open(tmp_path / "model").own_facts == Run.open(iris).own_facts
    (old / "splits.npz").unlink()  # its data cannot be had
    for flags in ((), ("--onnx",)):
        said = jensen("export", old, *flags, "-o", tmp_path / "other")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "does not say what its data were standardised with" in said.err


def test_onnx_of_a_table_is_in_its_own_units(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="extra onnx")
    onnx = pytest.importorskip("onnx", reason="extra onnx")
    said = jensen("export", iris, "--onnx", "-o", tmp_path / "onnx")
    assert said.code == 0, said.err
    assert "random inputs" in said.out
    assert "of 30 examples of the test data" in said.out
    run = Run.open(iris)
    model, data = run.model(), run.data()
    scale = data.test.transform_function
    assert scale.mean is not None
    assert scale.sd is not None
    x = data.test.batch(torch.arange(9)).x
    encoder, decoder = (runtime.InferenceSession(str(tmp_path / "onnx" / f"{n}.onnx")) for n in ("encoder", "decoder"))
    mean, spread = encoder.run(["mean", "scale"], {"x": (x * scale.sd + scale.mean).numpy()})
    q = model.posterior(x)  # type: ignore[operator]
    np.testing.assert_allclose(mean, q.loc.detach(), atol=1e-4)
    np.testing.assert_allclose(spread, q.scale.detach(), atol=1e-4)
    for rows in (1, 9):  # any batch
        (found,) = decoder.run(None, {"z": mean[:rows]})
        wanted = model.decode(torch.from_numpy(mean[:rows])).detach() * scale.sd + scale.mean  # type: ignore[operator]
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    proto = onnx.load(tmp_path / "onnx" / "encoder.onnx")
    onnx.checker.check_model(proto)
    assert {part.version for part in proto.opset_import if part.domain in ("", "ai.onnx")} == {OPSET}
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert about["x"] == "(batch, 4) values in own units"
    assert about["classes"] == "setosa, versicolor, virginica"
    taken = jensen("export", iris, "--onnx", "-o", tmp_path / "onnx")
    assert (taken.code, taken.err.count("\n")) == (2, 1)


def test_onnx_of_a_folder_without_data(jensen: Jensen, plain: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="extra onnx")
    jensen("export", plain, "-o", tmp_path / "model")
    said = jensen("export", tmp_path / "model", "--onnx", "-o", tmp_path / "onnx")
    assert said.code == 0, said.err
    assert "random inputs only" in said.err
    session = runtime.InferenceSession(str(tmp_path / "onnx" / "encoder.onnx"))
    x = torch.rand(3, 1, 8, 8)
    (codes,) = session.run(["codes"], {"x": x.numpy()})
    np.testing.assert_allclose(codes, Run.open(plain).model().encode(x).detach(), atol=1e-4)  # type: ignore[operator]


def test_onnx_of_convolutions_that_are_told_a_condition(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="extra onnx")
    torch.manual_seed(0)
    net: dict[str, Any] = {"kind": "conv", "width": 4, "depth": 2}
    model = jensen.VAE(
        (1, 16, 16), 3, net=jensen.Config(model={"net": net}).model.net, condition_shape=(2,), conditioning="film"
    )
    facts = DataFacts((1, 16, 16), (1, 16, 16), 2, (), (2,), ("age", "size"), (40.0, 1000.0), (10.0, 300.0))
    told = torch.tensor([[35.0, 900.0], [60.0, 1500.0], [20.0, 100.0]])
    x = torch.rand(3, 1, 16, 16)
    files = write_onnx(model.eval(), facts, tmp_path / "onnx", examples=x, condition=told)
    assert files.random is not None
    assert files.real is not None
    assert max(files.random, files.real) < 1e-4
    seen = (told - torch.tensor([40.0, 1000.0])) / torch.tensor([10.0, 300.0])
    mean, _ = runtime.InferenceSession(str(files.encoder)).run(None, {"x": x.numpy(), "condition": told.numpy()})
    np.testing.assert_allclose(mean, model.encode(x, seen).detach(), atol=1e-4)
    (found,) = runtime.InferenceSession(str(files.decoder)).run(None, {"z": mean, "condition": told.numpy()})
    np.testing.assert_allclose(found, model.decode(torch.from_numpy(mean), seen).detach(), atol=1e-4)


def test_what_cannot_be_onnx_is_refused(
    jensen: Jensen, codes: Path, pixels: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript", reason="extra onnx")
    for run, why in ((codes, "searched for in pieces"), (pixels, "no encoder and decoder")):
        said = jensen("export", run, "--onnx", "-o", tmp_path / "onnx")
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert why in said.err
    found = importlib.util.find_spec
    monkeypatch.setattr("jensen.training.onnx_files.find_spec", lambda name: None if name == "onnx" else found(name))
    said = jensen("export", digits, "--onnx", "-o", tmp_path / "onnx")
    assert said.code == 2
    assert "pip install 'jensen[onnx]'" in said.err
    assert not (tmp_path / "onnx").exists()


def test_files_that_compute_something_else_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="extra onnx")
    model = jensen.AutoEncoder((4,), 2, likelihood="gaussian", net="mlp").eval()
    facts = DataFacts((4,), (4,), None, ())
    written = tmp_path / "written"

    def other(part: Any, inputs: Any, path: Path, about: Any) -> None:
        shutil.copyfile(written / path.name, path)

    write_onnx(model, facts, written)
    monkeypatch.setattr("jensen.training.onnx_files._write", other)
    assert write_onnx(model, facts, tmp_path / "same").random is not None
    torch.nn.init.normal_(next(model.encoder.parameters()))
    with pytest.raises(ConfigError, match="something else than the model"):
        write_onnx(model, facts, tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())
