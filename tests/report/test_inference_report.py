"""The page of a posterior says what it was given, whole, escaped, and loads nothing."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from jensen.report import Estimate, InferencePage, Picture, Row, write_inference_report
from jensen.report.inference import number


class Read(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def figure() -> Figure:
    drawn = Figure(figsize=(3, 2))
    drawn.add_subplot().plot([1, 2])
    return drawn


PAGE = InferencePage(
    title="faithful <b>",
    summary="A mixture.",
    facts=[Row("ELBO", "−1,234.50", "nats", "The bound.")],
    estimates=[Estimate("weights", "component 0", 0.25, 0.125, 0.5), Estimate("means", "a & b", -3.0, -4.5, -1.5)],
    level=0.9,
    everything="posterior.csv",
    pictures=[Picture("elbo", "The bound", "It rises.", "A curve that rises to the right.", figure())],
    notes=["It did not converge."],
    configuration="settings: {}\n",
    commands=[("Predict", "jensen infer predict runs/x")],
)


def test_everything_is_there(tmp_path: Path) -> None:
    path = write_inference_report(tmp_path, PAGE)
    assert path == tmp_path / "report.html"
    page = Read(path)
    for words in ("A mixture.", "ELBO −1,234.50 nats The bound.", "It did not converge.", "It rises.", "settings: {}"):
        assert words in page.text
    assert "component 0 0.2500 0.1250 to 0.5000" in page.text
    assert "a & b −3.000 −4.500 to −1.500" in page.text
    assert "90% interval" in page.text
    assert "jensen infer predict runs/x" in page.text
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["headline", "elbo", "posterior", "configuration", "next"]
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert [f"#{section}" for section in sections] == links


def test_pictures_are_in_the_page_and_files(tmp_path: Path) -> None:
    page = Read(write_inference_report(tmp_path, PAGE))
    (image,) = (attributes for tag, attributes in page.elements if tag == "img")
    content = base64.b64decode((image["src"] or "").partition(",")[2], validate=True)
    assert content == (tmp_path / "figures" / "report" / "elbo.png").read_bytes()
    assert image["alt"] == "A curve that rises to the right."


def test_an_animation_stands_as_it_is(tmp_path: Path) -> None:
    drawn = io.BytesIO()
    Image.new("P", (120, 40)).save(drawn, "GIF", save_all=True, append_images=[Image.new("P", (120, 40), 1)])
    picture = Picture("path", "On the way", "q moves.", "An animation of a moving ellipse.", gif=drawn.getvalue())
    page = Read(write_inference_report(tmp_path, replace(PAGE, pictures=[picture, *PAGE.pictures])))
    first, second = (attributes for tag, attributes in page.elements if tag == "img")
    kind, _, content = (first["src"] or "").partition(",")
    assert kind == "data:image/gif;base64"
    assert base64.b64decode(content) == drawn.getvalue() == (tmp_path / "figures" / "report" / "path.gif").read_bytes()
    assert first["width"] == "120"
    assert (second["src"] or "").startswith("data:image/png")


def test_names_are_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    page = Read(write_inference_report(tmp_path, PAGE))
    assert "faithful &lt;b&gt;" in page.source
    assert not re.search(r"https?://|@import|url\(", page.source)
    assert not {"script", "link", "iframe", "b"} & {tag for tag, _ in page.elements}


def test_of_a_long_table_the_first_rows_are_shown(tmp_path: Path) -> None:
    many = [Estimate("topics", f"word {place}", 0.1, 0.0, 0.2) for place in range(1_000)]
    page = Read(write_inference_report(tmp_path, replace(PAGE, estimates=many)))
    assert "The first 200 of 1,000 rows; all are in posterior.csv" in page.text
    assert "word 199" in page.text
    assert "word 200" not in page.text


def test_without_estimates_there_is_no_table(tmp_path: Path) -> None:
    page = Read(write_inference_report(tmp_path, replace(PAGE, estimates=[])))
    assert "posterior" not in [attributes.get("id") for tag, attributes in page.elements if tag == "section"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1234.5678, "1,235"),
        (-0.012347, "−0.01235"),
        (1e-6, "1.000e−06"),
        (3.2e9, "3.200e+09"),
        (9.9999, "10.000"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
    ],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_it_needs_nothing_that_trains_networks() -> None:
    code = (
        "import sys; from jensen.report import write_inference_report; "
        "print(*sorted({'lightning_fabric', 'jensen.training'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
