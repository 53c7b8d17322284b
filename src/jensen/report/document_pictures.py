"""Documents, by the words that tell them from others: those of the test split, what is nearest, and drawn ones."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jensen.autoencoders import EncoderDecoder
from jensen.data import Split
from jensen.metrics.documents import nearest, telling_words
from jensen.report.choices import draws
from jensen.report.html import Picture
from jensen.report.material import MOST_EXAMPLES, HeldOut, Material, known

__all__ = ["alike", "drawn_documents"]

SHOWN = 6
NEAR = 2
DRAWN = 10
AT_ONCE = 64
"""Documents read together."""


def alike(material: Material, held_out: HeldOut, train: Split) -> Picture:
    """A few test documents, what the model makes of them, and the training documents whose codes are nearest."""
    codes, frequencies = _codes(material, train)
    queries = min(SHOWN, len(held_out.codes))
    places, cosines = nearest(codes, held_out.codes[:queries], min(NEAR, len(codes)))
    counts = _counts(train, places.flatten())
    own, made, others = (
        _telling(material, rows, frequencies)
        for rows in (held_out.target[:queries], held_out.decoded[:queries], counts)
    )
    lines = []
    for query in range(queries):
        lines += [f"{own[query]}", f"  again  {made[query]}"]
        for place, cosine in enumerate(cosines[query].tolist()):
            lines.append(f"  {cosine:5.2f}  {others[query * places.shape[1] + place]}")
    return Picture(
        "documents",
        "Test documents, and the nearest training documents",
        "Each by the words that tell it from the others. Below it, “again”: the words that the model expects, given "
        f"its code; then the nearest of {len(codes):,} training documents, with the cosine of the angle between the "
        "codes (1: the same direction).",
        lines="\n".join(lines),
    )


def drawn_documents(material: Material, train: Split | None) -> Picture:
    """New documents, by the words that tell them from the training documents."""
    title = "Samples from the prior"
    if train is None:
        return Picture("samples", title, "The data could not be found, so there is nothing to set samples beside.")
    if material.told:
        text = "The model is told something of each document, so there are no samples of it alone."
        return Picture("samples", title, text)
    drawn = material.model.sample(DRAWN)
    words = _telling(material, drawn, _frequencies(train))
    lines = "\n".join(f"{place:2}  {row}" for place, row in enumerate(words, start=1))
    text = f"New documents: {draws(material)}, and decoded; the words that each has more of than training documents."
    return Picture("samples", title, text, lines=lines)


def _telling(material: Material, counts: Tensor, frequencies: Tensor) -> list[str]:
    rows = telling_words(counts.clamp_min(0), material.vocabulary, frequencies)
    return [" ".join(words) for words in rows]


def _pieces(split: Split) -> list[Tensor]:
    return list(torch.arange(min(len(split), MOST_EXAMPLES)).split(AT_ONCE))


def _counts(split: Split, places: Tensor) -> Tensor:
    return replace(split, corruption="none").batch(places).x


def _frequencies(split: Split) -> Tensor:
    """Share of each word among all words of the first 2,000 documents, (V,)."""
    return _shares(torch.stack([_counts(split, places).sum(0) for places in _pieces(split)]).sum(0))


def _codes(material: Material, split: Split) -> tuple[Tensor, Tensor]:
    """Codes of up to 2,000 documents, (N, latent), and the share of each word in them, (V,)."""
    model, codes, total = material.model, [], torch.zeros(split.shape)
    assert isinstance(model, EncoderDecoder)
    clean = replace(split, corruption="none")
    for places in _pieces(split):
        batch = clean.batch(places)
        codes.append(model.encode(batch.x, condition=known(model, batch.x, batch.condition)))
        total += batch.x.sum(0)
    return torch.cat(codes), _shares(total)


def _shares(total: Tensor) -> Tensor:
    """Shares of words that were counted, (V,); one more of each, lest a word never seen tells more than any other."""
    return (total + 1) / (total + 1).sum()
