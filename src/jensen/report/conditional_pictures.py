"""Samples of a model that is told something: a class a row, data like a test example, the hidden part filled in."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen import plots
from jensen.autoencoders import VAE, VQVAE, DeepVAE
from jensen.report.choices import decoded, draws, learn_prior
from jensen.report.generate import fill_in, samples_by_row
from jensen.report.html import Picture
from jensen.report.material import HeldOut, Material
from jensen.report.sequence_pictures import sampled
from jensen.report.table_pictures import drawn_rows, spread, table_samples

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
    if material.signal:
        return sampled(material, held_out)
    if held_out is None or held_out.condition is None:
        text = "The data could not be found, and so nothing that the model could be told."
        return Picture("samples", "Samples", text)
    if material.told == "part":
        return _filled_in(material, held_out, held_out.condition)
    if material.image:
        return _like_examples(material, held_out, held_out.condition)
    return _table(material, held_out, held_out.condition)


def _who(material: Material) -> str:
    return "the prior over the codes" if material.only_prior_told else "the model"


def _down_a_column(material: Material) -> str:
    """What samples of one column share, if that can be seen; after a space."""
    if isinstance(material.model, VAE | DeepVAE):
        same = "noise of z"
    elif isinstance(material.model, VQVAE) and material.model.code_prior is None:
        same = "code"
    else:
        return ""
    return f" Down a column the {same} is the same"


def _in_columns(material: Material) -> str:
    if isinstance(material.model, VAE):
        return ", one z a column"
    return ", the same noise down a column" if isinstance(material.model, DeepVAE) else ""


def _pieces(material: Material) -> str:
    """What to do where codes are uniform, after a space."""
    command = learn_prior(material)
    return f" The pieces do not fit each other: `{command}` learns which codes go together." if command else ""


def _by_class(material: Material) -> Picture:
    names = material.run.facts.condition_names[:MOST_CLASSES]
    every = torch.eye(len(material.run.facts.condition_names))[: len(names)]
    drawn = samples_by_row(material.model, every, COLUMNS, seed=int(torch.randint(2**31, ())))
    rest = len(every[0]) - len(names)
    text = (
        f"New images, a class a row: {_who(material)} is told the class, and {draws(material)}"
        f"{decoded(material, 'class')}."
    )
    if same := _down_a_column(material):
        text += f"{same}, so a column should keep its style while the class changes."
    text += _pieces(material)
    if rest:
        text += f" The first {len(names)} of {len(every[0])} classes are shown."
    return Picture(
        "samples",
        "Samples of each class",
        text,
        f"{len(names)} rows of {COLUMNS} decoded images, a class a row.",
        plots.class_grid(drawn, names, title=f"One class a row{_in_columns(material)}"),
    )


def _like_examples(material: Material, held_out: HeldOut, condition: Tensor) -> Picture:
    count = min(EXAMPLES, len(condition))
    drawn = samples_by_row(material.model, condition[:count], COLUMNS - 1, seed=int(torch.randint(2**31, ())))
    told = ", ".join(material.run.facts.condition_names)
    return Picture(
        "samples",
        "Samples under the condition of test examples",
        f"Each row: {_who(material)} is told {told} of the test image at the left (framed), not the image, and "
        f"{draws(material)}. What it was told should agree along the row; all else may differ."
        f"{f'{same}.' if (same := _down_a_column(material)) else ''}{_pieces(material)}",
        f"{count} rows, each a test image followed by {COLUMNS - 1} decoded images.",
        plots.neighbours(held_out.clean[:count], drawn.transpose(0, 1), title=f"New images, told {told}"),
    )


def _filled_in(material: Material, held_out: HeldOut, condition: Tensor) -> Picture:
    count = min(EXAMPLES, len(condition))
    # Value after value takes long.
    drawn = fill_in(material.model, condition[:count], FILLED if material.draws_values else AVERAGED)
    asked = (material.run.config.data.condition or "").replace("-", " ")
    mean = None if material.draws_values else drawn.mean(0)
    grey = ": grey where a pixel may be either, without the noise of single pixels" if mean is not None else ""
    blur = f"; their mean (of {AVERAGED}) is the blur between the possibilities" if mean is not None else ""
    return Picture(
        "samples",
        "The hidden part, filled in",
        f"The model sees the {asked} of a test image, never the rest (tinted). In each sample {draws(material)}"
        f"{decoded(material, 'visible')}{grey}. Visible pixels are shown as they are. Where the visible part leaves "
        f"open what the rest is, samples should differ{blur}.{_pieces(material)}",
        f"{count} rows: the visible part of a test image, {FILLED} images with the rest filled in"
        f"{', their mean' if mean is not None else ''}, and the whole test image.",
        plots.inpainting(condition[:count], drawn[:FILLED], held_out.clean[:count], mean=mean, title="Test images"),
    )


def _table(material: Material, held_out: HeldOut, condition: Tensor) -> Picture:
    places = torch.randint(len(condition), (ROWS_OF_A_TABLE,))
    drawn = drawn_rows(material, len(places), condition[places])
    names = material.run.facts.condition_names
    if material.told == "label" and len(names) <= MOST_COLOURS:
        data_classes = condition.argmax(1) if held_out.labels is None else held_out.labels
        return Picture(
            "samples",
            "Samples of each class",
            f"New rows: the model is told the class, {draws(material)} and decoded. Filled: test "
            f"examples of the class; lines: samples that were told it.{spread(material)}",
            "Histograms of data and samples of each class for each column.",
            table_samples(
                material,
                held_out,
                drawn,
                classes=(data_classes, condition[places].argmax(1)),
                class_names=names,
            ),
        )
    return Picture(
        "samples",
        "Samples under the conditions of test examples",
        f"New rows: the model is told what it is told of a test example, {draws(material)} and "
        f"decoded.{spread(material)}",
        "Histograms of data and samples for each column.",
        table_samples(material, held_out, drawn),
    )
