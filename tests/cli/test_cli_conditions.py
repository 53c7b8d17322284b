"""Conditional runs at the command line: what the user says is what the model is told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from jensen.cli.beside import kept, told_before
from jensen.cli.conditions import class_number, condition_for, filled, part_shown
from jensen.cli.inputs import Inputs, conditioned, examples
from jensen.config import Config
from jensen.errors import DataError, JensenError
from jensen.training import Run, fit

if TYPE_CHECKING:
    from .conftest import Jensen, Said

NAMES = ("T-shirt/top", "trouser", "Bag", "bAg", "2", "0")


def trained(factory: pytest.TempPathFactory, **data: object) -> Path:
    """A conditional VAE, barely trained."""
    net = {"kind": "mlp", "width": 16}
    config = Config(
        data={"limit": 64, **data},
        model={"latent": 3, "net": net},
        train={"epochs": 1, "batch_size": 32, "accelerator": "cpu"},
    )
    return fit(config, factory.mktemp("runs") / "run", quiet=True).path


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, told their label."""
    return trained(tmp_path_factory, name="digits", condition="label")


@pytest.fixture(scope="module")
def properties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Circles, told where they are and how large."""
    return trained(tmp_path_factory, name="circles", condition="x,radius")


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, told their upper half."""
    return trained(tmp_path_factory, name="digits", condition="upper-half")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image of 8 x 8 pixels."""
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return path


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).astype(np.float32) / np.float32(255))[None, None]


def refused(said: Said) -> str:
    assert said.code == 2
    return said.err


def test_what_runs_are_told(labels: Path, properties: Path, halves: Path, digits: Path) -> None:
    kinds = [Run.open(run).told for run in (labels, properties, halves, digits)]
    assert kinds == ["label", "properties", "part", None]


def test_a_label_by_name_or_number(labels: Path) -> None:
    row = condition_for(Run.open(labels), label="3", n=2)
    assert row is not None
    assert row.tolist() == [[0.0] * 3 + [1.0] + [0.0] * 6] * 2
    assert class_number("trouser", NAMES) == class_number("TROUSER", NAMES) == class_number("1", NAMES) == 1
    assert class_number("2", NAMES) == 4  # a name before a number
    assert class_number("0", NAMES) == 5
    assert class_number("bAg", NAMES) == 3  # as written, before any case
    with pytest.raises(JensenError, match=r"no class 'BAG'; did you mean Bag\? one of"):
        class_number("BAG", NAMES)  # either of two
    with pytest.raises(JensenError, match="no class '6'; one of T-shirt/top, trouser"):
        class_number("6", NAMES)
    with pytest.raises(JensenError, match=r"did you mean trouser\?"):
        class_number("trousers", NAMES)
    with pytest.raises(JensenError, match=r"one of 0, 1, .* 9, ... 49 \(50 classes, or their numbers from 0\)"):
        class_number("-1", [str(number) for number in range(50)])


def test_attributes_are_given_in_their_own_units(properties: Path) -> None:
    run = Run.open(properties)
    data = run.data()
    place = int(data.test.indices[7])
    x, radius = (float(data.dataset.targets[name][place, 0]) for name in ("x", "radius"))
    row = condition_for(run, attributes=f"radius = {radius}, x={x}")
    expected = data.test.batch(torch.tensor([7])).condition
    assert row is not None
    assert expected is not None
    torch.testing.assert_close(row, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (None, r"is conditioned on x,radius: say their values, e.g. --attributes x=1\d.\d*,radius=\d"),
        ("x=1", "say also radius"),
        ("x=1,radius=1,x=2", "x is given twice"),
        ("x=1,radios=1", r"no 'radios'; did you mean radius\? \(choices: x, radius\)"),
        ("x=1,radius", "'radius' is no name=number"),
        ("x=nan,radius=1", "x should be a finite number, got 'nan'"),
        ("x=,radius=1", "x should be a finite number, got ''"),
    ],
)
def test_attributes_that_say_nothing(properties: Path, attributes: str | None, message: str) -> None:
    with pytest.raises(JensenError, match=message):
        condition_for(Run.open(properties), attributes=attributes)


def test_what_a_run_is_not_told(labels: Path, properties: Path, halves: Path, digits: Path, picture: Path) -> None:
    assert condition_for(Run.open(digits)) is None
    with pytest.raises(JensenError, match="is conditioned on nothing; leave --label out"):
        condition_for(Run.open(digits), label="3")
    with pytest.raises(JensenError, match="is conditioned on label; leave --attributes out"):
        condition_for(Run.open(labels), attributes="x=1")
    with pytest.raises(JensenError, match="is conditioned on upper-half; leave --label out"):
        condition_for(Run.open(halves), label="3")
    with pytest.raises(JensenError, match="which only examples or files can give"):
        condition_for(Run.open(halves))
    inputs = Inputs(torch.zeros(1, 8, 8), ["a"])
    with pytest.raises(JensenError, match="leave --other out"):
        conditioned(Run.open(labels), inputs, label="3", other=picture)


def test_a_run_trained_without_all_labels_need_not_be_told(labels: Path) -> None:
    run = Run.open(labels)
    data = run.config.data.model_copy(update={"labelled": 20})
    run = Run(run.path, run.config.model_copy(update={"data": data}))
    row = condition_for(run, n=2)
    assert row is not None
    assert torch.equal(row, torch.zeros(2, 10))


def test_examples_bring_their_own(labels: Path, halves: Path) -> None:
    run = Run.open(labels)
    inputs = examples(run, "test", [4, 2])
    assert inputs.condition is not None
    expected = load_digits().target[run.data().test.indices[[4, 2]]]
    assert inputs.condition.argmax(1).tolist() == expected.tolist()
    run = Run.open(halves)
    inputs = examples(run, "test", [4, 2])
    assert inputs.condition is not None
    assert torch.equal(inputs.condition[:, 0, :4], inputs.values[:, 0, :4])
    assert torch.equal(inputs.condition[:, 1], torch.cat([torch.ones(4, 8), torch.zeros(4, 8)]).expand(2, 8, 8))
    assert torch.equal(inputs.condition, part_shown(run, inputs.values))


def test_another_image_for_each_file_or_one_for_all(tmp_path: Path, labels: Path, picture: Path) -> None:
    run = Run.open(labels)
    (tmp_path / "run").mkdir()
    data = run.config.data.model_copy(update={"condition": "negative"})
    for name in ("data.yaml", "config.yaml"):
        text = (labels / name).read_text()
        (tmp_path / "run" / name).write_text(text.replace("condition_shape:\n- 10", "condition_shape:\n- 1\n- 8\n- 8"))
    run = Run(tmp_path / "run", run.config.model_copy(update={"data": data}))
    assert run.told == "image"
    inputs = Inputs(torch.zeros(3, 1, 8, 8), ["a", "b", "c"])
    one = conditioned(run, inputs, other=picture).condition
    assert one is not None
    assert torch.equal(one, pixels(picture).expand(3, 1, 8, 8))
    np.save(tmp_path / "two.npy", np.zeros((2, 8, 8)))
    with pytest.raises(DataError, match="holds 2 images for 3 files"):
        conditioned(run, inputs, other=tmp_path / "two.npy")
    with pytest.raises(JensenError, match=r"another image of .*: give it with --other"):
        conditioned(run, inputs)


def test_visible_pixels_are_put_back(halves: Path, digits: Path) -> None:
    made, x = torch.full((2, 1, 8, 8), 0.5), torch.rand(2, 1, 8, 8)
    whole = filled(Run.open(halves), made, part_shown(Run.open(halves), x))
    assert torch.equal(whole[:, :, :4], x[:, :, :4])
    assert torch.equal(whole[:, :, 4:], made[:, :, 4:])
    assert torch.equal(filled(Run.open(digits), made, None), made)


def test_reconstruct_under_a_label(jensen: Jensen, labels: Path, picture: Path, tmp_path: Path) -> None:
    seen = []
    model = Run.open(labels).model()
    for label in (3, 8):
        out = tmp_path / f"{label}.npz"
        assert jensen("reconstruct", labels, picture, "--label", label, "-o", out).code == 0
        with np.load(out) as file:
            seen.append(file["reconstructions"])
        expected = model.reconstruct(pixels(picture), condition=torch.eye(10)[[label]])
        np.testing.assert_allclose(seen[-1], expected.numpy(), rtol=1e-5)
    assert not np.allclose(*seen)
    assert "say which with --label, one of 0, 1, 2" in refused(jensen("reconstruct", labels, picture))
    assert "--label, --attributes and --other are for files" in refused(jensen("reconstruct", labels, "--label", "3"))


@pytest.mark.parametrize("kind", ["labels", "properties", "halves"])
def test_round_trip_of_the_test_split(
    jensen: Jensen, request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    run = request.getfixturevalue(kind)
    codes, images = tmp_path / "codes.npz", tmp_path / "images.npz"
    said = jensen("encode", run, "--split", "test", "-o", codes)
    assert said.code == 0
    assert jensen("decode", run, codes, "-o", images).code == 0
    opened = Run.open(run)
    model, test = opened.model(), opened.data(transform="none").test
    batch = test.batch(torch.arange(len(test)))
    assert batch.condition is not None
    with torch.no_grad():
        z = model.encode(batch.x, condition=batch.condition)
        expected = filled(opened, model.decode(z, condition=batch.condition), batch.condition)
    with np.load(codes) as file:
        np.testing.assert_allclose(file["codes"], z.numpy(), rtol=1e-4, atol=1e-5)
        stored = {name: file[name] for name in file.files if name.startswith("conditions")}
    with np.load(images) as file:
        np.testing.assert_allclose(file["images"], expected.numpy(), rtol=1e-4, atol=1e-5)
    count, pixels = len(test), batch.x.numel() // len(test)
    form, size = {
        "labels": ((count,), count),
        "properties": ((count, 2), 8 * count),
        "halves": ((count, 1, 32), 32 * count + 1),
    }[kind]
    assert stored["conditions"].shape == form
    assert stored["conditions"].dtype == (np.float32 if kind == "properties" else np.uint8)
    assert torch.equal(told_before(opened, stored, codes, count), batch.condition)  # to the last bit
    rows = {line.split()[0]: line.split()[1] for line in said.out.splitlines()[1:]}
    assert rows["condition"] == f"{size:,}"
    assert float(rows["ratio"]) == pytest.approx(pixels * count / (12 * count + size), abs=0.006)
    mse = (batch.x - expected).square().mean().item()
    assert float(rows["PSNR"]) == pytest.approx(-10 * np.log10(mse), abs=0.02)


def test_whole_conditions_are_read_too(jensen: Jensen, halves: Path, labels: Path, tmp_path: Path) -> None:
    """As earlier versions wrote them: float32 as the model is told it."""
    for run in (halves, labels):
        new, old, codes = tmp_path / "new.npz", tmp_path / "old.npz", tmp_path / "codes.npz"
        assert jensen("encode", run, "--split", "test", "-o", codes, "--force").code == 0
        opened = Run.open(run)
        test = opened.data(transform="none").test
        condition = test.batch(torch.arange(len(test))).condition
        assert condition is not None
        assert jensen("decode", run, codes, "-o", new, "--force").code == 0
        with np.load(codes) as file:
            np.savez(codes, codes=file["codes"], conditions=condition.numpy())
        assert jensen("decode", run, codes, "-o", old, "--force").code == 0
        with np.load(new) as one, np.load(old) as other:
            np.testing.assert_array_equal(one["images"], other["images"])


@pytest.mark.parametrize(
    ("values", "level"),
    [
        (torch.arange(256) / 255, 255),
        (torch.arange(17) / 16, 16),
        (torch.tensor([0.0, 1.0]), 1),
        (torch.rand(300, generator=torch.Generator().manual_seed(0)), None),
        (torch.tensor([0.0, 1 / 65535]), None),
    ],
)
def test_pixels_are_kept_as_bytes_only_where_nothing_is_lost(
    halves: Path, tmp_path: Path, values: torch.Tensor, level: int | None
) -> None:
    run = Run.open(halves)
    images = values.repeat(64)[: 64 * (len(values) // 2)].reshape(-1, 1, 8, 8)
    condition = part_shown(run, images)
    arrays = kept(run, condition)
    assert arrays["conditions"].dtype == (np.float32 if level is None else np.uint8)
    assert arrays.get("conditions_level") == level
    assert torch.equal(told_before(run, arrays, tmp_path / "codes.npz", len(images)), condition)


def test_far_attributes_are_warned_about(jensen: Jensen, properties: Path, tmp_path: Path) -> None:
    out = ("-n", "2", "--force", "-o", tmp_path / "a.npz")
    facts = Run.open(properties).facts
    away = (1000 - facts.condition_mean[0]) / facts.condition_sd[0]
    said = jensen("sample", properties, "--attribute", "x=1000,radius=5", *out)
    assert said.code == 0
    assert said.err.count("\n") == 1
    assert f"x=1000 is {away:.3g} standard deviations from {facts.condition_mean[0]:.3g}" in said.err
    assert "the model has seen nothing like it" in said.err
    usual = facts.condition_mean[0] + 3.9 * facts.condition_sd[0]
    assert jensen("sample", properties, "--attribute", f"x={usual},radius=5", *out).err == ""
    below = facts.condition_mean[0] - 4.1 * facts.condition_sd[0]
    assert "standard deviations" in jensen("sample", properties, "--attribute", f"x={below},radius=5", *out).err


def test_a_code_in_another_class(jensen: Jensen, labels: Path, picture: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes.npz"
    assert jensen("encode", labels, picture, "--label", "1", "-o", codes).code == 0
    assert jensen("decode", labels, codes, "--label", "7", "-o", tmp_path / "seven.npz").code == 0
    model = Run.open(labels).model()
    with torch.no_grad():
        z = model.encode(pixels(picture), condition=torch.eye(10)[[1]])
        expected = model.decode(z, condition=torch.eye(10)[[7]])
    with np.load(tmp_path / "seven.npz") as file:
        np.testing.assert_allclose(file["images"], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_codes_that_do_not_say_what_was_told(jensen: Jensen, labels: Path, halves: Path, tmp_path: Path) -> None:
    codes = tmp_path / "codes.npz"
    np.savez(codes, codes=np.zeros((2, 3), np.float32))
    out = ("-o", tmp_path / "out.npz", "--force")
    message = refused(jensen("decode", labels, codes, *out))
    assert "has no array 'conditions'" in message
    assert "or give --label" in message
    message = refused(jensen("decode", halves, codes, *out))
    assert "has no array 'conditions'" in message
    assert "--label" not in message
    assert jensen("decode", labels, codes, "--label", "2", *out).code == 0
    np.savez(codes, codes=np.zeros((2, 3), np.float32), conditions=np.zeros((3, 10)))
    assert "conditions of shape (3, 10)" in refused(jensen("decode", labels, codes, *out))
    np.savez(codes, codes=np.zeros((2, 3), np.float32), conditions=np.array([1, 10], np.uint8))
    assert "labels from 1 to 10, not of 10 classes" in refused(jensen("decode", labels, codes, *out))
    np.savez(codes, codes=np.zeros((2, 3), np.float32), conditions=np.zeros((2, 1, 32), np.uint8), conditions_level=0)
    assert "conditions_level should be a number from 1 to 255" in refused(jensen("decode", halves, codes, *out))
    np.savez(codes, codes=np.zeros((2, 3), np.float32), conditions=np.full((2, 10), np.nan))
    assert "conditions that are not finite" in refused(jensen("decode", labels, codes, *out))


def test_denoise_under_a_label(
    jensen: Jensen, tmp_path_factory: pytest.TempPathFactory, picture: Path, tmp_path: Path
) -> None:
    run = trained(tmp_path_factory, name="digits", condition="label", corruption="gaussian")
    assert jensen("denoise", run, "-n", "3").code == 0
    assert jensen("denoise", run, picture, "--label", "5", "-o", tmp_path / "clean").code == 0
    expected = Run.open(run).model().reconstruct(pixels(picture), condition=torch.eye(10)[[5]])[0, 0].numpy()
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "clean" / "a.png")) / 255, expected, atol=0.6 / 255)
    assert "--label" in refused(jensen("denoise", run, picture, "-o", tmp_path / "other"))


def test_an_unknown_label_is_guessed_for_the_code(jensen: Jensen, tmp_path: Path) -> None:
    config = Config(
        data={"name": "digits", "limit": 200, "condition": "label", "labelled": 20},
        model={"kind": "semi-supervised", "latent": 3, "net": {"kind": "mlp", "width": 16}},
        train={"epochs": 1, "batch_size": 32, "accelerator": "cpu"},
    )
    run = fit(config, tmp_path / "run", quiet=True)
    for split in ("test", "train"):
        codes, images = tmp_path / f"{split}.npz", tmp_path / f"{split}-images.npz"
        assert jensen("encode", run.path, "--split", split, "-o", codes).code == 0
        assert jensen("decode", run.path, codes, "-o", images).code == 0
        part = getattr(run.data(transform="none"), split)
        batch = part.batch(torch.arange(len(part)))
        model = run.model()
        with torch.no_grad():
            expected = torch.eye(10)[model.classify(batch.x).argmax(1)]
            expected[batch.condition.sum(1) == 1] = batch.condition[batch.condition.sum(1) == 1]
            restored = model.decode(model.encode(batch.x, condition=expected), condition=expected)
        with np.load(codes) as file:
            np.testing.assert_array_equal(file["conditions"], expected.argmax(1).numpy())
        with np.load(images) as file:
            np.testing.assert_allclose(file["images"], restored.numpy(), rtol=1e-4, atol=1e-5)
