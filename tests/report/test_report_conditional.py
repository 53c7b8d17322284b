"""Pages of runs that are told something, and of those whose data have known factors."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
import torch

from jensen.cli.app import build_app
from jensen.cli.sample import sample
from jensen.errors import JensenError
from jensen.metrics import evaluate
from jensen.metrics.classification import classify
from jensen.metrics.disentanglement import encode_pool, evaluate_disentanglement, mig
from jensen.metrics.information import information
from jensen.plots import png
from jensen.report import page as page_module
from jensen.report import write_report
from jensen.report.conditional_pictures import conditional_samples
from jensen.report.factor_pictures import factors
from jensen.report.further import MEASUREMENTS, further_rows
from jensen.report.generate import fill_in
from jensen.report.headline import headline, summary
from jensen.report.html import Picture
from jensen.report.material import Material, gather
from jensen.report.pictures import pictures
from jensen.training import Run

SECTIONS = ["curves", "reconstructions", "samples", "neighbours", "latent-space", "walk", "kl", "traversals"]


def drawn(run: Run) -> dict[str, Picture]:
    """Every picture of a run's page."""
    with torch.no_grad():
        return {picture.name: picture for picture in pictures(gather(run), None)}


@pytest.mark.parametrize(
    ("kind", "sections", "words"),
    [
        ("told_class", SECTIONS, "a class a row"),
        ("semi", SECTIONS, "a class a row"),
        ("told_half", [name for name in SECTIONS if name != "walk"], "The model sees the left half"),
        ("told_properties", [*SECTIONS, "factors"], "told x, radius of the test image"),
    ],
)
def test_every_picture_is_drawn(kind: str, sections: list[str], words: str, request: pytest.FixtureRequest) -> None:
    found = drawn(request.getfixturevalue(kind))
    assert list(found) == sections
    assert all(picture.figure is not None and len(picture.alt) > 20 for picture in found.values())
    assert words in found["samples"].text


def test_samples_stand_in_rows_of_classes(told_class: Run) -> None:
    figure = drawn(told_class)["samples"].figure
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [str(label) for label in range(10)]
    assert len(figure.axes[0].images) == 100


def test_traversals_are_captioned_with_the_kl_of_each_latent(told_class: Run) -> None:
    held_out, found = gather(told_class).held_out, drawn(told_class)["traversals"]
    assert held_out is not None
    assert held_out.kl is not None
    assert found.figure is not None
    order = held_out.kl.argsort(descending=True).tolist()
    captions = [label.get_text() for label in found.figure.axes[0].get_yticklabels()]
    assert captions == [f"z{latent}, {held_out.kl[latent]:.2f} nats" for latent in order]


def test_what_was_visible_is_shown_as_it_was(told_half: Run) -> None:
    held_out = gather(told_half).held_out
    assert held_out is not None
    assert held_out.mask is not None
    hidden = (held_out.mask != 0).expand_as(held_out.decoded)
    shown = held_out.clean[: len(held_out.decoded)]
    assert torch.equal(held_out.decoded[~hidden], shown[~hidden])
    assert not torch.equal(held_out.decoded[hidden], shown[hidden])


@pytest.mark.parametrize("kind", ["told_class", "told_properties", "told_half", "told_table"])
def test_codes_and_reconstructions_are_those_under_the_condition(kind: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(kind)
    held_out, model = gather(run).held_out, run.model()
    assert held_out is not None
    assert held_out.condition is not None
    assert held_out.kl is not None
    batch = run.data(transform="none").test.batch(torch.arange(len(held_out.codes)))
    with torch.no_grad():
        output = model(batch.x, batch.target, condition=batch.condition, mask=batch.mask)
        torch.testing.assert_close(held_out.codes, model.encode(batch.x, condition=batch.condition))
    assert held_out.kl.sum().item() == pytest.approx(output.rate().mean().item(), rel=1e-5)


def test_unknown_labels_are_guessed(semi: Run) -> None:
    held_out, model = gather(semi).held_out, semi.model()
    assert held_out is not None
    assert held_out.condition is not None
    with torch.no_grad():
        guess = model.classify(held_out.x).argmax(1)
    assert torch.equal(held_out.condition.argmax(1), guess)
    assert torch.equal(held_out.condition.sum(1), torch.ones(len(guess)))


def test_the_walk_stays_within_a_class(told_class: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    material = gather(told_class)
    ends: list[torch.Tensor] = []
    original = type(material.model).interpolate

    def interpolate(self, start, end, *arguments, condition):  # type: ignore[no-untyped-def]
        ends.extend([start, end, condition])
        return original(self, start, end, *arguments, condition=condition)

    monkeypatch.setattr(type(material.model), "interpolate", interpolate)
    with torch.no_grad():
        pictures(material, None)
    test = told_class.data(transform="none").test
    assert test.labels is not None
    x = test.batch(torch.arange(len(test))).x
    places = [int((x == end).flatten(1).all(1).nonzero()[0]) for end in ends[:2]]
    assert places[0] != places[1]
    assert test.labels[places[0]] == test.labels[places[1]] == ends[2].argmax()


def test_the_title_of_a_walk_says_what_is_told(told_class: Run, told_properties: Run, vae: Run) -> None:
    held_out = gather(told_class).held_out
    assert held_out is not None
    assert held_out.labels is not None
    for run, said in (
        (told_class, f"another, told {held_out.labels[0]} all the way"),
        (told_properties, "another, told x, radius of the first all the way"),
        (vae, "another"),
    ):
        figure = drawn(run)["walk"].figure
        assert figure is not None
        assert figure.axes[0].get_title("left") == f"From one test image to {said}"


def test_a_learned_prior_is_said_to_know_what_was_told(told_class: Run, told_half: Run) -> None:
    for run, learned in ((told_class, True), (told_half, False)):
        found = drawn(run)
        assert ("there is no circle for it" in found["latent-space"].text) is learned
        assert ("beyond what the model was told" in found["kl"].text) is learned
    material = gather(told_class)
    assert material.train is not None
    labels = material.train.labels
    assert labels is not None
    split = replace(material.train, factors=labels[:, None], factor_names=("class",))
    assert "what it was told" in factors(material, split, torch.ones(3)).text


def test_classes_are_not_said_to_be_untold_where_they_may_follow(told_properties: Run, vae: Run) -> None:
    for run, said in ((told_properties, False), (vae, True)):
        assert ("which the model was not told" in drawn(run)["latent-space"].text) is said


def test_traversals_stand_beside_the_datum(told_properties: Run) -> None:
    held_out, figure = gather(told_properties).held_out, drawn(told_properties)["traversals"].figure
    assert held_out is not None
    assert figure is not None
    first = torch.tensor(figure.axes[0].images[0].get_array())
    torch.testing.assert_close(first.squeeze().float(), held_out.clean[0, 0])


def test_samples_of_a_hidden_part_differ_and_are_said_to_be_means(told_half: Run) -> None:
    held_out, found = gather(told_half).held_out, drawn(told_half)["samples"]
    assert held_out is not None
    assert held_out.condition is not None
    assert "the mean of p(x | z, visible) is shown" in found.text
    drawings = fill_in(told_half.model(), held_out.condition[:2], 2)
    assert not torch.equal(drawings[0], drawings[1])


def test_the_factor_matrix_is_that_of_mig(told_properties: Run) -> None:
    material = gather(told_properties)
    assert material.train is not None
    kl = torch.tensor([0.1, 3.0, 0.2])
    found = factors(material, material.train, kl)
    assert found.figure is not None
    pool = encode_pool(told_properties.model(), material.train)
    expected = mig(pool.codes, pool.factors)
    axes = found.figure.axes[0]
    shown = axes.images[0].get_array()
    assert axes.images[0].get_clim() == (0.0, expected.details["entropy"].max())
    torch.testing.assert_close(torch.tensor(shown), torch.tensor(expected.details["mutual_information"][[1, 2, 0]]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["z1", "z2", "z0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        f"{name}\nMIG {gap:.2f}"
        for name, gap in zip(material.train.factor_names, expected.details["gaps"], strict=True)
    ]
    assert f"Their mean is {expected.value:.2f}" in found.text


def test_a_table_is_drawn_under_its_conditions(told_table: Run) -> None:
    found = drawn(told_table)
    assert found["samples"].figure is not None
    assert "told" in found["samples"].text
    assert [text.get_text() for text in found["samples"].figure.legends[0].get_texts()] == [
        "setosa",
        "versicolor",
        "virginica",
    ]
    assert "traversals" not in found


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("told_class", "A conditional variational auto-encoder with"),
        ("told_class", "told the class of each example, one of 10, and its prior p(z | c) is learned"),
        ("semi", "A semi-supervised variational auto-encoder, with"),
        ("semi", "Of the 10 classes it knew 40 labels in training"),
        ("told_half", "told the left half of each image and fills in the rest"),
        ("told_properties", "told x and radius of each example"),
        ("told_properties", "beta-VAE (beta 2); beta × latents / values is 0.00765"),
        ("vae", "A variational auto-encoder, with"),
    ],
)
def test_the_summary_names_kind_condition_and_objective(kind: str, words: str, request: pytest.FixtureRequest) -> None:
    assert words.replace("encoder with", "encoder, with") in summary(gather(request.getfixturevalue(kind)))


@pytest.mark.parametrize("kind", ["told_class", "semi", "told_half", "told_properties", "told_table", "vae"])
def test_the_commands_that_it_suggests_are_commands(kind: str, request: pytest.FixtureRequest) -> None:
    suggested = [command for _, command in page_module._commands(gather(request.getfixturevalue(kind)))]
    for command in suggested:
        program, name, *rest = shlex.split(command)
        assert program == "jensen"
        build_app(name).parse_args([name, *rest], exit_on_error=False, print_error=False)
    assert any("jensen inpaint" in command for command in suggested) is (kind == "told_half")
    assert any("--disentanglement" in command for command in suggested) is (kind == "told_properties")
    assert any("--classify" in command for command in suggested) is (kind in ("told_class", "semi", "told_table"))


def test_the_bound_is_said_to_be_conditional(told_class: Run, vae: Run) -> None:
    for run, said in ((told_class, True), (vae, False)):
        rows = {row.name: row for row in headline(evaluate(run.model(), run.data().test, samples=1), gather(run))}
        assert ("given what the model is told" in rows["ELBO"].meaning) is said


def test_what_was_measured_beside_the_bound_stands_in_the_table(
    told_properties: Run, told_class: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jensen.report.page.pictures", lambda material, evaluation: [])
    model, train = told_properties.model(), told_properties.data().train
    of = information(model, train, codes=200)
    pool = encode_pool(model, train)
    scores = evaluate_disentanglement(pool.codes, pool.factors, train.factor_names)
    labels = classify(told_class.model(), told_class.data().valid, examples=20, samples=2)
    base = evaluate(model, told_properties.data().test, samples=1)
    more = {
        "information": of.to_dict(),
        "disentanglement": scores.to_dict(),
        "udr": {"value": 0.4567, "runs": ["a", "b", "c"]},
        "classification": labels.to_dict(),
    }
    assert set(more) == set(MEASUREMENTS) - {"code_usage", "quality", "documents"}  # which have tests of their own
    (told_properties.path / "evaluation.json").write_text(json.dumps({"split": "test", **base.to_dict(), **more}))
    text = write_report(told_properties).read_text(encoding="utf-8")
    for number in (f"{of.total_correlation:.2f} ±", f"{scores.values()['MIG']:.2f}", "0.46", f"{labels.accuracy:.1%}"):
        assert number.replace("-", "−") in text
    for name in ("Mutual information I(x; z)", "MIG", "UDR", "Bayes accuracy", "log p(x | class)"):
        assert f">{name}<" in text


def test_damaged_measurements_are_left_out() -> None:
    assert further_rows({"udr": {}, "information": 3, "disentanglement": None, "unknown": 1}) == []


def test_without_its_data_only_what_needs_none_is_drawn(told_class: Run, told_properties: Run) -> None:
    for run, image in ((told_class, True), (told_properties, False)):
        material: Material = replace(gather(run), held_out=None, train=None, missing="gone")
        with torch.no_grad():
            found = {picture.name: picture for picture in pictures(material, None)}
        assert list(found) == ["curves", "samples"]
        assert (found["samples"].figure is not None) is image


def test_the_same_seed_gives_the_same_samples_of_classes(told_class: Run) -> None:
    made, material = [], gather(told_class)
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        figure = conditional_samples(material, material.held_out).figure
        assert figure is not None
        made.append(png(figure))
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_a_run_told_another_image_is_sampled_under_those_of_test_examples(told_image: Run) -> None:
    material = gather(told_image)
    assert material.told == "image"
    assert material.held_out is not None
    assert material.held_out.condition is not None
    torch.testing.assert_close(material.held_out.condition, material.held_out.clean.flip(3))
    found = drawn(told_image)
    assert list(found) == SECTIONS
    assert "told mirrored of the test image" in found["samples"].text
    assert "told another image of each example, “mirrored”" in summary(material)
    assert not any("jensen sample" in command for _, command in page_module._commands(material))
    with pytest.raises(JensenError, match="which words cannot give"):
        sample(told_image.path)
