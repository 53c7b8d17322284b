"""docs/messages.md: what it says is said, and what the modules in `COMPLETE` say is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from message_sites import ANY, SOURCE, TO_WRITE, matches, row, sites

PAGE = Path(__file__).parents[1] / "docs" / "messages.md"
COMPLETE = [
    "autoencoders",
    "cli",
    "config",
    "data",
    "likelihoods",
    "metrics",
    "objectives",
    "sections.py",
    "training",
]
"""Modules and packages whose every error is on the page: what a user of the command line may meet."""
NOT_RAISED_AT_ONCE = ("unknown key …",)
"""Words that are put together elsewhere than where an error is raised."""


def patterns() -> list[str]:
    """First cells of the tables."""
    rows = re.findall(r"^\| `(.+?)(?<!\\)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [row.replace("\\`", "`") for row in rows]


def modules(places: list[str]) -> list[Path]:
    paths = (SOURCE / place for place in places)
    return [module for path in paths for module in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


def words_of_all() -> list[str]:
    """Source of every module, with what an f-string fills in as `…`, on one line."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py")))
    joined = (re.sub(r'"\s*\n\s*f?"', "", text) for text in texts)
    return [" ".join(re.sub(r"\{[^{}\n]*\}", ANY, text).split()) for text in joined]


def test_every_pattern_is_in_the_source() -> None:
    found = patterns()
    assert len(found) > 35
    source = words_of_all()
    raised = [words for module in modules(["."]) for _, words in sites(module)]
    for pattern in found:
        known = [*source] if pattern in NOT_RAISED_AT_ONCE else [*raised, *source]
        assert any(matches(pattern, words) for words in known), pattern


@pytest.mark.parametrize("place", COMPLETE)
def test_every_error_is_on_the_page(place: str) -> None:
    known = patterns()
    missing = [
        f"{module.relative_to(SOURCE)}:{line}: add to docs/messages.md: {row(words)}"
        for module in modules([place])
        for line, words in sites(module)
        if not any(matches(pattern, words) for pattern in known)
    ]
    assert not missing, "\n".join(missing)


def test_every_row_is_whole_and_says_something() -> None:
    """Three cells; what it means is not left open, and the page has every section."""
    text = PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(patterns()) > 200
    for line in rows:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert len(cells) == 3, line
        assert any(cells[1:]), line
        assert all(fill not in cells for fill in (TO_WRITE, "TODO", "?")), line


def test_a_new_error_would_be_missed(tmp_path: Path) -> None:
    module = tmp_path / "new.py"
    module.write_text('def f(n):\n    raise DataError(f"{n} moons are too many for a planet")\n', encoding="utf-8")
    ((line, words),) = sites(module)
    assert (line, words) == (2, "… moons are too many for a planet")
    assert not any(matches(pattern, words) for pattern in patterns())
    assert row(words) == f"| `… moons are too many for a planet` | {TO_WRITE} | {TO_WRITE} |"


def test_patterns_say_something() -> None:
    for pattern in patterns():
        assert len(pattern.replace(ANY, "").strip()) >= 8, pattern
    assert len(set(patterns())) == len(patterns())


def test_matching() -> None:
    assert matches("a … b", "a x b")
    assert matches("… is gone", "… is gone: …")
    assert not matches("a … b", "b a")
    assert not matches("no such words", "… is gone")
