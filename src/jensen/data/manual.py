"""Text: the documentation of the Python language that comes with every Python, in windows of characters."""

from __future__ import annotations

import platform
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from jensen.config import DataConfig
from jensen.data.dataset import Dataset
from jensen.data.info import DatasetInfo
from jensen.data.partition import Parts, random
from jensen.errors import DataError

__all__ = ["SYMBOLS", "TEXT", "as_levels", "load_text", "without_repetitions"]

OTHER = "\N{REPLACEMENT CHARACTER}"
SYMBOLS = ("\n", *map(chr, range(ord(" "), ord("~") + 1)), OTHER)
"""The alphabet: a line's end, printable ASCII, and one symbol for any other character."""

WINDOW = 128
STRIDE = 32
"""between the beginnings of training windows; those of validation and test do not overlap"""
BLOCK = 4_096
"""characters in a row that are all for training, all for validation or all for test"""
BLOCKS = 88
"""that are used, so that every Python gives as many examples: 3.11 has 92, later ones more"""
STARTS = (BLOCK - WINDOW) // STRIDE + 1
TEST_BLOCKS = 0.1
SHORTEST = 40
"""characters of a paragraph that is looked for among earlier ones; shorter ones recur anyway"""

TEXT = DatasetInfo(
    name="text",
    shape=(1, WINDOW),
    sizes=(8_750, 288, 288),
    levels=len(SYMBOLS),
    origin="embedded",
    megabytes=0.0,
    licence="PSF-2.0",
    description=f"text: the Python language's documentation, {WINDOW} characters an example, of Python "
    f"{platform.python_version()}",
    citation="Python Software Foundation, The Python Language Reference and Library Reference",
)


def load_text(config: DataConfig) -> Dataset:
    """Windows of the topics of `help()`, (1, 128) uint8 in 0 .. 96: a character's place in `SYMBOLS`.

    The topics, in the order of their names and without what they repeat of each other (`without_repetitions`), are one
    text; it is cut into 88 blocks of 4,096 characters, which a fixed random order deals out: 9 for test, 9 (by default)
    for validation, 70 for training. No window crosses the border of a block, so that no character belongs to two
    splits. A training window begins every 32 characters, so that a model meets each character at four places; windows
    of validation and test begin every 128, so that each character counts once.

    Numbers of examples are the same in every version of Python, and the text is not: evaluate a model under the Python
    that trained it, or it may have seen what is test text now. Raises `DataError` if this Python comes without it.
    """
    text = without_repetitions(topic for _, topic in sorted(_topics().items()))
    if len(text) < BLOCKS * BLOCK:
        raise DataError(
            f"text: this Python's documentation has {len(text):,} characters, but {BLOCKS * BLOCK:,} are needed"
        )
    blocks = torch.from_numpy(as_levels(text[: BLOCKS * BLOCK])).view(BLOCKS, BLOCK)
    return Dataset(
        name=TEXT.name,
        values=blocks.unfold(1, WINDOW, STRIDE).reshape(BLOCKS * STARTS, 1, WINDOW),
        shape=TEXT.shape,
        levels=TEXT.levels,
        **_parts(random(BLOCKS, validation=config.validation, test=TEST_BLOCKS)),
        symbols=SYMBOLS,
        description=TEXT.description,
        licence=TEXT.licence,
        citation=TEXT.citation,
    )


def without_repetitions(topics: Iterable[str]) -> str:
    """The topics one after the other, less each paragraph of 40 characters or more that was there before.

    About a fifth of the documentation is in two topics or more (that of compound statements has those of `if`, `for`
    and so on in it), so that a third of the runs of 64 characters of a test text would be in the training text, too; of
    this one it is 1%. Paragraphs are the same if they differ in nothing but white space.
    """
    seen: set[str] = set()
    kept: list[str] = []
    for topic in topics:
        for paragraph in topic.strip("\n").split("\n\n"):
            words = " ".join(paragraph.split())
            if len(words) < SHORTEST or words not in seen:
                kept.append(paragraph)
            seen.add(words)
    return "\n\n".join(kept)


def as_levels(text: str) -> npt.NDArray[np.uint8]:
    """The place of each character in `SYMBOLS`, (length,)."""
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    places = np.full(128, len(SYMBOLS) - 1, dtype=np.uint8)
    places[[ord(symbol) for symbol in SYMBOLS[:-1]]] = np.arange(len(SYMBOLS) - 1)
    levels: npt.NDArray[np.uint8] = places[np.minimum(code_points, 127)]  # 127 is no symbol either
    return levels


def _topics() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError(
            "text: this Python comes without its documentation (the module pydoc_data); install the complete standard "
            "library, or use another data set"
        ) from None
    return topics


def _parts(blocks: Parts) -> Parts:
    """Positions of the windows of these blocks: all for training, those that do not overlap otherwise.

    Training windows are in an order in which the first ones (`limit`) are of all blocks and do not overlap.
    """
    apart = WINDOW // STRIDE
    starts = torch.arange(STARTS)
    order = torch.cat([starts[first::apart] for first in range(apart)])
    return Parts(
        train=(blocks["train"] * STARTS + order[:, None]).flatten(),
        valid=(blocks["valid"][:, None] * STARTS + starts[::apart]).flatten(),
        test=(blocks["test"][:, None] * STARTS + starts[::apart]).flatten(),
    )
