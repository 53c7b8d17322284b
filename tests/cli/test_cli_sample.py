"""`jensen sample` and `jensen interpolate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from jensen import plots
from jensen.autoencoders import VAE
from jensen.training import Run

if TYPE_CHECKING:
    from .conftest import Jensen


def test_samples_are_those_of_python(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.npz"
    assert jensen("sample", digits, "-n", "5", "--temperature", "0.5", "--seed", "3", "-o", out).code == 0
    model = Run.open(digits).model()
    torch.manual_seed(3)
    with torch.no_grad():
        expected = model.sample(5, 0.5)
    with np.load(out) as file:
        np.testing.assert_array_equal(file["images"], expected.numpy())


def test_the_picture_goes_into_the_run_under_a_free_name(jensen: Jensen, digits: Path) -> None:
    first, second = jensen("sample", digits, "-n", "4"), jensen("sample", digits, "-n", "4")
    paths = [Path(said.out.strip().removeprefix("4 samples: ")) for said in (first, second)]
    assert paths[0] != paths[1]
    for path in paths:
        assert path.parent == digits / "figures"
        with Image.open(path) as image:
            assert min(image.size) > 50


def test_a_file_is_not_overwritten_without_force(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.png"
    out.write_text("precious")
    said = jensen("sample", digits, "-n", "4", "-o", out)
    assert said.code == 2
    assert "--force" in said.err
    assert out.read_text() == "precious"
    assert jensen("sample", digits, "-n", "4", "-o", out, "--force").code == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_an_autoencoder_has_nothing_to_sample_from(jensen: Jensen, plain: Path) -> None:
    said = jensen("sample", plain)
    assert said.code == 2
    assert said.err.startswith("jensen: error: an auto-encoder has no prior")
    assert said.err.count("\n") == 1
    assert not (plain / "figures" / "samples.png").exists()


def test_samples_of_a_table_are_in_its_own_units(jensen: Jensen, iris: Path, tmp_path: Path) -> None:
    from sklearn.datasets import load_iris

    assert jensen("sample", iris, "-n", "50", "-o", tmp_path / "a.npz").code == 0
    with np.load(tmp_path / "a.npz") as file:
        values = file["values"]
    table = load_iris().data
    assert values.shape == (50, 4)
    assert np.all(np.abs(values.mean(0) - table.mean(0)) < table.std(0))
    said = jensen("sample", iris, "-o", tmp_path / "a.png")
    assert said.code == 2
    assert "write .npz" in said.err


@pytest.mark.parametrize(
    ("flag", "value"), [("-n", "0"), ("--temperature", "-1"), ("--temperature", "nan"), ("--seed", "x")]
)
def test_wrong_numbers(jensen: Jensen, digits: Path, flag: str, value: str) -> None:
    said = jensen("sample", digits, flag, value)
    assert said.code == 2
    assert said.err.count("\n") == 1


def test_interpolate_between_places_and_files(jensen: Jensen, digits: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "mine.png")
    for path in ("linear", "spherical"):
        out = tmp_path / f"{path}.png"
        said = jensen("interpolate", digits, "0", tmp_path / "mine.png", "--steps", "5", "--path", path, "-o", out)
        assert said.code == 0
        with Image.open(out) as image:
            assert image.width > 3 * image.height  # 5 steps and 2 ends in a row


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0", "359"), "there is no example 359"),
        (("0", "one"), "'one' is neither a place in the split (0, 1, ...) nor an image file"),
        (("0", "none.png"), "none.png: no such file"),
        (("0",), "J is missing"),
        (("0", "1", "--steps", "1"), "should be at least 2"),
        (("0", "1", "--path", "crooked"), "linear"),
    ],
)
def test_wrong_walks(jensen: Jensen, digits: Path, arguments: tuple[str, ...], message: str) -> None:
    said = jensen("interpolate", digits, *arguments)
    assert said.code == 2
    assert message in said.err


def test_no_walk_where_nothing_is_drawn(jensen: Jensen, iris: Path, large: Path) -> None:
    assert "no walk to draw" in jensen("interpolate", iris, "0", "1").err
    assert "nothing to interpolate" in jensen("interpolate", large, "0", "1").err


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("run", ["labelled", "semi"])
def test_every_class_with_the_same_z_in_a_column(
    jensen: Jensen, run: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(run)
    said = jensen("sample", folder, "-n", "3", "--seed", "4", "-o", tmp_path / "a.npz")
    assert said.out == f"3 samples of each of 10 classes: {tmp_path / 'a.npz'}\n"
    found = arrays(tmp_path / "a.npz")
    assert found["labels"].tolist() == [label for label in range(10) for _ in range(3)]
    assert found["class_names"].tolist() == [str(label) for label in range(10)]
    model = Run.open(folder).model()
    images = torch.from_numpy(found["images"]).unflatten(0, (10, 3))
    # One z decodes to every row's images of a column: what Python makes of it under each label.
    torch.manual_seed(4)
    with torch.no_grad():
        expected = model.sample(3, condition=torch.eye(10)[7])
        torch.testing.assert_close(images[7], expected)
    assert not torch.equal(images[7], images[3])


def test_the_classes_that_were_asked_for(jensen: Jensen, labelled: Path, tmp_path: Path) -> None:
    assert jensen("sample", labelled, "-n", "2", "-o", tmp_path / "all.npz").code == 0
    every = arrays(tmp_path / "all.npz")["images"].reshape(10, 2, 1, 8, 8)
    for words in (("--label", "7", "--label", "3"), ("--label", "7, 3")):
        said = jensen("sample", labelled, "-n", "2", *words, "-o", tmp_path / "some.npz", "--force")
        assert said.out.startswith("2 samples of each of 2 classes")
        some = arrays(tmp_path / "some.npz")
        assert some["labels"].tolist() == [7, 7, 3, 3]
        np.testing.assert_array_equal(some["images"].reshape(2, 2, 1, 8, 8), every[[7, 3]])
    assert jensen("sample", labelled, "--label", "3", "-n", "5", "-o", tmp_path / "one.npz").out.startswith(
        "5 samples:"
    )


def test_pictures_say_what_they_show(
    jensen: Jensen,
    digits: Path,
    labelled: Path,
    semi: Path,
    told_circles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    titles: list[str] = []
    for name in ("image_grid", "class_grid", "walk"):
        original = getattr(plots, name)

        def drawn(*arguments: object, original: Any = original, **named: Any) -> object:
            titles.append(named["title"])
            return original(*arguments, **named)

        monkeypatch.setattr(plots, name, drawn)
    label = Run.open(labelled).data().test.labels[0]
    for number, (arguments, expected) in enumerate(
        [
            (("sample", digits), "64 samples"),
            (("sample", labelled, "-n", "3"), "3 samples of each of 10 classes"),
            (("sample", labelled, "-n", "3", "--label", "3"), "class 3"),
            (("sample", told_circles, "-n", "3", "--attribute", "x=10,radius=5"), "x = 10, radius = 5"),
            (("interpolate", digits, "0", "1"), "From test example 0 to test example 1, linear"),
            (("interpolate", labelled, "0", "1"), f"From test example 0 to test example 1, linear, told class {label}"),
            (("interpolate", semi, "0", "1"), "From test example 0 to test example 1, linear"),
            (
                ("interpolate", semi, "0", "1", "--label", "4"),
                "From test example 0 to test example 1, linear, told class 4",
            ),
        ]
    ):
        assert jensen(*arguments, "-o", tmp_path / f"{number}.png").code == 0
        assert titles[-1] == expected


def test_a_learned_prior_keeps_the_noise_and_takes_the_temperature(
    jensen: Jensen, learned: Path, tmp_path: Path
) -> None:
    assert jensen("sample", learned, "-n", "40", "--temperature", "0.001", "-o", tmp_path / "a.npz").code == 0
    images = torch.from_numpy(arrays(tmp_path / "a.npz")["images"]).unflatten(0, (10, 40))
    model = Run.open(learned).model()
    with torch.no_grad():
        centre = model.decode(model.prior(torch.eye(10)).mean, condition=torch.eye(10))
    # At no temperature all draws are the centre of p(z | c).
    torch.testing.assert_close(images, centre[:, None].expand_as(images), atol=5e-3, rtol=0)


def test_a_table_told_its_class(jensen: Jensen, told_iris: Path, tmp_path: Path) -> None:
    assert jensen("sample", told_iris, "--label", "Virginica", "-n", "6", "-o", tmp_path / "a.npz").code == 0
    found = arrays(tmp_path / "a.npz")
    assert found["values"].shape == (6, 4)
    assert found["labels"].tolist() == [2] * 6


def test_attributes_are_in_their_own_units(jensen: Jensen, told_circles: Path, tmp_path: Path) -> None:
    for name, words in (
        ("a", ("--attribute", "x=10", "--attribute", "radius=5")),
        ("b", ("--attributes", "radius=5,x=10")),
        ("c", ("--attribute", "x=18,radius=5")),
    ):
        assert jensen("sample", told_circles, *words, "-n", "4", "-o", tmp_path / f"{name}.npz").code == 0
    found = {name: arrays(tmp_path / f"{name}.npz") for name in "abc"}
    assert "labels" not in found["a"]
    np.testing.assert_array_equal(found["a"]["images"], found["b"]["images"])
    assert not np.array_equal(found["a"]["images"], found["c"]["images"])
    run = Run.open(told_circles)
    facts, train = run.facts, run.data().train
    own = run.data().dataset.targets
    rows = torch.cat([own["x"], own["radius"]], 1)[train.indices].double()
    standard = ((torch.tensor([10.0, 5.0]) - rows.mean(0)) / rows.std(0, correction=0)).float()
    assert facts.condition_names == ("x", "radius")
    torch.manual_seed(0)
    model = run.model()
    torch.manual_seed(0)
    np.testing.assert_allclose(found["a"]["images"], model.sample(4, condition=standard).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("run", "arguments", "message"),
    [
        ("labelled", ("--label", "12"), "there is no class '12'"),
        ("labelled", ("--label", "3", "--label", "3"), "3 is given twice"),
        ("labelled", ("--attribute", "x=3"), "is conditioned on label"),
        ("digits", ("--label", "3"), "is conditioned on nothing; leave --label out"),
        ("told_circles", (), "say their values, e.g. --attributes x="),
        ("told_circles", ("--attribute", "x=3"), "say also radius"),
        ("told_circles", ("--label", "small"), "is conditioned on x,radius"),
        ("upper", (), "`jensen inpaint"),
    ],
)
def test_wrong_conditions(
    jensen: Jensen, run: str, arguments: tuple[str, ...], message: str, request: pytest.FixtureRequest
) -> None:
    said = jensen("sample", request.getfixturevalue(run), *arguments)
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_walk_is_told_the_same_all_the_way(
    jensen: Jensen, labelled: Path, upper: Path, told_circles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[torch.Tensor] = []
    original = VAE.interpolate

    def interpolate(self: VAE, start: torch.Tensor, end: torch.Tensor, steps: int, path: str, condition: torch.Tensor):  # type: ignore[no-untyped-def]
        walked.append(condition)
        return original(self, start, end, steps, path, condition)

    monkeypatch.setattr(VAE, "interpolate", interpolate)
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / "mine.png")
    label = int(Run.open(labelled).data().test.labels[0])
    for number, (arguments, expected) in enumerate(
        [(("0", "1"), label), (("0", "1", "--label", "3"), 3), ((tmp_path / "mine.png", "0", "--label", "5"), 5)]
    ):
        assert jensen("interpolate", labelled, *arguments, "-o", tmp_path / f"{number}.png").code == 0
        assert walked[-1].tolist() == torch.eye(10)[expected].tolist()
    assert "say which with --label" in jensen("interpolate", labelled, tmp_path / "mine.png", "0").err
    assert "there is no walk between them" in jensen("interpolate", upper, "0", "1").err
    Image.fromarray(np.full((28, 28), 100, np.uint8)).save(tmp_path / "larger.png")
    assert "start from an example" in jensen("interpolate", told_circles, tmp_path / "larger.png", "0").err
