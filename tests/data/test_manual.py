"""The documentation of Python as data: what is in it, and that no split knows another."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import pytest
import torch

from jensen.data import Data, load_data, manual, to_text
from jensen.data.manual import SYMBOLS, as_levels, without_repetitions
from jensen.errors import DataError


def texts(data: Data, part: str) -> list[str]:
    split = getattr(data, part)
    return to_text(split.batch(torch.arange(len(split))).x, data.symbols)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("text")


def folded(text: str) -> str:
    """What is not printable ASCII or a line's end, replaced."""
    return "".join(c if " " <= c <= "~" or c == "\n" else "\ufffd" for c in text)


def test_the_alphabet() -> None:
    assert len(SYMBOLS) == 97
    assert set("".join(SYMBOLS[:-1])) == {"\n", *map(chr, range(32, 127))}
    assert as_levels("".join(SYMBOLS)).tolist() == list(range(97))
    assert as_levels("\t\x00\x7f’é漢\U0001f600").tolist() == [96] * 7
    source = 'def f(x):\n    return "ça"\n'
    values = torch.from_numpy(as_levels(source)).float()[None] / 96
    assert to_text(values, SYMBOLS) == [folded(source)] == ['def f(x):\n    return "\ufffda"\n']


def test_counts(data: Data) -> None:
    assert (len(data.train), len(data.valid), len(data.test)) == (8_750, 288, 288)
    assert data.shape == (1, 128)
    assert (data.levels, data.transform) == (97, "none")
    assert (len(load_data("text", validation=0.2).valid), len(load_data("text", validation=0.2).test)) == (576, 288)


def test_the_text_is_that_of_the_documentation(data: Data) -> None:
    """Every line of every window is a part of a line of some topic, paragraphs whole and in their order."""
    from pydoc_data.topics import topics

    source = folded("\n\n".join(topics.values()))
    for part in ("train", "valid", "test"):
        for text in texts(data, part):
            assert len(text) == 128
            for piece in text.split("\n\n"):
                assert piece in source
    letters = "".join(texts(data, "test"))
    assert letters.count("\ufffd") / len(letters) < 0.005
    assert letters.count(" ") / len(letters) > 0.1


def numbered() -> dict[str, str]:
    """A topic in which any fifteen characters say where they are."""
    return {"numbers": "".join(f"{number:07d} " for number in range(60_000))}


def place_of(text: str) -> int:
    """Where a window of `numbered` begins."""
    first = text.index(" ") + 1
    return int(text[first : first + 7]) * 8 - first


def test_no_character_belongs_to_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manual, "_topics", numbered)
    data = load_data("text")
    starts = {part: [place_of(text) for text in texts(data, part)] for part in ("train", "valid", "test")}
    whole = numbered()["numbers"]
    for place, text in zip(starts["train"], texts(data, "train"), strict=True):
        assert whole[place : place + 128] == text
    used: dict[str, set[int]] = {}
    for part, places in starts.items():
        used[part] = {place + offset for place in places for offset in range(128)}
        if part != "train":
            assert len(used[part]) == 128 * len(places)  # each counts once
    assert not used["train"] & used["valid"]
    assert not used["train"] & used["test"]
    assert not used["valid"] & used["test"]
    assert set().union(*used.values()) == set(range(88 * 4_096))
    assert len(set(starts["train"])) == len(starts["train"])
    assert {place % 32 for place in starts["train"]} == {0}


def test_the_first_training_windows_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manual, "_topics", numbered)
    data = load_data("text", limit=70 * 32)
    places = sorted(place_of(text) for text in texts(data, "train"))
    assert min(second - first for first, second in pairwise(places)) == 128
    assert len({place // 4_096 for place in places}) == 70


def test_saved_splits_mean_the_same_windows(data: Data) -> None:
    back = load_data("text", validation=0.3, splits=data.splits)
    assert texts(back, "test") == texts(data, "test")
    assert texts(back, "valid") == texts(data, "valid")


def runs(windows: list[str], length: int, step: int = 1) -> list[str]:
    return [text[start : start + length] for text in windows for start in range(0, 129 - length, step)]


def test_the_test_text_is_not_known_by_heart(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def known(data: Data) -> float:
        training = set(runs(texts(data, "train"), 64))
        asked = runs(texts(data, "test"), 64, 8)
        return sum(run in training for run in asked) / len(asked)

    assert known(data) < 0.03
    monkeypatch.setattr(manual, "without_repetitions", "\n\n".join)
    assert known(load_data("text")) > 0.1  # what it is without


def test_repetitions_are_left_out() -> None:
    long, other = "a paragraph that is long enough to be told again", "and one that is as long but is another one"
    first = f"Heading\n\n\n{long}\n\nNote:\n\n{other}"
    wrapped = long.replace("long enough", "long\n   enough")
    again = f"Note:\n\n   {wrapped}\n\n{other} still\n\n{other}\n\nthe end\n"
    assert without_repetitions([first, again]) == f"{first}\n\nNote:\n\n{other} still\n\nthe end"


@pytest.mark.parametrize("missing", ["module", "text"])
def test_a_python_without_documentation(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "module":
        gone: Any = None
        monkeypatch.setitem(sys.modules, "pydoc_data.topics", gone)
        with pytest.raises(DataError, match="comes without its documentation"):
            load_data("text")
    else:
        monkeypatch.setattr(manual, "_topics", lambda: {"assert": "too short"})
        with pytest.raises(DataError, match="has 9 characters, but 360,448 are needed"):
            load_data("text")
