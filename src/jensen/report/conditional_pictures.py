"""Samples of a model that is told something: a class a row, data like a test example, the hidden part filled in."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen import plots
from jensen.report.generate import fill_in, samples_by_row
from jensen.report.html import Picture
from jensen.report.material import HeldOut, Material

__all__ = ["conditional_samples"]

COLUMNS = 10
EXAMPLES = 6
FILLED = 6
AVERAGED = 100
ROWS_OF_A_TABLE = 1_000
MOST_CLASSES = 20
MOST_COLOURS = 6  # histograms over each other that the eye can tell apart


def conditional_samples(material: Material, held_out: HeldOut | None) -> Picture:
    """What the model draws, in the way that suits what it is told. Noise comes from torch's global generator."""
    if material.told == "label" and material.image:
        return _by_class(material)
    if held_out is None or held_out.condition is None:
        text = "The data could not be found, and so nothing that the model could be told."
        return Picture("samples", "Samples", text)
    if material.told == "part":
        return _filled_in(material, held_out, held_out.condition)
    if material.image:
        return _like_examples(material, held_out, held_out.condition)
    return _table(material, held_out, held_out.condition)


def _prior(material: Material) -> str:
    learned = material.run.config.model.prior == "learned"
    return "the learned prior p(z | c)" if learned else "N(0, I)"


def _by_class(material: Material) -> Picture:
    names = material.run.facts.condition_names[:MOST_CLASSES]
    every = torch.eye(len(material.run.facts.condition_names))[: len(names)]
    drawn = samples_by_row(material.model, every, COLUMNS, seed=int(torch.randint(2**31, ())))
    rest = len(every[0]) - len(names)
    text = (
        f"New images, a class a row: the model is told the class, and z is drawn from {_prior(material)} (the mean of "
        "p(x | z, class) is shown). Down a column the noise of z is the same, so a column should keep its style while "
        "the class changes."
    )
    if rest:
        text += f" The first {len(names)} of {len(every[0])} classes are shown."
    return Picture(
        "samples",
        "Samples of each class",
        text,
        f"{len(names)} rows of {COLUMNS} decoded images, a class a row.",
        plots.class_grid(drawn, names, title="One class a row, one z a column"),
    )


def _like_examples(material: Material, held_out: HeldOut, condition: Tensor) -> Picture:
    count = min(EXAMPLES, len(condition))
    drawn = samples_by_row(material.model, condition[:count], COLUMNS - 1, seed=int(torch.randint(2**31, ())))
    told = ", ".join(material.run.facts.condition_names)
    return Picture(
        "samples",
        "Samples under the condition of test examples",
        f"Each row: the model is told {told} of the test image at the left (framed), not the image, and z is drawn "
        f"from {_prior(material)}. What it was told should agree along the row; all else may differ. Down a column the "
        "noise of z is the same.",
        f"{count} rows, each a test image followed by {COLUMNS - 1} decoded images.",
        plots.neighbours(held_out.clean[:count], drawn.transpose(0, 1), title=f"New images, told {told}"),
    )


def _filled_in(material: Material, held_out: HeldOut, condition: Tensor) -> Picture:
    count = min(EXAMPLES, len(condition))
    drawn = fill_in(material.model, condition[:count], AVERAGED)
    asked = (material.run.config.data.condition or "").replace("-", " ")
    return Picture(
        "samples",
        "The hidden part, filled in",
        f"The model sees the {asked} of a test image, never the rest (tinted). Each sample is one draw of z from "
        f"{_prior(material)}, another one each, of which the mean of p(x | z, visible) is shown: grey where a pixel "
        "may be either, without the noise of single pixels. Visible pixels are shown as they are. Where the visible "
        f"part leaves open what the rest is, samples should differ; their mean (of {AVERAGED}) is the blur between the "
        "possibilities.",
        f"{count} rows: the visible part of a test image, {FILLED} images with the rest filled in, their mean, and the "
        "whole test image.",
        plots.inpainting(
            condition[:count], drawn[:FILLED], held_out.clean[:count], mean=drawn.mean(0), title="Test images"
        ),
    )


def _table(material: Material, held_out: HeldOut, condition: Tensor) -> Picture:
    places = torch.randint(len(condition), (ROWS_OF_A_TABLE,))
    drawn = material.model.sample(len(places), condition=condition[places])
    names = material.run.facts.condition_names
    if material.told == "label" and len(names) <= MOST_COLOURS:
        data_classes = condition.argmax(1) if held_out.labels is None else held_out.labels
        return Picture(
            "samples",
            "Samples of each class",
            f"New rows: the model is told the class, z is drawn from {_prior(material)} and decoded. Filled: test "
            "examples of the class; lines: samples that were told it. Means of p(x | z) are shown, so samples spread "
            "less than data by the noise that the likelihood would add.",
            "Histograms of data and samples of each class for each column.",
            plots.table_samples(
                held_out.clean, drawn, classes=(data_classes, condition[places].argmax(1)), class_names=names
            ),
        )
    return Picture(
        "samples",
        "Samples under the conditions of test examples",
        f"New rows: the model is told what it is told of a test example, z is drawn from {_prior(material)} and "
        "decoded. Means of p(x | z) are shown, so samples spread less than data by the noise that the likelihood would "
        "add.",
        "Histograms of data and samples for each column.",
        plots.table_samples(held_out.clean, drawn),
    )
