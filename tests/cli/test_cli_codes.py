"""`jensen encode` and `jensen decode`: the round trip against the model in Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_iris

from jensen.metrics.image_quality import ssim
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


def held_out(run: Path) -> torch.Tensor:
    """The grey test images of a digits run, from scikit-learn."""
    with np.load(run / "splits.npz") as splits:
        return torch.from_numpy(load_digits().images[splits["test"]][:, None].astype(np.float32) / 16)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["digits", "plain"])
def test_round_trip(jensen: Jensen, request: pytest.FixtureRequest, tmp_path: Path, kind: str, half: bool) -> None:
    run = request.getfixturevalue(kind)
    codes, images = tmp_path / "codes.npz", tmp_path / "images.npz"
    said = jensen("encode", run, "--split", "test", "-o", codes, *(["--half"] if half else []))
    assert said.code == 0
    assert jensen("decode", run, codes, "-o", images).code == 0
    x, model = held_out(run), Run.open(run).model()
    with torch.no_grad():
        z = model.encode(x)
        z = z.half().float() if half else z
        expected = model.decode(z)
    with np.load(codes) as file:
        assert file["codes"].dtype == (np.float16 if half else np.float32)
        np.testing.assert_allclose(file["codes"], z.numpy(), rtol=2e-3 if half else 1e-5, atol=1e-6)
    with np.load(images) as file:
        np.testing.assert_allclose(file["images"], expected.numpy(), rtol=1e-2 if half else 1e-4, atol=1e-5)
    mse = (x - expected).square().mean().item()
    told = {line.split()[0]: line.split()[1] for line in said.out.splitlines()[1:]}
    assert told["in"] == f"{359 * 64:,}"
    assert told["out"] == f"{359 * 4 * (2 if half else 4):,}"
    assert told["file"] == f"{codes.stat().st_size:,}"
    assert float(told["ratio"]) == pytest.approx(64 / (8 if half else 16))
    assert float(told["PSNR"]) == pytest.approx(-10 * np.log10(mse), abs=0.02)


@pytest.mark.parametrize("kind", ["digits", "plain", "labelled"])
def test_eight_bits_come_back_within_half_a_step(
    jensen: Jensen, request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    run = request.getfixturevalue(kind)
    codes, images = tmp_path / "codes.npz", tmp_path / "images.npz"
    said = jensen("encode", run, "--split", "test", "-o", codes, "--int8")
    assert said.code == 0
    assert jensen("decode", run, codes, "-o", images).code == 0
    x, model = held_out(run), Run.open(run).model()
    labels = torch.from_numpy(load_digits().target[np.load(run / "splits.npz")["test"]]) if kind == "labelled" else None
    with torch.no_grad():
        exact = model.encode(x, labels).double().numpy()
    with np.load(codes) as file:
        levels, low, step = file["codes"], file["codes_low"], file["codes_step"]
    assert (levels.dtype, low.shape, step.dtype) == (np.uint8, (4,), np.float32)
    np.testing.assert_allclose(step, (exact.max(0) - exact.min(0)) / 255, rtol=1e-4)
    restored = low.astype(float) + levels * step.astype(float)
    assert (np.abs(restored - exact) <= 0.5 * step + 1e-6).all()
    with torch.no_grad():
        expected = model.decode(torch.from_numpy(restored).float(), labels)
    with np.load(images) as file:
        np.testing.assert_allclose(file["images"], expected.numpy(), atol=1e-5)
    told = {line.split()[0]: line.split()[1] for line in said.out.splitlines()[1:]}
    beside = 359 if kind == "labelled" else 0  # a byte a label
    assert (told["out"], told["scales"]) == (f"{359 * 4:,}", "32")
    assert float(told["ratio"]) == pytest.approx(359 * 64 / (359 * 4 + 32 + beside), abs=0.006)
    assert float(told["PSNR"]) == pytest.approx(-10 * np.log10((x - expected).square().mean().item()), abs=0.006)
    assert float(told["SSIM"]) == pytest.approx(ssim(x, expected), abs=6e-4)


def test_image_files_keep_their_names(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    names = ["éa", "b"]
    for value, name in enumerate(names):
        Image.fromarray(np.full((8, 8), 90 * value, np.uint8)).save(tmp_path / f"{name}.png")
    files = [tmp_path / f"{name}.png" for name in names]
    assert jensen("encode", digits, *files, "-o", tmp_path / "codes.npz").code == 0
    assert jensen("decode", digits, tmp_path / "codes.npz", "-o", tmp_path / "back").code == 0
    assert {path.stem for path in (tmp_path / "back").iterdir()} == set(names)
    x = torch.stack([torch.zeros(1, 8, 8), torch.full((1, 8, 8), 90 / 255)])
    with torch.no_grad():
        expected = Run.open(digits).model().reconstruct(x)
    made = np.asarray(Image.open(tmp_path / "back" / "b.png")) / 255
    np.testing.assert_allclose(made, expected[1, 0].numpy(), atol=0.6 / 255)


def test_names_cannot_leave_the_folder(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "codes.npz", codes=np.zeros((2, 4), np.float32), names=np.array([b"../../evil", b"b"]))
    assert jensen("decode", digits, tmp_path / "codes.npz", "-o", tmp_path / "back").code == 0
    assert {path.name for path in (tmp_path / "back").iterdir()} == {"00000.png", "00001.png"}


def test_what_decode_writes_encode_reads(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    assert jensen("sample", digits, "-n", "3", "-o", tmp_path / "images.npz").code == 0
    assert jensen("encode", digits, tmp_path / "images.npz", "-o", tmp_path / "codes.npz").code == 0
    with np.load(tmp_path / "codes.npz") as file:
        assert file["codes"].shape == (3, 4)


def test_a_table_in_its_own_units(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    rows = load_iris().data[:5]
    np.save(tmp_path / "rows.npy", rows)
    said = jensen("encode", iris, tmp_path / "rows.npy", "-o", tmp_path / "codes.npz")
    assert said.code == 0
    assert "root mean square" in said.out
    assert jensen("decode", iris, tmp_path / "codes.npz", "-o", tmp_path / "back.npz").code == 0
    data, model = Run.open(iris).data(), Run.open(iris).model()
    train = load_iris().data[data.splits["train"].numpy()]
    mean, sd = train.mean(0), train.std(0)
    with torch.no_grad():
        made = model.reconstruct(torch.from_numpy((rows - mean) / sd).float()).numpy()
    with np.load(tmp_path / "back.npz") as file:
        np.testing.assert_allclose(file["values"], made * sd + mean, rtol=1e-4)


def test_a_predicted_property(jensen: Jensen, large: Path, tmp_path: Path) -> None:
    said = jensen("encode", large, "--split", "valid", "-o", tmp_path / "codes.npz")
    assert said.code == 0
    assert "PSNR" not in said.out
    assert jensen("decode", large, tmp_path / "codes.npz", "-o", tmp_path / "back.npz").code == 0
    with np.load(tmp_path / "back.npz") as file:
        assert file["values"].shape[1:] == (1,)
        assert 0 <= file["values"].min() <= file["values"].max() <= 1
    assert "write .npz" in jensen("decode", large, tmp_path / "codes.npz", "-o", tmp_path / "folder").err


def scales(count: int, step: float = 1.0) -> dict[str, Any]:
    return {"codes_low": np.zeros(count, np.float32), "codes_step": np.full(count, step, np.float32)}


@pytest.mark.parametrize("int8", [False, True])
def test_a_file_that_was_cut_short(jensen: Jensen, digits: Path, tmp_path: Path, int8: bool) -> None:
    codes = tmp_path / "codes.npz"
    flags = ["--int8"] if int8 else []
    assert jensen("encode", digits, "--split", "test", "-o", codes, *flags).code == 0
    codes.write_bytes(codes.read_bytes()[:-100])
    said = jensen("decode", digits, codes, "-o", tmp_path / "back")
    assert said.code == 2
    assert "codes.npz is damaged" in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "back").exists()


def test_precisions_that_exclude_each_other(jensen: Jensen, digits: Path, codes: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.npz"
    said = jensen("encode", digits, "--split", "test", "-o", out, "--half", "--int8")
    assert "give one of them" in said.err
    assert "--int8 is for codes of real numbers" in jensen("encode", codes, "--split", "test", "-o", out, "--int8").err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"codes": np.zeros((2, 5), np.float32)}, "codes of 5 numbers"),
        ({"codes": np.zeros((2, 4), int)}, "holds integers, but the codes of"),
        ({"codes": np.zeros((2, 4), "S1")}, "holds no codes"),
        ({"codes": np.zeros(4, np.float32)}, "holds no codes"),
        ({"codes": np.zeros((0, 4), np.float32)}, "holds no codes"),
        ({"images": np.zeros((2, 4), np.float32)}, "holds no codes"),
        ({"codes": np.full((2, 4), np.nan, np.float32)}, "not finite"),
        ({"codes": np.zeros((2, 4), np.uint8)}, "in 8 bits without codes_low and codes_step"),
        ({"codes": np.zeros((2, 4), np.uint8), "codes_low": np.zeros(4, np.float32)}, "without codes_step, which"),
        ({"codes": np.zeros((2, 5), np.uint8), **scales(5)}, "codes of 5 numbers"),
        ({"codes": np.zeros((2, 4), np.uint8), **scales(5)}, r"codes_low is float32 of shape (5,)"),
        ({"codes": np.zeros((2, 4), np.uint8), **scales(4, -1.0)}, "the file is damaged"),
        ({"codes": np.zeros((2, 4), np.uint8), **scales(4, np.inf)}, "the file is damaged"),
        ({"codes": np.zeros((2, 4), np.float32), **scales(4)}, "holds float32, not 8 bits"),
    ],
)
def test_wrong_codes(jensen: Jensen, digits: Path, tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "codes.npz", **arrays)
    said = jensen("decode", digits, tmp_path / "codes.npz", "-o", tmp_path / "back")
    assert said.code == 2
    assert message in said.err
    assert not (tmp_path / "back").exists()


def test_wrong_calls(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.npz"
    assert "give either files or --split" in jensen("encode", digits, "-o", out).err
    assert "give either files or --split" in jensen("encode", digits, "a.png", "--split", "test", "-o", out).err
    assert "no such file" in jensen("encode", digits, tmp_path / "a.png", "-o", out).err
    assert "should end in .npz" in jensen("encode", digits, "--split", "test", "-o", tmp_path / "codes.zip").err
    assert "no such file" in jensen("decode", digits, out, "-o", tmp_path / "back").err
    assert "give a folder" in jensen("decode", digits, out, "-o", tmp_path / "back.png").err
    assert not any(tmp_path.iterdir())
    out.write_text("precious")
    assert "--force" in jensen("encode", digits, "--split", "test", "-o", out).err
    assert out.read_text() == "precious"
    assert "damaged" in jensen("decode", digits, out, "-o", tmp_path / "back").err
