"""The words and numbers of a report: what was trained, how good it is, and what the reader should beware of."""

from __future__ import annotations

import math

from jensen.autoencoders import VQVAE, DeepVAE
from jensen.metrics import Evaluation
from jensen.metrics.levels import ACTIVE_KL, level_rows
from jensen.report.choices import code_words, network, objective, told
from jensen.report.html import Row
from jensen.report.material import HeldOut, Material

__all__ = ["headline", "notes", "summary"]


COLLAPSED = 0.1  # nats
OTHERS = {
    "vqvae": "vector-quantised auto-encoder (VQ-VAE)",
    "autoregressive": "autoregressive density",
    "hvae": "hierarchical variational auto-encoder",
    "ladder": "ladder variational auto-encoder",
    "nvae": "deep hierarchical variational auto-encoder (NVAE)",
}


def summary(material: Material) -> str:
    """A few sentences: model, data, condition, objective, training."""
    config, history = material.run.config, material.history
    kind = _kind(material)
    start = "An" if kind[0] in "ae" else "A"
    aim = "" if material.predicts is None else f" that predicts the property “{material.predicts}”"
    aim = f" that removes {config.data.corruption} noise" if config.data.corruption != "none" else aim
    shape = " × ".join(str(size) for size in material.run.facts.shape)
    what = f"images of shape {shape}" if material.image else f"rows of {shape} columns"
    what = f"sequences of shape {shape}" if material.signal else what
    text = f"{start} {kind}{aim}{_code(material)}, on {config.data.title} ({what})"
    text += f"; the likelihood p(x | z) is {config.model.likelihood}." if material.model.latent else "."
    known, prior = f" {told(material)}" if material.told else "", _prior_of_codes(material)
    text += prior + known if material.only_prior_told else known + prior
    if material.model.latent:
        vector = None if isinstance(material.model, VQVAE) else material.model.latent
        text += objective(config.objective, vector, math.prod(material.run.facts.target_shape))
    if history:
        speed = f"{history['images_per_second'][-1]:,.0f}" if "images_per_second" in history else ""
        seconds = f" in {_duration(history['seconds'][-1])}" if "seconds" in history else ""
        text += f" Trained for {history['epoch'][-1]:.0f} epochs{seconds}"
        text += f", {speed} examples a second." if speed else "."
    return text


def _kind(material: Material) -> str:
    if material.predicts is not None:
        return "encoder-decoder"
    kind = material.run.config.model.kind
    if kind in OTHERS:
        return ("conditional " if material.told and not material.only_prior_told else "") + OTHERS[kind]
    if kind == "semi-supervised":
        return "semi-supervised variational auto-encoder"
    words = ("conditional " if material.told else "") + ("variational" if kind == "vae" else "plain") + " auto-encoder"
    return f"{words} with an autoregressive decoder (PixelVAE)" if material.draws_values else words


def _code(material: Material) -> str:
    """What a code is."""
    model = material.model
    if isinstance(model, VQVAE):
        return f", with {code_words(model)} integers below {model.code_levels:,} as a code"
    if not model.latent:
        return f", each value predicted from those before it by {network(material.run.config.model.autoregressive)}"
    if isinstance(model, DeepVAE):
        count = len(model.level_shapes)
        return f", with {model.latent:,} latent dimensions on {count} level{'s' * (count > 1)}"
    return f", with {model.latent} latent dimensions" if model.latent else ""


def _prior_of_codes(material: Material) -> str:
    """A sentence on the prior over integer codes, after a space."""
    model, prior = material.model, material.run.prior
    if not isinstance(model, VQVAE):
        return ""
    if model.code_prior is None or prior is None:
        return " Its codes are all equally probable: no prior over them is in place."
    return f" The prior over its codes is {network(prior.config.net)}, learned after it."


def headline(evaluation: Evaluation, material: Material) -> list[Row]:
    """Rows of the headline table, each explained to a newcomer; what has no meaning for the model is left out."""
    binarised = material.run.config.data.transform.startswith("binarise")
    rows = []
    if evaluation.elbo is not None or evaluation.exact:
        rows = _bounds(evaluation, material)
    if material.predicts is not None and material.held_out is not None:
        rows.extend(_accuracy(material.held_out, material.predicts))
    if evaluation.rate is not None:
        rows.append(Row("Rate", f"{evaluation.rate:.2f}", "nats", _rate(evaluation)))
    if evaluation.discrete_rate is not None:
        meaning = "The part of the rate that is the class: 0 where the model cannot tell it, and guesses as p(y) does."
        rows.append(Row("Rate of the class", f"{evaluation.discrete_rate:.2f}", "nats", meaning))
    if evaluation.distortion is not None:
        rows.append(Row("Distortion", f"{evaluation.distortion:.2f}", "nats", _distortion(evaluation, material)))
    if evaluation.accuracy is not None:
        what = "symbols" if material.symbols else "values"
        of = "the code of the example" if material.model.latent else "what comes before"
        meaning = f"Share of the {what} that are the most probable ones given {of}; 100% is perfect."
        rows.append(Row(f"{what.capitalize()} right", f"{evaluation.accuracy:.2%}", "", meaning))
    if evaluation.active_units is not None:
        meaning = "Latent dimensions that the encoder uses: their value differs from example to example."
        if evaluation.levels:
            meaning = (
                "Latent dimensions that the encoder uses: their KL from what the levels above expect is over "
                f"{ACTIVE_KL} nats."
            )
        active = f"{evaluation.active_units:,} of {evaluation.latent:,}"
        rows.append(Row("Active units", active, "", meaning))
        rows.extend(_levels(evaluation))
    rows.extend(_columns(evaluation))
    if evaluation.reconstruction_error is None:
        return rows
    meaning = "Mean squared difference between each value and its reconstruction; 0 is perfect."
    if binarised:
        meaning += (
            " The values are binarised at random, which no reconstruction can foresee: some error always remains."
        )
    if material.predicts is not None:
        meaning = "Mean squared difference between prediction and truth; 0 is perfect."
    name = "Reconstruction error" if material.predicts is None else "Prediction error"
    rows.append(Row(name, f"{evaluation.reconstruction_error:.4f}", "per value", meaning))
    if evaluation.psnr is not None:
        meaning = "The same on a scale of decibels; ten more is a tenth of the error."
        rows.append(Row("PSNR", f"{evaluation.psnr:.1f}", "dB", meaning))
    return rows


def _columns(evaluation: Evaluation) -> list[Row]:
    """Means over the columns of each kind of a table."""
    rows = []
    words = {
        "real": ("Error of numbers", "st. dev.", "Root mean square difference to the reconstruction"),
        "count": ("Error of counts", "", "Root mean square difference to the reconstruction"),
        "categorical": ("Categories wrong", "", "Share of rows whose category is not the one that is decoded"),
    }
    for kind, (name, unit, meaning) in words.items():
        own = [(e.value, e.baseline) for e in evaluation.columns if e.kind == kind and e.value is not None]
        if not own:
            continue
        value, baseline = (sum(each or 0.0 for each in numbers) / len(own) for numbers in zip(*own, strict=True))
        form = "{:.1%}" if kind == "categorical" else "{:.3f}"
        guess = "the most frequent one" if kind == "categorical" else "the mean"
        said = f"{meaning}, mean over {len(own)} columns; always {guess}: {form.format(baseline)}."
        rows.append(Row(name, form.format(value), unit, said))
    return rows


def notes(material: Material, evaluation: Evaluation | None) -> list[str]:
    """Warnings in words."""
    found = [] if evaluation is None else [*evaluation.warnings, *evaluation.notes]
    if material.stale:
        found.append(f"The prior over the codes is left out, and codes count as all equally probable: {material.stale}")
    if material.missing:
        found.append(
            f"The data of this run could not be found, so pictures that need them are missing: {material.missing}"
        )
    held_down = _held_down(material)
    if evaluation is None and material.held_out is not None and material.held_out.kl is not None:
        rate = material.held_out.kl.sum().item()
        if rate < COLLAPSED:
            advice = held_down or "Train longer, or try KL warm-up or a weaker decoder."
            found.append(
                f"The code says next to nothing about the data ({rate:.2f} nats): the posterior has collapsed to the "
                f"prior, and the decoder ignores z. {advice}"
            )
    elif held_down and evaluation is not None and _says_little(evaluation):
        found.append(held_down)
    history, epochs = material.history, material.run.config.train.epochs
    if not history:
        return [*found, "No epoch has ended yet: the model is what the first checkpoint holds."]
    done = int(history["epoch"][-1])
    if not material.run.finished:
        found.append(f"Training was stopped in epoch {done + 1} of {epochs}; it can go on (see below).")
    best = _best_epoch(material)
    if best is not None and best == done and done > 1 and material.run.finished:
        found.append("The last epoch was the best on validation data: training longer would probably help.")
    return found


def _says_little(evaluation: Evaluation) -> bool:
    """Whether the code says next to nothing, or few latents say anything."""
    units, rate = evaluation.active_units, evaluation.rate
    few = units is not None and (units == 0 or (evaluation.latent >= 4 and units < evaluation.latent / 4))
    return few or (rate is not None and rate < COLLAPSED)


def _held_down(material: Material) -> str:
    """How the objective itself keeps the code from saying much, and what to change; empty where it does not."""
    config = material.run.config.objective
    if config.kind == "capacity" and config.max_capacity is not None and config.capacity_steps:
        steps = int(material.history["step"][-1]) if "step" in material.history else 0
        now = config.max_capacity * min(1.0, steps / config.capacity_steps)
        ramp = f"The objective holds the code to a capacity, {now:.3g} nats when training ended at step {steps:,}"
        if steps < config.capacity_steps:
            return (
                f"{ramp}: it rises to {config.max_capacity:g} over {config.capacity_steps:,} steps. Train longer, or "
                "let it rise sooner (--capacity-steps)."
            )
        return f"{ramp}; a larger --max-capacity lets the code say more."
    if config.kind == "beta" and config.beta is not None and config.beta > 1:
        return f"The objective has each nat of the code cost {config.beta:g}: a smaller --beta lets it say more."
    if config.kind == "total-correlation" and max(config.alpha or 0, config.gamma or 0, config.beta or 0) > 1:
        knobs = f"alpha {config.alpha:g}, beta {config.beta:g} and gamma {config.gamma:g}"
        return f"The objective weights the parts of the code's price by {knobs}: smaller ones let it say more."
    return ""


def _given(material: Material) -> str:
    """What to add to the meaning of a bound."""
    if not material.told or material.run.config.model.kind == "semi-supervised":
        return ""
    if material.told == "part":
        return " Here it is that of the hidden part, given the visible one."
    return " Here it is that of the example given what the model is told of it."


def _bounds(evaluation: Evaluation, material: Material) -> list[Row]:
    """What is known of the log-probability of the data: the ELBO and tighter bounds, or itself."""
    given = _given(material)
    likelihood = _with_error(evaluation.log_likelihood, evaluation.log_likelihood_error)
    if evaluation.exact:
        meaning = "The log-probability that the model gives to data it has not seen, exactly. Higher is better."
        rows = [Row("Log-likelihood", likelihood, "nats", meaning + given)]
    else:
        plain = material.run.config.objective.kind == "elbo" and not isinstance(material.model, VQVAE)
        meaning = (
            f"{'What training raises: a' if plain else 'A'} lower bound on the log-probability that the model gives to "
            f"data it has not seen. Higher is better.{given}"
        )
        if evaluation.deterministic:
            meaning += " Each example has one code, so the number has no noise of sampling: more draws add nothing."
        rows = [Row("ELBO", _with_error(evaluation.elbo, evaluation.elbo_error), "nats", meaning)]
        if evaluation.log_likelihood is not None and not evaluation.deterministic:
            meaning = (
                f"A tighter bound on the same log-probability, from {evaluation.samples:,} draws of z an example: the "
                "number to compare models by. Higher is better."
            )
            rows.append(Row("Importance-weighted log-likelihood", likelihood, "nats", meaning))
    if evaluation.bits_per_dim is not None:
        value = "symbol" if material.symbols else "value"
        value = f"binarised {value}" if material.run.config.data.transform.startswith("binarise") else value
        meaning = (
            f"The same as a code length: what an ideal compressor built on the model needs for each {value}. Lower is "
            "better."
        )
        rows.append(Row("Bits per dimension", f"{evaluation.bits_per_dim:.3f}", "bits", meaning))
    return rows


def _levels(evaluation: Evaluation) -> list[Row]:
    """A row for each of several levels, or where they are many for each scale."""
    return [
        Row(
            f"KL, {name}",
            value,
            "nats",
            f"The part of the rate that is said there; {meaning.removeprefix('nats, KL; ')}.",
        )
        for name, value, meaning in level_rows(evaluation.levels)
    ]


def _rate(evaluation: Evaluation) -> str:
    if evaluation.code_prior == "uniform" and evaluation.deterministic:
        return (
            "What it takes to say the integers of the code, all equally probable as long as no prior is learned: the "
            "same for every example."
        )
    if evaluation.code_prior == "learned" and evaluation.deterministic:
        return "What it takes to say the integers of an example's code under the learned prior."
    prior = "" if evaluation.code_prior is None else f" over the codes, which is {evaluation.code_prior}"
    return f"What the code says about the example: the KL divergence of the encoder's answer from the prior{prior}."


def _distortion(evaluation: Evaluation, material: Material) -> str:
    if material.predicts is not None:
        return f"How unexpected the true value of “{material.predicts}” is to the model; 0 is perfect."
    if evaluation.elbo is None:
        return (
            "How unexpected the example is to the decoder that has its code. It leaves out what the code itself costs, "
            "so it is no probability of the data and cannot be compared with an ELBO."
        )
    return "What the code leaves unsaid: how unexpected the example is once z is known. ELBO = −(rate + distortion)."


def _accuracy(held_out: HeldOut, name: str) -> list[Row]:
    """Share of right answers, where the question is one of yes or no."""
    truth = held_out.target
    if not bool(((truth == 0) | (truth == 1)).all()):
        return []
    right = ((held_out.decoded > 0.5) == (truth > 0.5)).double().mean().item()
    share = truth.double().mean().item()
    meaning = (
        f"Share of {len(truth):,} test examples whose “{name}” is told rightly; always giving the "
        f"more frequent answer scores {max(share, 1 - share):.1%}."
    )
    return [Row("Accuracy", f"{right:.1%}", "", meaning)]


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.2f}" if error is None else f"{value:.2f} ± {error:.2f}"
    return text.replace("-", "−")


def _best_epoch(material: Material) -> int | None:
    """The epoch whose weights were kept: the best validation score."""
    for column, sign in (("valid/score", 1), ("valid/iwae", 1), ("valid/elbo", 1), ("valid/loss", -1)):
        if column in material.history:
            scores = [sign * value for value in material.history[column]]
            return int(material.history["epoch"][scores.index(max(scores))])
    return None


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
