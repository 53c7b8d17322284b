"""Pictures of the levels of a deep VAE: what each carries, where its codes lie, and how many nats it says."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from jensen import plots
from jensen.autoencoders import DeepVAE
from jensen.metrics import Evaluation
from jensen.metrics.heldout import device_of
from jensen.metrics.levels import ACTIVE_KL, drawn_below
from jensen.report.html import Picture
from jensen.report.latent_pictures import information
from jensen.report.material import HeldOut, Material

__all__ = ["decoded_levels", "kl", "latent_space"]

ROWS = 5  # images; more where rows are low
SIGNALS = 6
COLUMNS = 8  # numbers of levels that are kept, of images
DRAWS = 8
TEMPERATURES = (1.0, 0.8, 0.6, 0.4)
READJUSTED = 10, 50  # batches, samples in each
MOST_NUMBERS_KEPT = 24  # of a line plot
DRAWN_AS_NOTHING = " A term below 0, as hvae may have, is drawn as 0; the height is then more than the rate."


def decoded_levels(material: Material, model: DeepVAE, held_out: HeldOut) -> list[Picture]:
    """What is decoded from some levels alone, and at several temperatures. Noise comes from torch's generator."""
    if material.predicts is not None:
        return []
    levels = len(model.level_shapes)
    found = [_temperatures(material, model, held_out)] if material.image else []
    if levels == 1:
        return found
    if material.image:
        return [*found, _carried(material, model, held_out), _shared(material, model, held_out)]
    if material.signal and not material.symbols:
        return [_carried_of_signals(material, model, held_out)]
    return [_restored(material, model, held_out)]


def _temperatures(material: Material, model: DeepVAE, held_out: HeldOut) -> Picture:
    places = held_out.of_different_classes(10)
    condition, names = held_out.told(places), list[str]()
    if condition is not None and material.told == "label":
        names = [material.run.facts.condition_names[int(each.argmax())] for each in condition]
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    seed, device = int(torch.randint(2**31, ())), device_of(model)
    rows = []
    for temperature in TEMPERATURES:
        batches, size = READJUSTED
        told = None if held_out.condition is None else held_out.condition[torch.randint(len(held_out.x), (size,))]
        with (
            model.readjusted(temperature, condition=told, n=size, batches=batches) if normalised else nullcontext(),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(seed)
            drawn = model.sample(len(places), temperature, condition)
        rows.append(held_out.filled(places, drawn))
    text = (
        "New images at several temperatures: at 0.6 every level is drawn from its prior with 0.6 of its standard "
        "deviation. The noise is the same down a column. Lower temperatures give more typical images, and fewer kinds."
    )
    if normalised:
        text += (
            " At each temperature batch normalisation has the statistics of samples at that temperature, not those of "
            "training."
        )
    if condition is not None:
        kept = "class" if material.told == "label" else "condition of one test example"
        text += f" All images of a column are told the same {kept}."
    return Picture(
        "temperatures",
        "Samples at several temperatures",
        text + _by_chance(material),
        f"{len(rows)} rows of {len(places)} images, a temperature a row.",
        plots.class_grid(
            torch.stack(rows),
            [f"temperature {temperature:g}" for temperature in TEMPERATURES],
            columns=names,
            title="One temperature a row, the same noise down a column",
        ),
    )


def _kept(model: DeepVAE, most: int) -> list[int]:
    """Numbers of top levels to keep, 1 to all of them, at most `most`."""
    return [place + 1 for place in plots.shown_levels(len(model.level_shapes), most)]


def _name(model: DeepVAE, top: int) -> str:
    levels = len(model.level_shapes)
    return f"all {levels}" if top == levels else f"top {top}"


def _which(model: DeepVAE, kept: list[int]) -> str:
    levels = len(model.level_shapes)
    return "" if len(kept) == levels else f" Of the {levels} levels, {', '.join(map(str, kept))} are kept."


def _carried(material: Material, model: DeepVAE, held_out: HeldOut) -> Picture:
    kept = _kept(model, COLUMNS)
    places = held_out.of_different_classes(ROWS if len(kept) < 6 else 8)
    made = {
        _name(model, top): held_out.filled(
            places, model.reconstruct(held_out.x[places], held_out.told(places), top=top)
        )
        for top in kept
    }
    return Picture(
        "levels",
        "What each level carries",
        "Each test image (framed) is encoded, and decoded from its top levels alone: the levels below take the mean of "
        "their prior, as if nothing more were known. What changes from one column to the next is what the level that "
        f"joins carries; where nothing changes, it carries nothing.{_which(model, kept)}{_by_chance(material)}",
        f"{len(places)} rows, each a test image and its reconstructions from {len(kept)} numbers of top levels.",
        plots.top_levels(held_out.target[places], made, title="Test images, decoded from their top levels"),
    )


def _shared(material: Material, model: DeepVAE, held_out: HeldOut) -> Picture:
    kept = [top for top in _kept(model, 5) if top < len(model.level_shapes)]
    places = held_out.of_different_classes(max(2, 6 // len(kept)))
    x, told = (
        None if values is None else values.repeat(DRAWS, *[1] * (values.ndim - 1))
        for values in (held_out.x[places], held_out.told(places))
    )
    assert x is not None
    drawn = {}
    for top in kept:
        made = model.reconstruct(x, told, top=top, temperature=1.0).unflatten(0, (DRAWS, len(places)))
        drawn[_name(model, top)] = held_out.filled(places, made)
    return Picture(
        "levels-shared",
        "Images that share their top levels",
        "The top levels are those of a test image (framed), the levels below are drawn from their prior: what all "
        "images of a row have in common is what the top levels fix, and what differs is left to those below."
        f"{_which(model, kept)}{_by_chance(material)}",
        f"{len(places)} blocks of {len(kept)} rows, each a test image and {DRAWS} draws that share its top levels.",
        plots.drawn_below(held_out.target[places], drawn, title="Top levels of a test image, the others drawn"),
    )


def _carried_of_signals(material: Material, model: DeepVAE, held_out: HeldOut) -> Picture:
    places, kept = held_out.of_different_classes(SIGNALS), _kept(model, 5)
    x, told = held_out.x[places], held_out.told(places)
    made = {_name(model, top): model.reconstruct(x, told, top=top) for top in kept}
    return Picture(
        "levels",
        "What each level carries",
        "Each test example is encoded, and decoded from its top levels alone: the levels below take the mean of their "
        "prior, as if nothing more were known. What changes from one column to the next is what the level that joins "
        f"carries.{_which(model, kept)}{_by_chance(material)}",
        f"Line plots of {len(places)} test examples and what {len(kept)} numbers of top levels give back.",
        plots.top_levels_of_signals(held_out.target[places], made, title="Test examples, decoded from top levels"),
    )


def _restored(material: Material, model: DeepVAE, held_out: HeldOut) -> Picture:
    """Of tables the variance, of texts the characters, that the top levels give back."""
    kept = [0, *_kept(model, MOST_NUMBERS_KEPT)]
    target = held_out.target.flatten(1)
    made = [model.reconstruct(held_out.x, held_out.condition, top=top).flatten(1) for top in kept]
    if material.symbols:
        scores = torch.stack([(each == target).double().mean()[None] for each in made])
        unit, words = "share of characters", "the share of characters that are as they were"
    else:
        spread = (target - target.mean(0)).double().square().sum(0)
        varies = spread > 0
        if not bool(varies.any()):
            return Picture("levels", "What each level carries", "No column of the test examples varies.")
        lost = torch.stack([(each - target).double().square().sum(0) for each in made])
        scores = 1 - lost[:, varies] / spread[varies]
        unit, words = "R²", "R² of each column, 1 where it is restored exactly, and 0 for the column's mean"
    return Picture(
        "levels",
        "What each level carries",
        f"{len(target):,} test examples are encoded, and decoded from their top levels alone; the levels below take "
        f"the mean of their prior. Drawn is {words}: where the line rises, the level that joins carries something. "
        "With no level kept the prior's means are decoded for every example.",
        f"Lines of {unit} over the number of top levels that are kept.",
        plots.explained_by_top(scores, kept=kept, unit=unit),
    )


def latent_space(material: Material, model: DeepVAE, held_out: HeldOut) -> Picture:
    """Where the codes of test data lie, level by level."""
    levels, count = len(model.level_shapes), len(held_out.codes)
    part = f"{count:,} of {held_out.total:,}" if count < held_out.total else f"{count:,}"
    coloured = "coloured by class" if held_out.labels is not None else "a point each"
    if held_out.labels is not None and material.told is None and material.predicts is None:
        coloured += ", which the model was not told"
    text = (
        f"The codes of {part} test examples, {coloured}: the means of q, a panel a level, on the walk down that takes "
        "the mean at every level. Of levels with more than two latents the first two principal components are drawn, "
        "so classes that overlap here may be apart elsewhere. "
    )
    if material.told == "label":
        text += "The model knows the class at every level, so a code has no need to say it."
    else:
        text += "A level in which classes keep apart says what kind of thing is seen; one in which they mix, the rest."
    text += " Each panel has its own scale: a level that is not used is a small cloud near its prior's mean."
    return Picture(
        "latent-space",
        "Latent space, level by level",
        text,
        f"Scatter plots of the codes of {count} test examples at {levels} level{'s' * (levels > 1)}, or some of them.",
        plots.latent_levels(
            model.levels_of(held_out.codes),
            held_out.labels,
            held_out.class_names if held_out.labels is not None else (),
            title="Codes of test examples",
        ),
    )


def kl(material: Material, model: DeepVAE, held_out: HeldOut, evaluation: Evaluation | None) -> list[Picture]:
    """How much each level says, of test data and over training."""
    assert held_out.kl is not None
    nats = information(held_out.kl, evaluation)
    of_levels = _sums(model, nats)
    note = drawn_below(model.kind, len(of_levels))
    found = [
        Picture(
            "kl",
            "KL per level",
            "How much each level says about an example beyond what the levels above it said: the KL of q from its "
            "prior, in nats. A level near 0 is not used. A latent is active if its own KL is above "
            f"{ACTIVE_KL} nats on average.{note and ' ' + note}",
            f"Bar chart of the KL divergence of {len(of_levels)} levels.",
            plots.kl_of_levels(
                of_levels, _sums(model, (nats > ACTIVE_KL).double()), [z.numel() for z in _of_one(model)]
            ),
        )
    ]
    if any("/kl_level_" in name for name in material.history):
        found.append(
            Picture(
                "kl-training",
                "KL per level over training",
                "The same while the model was trained, one level on the other, so that the height of all is the rate. "
                "A level that thins out to nothing early seldom comes back; a KL weight that rises slowly from 0"
                f"{'' if note else ', free bits'} and batch normalisation help to keep it.{note and DRAWN_AS_NOTHING}",
                f"Stacked areas of the KL of {len(of_levels)} levels over epochs.",
                plots.kl_of_levels_over_training(material.history),
            )
        )
    return found


def _of_one(model: DeepVAE) -> list[Tensor]:
    return model.levels_of(torch.zeros(model.latent))


def _sums(model: DeepVAE, values: Tensor) -> Tensor:
    """Sum over the latents of each level, (levels,), the top first."""
    return torch.stack([level.sum() for level in model.levels_of(values)])


def _by_chance(material: Material) -> str:
    return " Each is a draw from p(x | z), so that images also differ by chance." if material.draws_values else ""
