"""Pictures of sequences: signals as lines, texts as they are read."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from jensen import plots
from jensen.data import to_text
from jensen.report.choices import decoded, draws, learn_prior
from jensen.report.html import Picture
from jensen.report.material import HeldOut, Material

__all__ = ["reconstructed", "sampled"]

PAIRS = 8
SAMPLES = 10


def reconstructed(material: Material, held_out: HeldOut) -> Picture:
    """Test sequences beside what became of them."""
    originals, made = held_out.target[:PAIRS], held_out.decoded[:PAIRS]
    title, count = "Reconstructions beside originals", len(originals)
    if material.symbols:
        texts, again = (to_text(values, material.symbols) for values in (originals, made))
        right = sum(a == b for text, copy in zip(texts, again, strict=True) for a, b in zip(text, copy, strict=True))
        return Picture(
            "reconstructions",
            title,
            "Test texts, never seen in training, through the encoder and back; characters that differ are coloured. "
            f"Of these {originals.numel():,} characters {right:,} are as they were. ↵ is the end of a line."
            f"{_note(material)}",
            f"{count} test texts, each above what the model made of it.",
            plots.text_pairs(texts, again, title="Test texts"),
        )
    return Picture(
        "reconstructions",
        title,
        "Test examples, never seen in training, through the encoder and back: both lines should run together. "
        f"{_unit(material)}{_note(material)}",
        f"Line plots of {count} test examples, each with its reconstruction over it.",
        plots.signals(originals, made, title="Test examples"),
    )


def sampled(material: Material, held_out: HeldOut | None) -> Picture:
    """New sequences; of a model that is told something, each is told what a test example is."""
    condition, words = None, ""
    if material.told:
        if held_out is None or held_out.condition is None:
            text = "The data could not be found, and so nothing that the model could be told."
            return Picture("samples", "Samples", text)
        condition = held_out.condition[:SAMPLES]
        who = "the prior" if material.only_prior_told else "the model"
        words = f" For each, {who} is told what belongs to the test example of the same number."
    drawn = material.model.sample(SAMPLES if condition is None else len(condition), condition=condition)
    text = f"New {'texts' if material.symbols else 'sequences'}: {draws(material)}{decoded(material)}.{words}"
    if learn_prior(material):
        text += f" The pieces do not fit each other: `{learn_prior(material)}` learns which codes go together."
    if not material.symbols:
        text += f" {_unit(material)}"
    return Picture("samples", "Samples", text.rstrip(), f"{len(drawn)} samples.", _drawn(material, drawn))


def _drawn(material: Material, values: Tensor) -> Figure:
    if material.symbols:
        return plots.text_lines(to_text(values, material.symbols), title="New texts")
    return plots.signals(values, title="New sequences")


def _unit(material: Material) -> str:
    if material.run.facts.levels is not None:
        return ""
    return "Values are in standard deviations from the mean of their channel."


def _note(material: Material) -> str:
    return " What is decoded is one draw from p(x | z), value after value." if material.draws_values else ""
