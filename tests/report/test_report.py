"""The page says what the run is, loads nothing, and takes nobody's names for HTML."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
import torch
from cyclopts import CycloptsError
from PIL import Image
from torch.distributions import Normal

from jensen import report as package
from jensen.autoencoders import VAE
from jensen.cli.app import build_app
from jensen.config import ObjectiveConfig
from jensen.data import Data
from jensen.errors import CheckpointError, DataError
from jensen.metrics import Evaluation, evaluate
from jensen.plots import png
from jensen.report import page as page_module
from jensen.report import write_report
from jensen.report.headline import headline, notes
from jensen.report.material import gather
from jensen.report.pictures import pictures
from jensen.training import Run


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and text outside of style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag, "elements should be nested properly"

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def sections(self) -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.elements if tag == "section"]

    @property
    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == "img"]


@pytest.fixture(scope="session")
def evaluation(vae: Run) -> Evaluation:
    return evaluate(vae.model(), vae.data().test, samples=10)


@pytest.fixture(scope="session")
def page(vae: Run, evaluation: Evaluation) -> Page:
    """The whole page of the VAE's run."""
    return Page(write_report(vae, evaluation))


@pytest.fixture
def wordy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, which take most of the time."""
    monkeypatch.setattr("jensen.report.page.pictures", lambda material, evaluation: [])


@pytest.fixture
def copied(vae: Run, tmp_path: Path) -> Run:
    """The VAE's run in a folder that a test may change."""
    without = shutil.ignore_patterns("report.html", "figures")
    return Run.open(shutil.copytree(vae.path, tmp_path / "vae", ignore=without))


def test_a_vae_gets_every_section(vae: Run, evaluation: Evaluation, page: Page) -> None:
    pictures = ["curves", "reconstructions", "samples", "neighbours", "latent-space", "walk", "kl", "traversals"]
    assert page.sections == ["headline", *pictures, "configuration", "next"]
    assert len(page.images) == len(pictures)
    for row in headline(evaluation, gather(vae)):
        assert row.name in page.text
        assert row.value in page.text
        assert row.meaning in page.text
    assert f"{evaluation.elbo:.2f}".replace("-", "−") in page.text
    assert vae.config.to_yaml().split("\n")[1].strip() in page.text
    for command in ("train --resume", "evaluate", "sample"):
        assert f"jensen {command} {vae.path}" in page.text


def test_the_page_is_self_contained(page: Page) -> None:
    assert not re.search(r"https?://|//cdn|@import|url\(", page.source)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    policies = [attributes for _, attributes in page.elements if "http-equiv" in attributes]
    assert "default-src 'none'" in (policies[0]["content"] or "")


def test_pictures_are_png_described_in_words_and_also_files(vae: Run, page: Page) -> None:
    files = {file.read_bytes() for file in (vae.path / "figures" / "report").glob("*.png")}
    for image in page.images:
        content = base64.b64decode((image["src"] or "").partition(",")[2], validate=True)
        assert content in files
        assert Image.open(BytesIO(content)).width >= int(image["width"] or 0) > 100
        assert len(image["alt"] or "") > 20


def test_anchors_lead_somewhere(page: Page) -> None:
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert [f"#{section}" for section in page.sections] == links


def test_the_same_run_and_seed_give_the_same_page_and_leave_the_generator_alone(
    vae: Run, evaluation: Evaluation, page: Page
) -> None:
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert write_report(vae, evaluation).read_text(encoding="utf-8") == page.source
    assert torch.equal(torch.get_rng_state(), before)
    written = (vae.path / "figures" / "report" / "samples.png").read_bytes()
    for seed, same in ((0, True), (4, False)):
        torch.manual_seed(seed)
        with torch.no_grad():
            drawn = {picture.name: picture.figure for picture in pictures(gather(vae), evaluation)}["samples"]
        assert drawn is not None
        assert (png(drawn, dpi=165) == written) is same


@pytest.mark.usefixtures("wordy")
def test_without_an_evaluation_it_says_how_to_get_one(copied: Run) -> None:
    text = Page(write_report(copied)).text
    assert "has not been evaluated" in text
    assert f"jensen evaluate {copied.path}" in text


@pytest.mark.usefixtures("wordy")
def test_a_saved_evaluation_is_used(copied: Run, evaluation: Evaluation) -> None:
    found = {"split": "valid", **replace(evaluation, elbo=-123.456).to_dict()}
    (copied.path / "evaluation.json").write_text(json.dumps(found))
    text = Page(write_report(copied)).text
    assert "−123.46" in text
    assert "valid split" in text


@pytest.mark.parametrize("content", ["{", "[]", '{"split": "test", "elbo": 1}', "null"])
@pytest.mark.usefixtures("wordy")
def test_a_damaged_evaluation_counts_as_none(copied: Run, content: str) -> None:
    (copied.path / "evaluation.json").write_text(content)
    assert "has not been evaluated" in Page(write_report(copied)).text


@pytest.mark.usefixtures("wordy")
def test_warnings_are_shown_in_words(vae: Run, evaluation: Evaluation) -> None:
    text = Page(write_report(vae, replace(evaluation, warnings=["The posterior has collapsed: so."]))).text
    assert "The posterior has collapsed: so." in text
    assert "training longer would probably help" in text  # two epochs of a hundred


@pytest.mark.usefixtures("wordy")
@pytest.mark.parametrize(("mean", "collapsed"), [(0.0, True), (1.0, False)])
def test_a_collapsed_posterior_is_told_even_without_an_evaluation(
    copied: Run, monkeypatch: pytest.MonkeyPatch, mean: float, collapsed: bool
) -> None:
    monkeypatch.setattr(VAE, "posterior", lambda model, x, condition=None: Normal(torch.full((len(x), 3), mean), 1.0))
    assert ("the posterior has collapsed" in Page(write_report(copied)).text) is collapsed


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"kind": "capacity", "max_capacity": 20.0, "capacity_steps": 1000}, ("rises to 20 over 1,000", "-steps")),
        ({"kind": "capacity", "max_capacity": 0.5, "capacity_steps": 5}, ("0.5 nats when", "a larger --max-capacity")),
        ({"kind": "beta", "beta": 30.0}, ("cost 30", "a smaller --beta")),
        ({"kind": "total-correlation", "beta": 9.0}, ("alpha 1, beta 9 and gamma 1",)),
        ({"kind": "beta", "beta": 0.5}, ()),
        ({}, ()),
    ],
)
def test_what_holds_the_code_down_is_named(
    vae: Run, evaluation: Evaluation, chosen: dict[str, object], words: tuple[str, ...]
) -> None:
    config = vae.config.model_copy(update={"objective": ObjectiveConfig.model_validate(chosen)})
    material = replace(gather(vae), run=Run(vae.path, config))
    little = notes(material, replace(evaluation, active_units=0, rate=0.01, warnings=[]))
    held_down = [text for text in little if text.startswith("The objective")]
    assert len(held_down) == bool(words)
    assert all(word in held_down[0] for word in words)
    assert notes(material, replace(evaluation, active_units=3, rate=9.0, warnings=[])) == little[len(held_down) :]
    assert material.held_out is not None
    empty = replace(material, held_out=replace(material.held_out, kl=torch.zeros(3)))
    collapsed = notes(empty, None)[0]
    assert "the posterior has collapsed" in collapsed
    assert ("KL warm-up" in collapsed) is (not words)
    assert all(word in collapsed for word in words)


def test_codes_kl_and_reconstructions_are_the_models(vae: Run) -> None:
    held_out, model = gather(vae).held_out, vae.model()
    assert held_out is not None
    assert held_out.kl is not None
    with torch.no_grad():
        torch.testing.assert_close(held_out.codes, model.encode(held_out.x))
        torch.testing.assert_close(held_out.decoded, model.reconstruct(held_out.x[:20]))
        rate = model(held_out.x).rate().mean()
    assert held_out.kl.sum().item() == pytest.approx(rate.item(), rel=1e-5)


def test_an_auto_encoder_gets_a_sentence_instead_of_samples(denoiser: Run) -> None:
    found = evaluate(denoiser.model(), denoiser.data().test)
    page = Page(write_report(denoiser, found))
    assert "examples/random_latents.py" in page.text
    assert "jensen sample" not in page.text
    assert "ELBO" in page.text  # only to say that distortion is none
    assert page.sections == ["headline", "curves", "reconstructions", "samples", "latent-space", "walk",
                             "configuration", "next"]  # fmt: skip
    assert len(page.images) == 4
    assert "corrupted" in page.text
    assert {row.name for row in headline(found, gather(denoiser))}.isdisjoint({"ELBO", "Rate", "Active units"})


def test_denoising_keeps_input_and_target_apart(denoiser: Run) -> None:
    held_out = gather(denoiser).held_out
    assert held_out is not None
    assert torch.equal(held_out.clean, held_out.target)
    hidden = (held_out.x == 0) & (held_out.clean > 0)
    assert hidden.double().mean() > 0.1  # masking at strength 0.3
    assert torch.equal(held_out.x[~hidden], held_out.clean[~hidden])


def test_a_table_gets_scatter_plots(table: Run) -> None:
    page = Page(write_report(table, evaluate(table.model(), table.data().test, samples=5)))
    assert page.sections[1:6] == ["curves", "reconstructions", "samples", "latent-space", "kl"]
    assert len(page.images) == 5
    assert "rows of 4 columns" in page.text


def test_a_prediction_gets_its_accuracy(predictor: Run) -> None:
    material, data = gather(predictor), predictor.data()
    page = Page(write_report(predictor, evaluate(predictor.model(), data.test)))
    test = data.test.batch(torch.arange(len(data.test)))
    with torch.no_grad():
        right = (predictor.model().reconstruct(test.x) > 0.5) == (test.target > 0.5)
    assert material.predicts == "large"
    assert f"{right.double().mean().item():.1%}" in page.text
    assert "Predictions of “large”" in page.text
    assert "jensen reconstruct" not in page.text


def test_names_are_text_not_html(copied: Run, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "<script>alert('&')</script> $"
    moved = copied.path.parent / "<img src=x onerror=alert(1)>"
    copied.path.rename(moved)
    original = Run.data

    def data(self: Run, directory: Path | None = None, **changes: str) -> Data:
        found = original(self, directory, **changes)
        return replace(found, test=replace(found.test, class_names=(evil,) * 10))

    monkeypatch.setattr(Run, "data", data)
    page = Page(write_report(Run.open(moved), replace(evaluation, warnings=[evil])))
    assert evil not in page.source
    assert evil in page.text  # as a reader sees it
    assert moved.name in page.text
    assert all(attributes.get("onerror") is None for _, attributes in page.elements)
    assert "'" in page.text.split("jensen train --resume ")[1][:1]  # the command is quoted for the shell


@pytest.mark.usefixtures("wordy")
def test_a_failure_leaves_the_old_page(copied: Run, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(copied).read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(copied, evaluation)
    assert (copied.path / "report.html").read_bytes() == before
    assert not list(copied.path.rglob(".writing-*"))


def test_without_its_data_the_page_says_what_is_missing(copied: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def data(self: Run, directory: Path | None = None, **changes: str) -> Data:
        raise DataError("digits.npz is not there")

    monkeypatch.setattr(Run, "data", data)
    page = Page(write_report(copied))
    assert "digits.npz is not there" in page.text
    assert page.sections == ["headline", "curves", "samples", "configuration", "next"]


@pytest.mark.usefixtures("wordy")
def test_a_stopped_run_says_so(copied: Run) -> None:
    values = copied.config.model_copy(update={"train": copied.config.train.model_copy(update={"epochs": 9})})

    class Stopped(Run):
        @property
        def finished(self) -> bool:
            return False

    text = Page(write_report(Stopped(copied.path, values))).text
    assert "stopped in epoch 3 of 9" in text
    assert f"jensen train --resume {copied.path} " in text + " "


def test_without_a_checkpoint_it_is_refused(copied: Run) -> None:
    shutil.rmtree(copied.path / "checkpoints")
    with pytest.raises(CheckpointError):
        write_report(copied)
    assert not (copied.path / "report.html").exists()


def test_without_metrics_there_are_no_curves(copied: Run) -> None:
    (copied.path / "metrics.csv").unlink()
    material = gather(copied)
    assert "curves" not in [picture.name for picture in pictures(material, None)]
    assert "No epoch has ended" in notes(material, None)[-1]


def test_the_template_is_part_of_the_package() -> None:
    assert (Path(package.__file__).parent / "report.html").is_file()


def test_the_commands_that_it_suggests_are_commands(vae: Run) -> None:
    suggested = [command for _, command in page_module._commands(gather(vae))]
    assert len(suggested) >= 5
    for command in suggested:
        program, name, *rest = shlex.split(command)
        assert program == "jensen"
        build_app(name).parse_args([name, *rest], exit_on_error=False, print_error=False)
    with pytest.raises(CycloptsError):  # the check can fail
        build_app("encode").parse_args(["encode", str(vae.path)], exit_on_error=False, print_error=False)
