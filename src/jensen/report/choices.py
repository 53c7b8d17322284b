"""What was chosen for a run, in words: its objective with its knobs, what the model is told, and how it draws."""

from __future__ import annotations

from jensen.autoencoders import VQVAE, DeepVAE
from jensen.config import KNOBS, AutoregressiveConfig, ObjectiveConfig, Schedule
from jensen.report.material import Material

__all__ = ["code_words", "decoded", "draws", "learn_prior", "network", "objective", "told"]

PRIORS = {
    "standard": "N(0, I)",
    "learned": "the learned prior p(z | c)",
    "mixture": "a learned mixture of normals",
    "vampprior": "the VampPrior, a mixture of the posteriors of learned inputs",
}
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
    "balanced": "the ELBO with its levels balanced while the weight of the KL rises",
    "mmd": "that of InfoVAE, which pulls the aggregate posterior to the prior by its MMD",
}


def objective(config: ObjectiveConfig, latent: int | None, values: int) -> str:
    """A sentence on the objective, after a space; empty for the plain ELBO.

    Args:
        config: kind and knobs.
        latent: dimension of the code; None: it is no vector.
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
    if config.beta is not None and latent is not None:
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
    asked = material.run.condition or ""
    who = "This prior" if material.only_prior_told else "It"
    if material.told == "label" and config.data.labelled is not None:
        text = (
            f"Of the {len(facts.condition_names)} classes it knew {config.data.labelled:,} labels in training and "
            "guesses the others"
        )
    elif material.told == "label":
        text = f"{who} is told the class of each example, one of {len(facts.condition_names)}"
    elif material.told == "part":
        text = f"It is told the {asked.replace('-', ' ')} of each image and fills in the rest"
    elif material.told == "image":
        text = f"It is told another image of each example, “{asked}”"
    else:
        text = f"{who} is told {' and '.join(', '.join(facts.condition_names).rsplit(', ', 1))} of each example"
    if config.model.conditioning != "concat":
        text += f", by {config.model.conditioning}"
    return text + (", and its prior p(z | c) is learned from that." if config.model.prior == "learned" else ".")


def network(config: AutoregressiveConfig) -> str:
    """The network that predicts value after value, with its article."""
    return "a gated PixelCNN" if config.kind == "pixelcnn" else "a transformer"


def code_words(model: VQVAE) -> str:
    """How many integers a code is, level by level: "3 × 3 and 7 × 7", "2 books of 7 × 7"."""
    levels = []
    for books, *grid in model.code_shapes:
        size = " × ".join(map(str, grid))
        levels.append(size if books == 1 else f"{books} books of {size}")
    return " and ".join(levels)


def draws(material: Material) -> str:
    """How what is new in a sample is drawn: "z is drawn from N(0, I)"."""
    model = material.model
    if isinstance(model, VQVAE):
        if model.code_prior is None:
            return "codes are drawn uniformly, each by itself"
        return "codes are drawn from the learned prior, each given those before it"
    if not model.latent:
        return "the values are drawn one after the other, each from its probabilities given those before it"
    if isinstance(model, DeepVAE):
        return "z is drawn level by level, the top one from N(0, I) and each other from p(z | the levels above)"
    return f"z is drawn from {PRIORS[material.run.config.model.prior]}"


def decoded(material: Material, given: str = "") -> str:
    """How a sample comes from its code, to follow on `draws`; empty without a code.

    Args:
        material: of the run.
        given: what p(x | z) is told beside z, e.g. "class".
    """
    if not material.model.latent:
        return ""
    density = f"p(x | z, {given})" if given and not material.only_prior_told else "p(x | z)"
    if material.draws_values:
        return f", and the values from {density}, one after the other"
    if material.symbols and isinstance(material.model, VQVAE):
        return " (the most probable symbols are shown)"
    return f" (the mean of {density} is shown)"


def learn_prior(material: Material) -> str:
    """The command that learns a prior over the codes where none is in place and one is of use; empty otherwise."""
    run, model = material.run, material.model
    if not isinstance(model, VQVAE) or model.code_prior is not None or material.predicts is not None:
        return ""
    return run.prior_command or ""
