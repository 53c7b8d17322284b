"""The pictures of a report, each with its words."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen import plots
from jensen.autoencoders import VAE
from jensen.metrics import Evaluation
from jensen.metrics.evaluation import ACTIVE_VARIANCE
from jensen.report.html import Picture
from jensen.report.material import SHOWN, HeldOut, Material

__all__ = ["pictures"]

SAMPLES = 64
NEAR = 9


def pictures(material: Material, evaluation: Evaluation | None) -> list[Picture]:
    """Every picture that this model and its data allow, in the order of the page."""
    found = [_curves(material)] if material.history else []
    held_out = material.held_out
    if held_out is not None:
        found.append(_predictions(material, held_out) if material.predicts else _reconstructions(material, held_out))
    found.append(_samples(material, held_out))
    if held_out is not None:
        if material.image and material.generates:
            found.append(_neighbours(material, held_out))
        found.append(_latent_space(material, held_out))
        if material.image and material.predicts is None and len(held_out.x) > 1:
            found.append(_walk(material, held_out))
        if held_out.kl is not None:
            found.append(_kl(held_out, held_out.kl, evaluation))
    return found


def _curves(material: Material) -> Picture:
    epochs = len(material.history["epoch"])
    return Picture(
        "curves",
        "Training",
        "Training and validation should move together; where validation turns down while training still gains, the "
        "model has begun to learn its training data by heart. The dotted line marks the weights that are kept.",
        f"Curves of the objective and its parts over {epochs} epochs.",
        plots.curves(material.history),
    )


def _reconstructions(material: Material, held_out: HeldOut) -> Picture:
    corrupted = material.run.config.data.corruption != "none"
    if not material.image:
        return Picture(
            "reconstructions",
            "Reconstructions beside originals",
            "Each test example through the encoder and back. Points on the dashed line are reconstructed exactly.",
            "Scatter plots of reconstruction against original for each column.",
            plots.table_reconstructions(held_out.target, held_out.decoded),
        )
    count = min(SHOWN, len(held_out.x))
    originals, made = held_out.target[:count], held_out.decoded[:count]
    seen = held_out.x[:count] if corrupted else None
    text = "Test images, never seen in training, through the encoder and back: both rows should show the same."
    if corrupted:
        text = (
            "The model sees the corrupted image (top) and should return the clean one (bottom), which it is not shown."
        )
    return Picture(
        "reconstructions",
        "Denoising" if corrupted else "Reconstructions beside originals",
        text,
        f"{count} test images with what the model made of them.",
        plots.reconstructions(originals, made, seen, title="Test images"),
    )


def _predictions(material: Material, held_out: HeldOut) -> Picture:
    name = material.predicts or ""
    title = f"Predictions of “{name}”"
    count = min(SHOWN, len(held_out.x))
    binary = bool(((held_out.target == 0) | (held_out.target == 1)).all())
    if not (material.image and held_out.target.ndim == 2 and held_out.target.shape[1] == 1):
        figure = plots.table_reconstructions(held_out.target, held_out.decoded, unit="own unit", title=title)
        return Picture("predictions", title, "Prediction against truth.", "Scatter plot.", figure)
    truths, answers = held_out.target[:count, 0].tolist(), held_out.decoded[:count, 0].tolist()
    captions = [f"{answer:.2f} ({truth:g})" for answer, truth in zip(answers, truths, strict=True)]
    kind = "the probability that the model gives to it, and the truth (0 or 1)" if binary else "prediction and truth"
    return Picture(
        "predictions",
        title,
        f"The model sees the image and answers with “{name}”. Under each test image: {kind} in brackets.",
        f"{count} test images with the predicted and the true value.",
        plots.image_grid(held_out.x[:count], 10, captions=captions, title="Test images: predicted (true)"),
    )


def _samples(material: Material, held_out: HeldOut | None) -> Picture:
    title = "Samples from the prior"
    if material.predicts is not None:
        return Picture(
            "samples", "No samples", "The model predicts a property of a datum, so it has no data to generate."
        )
    if not material.generates:
        return Picture(
            "samples",
            "No samples from the prior",
            "A plain auto-encoder has no prior: nothing in its training says where codes lie, so there is no honest "
            "way to draw a new one, and a random latent point mostly decodes to nonsense. The script "
            "examples/random_latents.py shows this, also at growing distance from an encoded datum, beside a VAE "
            "that was trained the same way.",
        )
    drawn = material.model.sample(SAMPLES if material.image else 1_000)
    if material.image:
        return Picture(
            "samples",
            title,
            "New images: z drawn from N(0, I) and decoded (the mean of p(x | z) is shown).",
            f"{SAMPLES} images decoded from random draws of the prior.",
            plots.image_grid(drawn, 16),
        )
    if held_out is None:
        return Picture("samples", title, "The data could not be found, so there is nothing to set samples beside.")
    return Picture(
        "samples",
        title,
        "New rows: z drawn from N(0, I) and decoded. Means of p(x | z) are shown, so samples spread less than data by "
        "the noise that the likelihood would add.",
        "Histograms of data and samples for each column.",
        plots.table_samples(held_out.clean, drawn),
    )


def _neighbours(material: Material, held_out: HeldOut) -> Picture:
    assert isinstance(material.model, VAE)
    chosen = _different_classes(held_out, 5)
    near = material.model.neighbours(held_out.clean[chosen], NEAR)
    return Picture(
        "neighbours",
        "New images near a datum",
        "Each row starts from one test image (framed). The encoder answers with a mean μ and a spread σ; "
        "the others are decoded from z′ = μ + σε with new noise ε. "
        "They should vary, and stay what they are.",
        f"{len(chosen)} rows, each a test image followed by {NEAR} decoded variations of it.",
        plots.neighbours(held_out.clean[chosen], near, title="Variations of test images"),
    )


def _latent_space(material: Material, held_out: HeldOut) -> Picture:
    vae = held_out.kl is not None
    names = held_out.class_names if held_out.labels is not None else ()
    coloured = "density in colour"
    if held_out.labels is not None:
        coloured = "coloured by class" + (", which the model was not told" if material.predicts is None else "")
    part = (
        f"{len(held_out.codes):,} of {held_out.total:,}"
        if len(held_out.codes) < held_out.total
        else f"{held_out.total:,}"
    )
    text = f"The codes of {part} test examples, {coloured}."
    if material.model.latent > 2:
        text += " Their first two principal components are drawn, so classes that overlap here may be apart elsewhere."
    if vae:
        text += " The circle holds 95% of the prior: where it is empty of codes, samples may look odd."
    return Picture(
        "latent-space",
        "Latent space",
        text,
        f"Scatter plot of the codes of {len(held_out.codes)} test examples.",
        plots.latent_space(held_out.codes, held_out.labels, names, prior=vae, title="Codes of test examples"),
    )


def _walk(material: Material, held_out: HeldOut) -> Picture:
    start, end = _different_classes(held_out, 2)
    first, last = held_out.clean[start], held_out.clean[end]
    paths: dict[str, Tensor] = {"linear": material.model.interpolate(first, last, NEAR, "linear")}
    text = "Codes on the way from one test image (framed) to another, decoded."
    if material.generates:
        paths["spherical"] = material.model.interpolate(first, last, NEAR, "spherical")
        text += (
            " The straight path passes near the centre, where in many dimensions a normal distribution has little "
            "mass; on the spherical one the code's length goes evenly from that of one end to that of the other."
        )
    else:
        text += (
            " Nothing tells an auto-encoder what to decode to on the way: the middle is often two images laid over "
            "each other."
        )
    return Picture(
        "walk",
        "Walk between two data",
        text,
        f"{len(paths)} row(s) of {NEAR} images that change from one test image into another.",
        plots.walk(dict(paths), (first, last), title="From one test image to another"),
    )


def _kl(held_out: HeldOut, kl: Tensor, evaluation: Evaluation | None) -> Picture:
    variance = held_out.codes.var(0) if len(held_out.codes) > 1 else torch.zeros_like(held_out.codes[0])
    active = variance > ACTIVE_VARIANCE
    if evaluation is not None and evaluation.active_units is not None and len(kl) == len(variance):
        # The whole split decides how many; here it is known which vary most.
        active = torch.zeros_like(active)
        active[variance.argsort(descending=True)[: evaluation.active_units]] = True
        kl = torch.tensor(evaluation.kl_per_dimension)
    return Picture(
        "kl",
        "KL per latent dimension",
        "How much each latent dimension says about the example. A dimension near 0 equals the prior and is ignored by "
        f"the decoder; it counts as active if its mean varies over the data (variance above {ACTIVE_VARIANCE}).",
        f"Bar chart of the KL divergence of {len(kl)} latent dimensions, {int(active.sum())} of them active.",
        plots.kl_per_dimension(kl, active if len(active) == len(kl) else None),
    )


def _different_classes(held_out: HeldOut, count: int) -> list[int]:
    """Places of examples, of different classes as far as there are, in the order of the split."""
    if held_out.labels is None:
        return list(range(min(count, len(held_out.x))))
    firsts: dict[int, int] = {}
    for place, label in enumerate(held_out.labels.tolist()):
        firsts.setdefault(label, place)
    chosen = list(firsts.values())[:count]
    others = (place for place in range(len(held_out.x)) if place not in chosen)
    while len(chosen) < min(count, len(held_out.x)):
        chosen.append(next(others))
    return chosen
