"""What the errors of the package say, read from its source: the words of each, `…` for what varies."""

from __future__ import annotations

import ast
from pathlib import Path

import jensen

SOURCE = Path(jensen.__file__).parent
ERRORS = {"DataError", "ConfigError", "CheckpointError", "NonFiniteError", "JensenError"}
ANY = "…"
TO_WRITE = "(write it)"


def text_of(node: ast.expr) -> str:
    """The words of an expression that makes a message."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return ANY


def sites(module: Path) -> list[tuple[int, str]]:
    """Line and words of each error that a module raises; those that only pass on the words of another are left out."""
    found = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
            words = " ".join(text_of(node.args[0]).split())
            if words.strip(f"{ANY} .:;()"):
                found.append((node.lineno, words))
    return found


def row(words: str) -> str:
    """The line of a table that documents an error, its meaning and remedy still to be written."""
    pattern = words.replace("`", "\\`").replace("|", "\\|")
    return f"| `{pattern}` | {TO_WRITE} | {TO_WRITE} |"


def matches(pattern: str, words: str) -> bool:
    """Whether the parts of a documented pattern, between its `…`, come one after the other in the words of an error."""
    place = 0
    for part in pattern.split(ANY):
        found = words.find(part.strip(), place)
        if found < 0:
            return False
        place = found + len(part.strip())
    return True
