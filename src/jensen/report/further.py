"""Rows for what `jensen evaluate` measured beside the bound, from the numbers that it wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from jensen.metrics.codes import level_name
from jensen.report.html import Row

__all__ = ["MEASUREMENTS", "further_notes", "further_rows"]

PER_VALUE = ", for each value of the datum that it describes"
SCORES = {
    "MIG": "Mutual information gap: how much more the best latent knows of a factor than the second best.",
    "DCI disentanglement": "Whether each latent serves one factor only.",
    "FactorVAE score": "How often the latent that varies least tells which factor some examples share.",
    "beta-VAE score": "How often a linear classifier tells from differences of codes which factor two examples share.",
    "SAP": "Gap in predictive power between the best two latents of a factor.",
}


def further_rows(found: Mapping[str, Any]) -> list[Row]:
    """Rows of every measurement that is there; what another version wrote is left out."""
    rows: list[Row] = []
    for name, make in MEASUREMENTS.items():
        if name in found:
            try:
                rows += make(found[name])
            except (KeyError, TypeError, ValueError):
                continue
    return rows


def further_notes(found: Mapping[str, Any]) -> list[str]:
    """What the measurements that are there warn of."""
    sections = [found[name] for name in MEASUREMENTS if isinstance(found.get(name), Mapping)]
    return [text for each in sections for text in each.get("warnings") or () if isinstance(text, str)]


def _code_usage(found: Mapping[str, Any]) -> list[Row]:
    books = found["levels"]
    levels, several = (max(book[part] for book in books) for part in ("level", "book"))
    rows = []
    for book in books:
        name = "Codes used"
        name += f", {level_name(book['level'], levels)} level" if levels > 1 else ""
        name += f", book {book['book']} of {several}" if several > 1 else ""
        places = " × ".join(map(str, book["grid"]))
        meaning = (
            f"Codes that occur at all in the {places} places of {found['examples']:,} examples. As hard to guess as "
            f"{book['perplexity']:.1f} equally frequent ones (their perplexity)."
        )
        rows.append(Row(name, f"{book['used']:,} of {found['code_levels']:,}", "", meaning))
    costs = {
        "uniform": ("all equally probable", "What the integers of an example take if all are equally probable"),
        "empirical": ("by frequency", "The same if each is guessed by itself, as often as it occurs"),
        "learned": ("learned prior", "The same under the learned prior, each given those before it"),
    }
    price = ", which is the price of a code that was drawn, and more than the rate" if found.get("drawn") else ""
    for key, (name, meaning) in costs.items():
        bits, nats = found[f"bits_per_dim_{key}"], found[f"nats_{key}"]
        if nats is None:
            continue
        value, each = (f"{nats / math.log(2):.2f}", "") if bits is None else (f"{bits:.4f}", PER_VALUE)
        rows.append(
            Row(f"Bits of the code, {name}", value, "bits", f"{meaning}{each}; {nats:.2f} nats an example{price}.")
        )
    return rows


def _documents(found: Mapping[str, Any]) -> list[Row]:
    of = f"{found['words']:,} words of {found['documents']:,} documents"
    return [
        Row(
            "Perplexity",
            f"{found['perplexity']:,.0f}",
            "words",
            f"Among how many equally likely words the model guesses each of {of}: exp of {-found['bound']:.4f} nats a "
            f"word, by the importance-weighted bound with {found['samples']} samples. Lower is better.",
        ),
        Row(
            "Perplexity of the other half",
            f"{found['completion_perplexity']:,.0f}",
            "words",
            f"The same for one half of each document's words, given the other: exp of {-found['completion']:.4f} nats.",
        ),
    ]


def _quality(found: Mapping[str, Any]) -> list[Row]:
    real = found["real"]
    eyes = f"In the eyes of a classifier of the same data ({found['accuracy']:.1%} of test images right), "
    far = f"how far {found['samples']:,} samples are from {found['test']:,} test images, by features"
    kernel, reals = (f"{each['kernel']:.4f} ± {each['kernel_error']:.4f}" for each in (found, real))
    return [
        Row(
            "Fréchet distance",
            f"{found['frechet']:.2f}",
            "",
            f"{eyes}{far}. Lower is better; real images have {real['frechet']:.2f}.",
        ),
        Row(
            "Kernel distance",
            _signed(kernel),
            "",
            f"The same by another measure, which does not depend on how many there are: 0 where both are alike; real "
            f"images have {_signed(reals)}.",
        ),
        Row(
            "Confidence",
            f"{found['confidence']:.1%}",
            "",
            "How sure the classifier is of the classes of samples: low where they are of none; of real images "
            f"{real['confidence']:.1%}.",
        ),
        Row(
            "Diversity",
            f"{found['entropy']:.2f}",
            "nats",
            f"Entropy of the guessed classes: low where some are missing, at most {math.log(found['classes']):.2f}"
            f"; of real images {real['entropy']:.2f}.",
        ),
    ]


def _information(found: Mapping[str, Any]) -> list[Row]:
    of = f"over the {found['components']:,} examples of the training split"
    meanings = {
        "index_code_mi": (
            "Mutual information I(x; z)",
            f"What the code tells of which example it came from, {of}; at most the logarithm of their number, "
            f"{math.log(found['components']):.2f}.",
        ),
        "total_correlation": (
            "Total correlation",
            "How far the latents depend on each other, in the codes of all examples together; 0 is independent.",
        ),
        "dimension_wise_kl": (
            "Dimension-wise KL",
            "How far each latent, in the codes of all examples together, is from its prior. These three sum to the "
            "rate.",
        ),
    }
    if found.get("conditional_prior"):
        del meanings["dimension_wise_kl"]
        meanings["index_code_mi"] = ("Mutual information I(x, c; z)", meanings["index_code_mi"][1])
        meanings["prior_term"] = (
            "Prior term",
            "What the rate has beside these two. The prior knows the condition: this is no KL and may be negative.",
        )
    return [
        Row(name, _signed(f"{found[key]:.2f} ± {found[f'{key}_error']:.2f}"), "nats", meaning)
        for key, (name, meaning) in meanings.items()
    ]


def _disentanglement(found: Mapping[str, Any]) -> list[Row]:
    values = found["values"]
    examples = f" On {found['examples']:,} training examples; 1 is best."
    return [Row(name, f"{values[name]:.2f}", "", words + examples) for name, words in SCORES.items() if name in values]


def _agreement(found: Mapping[str, Any]) -> list[Row]:
    meaning = (
        f"Unsupervised disentanglement ranking: how far {len(found['runs']) - 1} other run(s) found the same latents; "
        "0.9 where all agree."
    )
    return [Row("UDR", f"{found['value']:.2f}", "", meaning)]


def _classification(found: Mapping[str, Any]) -> list[Row]:
    meaning = (
        f"Share of {found['examples']:,} examples whose class has the largest p(x | class); a model that ignores what "
        f"it is told scores {found['chance']:.0%}."
    )
    rows = [Row("Bayes accuracy", f"{found['accuracy']:.1%} ± {found['accuracy_error']:.1%}", "", meaning)]
    if found["recognition"] is not None:
        meaning = "Share of the same examples whose class q(y | x) tells rightly: the model's own classifier."
        rows.append(Row("Recognition accuracy", f"{found['recognition']:.1%}", "", meaning))
    meaning = "Log-probability of an example given its class, from importance samples. Higher is better."
    return [*rows, Row("log p(x | class)", _signed(f"{found['log_likelihood']:.2f}"), "nats", meaning)]


def _signed(text: str) -> str:
    return text.replace("-", "−")


MEASUREMENTS: dict[str, Callable[[Mapping[str, Any]], list[Row]]] = {
    "code_usage": _code_usage,
    "documents": _documents,
    "information": _information,
    "disentanglement": _disentanglement,
    "udr": _agreement,
    "classification": _classification,
    "quality": _quality,
}
"""Keys in evaluation.json beside those of the bound."""
