"""What was chosen for a run, in words: its objective with its knobs, and what the model is told."""

from __future__ import annotations

from jensen.config import KNOBS, ObjectiveConfig, Schedule
from jensen.report.material import Material

__all__ = ["objective", "told"]

NAMES = {
    "elbo": "the ELBO",
    "iwae": "the importance-weighted bound",
    "beta": "that of beta-VAE",
    "capacity": "the ELBO with a capacity that the code is held to",
    "total-correlation": "that of beta-TCVAE, which weights mutual information, total correlation and dimension-wise "
    "KL apart",
    "factor": "that of FactorVAE, which has a discriminator punish total correlation",
    "dip": "that of DIP-VAE, which pulls the covariance of the code to the identity",
    "free-bits": "the ELBO with free bits for each latent",
    "mmd": "that of InfoVAE, which pulls the aggregate posterior to the prior by its MMD",
}


def objective(config: ObjectiveConfig, latent: int, values: int) -> str:
    """A sentence on the objective, after a space; empty for the plain ELBO.

    Args:
        config: kind and knobs.
        latent: dimension of the code.
        values: entries of what is decoded.
    """
    knobs = [f"{name.replace('_', ' ')} {_value(getattr(config, name))}" for name in KNOBS[config.kind]]
    if config.samples > 1:
        knobs.append(f"{config.samples} samples of z an example")
    weight = _schedule(config.kl_weight)
    if config.kind == "elbo" and not knobs and not weight:
        return ""
    text = f" The objective is {NAMES[config.kind]}"
    text += f" ({', '.join(knobs)})" if knobs else ""
    if config.beta is not None:
        text += f"; beta × latents / values is {config.beta * latent / values:.3g}"
    return f"{text}{weight}."


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _schedule(weight: Schedule) -> str:
    if weight == Schedule():
        return ""
    if weight.kind == "constant":
        return f"; the code's price has weight {weight.end:g}"
    cycles = f" in {weight.cycles} cycles" if weight.kind == "cyclical" else ""
    return (
        f"; the weight of the code's price goes from {weight.start:g} to {weight.end:g} over {weight.steps:,} steps"
        f"{cycles} ({weight.kind})"
    )


def told(material: Material) -> str:
    """A sentence on what the model is told beside the datum."""
    config, facts = material.run.config, material.run.facts
    asked = config.data.condition or ""
    if material.told == "label" and config.data.labelled is not None:
        text = (
            f"Of the {len(facts.condition_names)} classes it knew {config.data.labelled:,} labels in training and "
            "guesses the others"
        )
    elif material.told == "label":
        text = f"It is told the class of each example, one of {len(facts.condition_names)}"
    elif material.told == "part":
        text = f"It is told the {asked.replace('-', ' ')} of each image and fills in the rest"
    elif material.told == "image":
        text = f"It is told another image of each example, “{asked}”"
    else:
        text = f"It is told {' and '.join(', '.join(facts.condition_names).rsplit(', ', 1))} of each example"
    if config.model.conditioning != "concat":
        text += f", by {config.model.conditioning}"
    return text + (", and its prior p(z | c) is learned from that." if config.model.prior == "learned" else ".")
