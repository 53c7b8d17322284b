"""`jensen encode` to integers and `jensen decode` back, against the model in Python."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jensen.data import to_text
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def held_out(run: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What encode sees of the test split, and what the run is told."""
    batch = Run.open(run).data(transform="none").test
    found = batch.batch(torch.arange(len(batch)))
    return found.x, found.condition


@pytest.mark.parametrize(
    ("kind", "shapes", "dtype"),
    [
        ("codes", {"codes": (4, 4)}, "uint8"),
        ("drawing_classes", {"codes": (4, 4)}, "uint8"),
        ("told_codes", {"codes": (2, 4, 4)}, "uint8"),
        ("two_levels", {"codes_top": (2, 2), "codes_bottom": (4, 4)}, "uint16"),
        ("text", {"codes": (32,)}, "uint8"),
    ],
)
def test_round_trip(
    jensen: Jensen,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kind: str,
    shapes: dict[str, tuple[int, ...]],
    dtype: str,
) -> None:
    run = request.getfixturevalue(kind)
    said = jensen("encode", run, "--split", "test", "-o", tmp_path / "codes.npz")
    assert said.code == 0, said.err
    x, condition = held_out(run)
    model = Run.open(run).model()
    with torch.no_grad():
        codes = model.encode(x, condition=condition)
        expected = model.decode(codes, condition=condition)
    found = arrays(tmp_path / "codes.npz")
    assert {name: array.shape[1:] for name, array in found.items() if name.startswith("codes")} == shapes
    assert {array.dtype for name, array in found.items() if name.startswith("codes")} == {np.dtype(dtype)}
    assert ("conditions" in found) == (kind == "told_codes")
    flat = np.concatenate([found[name].reshape(len(x), -1) for name in shapes], 1)
    np.testing.assert_array_equal(flat.astype(np.int64), codes.numpy())
    assert jensen("decode", run, tmp_path / "codes.npz", "-o", tmp_path / "back.npz").code == 0
    back = arrays(tmp_path / "back.npz")
    np.testing.assert_allclose(back["images" if x.ndim == 4 else "values"], expected.numpy(), atol=1e-5)
    told = {line.split()[0]: line.split()[1] for line in said.out.splitlines()[1:]}
    places = flat.shape[1]
    assert told["in"] == f"{x.numel():,}"
    assert told["out"] == f"{flat.size * np.dtype(dtype).itemsize:,}"
    assert f"{places} codes of log2 {model.code_levels}" in said.out
    bits = float(next(line for line in said.out.splitlines() if line.startswith("bits per dimension")).split()[3])
    assert bits == pytest.approx(places * math.log2(model.code_levels) / x[0].numel(), abs=1e-4)
    assert ("\nby the prior" in said.out) == (kind not in ("codes", "two_levels"))
    if model.code_prior is not None:
        with torch.no_grad():
            told_prior = None if model.code_prior.condition_shape is None else condition
            nats = -model.code_prior.log_prob(codes, told_prior).sum(1).mean().item()
        line = next(line for line in said.out.splitlines() if line.startswith("by the prior"))
        assert float(line.split()[3]) == pytest.approx(nats / math.log(2) / x[0].numel(), abs=1e-4)
    if kind == "text":
        same = ((x - expected).abs() < 1e-4).float().mean().item()
        assert float(told["right"].rstrip("%")) == pytest.approx(100 * same, abs=0.01)
    else:
        error = (x - expected).square().mean().item()
        assert float(told["PSNR"]) == pytest.approx(-10 * math.log10(error), abs=0.02)


def test_text_comes_back_as_text(jensen: Jensen, text: Path, tmp_path: Path) -> None:
    assert jensen("encode", text, "--split", "test", "-o", tmp_path / "codes.npz").code == 0
    assert jensen("decode", text, tmp_path / "codes.npz", "-o", tmp_path / "back.txt").code == 0
    model, (x, _) = Run.open(text).model(), held_out(text)
    with torch.no_grad():
        expected = to_text(model.reconstruct(x[:1]), Run.open(text).facts.symbols)
    assert (tmp_path / "back.txt").read_text().startswith(f"--- 00000\n{expected[0]}\n--- 00001\n")
    assert ".txt or .npz" in jensen("decode", text, tmp_path / "codes.npz", "-o", tmp_path / "folder").err


def test_integers_of_a_signal_are_its_levels(jensen: Jensen, text: Path, tmp_path: Path) -> None:
    x, _ = held_out(text)
    levels = (x[:3] * (Run.open(text).facts.levels - 1)).round().to(torch.int64).numpy()  # type: ignore[operator]
    np.save(tmp_path / "levels.npy", levels)
    assert jensen("encode", text, tmp_path / "levels.npy", "-o", tmp_path / "codes.npz").code == 0
    with torch.no_grad():
        expected = Run.open(text).model().encode(x[:3])
    np.testing.assert_array_equal(arrays(tmp_path / "codes.npz")["codes"].astype(np.int64), expected.numpy())
    np.save(tmp_path / "levels.npy", levels + 300)
    said = jensen("encode", text, tmp_path / "levels.npy", "-o", tmp_path / "x.npz")
    assert said.code == 2
    assert "signals should be integers (0 to" in said.err


GRID = np.zeros((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("kind", "stored", "message"),
    [
        ("codes", {"codes": GRID.astype(np.float32)}, "codes holds float32, but the codes of {run} are integers"),
        ("codes", {"codes": GRID[:, :3]}, "has shape (2, 3, 4), {run} needs (any number, 4, 4): from another run?"),
        ("codes", {"codes": GRID[:0]}, "has shape (0, 4, 4)"),
        ("codes", {"codes": GRID + 16}, "holds codes from 16 to 16, {run} has 16 (0 to 15): from another run?"),
        ("codes", {"codes": GRID.astype(int) - 1}, "holds codes from -1 to -1"),
        ("codes", {"images": GRID}, "holds no codes, {run} needs an array 'codes'"),
        ("codes", {"codes_top": GRID, "codes_bottom": GRID}, "holds codes_top, codes_bottom, {run} needs"),
        ("two_levels", {"codes": GRID}, "holds codes, {run} needs an array 'codes_top'"),
        ("two_levels", {"codes_top": GRID[:1, :2, :2], "codes_bottom": GRID}, "another number of rows each"),
        ("told_codes", {"codes": np.zeros((2, 2, 4, 4), np.uint8)}, "has no array 'conditions'"),
        ("digits", {"codes": GRID}, "holds codes in 8 bits without codes_low and codes_step"),
        ("digits", {"codes": GRID.astype(np.int32)}, "holds integers, but the codes of {run} are real numbers"),
    ],
)
def test_wrong_integers(
    jensen: Jensen, request: pytest.FixtureRequest, tmp_path: Path, kind: str, stored: dict[str, Any], message: str
) -> None:
    run = request.getfixturevalue(kind)
    np.savez(tmp_path / "codes.npz", **stored)
    said = jensen("decode", run, tmp_path / "codes.npz", "-o", tmp_path / "back")
    assert said.code == 2
    assert message.format(run=run) in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("codes.npy", "holds a single array (.npy), but a .npz file of named ones is needed"),
        ("codes.npz", "holds a single array (.npy), but a .npz file of named ones is needed"),
        ("text.npz", "codes in it is no array"),
        ("header.npz", "is damaged or no .npz file of plain arrays"),
    ],
)
def test_files_that_are_no_archive_of_arrays(
    jensen: Jensen, codes: Path, tmp_path: Path, name: str, message: str
) -> None:
    path = tmp_path / name
    if name.startswith("codes"):
        np.save(tmp_path / "one.npy", GRID)
        (tmp_path / "one.npy").rename(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            if name == "text.npz":
                archive.writestr("codes", "0 1 2 3")
            else:
                archive.writestr("codes.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr'         ")
    said = jensen("decode", codes, path, "-o", tmp_path / "back")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"{path}" in said.err
    assert message in said.err


def test_an_archive_is_no_array(jensen: Jensen, codes: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=GRID)
    path = (tmp_path / "images.npz").rename(tmp_path / "images.npy")
    said = jensen("encode", codes, path, "-o", tmp_path / "codes.npz")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "is an archive of arrays, not one: call it .npz" in said.err


def test_hidden_values_are_what_bits_are_divided_by(jensen: Jensen, tmp_path: Path) -> None:
    run = _trained(jensen, tmp_path / "half", "--condition", "upper-half", "--limit", "200", "--downsampling", "2")
    told = jensen("train", "prior", "--run", run, *PRIOR)
    assert told.code == 0, told.err
    said = jensen("encode", run, "--split", "test", "-o", tmp_path / "codes.npz")
    found = json.loads(jensen("evaluate", run, "--json").out)
    usage = found["code_usage"]
    assert (found["dims"], usage["dims"]) == (32, 32)
    assert found["rate"] / math.log(2) / 32 == pytest.approx(usage["bits_per_dim_learned"], rel=1e-5)
    assert f"{usage['bits_per_dim_uniform']:.4f}" == "2.0000"  # 16 codes of 4 bits for 32 values
    assert _number(said.out, "bits per dimension") == "2.0000"
    assert "(32 hidden values)" in said.out
    assert _number(said.out, "by the prior") == f"{usage['bits_per_dim_learned']:.4f}"
    assert "an entropy coder would take, given the upper half of the image" in said.out
    assert "2.0000 with uniform codes" in told.out


def test_a_code_that_predicts_has_no_bits_per_dimension(jensen: Jensen, tmp_path: Path) -> None:
    few = ("--data", "circles", "--target", "x", "--limit", "100", "--likelihood", "gaussian")
    run = _trained(jensen, tmp_path / "circles", *few)
    told = jensen("train", "prior", "--run", run, *PRIOR)
    assert told.code == 0, told.err
    assert "bits per code" in told.out
    said = jensen("encode", run, "--split", "test", "-o", tmp_path / "codes.npz")
    table = jensen("evaluate", run).out
    assert "bits per dimension" not in told.out + said.out + table
    model = Run.open(run).model()
    assert _number(said.out, "bits an example") == f"{4 * model.latent:.2f}"
    usage = json.loads((run / "evaluation.json").read_text())["code_usage"]
    assert _number(said.out, "by the prior") == f"{usage['nats_learned'] / math.log(2):.2f}"
    assert _number(table, "code, uniform") == f"{4 * model.latent:.2f}"


def test_a_label_that_decoding_needs_is_counted(
    jensen: Jensen, drawing_classes: Path, told_codes: Path, drawing: Path, tmp_path: Path
) -> None:
    for place, run in enumerate((drawing_classes, told_codes)):
        said = jensen("encode", run, "--split", "test", "-o", tmp_path / f"{place}.npz")
        assert "take, given the label (log2 10 = 3.32 bits an example more)" in said.out
    said = jensen("encode", drawing, "--split", "test", "-o", tmp_path / "plain.npz")
    assert "by the prior" in said.out
    assert "given" not in said.out


CODES = ("--model", "vqvae", "--quantiser-codes", "16", "--quantiser-dim", "4", "--net-width", "8")
PRIOR = ("--net-width", "8", "--net-depth", "2", "--epochs", "1")


def _trained(jensen: Jensen, run: Path, *flags: str) -> Path:
    said = jensen("train", "--run", run, "--epochs", "1", *CODES, *flags)
    assert said.code == 0, said.err
    return run


def _number(out: str, name: str) -> str:
    """The number of a row of a printed table."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(name).split()[0]


def test_refused(jensen: Jensen, codes: Path, drawing_classes: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.npz"
    said = jensen("encode", codes, "--split", "test", "--half", "-o", out)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--half is for codes of real numbers" in said.err
    assert not out.exists()
    np.save(tmp_path / "one.npy", np.zeros((1, 8, 8), np.uint8))
    # The prior alone is told the class: there is nothing that a label could change.
    said = jensen("encode", drawing_classes, tmp_path / "one.npy", "--label", "3", "-o", out)
    assert "is conditioned on nothing but the draw of its codes; leave --label out" in said.err
    said = jensen("encode", drawing_classes, tmp_path / "one.npy", "-o", out)
    assert said.code == 0
    assert "by the prior" not in said.out
    assert "leave --label out" in jensen("decode", drawing_classes, out, "--label", "3", "-o", tmp_path / "x").err


def test_another_class_of_the_same_codes(jensen: Jensen, told_codes: Path, tmp_path: Path) -> None:
    assert jensen("encode", told_codes, "--split", "valid", "-o", tmp_path / "codes.npz").code == 0
    for label in ("3", "4"):
        path = tmp_path / f"{label}.npz"
        assert jensen("decode", told_codes, tmp_path / "codes.npz", "--label", label, "-o", path).code == 0
    assert not np.array_equal(arrays(tmp_path / "3.npz")["images"], arrays(tmp_path / "4.npz")["images"])
