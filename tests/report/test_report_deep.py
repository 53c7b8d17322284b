"""Pages of models whose latents have levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from page_parts import commands, drawn, opened, tiles
from torch import Tensor

from jensen.autoencoders import DeepVAE
from jensen.config import Config, DataConfig
from jensen.data import Dataset, registry
from jensen.report import level_pictures, page, write_report
from jensen.report import material as material_module
from jensen.report.html import Picture
from jensen.report.material import HeldOut, Material
from jensen.training import Run, fit

Runs = Callable[[str], Run]
Pages = Callable[[str], dict[str, Picture]]
TWO, TWELVE = ("3@12", "2@8"), ("8x2@8", "4x1@8")
IMAGES = [
    "curves",
    "reconstructions",
    "samples",
    "neighbours",
    "temperatures",
    "levels",
    "levels-shared",
    "latent-space",
    "walk",
    "kl",
    "kl-training",
]
NO_IMAGES = ["curves", "reconstructions", "samples", "levels", "latent-space", "kl", "kl-training"]
RUNS: dict[str, dict[str, Any]] = {
    "hvae": {"model": {"kind": "hvae", "scales": TWO, "net": {"kind": "mlp", "normalisation": "batch"}}},
    "ladder": {"model": {"kind": "ladder", "scales": TWELVE, "net": {"kind": "mlp"}}},
    "nvae": {"model": {"kind": "nvae", "scales": ("2x1@4",), "net": {"kind": "cells", "depth": 1}}},
    "one": {"model": {"kind": "nvae", "scales": ("3@4",), "net": {"kind": "conv", "depth": 1}}},
    "class": {"model": {"kind": "ladder", "scales": TWO}, "data": {"condition": "label"}},
    "half": {"model": {"kind": "ladder", "scales": TWO}, "data": {"condition": "left-half"}},
    "properties": {"model": {"kind": "hvae", "scales": TWO}, "data": {"name": "circles", "condition": "x,radius"}},
    "table": {"model": {"kind": "ladder", "scales": TWO}, "data": {"name": "iris"}},
    "waves": {"model": {"kind": "nvae", "scales": TWELVE, "likelihood": "gaussian"}, "data": {"name": "sines"}},
    "text": {"model": {"kind": "ladder", "scales": TWO}, "data": {"name": "text"}},
    "predictor": {"model": {"kind": "ladder", "scales": TWO}, "data": {"name": "circles", "target": "large"}},
}  # fmt: skip


def sines(config: DataConfig) -> Dataset:
    """Sines of 16 values."""
    generator, places = torch.Generator().manual_seed(0), torch.arange(100)
    values = (torch.rand(100, 1, generator=generator) + torch.arange(16) / 16).mul(2 * torch.pi).sin()[:, None]
    return Dataset("sines", values, (1, 16), None, places[:60], places[60:80], places[80:])


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A deep VAE by its name in `RUNS`, of two short epochs, made when first asked for."""
    folder, runs = tmp_path_factory.mktemp("deep"), dict[str, Run]()

    def made(name: str) -> Run:
        if name not in runs:
            own = RUNS[name]
            config = Config(
                model=own["model"],
                data={"limit": 90, **own.get("data", {})},
                train={"epochs": 2, "accelerator": "cpu"},
            )
            runs[name] = fit(config, folder / name, quiet=True)
        return runs[name]

    info = replace(registry.DATASETS["digits"].info, name="sines", shape=(1, 16), levels=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, "sines", registry.Entry(info, sines))
        patch.setattr(level_pictures, "READJUSTED", (2, 4))
        yield made


@pytest.fixture(scope="module")
def pictures(deep: Runs) -> Pages:
    """The pictures of a run by its name, drawn when first asked for."""
    return cache(lambda name: drawn(opened(deep(name))))


def parts(run: Run) -> tuple[Material, DeepVAE, HeldOut]:
    material = opened(run)
    assert isinstance(material.model, DeepVAE)
    assert material.held_out is not None
    return material, material.model, material.held_out


@pytest.mark.parametrize(
    ("name", "sections", "levels"),
    [
        ("hvae", IMAGES, 2),
        ("ladder", IMAGES, 12),
        ("nvae", IMAGES, 2),
        ("one", [name for name in IMAGES if not name.startswith("levels")], 1),
        ("class", IMAGES, 2),
        ("half", [name for name in IMAGES if name != "walk"], 2),
        ("properties", IMAGES, 2),
        ("table", NO_IMAGES, 2),
        ("waves", NO_IMAGES, 12),
        ("text", NO_IMAGES, 2),
        ("predictor", ["curves", "predictions", "samples", "latent-space", "kl", "kl-training"], 2),
    ],
)
def test_every_picture_of_a_deep_vae_is_drawn(
    deep: Runs, pictures: Pages, name: str, sections: list[str], levels: int
) -> None:
    material, model, _ = parts(deep(name))
    found = pictures(name)
    assert list(found) == sections
    for picture in found.values():
        assert picture.text
        assert (picture.figure is None) is (picture.title == "No samples")
    spaces, bars = found["latent-space"].figure, found["kl"].figure
    assert spaces is not None
    assert bars is not None
    assert len(spaces.axes) == min(6, levels)
    assert len(bars.axes[0].patches) == levels == len(model.level_shapes)
    commands(material)  # are all taken by the program


def test_the_page_is_written_with_all_of_them(deep: Runs) -> None:
    run = deep("nvae")
    text = write_report(run).read_text(encoding="utf-8")
    assert text.count("data:image/png") == len(IMAGES)
    assert "its ELBO, log-likelihood and active units" in text
    assert "z is drawn level by level" in text
    assert {path.stem for path in (run.path / "figures" / "report").glob("*.png")} == set(IMAGES)


def test_a_page_is_the_same_each_time(deep: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = deep("hvae"), list[Tensor]()

    def only_levels(material: Material, _: object) -> list[Picture]:
        assert material.deep is not None
        assert material.held_out is not None
        found = level_pictures.decoded_levels(material, material.deep, material.held_out)
        seen.append(torch.stack([tile for picture in found for tile in tiles(picture)]))
        return []

    monkeypatch.setattr(page, "pictures", only_levels)
    for seed in (0, 0, 1):
        write_report(run, seed=seed)
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    assert not torch.equal(seen[0], seen[2])


def test_columns_are_reconstructions_from_the_top(deep: Runs, pictures: Pages) -> None:
    _, model, held_out = parts(deep("ladder"))
    found = pictures("ladder")
    places, kept = held_out.of_different_classes(8), [1, 3, 4, 6, 7, 9, 10, 12]
    shown = torch.stack(tiles(found["levels"])).unflatten(0, (8, 9)).float()
    torch.testing.assert_close(shown[:, 0], held_out.clean[places, 0])
    for column, top in enumerate(kept, 1):
        torch.testing.assert_close(shown[:, column], model.reconstruct(held_out.x[places], top=top)[:, 0])
    assert "Of the 12 levels, 1, 3, 4, 6, 7, 9, 10, 12 are kept." in found["levels"].text
    # Below the top, draws differ from one another.
    shared = torch.stack(tiles(found["levels-shared"])).unflatten(0, (2, 4, 9)).float()
    torch.testing.assert_close(shared[:, 0, 0], held_out.clean[places[:2], 0])
    assert bool((shared[:, :, 1] != shared[:, :, 2]).flatten(2).any(2).all())


def test_levels_that_are_kept_are_those_of_the_image(deep: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    material, model, held_out = parts(deep("ladder"))
    calls = list[tuple[Tensor, int | None, float]]()
    original = model.reconstruct

    def spy(x: Tensor, condition: Tensor | None = None, *, top: int | None = None, temperature: float = 0.0) -> Tensor:
        calls.append((x, top, temperature))
        return original(x, condition, top=top, temperature=temperature)

    monkeypatch.setattr(model, "reconstruct", spy)
    with torch.no_grad():
        level_pictures.decoded_levels(material, model, held_out)
    shared = [(x, top) for x, top, temperature in calls if temperature == 1.0]
    assert [top for _, top in shared] == [1, 4, 7, 9]
    first, second = held_out.of_different_classes(2)
    for x, _ in shared:
        torch.testing.assert_close(x, held_out.x[[first, second] * 8])


def test_rows_are_temperatures_of_the_same_noise(deep: Runs) -> None:
    for name in ("ladder", "nvae"):  # without batch normalisation, and with it
        material, model, held_out = parts(deep(name))
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with torch.no_grad():
            found = level_pictures._temperatures(material, model, held_out)
        rows = torch.stack(tiles(found)).unflatten(0, (4, 10)).flatten(2).double()
        spread = rows.std(1).mean(1)
        assert spread[0] > spread[3]
        assert ("batch normalisation has the statistics" in found.text) is (name == "nvae")
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key])
        # The same noise: an image is more like the one above it than like others of its row.
        apart = torch.cdist(rows[0], rows[1])
        assert apart.diag().mean() < apart.mean()


@pytest.mark.parametrize(("name", "said"), [("hvae", True), ("ladder", False), ("one", False)])
def test_what_the_levels_of_hvae_say_is_told(deep: Runs, pictures: Pages, name: str, said: bool) -> None:
    found = pictures(name)
    assert ("is no KL" in found["kl"].text) is said
    assert ("drawn as 0" in found["kl-training"].text) is said
    assert ("free bits" in found["kl-training"].text) is not said


@pytest.mark.parametrize(("device", "forked"), [("cpu", []), ("cuda:0", [torch.device("cuda:0")])])
def test_the_noise_of_the_model_s_device_comes_back(
    device: str, forked: list[torch.device], deep: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, original = list[list[torch.device]](), torch.random.fork_rng

    def fork_rng(devices: list[torch.device]) -> Any:
        seen.append(devices)
        return original(devices=[])  # there may be no GPU here

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    monkeypatch.setattr(level_pictures, "device_of", lambda _: torch.device(device))
    with torch.no_grad():
        level_pictures._temperatures(*parts(deep("ladder")))
    assert seen == [forked] * 4


def test_columns_are_told_their_class(deep: Runs, pictures: Pages) -> None:
    _, _, held_out = parts(deep("class"))
    found = pictures("class")["temperatures"]
    assert held_out.labels is not None
    assert found.figure is not None
    labels = [label.get_text() for label in found.figure.axes[0].get_xticklabels()]
    assert labels == [str(label) for label in held_out.labels[held_out.of_different_classes(10)].tolist()]


def test_the_visible_part_stays_as_it_is(deep: Runs, pictures: Pages) -> None:
    _, _, held_out = parts(deep("half"))
    found = pictures("half")
    places = held_out.of_different_classes(10)
    truth = held_out.clean[places, 0]
    rows = torch.stack(tiles(found["temperatures"])).unflatten(0, (4, 10)).float()
    torch.testing.assert_close(rows[..., :4], truth[None, ..., :4].expand(4, 10, 8, 4))
    assert not torch.equal(rows[..., 4:], truth[None, ..., 4:].expand(4, 10, 8, 4))
    carried = torch.stack(tiles(found["levels"])).unflatten(0, (5, 3)).float()
    torch.testing.assert_close(carried[..., :4], carried[:, :1, :, :4].expand(5, 3, 8, 4))


def test_lines_of_a_table_are_explained_variance(deep: Runs, pictures: Pages) -> None:
    _, model, held_out = parts(deep("table"))
    figure = pictures("table")["levels"].figure
    assert figure is not None
    *columns, mean = figure.axes[0].lines
    expected = []
    for top in range(3):
        made = model.reconstruct(held_out.x, top=top).double()
        target = held_out.target.double()
        expected.append(1 - (made - target).square().mean(0) / target.var(0, correction=0))
    for column, line in enumerate(columns):
        np.testing.assert_allclose(np.asarray(line.get_ydata()), [row[column] for row in expected], atol=1e-6)
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), [row.mean() for row in expected], atol=1e-6)
    assert list(np.asarray(mean.get_xdata())) == [0, 1, 2]


def test_lines_of_a_text_are_the_characters_that_are_right(deep: Runs, pictures: Pages) -> None:
    _, model, held_out = parts(deep("text"))
    figure = pictures("text")["levels"].figure
    assert figure is not None
    (line,) = figure.axes[0].lines
    right = [(model.reconstruct(held_out.x, top=top) == held_out.target).double().mean().item() for top in range(3)]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), right)


def test_bars_are_the_kl_of_test_data(deep: Runs) -> None:
    material, model, held_out = parts(deep("ladder"))
    torch.manual_seed(0)
    figure = level_pictures.kl(material, model, held_out, None)[0].figure
    assert figure is not None
    assert held_out.kl is not None
    widths = [bar.get_width() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(widths, [kl.sum() for kl in model.levels_of(held_out.kl)])
    # The KL depends on draws of the levels above: other draws, other numbers, but not by much.
    with torch.no_grad():
        torch.manual_seed(1)
        draws = [[level.kl().sum((0, 2)).mean() for level in model.levels(held_out.x)[0]] for _ in range(30)]
    expected = torch.tensor(draws)
    assert (expected.mean(0) - torch.tensor(widths)).abs().max() < 4 * expected.std(0).max() + 1e-4


def test_codes_of_a_large_model_are_few(deep: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run = deep("ladder")
    full = parts(run)[2]
    monkeypatch.setattr(material_module, "SHOWN", 5)
    monkeypatch.setattr(material_module, "MOST_NUMBERS", 7 * full.codes.shape[1])
    assert len(full.codes) > 7
    _, model, few = parts(run)
    assert len(few.codes) == len(few.x) == 7
    torch.testing.assert_close(few.codes, full.codes[:7])
    torch.testing.assert_close(few.codes, model.encode(few.x))
    monkeypatch.setattr(material_module, "MOST_NUMBERS", 1)
    material, model, least = parts(run)
    assert len(least.codes) == 5  # what is shown
    assert f"The codes of 5 of {full.total} test examples" in level_pictures.latent_space(material, model, least).text
