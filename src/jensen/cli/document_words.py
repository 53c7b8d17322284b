"""Documents on the screen: each by the words that tell it from what the model draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jensen.cli.drawing import Draw, drawn

if TYPE_CHECKING:
    from torch import Tensor

    from jensen.training import Run

__all__ = ["LISTED", "document_lines", "perplexity", "usual_words", "vocabulary_of"]

LISTED = 10
"""Documents drawn, where no number is given."""
WORDS = 12
"""Words of each."""
REFERENCE = 200
"""Documents drawn to see what is usual."""


def vocabulary_of(run: Run) -> tuple[str, ...]:
    """The words that a run's model decodes to; none where its data are no documents."""
    return run.own_facts.vocabulary if run.config.data.target is None else ()


def usual_words(run: Run, conditions: Tensor | None, seed: int) -> Tensor | None:
    """Share of each word in what the model draws, (V,): what is usual; None of a plain auto-encoder, which cannot."""
    if run.config.model.kind == "autoencoder":
        return None
    each = REFERENCE if conditions is None else max(1, REFERENCE // len(conditions))
    found = drawn(run, conditions, each, Draw(), seed + 1).flatten(0, 1).clamp_min(0).sum(0)
    return found / found.sum().clamp_min(1e-12)


def document_lines(
    counts: Tensor, vocabulary: Sequence[str], frequencies: Tensor | None, names: Sequence[str] = ()
) -> str:
    """Documents (B, V), a line each: its name (its number, if there are no `names`) and its telling words.

    Args:
        frequencies: what is usual, (V,); None: what is usual among these documents.
    """
    from jensen.metrics.documents import telling_words

    counts = counts.clamp_min(0)
    if frequencies is None:
        frequencies = counts.sum(0) / counts.sum().clamp_min(1e-12)
    each = names or [str(place) for place in range(1, len(counts) + 1)]
    width = max(map(len, each))
    found = telling_words(counts, vocabulary, frequencies, WORDS)
    return "\n".join(f"{name:>{width}}  {' '.join(words)}" for name, words in zip(each, found, strict=True))


def perplexity(counts: Tensor, made: Tensor) -> float:
    """exp of the nats a word of documents (B, V) under the words that are expected of them, (B, V)."""
    shares = made.clamp_min(0) / made.clamp_min(0).sum(1, keepdim=True).clamp_min(1e-12)
    return float((-(counts * shares.clamp_min(1e-30).log()).sum() / counts.sum().clamp_min(1)).exp())
