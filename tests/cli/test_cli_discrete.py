"""What the commands make of integer codes, of their prior, and of models without a code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml

from jensen.autoencoders import VQVAE
from jensen.cli import main
from jensen.data import to_text
from jensen.metrics import code_usage, evaluate
from jensen.training import PriorRun, Run

if TYPE_CHECKING:
    from .conftest import Jensen


SMALL = ("--model", "vqvae", "--quantiser-codes", "16", "--quantiser-dim", "4", "--net-width", "8", "--epochs", "1")
SMALL_PRIOR = ("--net-width", "8", "--net-depth", "1", "--epochs", "1")


def images(path: Path) -> np.ndarray:
    with np.load(path) as file:
        return np.array(file["images"])


def test_codes_of_the_prior_are_decoded(jensen: Jensen, drawing: Path, tmp_path: Path) -> None:
    flags = ("--temperature", "0.7", "--top-k", "5", "--top-p", "0.9", "--seed", "3")
    said = jensen("sample", drawing, "-n", "6", *flags, "-o", tmp_path / "a.npz")
    assert (said.code, said.err) == (0, "")
    model = Run.open(drawing).model()
    assert isinstance(model, VQVAE)
    assert model.code_prior is not None
    torch.manual_seed(3)
    with torch.no_grad():
        codes = model.code_prior.sample_codes(6, 0.7, top_k=5, top_p=0.9)
        np.testing.assert_allclose(images(tmp_path / "a.npz"), model.decode(codes).numpy(), atol=1e-6)
    # Of the most probable code alone all samples are the same.
    assert jensen("sample", drawing, "-n", "3", "--top-k", "1", "-o", tmp_path / "b.npz").code == 0
    made = images(tmp_path / "b.npz")
    np.testing.assert_allclose(made, made[:1].repeat(3, 0), atol=1e-6)


def test_uniform_codes_are_said_to_be(jensen: Jensen, codes: Path, tmp_path: Path) -> None:
    said = jensen("sample", codes, "-n", "4", "-o", tmp_path / "a.npz")
    assert said.code == 0
    assert said.err == (
        f"jensen: these are uniform codes, decoded; `jensen train prior --run {codes}` learns better ones\n"
    )
    model = Run.open(codes).model()
    torch.manual_seed(0)
    np.testing.assert_allclose(images(tmp_path / "a.npz"), model.sample(4).numpy(), atol=1e-6)


def test_the_prior_may_be_told_alone(jensen: Jensen, drawing_classes: Path, tmp_path: Path) -> None:
    for name, flags in (("three", ("--label", "3")), ("every", ()), ("again", ("--label", "3"))):
        assert jensen("sample", drawing_classes, "-n", "5", *flags, "-o", tmp_path / f"{name}.npz").code == 0
    assert images(tmp_path / "three.npz").shape == (5, 1, 8, 8)
    assert images(tmp_path / "every.npz").shape == (50, 1, 8, 8)
    np.testing.assert_array_equal(images(tmp_path / "three.npz"), images(tmp_path / "again.npz"))
    np.testing.assert_allclose(images(tmp_path / "three.npz"), images(tmp_path / "every.npz")[15:20], atol=1e-6)
    with np.load(tmp_path / "every.npz") as file:
        assert file["labels"].tolist() == np.arange(10).repeat(5).tolist()
    assert "there is no class '12'" in jensen("sample", drawing_classes, "--label", "12").err
    assert jensen("reconstruct", drawing_classes, "-o", tmp_path / "r.png").code == 0
    assert jensen("interpolate", drawing_classes, "0", "1", "-o", tmp_path / "w.png").code == 0


def test_model_and_prior_are_told_the_same(jensen: Jensen, told_codes: Path, tmp_path: Path) -> None:
    assert jensen("sample", told_codes, "-n", "2", "--label", "7", "-o", tmp_path / "a.npz").code == 0
    model = Run.open(told_codes).model()
    torch.manual_seed(0)
    expected = model.sample(2, condition=torch.tensor(7))
    np.testing.assert_allclose(images(tmp_path / "a.npz"), expected.numpy(), atol=1e-6)


def test_pixels_are_drawn_one_by_one(
    jensen: Jensen, pixels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[tuple[int, int]] = []

    @contextmanager
    def progress(label: str) -> Iterator[Any]:
        yield lambda done, total: moved.append((done, total))

    monkeypatch.setattr("jensen.cli.drawing.progress", progress)
    flags = ("-n", "3", "--label", "3", "--label", "5", "--top-k", "2", "--seed", "1")
    assert jensen("sample", pixels, *flags, "-o", tmp_path / "a.npz").code == 0
    assert [done for done, _ in moved] == sorted(done for done, _ in moved)
    assert moved[-1][0] == moved[-1][1] > 0
    model = Run.open(pixels).model()
    torch.manual_seed(1)
    expected = model.sample(3, condition=torch.tensor(5), top_k=2)  # type: ignore[call-arg]
    np.testing.assert_array_equal(images(tmp_path / "a.npz")[3:], expected.numpy())


def test_samples_of_text_are_text(jensen: Jensen, text: Path, tmp_path: Path) -> None:
    said = jensen("sample", text, "-n", "2")
    model = Run.open(text).model()
    torch.manual_seed(0)
    expected = to_text(model.sample(2), Run.open(text).facts.symbols)
    assert said.out == f"--- 1\n{expected[0]}\n--- 2\n{expected[1]}\n"
    assert jensen("sample", text, "-n", "2", "-o", tmp_path / "a.txt").out == f"2 samples: {tmp_path / 'a.txt'}\n"
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == said.out
    assert "should end in .txt or .npz" in jensen("sample", text, "-o", tmp_path / "a.png").err
    said = jensen("reconstruct", text, "-n", "1")
    assert said.out.startswith("--- test-00000\n")
    assert "\n--- test-00000, restored\n" in said.out
    assert "% of the symbols as they were" in said.out


@pytest.mark.parametrize(
    ("kind", "command", "message"),
    [
        ("codes", ("sample", "--top-k", "3"), "--top-k is about a learned prior, which"),
        ("codes", ("sample", "--top-p", "0.9"), "jensen train prior --run"),
        ("codes", ("sample", "--temperature", "0.9"), "--temperature is about a learned prior"),
        ("digits", ("sample", "--top-k", "3"), "--top-k is for the values of model autoregressive, or the codes that"),
        ("digits", ("sample", "--top-p", "0.9"), "--top-p is for the values of model autoregressive"),
        ("digits", ("sample", "--top-p", "0.9"), ", of model vae, draws neither"),
        (
            "pixel_vae",
            ("sample", "--top-k", "2"),
            "pixels are drawn one after the other too, but always from all values",
        ),
        ("drawing", ("sample", "--top-k", "0"), "for --top-k: should be at least 1"),
        ("drawing", ("sample", "--top-k", "17"), "--top-k 17: a code of "),
        ("drawing", ("sample", "--top-k", "17"), " takes 16 values, so give at most that"),
        ("pixels", ("sample", "--top-k", "300"), "--top-k 300: a value of "),
        (
            "drawing",
            ("sample", "--top-p", "1.5"),
            "for --top-p: a probability should be positive and at most 1, got 1.5",
        ),
        ("drawing", ("sample", "--top-p", "0"), "for --top-p: a probability should be positive"),
        ("drawing", ("sample", "--temperature", "0"), "for --temperature: a temperature should be positive, got 0"),
        ("digits", ("sample", "--temperature", "nan"), "for --temperature: a temperature should be positive, got nan"),
        (
            "upper",
            ("inpaint", "--temperature", "cold"),
            "for --temperature: a temperature should be a number, got 'cold'",
        ),
        ("drawing", ("sample", "--label", "3"), "is conditioned on nothing; leave --label out"),
        ("drawing", ("interpolate", "0", "1", "--path", "spherical"), "use linear"),
        ("drawing_classes", ("interpolate", "0", "1", "--label", "3"), "nothing but the draw of its codes"),
        ("drawing", ("inpaint",), "has no hidden part"),
        ("text", ("interpolate", "0", "1"), "no walk to draw"),
        ("text", ("denoise",), "nothing to denoise here"),
        ("pixels", ("encode", "--split", "test", "-o", "x.npz"), "has no code, so it cannot encode: `jensen sample"),
        ("pixels", ("decode", "x.npz", "-o", "x"), "has no code, so it cannot decode"),
        ("pixels", ("reconstruct",), "has no code, so it cannot reconstruct"),
        ("pixels", ("interpolate", "0", "1"), "has no code, so it cannot interpolate"),
        ("pixels", ("denoise", "--corruption", "gaussian"), "has no code, so it cannot denoise"),
        ("pixels", ("evaluate", "--information"), "has no code: --information is about latents"),
        ("pixels", ("evaluate", "--against", "{digits}"), "has no code: --against is about latents"),
        ("codes", ("evaluate", "--disentanglement"), "integers as codes, which name embeddings: --disentanglement"),
        ("drawing_classes", ("evaluate", "--classify"), "is not told a class, but for the draw of its codes"),
        ("plain", ("evaluate", "--quality"), "--quality needs a prior to draw from"),
        ("iris", ("evaluate", "--quality"), "--quality is about images that are drawn"),
        ("large", ("evaluate", "--quality"), "--quality is about images that are drawn"),
        ("without_classes", ("evaluate", "--quality"), "--quality needs labels"),
    ],
)
def test_what_has_no_meaning_is_told_in_a_line(
    jensen: Jensen, request: pytest.FixtureRequest, kind: str, command: tuple[str, ...], message: str
) -> None:
    name, *rest = (str(request.getfixturevalue(each[1:-1])) if each[0] == "{" else each for each in command)
    run = request.getfixturevalue(kind)
    said = jensen(name, run, *rest)
    assert said.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err


@pytest.fixture(scope="module")
def pixel_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE whose decoder draws one pixel after the other."""
    folder = tmp_path_factory.mktemp("runs") / "pixel-vae"
    net = ("--likelihood", "autoregressive", "--autoregressive-width", "8", "--autoregressive-depth", "1")
    assert main(["train", "--epochs", "1", "--limit", "64", "--latent", "2", *net, "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def without_classes(codes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of data without classes."""
    folder = tmp_path_factory.mktemp("runs") / "without-classes"
    shutil.copytree(codes, folder)
    facts = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump({**facts, "class_names": []}, explicit_end=True))
    return folder


def test_evaluation_has_the_use_of_codes(jensen: Jensen, drawing: Path) -> None:
    said = jensen("evaluate", drawing)  # 5,000 samples of what is a function of x would take minutes
    assert said.code == 0
    run = Run.open(drawing)
    expected = evaluate(run.model(), run.data().test)
    usage = code_usage(run.model(), run.data().test)
    assert usage.bits_per_dim_learned is not None
    for name, value, *_ in (*expected.table(), *usage.table()):
        assert any(line.startswith(name) and value in line for line in said.out.splitlines()), name
    found = json.loads((drawing / "evaluation.json").read_text())
    assert found["samples"] == 1
    section = found["code_usage"]
    assert section == {"split": "test", **json.loads(json.dumps(usage.to_dict())), "weights": section["weights"]}
    few = jensen("evaluate", drawing, "--examples", "10", "--json")
    assert json.loads(few.out)["code_usage"]["examples"] == 10


def test_the_label_of_the_bar_says_what_is_done(jensen: Jensen, codes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    @contextmanager
    def progress(label: str) -> Iterator[None]:
        said.append(label)
        yield None

    monkeypatch.setattr("jensen.cli.evaluate.progress", progress)
    assert jensen("evaluate", codes, "--examples", "20").code == 0
    assert said == ["bound, 20 examples"]


@pytest.mark.parametrize("kind", ["drawing_classes", "pixels", "digits"])
def test_quality_of_samples(
    jensen: Jensen, kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jensen.cli.extras.SAMPLES", 40)
    monkeypatch.setattr("jensen.metrics.classifier.EPOCHS", 1)
    monkeypatch.setattr("jensen.data.npz.cache_directory", lambda: tmp_path)
    drawn: list[torch.Tensor] = []
    from jensen import metrics

    original = metrics.generation_quality

    def quality(samples: torch.Tensor, *rest: Any, **named: Any) -> Any:
        drawn.append(samples)
        return original(samples, *rest, **named)

    monkeypatch.setattr(metrics, "generation_quality", quality)
    run = request.getfixturevalue(kind)
    said = jensen("evaluate", run, "--quality", "--samples", "1", "--examples", "20")
    assert said.code == 0, said.err
    found = json.loads((run / "evaluation.json").read_text())["quality"]
    assert (found["samples"], found["classes"], found["split"]) == (40, 10, "test")
    assert "Fréchet distance" in said.out
    assert list((tmp_path / "classifiers").iterdir())
    (samples,) = drawn
    assert samples.shape == (40, 1, 8, 8)
    binary = Run.open(run).config.data.transform == "binarise"
    assert bool(((samples == 0) | (samples == 1)).all()) == binary == (kind == "digits")


def test_classes_of_pixels(jensen: Jensen, pixels: Path) -> None:
    said = jensen("evaluate", pixels, "--classify", "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert found["classification"]["exact"] is True
    assert found["exact"] is True


def test_runs_tell_of_codes_and_prior(
    jensen: Jensen, codes: Path, drawing: Path, two_levels: Path, told_codes: Path, pixels: Path, tmp_path: Path
) -> None:
    for name, run in zip("abcde", (codes, drawing, two_levels, told_codes, pixels), strict=True):
        shutil.copytree(run, tmp_path / name)
    lines = jensen("runs", tmp_path).out.splitlines()[1:]
    for line, words in zip(
        lines,
        (
            "vqvae 4x4 of 16 ",
            "vqvae 4x4 of 16, prior 1 of 1 ",
            "vqvae 2x2 + 4x4 of 300 ",
            "vqvae 2x4x4 of 16, prior 1 of 1 ",
            "autoregressive pixelcnn ",
        ),
        strict=True,
    ):
        assert words in line
        assert line.endswith("finished")
    model = Run.open(two_levels).model()
    assert isinstance(model, VQVAE)
    assert model.code_shapes == ((1, 2, 2), (1, 4, 4))


def test_a_prior_of_other_weights_is_told(jensen: Jensen, drawing_classes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(drawing_classes, run)
    file = run / "prior" / "codes.yaml"
    lines = [
        line if not line.startswith("weights") else "weights: of-another" for line in file.read_text().splitlines()
    ]
    file.write_text("\n".join(lines))
    said = jensen("sample", run, "-n", "3", "-o", tmp_path / "a.npz")
    assert said.code == 0
    assert said.err.startswith("jensen: warning: codes are taken as uniform: ")
    assert said.err.count("\n") == 1
    assert "was fitted to the codes of other weights" in jensen("runs", tmp_path).out
    assert jensen("reconstruct", run, "-o", tmp_path / "a.png").err == ""
    said = jensen("sample", run, "--label", "3", "-o", tmp_path / "b.npz")
    assert said.code == 2
    assert said.err == (
        f"jensen: error: --label is for the prior, which was told label, but {run / 'prior'} was fitted to the codes "
        f"of other weights of the model: jensen train prior --run {run} --replace --condition label\n"
    )


def test_a_prior_that_was_stopped_is_told(
    jensen: Jensen, drawing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(drawing, tmp_path / "run")
    monkeypatch.setattr(PriorRun, "finished", property(lambda prior: False))
    said = jensen("runs", tmp_path)
    assert said.out.endswith(f"prior stopped: jensen train prior --resume {tmp_path / 'run'}\n")


def test_a_prior_that_is_told_properties(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    few = ("--data", "circles", "--limit", "64", *SMALL)
    assert jensen("train", *few, "--run", run).code == 0
    assert jensen("train", "prior", "--run", run, "--condition", "x,radius", *SMALL_PRIOR).code == 0
    assert "say their values, e.g. --attributes x=" in jensen("sample", run).err
    assert jensen("sample", run, "-n", "2", "--attribute", "x=10,radius=5", "-o", tmp_path / "a.npz").code == 0
    opened = Run.open(run)
    model, facts = opened.model(), opened.facts
    own = torch.tensor([10.0, 5.0], dtype=torch.float64)
    standard = (own - torch.tensor(facts.condition_mean)) / torch.tensor(facts.condition_sd)
    torch.manual_seed(0)
    expected = model.sample(2, condition=standard.float())
    np.testing.assert_allclose(images(tmp_path / "a.npz"), expected.numpy(), atol=1e-6)


def test_a_vqvae_fills_in(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert jensen("train", "--condition", "upper-half", "--limit", "64", *SMALL, "--run", run).code == 0
    said = jensen("inpaint", run, "-n", "2", "--samples", "3", "-o", tmp_path / "a.npz")
    assert said.code == 0
    assert said.err.startswith("jensen: these are uniform codes, decoded;")
    with np.load(tmp_path / "a.npz") as file:
        assert file["samples"].shape == (3, 2, 1, 8, 8)
        np.testing.assert_array_equal(
            file["samples"][:, :, :, :4], np.broadcast_to(file["truth"][:, :, :4], (3, 2, 1, 4, 8))
        )
    assert "train a prior first" in jensen("inpaint", run, "--temperature", "0.5", "-o", tmp_path / "b.npz").err


def test_a_report_at_the_end_of_training(jensen: Jensen, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert jensen("train", "--limit", "64", *SMALL, "--transform", "none", "--report", "--run", run).code == 0
    found = json.loads((run / "evaluation.json").read_text())
    assert found["code_usage"]["code_levels"] == 16
    assert (run / "report.html").is_file()
