"""How the integer codes of a model are used, and what they cost in bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from jensen.autoencoders.model import NeuralModel
from jensen.metrics.heldout import SplitLike, batch_on, measuring
from jensen.metrics.importance import VALUES_AT_ONCE, numbers_a_datum
from jensen.metrics.remarks import Advice, advice, prior_is_told

__all__ = ["BookUsage", "CodeUsage", "code_usage", "level_name", "values_described"]

UNUSED = 0.5  # of the codes that equally frequent ones would use: fewer are worth a word
ENOUGH = 10  # codes for each of the K: of fewer, the frequencies are too much their own


@dataclass(frozen=True)
class BookUsage:
    """How one codebook, of one level of codes, is used by a whole split.

    Attributes:
        level: which level, from 1, the top first.
        book: which codebook of the level, from 1.
        grid: places that have a code of this book each.
        counts: how often each code occurred, (K,).
        perplexity: exp(entropy of the frequencies): so many equally frequent codes would be as hard to guess.
        used: how many codes occurred at all.
        share: of the K codes, how many occurred at all, in [0, 1].
        nats_uniform: what the book's codes cost an example, in nats, under a uniform prior: places x log K.
        nats_empirical: the same where each is drawn by itself with these frequencies: places x entropy.
        nats_learned: the same under the model's learned prior; None where it has none.
    """

    level: int
    book: int
    grid: tuple[int, ...]
    counts: list[int]
    perplexity: float
    used: int
    share: float
    nats_uniform: float
    nats_empirical: float
    nats_learned: float | None


@dataclass(frozen=True)
class CodeUsage:
    """What `code_usage` found.

    Bits per dimension are those that the code takes of a value of the datum: the rate of the bound, to which what the
    decoder leaves unsaid is to be added. Nats are per example. Where codes are drawn all these are E[-log p(code)], the
    price of one that was drawn, and the rate is less by the entropy of the draw.

    Attributes:
        examples: how many were encoded.
        dims: values that the code is to describe, see `values_described`; None: it describes no datum but predicts
            something else, and bits per dimension have no meaning.
        code_levels: K, the values that a code can take.
        levels: each codebook of each level, the top level first.
        bits_per_dim_uniform: under a uniform prior.
        bits_per_dim_empirical: each code drawn by itself with the frequencies of its book, which are those of the very
            same examples: for few of them the number is somewhat low.
        bits_per_dim_learned: under the model's learned prior; None where it has none.
        nats_uniform: the same in nats per example, and so on.
        warnings: what may be wrong, and what to do.
        drawn: whether codes are drawn, rather than a function of the datum.
        conditional: whether the learned prior is told a condition c, so that its bits are those of p(codes | c).
        notes: what the numbers are about, in words.
    """

    examples: int
    dims: int | None
    code_levels: int
    levels: list[BookUsage]
    bits_per_dim_uniform: float | None
    bits_per_dim_empirical: float | None
    bits_per_dim_learned: float | None
    nats_uniform: float
    nats_empirical: float
    nats_learned: float | None
    warnings: list[str] = field(default_factory=list)
    drawn: bool = False
    conditional: bool = False
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of plain values."""
        return asdict(self)

    def table(self) -> list[tuple[str, str, str]]:
        """Rows (name, value, unit and meaning)."""
        rows = []
        for book in self.levels:
            name = self.name(book)
            grid = " x ".join(map(str, book.grid))
            meaning = f"of the {grid} places: so many equally frequent codes would be as hard to guess"
            rows.append((f"{name} used", f"{book.used:,} of {self.code_levels:,}", "that occur at all"))
            rows.append((f"perplexity of {name}", f"{book.perplexity:.1f}", meaning))
        told = " and the condition" if self.conditional else ""
        costs = [
            ("uniform", self.bits_per_dim_uniform, self.nats_uniform, "all codes equally probable"),
            ("frequencies", self.bits_per_dim_empirical, self.nats_empirical, "each by itself, as often as it occurs"),
            ("learned prior", self.bits_per_dim_learned, self.nats_learned, f"each given those before it{told}"),
        ]
        price = ", price of a drawn code and not the rate" if self.drawn else ""
        for prior, bits, nats, meaning in costs:
            if nats is None:
                continue
            value = f"{nats / math.log(2):.2f}" if bits is None else f"{bits:.4f}"
            unit = f"bits {'an example' if bits is None else 'per dimension'} ({nats:.2f} nats{price})"
            rows.append((f"code, {prior}", value, f"{unit}: {meaning}"))
        return rows

    def name(self, book: BookUsage) -> str:
        """What to call the codes of a book."""
        levels, books = (max(getattr(each, part) for each in self.levels) for part in ("level", "book"))
        words = [f"{level_name(book.level, levels)} codes".lstrip()]
        if books > 1:
            words.append(f"in book {book.book} of {books}")
        return " ".join(words)


def level_name(level: int, levels: int) -> str:
    """What to call a level of codes, from 1, the top first; nothing where there is but one."""
    return "" if levels == 1 else "top" if level == 1 else "bottom" if level == levels else f"level {level}"


def values_described(shape: tuple[int, ...], hidden: Tensor | None = None, *, predicts: bool = False) -> float | None:
    """How many values of a datum a code is to describe, which are what its bits per dimension are divided by.

    They are those that the likelihood scores, as `Evaluation.dims` counts them.

    Args:
        shape: of a datum.
        hidden: 1 where a value is scored and 0 where it is not, as the model is told it, (batch, *shape), for the mean
            over the batch; None: all are.
        predicts: whether something other than the datum is decoded.

    Returns:
        Their number; None where it is something else that is decoded, or none is scored.
    """
    if predicts:
        return None
    return float(math.prod(shape)) if hidden is None else (hidden != 0).double().flatten(1).sum(1).mean().item() or None


@torch.no_grad()
def code_usage(
    model: NeuralModel,
    split: SplitLike,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CodeUsage:
    """How often a whole split uses each code of a model, and what its codes cost.

    A codebook most of which is dead costs bits that say nothing: under the uniform prior a code costs log K whether the
    others are used or not. Against the frequencies, a learned prior shows what the codes tell of each other.

    Args:
        model: one whose code is integers, such as `VQVAE`. Where codes are drawn (Gumbel-softmax), one draw a datum.
        split: data.
        seed: of all noise; torch's global generator is left as it was.
        progress: called as progress(examples done, examples).

    Raises:
        ValueError: the code of the model is not integers, or there are no data.
    """
    shapes: tuple[tuple[int, ...], ...] | None = getattr(model, "code_shapes", None)
    if shapes is None:
        raise ValueError(f"code_usage is about integer codes, which a {type(model).__name__} does not have")
    if len(split) == 0:
        raise ValueError("code_usage needs some data, got 0 examples")
    size = max(1, min(500, 4 * VALUES_AT_ONCE // numbers_a_datum(model)))
    learned = getattr(model, "code_prior", None) is not None
    code_levels: int = getattr(model, "code_levels")  # noqa: B009  (no attribute of every model)
    counts = [torch.zeros(shape[0], code_levels, dtype=torch.int64) for shape in shapes]
    nats = [torch.zeros(shape[0], dtype=torch.float64) for shape in shapes]
    predicts = model.target_shape != model.shape or getattr(split, "target", None) is not None
    dims = 0.0
    with measuring(model, seed) as device:
        for start in range(0, len(split), size):
            batch = batch_on(split.batch(torch.arange(start, min(start + size, len(split)))), device)
            dims += len(batch.x) / len(split) * (values_described(model.shape, batch.mask, predicts=predicts) or 0.0)
            for i, level in enumerate(model.levels(batch.x, batch.condition)[0]):
                counts[i] += _counted(level.z, code_levels)
                if learned:
                    nats[i] -= level.log_p()[0].transpose(0, 1).flatten(1).double().sum(1).cpu()
            if progress is not None:
                progress(min(start + size, len(split)), len(split))
    books = [
        _book((i + 1, j + 1), shape[1:], counts[i][j], nats[i][j].item() / len(split) if learned else None)
        for i, shape in enumerate(shapes)
        for j in range(shape[0])
    ]
    return _summarise(model, books, len(split), code_levels, dims)


def _counted(codes: Tensor, levels: int) -> Tensor:
    """How often each code occurs in each book of codes (1, batch, books, *grid): (books, K)."""
    books = codes[0].transpose(0, 1).flatten(1).cpu()
    return torch.stack([torch.bincount(book, minlength=levels) for book in books])


def _book(which: tuple[int, int], grid: tuple[int, ...], counts: Tensor, nats: float | None) -> BookUsage:
    shares = counts.double() / counts.sum()
    entropy = -torch.special.xlogy(shares, shares).sum().item()
    used, places = int((counts > 0).sum()), math.prod(grid)
    return BookUsage(
        level=which[0],
        book=which[1],
        grid=tuple(grid),
        counts=counts.tolist(),
        perplexity=math.exp(entropy),
        used=used,
        share=used / len(counts),
        nats_uniform=places * math.log(len(counts)),
        nats_empirical=places * entropy,
        nats_learned=nats,
    )


def _summarise(model: NeuralModel, books: list[BookUsage], examples: int, code_levels: int, dims: float) -> CodeUsage:
    def bits(nats: float | None) -> float | None:
        return None if nats is None or not dims else nats / dims / math.log(2)

    uniform = sum(book.nats_uniform for book in books)
    empirical = sum(book.nats_empirical for book in books)
    own = [book.nats_learned for book in books if book.nats_learned is not None]
    learned = sum(own) if own else None
    found = CodeUsage(
        examples=examples,
        dims=round(dims) or None,
        code_levels=code_levels,
        levels=books,
        bits_per_dim_uniform=bits(uniform),
        bits_per_dim_empirical=bits(empirical),
        bits_per_dim_learned=bits(learned),
        nats_uniform=uniform,
        nats_empirical=empirical,
        nats_learned=learned,
        drawn=model.stochastic,
        conditional=prior_is_told(model),
    )
    found.warnings.extend(_warnings(found, advice(model)))
    found.notes.extend(_notes(found, model))
    return found


def _notes(found: CodeUsage, model: NeuralModel) -> list[str]:
    """What the numbers are about."""
    texts = []
    if model.condition_shape is not None:
        texts.append("Encoder and decoder are told the condition c of each datum: codes are to say what c leaves open.")
    if found.conditional:
        texts.append(
            "The learned prior is told the condition c of each datum: its bits are those of p(codes | c). The "
            "frequencies are those of all data together, which it can beat by what c says alone."
        )
    return texts


def _warnings(found: CodeUsage, what: Advice) -> list[str]:
    texts = []
    cause = "The data need no more"
    if what.die:
        cause = (
            "Either the data need no more, and a smaller number of codes costs fewer bits under a uniform prior; or "
            "codes have died in training"
        )
    for book in found.levels:
        # Of equally frequent codes, so many would occur among as many places.
        expected = found.code_levels * -math.expm1(sum(book.counts) * math.log1p(-1 / found.code_levels))
        if book.used < UNUSED * expected:
            texts.append(
                f"Only {book.used:,} of {found.code_levels:,} {found.name(book)} are used (perplexity "
                f"{book.perplexity:.1f}). {cause}: {what.dead}."
            )
    many = all(sum(book.counts) >= ENOUGH * found.code_levels for book in found.levels)
    if many and found.nats_learned is not None and found.nats_learned > sum(map(_unbiased, found.levels)):
        told = ", which are not told the condition" if found.conditional else ""
        texts.append(
            f"The learned prior ({found.nats_learned:.1f} nats) predicts the codes no better than their frequencies "
            f"({found.nats_empirical:.1f} nats){told}: train it longer, or, if its validation score rose again, for a "
            "shorter time or with dropout."
        )
    return texts


def _unbiased(book: BookUsage) -> float:
    """`nats_empirical` of a book with the entropy of its codes corrected by (used - 1) / 2n (Miller 1955)."""
    return book.nats_empirical + math.prod(book.grid) * (book.used - 1) / (2 * sum(book.counts))
