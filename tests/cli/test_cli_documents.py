"""A run of documents through the commands: words rather than pictures of thousands of columns."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.conftest import Jensen

from jensen.cli.denoised import image_files
from jensen.cli.document_words import document_lines, perplexity
from jensen.errors import DataError

WORDS = [f"sea{place}" for place in range(10)] + [f"tax{place}" for place in range(10)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE of 120 documents that are about the sea or about taxes, but for a few words."""
    from jensen.cli import main

    folder, generator = tmp_path_factory.mktemp("documents"), np.random.default_rng(0)
    rates = np.where((np.arange(120) % 2)[:, None] == (np.arange(20) >= 10), 4.0, 0.1)
    counts = generator.poisson(rates) + (np.arange(20) == 0)
    rows, words = np.nonzero(counts)
    indptr = np.concatenate([[0], np.bincount(rows, minlength=120).cumsum()])
    np.savez(folder / "news.npz", indptr=indptr, indices=words, counts=counts[rows, words], vocab=np.array(WORDS))
    path = folder / "run"
    flags = ["--epochs", "8", "--latent", "2", "--net-width", "16", "--batch-size", "16", "--lr", "0.02"]
    assert main(["train", "--data", str(folder / "news.npz"), *flags, "--run", str(path)]) == 0
    return path


def topics(line: str) -> set[str]:
    """What the first few telling words of a line are about."""
    return {word[:3] for word in line.split()[1:6]}


def test_evaluate_says_how_well_words_are_predicted(run: Path, jensen: Jensen) -> None:
    said = jensen("evaluate", run, "--samples", "3")
    assert said.code == 0
    assert "perplexity" in said.out
    found = json.loads((run / "evaluation.json").read_text())["documents"]
    assert (found["documents"], found["samples"]) == (24, 50)
    assert found["perplexity"] == pytest.approx(np.exp(-found["bound"]))
    assert found["completion_perplexity"] < 16  # it has seen which half of the 20 words is used


def test_sample_lists_the_words_of_each_document(run: Path, jensen: Jensen, tmp_path: Path) -> None:
    said = jensen("sample", run, "--seed", "1")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert len(lines) == 10
    assert all(set(line.split()[1:]) <= set(WORDS) for line in lines)
    assert len({frozenset(topics(line)) for line in lines}) > 1
    assert jensen("sample", run, "--seed", "1", "-o", tmp_path / "new.txt").code == 0
    assert (tmp_path / "new.txt").read_text().splitlines() == lines
    assert jensen("sample", run, "-n", "3", "-o", tmp_path / "new.npz").code == 0
    arrays = np.load(tmp_path / "new.npz")
    assert arrays["vocab"].tolist() == WORDS
    np.testing.assert_allclose(arrays["values"].sum(1), 100, rtol=1e-4)
    said = jensen("sample", run, "-o", tmp_path / "new.png")
    assert said.code == 2
    assert ".txt" in said.err


def test_reconstruct_shows_the_words_of_both(run: Path, jensen: Jensen) -> None:
    *lines, last = jensen("reconstruct", run, "-n", "4").out.splitlines()
    assert len(lines) == 8
    assert "perplexity" in last
    for original, restored in zip(lines[::2], lines[1::2], strict=True):
        name, topic = original.split()[0], original.split()[-12][:3]
        assert name in restored
        assert "restored" in restored
        assert topic in restored


def test_report_names_alike_documents_and_draws_no_columns(run: Path, jensen: Jensen) -> None:
    (run / "evaluation.json").unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:  # the bar is told (done, total)
        told: list[tuple[int, int]] = []
        patch.setattr("jensen.cli.extras.progress", lambda _: nullcontext(lambda *moved: told.append(moved)))
        assert jensen("evaluate", run, "--samples", "2").code == 0
    assert told[-1] == (24, 24)
    assert jensen("report", run).code == 0
    page = (run / "report.html").read_text()
    assert "nearest training documents" in page
    assert "Perplexity" in page
    pictures = {path.stem for path in (run / "figures" / "report").iterdir()}
    assert not pictures & {"samples", "reconstructions"}
    section = page.split('id="documents"')[1].split("<pre>")[1].split("</pre>")[0]
    lines = section.splitlines()
    assert len(lines) == 6 * 4
    for query, first in zip(lines[::4], lines[2::4], strict=True):
        assert query.split()[0][:3] == first.split()[1][:3]  # the nearest is about the same
        assert 0.5 < float(first.split()[0]) <= 1


def test_words_that_training_never_saw_do_not_tell_most() -> None:
    from jensen.report.document_pictures import _shares

    shares = _shares(torch.tensor([98.0, 0.0]))
    assert shares.tolist() == pytest.approx([0.99, 0.01])


def test_hidden_files_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.png", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "more" / "deep").mkdir(parents=True)
    assert image_files([tmp_path]) == [tmp_path / "a.png"]
    with pytest.raises(DataError, match="sub-folders are not looked into"):
        image_files([tmp_path / "more"])


def test_lines_and_perplexity_of_documents_by_hand() -> None:
    counts = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    lines = document_lines(counts, ["a", "b", "c"], None, ["one", "three"]).splitlines()
    assert [line.split()[:2] for line in lines] == [["one", "a"], ["three", "b"]]
    assert perplexity(counts, torch.full((2, 3), 7.0)) == pytest.approx(3, rel=1e-5)
    assert perplexity(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 3.0]])) == pytest.approx(4, rel=1e-5)
