"""Models with several levels of latents at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.autoencoders import LadderVAE
from jensen.cli import main
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen

SMALL = ("--epochs", "2", "--scales", "6@24,3@16", "--net-normalisation", "batch", "--net-activation", "tanh")


def _train(folder: Path, *arguments: str) -> Path:
    assert main(["train", "--run", str(folder), *SMALL, *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Ladder VAE of digits, 6 and 3 latents."""
    return _train(tmp_path_factory.mktemp("deep") / "ladder", "--model", "ladder")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A naive hierarchy that is told the class."""
    folder = tmp_path_factory.mktemp("deep") / "told"
    return _train(folder, "--model", "hvae", "--condition", "label", "--limit", "400")


@pytest.fixture(scope="module")
def nvae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny NVAE that is shown the upper half."""
    folder = tmp_path_factory.mktemp("deep") / "nvae"
    few = ("--epochs", "1", "--limit", "100", "--downsampling", "2", "--net-depth", "1", "--scales", "2x2@4,2@4")
    assert main(["train", "--run", str(folder), "--model", "nvae", "--condition", "upper-half", *few]) == 0
    return folder


def _model(run: Path) -> LadderVAE:
    model = Run.open(run).model()
    assert isinstance(model, LadderVAE)
    return model


def _images(path: Path, name: str = "images") -> torch.Tensor:
    with np.load(path) as file:
        return torch.from_numpy(file[name])


def _refused(jensen: Jensen, words: str, *arguments: object) -> None:
    said = jensen(*arguments)
    assert said.code == 2, said
    assert words in said.err
    assert said.err.count("\n") == 1


def test_evaluation_has_a_row_and_an_entry_a_level(jensen: Jensen, ladder: Path) -> None:
    said = jensen("evaluate", ladder, "--samples", "20")
    assert said.code == 0
    rows = {line.split("  ")[0]: line.split()[:8] for line in said.out.splitlines()}
    found = json.loads((ladder / "evaluation.json").read_text())
    top, low = found["levels"]
    assert (top["level"], top["latent"], low["level"], low["latent"]) == (2, 3, 1, 6)
    assert f"{top['kl']:.3f}" in rows["level 2"]
    assert f"{low['kl']:.3f}" in rows["level 1 (nearest the data)"]
    assert found["rate"] == pytest.approx(top["kl"] + low["kl"], rel=1e-5)
    assert found["active_units"] == top["active_units"] + low["active_units"]
    assert len(found["kl_per_dimension"]) == 9
    assert "another seed changes it by" in said.out


def test_the_report_reads_it(jensen: Jensen, ladder: Path) -> None:
    from jensen.report.headline import headline, summary
    from jensen.report.material import gather
    from jensen.report.page import _saved_evaluation

    assert jensen("evaluate", ladder, "--samples", "2", "--examples", "50").code == 0
    run = Run.open(ladder)
    evaluation, *_ = _saved_evaluation(run)
    assert evaluation is not None
    material = gather(run)
    rows = {row.name: row for row in headline(evaluation, material)}
    assert rows["KL, level 2"].value == f"{evaluation.levels[0].kl:.3f}"
    assert "of 9" in rows["Active units"].value
    assert "ladder variational auto-encoder, with 9 latent dimensions on 2 levels" in summary(material)


def test_runs_says_how_many_levels(jensen: Jensen, ladder: Path, nvae: Path) -> None:
    assert "ladder 2 levels, 9 latents" in jensen("runs", ladder).out
    assert "nvae 3 levels, 72 latents" in jensen("runs", nvae).out


def test_a_temperature_a_level(jensen: Jensen, ladder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.npz"
    assert jensen("sample", ladder, "-n", "5", "--temperature", "0.4,0", "--seed", "3", "-o", out).code == 0
    model = _model(ladder)
    torch.manual_seed(3)
    expected = model.sample(5, [0.4, 0.0])
    torch.testing.assert_close(_images(out), expected)
    torch.manual_seed(3)
    assert (model.sample(5, 0.4) - expected).abs().max() > 1e-3


def test_at_temperature_0_all_are_the_mean(jensen: Jensen, ladder: Path, tmp_path: Path) -> None:
    for name, flag in (("one", "0"), ("each", "0,0")):
        said = jensen("sample", ladder, "-n", "3", "--temperature", flag, "-o", tmp_path / f"{name}.npz")
        assert said.code == 0, said.err
        found = _images(tmp_path / f"{name}.npz")
        torch.testing.assert_close(found, _model(ladder).sample(1, 0.0).expand_as(found))


def test_readjusted_samples_are_those_of_python(jensen: Jensen, ladder: Path, tmp_path: Path) -> None:
    for name, more in (("as-it-is", []), ("readjusted", ["--readjust"])):
        assert (
            jensen("sample", ladder, "-n", "5", "--temperature", "0.2", "-o", tmp_path / f"{name}.npz", *more).code == 0
        )
    model = _model(ladder)
    torch.manual_seed(0)
    with torch.no_grad(), model.readjusted(0.2):
        torch.manual_seed(0)
        expected = model.sample(5, 0.2)
    torch.testing.assert_close(_images(tmp_path / "readjusted.npz"), expected)
    assert (_images(tmp_path / "as-it-is.npz") - expected).abs().max() > 1e-3


def test_samples_of_a_class(jensen: Jensen, told: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    assert jensen("sample", told, "--label", "3", "-n", "4", "--readjust", "-o", out).code == 0
    with np.load(out) as file:
        assert file["labels"].tolist() == [3] * 4
    assert jensen("sample", told, "-n", "2", "-o", tmp_path / "a.png").code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert min(image.size) > 50


def test_what_sample_refuses(jensen: Jensen, ladder: Path, digits: Path, nvae: Path) -> None:
    _refused(jensen, "has 2 levels, so give one number or 2", "sample", ladder, "--temperature", "1,2,3")
    _refused(jensen, "of model vae, has one: give one number", "sample", digits, "--temperature", "1,2")
    _refused(jensen, "should be positive", "sample", ladder, "--temperature", "1,-2")
    _refused(jensen, "should be positive, got 0", "sample", digits, "--temperature", "0")
    _refused(jensen, "a number, or several with commas", "sample", ladder, "--temperature", "1,")
    _refused(jensen, "is of model vae", "sample", digits, "--readjust")
    _refused(jensen, "jensen inpaint", "sample", nvae)


def test_readjust_needs_batch_normalisation(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "plain"
    flags = ("--scales", "3@8,2@8", "--epochs", "1", "--limit", "50")
    assert jensen("train", "--run", run, "--model", "ladder", *flags).code == 0
    _refused(jensen, "train with --net-normalisation batch", "sample", run, "--readjust")


def test_top_levels_alone(jensen: Jensen, ladder: Path, tmp_path: Path) -> None:
    x = torch.rand(4, 1, 8, 8)
    np.save(tmp_path / "x.npy", x.numpy())
    model, out = _model(ladder), tmp_path / "a.npz"
    for top in (0, 1, 2):
        assert jensen("reconstruct", ladder, tmp_path / "x.npy", "--top", top, "-o", out, "--force").code == 0
        torch.testing.assert_close(_images(out, "reconstructions"), model.reconstruct(x, top=top))
    drawn = ("--top", "1", "--temperature", "0.5", "--seed", "4")
    assert jensen("reconstruct", ladder, tmp_path / "x.npy", *drawn, "-o", out, "--force").code == 0
    torch.manual_seed(4)
    torch.testing.assert_close(_images(out, "reconstructions"), model.reconstruct(x, top=1, temperature=0.5))


def test_what_reconstruct_refuses(jensen: Jensen, ladder: Path, digits: Path) -> None:
    _refused(jensen, "has 2 levels", "reconstruct", ladder, "--top", "3")
    _refused(jensen, "is of model vae", "reconstruct", digits, "--top", "1")
    _refused(jensen, "give that too", "reconstruct", ladder, "--temperature", "1")


@pytest.mark.parametrize("half", [False, True])
def test_all_levels_there_and_back(jensen: Jensen, ladder: Path, tmp_path: Path, half: bool) -> None:
    x = torch.rand(4, 1, 8, 8)
    np.save(tmp_path / "x.npy", x.numpy())
    codes, out, model = tmp_path / "codes.npz", tmp_path / "back.npz", _model(ladder)
    said = jensen("encode", ladder, tmp_path / "x.npy", "-o", codes, *(["--half"] if half else []))
    assert said.code == 0
    assert "4 of 6 and 3" in said.out
    with np.load(codes) as file:
        assert file["level_2"].shape == (4, 3)
        assert file["level_1"].dtype == (np.float16 if half else np.float32)
    said = jensen("decode", ladder, codes, "-o", out)
    assert (said.code, said.err) == (0, "")
    torch.testing.assert_close(_images(out), model.reconstruct(x), rtol=0, atol=1e-2 if half else 1e-5)


def test_a_code_of_the_top_alone(jensen: Jensen, ladder: Path, tmp_path: Path) -> None:
    x = torch.rand(4, 1, 8, 8)
    np.save(tmp_path / "x.npy", x.numpy())
    codes, out = tmp_path / "codes.npz", tmp_path / "back.npz"
    said = jensen("encode", ladder, tmp_path / "x.npy", "--levels", "2", "-o", codes)
    assert "PSNR" in said.out
    said = jensen("decode", ladder, codes, "-o", out)
    assert "top levels only: level 1 is what the model expects" in said.err
    torch.testing.assert_close(_images(out), _model(ladder).reconstruct(x, top=1))
    said = jensen("encode", ladder, tmp_path / "x.npy", "--levels", "1", "-o", codes, "--force")
    assert said.code == 0
    assert "PSNR" not in said.out
    _refused(jensen, "level_1 but not level_2 above it", "decode", ladder, codes, "-o", tmp_path / "no.npz")


def test_codes_that_do_not_fit(jensen: Jensen, ladder: Path, digits: Path, tmp_path: Path) -> None:
    for flag, words in (("3", "'3' is no level"), ("0", "'0' is no level"), ("2,2", "given twice"), ("x", "no level")):
        _refused(jensen, words, "encode", ladder, "--split", "test", "--levels", flag, "-o", tmp_path / "a.npz")
    _refused(jensen, "of model vae", "encode", digits, "--split", "test", "--levels", "1", "-o", tmp_path / "a.npz")
    _refused(jensen, "'4' is no level", "encode", ladder, "--levels", "4", "-o", tmp_path / "a.npz")
    _refused(jensen, "give either files or --split", "encode", ladder, "--levels", "1", "-o", tmp_path / "a.npz")
    codes, out = tmp_path / "codes.npz", tmp_path / "out.npz"
    good = {"level_1": np.zeros((2, 6), np.float32), "level_2": np.zeros((2, 3), np.float32)}
    for change, words in (
        ({"level_2": np.zeros((2, 4), np.float32)}, "level_2 holds float32 of shape (2, 4)"),
        ({"level_1": np.zeros((2, 6), np.int64)}, "level_1 holds int64"),
        ({"level_1": np.full((2, 6), np.nan, np.float32)}, "level_1 is not finite"),
        ({"level_1": np.zeros((3, 6), np.float32)}, "another number of rows"),
    ):
        np.savez(codes, **{**good, **change})  # type: ignore[arg-type]
        _refused(jensen, words, "decode", ladder, codes, "-o", out)
    np.savez(codes, codes=np.zeros((2, 9), np.float32))
    _refused(jensen, "holds no codes of", "decode", ladder, codes, "-o", out)
    np.savez(codes, **good)  # type: ignore[arg-type]
    _refused(jensen, "holds no codes", "decode", digits, codes, "-o", out)


def test_a_condition_goes_along(jensen: Jensen, told: Path, tmp_path: Path) -> None:
    codes, out = tmp_path / "codes.npz", tmp_path / "back.npz"
    assert jensen("encode", told, "--split", "test", "--levels", "2", "-o", codes).code == 0
    assert jensen("decode", told, codes, "-o", out).code == 0
    assert jensen("decode", told, codes, "--label", "7", "-o", tmp_path / "seven.npz").code == 0
    assert (_images(out) - _images(tmp_path / "seven.npz")).abs().max() > 1e-3


def test_walks_and_filling_in(jensen: Jensen, ladder: Path, nvae: Path, tmp_path: Path) -> None:
    assert jensen("interpolate", ladder, "0", "1", "-o", tmp_path / "walk.png").code == 0
    said = jensen("inpaint", nvae, "-n", "3", "--samples", "2", "-o", tmp_path / "filled.npz")
    assert said.code == 0
    with np.load(tmp_path / "filled.npz") as file:
        seen = file["visible"][:, -1:] > 0.5
        same = np.broadcast_to(seen, file["truth"].shape)
        np.testing.assert_array_equal(file["samples"][0][same], file["truth"][same])
        assert np.abs(file["samples"][0] - file["samples"][1])[~same].max() > 1e-3
    codes = tmp_path / "codes.npz"
    assert jensen("encode", nvae, "--split", "test", "--levels", "3", "-o", codes).code == 0
    with np.load(codes) as file:
        assert file["level_3"].shape[1:] == (2, 2, 2)


def test_what_has_a_meaning_beside_the_bound(jensen: Jensen, told: Path, ladder: Path) -> None:
    said = jensen("evaluate", told, "--samples", "2", "--examples", "20", "--classify", "--json")
    assert said.code == 0
    assert 0 < json.loads(said.out)["classification"]["accuracy"] <= 1
    _refused(jensen, "--information is about one level", "evaluate", ladder, "--information")


def test_factors_and_other_seeds(jensen: Jensen, tmp_path: Path) -> None:
    runs = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        flags = ("--data", "circles", "--limit", "100", "--epochs", "1", "--scales", "4@16,2@8", "--seed", str(seed))
        assert main(["train", "--run", str(run), "--model", "ladder", *flags]) == 0
    asked = ("--disentanglement", "--against", runs[1], "--samples", "1", "--examples", "5", "--json")
    said = jensen("evaluate", runs[0], *asked)
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert len(found["disentanglement"]["kl_per_dimension"]) == 6
    assert len(found["udr"]["runs"]) == 2
