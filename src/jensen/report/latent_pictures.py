"""Pictures of the latents: where the codes lie, how much each says, what it does, and which factor it knows."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen import plots
from jensen.autoencoders import VAE
from jensen.metrics import Evaluation
from jensen.metrics.evaluation import ACTIVE_VARIANCE
from jensen.report.generate import traverse
from jensen.report.html import Picture
from jensen.report.material import HeldOut, Material

__all__ = ["active_units", "information", "kl", "latent_space", "traversals"]

ROWS = 10


def latent_space(material: Material, held_out: HeldOut) -> Picture:
    """Where the codes of test data lie."""
    vae = held_out.kl is not None
    names = held_out.class_names if held_out.labels is not None else ()
    part = (
        f"{len(held_out.codes):,} of {held_out.total:,}"
        if len(held_out.codes) < held_out.total
        else f"{held_out.total:,}"
    )
    text = f"The codes of {part} test examples, {_coloured(material, held_out)}."
    if material.model.latent > 2:
        text += " Their first two principal components are drawn, so classes that overlap here may be apart elsewhere."
    standard = vae and material.run.config.model.prior == "standard"
    if standard:
        text += (
            " The circle holds 95% of the prior: where it is empty of codes, samples may look odd. Where codes lie so "
            "close together that it would leave them a speck, the picture is magnified instead."
        )
    elif vae and material.run.config.model.prior != "learned":
        text += " The prior is a learned mixture, so no one circle holds it."
    elif vae:
        text += (
            " The prior p(z | c) is learned, so it is another one for each thing that the model may be told: there is "
            "no circle for it, and much of where a code lies is what the model was told."
        )
    return Picture(
        "latent-space",
        "Latent space",
        text,
        f"Scatter plot of the codes of {len(held_out.codes)} test examples.",
        plots.latent_space(held_out.codes, held_out.labels, names, prior=standard, title="Codes of test examples"),
    )


def _coloured(material: Material, held_out: HeldOut) -> str:
    if held_out.labels is None:
        return "density in colour"
    if material.predicts is not None:
        return "coloured by class"
    if material.told == "label":
        return (
            "coloured by class; the decoder knows the class, so the code has no need to say it, and classes should "
            "lie over each other"
        )
    # A class may follow from what was told: whether a circle is large, from its radius.
    return "coloured by class" if material.told else "coloured by class, which the model was not told"


def kl(held_out: HeldOut, values: Tensor, evaluation: Evaluation | None, *, learned: bool = False) -> Picture:
    """How much each latent says, as bars. `learned`: the prior is p(z | c)."""
    active, evaluated = active_units(held_out, values, evaluation), information(values, evaluation)
    text = (
        "How much each latent dimension says about the example. A dimension near 0 equals the prior and is ignored by "
        f"the decoder; it counts as active if its mean varies over the data (variance above {ACTIVE_VARIANCE})."
    )
    if learned:
        text = (
            "How much each latent dimension says about the example beyond what the model was told: its KL from the "
            "learned prior p(z | c). It counts as active if its mean varies over the data (variance above "
            f"{ACTIVE_VARIANCE}), but the prior's mean varies too, with what is told: an active dimension near 0 nats "
            "says nothing that the model was not told."
        )
    return Picture(
        "kl",
        "KL per latent dimension",
        text,
        f"Bar chart of the KL divergence of {len(values)} latent dimensions, {int(active.sum())} of them active.",
        plots.kl_per_dimension(evaluated, active if len(active) == len(evaluated) else None),
    )


def active_units(held_out: HeldOut, values: Tensor, evaluation: Evaluation | None) -> Tensor:
    """Whether each latent varies over the data, (latent,).

    Args:
        held_out: with the codes.
        values: the KL of each latent, (latent,).
        evaluation: of the model, or None.
    """
    variance = held_out.codes.var(0) if len(held_out.codes) > 1 else torch.zeros_like(held_out.codes[0])
    active = variance > ACTIVE_VARIANCE
    if evaluation is not None and evaluation.active_units is not None and information(values, evaluation) is not values:
        # The whole split decides how many; here it is known which vary most.
        active = torch.zeros_like(active)
        active[variance.argsort(descending=True)[: evaluation.active_units]] = True
    return active


def information(values: Tensor, evaluation: Evaluation | None) -> Tensor:
    """KL of each latent in nats, (latent,): what the evaluation found on the whole split, else `values`."""
    if evaluation is None or len(evaluation.kl_per_dimension) != len(values):
        return values
    return torch.tensor(evaluation.kl_per_dimension, dtype=values.dtype)


def traversals(material: Material, held_out: HeldOut, evaluation: Evaluation | None) -> Picture:
    """What each latent does to the picture."""
    assert isinstance(material.model, VAE)
    assert held_out.kl is not None
    told = held_out.told([0])
    found = traverse(
        material.model,
        held_out.x[0],
        information(held_out.kl, evaluation),
        None if told is None else told[0],
        rows=ROWS,
    )
    images = held_out.filled([0], found.images)
    rest = material.model.latent - len(found.captions)
    text = (
        "Each row starts from the code of one test image (framed) and moves a single latent from −3 to 3 "
        "standard deviations of the prior. The number of nats is what the latent says about an example: its KL from "
        "the prior, the most informative first. In a disentangled code each row changes one thing"
    )
    text += "." if material.draws_values else ", and rows of no nats change nothing."
    if material.draws_values:
        text += " Each image is a draw from p(x | z), value after value, so that images also differ by chance."
    if rest:
        text += f" The {rest} latents that say least are left out."
    return Picture(
        "traversals",
        "What each latent does",
        text,
        f"{len(found.captions)} rows of {len(found.values)} decoded images, a latent a row.",
        plots.traversals(
            images, found.captions, values=found.values, start=held_out.clean[0], title="One latent at a time"
        ),
    )
