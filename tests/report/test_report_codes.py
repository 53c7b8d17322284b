"""Pictures of models whose code is integers, of densities without a code, and of decoders that draw."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from page_parts import commands, decodings, drawn, lines, opened, sampled, tiles

from jensen.autoencoders import VQVAE
from jensen.config import Config
from jensen.data import to_text
from jensen.report import page as page_module
from jensen.report import write_report
from jensen.report.headline import summary
from jensen.training import Run, fit

Runs = Callable[..., Run]
ONLY_CODES = ["curves", "reconstructions", "samples", "code-usage"]


@pytest.mark.parametrize(
    ("name", "prior", "sections", "words"),
    [
        ("images", False, ["curves", "reconstructions", "samples", "codes", "code-usage"], "4 × 4 integers below 16"),
        ("levels", True, [], "2 × 2 and 4 × 4 integers below 16"),
        ("books", True, [], "2 books of 4 × 4 integers below 16"),
        ("class", True, [], "conditional vector-quantised"),
        ("half", True, [], "fills in the rest"),
        ("text", False, ONLY_CODES, "32 integers below 16"),
        ("waves", True, ["curves", "prior", *ONLY_CODES[1:]], "sequences of shape 1 × 64"),
    ],
)
def test_every_picture_of_a_vqvae_is_drawn(
    coded: Runs, name: str, prior: bool, sections: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = coded(name, prior=prior)
    material = opened(run)
    found = drawn(material)
    assert list(found) == (sections or ["curves", "prior", "reconstructions", "samples", "codes", "code-usage"])
    assert all(picture.figure is not None and picture.text and picture.alt for picture in found.values())
    assert words in summary(material)
    assert ("a gated PixelCNN, learned after it" in summary(material)) is prior
    assert ("no prior over them is in place" in summary(material)) is not prior
    text = " ".join(picture.text for picture in found.values())
    assert ("jensen train prior" in text) is not prior
    assert "N(0, I)" not in text
    monkeypatch.setattr(page_module, "pictures", lambda material, evaluation: list(found.values()))
    page = write_report(run).read_text(encoding="utf-8")
    assert "its ELBO, rate and use of codes" in page
    assert page.count("data:image/png") == len(found)
    assert ("# of the prior over its codes" in page) is prior
    assert "collapsed" not in page


def test_samples_are_the_drawn_codes_decoded(coded: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    material = opened(coded("levels", prior=True))
    decoded, codes = decodings(material, monkeypatch)
    shown = torch.stack(tiles(sampled(material)))
    (made,) = [made for z, made in decoded if z is codes[0]]
    torch.testing.assert_close(shown[:32].float(), made[:, 0])
    (uniform,) = [made for z, made in decoded if z is not codes[0]]
    torch.testing.assert_close(shown[32:].float(), uniform[:, 0])


def test_without_a_prior_samples_are_uniform_codes(coded: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    material = opened(coded("images"))
    decoded, _ = decodings(material, monkeypatch)
    found = sampled(material)
    ((codes, made),) = decoded
    torch.testing.assert_close(torch.stack(tiles(found)).float(), made[:, 0])
    assert codes.shape == (32, 16)
    assert len(codes.unique()) == 16  # 512 draws of 16
    assert f"`jensen train prior --run {material.run.path}`" in found.text


@pytest.mark.parametrize("name", ["levels", "books"])
def test_maps_stand_beside_images_and_their_decodings(coded: Runs, name: str) -> None:
    material = opened(coded(name, prior=True))
    held_out, model = material.held_out, material.model
    assert held_out is not None
    assert isinstance(model, VQVAE)
    found = drawn(material)
    shown = tiles(found["codes"])
    assert len(shown) == 40
    for place in range(10):
        torch.testing.assert_close(shown[place].float(), held_out.clean[place, 0])
        torch.testing.assert_close(shown[30 + place].float(), held_out.decoded[place, 0])
    with torch.no_grad():
        torch.testing.assert_close(held_out.decoded[:10], model.decode(held_out.codes[:10]))
    grids = [grid[:, book] for grid in model.grids(held_out.codes) for book in range(grid.shape[1])]
    for row, grid in enumerate(grids, start=1):  # as many colours as codes
        colours = torch.stack(shown[10 * row : 10 * row + 10]).flatten(0, 2).unique(dim=0)
        assert len(colours) == len(grid[:10].unique())
    figure = found["code-usage"].figure
    assert figure is not None
    for line, grid in zip(figure.axes[0].lines, grids, strict=True):
        shares = grid.flatten().bincount(minlength=16).double().sort(descending=True).values / grid.numel()
        np.testing.assert_allclose(np.asarray(line.get_ydata()), shares[shares > 0])


def test_a_class_told_is_a_row(coded: Runs, density: Runs) -> None:
    for run, told, how in (
        (coded("class", prior=True), "the model is told the class", "codes are drawn from the learned prior"),
        (coded("class"), "the model is told the class", "codes are drawn uniformly"),
        (
            coded("images", prior=True, condition="label"),
            "the prior over the codes is told the class",
            "codes are drawn from the learned prior",
        ),
        (density("label"), "the model is told the class", "the values are drawn one after the other"),
    ):
        material = opened(run)
        found = sampled(material)
        assert told in found.text
        assert how in found.text
        assert ("Down a column the code is the same" in found.text) is (how == "codes are drawn uniformly")
        assert "z is drawn" not in found.text
        assert len(tiles(found)) == 100
        assert any("--label 0" in command for command in commands(material))


def test_hidden_parts_are_filled_in(coded: Runs, density: Runs) -> None:
    for run, columns in ((coded("half", prior=True), 9), (coded("half"), 9), (density("upper-half"), 8)):
        material = opened(run)
        found = sampled(material)
        assert "The model sees the upper half" in found.text
        assert "z is drawn" not in found.text
        assert ("their mean" in found.text) is (columns == 9)
        shown = tiles(found)
        assert len(shown) == 6 * columns
        for row in range(6):
            truth = shown[columns * row + columns - 1]
            for place in range(1, columns - 1):
                torch.testing.assert_close(shown[columns * row + place][:4], truth[:4])
                assert not torch.equal(shown[columns * row + place][4:], truth[4:])
        assert any("jensen inpaint" in command for command in commands(material))
        assert not any("sample" in shlex.split(command) for command in commands(material))


def test_texts_are_read_as_they_are(coded: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    material = opened(coded("text", prior=True))
    decoded, codes = decodings(material, monkeypatch)
    found, held_out = drawn(material), material.held_out
    assert held_out is not None
    symbols = material.symbols
    originals, restored = (to_text(values[:8], symbols) for values in (held_out.target, held_out.decoded))
    pairs = [text for pair in zip(originals, restored, strict=True) for text in pair]
    assert [row.rstrip() for row in lines(found["reconstructions"].figure)] == [
        text.replace("\n", "↵").rstrip() for text in pairs
    ]
    right = sum(a == b for text, copy in zip(originals, restored, strict=True) for a, b in zip(text, copy, strict=True))
    assert f"Of these 1,024 characters {right:,} are as they were" in found["reconstructions"].text
    figure = found["reconstructions"].figure
    assert figure is not None
    assert len(figure.axes[0].patches) == 1024 - right
    ((_, made),) = [(z, made) for z, made in decoded if z is codes[0]]
    texts = [text.replace("\n", "↵").rstrip() for text in to_text(made, symbols)]
    assert [row.rstrip() for row in lines(found["samples"].figure)] == texts
    assert "the most probable symbols" in found["samples"].text


def test_signals_are_lines(coded: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    material = opened(coded("waves", prior=True))
    decoded, codes = decodings(material, monkeypatch)
    found, held_out = drawn(material), material.held_out
    assert held_out is not None
    figure, samples = found["reconstructions"].figure, found["samples"].figure
    assert figure is not None
    assert samples is not None
    assert len(figure.axes) == 8
    for place, axes in enumerate(figure.axes):
        original, made = (np.asarray(line.get_ydata()) for line in axes.lines)
        np.testing.assert_allclose(original, held_out.target[place, 0], rtol=1e-6)
        np.testing.assert_allclose(made, held_out.decoded[place, 0], rtol=1e-6)
    ((_, values),) = [(z, made) for z, made in decoded if z is codes[0]]
    for axes, value in zip(samples.axes, values, strict=True):
        np.testing.assert_allclose(np.asarray(axes.lines[0].get_ydata()), value[0], rtol=1e-6)
    assert "standard deviations" in found["samples"].text


@pytest.mark.parametrize("name", ["digits", "text"])
def test_a_density_has_samples_alone(density: Runs, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    material = opened(density(None, name))
    found = drawn(material)
    assert list(found) == ["curves", "samples"]
    assert found["samples"].title == "Samples"
    assert "one after the other" in found["samples"].text
    assert "z" not in found["samples"].text.split()
    assert summary(material).startswith("An autoregressive density, each value predicted from those before it by a ")
    assert "latent" not in summary(material)
    suggested = commands(material)
    assert f"jensen sample {material.run.path} --top-p 0.95" in suggested
    assert not any(word in " ".join(suggested) for word in ("encode", "reconstruct", "interpolate", "--information"))
    monkeypatch.setattr(page_module, "pictures", lambda material, evaluation: list(found.values()))
    assert "its log-likelihood on unseen data" in write_report(material.run).read_text(encoding="utf-8")


def test_decoders_that_draw_are_said_to(pixel_vae: Run) -> None:
    material = opened(pixel_vae)
    found = drawn(material)
    assert "decoder (PixelVAE)" in summary(material)
    for name in ("reconstructions", "neighbours", "walk", "traversals"):
        assert "draw from p(x | z)" in found[name].text
        assert "the mean of p(x | z)" not in found[name].text
    assert "and the values from p(x | z), one after the other" in found["samples"].text
    assert "rows of no nats change nothing" not in found["traversals"].text
    levels = torch.stack(tiles(found["samples"])) * 16
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)  # draws, not means
    assert not any("--top-p" in command for command in commands(material))


def test_without_its_data_samples_are_drawn_still(coded: Runs, density: Runs) -> None:
    for run, drawable in (
        (coded("images"), True),
        (coded("text", prior=True), True),
        (coded("waves"), True),
        (coded("class", prior=True), True),
        (density("upper-half"), False),
    ):
        material = replace(opened(run), held_out=None, train=None, missing="gone")
        assert (sampled(material).figure is not None) is drawable


def test_codes_that_predict_or_restore(tmp_path: Path) -> None:
    model = {"kind": "vqvae", "quantiser": {"codes": 16, "dim": 8}, "net": {"width": 8, "depth": 1}}
    train = {"epochs": 1, "accelerator": "cpu"}
    data = {"name": "circles", "target": "large", "limit": 50}
    predictor = opened(fit(Config(model=model, data=data, train=train), tmp_path / "predictor", quiet=True))
    assert list(drawn(predictor)) == ["curves", "predictions", "samples", "code-usage"]
    assert not any("prior" in command for command in commands(predictor))
    noisy = {"corruption": "masking", "limit": 100}
    denoiser = opened(
        fit(Config(model={**model, "downsampling": 2}, data=noisy, train=train), tmp_path / "denoiser", quiet=True)
    )
    assert denoiser.held_out is not None
    found = drawn(denoiser)["codes"]
    assert "corrupted as in training" in found.text
    torch.testing.assert_close(torch.stack(tiles(found)[:10]).float(), denoiser.held_out.x[:10, 0])
    assert not torch.equal(denoiser.held_out.x[:10], denoiser.held_out.clean[:10])
