"""Words and numbers on the pages of models whose code is integers: advice, commands, rows and notes."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from page_parts import commands, drawn, opened, sampled

from jensen.metrics import code_usage, evaluate
from jensen.metrics.quality import GenerationQuality, Quality
from jensen.report import write_report
from jensen.report.further import further_notes, further_rows
from jensen.report.headline import headline, notes, summary
from jensen.training import Run

Runs = Callable[..., Run]


def test_what_only_the_prior_is_told_is_not_said_of_the_model(coded: Runs) -> None:
    material = opened(coded("images", prior=True, condition="label"))
    text = summary(material)
    assert text.startswith("A vector-quantised")
    assert "learned after it. This prior is told the class of each example, one of 10." in text
    assert not any("--classify" in command for command in commands(material))
    assert any("--classify" in command for command in commands(opened(coded("class", prior=True))))
    assert "(the mean of p(x | z) is shown)" in sampled(material).text


def test_commands_fit_what_there_is(coded: Runs) -> None:
    for run, prior in ((coded("images"), False), (coded("images", prior=True, condition="label"), True)):
        suggested = commands(opened(run))
        assert (f"jensen train prior --run {run.path}" in suggested) is not prior
        assert (f"jensen train prior --resume {run.path} --epochs 2" in suggested) is prior
        assert (f"jensen sample {run.path} --top-p 0.95" in suggested) is prior
        assert f"jensen evaluate {run.path} --samples 100 --quality" in suggested
        assert not any("spherical" in command or "--information" in command for command in suggested)
    for name in ("text", "waves"):
        assert not any("interpolate" in command or "--quality" in command for command in commands(opened(coded(name))))


def test_rows_say_what_the_numbers_are(coded: Runs, density: Runs, pixel_vae: Run) -> None:
    def rows(run: Run) -> dict[str, tuple[str, str]]:
        found = evaluate(run.model(), run.data().test, samples=2)
        assert all(note in notes(opened(run), found) for note in found.notes)
        return {row.name: (row.value, row.meaning) for row in headline(found, opened(run))}

    uniform = rows(coded("images"))
    assert uniform["Rate"][0] == f"{16 * math.log(16):.2f}"
    assert "the same for every example" in uniform["Rate"][1]
    assert "more draws add nothing" in uniform["ELBO"][1]
    assert uniform["ELBO"][1].startswith("A lower bound")
    assert {"Importance-weighted log-likelihood", "Active units", "Values right"}.isdisjoint(uniform)
    assert "under the learned prior" in rows(coded("levels", prior=True))["Rate"][1]
    text = rows(coded("text"))
    assert text["Symbols right"][0].endswith("%")
    assert "for each symbol" in text["Bits per dimension"][1]
    exact = rows(density())
    assert list(exact) == ["Log-likelihood", "Bits per dimension"]
    assert "exactly" in exact["Log-likelihood"][1]
    assert "Importance-weighted log-likelihood" in rows(pixel_vae)


def test_a_stale_prior_is_left_out_and_said_to_be(coded: Runs, tmp_path: Path) -> None:
    run = Run.open(shutil.copytree(coded("images", prior=True, condition="label").path, tmp_path / "a run"))
    facts = run.path / "prior" / "codes.yaml"
    facts.write_text(yaml.safe_dump({**yaml.safe_load(facts.read_text()), "weights": "others"}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write_report(run).read_text(encoding="utf-8")
        material = opened(run)
    assert "The prior over the codes is left out" in page
    assert "of other weights" in page
    found = drawn(material)
    assert list(found) == ["curves", "reconstructions", "samples", "codes", "code-usage"]
    assert found["samples"].title == "Samples from uniform codes"
    assert "told the class" not in summary(material)
    assert f"jensen train prior --run '{run.path}' --replace --condition label" in commands(material)
    (run.path / "prior" / "metrics.csv").unlink()  # not even an epoch behind it: to be replaced all the same
    assert f"jensen train prior --run '{run.path}' --replace --condition label" in commands(opened(run))


def test_measurements_of_codes_and_samples_stand_in_the_table(
    coded: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jensen.report.page.pictures", lambda material, evaluation: [])
    run = Run.open(shutil.copytree(coded("levels", prior=True).path, tmp_path / "run"))
    model, test = run.model(), run.data().test
    usage = replace(code_usage(model, test), warnings=["Something is amiss."])
    real = Quality(100, 1.25, -0.0011, 0.0002, 0.875, 2.25)
    made = GenerationQuality(33.25, 0.0456, 0.0003, 0.625, 1.75, real, 1_000, 300, 10, 0.9375)
    more = {name: {"split": "test", **found.to_dict()} for name, found in (("code_usage", usage), ("quality", made))}
    base = evaluate(model, test).to_dict()
    (run.path / "evaluation.json").write_text(json.dumps({"split": "test", **base, **more}))
    page = write_report(run).read_text(encoding="utf-8")
    rows = {row.name: row for row in further_rows(more)}
    assert all(f">{name}<" in page for name in rows)
    assert rows["Codes used, top level"].value == f"{usage.levels[0].used} of 16"
    assert f"{usage.levels[1].perplexity:.1f} equally frequent" in rows["Codes used, bottom level"].meaning
    assert usage.bits_per_dim_learned is not None
    for kind, bits in (("learned prior", usage.bits_per_dim_learned), ("by frequency", usage.bits_per_dim_empirical)):
        assert rows[f"Bits of the code, {kind}"].value == f"{bits:.4f}"
    for name, value, of_real in (
        ("Fréchet distance", "33.25", "1.25"),
        ("Kernel distance", "0.0456 ± 0.0003", "−0.0011 ± 0.0002"),
        ("Confidence", "62.5%", "87.5%"),
        ("Diversity", "1.75", "2.25"),
    ):
        assert rows[name].value == value
        assert f"{of_real}." in rows[name].meaning
    assert "Something is amiss." in page
    assert further_notes({"code_usage": {"warnings": None}, "quality": 3}) == []
