"""Warnings and notes beside measured numbers, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from jensen.autoencoders.model import NeuralModel
from jensen.metrics.heldout import SplitLike
from jensen.nn.quantiser import Codebook, FiniteScalarQuantiser, GumbelQuantiser

if TYPE_CHECKING:
    from jensen.metrics.evaluation import Evaluation

__all__ = ["Advice", "advice", "conditional", "notes", "prior_is_told", "warnings"]

COLLAPSED = 0.1  # nats


class Advice(NamedTuple):
    """What to do about the codes of a kind of quantiser, by knobs that it has.

    Attributes:
        dead: where most codes are not used, as the end of a sentence.
        collapsed: where the codes carry no nats: what it means, as the end of a sentence, and what to try.
        die: whether codes can die, left behind where the data are not while the others learn.
    """

    dead: str
    collapsed: str
    die: bool = True


SAME = "nearly all data have the same"
ADVICE: dict[type[nn.Module], Advice] = {
    GumbelQuantiser: Advice(
        "a higher temperature of the relaxation spreads them",
        "they are drawn alike whatever x is, and the decoder ignores them. Try a lower price of the code, its warm-up "
        "(kl_weight linear), a weaker decoder, or more epochs.",
    ),
    FiniteScalarQuantiser: Advice(
        "fewer values do as well",
        f"{SAME}. Try more values, which tell smaller differences, or more epochs.",
        die=False,
    ),
}


def advice(model: nn.Module) -> Advice:
    """What to do about the codes of a model that its quantiser does not do already."""
    for module in model.modules():
        for kind, words in ADVICE.items():
            if isinstance(module, kind):
                return words
    return _for_codebooks([module for module in model.modules() if isinstance(module, Codebook)])


def _for_codebooks(books: Sequence[Codebook]) -> Advice:
    """Of embeddings that are looked up, by how they are kept alive."""
    revival, k_means = any(not book.revival for book in books), any(book.initial == "random" for book in books)
    ways = ["model.quantiser.revival 0.1 puts them where the data are"] if revival else []
    ways += ["model.quantiser.initial k-means starts them where the data are"] if k_means else []
    averages = any(book.learned == "ema" for book in books)
    more = ["longer training", *(["a smaller model.quantiser.decay"] if averages else []), "fewer codes"]
    tries = [*(["revival of unused codes"] if revival else []), *(["initial k-means"] if k_means else [])]
    tries += ["more epochs", "a smaller commitment"]
    dead = " and ".join(ways) or f"{', '.join(more[:-1])} or {more[-1]} may help"
    return Advice(dead, f"{SAME}. Try {', '.join(tries[:-1])} or {tries[-1]}.")


def prior_is_told(model: NeuralModel) -> bool:
    """Whether the learned prior over a model's codes is told a condition."""
    return getattr(getattr(model, "code_prior", None), "condition_shape", None) is not None


def conditional(model: NeuralModel) -> bool:
    """Whether the bound is one of log p(x | c) for every datum; that of a semi-supervised model is of log p(x, y)."""
    return model.kind != "semi-supervised" and (model.condition_shape is not None or prior_is_told(model))


def warnings(found: Evaluation, model: NeuralModel, data: SplitLike) -> list[str]:
    """What is likely to be wrong, and what to do."""
    texts = []
    units, latent, rate = found.active_units, found.latent, found.rate
    if found.code_prior is not None and rate is not None and rate < COLLAPSED:
        texts.append(f"The codes have collapsed: they carry {rate:.2f} nats, so {advice(model).collapsed}")
    elif rate is not None and units is not None and (units == 0 or rate < COLLAPSED):
        texts.append(
            f"The posterior has collapsed: {units} of {latent} latent dimensions are active and the code carries "
            f"{rate:.2f} nats, so the decoder ignores z. Try a lower price of the code, its warm-up (kl_weight "
            "linear), a weaker decoder, or more epochs; to predict a property of x, model autoencoder does without "
            "the KL."
        )
    elif units is not None and latent >= 4 and units < latent / 4:
        texts.append(
            f"Only {units} of {latent} latent dimensions are active: the others equal the prior. That may be all "
            "the data need; if reconstructions are poor, try a lower price of the code or its warm-up."
        )
    if model.likelihood.levels == 2 and data.levels not in (None, 2) and data.transform == "none":
        texts.append(
            "The Bernoulli likelihood was given grey levels: its log-likelihood is a cross-entropy, not the "
            "probability of the grey levels. Use transform binarise, or the discretised logistic likelihood."
        )
    return texts


def notes(found: Evaluation, model: NeuralModel, data: SplitLike, drawn: int) -> list[str]:
    """What the numbers are about; `drawn` reconstructions are draws."""
    texts = [] if found.log_likelihood is None else _told(model)
    if found.log_likelihood is not None and data.levels is not None and not model.likelihood.discrete:
        texts.append(_of_a_density(data.transform))
    if drawn:
        texts.append(
            "p(x | z) has no mean in closed form, so a reconstruction is a draw: the reconstruction error is that of "
            f"one draw for each of the first {drawn} examples."
        )
    if found.accuracy is not None and found.reconstruction_error is not None:
        texts.append("The reconstruction error takes levels for magnitudes; of symbols, read the values right alone.")
    return texts


def _of_a_density(transform: str) -> str:
    """Of which kind the nats are where grey levels are given a density."""
    if transform == "dequantise":
        return "Nats are of a density of dequantised values; the bits a dimension are of grey levels, a bound."
    return (
        "p(x) is a density: its nats may be positive, and compare with those of other densities of the same values "
        "only, not with probabilities of grey levels. With transform dequantise there are bits per dimension."
    )


def _told(model: NeuralModel) -> list[str]:
    """Of which probability the bound is, where the model or its prior is told something."""
    if model.kind == "semi-supervised":
        return ["Where the label y of a datum is known the bound is one of log p(x, y), and else of log p(x)."]
    if not conditional(model):
        return []
    who, told = "The model", model.condition_shape
    if told is None:
        who, told = "The prior over the codes", getattr(getattr(model, "code_prior", None), "condition_shape", ())
    most = ""
    if len(told) == 1 and told[0] > 1:
        most = f" (where c is one of {told[0]} classes, up to ln {told[0]} = {math.log(told[0]):.2f} nats)"
    return [
        f"{who} is told the condition c of each datum: log-likelihood, bound and bits are about p(x | c), not p(x), "
        f"and better than those by what c says of x{most}."
    ]
