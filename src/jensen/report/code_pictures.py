"""Pictures of integer codes: where each stands, how often, and what the prior over them makes."""

from __future__ import annotations

import torch
from torch import Tensor

from jensen import plots
from jensen.autoencoders import VQVAE
from jensen.metrics.codes import level_name
from jensen.metrics.remarks import advice
from jensen.report.choices import code_words, decoded, draws, learn_prior, network
from jensen.report.html import Picture
from jensen.report.material import HeldOut, Material

__all__ = ["codes", "drawn_codes", "prior_curves"]

SHOWN = 10
DRAWN = 32


def codes(material: Material, model: VQVAE, held_out: HeldOut) -> list[Picture]:
    """What there is to see of the codes of test data."""
    maps = [_maps(material, model, held_out)] if material.image and held_out.decoded.shape[1:] == model.shape else []
    return [*maps, _usage(material, model, held_out)]


def _maps(material: Material, model: VQVAE, held_out: HeldOut) -> Picture:
    """Test images, their codes as colours, and what is decoded from these."""
    count = min(SHOWN, len(held_out.x))
    maps = _named(model, held_out.codes[:count])
    seen = "" if material.run.config.data.corruption == "none" else ", corrupted as in training,"
    own = "" if model.condition_shape is None else ", beside what it is told"
    return Picture(
        "codes",
        "Images as codes",
        f"Each test image{seen} becomes {code_words(model)} integers below {model.code_levels:,} (one colour an "
        f"integer), and the decoder sees nothing else{own}. Where images are alike, so should the colours be.",
        f"{count} test images, their codes as coloured cells, and their reconstructions.",
        plots.code_maps(held_out.x[:count], maps, held_out.decoded[:count], title="Test images as codes"),
    )


def _usage(material: Material, model: VQVAE, held_out: HeldOut) -> Picture:
    """How often each code is used by test data."""
    counts = {
        name: torch.bincount(codes.flatten(), minlength=model.code_levels)
        for name, codes in _named(model, held_out.codes).items()
    }
    what = advice(model)
    unused = "dead codes, for which" if what.die else "codes that the data do not need, and for which"
    return Picture(
        "code-usage",
        "Use of the codebook",
        f"How often {len(held_out.codes):,} test examples use each of the {model.code_levels:,} codes. A line that "
        f"ends early means {unused} the model pays without using them: {what.dead}.",
        "Share of all places by rank of the code, on logarithmic axes.",
        plots.code_usage(counts if len(counts) > 1 else next(iter(counts.values())), title="Codes of test examples"),
    )


def prior_curves(material: Material) -> list[Picture]:
    """How the learned prior was trained; nothing where none is in place."""
    prior, model = material.run.prior, material.model
    if prior is None or not isinstance(model, VQVAE) or model.code_prior is None:
        return []
    history = prior.history()
    return [
        Picture(
            "prior",
            "Training of the prior",
            f"The prior over the codes, {network(prior.config.net)}, was learned from the codes of the training data. "
            "The loss is what the codes of an example take under it, in nats. The dotted line marks the weights "
            "that are kept.",
            f"Curves of the prior's objective over {len(history['epoch'])} epochs.",
            plots.curves(history),
        )
    ]


def drawn_codes(material: Material, model: VQVAE) -> Picture:
    """New images from the learned prior above those from uniform codes; the latter alone where none is learned.

    Of a model that is told nothing.
    """
    uniform = model.decode(torch.randint(model.code_levels, (DRAWN, model.latent)))
    if model.code_prior is None:
        why = (
            "The prior that was learned is of other weights (see above)"
            if material.stale
            else ("No prior over the codes has been learned yet")
        )
        return Picture(
            "samples",
            "Samples from uniform codes",
            f"{why}, so every code is drawn by itself, all equally probable{decoded(material)}: the pieces do not fit "
            f"each other. `{learn_prior(material)}` learns which codes go together.",
            f"{DRAWN} images decoded from codes drawn uniformly.",
            plots.image_grid(uniform, 16),
        )
    drawn = model.sample(DRAWN)
    return Picture(
        "samples",
        "Samples from the prior over codes",
        f"Above: {draws(material)}{decoded(material)}. Below: codes drawn uniformly, each by itself. The difference is "
        "what the prior has learned.",
        f"{DRAWN} images from the learned prior, and as many from uniform codes.",
        plots.class_grid(
            torch.cat([drawn, uniform]).unflatten(0, (4, DRAWN // 2)), ("prior", "", "uniform", ""), title=""
        ),
    )


def _named(model: VQVAE, codes: Tensor) -> dict[str, Tensor]:
    """Flat codes (B, latent) as grids (B, *grid) by name of level and book."""
    grids = model.grids(codes)
    found = {}
    for i, grid in enumerate(grids, start=1):
        level = level_name(i, len(grids)) or "codes"
        for book in range(grid.shape[1]):
            name = level if grid.shape[1] == 1 else f"{level} {book + 1}".replace("codes", "book")
            found[name] = grid[:, book]
    return found
