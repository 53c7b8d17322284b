"""The pictures of a report, each with its words."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen import plots
from jensen.autoencoders import VAE, VQVAE, DeepVAE, EncoderDecoder
from jensen.metrics import Evaluation
from jensen.report import code_pictures, latent_pictures, level_pictures
from jensen.report.choices import decoded, draws
from jensen.report.conditional_pictures import conditional_samples
from jensen.report.document_pictures import alike, drawn_documents
from jensen.report.factor_pictures import factors
from jensen.report.html import Picture
from jensen.report.material import SHOWN, HeldOut, Material
from jensen.report.sequence_pictures import reconstructed, sampled
from jensen.report.table_pictures import drawn_rows, spread, table_reconstructions, table_samples

__all__ = ["pictures"]

SAMPLES = 64
NEAR = 9


def pictures(material: Material, evaluation: Evaluation | None) -> list[Picture]:
    """Every picture that this model and its data allow, in the order of the page."""
    found = [_curves(material)] if material.history else []
    found += code_pictures.prior_curves(material)
    held_out, model = material.held_out, material.model
    if held_out is not None and isinstance(model, EncoderDecoder):
        found.append(_predictions(material, held_out) if material.predicts else _reconstructions(material, held_out))
    found.append(_samples(material, held_out))
    if held_out is None or not isinstance(model, EncoderDecoder):
        return found
    if isinstance(model, VQVAE):
        return [*found, *code_pictures.codes(material, model, held_out)]
    return [*found, *_of_vectors(material, held_out, evaluation)]


def _of_vectors(material: Material, held_out: HeldOut, evaluation: Evaluation | None) -> list[Picture]:
    """Pictures of codes that are vectors of real numbers."""
    found = []
    near = material.vae or material.deep
    if material.image and near is not None:
        found.append(_neighbours(material, near, held_out))
    if isinstance(material.model, DeepVAE):
        found += level_pictures.decoded_levels(material, material.model, held_out)
        found.append(level_pictures.latent_space(material, material.model, held_out))
    else:
        found.append(latent_pictures.latent_space(material, held_out))
    # The ends of a walk between different visible parts would not be the two data.
    if material.image and material.predicts is None and len(held_out.x) > 1 and material.told != "part":
        found.append(_walk(material, held_out))
    if isinstance(material.model, DeepVAE):
        found += level_pictures.kl(material, material.model, held_out, evaluation)
    elif held_out.kl is not None:
        learned = material.run.config.model.prior == "learned"
        found.append(latent_pictures.kl(held_out, held_out.kl, evaluation, learned=learned))
        if material.image and material.vae is not None:
            found.append(latent_pictures.traversals(material, held_out, evaluation))
        if material.train is not None and material.train.factors is not None:
            found.append(factors(material, material.train, latent_pictures.information(held_out.kl, evaluation)))
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
    if material.vocabulary and material.train is not None:
        return alike(material, held_out, material.train)
    if material.signal:
        return reconstructed(material, held_out)
    if not material.image:
        return Picture(
            "reconstructions",
            "Reconstructions beside originals",
            "Each test example through the encoder and back. Points on the dashed line are reconstructed exactly."
            + _of_categories(material),
            "Scatter plots of reconstruction against original for each column.",
            table_reconstructions(material, held_out),
        )
    count = min(SHOWN, len(held_out.x))
    originals, made = held_out.target[:count], held_out.decoded[:count]
    seen = held_out.x[:count] if corrupted else None
    text = "Test images, never seen in training, through the encoder and back"
    text += "." if material.draws_values else ": both rows should show the same."
    if material.told == "part":
        text = (
            "Test images, never seen in training, through the encoder and back. The visible part is shown as it is: "
            "only the hidden part is the model's, here with a code made from the whole image."
        )
    if corrupted:
        text = (
            "The model sees the corrupted image (top) and should return the clean one (bottom), which it is not shown."
        )
    if material.draws_values:
        text += (
            " What is decoded is a draw from p(x | z), value after value: what the code says stays, and the rest is "
            "made up."
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
    title = "Samples from the prior" if material.model.latent else "Samples"
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
    if material.vocabulary:
        return drawn_documents(material, material.train)
    if material.told:
        return conditional_samples(material, held_out)
    if material.signal:
        return sampled(material, held_out)
    if isinstance(material.model, VQVAE):
        return code_pictures.drawn_codes(material, material.model)
    drawn = material.model.sample(SAMPLES) if material.image else drawn_rows(material, 1_000)
    if material.image:
        return Picture(
            "samples",
            title,
            f"New images: {draws(material)}{decoded(material)}.",
            f"{SAMPLES} images drawn from the model.",
            plots.image_grid(drawn, 16),
        )
    if held_out is None:
        return Picture("samples", title, "The data could not be found, so there is nothing to set samples beside.")
    return Picture(
        "samples",
        title,
        f"New rows: {draws(material)}, and decoded.{spread(material)}",
        "Histograms of data and samples for each column.",
        table_samples(material, held_out, drawn),
    )


def _of_categories(material: Material) -> str:
    """How to read the panels of categories, after a space."""
    if not any(column.kind == "categorical" for column in material.columns):
        return ""
    return (
        " Of a column of categories: which share of the rows of each true category (left to right) is decoded to each "
        "category (upwards); the diagonal is right. Rows in which a column is not known are left out of it."
    )


def _by_chance(material: Material) -> str:
    """What is to be said where what is decoded is drawn, after a space."""
    return " Each is a draw from p(x | z), so that they also differ by chance." if material.draws_values else ""


def _neighbours(material: Material, model: VAE | DeepVAE, held_out: HeldOut) -> Picture:
    chosen = held_out.of_different_classes(5)
    near = model.neighbours(held_out.clean[chosen], NEAR, condition=held_out.told(chosen))
    return Picture(
        "neighbours",
        "New images near a datum",
        f"Each row starts from one test image (framed). {'At every level the' if material.deep else 'The'} encoder "
        "answers with a mean μ and a spread σ; the others are decoded from z′ = μ + σε with new noise ε. "
        f"They should vary, and stay what they are.{_by_chance(material)}",
        f"{len(chosen)} rows, each a test image followed by {NEAR} decoded variations of it.",
        plots.neighbours(held_out.clean[chosen], held_out.filled(chosen, near), title="Variations of test images"),
    )


def _walk(material: Material, held_out: HeldOut) -> Picture:
    assert isinstance(material.model, EncoderDecoder)
    start, end = _alike(held_out) if material.told else held_out.of_different_classes(2)
    first, last = held_out.clean[start], held_out.clean[end]
    given = held_out.told([start])
    condition = None if given is None else given[0]
    paths: dict[str, Tensor] = {
        "linear": material.model.interpolate(first, last, NEAR, "linear", condition=condition),
    }
    text = "Codes on the way from one test image (framed) to another, decoded."
    if material.told:
        text += " The model is told the same all the way: what it is told of the first image."
    if isinstance(material.model, DeepVAE):
        text += (
            " All levels go along together: below the top, a level on the straight line between two codes need not "
            "suit the levels above it."
        )
    elif material.generates:
        paths["spherical"] = material.model.interpolate(first, last, NEAR, "spherical", condition=condition)
        text += (
            " The straight path passes near the centre, where in many dimensions a normal distribution has little "
            "mass; on the spherical one the code's length goes evenly from that of one end to that of the other."
        )
    else:
        text += (
            " Nothing tells an auto-encoder what to decode to on the way: the middle is often two images laid over "
            "each other."
        )
    text += _by_chance(material)
    return Picture(
        "walk",
        "Walk between two data",
        text,
        f"{len(paths)} row(s) of {NEAR} images that change from one test image into another.",
        plots.walk(dict(paths), (first, last), title=f"From one test image to another{_told(material, given)}"),
    )


def _told(material: Material, given: Tensor | None) -> str:
    """What the model is told on a walk, for its title; `given` (1, *condition_shape)."""
    names = material.run.facts.condition_names
    if given is None:
        return ""
    if material.told == "label":
        return f", told {names[int(given[0].argmax())]} all the way"
    return f", told {', '.join(names) or material.run.config.data.condition} of the first all the way"


def _alike(held_out: HeldOut) -> tuple[int, int]:
    """The first place, and another one whose condition is nearest to its own: of the same class, if that is it."""
    assert held_out.condition is not None
    first, *others = held_out.condition.flatten(1)
    distance = (torch.stack(others) - first).norm(dim=1)
    return 0, 1 + int(distance.argmin())
