"""YAML of strangers: plain values, and no bombs."""

from __future__ import annotations

import datetime
import random
import time

import pytest
import yaml

from jensen.config import Config
from jensen.plain_yaml import load_plain


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1",
        "a: [1, 2.5, x, true, null]\nb: {c: {d: ~}}",
        "a: &x [1, 2]\nb: *x\nc: *x",
        "base: &b {k: 1}\nother: {<<: *b, l: 2}",
        "- 2001-02-03",
        Config().to_yaml(),
    ],
)
def test_plain_values_are_as_yaml_reads_them(text: str) -> None:
    assert load_plain(text) == yaml.safe_load(text)


def test_a_long_list_is_fine() -> None:
    chance = random.Random(0)
    words = [f"word{chance.random()}" for _ in range(20_000)]
    assert load_plain(yaml.safe_dump({"vocabulary": words})) == {"vocabulary": words}
    assert load_plain("- 2001-02-03") == [datetime.date(2001, 2, 3)]


def bomb(levels: int, form: str) -> str:
    """Each level stands for nine times the one before."""
    lines = ["l0: &l0 {k: v}" if form != "list" else "l0: &l0 [v]"]
    for level in range(1, levels):
        inner = ", ".join([f"*l{level - 1}"] * 9)
        if form == "list":
            lines.append(f"l{level}: &l{level} [{inner}]")
        elif form == "mapping":
            pairs = ", ".join(f"k{n}: *l{level - 1}" for n in range(9))
            lines.append(f"l{level}: &l{level} {{{pairs}}}")
        else:
            lines.append(f"l{level}: &l{level} {{<<: [{inner}]}}")
    return "\n".join(lines)


@pytest.mark.parametrize("form", ["list", "mapping", "merge"])
def test_a_bomb_is_refused_at_once(form: str) -> None:
    began = time.perf_counter()
    with pytest.raises(yaml.YAMLError, match=r"its aliases stand for [\d,]{9,} values, though \d+ are written"):
        load_plain(bomb(12, form))
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "holds itself"),
        ("a: &a {b: {c: *a}}", "holds itself"),
        ("[" * 20_000, "nested too deeply"),
        ("a: 2001-99-99", "cannot be read"),
        ("a: " + "9" * 5_000, "cannot be read"),
        ("a: !!python/object/apply:os.mkdir [x]", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("? [1, 2]\n: 3", "unhashable key"),
        ("a: *missing", "undefined alias"),
        ("\0", "special characters"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message):
        load_plain(text)
